#!/usr/bin/env bash
# Encoding AV1 with PyAV's libsvtav1 as root leaves the calling process under real-time scheduling (SCHED_FIFO, priority 99);
# programs that it starts afterwards inherit that. Other encoders leave the process as it was. PyAV 18.1.0, Linux.
# Two such children that wait busily (Playwright's driver did) take both cores of a small machine from everything else.
# Expected output: "libx264 0", "libx265 0", "libsvtav1 1, a child 1" (0 is SCHED_OTHER, 1 SCHED_FIFO).
set -euo pipefail
[[ $EUID == 0 ]] || { echo "only root is affected: not tried"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "av==18.1.0" "numpy<3"
"$work/venv/bin/python" - <<'EOF' | tee "$work/seen"
import io
import os
import subprocess
import sys

import av
import numpy as np

for codec in ("libx264", "libx265", "libsvtav1"):
    with av.open(io.BytesIO(), "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for level in range(0, 100, 20):
            picture = np.full((128, 128, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    line = f"{codec} {os.sched_getscheduler(0)}"
    if codec == "libsvtav1":
        child = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"]
        line += f", a child {subprocess.run(child, capture_output=True, text=True).stdout.strip()}"
    print(line)
EOF
diff <(printf '%s\n' "libx264 0" "libx265 0" "libsvtav1 1, a child 1") "$work/seen"
