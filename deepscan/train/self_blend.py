"""Self-blended images: fakes made from one real face alone.

Written from Shiohara and Yamasaki, Detecting Deepfakes with Self-Blended Images, CVPR 2022. Two copies of a face
are made to differ slightly (colour, sharpness, size, position) and blended through a soft, deformed face mask: what a
face swap leaves at its border and in its statistics, without any particular generator.

Parameters are drawn first and applied after, so that a clip can keep the same ones in all frames
(:meth:`BlendParameters.jittered` moves them a little, as a frame-wise swap does).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.types import Landmarks, RgbImage

# Face outline around the five landmarks in a frame where the eyes are at (-0.5, 0) and (0.5, 0), y down.
_TEMPLATE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.62], [-0.42, 1.08], [0.42, 1.08]], np.float32)
_OUTLINE = np.array(
    [
        [-0.88, -0.30], [-0.48, -0.50], [0.0, -0.42], [0.48, -0.50], [0.88, -0.30],
        [0.96, 0.25], [0.90, 0.80], [0.72, 1.25], [0.38, 1.58], [0.0, 1.68],
        [-0.38, 1.58], [-0.72, 1.25], [-0.90, 0.80], [-0.96, 0.25],
    ],
    np.float32,
)  # fmt: skip
# Parts of the face that generators replace: all of it, without the forehead, mouth and chin, eyes and nose.
_REGIONS = {
    "face": (-0.6, 1.8),
    "inner": (-0.25, 1.45),
    "lower": (0.35, 1.8),
    "upper": (-0.6, 0.75),
}
_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class BlendParameters:
    """One self-blend. Lengths are shares of the eye distance or of the image side, never pixels."""

    region: str
    swell: float  # the outline is scaled about its centre by this
    elastic: NDArray[np.float32]  # displacement field [4, 4, 2], shares of the side
    blur: float  # of the mask, share of the side
    ratio: float  # blend ratio at the mask's core
    shift: tuple[float, float]  # of the source, shares of the side
    scale: float  # of the source
    channel_shift: tuple[float, float, float]  # of the changed copy, in grey levels
    hue: float  # degrees
    saturation: float
    gain: float
    bias: float
    reduction: float  # the changed copy is scaled down by this and up again; 1 leaves it
    sharpen: float
    change_source: bool  # whether the source or the target is the changed copy

    def jittered(self, rng: np.random.Generator, strength: float = 1.0) -> BlendParameters:
        """The same blend in the next frame: position, size, mask and colour move a little, the rest stays."""

        def n(sigma: float) -> float:
            return float(rng.normal(0, sigma * strength))

        return replace(
            self,
            swell=self.swell * (1 + n(0.015)),
            elastic=self.elastic + rng.normal(0, 0.004 * strength, self.elastic.shape).astype(np.float32),
            shift=(self.shift[0] + n(0.004), self.shift[1] + n(0.004)),
            scale=self.scale * (1 + n(0.006)),
            gain=self.gain * (1 + n(0.015)),
            bias=self.bias + n(1.2),
            ratio=float(np.clip(self.ratio + n(0.03), 0.1, 1.0)),
        )


def draw_blend(rng: np.random.Generator) -> BlendParameters:
    """Draw the parameters of one self-blend."""
    colour = rng.random() < 0.8
    frequency = rng.random() < 0.6
    return BlendParameters(
        region=str(rng.choice(list(_REGIONS), p=[0.55, 0.25, 0.12, 0.08])),
        swell=float(rng.uniform(0.88, 1.08)),
        elastic=rng.normal(0, 0.018, (4, 4, 2)).astype(np.float32),
        blur=float(rng.uniform(0.012, 0.06)),
        ratio=float(rng.choice(_RATIOS)),
        shift=(float(rng.uniform(-0.03, 0.03)), float(rng.uniform(-0.015, 0.015))),
        scale=float(rng.uniform(0.95, 1.05)),
        channel_shift=tuple(float(v) for v in rng.uniform(-20, 20, 3)) if colour else (0.0, 0.0, 0.0),  # type: ignore[arg-type]
        hue=float(rng.uniform(-5, 5)) if colour else 0.0,
        saturation=float(rng.uniform(0.7, 1.3)) if colour else 1.0,
        gain=float(rng.uniform(0.9, 1.1)) if colour else 1.0,
        bias=float(rng.uniform(-20, 20)) if colour else 0.0,
        reduction=float(rng.choice([2.0, 3.0, 4.0])) if frequency and rng.random() < 0.6 else 1.0,
        sharpen=float(rng.uniform(0.2, 0.8)) if frequency and rng.random() < 0.5 else 0.0,
        change_source=bool(rng.random() < 0.5),
    )


def self_blend(image: RgbImage, landmarks: Landmarks, parameters: BlendParameters) -> RgbImage:
    """Blend a face into itself.

    Args:
        image: RGB ``uint8 [H, W, 3]``.
        landmarks: ``float32 [5, 2]`` in pixels of the image (see :class:`deepscan.types.Face`).
        parameters: from :func:`draw_blend`.

    Returns:
        RGB ``uint8 [H, W, 3]``.
    """
    changed = _change(image, parameters)
    source, target = (changed, image) if parameters.change_source else (image, changed)
    height, width = image.shape[:2]
    side = float(np.linalg.norm(landmarks[1] - landmarks[0])) * 2.4 + 1e-3  # about the face's own width
    centre = landmarks.mean(axis=0)
    warp = np.array(
        [
            [parameters.scale, 0, (1 - parameters.scale) * centre[0] + parameters.shift[0] * side],
            [0, parameters.scale, (1 - parameters.scale) * centre[1] + parameters.shift[1] * side],
        ]
    )
    source = cv2.warpAffine(source, warp, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    mask = (blend_mask(landmarks, (height, width), parameters) * parameters.ratio)[..., None]
    mixed = source.astype(np.float32) * mask + target.astype(np.float32) * (1 - mask)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def blend_mask(landmarks: Landmarks, shape: tuple[int, int], parameters: BlendParameters) -> NDArray[np.float32]:
    """The soft mask ``float32 [H, W]`` in [0, 1]: face outline, cut to the region, deformed, blurred."""
    height, width = shape
    side = float(np.linalg.norm(landmarks[1] - landmarks[0])) * 2.4 + 1e-3
    low, high = _REGIONS[parameters.region]
    outline = _OUTLINE.copy()
    outline[:, 1] = np.clip(outline[:, 1], low, high)
    middle = outline.mean(axis=0)
    outline = (outline - middle) * parameters.swell + middle
    matrix = _fit_affine(_TEMPLATE, landmarks.astype(np.float32))
    points = outline @ matrix[:, :2].T + matrix[:, 2]
    mask = np.zeros((height, width), np.float32)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 1.0)
    field = cv2.resize(parameters.elastic, (width, height), interpolation=cv2.INTER_CUBIC) * side
    grid_x, grid_y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    mask = cv2.remap(mask, grid_x + field[..., 0], grid_y + field[..., 1], cv2.INTER_LINEAR)
    sigma = max(0.6, parameters.blur * side)
    # Blur, cut at a high level, blur again: the soft edge then lies inside the face, as in the paper.
    mask = cv2.GaussianBlur(mask, (0, 0), sigma)
    mask = cv2.GaussianBlur((mask > 0.6).astype(np.float32), (0, 0), sigma)
    peak = float(mask.max())
    return mask / peak if peak > 0 else mask


def _change(image: RgbImage, parameters: BlendParameters) -> RgbImage:
    """The second copy: colour statistics or sharpness slightly off."""
    out = image.astype(np.float32) + np.asarray(parameters.channel_shift, np.float32)
    if parameters.hue or parameters.saturation != 1.0:
        hsv = cv2.cvtColor(np.clip(out, 0, 255) / 255, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + parameters.hue) % 360
        hsv[..., 1] = np.clip(hsv[..., 1] * parameters.saturation, 0, 1)
        out = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
    out = out * parameters.gain + parameters.bias
    if parameters.reduction > 1:
        height, width = image.shape[:2]
        small = (max(1, round(width / parameters.reduction)), max(1, round(height / parameters.reduction)))
        out = cv2.resize(cv2.resize(out, small, interpolation=cv2.INTER_AREA), (width, height))
    if parameters.sharpen:
        out = out + parameters.sharpen * (out - cv2.GaussianBlur(out, (0, 0), 1.5))
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def _fit_affine(source: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float32]:
    """Least-squares affine map ``[2, 3]`` from source to target points."""
    design = np.concatenate([source, np.ones((len(source), 1), np.float32)], axis=1)
    solution, *_ = np.linalg.lstsq(design, target, rcond=None)
    return solution.T.astype(np.float32)
