"""Graded changes: real operations, graded, repeatable, and the same on crops as on frames."""

from __future__ import annotations

import io
import itertools

import av
import cv2
import numpy as np
import pytest

from deepscan.errors import ConfigError
from deepscan.evaluate.robustness.codecs import LOSSLESS, STILL_FRAMES, Coding, coded, h264_round_trip, write_clip
from deepscan.evaluate.robustness.corruptions import (
    CHANGES,
    Change,
    Setting,
    change_crops,
    pick_changes,
    run_steps,
)
from deepscan.extract.video.frames import sample_frames
from deepscan.train.augment import AugmentParameters, augment
from deepscan.types import Frame

SIDE = 64
# Of these the pixels themselves move, so that a difference of pixels does not grow with the strength.
MOVED = ("crop", "screen")


@pytest.fixture(scope="module")
def crops(portrait):
    """Six frames of a face ``uint8 [6, 64, 64, 3]`` that drifts to the right."""
    cut = [portrait[60:180, 160 + 2 * i : 280 + 2 * i] for i in range(6)]
    return np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in cut])


def frames_of(images):
    return [Frame(image, i / 25, i) for i, image in enumerate(images)]


def setting(**changes):
    return Setting(**{"seed": 0, "rate": 25.0, "boxes": lambda _: [], **changes})


def distance(a, b):
    return float(np.abs(a.astype(float) - b).mean())


def blocks(image):
    """How much more neighbours differ across the borders of 8 px blocks than elsewhere."""
    grey = image.astype(float).mean(axis=-1)
    steps = np.abs(np.diff(grey, axis=-1)).mean(axis=tuple(range(grey.ndim - 1)))
    at = np.arange(len(steps)) % 8 == 7
    return steps[at].mean() / steps[~at].mean()


# The registry


def test_there_is_every_kind_of_change():
    assert set(CHANGES) >= {
        "jpeg", "h264-crf", "hevc-crf", "h264-rate", "hevc-rate", "social", "rescale", "blur", "noise", "darken",
        "low-light", "brighten", "gamma-up", "gamma-down", "frame-drop", "crop", "screen", "occlusion",
    }  # fmt: skip
    for name, change in CHANGES.items():
        assert change.name == name
        assert change.ordered(change.strengths) == change.strengths
        assert len(change.strengths) >= 4


@pytest.mark.parametrize("name", CHANGES)
def test_crops_stay_crops_the_same_for_a_seed_and_the_given_ones_as_they_were(name, crops):
    before = crops.copy()
    for strength in CHANGES[name].strengths:
        out, kept = change_crops(CHANGES[name], strength, crops, seed=1)
        assert (out.shape[1:], out.dtype) == (crops.shape[1:], np.uint8)
        assert len(out) == len(kept) >= 1
        assert list(kept) == sorted(set(kept))
    again, _ = change_crops(CHANGES[name], strength, crops, seed=1)
    np.testing.assert_array_equal(again, out)
    np.testing.assert_array_equal(crops, before)


def test_the_same_frames_give_the_same_bytes(portrait):
    """Also at a size that x264's macroblock tree does not fit, whatever lies in memory: it gave seven forms in 120."""
    images = [cv2.resize(portrait[60:180, 160 + i : 280 + i], (72, 72), interpolation=cv2.INTER_AREA) for i in range(6)]
    made = set()
    for n in range(40):
        np.random.default_rng(n).integers(0, 255, 1000 * n + 1, dtype=np.uint8)
        file = io.BytesIO()
        write_clip(file, frames_of(images), Coding("libx264", crf=23), 25.0)
        made.add(file.getvalue())
    assert len(made) == 1


@pytest.mark.parametrize("name", [name for name in CHANGES if name not in (*MOVED, "frame-drop")])
def test_a_stronger_change_changes_more(name, crops):
    change = CHANGES[name]
    lost = [distance(change_crops(change, s, crops, seed=0)[0], crops) for s in change.strengths]
    assert lost[0] > 0.2
    # The buffer of an encoder has a least size: the lowest rates of a picture this small are one.
    assert all(b >= a for a, b in itertools.pairwise(lost)), lost
    assert lost[-1] > 1.5 * lost[0], lost


def test_another_seed_gives_another_noise(crops):
    one, two = (change_crops(CHANGES["noise"], 10, crops, seed=seed)[0] for seed in (0, 1))
    assert distance(one, two) > 5
    # Each frame has grain of its own, and as much as was asked for.
    grey = np.full((4, SIDE, SIDE, 3), 128, np.uint8)
    out = change_crops(CHANGES["noise"], 10, grey, seed=0)[0].astype(float) - 128
    assert out.std() == pytest.approx(10, rel=0.05)
    assert abs(np.corrcoef(out[0].ravel(), out[1].ravel())[0, 1]) < 0.05


# What each does


def test_jpeg_is_a_real_jpeg(crops):
    out, _ = change_crops(CHANGES["jpeg"], 10, crops, seed=0)
    bgr = cv2.cvtColor(crops[2], cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 10])[1]
    np.testing.assert_array_equal(out[2], cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
    assert blocks(out) > 1.5 * blocks(crops)


def test_light():
    grey = np.full((1, SIDE, SIDE, 3), 100, np.uint8)
    values = {
        ("darken", 0.5): 50, ("brighten", 2): 200, ("brighten", 3): 255,
        ("gamma-up", 2.2): 255 * (100 / 255) ** 2.2, ("gamma-down", 0.45): 255 * (100 / 255) ** 0.45,
    }  # fmt: skip
    for (name, strength), value in values.items():
        assert change_crops(CHANGES[name], strength, grey, seed=0)[0].mean() == pytest.approx(value, abs=0.5)


def test_with_less_light_noise_takes_over():
    grey = np.full((1, SIDE, SIDE, 3), 100, np.uint8)
    bright, dim = (change_crops(CHANGES["low-light"], s, grey, seed=0)[0].astype(float) for s in (0.3, 0.02))
    assert bright.mean() == pytest.approx(100 * 0.3 ** (1 / 2.2), abs=1)
    assert dim.mean() < bright.mean() / 2
    assert dim.std() / dim.mean() > 3 * bright.std() / bright.mean()


def test_a_centre_is_kept_when_the_borders_are_cut(crops):
    image = np.zeros((1, 100, 100, 3), np.uint8)
    image[:, 20:80, 20:80] = 200
    (step,) = CHANGES["crop"].steps(0.2)
    (out,) = step.run(frames_of(image), setting())
    assert out.image.shape == (60, 60, 3)
    assert (out.image == 200).all()
    assert (change_crops(CHANGES["crop"], 0.2, image, seed=0)[0] == 200).all()


def test_what_is_scaled_down_is_smaller_in_a_clip_and_blurred_in_a_crop(crops):
    (out,) = run_steps(CHANGES["rescale"].steps(0.5), frames_of(crops[:1]), setting())
    assert out.image.shape == (SIDE // 2, SIDE // 2, 3)
    back = change_crops(CHANGES["rescale"], 0.25, crops, seed=0)[0]
    assert (
        np.abs(np.diff(back.astype(float), axis=2)).mean() < 0.7 * np.abs(np.diff(crops.astype(float), axis=2)).mean()
    )


def test_frames_are_dropped_and_their_places_told(crops):
    out, kept = change_crops(CHANGES["frame-drop"], 4, crops, seed=0)
    assert kept == (0, 4)
    np.testing.assert_array_equal(out, crops[[0, 4]])


def test_faces_are_covered_from_below_where_they_are():
    image = np.zeros((100, 200, 3), np.uint8)
    boxes = {0.0: [(20.0, 10.0, 60.0, 50.0), (150.0, 60.0, 250.0, 160.0)], 0.04: []}
    given = frames_of([image, image])
    out = list(run_steps(CHANGES["occlusion"].steps(0.25), given, setting(boxes=boxes.__getitem__)))
    covered = out[0].image.any(axis=-1)
    assert covered[40:50, 20:60].all()
    assert covered.sum() == 400  # the other face's lower part is outside of the picture
    assert not out[1].image.any()
    crop = change_crops(CHANGES["occlusion"], 0.5, np.zeros((1, 40, 40, 3), np.uint8), seed=0)[0][0]
    assert crop[20:].all()
    assert not crop[:20].any()


def test_a_screen_recording_stays_in_place_and_loses_detail(crops):
    for share in CHANGES["screen"].strengths:
        out = change_crops(CHANGES["screen"], share, crops, seed=0)[0]
        shifts = [distance(np.roll(out, dx, axis=2)[:, :, 8:-8], crops[:, :, 8:-8]) for dx in (-3, -2, 0, 2, 3)]
        assert int(np.argmin(shifts)) == 2, share
    lost = [distance(change_crops(CHANGES["screen"], s, crops, seed=0)[0], crops) for s in (0.9, 0.45)]
    assert lost[1] > lost[0]


# Codecs


def test_training_degrades_as_robustness_measures(crops):
    for crf in (23, 38):
        expected, _ = change_crops(CHANGES["h264-crf"], crf, crops, seed=0)
        np.testing.assert_array_equal(h264_round_trip(crops, crf), expected)
    nothing = AugmentParameters(
        flip=False, angle=0.0, scale=1.0, shift=(0.0, 0.0), gain=1.0, gamma=1.0, warmth=0.0, saturation=1.0, grey=False,
        blur=0.0, reduction=1.0, interpolation=cv2.INTER_AREA, noise=0.0, jpeg_quality=30, h264_crf=0, seed=0,
        cutout=None,
    )  # fmt: skip
    (expected,), _ = change_crops(CHANGES["jpeg"], 30, crops[:1], seed=0)
    np.testing.assert_array_equal(augment(crops[0], nothing, SIDE), expected)


@pytest.mark.parametrize(("codec", "name"), [("libx264", "h264"), ("libx265", "hevc")])
def test_it_is_this_codec_with_these_settings(codec, name, crops, tmp_path):
    sizes = []
    for crf in (23, 43):
        written = write_clip(tmp_path / "a.mp4", frames_of(crops), Coding(codec, crf=crf), 25)
        sizes.append((tmp_path / "a.mp4").stat().st_size)
        with av.open(str(tmp_path / "a.mp4")) as container:
            assert container.streams.video[0].codec_context.name == name
            assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    assert sizes[1] < sizes[0]
    assert [(frame.time_s, frame.index) for frame in written] == [(i / 25, i) for i in range(6)]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_rate_is_kept_to(codec, tmp_path):
    rng = np.random.default_rng(0)
    base = cv2.resize(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), (160, 160), interpolation=cv2.INTER_CUBIC)
    moved = [np.clip(np.roll(base, 3 * i, axis=1) + rng.normal(0, 6, base.shape), 0, 255) for i in range(50)]
    bits = []
    for wanted in (0.4, 0.1):
        write_clip(
            tmp_path / "a.mp4", frames_of(np.stack(moved).astype(np.uint8)), Coding(codec, bits_per_px=wanted), 25
        )
        with av.open(str(tmp_path / "a.mp4")) as container:
            bits.append(sum(packet.size for packet in container.demux(video=0)) * 8 / (50 * 160 * 160))
    # Under the tight limit of their peaks encoders spend less than they may.
    assert 0.5 * 0.4 < bits[0] < 1.1 * 0.4
    assert 0.5 * 0.1 < bits[1] < 1.1 * 0.1


def test_without_loss_is_without_loss(tmp_path):
    rng = np.random.default_rng(0)
    given = [Frame(rng.integers(0, 256, (48, 66, 3), dtype=np.uint8), t, i) for i, t in enumerate((0, 0.04, 0.5, 0.52))]
    write_clip(tmp_path / "a.mp4", given, LOSSLESS, 25)
    back = list(sample_frames(tmp_path / "a.mp4", 99))
    np.testing.assert_array_equal([frame.image for frame in back], [frame.image for frame in given])
    assert [frame.time_s for frame in back] == pytest.approx([0, 0.04, 0.5, 0.52], abs=1e-3)


def test_odd_sides_come_back(crops):
    odd = crops[:, :63, :61]
    out = list(coded(frames_of(odd), Coding("libx264", crf=18), 25))
    assert {frame.image.shape for frame in out} == {(63, 61, 3)}
    assert distance(np.stack([frame.image for frame in out]), odd) < 8


def test_colours_survive_the_codec():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:] = (200, 40, 90)
    (out,) = coded([Frame(image, 0.0, 0)], Coding("libx264", crf=10), 25)
    assert distance(out.image, image) < 4


def test_a_still_is_encoded_as_a_short_clip(crops, monkeypatch):
    """One crop is shown for some frames and comes from their middle: an inter-coded frame, as most of a video are."""
    seen = []

    def spy(target, frames, coding, rate):
        given = list(frames)
        seen.append(len(given))
        return write_clip(target, given, coding, rate)

    monkeypatch.setattr("deepscan.evaluate.robustness.codecs.write_clip", spy)
    out, kept = change_crops(CHANGES["h264-crf"], 43, crops[:1], seed=0)
    assert (seen, kept, len(out)) == ([STILL_FRAMES], (0,), 1)
    change_crops(CHANGES["social"], 0.5, crops, seed=0)
    assert seen[1:] == [6, 6]  # twice, all frames of the sequence


# Choosing


def test_changes_are_picked_by_name_in_order():
    picked = pick_changes(["noise", "jpeg", "noise"], {"jpeg": [20, 80, 20]}, "frames")
    assert [(change.name, strengths) for change, strengths in picked] == [
        ("noise", CHANGES["noise"].strengths),
        ("jpeg", (80, 20)),
    ]
    assert [change.name for change, _ in pick_changes(None, {}, "crops")] == list(CHANGES)


@pytest.mark.parametrize(
    ("names", "strengths", "message"),
    [
        (["jpg"], {}, "Unknown change 'jpg'. Known are jpeg"),
        (None, {"jpg": [1]}, "Unknown change 'jpg'"),
        (["jpeg"], {"jpeg": [0]}, "quality, 100 to 1: a whole number from 1 to 100"),
        (["jpeg"], {"jpeg": [50.5]}, "makes no sense"),
        (["rescale"], {"rescale": [1.5]}, "from 0.02 to 1"),
        (["noise"], {"jpeg": [50]}, "it is not measured"),
        (["noise"], {"noise": [float("nan")]}, "makes no sense"),
    ],
)
def test_what_makes_no_sense_is_refused(names, strengths, message):
    with pytest.raises(ConfigError, match=message):
        pick_changes(names, strengths, "frames")


def test_an_attack_gets_the_truth_and_the_detector_and_works_on_crops_only(crops):
    seen = []

    def attack(crops, label, detector, strength, seed):
        seen.append((label, detector, strength, seed))
        return 255 - crops

    change = Change("invert", "Inverted", "nothing", (1.0,), attack=attack)
    assert change.targets == ("crops",)
    out, kept = change_crops(change, 1.0, crops, seed=4, label=1, detector="detector")
    np.testing.assert_array_equal(out, 255 - crops)
    assert (kept, seen) == (tuple(range(6)), [(1, "detector", 1.0, 4)])
    known = {**CHANGES, "invert": change}
    assert pick_changes(["invert"], {}, "crops", known) == [(change, (1.0,))]
    assert change not in [c for c, _ in pick_changes(None, {}, "frames", known)]
    with pytest.raises(ConfigError, match="can only be done to crops"):
        pick_changes(["invert"], {}, "frames", known)
    with pytest.raises(ValueError, match="needs the label and the detector"):
        change_crops(change, 1.0, crops, seed=0)
    with pytest.raises(ValueError, match="one of steps and attack"):
        Change("neither", "", "", (1.0,))
