"""The page without a browser: sessions and their files, the queue, and what the server sends."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time

import pytest

pytest.importorskip("starlette", reason="deepscan-video[web] is not installed")

from starlette.testclient import TestClient
from webapps import SlowDetector, real_detector, wait_until

from deepscan.errors import OutputError
from deepscan.web import server
from deepscan.web.service import JudgeService, WebLimits
from deepscan.web.sessions import Sessions, new_token

ADDRESS = "http://127.0.0.1"
# A script or a style in the page, or anything of another host.
INLINE = r"<script(?![^>]* src=\"/static/)|<style|\son\w+=|\sstyle=|(?:src|href)=\"(?:https?:)?//"


@pytest.fixture(scope="module")
def detector():
    return real_detector()


@pytest.fixture(scope="module")
def service(detector):
    made = JudgeService(detector, WebLimits(duration_s=60), with_heat=False)
    yield made
    made.close()
    assert not made.store.root.exists()


@pytest.fixture
def slow(detector):
    """A service that judges nothing before its detector's ``go`` is set."""
    made = JudgeService(SlowDetector(detector), WebLimits(session_waiting=3, session_files=4), with_heat=False)  # type: ignore[arg-type]
    yield made
    made.detector.go.set()
    made.close()


def browser(service):
    """One that has opened the page."""
    client = TestClient(server.make_app(service), base_url=ADDRESS)
    assert client.get("/").status_code == 200
    return client


def send(client, content, name="clip.mp4"):
    return client.post("/session/files", params={"name": name}, content=content)


def answered(client):
    wait_until(lambda: not any(file["pending"] for file in client.get("/session").json()), 60)
    return client.get("/session").json()


@pytest.mark.parametrize(
    ("clip", "plays", "charts"),
    [("face_clip", True, 1), ("two_people_clip", True, 2), ("portrait_image", False, 0), ("no_face_clip", True, 0)],
)
def test_every_kind_of_answer(service, request, clip, plays, charts):
    path = request.getfixturevalue(clip)
    client = browser(service)
    assert send(client, path.read_bytes(), path.name).status_code == 201
    (file,) = answered(client)
    part = f"/session/files/{file['id']}/"
    section = client.get(part + "section.html").text
    report = client.get(part + "report.json").json()
    (result,) = report["results"]
    assert (result["verdict"], result["path"]) == (file["verdict"], path.name)
    assert f'data-verdict="{file["verdict"]}"' in section
    assert path.name in section
    assert ("<video" in section) is plays
    assert section.count("data-end-s=") == charts
    assert (file["probability"] is None) is (result["probability"] is None)
    assert file["probability"] is None or file["probability"] in section
    assert client.get(part + "report.html").text.startswith("<!DOCTYPE html>")
    media = client.get(part + "media", headers={"Range": "bytes=0-9"})
    assert (media.status_code, media.content) == ((206, path.read_bytes()[:10]) if plays else (404, media.content))
    client.delete("/session")


def test_what_cannot_be_read_is_an_answer_too(service):
    client = browser(service)
    send(client, b"no video", "notes.mp4")
    (file,) = answered(client)
    assert (file["verdict"], file["probability"], file["name"]) == ("error", None, "notes.mp4")
    assert "notes.mp4" in client.get(f"/session/files/{file['id']}/section.html").text


def test_names_are_escaped(service, portrait_image):
    client = browser(service)
    send(client, portrait_image.read_bytes(), "<img src=x onerror=alert(1)>.jpg")
    (file,) = answered(client)
    section = client.get(f"/session/files/{file['id']}/section.html").text
    assert "<img src=x" not in section
    assert "&lt;img src=x onerror=alert(1)&gt;.jpg" in section


def test_each_file_says_how_many_are_before_it(slow, portrait_image):
    client, other = browser(slow), browser(slow)
    for name in ("a.jpg", "b.jpg"):
        send(client, portrait_image.read_bytes(), name)
    last = send(other, portrait_image.read_bytes(), "c.jpg").json()
    assert (last["pending"], last["ahead"]) == (True, 2)
    assert [file["ahead"] for file in client.get("/session").json()] == [0, 1]
    client.delete(f"/session/files/{client.get('/session').json()[1]['id']}")
    assert [file["ahead"] for file in other.get("/session").json()] == [1]
    slow.detector.go.set()
    assert answered(client)[0]["verdict"] in ("real", "fake", "uncertain")
    assert answered(other)[0]["share"] == 0.9


def test_a_session_may_not_take_the_whole_queue(slow, portrait_image):
    client = browser(slow)
    answers = [send(client, portrait_image.read_bytes(), f"{i}.jpg") for i in range(4)]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
    assert answers[3].json()["error"]["reason"] == "too_many"
    assert int(answers[3].headers["Retry-After"]) > 0
    assert send(browser(slow), portrait_image.read_bytes()).status_code == 201
    slow.detector.go.set()
    answered(client)
    assert [send(client, portrait_image.read_bytes()).status_code for _ in range(2)] == [201, 429]


def test_another_session_sees_nothing(service, portrait_image):
    client, stranger = browser(service), browser(service)
    send(client, portrait_image.read_bytes(), "mine.jpg")
    (file,) = answered(client)
    send(stranger, portrait_image.read_bytes(), "own.jpg")
    address = f"/session/files/{file['id']}"
    for part in ("/section.html", "/report.html", "/report.json", "/media"):
        refused = stranger.get(address + part)
        assert refused.status_code == 404
        assert "mine" not in refused.text
    assert stranger.delete(address).status_code == 404
    assert [one["name"] for one in answered(stranger)] == ["own.jpg"]
    stranger.delete("/session")
    assert client.get(address + "/report.json").status_code == 200
    without = TestClient(server.make_app(service), base_url=ADDRESS)
    assert [without.get(address + "/report.json").status_code, without.get("/session").status_code] == [403, 403]
    client.delete("/session")


def test_a_session_ends_and_takes_its_files(detector, portrait_image):
    service = JudgeService(detector, WebLimits(idle_s=900, grace_s=60), with_heat=False)
    sessions, token, now = Sessions(service), new_token(), time.monotonic()

    def add():
        upload = service.store.new("a.jpg", 7)
        upload.path.write_bytes(portrait_image.read_bytes())
        return sessions.add(token, upload)

    add().future.result(60)
    sessions.leave(token)
    sessions.sweep(now + 50)
    assert sessions.find(token) is not None  # loaded anew: it is kept
    sessions.sweep(now + 800)
    assert sessions.find(token) is not None
    sessions.leave(token)
    sessions.sweep(now + 70)
    assert sessions.find(token) is None
    assert (list(service.store.root.iterdir()), service.store.reserved_bytes) == ([], 0)
    add().future.result(60)
    sessions.sweep(now + 910)
    assert (sessions.find(token), service.store.reserved_bytes) == (None, 0)
    service.close()


def test_a_session_that_ends_takes_what_is_being_judged(slow, portrait_image):
    client = browser(slow)
    for name in ("a.jpg", "b.jpg"):
        send(client, portrait_image.read_bytes(), name)
    assert client.delete("/session").status_code == 204
    assert client.get("/session").json() == []
    slow.detector.go.set()
    wait_until(lambda: (list(slow.store.root.iterdir()), slow.store.reserved_bytes, slow.n_inside) == ([], 0, 0))
    assert slow.detector.entered == 1


def test_the_page_runs_and_loads_nothing_from_elsewhere(service):
    client = browser(service)
    texts = [client.get(path).text for path in ("/", "/docs")]
    for text in texts:
        assert not re.search(INLINE, text)
    for path in re.findall(r'"(/static/[^"]+)"', texts[0]):
        assert "http" not in client.get(path).text.replace("http://www.w3.org/2000/svg", "")
    headers = client.get("/").headers
    rules = dict(rule.strip().partition(" ")[::2] for rule in headers["Content-Security-Policy"].split(";"))
    assert (rules["default-src"], rules["script-src"], rules["style-src"]) == ("'none'", "'self'", "'self'")
    assert rules["frame-ancestors"] == "'none'"
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    cookie = TestClient(server.make_app(service), base_url=ADDRESS).get("/").headers["Set-Cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict"))


def test_other_names_and_other_sites_are_refused(service):
    assert TestClient(server.make_app(service), base_url="http://evil.example").get("/").status_code == 421
    client = browser(service)
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 204), ("none", 204)):
        assert client.delete("/session", headers={"Sec-Fetch-Site": site}).status_code == status


@pytest.mark.parametrize(
    "path", ["/session/files/../../etc/hostname", "/static/..%2Fpage.py", "/static/page.html.j2", "/static/", "/nope"]
)
def test_no_other_file_is_sent(service, path):
    assert browser(service).get(path).status_code == 404


def test_with_a_password(service):
    app = server.make_app(service, host="0.0.0.0", auth=("me", "secret"))  # noqa: S104
    client = TestClient(app, base_url="http://any.example")
    for path in ("/", "/api/health", "/static/serve.js", "/docs"):
        assert client.get(path).status_code == 401
        assert client.get(path, auth=("me", "secret")).status_code == 200


@pytest.mark.parametrize(("module", "package"), [("starlette", "starlette"), ("uvicorn", "uvicorn")])
def test_the_optional_part_is_missed_in_one_line(module, package):
    """In a process where nothing of it was imported yet, as on a machine without it."""
    code = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv[1:] = ['serve']; from deepscan.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code.format(module)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    hint = "Install it: pip install 'deepscan-video[web]'."
    assert done.stderr.strip() == f"deepscan: The web page cannot be served: {package} is not installed. {hint}"


def test_a_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OutputError, match="cannot be listened on"):
            server.serve(lambda: None, "127.0.0.1", taken.getsockname()[1])  # type: ignore[arg-type]
