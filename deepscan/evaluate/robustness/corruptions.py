"""What happens to videos on their way to a detector, in graded strengths: compression, scale, light, noise and more.

    change = CHANGES["h264-crf"]
    for strength in change.strengths: ...            # from mild to severe
        crops, kept = change_crops(change, strength, crops, seed=0)

Every change is an operation on pixels or a real encode (:mod:`deepscan.evaluate.robustness.codecs`), none is a
formula of what a codec might do. The same seed gives the same result. Most work on the frames of a clip before a face
is looked for, and on crops of faces alike; an attack (:class:`Change` with ``attack``) needs the detector and works
on crops only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.errors import ConfigError
from deepscan.evaluate.robustness.codecs import STILL_RATE, Coding, coded, jpeg_round_trip
from deepscan.extract.crops import resized
from deepscan.types import Box, Frame, RgbImage

if TYPE_CHECKING:
    from deepscan.detector import Detector

Target = Literal["frames", "crops"]
Crops = NDArray[np.uint8]

# Raised whenever a change gives other pixels at the same strength: answers kept from before are then of another one.
REVISION = 2

_LEAST_SIDE_PX = 16  # of what is scaled down; encoders take no less
_MASK_RGB = (168, 196, 208)
_SOCIAL_CRF = 28
_SCREEN_CRF = 23
# A small sensor: electrons of a white pixel, and of its reading alone.
_FULL_ELECTRONS, _READ_ELECTRONS = 3000.0, 6.0
_DISPLAY_GAMMA = 2.2
_SCREEN_OFFSET_PX = 0.37  # a window seldom lies on the grid of the video's pixels


@dataclass(frozen=True, slots=True)
class Setting:
    """What a step may know of the clip beside its frames.

    Attributes:
        seed: of everything random.
        rate: frames a second.
        boxes: where faces are at a time (s), in pixels of the unchanged frame.
    """

    seed: int
    rate: float
    boxes: Callable[[float], Sequence[Box]]


@dataclass(frozen=True, slots=True)
class Pixels:
    """A step that changes each frame by itself: RGB ``uint8 [H, W, 3]`` to another, whose size may differ."""

    change: Callable[[Frame, Setting], RgbImage]

    def run(self, frames: Iterable[Frame], setting: Setting) -> Iterator[Frame]:
        """The changed frames, one at a time."""
        for frame in frames:
            yield Frame(self.change(frame, setting), frame.time_s, frame.index)


@dataclass(frozen=True, slots=True)
class Encode:
    """A step through an encoder and back."""

    coding: Coding

    def run(self, frames: Iterable[Frame], setting: Setting) -> Iterator[Frame]:
        """The frames as they are decoded again."""
        return coded(frames, self.coding, setting.rate)


@dataclass(frozen=True, slots=True)
class Thin:
    """A step that keeps every n-th frame."""

    every: int

    def run(self, frames: Iterable[Frame], setting: Setting) -> Iterator[Frame]:
        """The frames that are kept, with their own times."""
        return (frame for number, frame in enumerate(frames) if number % self.every == 0)


Step = Pixels | Encode | Thin


# A change that is made against a detector: of crops RGB ``uint8 [T, S, S, 3]`` at the detector's size, label (0 real,
# 1 fake), detector, strength and seed; crops of the same shape come back.
AttackFunction = Callable[[Crops, int, "Detector", float, int], Crops]


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of change.

    Attributes:
        name: on the command line.
        title: for people.
        unit: what a strength counts.
        strengths: the usual ones, from mild to severe.
        steps: what is done at a strength; None for an attack.
        attack: in its place; works on crops only.
        low, high: strengths that make sense.
        whole: whether strengths are whole numbers.
        moving: whether it needs more than one frame.
    """

    name: str
    title: str
    unit: str
    strengths: tuple[float, ...]
    steps: Callable[[float], tuple[Step, ...]] | None = None
    attack: AttackFunction | None = None
    low: float = 0.0
    high: float = 1.0
    whole: bool = False
    moving: bool = False

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.attack is None):
            raise ValueError(f"Invalid change {self.name!r}. Supported is one of steps and attack.")

    @property
    def targets(self) -> tuple[Target, ...]:
        """What it can be done to."""
        return ("crops",) if self.steps is None else ("frames", "crops")

    def ordered(self, strengths: Iterable[float]) -> tuple[float, ...]:
        """Strengths from mild to severe, each once.

        Raises:
            ConfigError: one of them makes no sense.
        """
        ordered = sorted(set(strengths), reverse=self.strengths[0] > self.strengths[-1])
        for value in ordered:
            if not self.low <= value <= self.high or (self.whole and value != int(value)):
                kind = "a whole number " if self.whole else ""
                raise ConfigError(
                    f"Strength {value:g} of {self.name} makes no sense",
                    f"it is {self.unit}: {kind}from {self.low:g} to {self.high:g}",
                    f"Usual are {', '.join(f'{usual:g}' for usual in self.strengths)}.",
                )
        return tuple(ordered)


def change_crops(
    change: Change,
    strength: float,
    crops: Crops,
    *,
    seed: int,
    label: int | None = None,
    detector: Detector | None = None,
) -> tuple[Crops, tuple[int, ...]]:
    """Change the crops of one person.

    Args:
        change, strength: what is done.
        crops: RGB ``uint8 [T, S, S, 3]``, taken for frames of a clip at 25 frames/s.
        seed: of everything random.
        label, detector: for an attack.

    Returns:
        Crops ``uint8 [K, S, S, 3]``, K at least 1, and which of those that were given they are.
    """
    if change.steps is None:
        if label is None or detector is None or change.attack is None:
            raise ValueError(f"Invalid use of {change.name!r}: an attack needs the label and the detector.")
        return change.attack(crops, label, detector, strength, seed), tuple(range(len(crops)))
    side = crops.shape[1]
    whole: Box = (0.0, 0.0, float(side), float(side))
    setting = Setting(seed, STILL_RATE, lambda _: (whole,))
    given = (Frame(crop, number / STILL_RATE, number) for number, crop in enumerate(crops))
    out = list(run_steps(change.steps(strength), given, setting))
    return np.concatenate([resized(frame.image[None], side) for frame in out]), tuple(frame.index for frame in out)


def run_steps(steps: Sequence[Step], frames: Iterable[Frame], setting: Setting) -> Iterator[Frame]:
    """Frames after one step and the next."""
    out = iter(frames)
    for step in steps:
        out = step.run(out, setting)
    return out


def pick_changes(
    names: Sequence[str] | None,
    strengths: Mapping[str, Sequence[float]],
    target: Target,
    known: Mapping[str, Change] | None = None,
) -> list[tuple[Change, tuple[float, ...]]]:
    """Changes with their strengths from mild to severe.

    Args:
        names: which, in this order; None takes all that can be done there.
        strengths: in place of the usual ones, by name.
        target: what they are to be done to.
        known: the changes that there are; :data:`CHANGES` when None.

    Raises:
        ConfigError: a name is unknown, a strength makes no sense, or a change cannot be done there.
    """
    have = CHANGES if known is None else known
    for name in (*(names or ()), *strengths):
        if name not in have:
            raise ConfigError(f"Unknown change {name!r}", hint=f"Known are {', '.join(have)}.")
    if names is None:
        chosen = [change for change in have.values() if target in change.targets]
    else:
        chosen = [have[name] for name in dict.fromkeys(names)]
    for name in strengths:
        if have[name] not in chosen:
            raise ConfigError(f"Strengths of {name} are given, but it is not measured", hint="Name it in --changes.")
    for change in chosen:
        if target not in change.targets:
            raise ConfigError(f"{change.name} can only be done to crops", hint="Add --on crops, or leave it out.")
    return [(change, change.ordered(strengths.get(change.name, change.strengths))) for change in chosen]


# The operations


def _jpeg(quality: float) -> tuple[Step, ...]:
    return (Pixels(lambda frame, _: jpeg_round_trip(frame.image, int(quality))),)


def _scaled(image: RgbImage, share: float) -> RgbImage:
    height, width = (max(_LEAST_SIDE_PX, 2 * round(side * share / 2)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _rescale(share: float) -> tuple[Step, ...]:
    return (Pixels(lambda frame, _: _scaled(frame.image, share)),)


def _social(share: float) -> tuple[Step, ...]:
    again = Encode(Coding("libx264", crf=_SOCIAL_CRF))
    return (*_rescale(share), again, again)


def _screen(share: float) -> tuple[Step, ...]:
    """A window on a screen is recorded, and the recording shown at the old size; nothing filters against aliasing."""

    def in_window(frame: Frame, _: Setting) -> RgbImage:
        before = frame.image.shape[:2]
        height, width = (max(_LEAST_SIDE_PX, 2 * round(side * share / 2)) for side in before)
        sy, sx = height / before[0], width / before[1]
        # Centres of pixels lie at a half.
        shift_x, shift_y = (0.5 * scale - 0.5 + _SCREEN_OFFSET_PX for scale in (sx, sy))
        matrix = np.array([[sx, 0, shift_x], [0, sy, shift_y]], np.float32)
        how = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
        return np.asarray(cv2.warpAffine(frame.image, matrix, (width, height), **how), np.uint8)

    def shown_again(frame: Frame, _: Setting) -> RgbImage:
        height, width = (2 * round(side / share / 2) for side in frame.image.shape[:2])
        return np.asarray(cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)

    return (Pixels(in_window), Encode(Coding("libx264", crf=_SCREEN_CRF)), Pixels(shown_again))


def _blur(sigma_px: float) -> tuple[Step, ...]:
    return (Pixels(lambda frame, _: np.asarray(cv2.GaussianBlur(frame.image, (0, 0), sigma_px), np.uint8)),)


def _noise(sigma: float) -> tuple[Step, ...]:
    def change(frame: Frame, setting: Setting) -> RgbImage:
        # The same grain at every strength, so that a stronger one is the weaker one and more.
        rng = np.random.default_rng((setting.seed, frame.index))
        grain = rng.standard_normal(frame.image.shape, np.float32)
        return np.clip(np.rint(frame.image + sigma * grain), 0, 255).astype(np.uint8)

    return (Pixels(change),)


def _curve(of: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> tuple[Step, ...]:
    table = np.clip(np.rint(255 * of(np.arange(256) / 255)), 0, 255).astype(np.uint8)
    return (Pixels(lambda frame, _: np.asarray(cv2.LUT(frame.image, table), np.uint8)),)


def _gain(gain: float) -> tuple[Step, ...]:
    return _curve(lambda levels: levels * gain)


def _low_light(share: float) -> tuple[Step, ...]:
    def change(frame: Frame, setting: Setting) -> RgbImage:
        light = share * (frame.image / 255.0) ** _DISPLAY_GAMMA
        # As for noise: the same grain at every strength.
        grain = np.random.default_rng((setting.seed, frame.index)).standard_normal(light.shape, np.float32)
        light += grain * np.sqrt(light / _FULL_ELECTRONS + (_READ_ELECTRONS / _FULL_ELECTRONS) ** 2)
        return np.rint(255 * light.clip(0, 1) ** (1 / _DISPLAY_GAMMA)).astype(np.uint8)

    return (Pixels(change),)


def _gamma(gamma: float) -> tuple[Step, ...]:
    return _curve(lambda levels: levels**gamma)


def _cut(share: float) -> tuple[Step, ...]:
    def change(frame: Frame, _: Setting) -> RgbImage:
        height, width = frame.image.shape[:2]
        y, x = round(height * share), round(width * share)
        return np.ascontiguousarray(frame.image[y : height - y, x : width - x])

    return (Pixels(change),)


def _occlude(share: float) -> tuple[Step, ...]:
    def change(frame: Frame, setting: Setting) -> RgbImage:
        out = frame.image.copy()
        height, width = out.shape[:2]
        for x1, y1, x2, y2 in setting.boxes(frame.time_s):
            top, bottom = round(y2 - share * (y2 - y1)), round(y2)
            out[max(0, top) : min(height, bottom), max(0, round(x1)) : min(width, round(x2))] = _MASK_RGB
        return out

    return (Pixels(change),)


def _encode(codec: Literal["libx264", "libx265"], by: Literal["crf", "bits_per_px"]) -> Callable[[float], tuple[Step]]:
    return lambda value: (Encode(Coding(codec, crf=value) if by == "crf" else Coding(codec, bits_per_px=value)),)


_CRF = "CRF, 0 to 51"
_BPP = "bits per pixel and frame"
_SHARE = "share of the size"

CHANGES: dict[str, Change] = {
    change.name: change
    for change in (
        Change("jpeg", "JPEG", "quality, 100 to 1", (90, 70, 50, 30, 10), _jpeg, low=1, high=100, whole=True),
        Change("h264-crf", "H.264", _CRF, (23, 28, 33, 38, 43), _encode("libx264", "crf"), high=51),
        Change("hevc-crf", "HEVC", _CRF, (23, 28, 33, 38, 43), _encode("libx265", "crf"), high=51),
        Change(
            "h264-rate", "H.264, rate", _BPP, (0.2, 0.1, 0.05, 0.025), _encode("libx264", "bits_per_px"),
            low=0.002, high=8,
        ),
        Change(
            "hevc-rate", "HEVC, rate", _BPP, (0.2, 0.1, 0.05, 0.025), _encode("libx265", "bits_per_px"),
            low=0.002, high=8,
        ),
        Change("social", "Social media: smaller, H.264 twice", _SHARE, (1, 0.75, 0.5, 0.35, 0.25), _social, low=0.05),
        Change("rescale", "Scaled down", _SHARE, (0.75, 0.5, 0.35, 0.25, 0.15), _rescale, low=0.02),
        Change("blur", "Blur", "sigma, px", (0.5, 1, 2, 3, 4), _blur, low=0.1, high=50),
        Change("noise", "Noise", "sigma, of 255", (2, 5, 10, 20, 40), _noise, high=128),
        Change("darken", "Darker", "times brightness", (0.75, 0.5, 0.35, 0.2), _gain, low=0.01),
        Change(
            "low-light", "Less light on a sensor", "share of the light", (0.3, 0.1, 0.05, 0.02), _low_light, low=1e-4
        ),
        Change("brighten", "Brighter", "times brightness", (1.25, 1.5, 2, 3), _gain, low=1, high=20),
        Change("gamma-up", "Gamma, mid-tones darker", "exponent", (1.25, 1.6, 2.2, 3), _gamma, low=1, high=10),
        Change("gamma-down", "Gamma, mid-tones lighter", "exponent", (0.8, 0.6, 0.45, 0.3), _gamma, low=0.05),
        Change(
            "frame-drop", "Frames dropped", "one frame kept of", (2, 4, 8, 16), lambda every: (Thin(int(every)),),
            low=2, high=1000, whole=True, moving=True,
        ),
        Change("crop", "Cropped", "share cut off each side", (0.05, 0.1, 0.15, 0.2), _cut, high=0.4),
        Change("screen", "Screen recording", "share of the size", (0.9, 0.75, 0.6, 0.45), _screen, low=0.1, high=0.99),
        Change("occlusion", "Face covered from below", "share of its height", (0.15, 0.3, 0.45, 0.6), _occlude),
    )
}  # fmt: skip
