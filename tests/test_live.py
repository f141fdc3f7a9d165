"""A running verdict on a camera, a stream or a looped file."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice, pairwise

import clips
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner
from webserver import serving

import deepscan
from deepscan.cli import app
from deepscan.config import DEFAULT_LIMITS, PredictSettings
from deepscan.detector import load_detector
from deepscan.errors import MediaError
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.in_memory import InMemory
from deepscan.extract.video.live import MAX_SIDE_PX, live_frames
from deepscan.live import watch
from deepscan.types import Frame


@pytest.fixture(scope="module")
def detector():
    return load_detector(settings=PredictSettings(frames=6, device="cpu", tta=False))


def window(frames, start):
    taken = [replace(frame, index=i) for i, frame in enumerate(frames[start : start + 6])]
    return InMemory("camera", "video", tuple(taken), taken[-1].time_s - taken[0].time_s)


def test_a_window_that_slides_gives_what_a_clip_of_it_gives_and_looks_at_new_pictures_only(detector, monkeypatch):
    frames = [Frame(image, i / 2, i) for i, image in enumerate(clips.moving_portrait(8))]
    whole = [next(detector.analyze_many([(window(frames, start), None)])).result for start in range(3)]
    looked_at = []
    detect = FaceFinder.detect

    def counted(self, images, **options):
        looked_at.append(len(images))
        return detect(self, images, **options)

    monkeypatch.setattr(FaceFinder, "detect", counted)
    judge = detector.remembering()
    sliding = [next(judge.analyze_many([(window(frames, start), None)])).result for start in range(3)]
    assert sum(looked_at) == len(frames)
    for one, other in zip(sliding, whole, strict=True):
        assert (one.verdict, one.reason) == (other.verdict, other.reason)
        assert one.probability == pytest.approx(other.probability, abs=1e-4)
    assert len(whole[0].tracks) == 1


def test_a_file_is_shown_again_and_again_at_its_own_pace(tmp_path):
    clip = clips.write_video(tmp_path / "clip.mp4", clips.numbered_frames(10), fps=20)  # half a second
    start, taken = time.monotonic(), []
    for frame in live_frames(str(clip), 0.1, DEFAULT_LIMITS):
        taken.append(frame)
        if len(taken) == 8:
            break
    assert time.monotonic() - start > 0.65  # seven times 0.1 s, less a picture's time
    assert [frame.index for frame in taken] == list(range(len(taken)))
    numbers = [clips.frame_number(frame.image) for frame in taken]
    assert any(after < before for before, after in pairwise(numbers))


def test_a_stream_comes_by_its_address_and_may_be_lost(tmp_path):
    clip = clips.write_video(tmp_path / "clip.mp4", clips.numbered_frames(10))
    with serving() as server:
        address = server.put("/clip.mp4", clip.read_bytes())
        assert len(list(live_frames(address, 0.0, DEFAULT_LIMITS))) == 10
    for source in (address, "rtsp://127.0.0.1:9/a", str(tmp_path), "clip.mp5", "99"):
        with pytest.raises(MediaError) as raised:
            next(live_frames(source, 0.0, DEFAULT_LIMITS))
        assert raised.value.reason == "no_stream"
        assert "\n" not in str(raised.value)


def test_a_camera_gives_rgb_and_large_pictures_are_scaled_down(monkeypatch):
    class Camera:
        left = 3

        def __init__(self, number):
            assert number == 1

        def isOpened(self):  # noqa: N802 - OpenCV's name
            return True

        def grab(self):
            self.left -= 1
            return self.left >= 0

        def retrieve(self):
            return True, np.full((20, 2 * MAX_SIDE_PX, 3), (1, 2, 3), np.uint8)

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    frames = live_frames("1", 0.0, DEFAULT_LIMITS)
    first = next(frames)
    assert (first.image.shape, first.image[0, 0].tolist()) == ((10, MAX_SIDE_PX, 3), [3, 2, 1])
    with pytest.raises(MediaError):
        list(frames)


def test_a_watched_clip_is_judged_again_and_again(detector, face_clip):
    answers = list(islice(watch(detector, str(face_clip), every_s=0.2, window_s=1.0), 2))
    assert all(after.time_s > before.time_s for before, after in pairwise(answers))
    last = answers[-1].result
    assert (last.path, last.kind, len(last.tracks)) == (str(face_clip), "video", 1)
    assert 0 < last.frames_sampled <= 6
    assert last.duration_s <= 1.0
    with pytest.raises(MediaError):
        next(watch(detector, "rtsp://127.0.0.1:9/a"))


@pytest.mark.slow
def test_the_command_gives_a_line_a_second(face_clip):
    options = ["--live", str(face_clip), "--frames", "4", "--no-tta"]
    run = CliRunner().invoke(app, ["predict", *options, "--live-seconds", "4", "--threshold", "0.001", "--exit-code"])
    assert run.exit_code == 1, run.output
    lines = [line for line in run.stdout.splitlines() if line.startswith("00:00:0")]
    assert 1 <= len(lines) <= 5
    assert "FAKE" in lines[-1]
    assert f"{len(lines)} answer" in run.stdout
    assert CliRunner().invoke(app, ["predict", *options, "--json", "-"]).exit_code == 2
    assert CliRunner().invoke(app, ["predict", "--live", "nothing.mp4"]).exit_code == 3


def test_python_fetches_and_watches_nothing():
    detector = deepscan.load_detector(device="cpu")
    for given in ("https://127.0.0.1/a.mp4", "rtsp://127.0.0.1/a"):
        with pytest.raises(MediaError) as raised:
            detector.predict(given)
        assert raised.value.reason == "url"
