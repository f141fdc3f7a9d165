"""The JSON API: the same report as on the command line, and nothing is left behind."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="deepscan-video[web] is not installed")

from starlette.testclient import TestClient
from webapps import SlowDetector, real_detector, wait_until

from deepscan.report.table import schema
from deepscan.web.api import PREDICT
from deepscan.web.server import make_app
from deepscan.web.service import JudgeService, WebLimits
from deepscan.web.uploads import shown_name, stored_name


@pytest.fixture(scope="module")
def detector():
    return real_detector()


@pytest.fixture
def service(detector):
    made = JudgeService(detector, WebLimits(upload_bytes=2**20, duration_s=60, waiting=1), with_heat=False)
    yield made
    made.close()
    assert not made.store.root.exists()


@pytest.fixture
def client(service):
    return browser(service)


def browser(service):
    return TestClient(make_app(service), base_url="http://127.0.0.1", raise_server_exceptions=False)


def post(client, content, name="clip.mp4"):
    return client.post(PREDICT, files={"file": (name, content)})


def without_timing(report):
    report = json.loads(json.dumps(report))
    for result in report["results"]:
        result.pop("timing_s")
        result.pop("path")
    return report


@pytest.mark.parametrize("clip", ["face_clip", "two_people_clip", "no_face_clip", "portrait_image"])
def test_the_report_is_that_of_the_command_line(client, service, detector, request, clip):
    path = request.getfixturevalue(clip)
    response = post(client, path.read_bytes(), path.name)
    assert response.status_code == 200
    report = response.json()
    jsonschema.validate(report, schema())
    assert report["results"][0]["path"] == path.name
    wanted = json.loads(service_report(detector, path))
    assert without_timing(report) == without_timing(wanted)
    assert list(service.store.root.iterdir()) == []


def service_report(detector, path):
    from deepscan.report.table import to_json

    return to_json(detector.report([detector.predict(path)]))


def test_what_is_no_video_is_a_row_with_its_reason(client, service):
    response = post(client, b"this is no video", "notes.mp4")
    assert response.status_code == 422
    (result,) = response.json()["results"]
    assert (result["verdict"], result["reason"], result["path"]) == ("error", "unreadable", "notes.mp4")
    assert "notes.mp4" in result["message"]
    assert "upload" not in result["message"]
    assert list(service.store.root.iterdir()) == []


def test_a_video_that_is_too_long(detector, face_clip):
    service = JudgeService(detector, WebLimits(duration_s=1.0), with_heat=False)
    response = post(browser(service), face_clip.read_bytes())
    assert response.status_code == 422
    (result,) = response.json()["results"]
    assert result["reason"] == "too_large"
    assert "--max" not in result["message"]  # the limit is the server's
    assert "1 s" in result["message"] or "1.0 s" in result["message"]
    service.close()


def test_without_a_file(client):
    for response in (client.post(PREDICT), client.post(PREDICT, data={"file": "text"}), client.post(PREDICT, json={})):
        assert response.status_code == 422
        assert response.json()["error"]["reason"] == "no_file"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", PREDICT), ("PUT", PREDICT), ("DELETE", PREDICT), ("POST", "/api/health"), ("POST", "/"), ("PUT", "/docs")],
)
def test_a_wrong_method(client, method, path):
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"]


def test_several_files_are_several_results(client, service, portrait_image, no_face_clip):
    files = [("file", (name, path.read_bytes())) for name, path in (("a.jpg", portrait_image), ("b.mp4", no_face_clip))]
    answer = client.post(PREDICT, files=[*files, ("file", ("c.mp4", b"none")), ("other", ("d.jpg", b"not asked for"))])
    assert answer.status_code == 200
    report = answer.json()
    jsonschema.validate(report, schema())
    assert [(r["path"], r["kind"]) for r in report["results"][:2]] == [("a.jpg", "image"), ("b.mp4", "video")]
    assert [(r["path"], r["verdict"]) for r in report["results"][2:]] == [("c.mp4", "error")]
    assert list(service.store.root.iterdir()) == []


@pytest.mark.parametrize("kind", [None, "application/octet-stream", "image/jpeg", "application/x-www-form-urlencoded"])
def test_a_file_as_the_body(client, service, portrait_image, kind):
    """As curl --data-binary sends it."""
    headers = {"Content-Type": kind} if kind else {}
    answer = client.post(PREDICT, content=portrait_image.read_bytes(), params={"name": "../me.jpg"}, headers=headers)
    assert answer.status_code == 200
    assert [(r["path"], r["kind"]) for r in answer.json()["results"]] == [("me.jpg", "image")]
    assert list(service.store.root.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "shown", "stored"),
    [
        ("clip.mp4", "clip.mp4", "upload.mp4"),
        ("../../etc/passwd", "passwd", "upload"),
        ("C:\\Users\\me\\clip.MOV", "clip.MOV", "upload.mov"),
        ("<script>alert(1)</script>.mp4", "script>.mp4", "upload.mp4"),
        ("a\x00b\n.mp4", "a\ufffdb\ufffd.mp4", "upload.mp4"),
        ("..", "..", "upload"),
        ("", "upload", "upload"),
        (None, "upload", "upload"),
        ("x" * 500 + ".webm", "x" * 115 + ".webm", "upload.webm"),
        ("clip.mp4.exe", "clip.mp4.exe", "upload"),
    ],
)
def test_names_of_uploads(given, shown, stored):
    assert shown_name(given) == shown
    assert stored_name(shown_name(given)) == stored


def test_a_file_name_goes_nowhere(client, service, portrait_image):
    outside = service.store.root.parent / "escaped.jpg"
    response = post(client, portrait_image.read_bytes(), "../escaped.jpg")
    assert response.status_code == 200
    assert response.json()["results"][0]["path"] == "escaped.jpg"
    assert not outside.exists()


def test_one_after_the_other_and_a_full_queue_says_so(detector, portrait_image):
    slow = SlowDetector(detector)
    service = JudgeService(slow, WebLimits(waiting=1), with_heat=False)  # type: ignore[arg-type]
    client, content = browser(service), portrait_image.read_bytes()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(post, client, content, f"{i}.jpg") for i in range(2)]
        wait_until(lambda: service.n_inside == 2)
        busy = post(client, content)
        assert busy.status_code == 503
        assert busy.json()["error"]["reason"] == "busy"
        assert int(busy.headers["Retry-After"]) > 0
        assert slow.entered == 1
        slow.go.set()
        assert sorted(w.result().json()["results"][0]["path"] for w in waiting) == ["0.jpg", "1.jpg"]
    assert post(client, content).status_code == 200
    service.close()


def test_a_failure_of_ours_is_a_row_too(client, service, monkeypatch, portrait_image):
    monkeypatch.setattr(type(service.detector._finder), "detect", lambda *a, **k: 1 / 0)
    response = post(client, portrait_image.read_bytes(), "face.jpg")
    assert response.status_code == 422
    (result,) = response.json()["results"]
    assert result["reason"] == "internal"
    assert list(service.store.root.iterdir()) == []


def test_it_says_what_it_is(client):
    assert client.get("/api/schema").json() == schema()
    health = client.get("/api/health").json()
    assert health["model"]["name"] == "default"
    assert health["waiting"] == 0


def test_its_description_is_its_own(client, portrait_image):
    described = client.get("/openapi.json").json()
    assert client.get("/api/openapi.json").json() == described
    assert set(described["paths"]) == {PREDICT, "/api/schema", "/api/health"}
    for path, methods in described["paths"].items():
        for method, call in methods.items():
            assert call["summary"]
            if method == "get":
                wanted = call["responses"]["200"]["content"]["application/json"]["schema"]
                jsonschema.validate(client.get(path).json(), {**wanted, "components": described["components"]})
    answers = described["paths"][PREDICT]["post"]["responses"]
    answered = {
        "200": post(client, portrait_image.read_bytes(), "me.jpg"),
        "422": client.post(PREDICT),
        "413": client.post(PREDICT, content=b"x" * 2**21),
    }
    for status, answer in answered.items():
        wanted = answers[status]["content"]["application/json"]["schema"]
        assert str(answer.status_code) == status
        jsonschema.validate(answer.json(), {**wanted, "components": described["components"]})
    text = client.get("/docs").text
    assert all(path in text for path in described["paths"])
    assert all(status in text for status in answers)


def test_a_picture_is_one_frame(client):
    file = io.BytesIO()
    Image.new("RGB", (320, 240), (90, 120, 90)).save(file, "PNG")
    (result,) = post(client, file.getvalue(), "grey.png").json()["results"]
    assert (result["kind"], result["verdict"], result["reason"]) == ("image", "not_applicable", "no_face")
