"""Which frames of a video to take, and by which route. Pure arithmetic on timestamps: no file, no decoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ticks = NDArray[np.int64]

# What one seek costs, counted in decoded frames. A seek itself is almost free; what costs is throwing away
# the frames that the decoder's threads have in flight, about one a thread, and filling them again. Measured 3
# to 4 on 2 cores (3 threads) with 480p and 1080p H.264; FFmpeg goes up to 16 threads. In between is good
# enough: keyframes are usually 50 to 300 frames apart.
SEEK_COST_FRAMES = 12

# A manipulated stretch is told when so many sampled frames in a row look it.
SEGMENT_FRAMES = 2
MOST_FRAMES = 10_000


@dataclass(frozen=True, slots=True)
class Step:
    """One frame to take.

    Attributes:
        pts: timestamp of the frame, in ticks of the stream's time base.
        seek_to: timestamp of the keyframe to jump to first, or None to go on decoding from where we are.
    """

    pts: int
    seek_to: int | None = None


def frames_for(n_frames: int, duration_s: float | None, min_segment_s: float | None) -> int:
    """How many frames to take, so that no stretch of a given length escapes.

    Args:
        n_frames: to take at least.
        duration_s: of the video; None for an image.
        min_segment_s: every stretch as long as this holds :data:`SEGMENT_FRAMES` of the frames; None asks for nothing.

    Returns:
        At most :data:`MOST_FRAMES`, unless ``n_frames`` is more.
    """
    if min_segment_s is None or not duration_s:
        return n_frames
    return max(n_frames, min(MOST_FRAMES, math.ceil(SEGMENT_FRAMES * duration_s / min_segment_s)))


def evenly(available: int, wanted: int) -> list[int]:
    """Up to ``wanted`` indices spread evenly over ``available``."""
    n = min(available, wanted)
    return [(2 * i + 1) * available // (2 * n) for i in range(n)]


def choose(pts: Ticks, end: int, n_frames: int) -> Ticks:
    """Positions of ``n_frames`` frames spread evenly over time; every frame once if there are no more.

    Args:
        pts: the frames' timestamps, sorted and distinct, ``int64 [F]``.
        end: when the last frame leaves the screen, in the same ticks.
        n_frames: how many are wanted.

    Returns:
        Strictly increasing positions into ``pts``, ``int64 [min(F, n_frames)]``. The i-th is the frame
        nearest to the middle of the i-th of ``n_frames`` equal stretches, or the next where that is taken.
    """
    if len(pts) <= n_frames:
        return np.arange(len(pts), dtype=np.int64)
    middles = pts[0] + (np.arange(n_frames) + 0.5) * (max(end, int(pts[-1])) - int(pts[0])) / n_frames
    after = np.clip(np.searchsorted(pts, middles), 1, len(pts) - 1)
    nearest = np.where(middles - pts[after - 1] <= pts[after] - middles, after - 1, after)
    # Distinct by moving later frames on, then earlier ones back where that ran off the end. A running maximum
    # of `nearest - i` is the same as "at least one more than the one before".
    order = np.arange(n_frames)
    forward = np.maximum.accumulate(nearest - order) + order
    picked: Ticks = np.minimum(forward, len(pts) - n_frames + order).astype(np.int64)
    return picked


def plan(
    pts: Ticks,
    end: int,
    keys: Ticks,
    n_frames: int,
    seek_cost: int = SEEK_COST_FRAMES,
    usable: NDArray[np.bool_] | None = None,
) -> list[Step]:
    """The frames to take in order, each reached by going on or by a seek, whichever decodes fewer frames.

    Args:
        pts: the frames' timestamps, sorted and distinct, ``int64 [F]``.
        end: when the last frame leaves the screen, in the same ticks.
        keys: timestamps at which decoding can start, sorted, ``int64 [K]``. Empty: never seek.
        n_frames: how many frames are wanted.
        seek_cost: what a seek costs, in decoded frames.
        usable: ``bool [F]``, frames that may be taken, which are spread over the time that they are shown; None for
            all.

    Choosing for each frame on its own is the best plan overall: what the next frame costs depends only on
    where we are, and after taking a frame that is the same whichever way it was reached.
    """
    steps = []
    here = -1
    for target in _targets(pts, end, n_frames, usable).tolist():
        ticks = int(pts[target])
        before = int(np.searchsorted(keys, ticks, side="right")) - 1
        seek_to = None
        if before >= 0:
            key = int(keys[before])
            first = int(np.searchsorted(pts, key))
            if first > here + 1 and (target - first + 1) + seek_cost < target - here:
                seek_to = key
        steps.append(Step(ticks, seek_to))
        here = target
    return steps


def _targets(pts: Ticks, end: int, n_frames: int, usable: NDArray[np.bool_] | None) -> Ticks:
    if usable is None:
        return choose(pts, end, n_frames)
    positions = np.flatnonzero(usable)
    if not len(positions):
        return positions
    # Time without what is left out: the frames beside a gap do not stand for it.
    ends = np.cumsum(np.diff(pts, append=max(end, int(pts[-1])))[positions])
    return positions[choose(np.concatenate([[0], ends[:-1]]), int(ends[-1]), n_frames)]
