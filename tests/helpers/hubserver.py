"""A stand-in for the Hugging Face Hub: repositories in memory behind the HTTP calls that huggingface_hub makes.

Files of ``LFS`` are answered by a redirect to a store that knows ranges, as on the Hub; all others from the repository.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

LFS = (".safetensors",)
TOKEN = "hf_stand_in"  # noqa: S105


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass
class Hub:
    """What the server holds, and which calls it got."""

    url: str = ""
    store: str = ""  # large files are elsewhere, by another name of this machine
    commits: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)  # of a repository, the oldest first
    objects: dict[str, bytes] = field(default_factory=dict)  # by sha256
    gated: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    ranges: list[str] = field(default_factory=list)
    tokens_at_store: int = 0
    cut_at: int | None = None  # the next large file ends after so many bytes

    def sha(self, repository: str, number: int = -1) -> str:
        """The commit's name."""
        number %= len(self.commits[repository])
        return hashlib.sha1(f"{repository} {number}".encode(), usedforsecurity=False).hexdigest()

    def files(self, repository: str, revision: str) -> dict[str, bytes] | None:
        """Of a branch or a commit; None where there is no such revision."""
        history = self.commits[repository]
        if revision == "main":
            return history[-1]
        names = {self.sha(repository, number): files for number, files in enumerate(history)}
        return names.get(revision)


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A server on this machine for as long as it is used."""
    hub = Hub()

    class Bound(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    hub.url, hub.store = (f"http://{name}:{server.server_address[1]}" for name in ("127.0.0.1", "localhost"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._read()

    def do_GET(self) -> None:
        self._read()

    def _read(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            self._info(match[1], match[2] or "revision", match[3] or "main")
        elif match := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            self._object(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups())
        else:
            self._answer(404, b"")

    def _refused(self, repository: str, revision: str) -> bool:
        hub = self.state
        if repository not in hub.commits:
            self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif repository in hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
        elif hub.files(repository, revision) is None:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            return False
        return True

    def _info(self, repository: str, kind: str, revision: str) -> None:
        hub = self.state
        hub.calls[f"GET /api/models/{{repo}}/{kind}/{{revision}}"] += 1
        if self._refused(repository, revision):
            return
        files = hub.files(repository, revision) or {}
        if kind == "tree":
            self._json([self._entry(name, data) for name, data in files.items()])
            return
        sha = hub.sha(repository) if revision == "main" else revision
        self._json({"id": repository, "sha": sha, "siblings": [{"rfilename": name} for name in files]})

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        entry = {"type": "file", "path": name, "size": len(data), "oid": git_oid(data)}
        if name.endswith(LFS):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry

    def _resolve(self, repository: str, revision: str, name: str) -> None:
        hub = self.state
        large = name.endswith(LFS)
        hub.calls[f"{self.command} /{{repo}}/resolve/{{revision}}/{{file}}, {'LFS' if large else 'regular'}"] += 1
        if self._refused(repository, revision):
            return
        data = (hub.files(repository, revision) or {}).get(name)
        if data is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": hub.sha(repository) if revision == "main" else revision}
        if not large:
            self._answer(200, data, headers | {"ETag": f'"{git_oid(data)}"'})
            return
        digest = hashlib.sha256(data).hexdigest()
        hub.objects.setdefault(digest, data)
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        self._answer(302, b"", headers | linked | {"Location": f"{hub.store}/lfs/{digest}"})

    def _object(self, digest: str) -> None:
        hub = self.state
        data, start = hub.objects[digest], 0
        hub.calls[f"{self.command} of the large file"] += 1
        hub.tokens_at_store += "Authorization" in self.headers
        if wanted := self.headers.get("Range"):
            hub.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        part = data[start:]
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if wanted else {}
        if hub.cut_at is None or self.command == "HEAD":
            self._answer(206 if wanted else 200, part, headers)
            return
        part, hub.cut_at = part[: hub.cut_at], None
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(part)
        self.close_connection = True

    def do_PUT(self) -> None:
        self.state.calls["PUT of the large file"] += 1
        self.state.objects[self.path.rpartition("/")[2]] = self._body()
        self._answer(200, b"")

    def do_POST(self) -> None:
        body, hub = self._body(), self.state
        path = unquote(urlsplit(self.path).path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, b'{"error": "Invalid username or password."}')
        elif path == "/api/repos/create":
            hub.calls["POST /api/repos/create"] += 1
            sent = json.loads(body)
            name = f"{sent['organization']}/{sent['name']}"
            hub.commits.setdefault(name, [{}])
            self._json({"url": f"{hub.url}/{name}"})
        elif path == "/api/validate-yaml":
            hub.calls["POST /api/validate-yaml"] += 1
            self._json({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            hub.calls["POST /api/models/{repo}/preupload/{revision}"] += 1
            modes = [
                (one["path"], "lfs" if one["path"].endswith(LFS) else "regular") for one in json.loads(body)["files"]
            ]
            self._json({"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]})
        elif path.endswith(".git/info/lfs/objects/batch"):
            hub.calls["POST /{repo}.git/info/lfs/objects/batch"] += 1
            self._json({"transfer": "basic", "objects": [self._upload(one) for one in json.loads(body)["objects"]]})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            hub.calls["POST /api/models/{repo}/commit/{revision}"] += 1
            self._commit(match[1], [json.loads(line) for line in body.splitlines() if line.strip()])
        elif path == "/lfs/verify":
            hub.calls["POST to verify the large file"] += 1
            sent = json.loads(body)
            self._answer(200 if len(hub.objects.get(sent["oid"], b"")) == sent["size"] else 400, b"")
        else:
            self._answer(404, b"")

    def _upload(self, wanted: dict[str, Any]) -> dict[str, Any]:
        answer = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] in self.state.objects:
            return answer
        url = self.state.url
        return answer | {
            "actions": {"upload": {"href": f"{url}/lfs/{wanted['oid']}"}, "verify": {"href": f"{url}/lfs/verify"}}
        }

    def _commit(self, repository: str, lines: list[dict[str, Any]]) -> None:
        files = dict(self.state.commits[repository][-1])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.state.objects[value["oid"]]
        self.state.commits[repository].append(files)
        sha = self.state.sha(repository)
        self._json({"commitUrl": f"{self.state.url}/{repository}/commit/{sha}", "commitOid": sha, "success": True})

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, content: Any) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
