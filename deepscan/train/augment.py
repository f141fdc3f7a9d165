"""Augmentation of face crops.

Parameters are drawn first and applied after: a real and its fake get the same ones, and so do the frames of a sequence
where a camera would keep them (:meth:`AugmentParameters.next_frame` moves only what changes between frames).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.evaluate.robustness.codecs import jpeg_round_trip
from deepscan.train.recipe import AugmentSettings
from deepscan.types import RgbImage

# Where an upright crop of the crop rule has eyes, nose and mouth, and the cheeks between them, as shares of the side.
_FACE_PARTS = ((0.3, 0.36), (0.7, 0.36), (0.5, 0.36), (0.5, 0.58), (0.5, 0.8), (0.25, 0.62), (0.75, 0.62))
_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)


@dataclass(frozen=True, slots=True)
class AugmentParameters:
    """One augmentation, applied in the order of a camera, an editor and a codec."""

    flip: bool
    scale: float
    angle: float  # degrees
    shift: tuple[float, float]  # shares of the side
    gain: float
    gamma: float
    saturation: float
    warmth: float  # red up, blue down, in grey levels
    grey: bool
    blur: float  # sigma in pixels, 0 for none
    reduction: float  # scaled down by this and up again, 1 for none
    interpolation: int
    noise: float  # sigma in grey levels
    jpeg_quality: int  # 0 for none
    h264_crf: int  # of a round trip of the whole sequence, 0 for none
    cutout: tuple[float, float, float, float] | None  # x, y, width, height as shares of the side
    seed: int  # of the noise

    def next_frame(self, rng: np.random.Generator) -> AugmentParameters:
        """The next frame of the same clip, made from a still: the face moves a little, the light drifts."""
        return replace(
            self.next_coding(rng),
            scale=self.scale * (1 + float(rng.normal(0, 0.012))),
            angle=self.angle + float(rng.normal(0, 1.0)),
            shift=(self.shift[0] + float(rng.normal(0, 0.008)), self.shift[1] + float(rng.normal(0, 0.008))),
            gain=self.gain * (1 + float(rng.normal(0, 0.01))),
        )

    def next_coding(self, rng: np.random.Generator) -> AugmentParameters:
        """The next frame of a real clip, which moves by itself: only what a codec does differs."""
        quality = int(np.clip(self.jpeg_quality + rng.integers(-4, 5), 20, 98)) if self.jpeg_quality else 0
        return replace(self, jpeg_quality=quality, seed=int(rng.integers(2**31)))


def draw_augmentation(rng: np.random.Generator, settings: AugmentSettings | None = None) -> AugmentParameters:
    """Draw the parameters of one augmentation."""
    s = settings or AugmentSettings()
    k = s.strength
    chance = rng.random
    return AugmentParameters(
        flip=bool(chance() < s.flip),
        scale=float(rng.uniform(1 - 0.08 * k, 1 + 0.15 * k)),
        angle=float(rng.normal(0, 4 * k)),
        shift=(float(rng.uniform(-0.06 * k, 0.06 * k)), float(rng.uniform(-0.06 * k, 0.06 * k))),
        gain=float(np.exp(rng.normal(0, 0.2 * k))),
        gamma=float(np.exp(rng.normal(0, 0.1 * k))),
        saturation=float(rng.uniform(1 - 0.3 * k, 1 + 0.3 * k)),
        warmth=float(rng.normal(0, 5 * k)),
        grey=bool(chance() < s.grey),
        blur=float(rng.uniform(0.4, 1.6)) if chance() < s.blur else 0.0,
        reduction=float(rng.uniform(1.2, 3.0)) if chance() < s.reduction else 1.0,
        interpolation=int(rng.choice(_INTERPOLATIONS)),
        noise=float(rng.uniform(1, 6)) if chance() < s.noise else 0.0,
        jpeg_quality=int(rng.integers(40, 96)) if chance() < s.jpeg else 0,
        h264_crf=int(rng.integers(20, 39)) if chance() < s.h264 else 0,
        cutout=_draw_cutout(rng) if chance() < s.cutout else None,
        seed=int(rng.integers(2**31)),
    )


def _draw_cutout(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A rectangle over a part of the face: what is learned must not hang on one part alone."""
    x, y = _FACE_PARTS[int(rng.integers(len(_FACE_PARTS)))] + rng.normal(0, 0.04, 2)
    width, height = rng.uniform(0.12, 0.42), rng.uniform(0.1, 0.28)
    left, top = max(0.0, x - width / 2), max(0.0, y - height / 2)
    return float(left), float(top), float(width), float(height)


def augment(crop: RgbImage, p: AugmentParameters, size_px: int) -> RgbImage:
    """Apply an augmentation.

    Args:
        crop: RGB ``uint8 [H, W, 3]``.
        p: from :func:`draw_augmentation`.
        size_px: side of the result.

    Returns:
        RGB ``uint8 [size_px, size_px, 3]``.
    """
    out = _moved(crop, p, size_px)
    ramp = np.clip(np.arange(256, dtype=np.float32) / 255 * p.gain, 0, 1) ** p.gamma * 255
    table = np.stack([ramp + p.warmth, ramp, ramp - p.warmth], axis=-1)
    out = cv2.LUT(out, np.clip(np.rint(table), 0, 255).astype(np.uint8)[None])
    if p.grey or p.saturation != 1.0:
        grey = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        weight = 0.0 if p.grey else p.saturation
        out = cv2.addWeighted(out, weight, grey, 1 - weight, 0)
    if p.blur:
        out = cv2.GaussianBlur(out, (0, 0), p.blur)
    if p.reduction > 1:
        small = max(8, round(size_px / p.reduction))
        out = cv2.resize(out, (small, small), interpolation=p.interpolation)
        out = cv2.resize(out, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    if p.noise:
        noise = np.random.default_rng(p.seed).normal(0, p.noise, out.shape)
        out = np.clip(np.rint(out + noise), 0, 255).astype(np.uint8)
    if p.jpeg_quality:
        out = jpeg_round_trip(out, p.jpeg_quality)
    if p.cutout is not None:
        x, y, w, h = (round(v * size_px) for v in p.cutout)
        out = out.copy()
        out[y : y + h, x : x + w] = out.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    return out


def augment_region(region: NDArray[np.float32], p: AugmentParameters, size_px: int) -> NDArray[np.float32]:
    """Move a map ``float32 [H, W]`` over a crop as :func:`augment` moves the crop: ``[size_px, size_px]``."""
    moved: NDArray[np.float32] = _moved(region, p, size_px)
    return moved


def _moved(image: NDArray[Any], p: AugmentParameters, size_px: int) -> NDArray[Any]:
    """Flip, turn, scale and shift."""
    side = image.shape[0]
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), p.angle, p.scale * size_px / side)
    matrix[:, 2] += (size_px - side) / 2 + np.asarray(p.shift) * size_px
    if p.flip:
        image = cv2.flip(image, 1)
    return cv2.warpAffine(image, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
