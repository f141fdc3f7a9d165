"""The benchmark of face detection: figures come out of a short run, and they add up."""

from __future__ import annotations

import time

# Scripts, no package: they find each other where they lie.
import detect
import numpy as np
import pytest

from deepscan.config import FaceSettings
from deepscan.types import Face


def face(x=0.0, side=60.0, confidence=0.99, shift=0.0):
    landmarks = np.full((5, 2), x + shift, np.float32)
    return Face((x, 0.0, x + side, side), confidence, landmarks)


@pytest.mark.slow
def test_a_short_run(face_clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DEEPSCAN_CACHE", str(tmp_path))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    arguments = [str(face_clip), str(tmp_path / "broken.mp4"), "--frames", "2", "--repeats", "1"]
    assert detect.main(arguments) == 3
    captured = capsys.readouterr()
    assert "broken.mp4: cannot be read" in captured.err
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in captured.out.splitlines() if "| " in line]
    (reference,) = [row for row in rows if row[:3] == ["face", "320x240", "facenet-pytorch"]]
    (ours,) = [row for row in rows if row[:3] == ["face", "320x240", "torch"]]
    for row in (reference, ours):
        *stages, total = (float(cell) for cell in row[3:-1])
        assert sum(stages) == pytest.approx(total, abs=0.5)
        assert min(stages) >= 0
        assert float(row[4]) > 0  # P-Net
    (agreement,) = [row for row in rows if row[:3] == ["face", "torch", "2"]]
    assert agreement[3] == "100.0%"
    assert "2 of 2 faces found" in captured.out


def test_time_counts_in_the_innermost_stage(monkeypatch):
    clock = [0.0]

    def take(seconds):
        clock[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    watch = detect.Stopwatch()
    inner = watch.around("P-Net", lambda: take(3.0))
    outer = watch.around(lambda: "NMS", lambda: (inner(), take(1.0)))
    outer()
    assert watch.seconds["P-Net"] == 3.0
    assert watch.seconds["NMS"] == 1.0


def test_agreement_counts_the_faces_that_are_scored():
    wanted = [[face(), face(200), face(400, side=30), face(600, confidence=0.8)], [face()]]
    ours = [[face(shift=3), face(240)], []]
    result = detect.compare(ours, wanted, FaceSettings())
    assert result.n == 3
    assert result.recall == pytest.approx(1 / 3)
    assert result.distances == pytest.approx([3 * 2**0.5])


def test_the_search_alone(face_clip, capsys):
    assert detect.main([str(face_clip), "--frames", "8", "--no-times"]) == 0
    out = capsys.readouterr().out
    assert "Milliseconds" not in out
    assert "8 of 8 faces found (100.00%)" in out
