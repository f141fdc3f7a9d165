"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const BUSY_MS = 700, IDLE_MS = 20000, LOST_MS = 3000;
  const byId = (id) => document.getElementById(id);
  const main = document.querySelector("main"), list = byId("files"), answer = byId("answer"), choose = byId("choose");
  const most = Number(main.dataset.uploadBytes);
  // What the server knows, by its id, and what is still to be sent.
  const rows = new Map(), unsent = [];
  let shown = null, timer = 0, sending = false;

  function row(name) {
    const item = byId("row").content.firstElementChild.cloneNode(true);
    const part = (selector) => item.querySelector(selector);
    part(".name").textContent = name;
    part(".remove").setAttribute("aria-label", "Remove " + name);
    list.append(item);
    return { item, name, id: null, verdict: null, pending: true, open: part(".open"), badge: part(".badge"),
      state: part(".state"), bar: part("progress"), remove: part(".remove") };
  }

  function say(one, text, share) {
    one.state.textContent = text;
    one.bar.hidden = share === null;
    if (share !== null) { one.bar.value = share; one.bar.setAttribute("aria-label", one.name + ": " + text); }
  }

  function failed(one, text) {
    one.pending = false;
    one.badge.textContent = "not judged";
    say(one, text, null);
  }

  function adopt(one, file) {
    one.id = file.id;
    one.pending = file.pending;
    rows.set(file.id, one);
    one.open.onclick = () => show(one.id);
    one.remove.onclick = () => remove(one);
    update(one, file);
  }

  function update(one, file) {
    one.pending = file.pending;
    one.name = file.name;
    one.item.querySelector(".name").textContent = file.name;
    if (file.pending) {
      say(one, file.ahead ? "queue: " + file.ahead + " before you" : file.step || "next", file.share);
    } else if (file.failure) {
      failed(one, file.failure);
    } else {
      one.verdict = file.verdict;
      one.badge.className = "badge " + file.verdict;
      one.badge.textContent = file.word;
      one.open.disabled = false;
      say(one, file.probability ? "P(fake) " + file.probability : "", null);
    }
  }

  function totals() {
    const all = [...rows.values()], words = new Map();
    for (const one of all) {
      const word = one.pending ? "waiting" : one.badge.textContent;
      words.set(word, (words.get(word) || 0) + 1);
    }
    const parts = [...words].map(([word, n]) => n + " " + word);
    if (unsent.length) { parts.push(unsent.length + " to be sent"); }
    const n = all.length + unsent.length, text = n ? n + (n === 1 ? " file: " : " files: ") + parts.join(", ") : "";
    if (byId("totals").textContent !== text) { byId("totals").textContent = text; }
    byId("history").hidden = n === 0;
  }

  async function ask() {
    clearTimeout(timer);
    let next = IDLE_MS;
    try {
      const response = await fetch("/session");
      if (!response.ok) { throw new Error(response.statusText); }
      const files = await response.json(), known = new Set(files.map((file) => file.id));
      for (const file of files) {
        if (rows.has(file.id)) { update(rows.get(file.id), file); } else { adopt(row(file.name), file); }
        if (file.pending) { next = BUSY_MS; }
        else if (shown === null && file.verdict) { show(file.id); }
      }
      for (const [id, one] of rows) { if (!known.has(id)) { drop(one); } }
    } catch {
      byId("totals").textContent = "The server does not answer; trying again.";
      timer = setTimeout(ask, LOST_MS);
      return;
    }
    totals();
    timer = setTimeout(ask, next);
  }

  function add(files) {
    for (const file of files) {
      const one = row(file.name);
      one.remove.onclick = () => { one.request?.abort(); drop(one); };
      if (file.size > most) { failed(one, "larger than " + most / 2 ** 20 + " MiB"); continue; }
      if (file.size === 0) { failed(one, "empty"); continue; }
      say(one, "to be sent", 0);
      unsent.push({ one, file });
    }
    totals();
    send();
  }

  // One after the other, so that the first is judged while the next is sent.
  function send() {
    if (sending || unsent.length === 0) { return; }
    sending = true;
    const { one, file } = unsent[0], request = new XMLHttpRequest();
    const goOn = (wait_s) => { sending = false; totals(); wait_s ? setTimeout(send, 1000 * wait_s) : send(); };
    one.request = request;
    request.open("POST", "/session/files?name=" + encodeURIComponent(file.name));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => say(one, "being sent", event.loaded / (event.total || file.size));
    request.onload = () => {
      if (request.status === 429 || request.status === 503) {
        say(one, "the server is busy; waiting to be sent", 0);
        goOn(Number(request.getResponseHeader("Retry-After")) || 5);
        return;
      }
      unsent.shift();
      if (request.status === 201) { adopt(one, JSON.parse(request.responseText)); ask(); }
      else { failed(one, problem(request)); }
      goOn(0);
    };
    request.onerror = () => { unsent.shift(); failed(one, "the connection was lost; send it again"); goOn(0); };
    request.onabort = () => { unsent.shift(); goOn(0); };
    request.send(file);
  }

  function problem(request) {
    try { return JSON.parse(request.responseText).error.message; } catch { return "not accepted (" + request.status + ")"; }
  }

  function drop(one) {
    const at = unsent.findIndex((waiting) => waiting.one === one);
    if (at > 0 || (at === 0 && !sending)) { unsent.splice(at, 1); }
    rows.delete(one.id);
    one.item.remove();
    if (shown !== null && shown === one.id) { shown = null; answer.replaceChildren(); answer.hidden = true; }
    totals();
  }

  async function remove(one) {
    drop(one);
    await fetch("/session/files/" + one.id, { method: "DELETE" });
    choose.focus();
  }

  async function show(id) {
    shown = id;
    for (const one of rows.values()) {
      if (one.id === id) { one.open.setAttribute("aria-current", "true"); } else { one.open.removeAttribute("aria-current"); }
    }
    const response = await fetch("/session/files/" + id + "/section.html");
    if (!response.ok || shown !== id) { return; }
    const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
    answer.replaceChildren(...parsed.body.childNodes);
    answer.hidden = false;
    const video = answer.querySelector("video");
    if (video) { follow(video); }
  }

  // A click on a timeline moves the player, and the player moves a line on all of them.
  function follow(video) {
    const heads = [];
    for (const chart of answer.querySelectorAll("svg[data-end-s]")) {
      const end = Number(chart.dataset.endS), left = Number(chart.dataset.left), right = Number(chart.dataset.right);
      const { width, height } = chart.viewBox.baseVal, head = document.createElementNS(SVG, "line");
      head.setAttribute("class", "playhead");
      head.setAttribute("y1", "0");
      head.setAttribute("y2", String(height));
      chart.append(head);
      heads.push((time) => {
        const x = String(width * (left + (right - left) * Math.min(time / end, 1)));
        head.setAttribute("x1", x);
        head.setAttribute("x2", x);
      });
      chart.addEventListener("click", (event) => {
        const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
        const share = (point.x / width - left) / (right - left);
        video.currentTime = end * Math.min(Math.max(share, 0), 1);
      });
    }
    const move = () => { for (const head of heads) { head(video.currentTime); } };
    for (const kind of ["timeupdate", "seeking", "loadedmetadata"]) { video.addEventListener(kind, move); }
    video.addEventListener("error", () => { answer.querySelector(".unplayable").hidden = false; });
    for (const jump of answer.querySelectorAll("[data-seek]")) {
      jump.addEventListener("click", () => { video.currentTime = Number(jump.dataset.seek); });
    }
    move();
  }

  choose.addEventListener("change", () => { add([...choose.files]); choose.value = ""; });
  const area = document.querySelector(".drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      area.classList.toggle("over", kind === "dragover");
      if (kind === "drop") { add([...event.dataTransfer.files]); }
    });
  }
  byId("end").addEventListener("click", async () => {
    await fetch("/session", { method: "DELETE" });
    for (const one of [...rows.values()]) { drop(one); }
    choose.focus();
  });
  addEventListener("pagehide", () => navigator.sendBeacon("/session/leave"));
  addEventListener("pageshow", ask);
})();
