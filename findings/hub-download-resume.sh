#!/usr/bin/env bash
# A download of huggingface_hub that breaks off begins again at the first byte, twice against what one expects of it.
# huggingface-hub 2.4.0, without Xet (plain HTTP, as for any mirror behind HF_ENDPOINT).
#
# 1. Connection lost: it asks for a range only from the last full 10 MB (constants.DOWNLOAD_CHUNK_SIZE). What came since is
#    dropped, so a file below 10 MB is always fetched from its first byte; with smaller chunks the same file goes on.
# 2. Process ended: nothing of the file stays in the cache (the partial file has a random name and is removed), so the next
#    call has nothing to go on from, however large the file is. Older releases kept `<etag>.incomplete` and went on.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "huggingface-hub==2.4.0"
cd "$folder"
HF_HUB_DISABLE_XET=1 HF_HOME="$folder/home" HF_HUB_DISABLE_PROGRESS_BARS=1 "$folder/venv/bin/python" - <<'PY'
import hashlib
import logging
import pathlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import constants, hf_hub_download

logging.disable(logging.WARNING)
DATA = bytes(8_000_000)
ETAG, COMMIT = hashlib.sha256(DATA).hexdigest(), "a" * 40
asked, cuts = [], []


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.send_response(200)
        for name, value in (("X-Repo-Commit", COMMIT), ("ETag", f'"{ETAG}"'), ("Content-Length", str(len(DATA)))):
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self):
        wanted = self.headers.get("Range")
        asked.append(wanted)
        start = int(wanted[6:].split("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        end = cuts.pop() if cuts else len(DATA)
        self.wfile.write(DATA[start:end])
        self.close_connection = True


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_address[1]}"


def fetch(cache):
    asked.clear()
    path = hf_hub_download("somebody/model", "weights.bin", endpoint=url, cache_dir=cache)
    assert pathlib.Path(path).read_bytes() == DATA
    return list(asked)


cuts.append(6_000_000)
usual = fetch("usual")
cuts.append(6_000_000)
constants.DOWNLOAD_CHUNK_SIZE = 1_000_000
small = fetch("small")
print(f"cut at 6 MB of 8: asked for {usual}; with chunks of 1 MB {small}")
assert usual == [None, None]
assert small[0] is None and 0 < int(small[1][6:-1]) <= 6_000_000


class Stopped(BaseException):
    """As Ctrl-C in the middle."""


import httpx2  # noqa: E402

real = httpx2.Response.iter_bytes


def stopping(self, *args, **kwargs):
    for number, chunk in enumerate(real(self, *args, **kwargs)):
        if number == 5:
            raise Stopped
        yield chunk


httpx2.Response.iter_bytes = stopping
try:
    fetch("ended")
except Stopped:
    pass
httpx2.Response.iter_bytes = real
left = [p for p in pathlib.Path("ended").rglob("*") if p.is_file() and p.stat().st_size > 1000]
again = fetch("ended")
print(f"ended after 5 MB: left in the cache {left}, asked for {again} the next time")
assert left == [] and again == [None]
PY
