"""What a prediction in a fresh process imports: with its networks converted already, little."""

from __future__ import annotations

import json
import re
import subprocess
import sys

# Every one of them costs from half a second to some seconds.
HEAVY = {
    "torch",
    "torchvision",
    "facenet_pytorch",
    "timm",
    "lightning",
    "matplotlib",
    "pandas",
    "scipy",
    "sklearn",
    "onnx",
}
_PREDICT = [sys.executable, "-X", "importtime", "-m", "deepscan.cli", "predict", "--device", "cpu", "--frames", "2"]


def imported(log: str) -> set[str]:
    """Top-level packages in what `-X importtime` logs."""
    return {name.partition(".")[0] for name in re.findall(r"^import time:.*\| +([\w.]+)$", log, re.MULTILINE)}


def test_a_prediction_with_converted_networks_does_without_torch(face_clip, tmp_path):
    command = [*_PREDICT, str(face_clip), "--json", str(tmp_path / "report.json")]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr[-2000:] + second.stderr[-2000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["model"]["settings"]["runtime"] == "openvino"
    assert report["results"][0]["frames_with_face"] == 2
    modules = imported(second.stderr)
    assert {"deepscan", "numpy", "cv2", "openvino"} <= modules  # the log says what was imported
    assert not modules & HEAVY


def test_help_and_the_package_itself_import_no_runtime():
    for code in ("import deepscan", "import deepscan.cli", "import deepscan.runtimes", "import deepscan.detector"):
        log = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
        ).stderr
        assert "deepscan" in imported(log)
        assert not imported(log) & (HEAVY | {"openvino"}), code
