#!/bin/sh
# FFmpeg 8's bwdif (through PyAV 18.1.0) leaves all combs in a frame that is pushed alone: it takes the frame for its own
# neighbour and finds that nothing moves; what it gives is marked as progressive all the same. yadif takes out the most.
# Whoever picks single frames has to push those before and after, too; estdif looks at one frame only.
# Expected: a frame of one moment, or an error. Exits 0 while this is so, 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install av==18.1.0 numpy==2.2.6
cat > "$folder/look.py" <<'PY'
from fractions import Fraction
import av, numpy as np
y, x = np.mgrid[:240, :320]
def moment(t):
    return (128 + 100 * np.sin((x + 3 * t) / 9) * np.cos(y / 17)).astype(np.uint8)
def frame(i):
    both = moment(2 * i)
    both[1::2] = moment(2 * i + 1)[1::2]
    made = av.VideoFrame.from_ndarray(both, format="gray")
    made.pts, made.time_base = i, Fraction(1, 25)
    return made
def error(filters, frames, place):
    graph = av.filter.Graph()
    last = source = graph.add_buffer(width=320, height=240, format="gray", time_base=Fraction(1, 25))
    for name, options in [("setfield", "mode=tff"), *filters, ("buffersink", None)]:
        following = graph.add(name, options)
        last.link_to(following)
        last = following
    graph.configure()
    for each in [*frames, None]:
        source.push(each)
    given = [last.pull() for _ in frames][place]
    return round(float(np.abs(given.to_ndarray().astype(int) - moment(10)).mean()), 2), given.interlaced_frame
combed = round(float(np.abs(frame(5).to_ndarray().astype(int) - moment(10)).mean()), 2)
alone, among = [frame(5)], [frame(4), frame(5), frame(6)]
seen = {"nothing done": combed}
for name, options in (("bwdif", "mode=send_frame"), ("yadif", "mode=send_frame"), ("estdif", "mode=frame")):
    seen[name] = {"alone": error([(name, options)], alone, 0), "among others": error([(name, options)], among, 1)}
print(seen)
assert seen["bwdif"]["alone"] == (combed, False)
assert seen["bwdif"]["among others"][0] < combed / 4 and seen["estdif"]["alone"][0] < combed / 4
PY
cd "$folder" && venv/bin/python look.py
