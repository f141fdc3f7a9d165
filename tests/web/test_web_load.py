"""The server under load and attack, over real sockets: what is kept, how long it takes, what is said."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psutil
import pytest

pytest.importorskip("uvicorn", reason="deepscan-video[web] is not installed")

from webapps import StandInDetector, wait_until

from deepscan.web import server
from deepscan.web.service import JudgeService, WebLimits

PREDICT = "/api/predict"


@contextmanager
def serving(detector=None, access_log=None, **limits) -> Iterator[tuple[JudgeService, int]]:
    """A server in a thread, and its port."""
    service = JudgeService(detector or StandInDetector(), WebLimits(**limits), with_heat=False)  # type: ignore[arg-type]
    listener = socket.create_server(("127.0.0.1", 0))
    running = server.make_server(server.make_app(service, access_log=access_log))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield service, listener.getsockname()[1]
    finally:
        running.should_exit = True
        thread.join(20)
        service.close()
    assert not thread.is_alive()


def ask(port, method, path, body=None, headers=None):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def raw(port, sent):
    """What is answered to bytes, until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        answered = b""
        while piece := connection.recv(2**16):
            answered += piece
    return answered


def new_session(port):
    """Headers of a browser that has opened the page."""
    _, headers, _ = ask(port, "GET", "/")
    return {"Cookie": headers["Set-Cookie"].partition(";")[0]}


def nothing_kept(service):
    return (list(service.store.root.iterdir()), service.store.reserved_bytes) == ([], 0)


@pytest.mark.parametrize(
    ("n_clients", "n_files", "n_bytes"), [(4, 2, 100_000), pytest.param(20, 5, 20_000_000, marks=pytest.mark.slow)]
)
def test_many_clients_of_several_files_each(n_clients, n_files, n_bytes):
    """All are answered, those who come back are judged, and neither disk nor memory holds more than it may."""
    content, process = bytes(n_bytes), psutil.Process()
    with serving(stored_bytes=(n_clients * n_files + 1) * n_bytes, waiting=2, session_waiting=3) as (service, port):
        most_kept, statuses, over = 0, [], threading.Event()
        before = most_memory = process.memory_info().rss

        def watch():
            nonlocal most_kept, most_memory
            while not over.wait(0.05):
                most_memory = max(most_memory, process.memory_info().rss)
                with suppress(FileNotFoundError):
                    most_kept = max(most_kept, sum(f.stat().st_size for f in service.store.root.glob("*/upload*")))

        def client(number):
            session = new_session(port)
            for n in range(n_files):
                status = 0
                while status != 201:
                    path = f"/session/files?name={number}-{n}.mp4"
                    status, headers, _ = ask(port, "POST", path, content, session)
                    statuses.append(status)
                    if status != 201:
                        assert int(headers["Retry-After"]) > 0
                        time.sleep(0.2)
            wait_until(
                lambda: not any(f["pending"] for f in json.loads(ask(port, "GET", "/session", None, session)[2])), 60
            )
            files = json.loads(ask(port, "GET", "/session", None, session)[2])
            ask(port, "DELETE", "/session", None, session)
            return [file["name"] for file in files]

        watcher = threading.Thread(target=watch)
        watcher.start()
        with ThreadPoolExecutor(n_clients) as pool:
            names = list(pool.map(client, range(n_clients)))
        over.set()
        watcher.join()
        assert names == [[f"{number}-{n}.mp4" for n in range(n_files)] for number in range(n_clients)]
        assert set(statuses) <= {201, 429, 503}
        assert statuses.count(201) == n_clients * n_files
        assert len(statuses) > n_clients * n_files  # it was refused at times
        assert 0 < most_kept <= n_clients * n_files * n_bytes
        assert most_memory - before < 200 * 2**20
        wait_until(lambda: nothing_kept(service))


@pytest.mark.parametrize("path", [PREDICT, "/session/files"])
def test_a_client_that_stalls_or_drips(path):
    with serving(stall_s=0.3) as (service, port):
        session = "".join(f"{name}: {value}\r\n" for name, value in new_session(port).items())
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{session}Content-Length: 100000\r\n\r\n".encode()
        began_at = time.monotonic()
        assert b" 408 " in raw(port, head + b"x" * 100).split(b"\r\n")[0]
        with socket.create_connection(("127.0.0.1", port), timeout=20) as dripping:
            dripping.sendall(head)
            with pytest.raises(OSError):
                for _ in range(200):
                    dripping.sendall(b"x")
                    time.sleep(0.05)
        assert time.monotonic() - began_at < 8
        wait_until(lambda: nothing_kept(service))
        assert ask(port, "GET", "/api/health")[0] == 200


@pytest.mark.parametrize("path", [PREDICT, "/session/files"])
def test_a_client_that_vanishes(path, caplog):
    lines: list[str] = []
    with serving(access_log=lines.append) as (service, port):
        session = "".join(f"{name}: {value}\r\n" for name, value in new_session(port).items())
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{session}Content-Length: 100000\r\n\r\n".encode()
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as vanishing:
                vanishing.sendall(head + b"x" * 50_000)
        wait_until(lambda: sum('"POST"' in line for line in lines) == 5)
        assert nothing_kept(service)
        assert ask(port, "GET", "/api/health")[0] == 200
    assert caplog.records == []


def test_who_vanishes_from_the_queue_is_not_judged():
    detector = StandInDetector(waits=True)
    with serving(detector) as (service, port):
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ask, port, "POST", PREDICT, b"first")
            wait_until(lambda: detector.entered == 1)
            with socket.create_connection(("127.0.0.1", port)) as vanishing:
                head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"
                vanishing.sendall(head.encode() + b"gone")
                wait_until(lambda: service.n_inside == 2)
            wait_until(lambda: service.n_inside == 1)
            detector.go.set()
            assert first.result()[0] == 422
        wait_until(lambda: nothing_kept(service))
        assert detector.entered == 1


def test_a_body_that_is_longer_than_it_says():
    with serving() as (service, port):
        head = (
            f"POST {PREDICT}?name=a.mp4 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 10\r\n\r\n"
        )
        answered = raw(port, head.encode() + b"x" * 1000)
        assert b" 422 " in answered.split(b"\r\n")[0]
        assert b'"a.mp4"' in answered
        assert ask(port, "GET", "/api/health")[0] == 200
        wait_until(lambda: nothing_kept(service))


def test_what_is_too_large_is_said_to_who_is_still_sending():
    """The answer reaches the client, and not a connection that was reset."""
    with serving(upload_bytes=1000) as (service, port):
        for path in (PREDICT, "/session/files"):
            status, _, body = ask(port, "POST", path, bytes(20_000_000), new_session(port))
            assert (status, json.loads(body)["error"]["reason"]) == (413, "too_large")
        pieces = (b"x" * 10_000 for _ in range(2000))
        status, _, body = ask(port, "POST", PREDICT, pieces)
        assert (status, json.loads(body)["error"]["reason"]) == (413, "too_large")
        assert nothing_kept(service)


def test_what_does_not_say_its_size_takes_the_most_room():
    with serving(upload_bytes=1000, stored_bytes=1500) as (service, port):
        kept = service.store.new("kept.mp4", 600)
        status, headers, body = ask(port, "POST", PREDICT, iter([b"x"]))
        assert (status, json.loads(body)["error"]["reason"]) == (503, "busy")
        assert int(headers["Retry-After"]) > 0
        assert ask(port, "POST", PREDICT, b"x" * 900)[0] == 422
        service.store.remove(kept)
        assert nothing_kept(service)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("a%00b.mp4", "a\ufffdb.mp4"),
        ("%FF%FE.mp4", "\ufffd\ufffd.mp4"),
        ("x" * 4000 + ".mp4", "x" * 116 + ".mp4"),
        ("%2E%2E", ".."),
        ("C%3A%5Cwindows%5Cx.mp4", "x.mp4"),
    ],
)
def test_odd_names(sent, shown):
    with serving() as (service, port):
        status, _, body = ask(port, "POST", f"{PREDICT}?name={sent}", b"no video")
        assert (status, json.loads(body)["results"][0]["path"]) == (422, shown)
        form = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{sent}"\r\n\r\nno video\r\n--b--\r\n'
        status, _, body = ask(port, "POST", PREDICT, form, {"Content-Type": "multipart/form-data; boundary=b"})
        assert status in (400, 422)
        assert b"Traceback" not in body
        assert nothing_kept(service)


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=b", "multipart/form-data; boundary="]
)
def test_a_form_that_is_none(kind):
    with serving() as (service, port):
        status, _, body = ask(port, "POST", PREDICT, b"--b\r\nno form at all", {"Content-Type": kind})
        assert (status, json.loads(body)["error"]["reason"]) in ((400, "malformed"), (422, "no_file"))
        assert nothing_kept(service)


def test_a_failure_of_the_servers_own_shows_nothing_of_it():
    with serving(StandInDetector(fails=True)) as (service, port):
        status, headers, body = ask(port, "POST", PREDICT, b"no video")
        assert (status, json.loads(body)["error"]["reason"]) == (500, "internal")
        assert b"Traceback" not in body
        assert str(service.store.root).encode() not in body
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert nothing_kept(service)


def test_a_file_that_is_also_a_page_is_never_sent_as_one(portrait_image):
    page = b"<!DOCTYPE html><script>alert(1)</script>"
    with serving() as (_, port):
        session = new_session(port)
        for name in ("x.mp4", "x.html", "x.svg"):
            ask(port, "POST", f"/session/files?name={name}", page, session)
        kinds = []
        for file in json.loads(ask(port, "GET", "/session", None, session)[2]):
            status, headers, _ = ask(port, "GET", f"/session/files/{file['id']}/media", None, session)
            kinds.append((status, headers["Content-Type"]))
            assert headers["X-Content-Type-Options"] == "nosniff"
        assert kinds == [(200, "video/mp4"), (404, "application/json"), (404, "application/json")]


def test_every_request_is_a_line_and_a_figure():
    pytest.importorskip("prometheus_client")
    lines: list[str] = []
    with serving(access_log=lines.append) as (_, port):
        ask(port, "POST", f"{PREDICT}?name=secret.mp4", b"no video")
        ask(port, "GET", "/nope%0B")
        _, headers, figures = ask(port, "GET", "/metrics")
    entries = [json.loads(line) for line in lines]
    assert [(e["method"], e["path"], e["status"]) for e in entries[:1]] == [("POST", PREDICT, 422)]
    assert entries[1]["path"] == "/nope\ufffd"
    assert (entries[0]["received_bytes"], entries[0]["client"]) == (8, "127.0.0.1")
    assert entries[0]["sent_bytes"] > 0
    assert "secret" not in "".join(lines)
    assert headers["Content-Type"].startswith("text/plain")
    text = figures.decode()
    assert 'deepscan_requests_total{status="422"} 1.0' in text
    assert 'deepscan_verdicts_total{reason="unreadable",verdict="error"} 1.0' in text
    assert "deepscan_judge_seconds_count 1.0" in text
    assert "deepscan_waiting 0.0" in text
