#!/bin/sh
# PyAV 18.1.0 (FFmpeg 8), given animations of 24 pictures that Pillow 12.3.0 wrote and reads back whole:
# - AVIF: streams.video[0], which decode(video=0) takes, is a still of one picture; the 24 are in streams.video[1].
# - WebP: InvalidDataError, though FFmpeg lists a decoder and an encoder for it.
# - PNG: all of them.
# Expected: all of them. Exits 0 while this is so, 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install av==18.1.0 numpy==2.2.6 pillow==12.3.0
cat > "$folder/look.py" <<'PY'
import av, numpy as np
from PIL import Image
av.logging.set_level(None)
pictures = [Image.fromarray(np.full((64, 128, 3), 10 * i, np.uint8)) for i in range(24)]
def count(name, stream=0):
    try:
        with av.open(name) as container:
            return sum(1 for _ in container.decode(container.streams.video[stream]))
    except av.FFmpegError as error:
        return type(error).__name__
seen = {}
for name in ("a.png", "a.avif", "a.webp"):
    pictures[0].save(name, save_all=True, append_images=pictures[1:], duration=125)
    with Image.open(name) as image:
        assert image.n_frames == 24
    seen[name] = count(name)
seen["a.avif, stream 1"] = count("a.avif", 1)
print(seen)
assert seen == {"a.png": 24, "a.avif": 1, "a.webp": "InvalidDataError", "a.avif, stream 1": 24}
PY
cd "$folder" && venv/bin/python look.py
