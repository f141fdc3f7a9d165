"""Inputs that are no files yet: web addresses are fetched, what comes through stdin is kept, as temporary files.

Nothing of it is decoded here; the files go the way of all others. An address is looked up once, what it leads to is
checked, and the connection goes to just that: a name cannot mean another machine a moment later. The same holds for
each redirect. Proxies of the environment are not used, since nothing could be checked behind them.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from deepscan.extract.file_kinds import NoFileError
from deepscan.version import install_command

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

MAX_BYTES = 4 * 2**30
MAX_SECONDS = 1800.0
_CONNECT_S, _STALL_S = 10.0, 30.0
_MOST_REDIRECTS = 5
_PIECE_BYTES = 1 << 16
_PAGES = ("text/html", "application/xhtml+xml")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Fetcher:
    """Makes files of inputs that are none. A context manager: in the end its files are removed.

    Args:
        max_bytes: of one input.
        max_seconds: that fetching one may take.
        allow_private: also addresses of this machine and of networks that are not public.
    """

    def __init__(
        self, *, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS, allow_private: bool = False
    ) -> None:
        self._max_bytes, self._max_seconds, self._allow_private = max_bytes, max_seconds, allow_private
        self._folder: Path | None = None
        self._n_files = 0
        self._given: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def takes(self, given: str) -> bool:
        """Whether this is an input to be fetched: stdin (``-``) or a web address."""
        return given == "-" or re.match(r"(https?://|www\.)", given, re.IGNORECASE) is not None

    def fetch(self, given: str) -> Path:
        """The file of an input.

        Raises:
            NoFileError: there is none; the reason is ``stdin``, ``url``, ``private_address``, ``download_failed``,
                ``web_page``, ``too_large``, ``empty_file`` or ``timeout``.
        """
        if given == "-":
            path = self._room() / "stdin"
            _write(given, path, _read_stdin(), self._max_bytes)
        else:
            address = given if "://" in given else f"https://{given}"
            path = self._room() / _file_name(urlsplit(address).path)
            path = self._fetch(given, address, path)
        self._given[str(path)] = given
        return path

    def given(self, path: str) -> str:
        """What a path was made of; the path itself where it was not made here."""
        return self._given.get(path, path)

    def file(self, given: str) -> Path:
        """The file that was made of an input; the input itself where none was."""
        return Path(next((path for path, name in self._given.items() if name == given), given))

    def remove(self, path: str) -> None:
        """Remove a file that is not needed any more."""
        if self._given.pop(path, None) is not None:
            shutil.rmtree(Path(path).parent, ignore_errors=True)

    def _room(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="deepscan-"))
        self._n_files += 1
        room = self._folder / str(self._n_files)
        room.mkdir()
        return room

    def _fetch(self, given: str, address: str, path: Path) -> Path:
        try:
            import urllib3
        except ModuleNotFoundError as error:
            raise _failed(
                given, f"fetching it needs {error.name}", f"Install it with {install_command('download')}.", "url"
            ) from error
        until = time.monotonic() + self._max_seconds
        try:
            response = self._open(given, address)
            try:
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                if kind in _PAGES:
                    return self._from_page(given, address, path)
                if response.status != 200:
                    why = f"the server answers {response.status} {response.reason or ''}".rstrip()
                    raise _failed(given, why, "Check the address in a browser.", "download_failed")
                size = response.headers.get("Content-Length", "")
                if size.isdecimal() and int(size) > self._max_bytes:
                    raise _too_large(given, self._max_bytes)
                _write(given, path, _pieces(given, response, until), self._max_bytes)
            finally:
                response.close()
        except urllib3.exceptions.TimeoutError as error:
            raise _timeout(given) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            cause = getattr(error, "reason", None) or error
            why = " ".join(str(getattr(cause, "strerror", None) or cause).split())[:200]
            raise _failed(
                given, why, "Check the address in a browser, or download it with one.", "download_failed"
            ) from (error)
        return path

    def _open(self, given: str, address: str) -> BaseHTTPResponse:
        """The answer at the end of all redirects."""
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._ask(given, address)
            location = response.get_redirect_location()
            if not location:
                return response
            response.close()
            before, address = address, urljoin(address, location)
            if before.startswith("https:") and not address.startswith("https:"):
                raise _failed(given, "it leads away from https", "Give the address that it leads to.", "url")
        raise _failed(given, "it leads on and on", "Give the address of the file itself.", "download_failed")

    def _ask(self, given: str, address: str) -> BaseHTTPResponse:
        import urllib3

        parts = _split(given, address)
        host, is_safe = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if is_safe else 80)
        failure: Exception | None = None
        shown_host = parts.netloc.rpartition("@")[2]
        for ip in self._ips(given, host, port):
            shared: dict[str, Any] = {
                "timeout": urllib3.Timeout(connect=_CONNECT_S, read=_STALL_S), "retries": False, "maxsize": 1
            }  # fmt: skip
            pool: urllib3.HTTPConnectionPool
            if is_safe:
                # The connection goes to the number, the certificate has to be of the name.
                pool = urllib3.HTTPSConnectionPool(
                    ip, port, ssl_context=ssl.create_default_context(), server_hostname=host, assert_hostname=host,
                    **shared,
                )  # fmt: skip
            else:
                pool = urllib3.HTTPConnectionPool(ip, port, **shared)
            headers = {"Host": shown_host, "User-Agent": "deepscan", "Accept": "*/*", "Accept-Encoding": "identity"}
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            try:
                return pool.request(
                    "GET", target, headers=headers, redirect=False, preload_content=False, decode_content=False
                )
            except urllib3.exceptions.NewConnectionError as error:
                failure = error
        assert failure is not None  # noqa: S101 - there is at least one number
        raise failure

    def _ips(self, given: str, host: str, port: int) -> list[str]:
        """The numbers of a host, all of which may be connected to."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            why = f"there is no host {host}"
            raise _failed(given, why, "Check the address and the network.", "download_failed") from error
        ips = list(dict.fromkeys(str(one[4][0]) for one in found))
        if not self._allow_private and not all(map(_is_public, ips)):
            raise _failed(
                given,
                f"{host} is this machine or in a private network",
                "If it is meant, add --allow-private-addresses.",
                "private_address",
            )
        return ips

    def _from_page(self, given: str, address: str, path: Path) -> Path:
        """The video of a page, by yt-dlp where it is installed."""
        if find_spec("yt_dlp") is None:
            hint = (
                f"yt-dlp gets videos from pages: {install_command('download')}, or give the address of the file itself."
            )
            raise _failed(given, "it is a page, and no video", hint, "web_page")
        # Of sites that it knows only: the generic extractor would follow whatever stands in a page.
        command = [
            sys.executable, "-m", "yt_dlp", "--ignore-config", "--no-playlist", "--quiet", "--no-warnings",
            "--no-progress", "--ies", "default,-generic", "--socket-timeout", f"{_STALL_S:g}",
            "--max-filesize", str(self._max_bytes), "--format", "bv*/b", "--format-sort", "res:1080",
            "--output", str(path.parent / "video.%(ext)s"), "--", address,
        ]  # fmt: skip
        try:
            done = subprocess.run(  # noqa: S603 - no shell, and the address comes after --
                command,
                capture_output=True,
                text=True,
                timeout=self._max_seconds,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as error:
            raise _timeout(given) from error
        files = [file for file in path.parent.iterdir() if file.suffix != ".part"]
        if done.returncode or len(files) != 1:
            why = f"yt-dlp: {(done.stderr.strip().splitlines() or ['no video'])[-1].removeprefix('ERROR: ')[:200]}"
            raise _failed(given, why, "Give the address of the file itself.", "web_page")
        if files[0].stat().st_size > self._max_bytes:
            raise _too_large(given, self._max_bytes)
        return files[0]


def _split(given: str, address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        ok = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        ok = False
    if not ok:
        raise _failed(given, "it leads to no web address", "Give an address that begins with https://.", "url")
    if parts.username is not None:
        hint = "Download it with a browser or curl, and give the file."
        raise _failed(given, "a name and password in an address would stand in every report", hint, "url")
    return parts


def _is_public(ip: str) -> bool:
    """Whether a number is in the public network, also where it stands within another."""
    number = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(number, ipaddress.IPv6Address):
        inner = number.ipv4_mapped or number.sixtofour or (number.teredo or (None, None))[1]
        if number in _NAT64:
            inner = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
        if inner is not None and not _is_public(str(inner)):
            return False
    return number.is_global and not number.is_multicast


def _pieces(given: str, response: BaseHTTPResponse, until: float) -> Iterator[bytes]:
    while piece := response.read1(_PIECE_BYTES):
        if time.monotonic() > until:
            raise _timeout(given)
        yield piece


def _read_stdin() -> Iterator[bytes]:
    try:
        # By its number: there is no sys.stdin when it was closed.
        with open(0, "rb", closefd=False) as file:
            if file.isatty():
                raise _failed("-", "nothing is piped into it", "Such as: cat clip.mp4 | deepscan predict -", "stdin")
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except OSError as error:
        why = error.strerror or str(error)
        raise _failed("-", f"stdin cannot be read: {why}", "Give the file itself.", "stdin") from error


def _write(given: str, path: Path, pieces: Iterator[bytes], max_bytes: int) -> None:
    n_bytes = 0
    with path.open("wb") as file:
        for piece in pieces:
            n_bytes += len(piece)
            if n_bytes > max_bytes:
                raise _too_large(given, max_bytes)
            file.write(piece)
    if not n_bytes:
        raise _failed(given, "nothing came", "Check where it comes from.", "empty_file")


def _file_name(path: str) -> str:
    """The end of an address as a plain name."""
    name = re.sub(r"[^\w.-]+", "_", unquote(path).rpartition("/")[2])[-80:].lstrip(".-")
    return name or "download"


def _failed(given: str, why: str, hint: str, reason: str) -> NoFileError:
    error = NoFileError(f"{given}: cannot be had", why, hint, reason=reason)
    error.text = given
    return error


def _too_large(given: str, max_bytes: int) -> NoFileError:
    why = f"it is larger than {max_bytes / 1e6:,.0f} MB"
    return _failed(given, why, "Cut it to the part in question, and give the file.", "too_large")


def _timeout(given: str) -> NoFileError:
    return _failed(given, "it takes too long to come", "Try again later, or download it with a browser.", "timeout")
