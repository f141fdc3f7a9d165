"""Web addresses and stdin become files; what may not be fetched is not."""

from __future__ import annotations

import os
import socket
import sys
import textwrap

import pytest
import urllib3
from webserver import serving, write_certificate

from deepscan.errors import MediaError
from deepscan.extract.fetch import Fetcher
from deepscan.extract.inputs import expand_inputs

PUBLIC = "93.184.216.34"
CLIP = bytes(range(256)) * 300


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def fetcher():
    with Fetcher(max_bytes=100_000, max_seconds=20, allow_private=True) as fetcher:
        yield fetcher


@pytest.fixture
def names(monkeypatch, server):
    """Names that lead to numbers, one look-up after the other; what is public ends at the test's server."""
    numbers: dict[str, list[str]] = {}
    connected = []
    resolve, connect = socket.getaddrinfo, urllib3.util.connection.create_connection

    def getaddrinfo(host, port, *rest, **options):
        if host not in numbers:
            return resolve(host, port, *rest, **options)
        found = numbers[host].pop(0).split() if len(numbers[host]) > 1 else numbers[host][0].split()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port)) for number in found]

    def create_connection(address, *rest, **options):
        connected.append(address[0])
        return connect(("127.0.0.1", server.port) if address[0] == PUBLIC else address, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(urllib3.util.connection, "create_connection", create_connection)
    return numbers, connected


def reason(fetcher, given):
    with pytest.raises(MediaError) as raised:
        fetcher.fetch(given)
    assert raised.value.text == given
    assert "\n" not in str(raised.value)
    return raised.value.reason


def test_an_address_becomes_a_file_which_is_removed_in_the_end(server):
    address = server.put("/a%20b/..%2F-my%20clip.mp4", CLIP)
    with Fetcher(allow_private=True) as fetcher:
        path = fetcher.fetch(address)
        assert (path.name, path.read_bytes()) == ("my_clip.mp4", CLIP)
        assert (fetcher.given(str(path)), fetcher.file(address)) == (address, path)
        assert fetcher.given("other.mp4") == "other.mp4"
        again = fetcher.fetch(address)
        fetcher.remove(str(path))
        assert [path.exists(), again.exists()] == [False, True]
    assert not again.parent.parent.exists()


def test_this_machine_is_not_asked_by_default(server):
    address = server.put("/clip.mp4", CLIP)
    with Fetcher() as fetcher:
        for given in (address, address.replace("127.0.0.1", "localhost"), address.replace("127.0.0.1", "[::1]")):
            assert reason(fetcher, given) == "private_address"
    assert server.asked == []


@pytest.mark.parametrize(
    "number",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "::1",  # noqa: S104
        "fd00::1", "fe80::1%eth0", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", f"{PUBLIC} 10.0.0.1",
    ],
)  # fmt: skip
def test_a_name_that_leads_into_a_private_network_is_refused(names, number):
    numbers, connected = names
    numbers["clips.example"] = [number]
    with Fetcher() as fetcher:
        assert reason(fetcher, "https://clips.example/a.mp4") == "private_address"
    assert connected == []


def test_the_number_that_was_checked_is_the_one_that_is_connected_to(names, server):
    numbers, connected = names
    numbers["clips.example"] = [PUBLIC, "127.0.0.1"]
    server.put("/a.mp4", CLIP)
    with Fetcher() as fetcher:
        assert fetcher.fetch("http://clips.example/a.mp4?x=1").read_bytes() == CLIP
    assert connected == [PUBLIC]
    assert server.asked == [("/a.mp4?x=1", "clips.example")]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://127.0.0.1:{port}/a.mp4", "private_address"),
        ("http://[::ffff:127.0.0.1]:{port}/a.mp4", "private_address"),
        ("file:///etc/passwd", "url"),
        ("http://user:secret@clips.example/a.mp4", "url"),
        ("/on", "download_failed"),
    ],
)
def test_redirects_are_checked_as_well(names, server, location, expected):
    numbers, _ = names
    numbers["clips.example"] = [PUBLIC]
    server.put("/on", status=302, Location=location.format(port=server.port))
    server.put("/a.mp4", CLIP)
    with Fetcher() as fetcher:
        assert reason(fetcher, "http://clips.example/on") == expected
    assert {path for path, _ in server.asked} == {"/on"}


def test_a_redirect_is_followed(server, fetcher):
    server.put("/b/a.mp4", CLIP)
    assert fetcher.fetch(server.put("/on", status=301, Location="b/a.mp4")).read_bytes() == CLIP


def test_what_goes_wrong_has_a_reason(server, fetcher):
    assert reason(fetcher, server.put("/gone.mp4", status=410)) == "download_failed"
    assert reason(fetcher, server.put("/large.mp4", b"x" * 100_001)) == "too_large"
    assert reason(fetcher, server.put("/endless.mp4", b"x" * 100_001, Content_Length="")) == "too_large"
    assert reason(fetcher, server.put("/cut.mp4", b"x" * 10, Content_Length="20")) == "download_failed"
    assert reason(fetcher, server.put("/empty.mp4")) == "empty_file"
    assert reason(fetcher, "http://name:secret@127.0.0.1/a.mp4") == "url"
    assert reason(fetcher, "http://127.0.0.1:99999/a.mp4") == "url"
    assert reason(fetcher, "http://nowhere.invalid/a.mp4") == "download_failed"
    with Fetcher(max_seconds=0, allow_private=True) as impatient:
        assert reason(impatient, server.put("/slow.mp4", CLIP)) == "timeout"


def test_without_the_library_there_is_a_hint(monkeypatch, fetcher):
    monkeypatch.setitem(sys.modules, "urllib3", None)
    assert reason(fetcher, "https://clips.example/a.mp4") == "url"


def test_a_certificate_has_to_be_of_the_name(tmp_path, monkeypatch, fetcher):
    for name, expected in (("127.0.0.1", None), ("clips.example", "download_failed")):
        pem = write_certificate(tmp_path / f"{name}.pem", name)
        with serving(pem) as server:
            address = server.put("/a.mp4", CLIP)
            monkeypatch.delenv("SSL_CERT_FILE", raising=False)
            assert reason(fetcher, address) == "download_failed"
            monkeypatch.setenv("SSL_CERT_FILE", str(pem))
            if expected is None:
                assert fetcher.fetch(address).read_bytes() == CLIP
            else:
                assert reason(fetcher, address) == expected


def test_a_page_is_no_video(monkeypatch, server, fetcher):
    page = server.put("/watch", b"<html>", Content_Type="text/html; charset=utf-8")
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(MediaError, match="yt-dlp") as raised:
        fetcher.fetch(page)
    assert raised.value.reason == "web_page"


@pytest.mark.slow
def test_yt_dlp_gets_the_video_of_a_page_that_it_knows(tmp_path, monkeypatch, server, fetcher):
    video = server.put("/video.mp4", CLIP)
    page = server.put("/watch", b"<html>", Content_Type="text/html")
    other = server.put("/other", b"<html><video src='/video.mp4'>", Content_Type="text/html")
    plugin = tmp_path / "yt_dlp_plugins" / "extractor" / "mine.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(
        textwrap.dedent(f"""
            from yt_dlp.extractor.common import InfoExtractor

            class MineIE(InfoExtractor):
                _VALID_URL = r"http://127\\.0\\.0\\.1:\\d+/(?P<id>watch)"

                def _real_extract(self, url):
                    return {{"id": "watch", "title": "mine", "url": "{video}", "ext": "mp4"}}
        """)
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert fetcher.fetch(page).read_bytes() == CLIP
    assert reason(fetcher, other) == "web_page"  # the generic extractor would take what stands in any page


def test_each_address_once_and_only_where_they_are_fetched(server, fetcher):
    good, bad = server.put("/a.mp4", CLIP), server.put("/b.mp4", status=500)
    found = list(expand_inputs([good, bad, good], fetcher=fetcher))
    assert [(fetcher.given(str(path)), error and error.reason) for path, error in found] == [
        (good, None),
        (bad.replace("//", "/"), "download_failed"),  # the error knows what was given
    ]
    assert [path for path, _ in server.asked] == ["/a.mp4", "/b.mp4"]
    ((_, error),) = expand_inputs([good])
    assert error.reason == "url"
    ((_, error),) = expand_inputs(["rtsp://127.0.0.1/a"], fetcher=fetcher)
    assert error.reason == "url"
