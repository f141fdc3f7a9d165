
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const said = document.getElementById("sorted");
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    return a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y) ? x - y : a.localeCompare(b);
  };
  heads.forEach((head, place) => {
    if (head.dataset.sort === undefined) { return; }
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.sort;
      const now = head.getAttribute("aria-sort");
      const order = now === null ? first : now === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const key = (row) => row.cells[place].dataset.key ?? row.cells[place].textContent;
      const empty = (row) => (key(row) === "" ? 1 : 0);
      const rows = [...body.rows];
      rows.sort((a, b) => empty(a) - empty(b) || sign * compare(key(a), key(b)));
      body.append(...rows);
      said.textContent = "Sorted by " + button.textContent.trim() + ", " + order + ".";
    });
  });
}
