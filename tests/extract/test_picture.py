"""Pictures as players show them, whatever way they are stored."""

from __future__ import annotations

from fractions import Fraction

import clips
import kinds
import numpy as np
import pytest
from clips import corner_colours, quadrants

from deepscan.config import MediaLimits
from deepscan.errors import MediaError
from deepscan.extract.images import hdr
from deepscan.extract.video.frames import probe, sample_frames


def images(path, n=3):
    pictures = [frame.image for frame in sample_frames(path, n)]
    assert {(image.shape[1], image.shape[0]) for image in pictures} == {(probe(path).width_px, probe(path).height_px)}
    return pictures


# Pixels that are not square


@pytest.mark.parametrize(
    ("name", "codec", "aspect"),
    [
        ("phone.mp4", "libx264", Fraction(4, 3)),
        ("phone.mov", "libx264", Fraction(1, 2)),
        ("film.mkv", "libx264", Fraction(4, 3)),
        ("dvd.mpg", "mpeg2video", Fraction(4, 3)),
        ("camera.ts", "libx264", Fraction(2, 1)),
    ],
)
def test_pixels_become_square(tmp_path, name, codec, aspect):
    shown = next(clips.moving_portrait(1, (320, 240)))
    path = kinds.write_squeezed(tmp_path / name, [shown] * 4, aspect, codec)
    for image in images(path):
        assert image.shape == shown.shape
        assert np.abs(image.astype(int) - shown).mean() < 8


def test_pixels_become_square_before_the_picture_is_turned(tmp_path):
    path = kinds.write_squeezed(tmp_path / "phone.mp4", [quadrants((160, 64))] * 3, Fraction(2, 1))
    clips.turn(path, 90)
    for image in images(path):
        assert image.shape == (160, 64, 3)
        assert corner_colours(image) == "brwg"


@pytest.mark.parametrize("aspect", [Fraction(1281, 1280), Fraction(3000, 1)], ids=["rounding", "nonsense"])
def test_what_is_no_aspect_changes_nothing(tmp_path, aspect):
    plain = clips.write_video(tmp_path / "plain.mp4", [quadrants((96, 64))] * 3)
    path = clips.write_video(tmp_path / "clip.mp4", [quadrants((96, 64))] * 3, pixel_aspect=aspect)
    for image, same in zip(images(path), images(plain), strict=True):
        assert np.array_equal(image, same)


def test_the_limit_of_pixels_is_on_what_is_displayed(tmp_path):
    path = clips.write_video(tmp_path / "wide.mp4", [quadrants((96, 64))] * 3, pixel_aspect=Fraction(2, 1))
    assert len(list(sample_frames(path, 1, MediaLimits(max_pixels=192 * 64)))) == 1
    for read in (probe, lambda path, limits: list(sample_frames(path, 1, limits))):
        with pytest.raises(MediaError, match="192 x 64 pixels") as caught:
            read(path, MediaLimits(max_pixels=192 * 64 - 1))
        assert caught.value.reason == "too_large"


# High dynamic range


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_high_dynamic_range_looks_as_it_would_without(tmp_path, transfer):
    shown = next(clips.moving_portrait(1, (320, 240)))
    path = kinds.write_hdr(tmp_path / "phone.mov", [shown] * 3, transfer)
    for image in images(path):
        difference = image.astype(int) - shown
        # Only what is near white has moved, to make room for highlights.
        assert np.abs(difference[shown.max(axis=2) < 225]).mean() < 3
        assert np.abs(difference).mean() < 5


@pytest.mark.parametrize(("transfer", "number"), [("pq", hdr.PQ), ("hlg", hdr.HLG)])
def test_highlights_keep_their_order_and_hue(transfer, number):
    nits = np.array([0, 1, 20, 100, 203, 300, 600])
    grey = np.repeat(nits[None, :, None], 3, axis=2).astype(float)
    shown = tone(grey, transfer, number)[0].astype(int)
    assert np.abs(shown - shown.mean(axis=1, keepdims=True)).max() <= 1
    assert (np.diff(shown[:, 1]) > 0).all()
    # Up to four fifths of white's light nothing is changed.
    assert np.abs(shown[:4, 1] - 255 * (nits[:4] / 203) ** (1 / 2.4)).max() <= 1
    # A lamp twenty times as bright as skin keeps skin's hue: red stays the most, blue the least.
    skin = tone(np.array([[[900.0, 600.0, 450.0]]]), transfer, number)[0, 0].astype(int)
    assert skin[0] > skin[1] > skin[2]


def tone(nits, transfer, number):
    signal = np.round(kinds.hdr_signal(nits, transfer).clip(0, 1) * 65535).astype(np.uint16)
    return hdr.tone_mapped(signal, number)


# Lines of two moments


@pytest.mark.parametrize(("name", "codec"), [("dvd.mpg", "mpeg2video"), ("camera.mts", "libx264")])
@pytest.mark.parametrize("n", [4, 25], ids=["with gaps", "every frame"])
def test_interlaced_video_has_no_combs(tmp_path, name, codec, n):
    pictures = list(clips.moving_portrait(50, (320, 240), 2.0))
    path = kinds.write_interlaced(tmp_path / name, pictures, codec)
    for frame in sample_frames(path, n):
        image = frame.image.astype(int)
        of_its_moment = pictures[2 * round(frame.time_s * kinds.FPS)]
        woven = of_its_moment.copy()
        woven[1::2] = pictures[2 * round(frame.time_s * kinds.FPS) + 1][1::2]
        error, combed = (np.abs(other.astype(int) - of_its_moment).mean() for other in (image, woven))
        assert error < combed  # coded as it is; woven and coded it is 6


def test_what_stands_still_keeps_all_of_its_lines(tmp_path):
    """Most interlaced cameras film people who sit; half of the lines would be half of the face."""
    pictures = [next(clips.moving_portrait(1, (320, 240)))] * 20
    path = kinds.write_interlaced(tmp_path / "studio.mpg", pictures, "mpeg2video")
    plain = kinds.write_squeezed(tmp_path / "plain.mpg", pictures[::2], Fraction(1), "mpeg2video")
    for image, same in zip(images(path), images(plain), strict=True):
        assert np.abs(image.astype(int) - same).mean() < 1.5


# Frames with data beside them


@pytest.mark.parametrize(("orientation", "shown"), [(1, "rgbw"), (2, "grwb"), (6, "brwg"), (5, "rbgw")])
@pytest.mark.parametrize("suffix", [".avi", ".mov"])
def test_exif_in_a_video_is_no_obstacle(tmp_path, suffix, orientation, shown):
    path = kinds.write_motion_jpeg(tmp_path / f"lapse{suffix}", [quadrants((96, 64))] * 4, orientation)
    assert [corner_colours(image) for image in images(path, 4)] == [shown] * 4
