"""High dynamic range to what a screen without it shows."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepscan.types import RgbImage

# Numbers of ITU-T H.273, as files and FFmpeg have them.
PQ, HLG = 16, 18
# Rec. ITU-R BT.2408: what is white in SDR is as bright as this in HDR; HLG is meant for a display of this peak.
_WHITE_NITS, _HLG_PEAK_NITS = 203.0, 1000.0
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
# Linear BT.2020 to linear BT.709 (Rec. ITU-R BT.2087, inverted).
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32
)
# Up to here (of SDR white, linear) nothing changes; what is brighter is drawn together into the rest.
_KNEE = 0.8
_STEPS = 4096
_ROWS_AT_ONCE = 64  # what is worked on stays in the processor's cache


def tone_mapped(image: NDArray[np.uint16], transfer: int, *, wide: bool = True) -> RgbImage:
    """A picture of high dynamic range as a screen without it shows it: BT.709 colours, display gamma 2.4.

    Args:
        image: RGB ``uint16 [H, W, 3]``, full range.
        transfer: :data:`PQ` or :data:`HLG`.
        wide: whether its colours are those of BT.2020; otherwise they are BT.709's.

    Returns:
        RGB ``uint8 [H, W, 3]``. 203 nits are white; a highlight keeps its hue.
    """
    linear, compress, encode = _linear_values(transfer), _compression(), _encoded_values()
    out = np.empty(image.shape, dtype=np.uint8)
    for start in range(0, len(image), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        light = linear[image[rows] >> 4]
        if transfer == HLG:
            # The display's own curve (BT.2100, system gamma 1.2): it works on the luminance of all three.
            light *= np.power(light @ _BT2020_LUMA, 0.2)[..., None] * np.float32(_HLG_PEAK_NITS / _WHITE_NITS)
        if wide:
            light = light @ _TO_BT709.T
        np.clip(light, 0, None, out=light)
        brightest = light.max(axis=2)
        # In steps of the square root: the dark is where steps would be seen.
        positions = np.sqrt(np.minimum(brightest * np.float32(1 / _MOST_LIGHT), 1)) * np.float32(_STEPS - 1)
        light *= compress[positions.astype(np.int32)][..., None]
        out[rows] = encode[(np.sqrt(np.minimum(light, 1)) * np.float32(_STEPS - 1) + 0.5).astype(np.int32)]
    return out


_MOST_LIGHT = 10_000 / _WHITE_NITS


@cache
def _linear_values(transfer: int) -> NDArray[np.float32]:
    """By a signal's 12 bits: light, 1 for SDR white (PQ), or 1 for the camera's peak (HLG); ``float32 [4096]``."""
    signal = np.arange(_STEPS) / (_STEPS - 1)
    if transfer == HLG:  # inverse OETF of BT.2100
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # EOTF of BT.2100
    root = signal ** (1 / m2)
    return (_MOST_LIGHT * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)).astype(np.float32)


@cache
def _compression() -> NDArray[np.float32]:
    """What light is multiplied with, by the square root of the brightest colour's share of the most there is."""
    light = _MOST_LIGHT * (np.arange(_STEPS) / (_STEPS - 1)) ** 2
    over, room = np.maximum(light - _KNEE, 0), 1 - _KNEE
    soft = _KNEE + room * over / (over + room)
    return np.where(light > _KNEE, soft / np.maximum(light, _KNEE), 1).astype(np.float32)


@cache
def _encoded_values() -> NDArray[np.uint8]:
    """8 bits of BT.1886's gamma by the square root of light, ``uint8 [4096]``."""
    root = np.arange(_STEPS) / (_STEPS - 1)
    return np.round(255 * root ** (2 / 2.4)).astype(np.uint8)
