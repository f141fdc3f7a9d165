"""Who may ask the server, and how much may be sent to it."""

from __future__ import annotations

import anyio
import pytest

pytest.importorskip("starlette", reason="deepscan-video[web] is not installed")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from deepscan.errors import ConfigError
from deepscan.web.guard import AuthGuard, HostGuard, UploadGuard, is_loopback
from deepscan.web.server import check_host


async def answer(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


INNER = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),  # noqa: S104
     ("192.168.1.2", False), ("::", False), ("example.org", False), ("", False), ("localhost.example.org", False)],
)  # fmt: skip
def test_beyond_this_machine_a_password_is_needed(host, loopback):
    assert is_loopback(host) is loopback
    check_host(host, ("name", "password"))
    if loopback:
        check_host(host, None)
    else:
        with pytest.raises(ConfigError, match="--auth"):
            check_host(host, None)


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:7860", 200), ("localhost", 200), ("[::1]:80", 200), ("LOCALHOST:1", 200), ("mine:7860", 200),
     ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("", 421), ("[::1", 200), ("[fe80::1]", 421)],
)  # fmt: skip
def test_other_names_are_not_answered(host, status):
    client = TestClient(HostGuard(INNER, ["mine"]))
    assert client.get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("auth", "status"),
    [(("me", "p:w"), 200), (("me", "wrong"), 401), (("you", "p:w"), 401), (("", ""), 401), (None, 401)],
)
def test_name_and_password(auth, status):
    response = TestClient(AuthGuard(INNER, "me", "p:w")).get("/", auth=auth)
    assert response.status_code == status
    assert ("WWW-Authenticate" in response.headers) is (status == 401)


@pytest.mark.parametrize("header", ["Basic", "Basic %%%", "Bearer bWU6cDp3", "Basic bWU6cDp3x", "bWU6cDp3"])
def test_authorization_that_is_none(header):
    assert TestClient(AuthGuard(INNER, "me", "p:w")).get("/", headers={"Authorization": header}).status_code == 401


@pytest.mark.parametrize(("n_bytes", "status"), [(10, 200), (2**16 + 100, 200), (2**16 + 101, 413), (2**18, 413)])
def test_what_is_too_large_is_refused_by_its_declared_size(n_bytes, status):
    client = TestClient(UploadGuard(INNER, 100))
    response = client.post("/api/predict", content=b"x" * n_bytes)
    assert response.status_code == status
    if status == 413:
        assert response.json()["error"]["reason"] == "too_large"


def test_what_hides_its_size_is_cut_off():
    """Pieces without a declared length: reading ends with the limit, not with the sender."""
    sent = 0

    def pieces():
        nonlocal sent
        for _ in range(10_000):
            sent += 2**14
            yield b"x" * 2**14

    response = TestClient(UploadGuard(INNER, 100)).post("/api/predict", content=pieces())
    assert response.status_code == 413
    assert response.json() == {"error": {"reason": "too_large", "message": "The file is larger than 9.53674e-05 MiB."}}


def test_a_length_that_is_no_number():
    async def ask() -> list[dict[str, object]]:
        answers: list[dict[str, object]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            answers.append(message)

        scope = {"type": "http", "method": "POST", "path": "/api/predict", "headers": [(b"content-length", b"-1")]}
        await UploadGuard(INNER, 100)(scope, receive, send)
        return answers

    assert anyio.run(ask)[0]["status"] == 413
