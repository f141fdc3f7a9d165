#!/usr/bin/env bash
# Two marks of damage that are not where one looks for them. PyAV 18.1.0 (FFmpeg 8.1 libraries).
#
# 1. MPEG transport streams: when a transport packet is lost, FFmpeg sets AV_PKT_FLAG_CORRUPT on the access unit BEFORE
#    the one that lost it; the damaged one carries no flag. Who drops flagged packets drops a good picture and decodes
#    the bad one.
# 2. H.264: with thread_type "SLICE" damaged frames that are concealed come out without a mark
#    (frame.is_corrupt is False); with one thread the same frames are marked. Frames that refer to a marked one are
#    never marked.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "av==18.1.0" "numpy==2.4.6"
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import random
from fractions import Fraction

import av
import numpy as np


def write(path):
    dice = np.random.default_rng(1)
    base = dice.integers(0, 255, (240, 320, 3), dtype=np.uint8)
    with av.open(path, "w") as out:
        options = {"bf": "0", "preset": "veryfast", "g": "60", "crf": "18"}
        stream = out.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.thread_count = 1
        for i in range(60):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(base, 3 * i, axis=1)), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def packets(path):
    with av.open(path) as container:
        return [(p.size, p.pos, p.is_corrupt) for p in container.demux(video=0) if p.size]


def decoded(path, threads):
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = threads
        stream.codec_context.thread_count = 4
        return {f.pts: (f.is_corrupt, f.to_ndarray(format="gray").astype(int)) for f in container.decode(stream)}


write("whole.ts")
whole, data = packets("whole.ts"), open("whole.ts", "rb").read()
for unit in (10, 20, 40):
    start, end = whole[unit][1], whole[unit + 1][1]
    own = [at for at in range(start, end, 188) if (data[at + 1] & 0x1F) << 8 | data[at + 2] == 0x100]
    at = own[len(own) // 2]
    open("lost.ts", "wb").write(data[:at] + data[at + 188 :])
    now = packets("lost.ts")
    shorter = [i for i, (a, b) in enumerate(zip(whole, now)) if a[0] != b[0]]
    flagged = [i for i, one in enumerate(now) if one[2]]
    print(f"transport packet of access unit {unit} lost: shorter {shorter}, flagged {flagged}")
    assert (shorter, flagged) == ([unit], [unit - 1])

n_marked = {"NONE": 0, "SLICE": 0}
n_wrong = 0
good = decoded("whole.ts", "NONE")
for seed in range(12):
    dice = random.Random(seed)
    hit = bytearray(data)
    at = whole[20][1] + dice.randrange(1000, whole[21][1] - whole[20][1] - 200)
    hit[at] ^= 1 << dice.randrange(8)
    open("hit.ts", "wb").write(hit)
    for threads in n_marked:
        n_marked[threads] += sum(marked for marked, _ in decoded("hit.ts", threads).values())
    n_wrong += sum(np.abs(p - good[t][1]).mean() > 0.5 for t, (_, p) in decoded("hit.ts", "NONE").items() if t in good)
print(f"one bit flipped, 12 times: wrong frames {n_wrong}, marked with one thread {n_marked['NONE']}, "
      f"with slice threads {n_marked['SLICE']}")
assert n_wrong > n_marked["NONE"] > n_marked["SLICE"]
PY
