"""Augmentation of face crops.

Parameters are drawn first and applied after: a real and its fake get the same ones, and so do the frames of a sequence
where a camera would keep them (:meth:`AugmentParameters.next_frame` moves only what changes between frames).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from deepscan.records import RgbImage

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
    cutout: tuple[float, float, float, float] | None  # x, y, width, height as shares of the side
    seed: int  # of the noise

    def next_frame(self, rng: np.random.Generator) -> AugmentParameters:
        """The next frame of the same clip: the face moves a little, the light drifts, codec noise is new."""
        return replace(
            self,
            scale=self.scale * (1 + float(rng.normal(0, 0.012))),
            angle=self.angle + float(rng.normal(0, 1.0)),
            shift=(self.shift[0] + float(rng.normal(0, 0.008)), self.shift[1] + float(rng.normal(0, 0.008))),
            gain=self.gain * (1 + float(rng.normal(0, 0.01))),
            jpeg_quality=int(np.clip(self.jpeg_quality + rng.integers(-4, 5), 20, 98)) if self.jpeg_quality else 0,
            seed=int(rng.integers(2**31)),
        )


def draw_augmentation(rng: np.random.Generator) -> AugmentParameters:
    """Draw the parameters of one augmentation."""
    chance = rng.random
    return AugmentParameters(
        flip=bool(chance() < 0.5),
        scale=float(rng.uniform(0.92, 1.15)),
        angle=float(rng.normal(0, 4)),
        shift=(float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.06, 0.06))),
        gain=float(np.exp(rng.normal(0, 0.2))),
        gamma=float(np.exp(rng.normal(0, 0.1))),
        saturation=float(rng.uniform(0.7, 1.3)),
        warmth=float(rng.normal(0, 5)),
        grey=bool(chance() < 0.04),
        blur=float(rng.uniform(0.4, 1.6)) if chance() < 0.1 else 0.0,
        reduction=float(rng.uniform(1.2, 3.0)) if chance() < 0.15 else 1.0,
        interpolation=int(rng.choice(_INTERPOLATIONS)),
        noise=float(rng.uniform(1, 6)) if chance() < 0.1 else 0.0,
        jpeg_quality=int(rng.integers(40, 96)) if chance() < 0.4 else 0,
        cutout=tuple(float(v) for v in rng.uniform([0, 0, 0.1, 0.1], [0.8, 0.8, 0.4, 0.4]))  # type: ignore[arg-type]
        if chance() < 0.05
        else None,
        seed=int(rng.integers(2**31)),
    )


def augment(crop: RgbImage, p: AugmentParameters, size_px: int) -> RgbImage:
    """Apply an augmentation.

    Args:
        crop: RGB ``uint8 [H, W, 3]``.
        p: from :func:`draw_augmentation`.
        size_px: side of the result.

    Returns:
        RGB ``uint8 [size_px, size_px, 3]``.
    """
    side = crop.shape[0]
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), p.angle, p.scale * size_px / side)
    matrix[:, 2] += (size_px - side) / 2 + np.asarray(p.shift) * size_px
    if p.flip:
        crop = cv2.flip(crop, 1)
    out = cv2.warpAffine(crop, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
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
        bgr = cv2.cvtColor(out, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, p.jpeg_quality])
        out = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    if p.cutout is not None:
        x, y, w, h = (round(v * size_px) for v in p.cutout)
        out = out.copy()
        out[y : y + h, x : x + w] = out.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    return out
