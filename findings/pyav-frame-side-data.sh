#!/bin/sh
# PyAV 18.1.0: frame.side_data raises ValueError ("31 is not a valid Type") for a frame that carries any data FFmpeg has a
# number for and PyAV no name, as the Exif of a camera's JPEGs in a motion JPEG video (31), or the eye of a spatial video
# (29). The display matrix beside it cannot be read then, and frame.rotation does not tell mirroring. Expected: what has a
# name. FFmpeg's filter `sidedata` takes such data off. Exits 0 while this is so, 1 when it has changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install av==18.1.0 numpy==2.2.6 pillow==12.3.0
cat > "$folder/look.py" <<'PY'
import io
from fractions import Fraction
import av
from PIL import Image
exif, data = Image.Exif(), io.BytesIO()
exif[0x010F], exif[0x0112] = "ACME", 6
Image.new("RGB", (96, 64)).save(data, "JPEG", exif=exif)
with av.open("lapse.avi", "w") as container:
    stream = container.add_stream("mjpeg", rate=5)
    stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
    packet = av.Packet(data.getvalue())
    packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 5)
    container.mux(packet)
frame = next(av.open("lapse.avi").decode(video=0))
try:
    said = str(list(frame.side_data))
except ValueError as error:
    said = str(error)
graph = av.filter.Graph()
source = graph.add_buffer(width=96, height=64, format=frame.format, time_base=frame.time_base)
cut, sink = graph.add("sidedata", "mode=delete:type=31"), graph.add("buffersink")
source.link_to(cut), cut.link_to(sink), graph.configure()
source.push(frame)
named = [kind.type.name for kind in sink.pull().side_data]
print(said, "| without Exif:", named, "| rotation", frame.rotation)
assert said == "31 is not a valid Type" and named == ["DISPLAYMATRIX"]
PY
cd "$folder" && venv/bin/python look.py
