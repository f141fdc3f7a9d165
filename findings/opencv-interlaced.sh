#!/bin/sh
# opencv-python-headless 4.13.0.92 and 5.0.0.93 (Linux wheels): of interlaced video every read() gives True and a picture
# that has nothing of the frame in it; FFmpeg's scaler, inside, says "Cannot convert interlaced to progressive frames" on
# stderr. 4.12.0.88 reads all of them. Expected: False, an exception, or the frame. A valid H.264 file (x264, flagged
# as interlaced) is made with PyAV 18.1.0, which reads it. Exits 0 while this is so, 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip="$folder/venv/bin/pip --quiet --disable-pip-version-check"
$pip install av==18.1.0 numpy==2.2.6
cat > "$folder/make.py" <<'PY'
from fractions import Fraction
import av, numpy as np
y, x = np.mgrid[:240, :320]
with av.open("clip.mp4", "w") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
    stream.codec_context.flags |= 0x20000000 | 0x40000  # code fields
    for i in range(10):
        picture = np.stack([(x + 5 * i) % 256, (y * 2) % 256, (x + y) % 256], axis=2).astype(np.uint8)
        graph = av.filter.Graph()
        source = graph.add_buffer(width=320, height=240, format="yuv420p", time_base=Fraction(1, 25))
        mark, sink = graph.add("setfield", "mode=tff"), graph.add("buffersink")
        source.link_to(mark), mark.link_to(sink), graph.configure()
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = i, Fraction(1, 25)
        source.push(frame)
        container.mux(stream.encode(sink.pull()))
    container.mux(stream.encode(None))
frames = [f.to_ndarray(format="bgr24") for f in av.open("clip.mp4").decode(video=0)]
np.save("frames.npy", frames)
PY
cat > "$folder/read.py" <<'PY'
import sys, cv2, numpy as np
frames, capture, same, n = np.load("frames.npy"), cv2.VideoCapture("clip.mp4", cv2.CAP_FFMPEG), 0, 0
while True:
    ok, picture = capture.read()
    if not ok:
        break
    same += np.abs(picture.astype(int) - frames[n]).mean() < 5
    n += 1
print(f"OpenCV {cv2.__version__}: {n} of {len(frames)} reads succeed, {same} give the frame")
sys.exit(0 if (n, same) == (10, int(sys.argv[1])) else 1)
PY
cd "$folder"
venv/bin/python make.py
for case in 4.12.0.88:10 4.13.0.92:0 5.0.0.93:0; do
    $pip install "opencv-python-headless==${case%:*}"
    venv/bin/python read.py "${case#*:}" 2> said.txt || { cat said.txt >&2; exit 1; }
done
