"""Which frames of a video to take, and by which route. Pure arithmetic on timestamps: no file, no decoder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Ticks = NDArray[np.int64]

# What one seek costs, counted in decoded frames. A seek itself is almost free; what costs is throwing away
# the frames that the decoder's threads have in flight, about one a thread, and filling them again. Measured 3
# to 4 on 2 cores (3 threads) with 480p and 1080p H.264; FFmpeg goes up to 16 threads. In between is good
# enough: keyframes are usually 50 to 300 frames apart.
SEEK_COST_FRAMES = 12
# What a seek to a keyframe that is itself taken costs: the decoder is emptied, and one thread decodes one frame.
_KEY_COST_FRAMES = 4

# How far from its evenly spread time a frame may be taken where that is quicker, in shares of the spacing.
NEARBY_SHARE = 0.25
_WORTH_IT_SHARE = 0.9

# A manipulated stretch is told when so many sampled frames in a row look it.
SEGMENT_FRAMES = 2
MOST_FRAMES = 10_000


@dataclass(frozen=True, slots=True)
class Step:
    """One frame to take.

    Attributes:
        pts: timestamp of the frame, in ticks of the stream's time base.
        seek_to: timestamp of the keyframe to jump to first, or None to go on decoding from where we are.
        shift: ticks by which it is later than the frame of the evenly spread time; negative where it is earlier.
    """

    pts: int
    seek_to: int | None = None
    shift: int = 0


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
    nearby_share: float = 0.0,
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
        nearby_share: frames may be taken so far from their times, in shares of the spacing, where that saves decoding;
            ``usable`` is None then.

    Choosing for each frame on its own is the best plan overall: what the next frame costs depends only on
    where we are, and after taking a frame that is the same whichever way it was reached.
    """
    targets = _targets(pts, end, n_frames, usable)
    exact = _steps(pts, keys, [(target, target, target) for target in targets.tolist()], seek_cost)
    if not nearby_share or not len(keys) or len(targets) == len(pts):
        return exact
    windows = _windows(pts, end, targets, nearby_share)
    nearby = _hastened(pts, _steps(pts, keys, windows, seek_cost), [first for first, *_ in windows])
    # Moving frames for little would change answers for nothing.
    is_worth_it = _cost(pts, nearby, seek_cost) <= _WORTH_IT_SHARE * _cost(pts, exact, seek_cost)
    return nearby if is_worth_it else exact


def _steps(pts: Ticks, keys: Ticks, windows: list[tuple[int, int, int]], seek_cost: int) -> list[Step]:
    """For each window its target, or the keyframe in it that is nearest to that, where that is quicker."""
    shown_keys = np.flatnonzero(np.isin(pts, keys))
    steps: list[Step] = []
    here = -1
    for first, target, last in windows:
        step, cost = _reached(pts, keys, here, target, seek_cost)
        near = shown_keys[(shown_keys >= max(first, here + 1)) & (shown_keys <= last)] if first < last else keys[:0]
        if len(near):
            key = int(near[np.abs(pts[near] - step.pts).argmin()])
            if min(key - here, _KEY_COST_FRAMES) < cost:
                ticks = int(pts[key])
                step = Step(ticks, ticks if key - here > _KEY_COST_FRAMES else None, ticks - step.pts)
        steps.append(step)
        here = int(np.searchsorted(pts, step.pts))
    return steps


def _cost(pts: Ticks, steps: list[Step], seek_cost: int) -> int:
    """What following a plan costs, in decoded frames."""
    cost, here = 0, -1
    for step in steps:
        place = int(np.searchsorted(pts, step.pts))
        if step.seek_to == step.pts:
            cost += _KEY_COST_FRAMES
        elif step.seek_to is not None:
            cost += place - int(np.searchsorted(pts, step.seek_to)) + 1 + seek_cost
        else:
            cost += place - here
        here = place
    return cost


def _reached(pts: Ticks, keys: Ticks, here: int, target: int, seek_cost: int) -> tuple[Step, int]:
    """The quicker way from one position to another, and what it costs, in decoded frames."""
    ticks = int(pts[target])
    before = int(np.searchsorted(keys, ticks, side="right")) - 1
    if before >= 0:
        key = int(keys[before])
        first = int(np.searchsorted(pts, key))
        cost = (target - first + 1) + seek_cost
        if first > here + 1 and cost < target - here:
            return Step(ticks, key), cost
    return Step(ticks), target - here


def _windows(pts: Ticks, end: int, targets: Ticks, share: float) -> list[tuple[int, int, int]]:
    """Each position of ``targets`` between the first and the last that may be taken instead, neighbours left out."""
    step = (max(end, int(pts[-1])) - int(pts[0])) / len(targets)
    middles = int(pts[0]) + (np.arange(len(targets)) + 0.5) * step
    first = np.minimum(np.searchsorted(pts, middles - share * step), targets)
    last = np.maximum(np.searchsorted(pts, middles + share * step, side="right") - 1, targets)
    last = np.minimum(last, np.append(targets[1:], len(pts)) - 1)
    return list(zip(first.tolist(), targets.tolist(), last.tolist(), strict=True))


def _hastened(pts: Ticks, steps: list[Step], firsts: Sequence[int]) -> list[Step]:
    """The same steps, those before a seek as early as they may be: what follows them is not decoded."""
    hastened: list[Step] = []
    for i, step in enumerate(steps):
        is_followed_by_seek = steps[i + 1].seek_to is not None if i + 1 < len(steps) else step.seek_to is not None
        if is_followed_by_seek and step.seek_to != step.pts:
            since = [hastened[-1].pts] if hastened else []
            since += [] if step.seek_to is None else [step.seek_to]
            earliest = max([firsts[i], *(int(np.searchsorted(pts, ticks, side="right")) for ticks in since)])
            ticks = min(step.pts, int(pts[earliest]))
            step = Step(ticks, step.seek_to, step.shift + ticks - step.pts)  # noqa: PLW2901 - the same, earlier
        hastened.append(step)
    return hastened


def _targets(pts: Ticks, end: int, n_frames: int, usable: NDArray[np.bool_] | None) -> Ticks:
    if usable is None:
        return choose(pts, end, n_frames)
    positions = np.flatnonzero(usable)
    if not len(positions):
        return positions
    # Time without what is left out: the frames beside a gap do not stand for it.
    ends = np.cumsum(np.diff(pts, append=max(end, int(pts[-1])))[positions])
    return positions[choose(np.concatenate([[0], ends[:-1]]), int(ends[-1]), n_frames)]
