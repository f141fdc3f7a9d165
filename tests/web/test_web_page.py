"""The page without a browser: what it shows of each kind of answer, and what it keeps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

pytest.importorskip("gradio", reason="deepscan-video[web] is not installed")

from starlette.testclient import TestClient
from webapps import real_detector, wait_until

from deepscan.text import answer_rule, percent
from deepscan.web import server
from deepscan.web.page import _Sessions, _shown, make_page
from deepscan.web.service import JudgeService, WebLimits


@pytest.fixture(scope="module")
def service():
    made = JudgeService(real_detector(), WebLimits(duration_s=60), with_heat=False)
    yield made
    made.close()


def shown(service, path, name):
    folder = service.folder()
    judged = service.judge(path, name, folder)
    return judged, _shown(judged, service)


@pytest.mark.parametrize(
    ("clip", "has"),
    [
        ("face_clip", {"bars", "timeline", "faces"}),
        ("two_people_clip", {"bars", "timeline", "faces"}),
        ("portrait_image", {"bars", "faces"}),
        ("no_face_clip", set()),
    ],
)
def test_every_kind_of_answer(service, request, clip, has):
    path = request.getfixturevalue(clip)
    judged, (answer, bars, timeline, faces, whole, data) = shown(service, path, path.name)
    result = judged.result
    assert f'data-verdict="{result.verdict}"' in answer
    assert path.name in answer
    visible = {n for n, part in (("bars", bars), ("timeline", timeline), ("faces", faces)) if part.visible}
    assert visible == has
    if "bars" in has:
        model = judged.report.model
        told = (
            f"{percent(result.probability, model.uncertain_band)}",
            answer_rule(model.threshold, model.uncertain_band),
        )
        assert all(text[1:] in bars.value for text in told)
    assert judged.page.is_file()
    assert judged.json.is_file()
    assert whole.visible
    assert data.visible
    if "timeline" in has:
        assert {len(track.frames) for track in result.tracks} == {4}
        assert len(timeline.value["data"]) == 4 * len(result.tracks)


def test_what_cannot_be_read_is_told_in_words(service, tmp_path):
    path = tmp_path / "notes.mp4"
    path.write_bytes(b"no video")
    judged, (answer, bars, *_) = shown(service, path, "notes.mp4")
    assert judged.result.verdict == "error"
    assert not bars.visible
    assert "notes.mp4" in answer


def test_names_are_escaped(service, portrait_image):
    _, (answer, *_) = shown(service, portrait_image, "<img src=x onerror=alert(1)>.jpg")
    assert "<img" not in answer
    assert "&lt;img src=x onerror=alert(1)&gt;.jpg" in answer


def test_progress_goes_up_to_the_report(service, portrait_image):
    told = []
    service.judge(portrait_image, "a.jpg", service.folder(), lambda share, what: told.append((share, what)))
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[0][0] == 0
    assert told[-1] == (0.9, "Writing the report")


def test_a_session_leaves_nothing(service):
    sessions = _Sessions(service, grace_s=0.01)
    mine, more, other = sessions.folder("a"), sessions.folder("a"), sessions.folder("b")
    (mine / "report.html").write_text("x")
    sessions.end("a")
    wait_until(lambda: not (mine.exists() or more.exists()), 10)
    assert other.exists()
    sessions.end("a")
    shared = service.folder()
    sessions.adopt("b", shared)
    sessions.adopt("c", shared)
    sessions.end("b")
    wait_until(lambda: not other.exists(), 10)
    assert shared.exists()
    sessions.end("c")
    wait_until(lambda: not shared.exists(), 10)


def test_a_page_that_is_loaded_anew_keeps_its_pictures_for_a_moment(service):
    sessions = _Sessions(service, grace_s=60)
    folder = sessions.folder("a")
    sessions.end("a")
    assert folder.exists()


def test_a_file_that_is_uploaded_anew_stays_when_its_first_session_ends(service):
    sessions = _Sessions(service, grace_s=0.05)
    again, other = sessions.folder("a"), sessions.folder("a")
    (other / "upload.mp4").write_bytes(b"x")
    os.utime(other / "upload.mp4", (1, 1))
    sessions.end("a")
    later = time.time() + 5
    (again / "upload.mp4").write_bytes(b"x")
    os.utime(again / "upload.mp4", (later, later))
    wait_until(lambda: not other.exists(), 10)
    assert again.exists()


def test_only_folders_of_its_own_are_removed(service, tmp_path):
    (tmp_path / "kept").mkdir()
    service.forget(tmp_path / "kept")
    assert (tmp_path / "kept").is_dir()


def test_the_page_asks_nothing_of_others(service):
    """No address of another host in what the server sends first, but for links that are only followed on a click."""
    client = TestClient(server.make_app(service), base_url="http://127.0.0.1")
    text = client.get("/").text
    assert "deepscan" in text
    loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(https?://[^"]+)"', text)
    assert loaded == []
    assert TestClient(server.make_app(service), base_url="http://evil.example").get("/").status_code == 421


def test_with_a_password(service):
    app = server.make_app(service, host="0.0.0.0", auth=("me", "secret"))  # noqa: S104
    client = TestClient(app, base_url="http://any.example")
    assert client.get("/").status_code == 401
    assert client.get("/api/health").status_code == 401
    assert client.get("/api/health", auth=("me", "secret")).status_code == 200
    assert client.get("/", auth=("me", "secret")).status_code == 200


def test_nothing_outside_of_the_servers_folder_is_sent(service, tmp_path):
    client = TestClient(server.make_app(service), base_url="http://127.0.0.1")
    (tmp_path / "secret.txt").write_text("hush-hush")
    inside = service.folder()
    for path in (tmp_path / "secret.txt", "/etc/hostname", f"{inside}/../../{tmp_path.name}/secret.txt"):
        response = client.get(f"/gradio_api/file={path}")
        assert response.status_code in (403, 404)
        assert "hush-hush" not in response.text
    service.forget(inside)


@pytest.mark.parametrize("name", ["fastapi", "gradio", "starlette", "uvicorn"])
def test_the_optional_part_is_missed_in_one_line(name):
    """In a process where nothing of it was imported yet, as on a machine without it."""
    code = f"import sys; sys.modules[{name!r}] = None; sys.argv[1:] = ['serve']; from deepscan.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    hint = "Install it: pip install 'deepscan-video[web]'."
    assert done.stderr.strip() == f"deepscan: The web page cannot be served: {name} is not installed. {hint}"


def test_a_port_that_is_taken():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(server.OutputError, match="cannot be listened on"):
            server.serve(lambda: None, "127.0.0.1", taken.getsockname()[1])  # type: ignore[arg-type]


def test_the_page_is_made_of_the_service(service):
    page = make_page(service)
    labels = {getattr(block, "elem_id", None) for block in page.blocks.values()}
    assert {"upload", "judge", "answer", "bars", "timeline", "faces", "report", "json"} <= labels
