"""Traces of processing, measured on pixels: an earlier JPEG, scaling up by two, a picture taken of a screen.

Each takes a few milliseconds of a region of at most 512 px around the largest face. How often they are right, and how
often they fire on pictures that were not so treated, is in docs/traces.md (``benchmarks/traces.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import product
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.extract.file_facts.image_facts import luminance_table
from deepscan.types import Box, RgbImage, Trace

# SciPy, which has all this quicker, is no dependency of prediction, and slow to import.
_erf = np.vectorize(math.erf, otypes=[np.float64])

REGION_PX = 512
# Frames of a clip that are measured: the first, and from then on one in so many.
MOST_FRAMES, FRAMES_APART = 4, 8

# A trace is reported from here on.
DOUBLE_JPEG_FROM, SCALED_UP_FROM, SCREEN_FROM = 5.0, 0.43, 2.4

MESSAGES = {
    "double_jpeg": "The picture was saved as JPEG at least twice, the first time with another quality. Platforms and "
    "editors do so with honest pictures, too.",
    "scaled_up": "The picture was scaled up to twice its size: it has less detail than its pixels promise. Platforms, "
    "editors and digital zoom do so with honest pictures, too.",
    "screen": "A fine regular pattern lies over the picture, as in photographs of a screen; some fabrics, fences and "
    "halftone prints look alike.",
}

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BLOCK = 8
# The lowest frequencies after the mean, where most coefficients are not 0.
_FREQUENCIES = [(u, s - u) for s in range(1, 6) for u in range(s + 1)]
_LEVELS, _MOST_STEP = 16, 60
_EARLIER_QUALITIES = range(30, 99)
# Rounding to whole pixel values between two compressions, in the coefficients' unit.
_ROUNDING = 0.5
# So much of each distribution is left to what is neither: clipped pixels, edges of pasted parts.
_OTHER = 0.03
_DCT = np.sqrt(2 / _BLOCK) * np.cos(np.pi / _BLOCK * np.outer(np.arange(_BLOCK), np.arange(_BLOCK) + 0.5))
_DCT[0] /= np.sqrt(2)
_DCT = _DCT.astype(np.float32)
_SURVIVAL = np.array([1, 0.8, 0.64, 0.5, 0.4, 0.3, 0.22, 0.16, 0.11, 0.08, 0.055, 0.04, 0.025, 0.015, 0.01, 0.005])
_FEWEST_BLOCKS = 256
# The frequencies that speak most for an earlier compression do not count: a few do so by chance.
_LEFT_OUT = 3

_TILE_PX, _SMALLEST_TILE_PX = 256, 96
_AROUND = 15


def region_of(image: RgbImage, box: Box | None) -> NDArray[np.float32]:
    """Luma of at most ``REGION_PX`` a side around a face, or around the middle, in steps of JPEG's blocks.

    Returns:
        ``float32 [H, W]`` in [0, 255].
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box or (0, 0, width, height)
    top, left = _start((y1 + y2) / 2, height), _start((x1 + x2) / 2, width)
    return np.asarray(image[top : top + REGION_PX, left : left + REGION_PX].astype(np.float32) @ _LUMA)


def _start(middle: float, side: int) -> int:
    return int(min(max(middle - REGION_PX / 2, 0), max(side - REGION_PX, 0))) // _BLOCK * _BLOCK


def double_jpeg(luma: NDArray[np.float32], table: Sequence[int]) -> float | None:
    """How much better its coefficients fit an earlier compression at another quality, on the same blocks, than none.

    Under a first, coarser or otherwise spaced quantisation some levels of the last one are rare or missing. Expected
    counts are those of the same picture on blocks that are shifted by half, where no quantisation shows.

    Args:
        luma: from a decoded JPEG, its first pixel that of a block.
        table: quantisation of the luminance in the file, 64 steps in rows.

    Returns:
        The best log-likelihood ratio of an earlier quality, at least 0, without the frequencies that speak most for it;
        None for a picture that is too small.
    """
    blocks, shifted = _coefficients(luma), _coefficients(luma[_BLOCK // 2 :, _BLOCK // 2 :])
    if len(blocks) < _FEWEST_BLOCKS or not len(shifted):
        return None
    last = np.reshape(np.asarray(table, np.float64), (_BLOCK, _BLOCK))
    ratios = np.array([_log_ratios(blocks[:, u, v], shifted[:, u, v], last[u, v]) for u, v in _FREQUENCIES])
    each = np.sort(ratios[np.arange(len(_FREQUENCIES)), _earlier_steps()], axis=1)
    return max(0.0, float(each[:, :-_LEFT_OUT].sum(axis=1).max()))


@cache
def _earlier_steps() -> NDArray[np.int64]:
    """Steps of every earlier quality, ``[Q, F]``, at most the largest that is looked for."""
    positions = tuple(zip(*_FREQUENCIES, strict=True))
    steps = [np.reshape(luminance_table(quality), (_BLOCK, _BLOCK))[positions] for quality in _EARLIER_QUALITIES]
    return np.array(steps).clip(max=_MOST_STEP)


def _coefficients(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """``float32 [N, 8, 8]`` of all whole blocks."""
    rows, columns = (side // _BLOCK for side in luma.shape)
    blocks = luma[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2)
    return np.asarray(_DCT @ (blocks.reshape(-1, _BLOCK, _BLOCK) - np.float32(128)) @ _DCT.T)


def _log_ratios(values: NDArray[np.float32], shifted: NDArray[np.float32], step: float) -> NDArray[np.float64]:
    """Log-likelihood ratio of each earlier step, ``[_MOST_STEP + 1]``, over no earlier compression; 0 for 0 and 1."""
    levels = np.rint(np.abs(values) / step)
    counts = np.bincount(levels[levels < _LEVELS].astype(np.int64), minlength=_LEVELS)
    known = _SURVIVAL[8 / len(shifted) <= _SURVIVAL]
    edges = np.quantile(np.abs(shifted), 1 - known)
    edges[0] = 0
    edges = np.maximum.accumulate(edges) + 1e-3 * np.arange(len(edges))
    logs = np.log(known)
    tail = (logs[-1] - logs[-3]) / (edges[-1] - edges[-3])

    def over(value: NDArray[np.floating]) -> NDArray[np.floating]:
        """Share of the unquantised coefficients above a value: exponential from quantile to quantile."""
        beyond = logs[-1] + tail * (value - edges[-1])
        return np.exp(np.where(value > edges[-1], beyond, np.interp(value, edges, logs)))

    bounds = (np.arange(_LEVELS + 1) - 0.5) * step
    single = -np.diff(over(bounds))
    # What the first compression left: every multiple of its step, spread by rounding over two levels of the last.
    steps = np.arange(2, _MOST_STEP + 1)
    n_multiples = (bounds[-1] / steps).astype(np.int64) + 2
    first = np.repeat(steps, n_multiples).astype(np.float64)
    multiple = np.concatenate([np.arange(n) for n in n_multiples])
    mass = over((multiple - 0.5) * first) - over((multiple + 0.5) * first)
    position = multiple * first / step
    level = np.rint(position).astype(np.int64)
    side = np.where(position >= level, 1, -1)
    spilt = 0.5 + 0.5 * _erf((np.abs(position - level) - 0.5) * step / (_ROUNDING * math.sqrt(2)))
    rows = np.tile(first, 2).astype(np.int64)
    columns = np.concatenate([level, np.abs(level + side)]).clip(max=_LEVELS)
    shares = np.concatenate([mass * (1 - spilt), mass * spilt])
    shape = _MOST_STEP + 1, _LEVELS + 1
    double = np.bincount(np.ravel_multi_index((rows, columns), shape), shares, math.prod(shape)).reshape(shape)
    mixed = (1 - _OTHER) * double[:, :_LEVELS] + _OTHER * single
    ratios = (np.log((mixed + 1e-9) / (single + 1e-9)) * counts).sum(axis=1)
    ratios[:2] = 0
    return np.asarray(ratios)


def scaled_up(luma: NDArray[np.float32]) -> float | None:
    """How alike the upper half of the spectrum is to the lower one, mirrored, as it is after scaling up by two.

    Scaling up repeats the spectrum of the small picture at the new sampling frequency, and no filter in use removes it
    whole. In other pictures frequencies half the sampling frequency apart have nothing to do with each other, but for
    the blocks of codecs: their own frequencies are left out.

    Returns:
        Coherence in [0, 1] of the direction where it is less; None for a picture that is too small.
    """
    spectra = _spectra(luma)
    return None if spectra is None else _mirrored(spectra)


def screen(luma: NDArray[np.float32]) -> float | None:
    """How far a single frequency stands out: the grid of a screen's pixels, or its moire with the camera's.

    Left out are what lies near the axes, where straight edges are, and multiples of the blocks' frequency.

    Returns:
        Logarithm of the greatest ratio of the power to the median around it; None for a picture that is too small.
    """
    spectra = _spectra(luma)
    return None if spectra is None else _highest_peak(spectra)


def _mirrored(spectra: NDArray[np.complex64]) -> float:
    return min(_coherence(spectra), _coherence(spectra.swapaxes(1, 2)))


def _highest_peak(spectra: NDArray[np.complex64]) -> float:
    side = spectra.shape[1]
    # Relative to the power of a pixel, with a floor of that of rounding.
    power = (np.abs(spectra) ** 2).mean(axis=0) / (np.hanning(side) ** 2).sum() ** 2
    logs = np.fft.fftshift(np.log(power + 0.1)).astype(np.float32)
    lowest, unit = logs.min(), max(float(np.ptp(logs)), 1e-6) / 255
    around = cv2.medianBlur(((logs - lowest) / unit).astype(np.uint8), _AROUND) * np.float32(unit) + lowest
    peaks = cv2.blur(logs - around, (3, 3))
    frequencies = np.abs(np.fft.fftshift(np.fft.fftfreq(side)))
    from_blocks = _from_blocks(frequencies, 1.6)
    inside = (frequencies > 0.012) & (frequencies < 0.5 - _BLOCK / side)
    counts = inside[:, None] & inside & ~(from_blocks[:, None] & from_blocks)
    counts &= np.hypot(frequencies[:, None], frequencies) > 0.06
    return max(0.0, float(peaks[counts].max()))


def _spectra(luma: NDArray[np.float32]) -> NDArray[np.complex64] | None:
    """Of up to four tiles, ``[N, side, side]``; None for a picture that is too small."""
    side = min(_TILE_PX, *luma.shape) // _BLOCK * _BLOCK
    if side < _SMALLEST_TILE_PX:
        return None
    hann = np.hanning(side).astype(np.float32)
    tops, lefts = (sorted({0, n - side}) for n in luma.shape)
    tiles = np.array([luma[top : top + side, left : left + side] for top, left in product(tops, lefts)])
    windowed = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * hann[:, None] * hann
    # OpenCV's stays in single precision, a quarter of NumPy's time.
    parts = [cv2.dft(np.ascontiguousarray(tile), flags=cv2.DFT_COMPLEX_OUTPUT) for tile in windowed]
    return np.stack(parts).view(np.complex64)[..., 0]


def _from_blocks(frequencies: NDArray[np.floating], bins: float) -> NDArray[np.bool_]:
    """Which of all frequencies are multiples of a block's, or so many away from one."""
    blocks = frequencies * _BLOCK
    return np.asarray(np.abs(blocks - np.rint(blocks)) * len(frequencies) / _BLOCK <= bins)


def _coherence(spectra: NDArray[np.complex64]) -> float:
    """Of rows half the sampling frequency apart; ``spectra`` are ``[N, side, side]``."""
    side = spectra.shape[1]
    frequencies = np.fft.fftfreq(side)
    rows = np.flatnonzero((np.abs(frequencies - 0.25) < 0.06) & ~_from_blocks(frequencies, 2.5))
    columns = np.flatnonzero((np.abs(frequencies) < 0.2) & (np.abs(frequencies) > 0.02))
    one, other = spectra[:, rows][..., columns], spectra[:, rows - side // 2][..., columns]
    strengths = [np.sqrt((np.abs(part) ** 2).mean(axis=2, keepdims=True)) + 1e-6 for part in (one, other)]
    products = one * other.conj() / (strengths[0] * strengths[1])
    return float(np.abs(products.sum()) / (np.abs(products).sum() + 1e-9))


class TraceMeter:
    """Measures traces on some of the frames that pass by.

    Args:
        jpeg_table: of a still that is a JPEG, as displayed.
    """

    def __init__(self, jpeg_table: Sequence[int] | None) -> None:
        self._table, self._next = jpeg_table, 0
        self._values: dict[str, list[float]] = {}
        self._n_frames = 0

    def add(self, index: int, image: RgbImage, box: Box) -> None:
        """A frame with a face; most of a clip's are passed over."""
        if index < self._next or self._n_frames == MOST_FRAMES:
            return
        self._next, self._n_frames = index + FRAMES_APART, self._n_frames + 1
        luma = region_of(image, box)
        spectra = _spectra(luma)
        measured = {
            "double_jpeg": double_jpeg(luma, self._table) if self._table else None,
            "scaled_up": None if spectra is None else _mirrored(spectra),
            "screen": None if spectra is None else _highest_peak(spectra),
        }
        for code, value in measured.items():
            if value is not None:
                self._values.setdefault(code, []).append(value)

    def finish(self) -> tuple[Trace, ...]:
        """What was measured, the median of the frames; also what is under its limit."""
        limits = {"double_jpeg": DOUBLE_JPEG_FROM, "scaled_up": SCALED_UP_FROM, "screen": SCREEN_FROM}
        medians = {code: median(values) for code, values in self._values.items()}
        return tuple(Trace(code, value, value >= limits[code]) for code, value in medians.items())
