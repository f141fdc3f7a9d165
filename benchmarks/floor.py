"""The floor: what judging a clip costs at least on this machine, however well it is programmed.

It is the time of decoding the frames that have to be decoded and doing nothing with them, plus the networks'
floating-point operations at the rate of the largest matrix product. The operations are counted while the clip is judged
in torch; the rate is measured in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepscan.types import Frame

_MATRIX, _PRODUCTS, _DECODES = 2048, 5, 3


@dataclass(frozen=True, slots=True)
class Floor:
    """What a clip costs at least.

    Attributes:
        decode_s: the quicker of the product's own sampling and of decoding in one pass what has to be decoded: the
            frames that are taken and those that others need.
        operations: floating-point operations of the networks; a multiply and an add are two.
        peak_per_s: operations a second of a matrix product, all threads, in the fastest of the number formats that the
            processor multiplies itself.
    """

    decode_s: float
    operations: int
    peak_per_s: float

    @property
    def seconds(self) -> float:
        return self.decode_s + self.operations / self.peak_per_s


def make_floor(n_frames: int) -> Callable[[Path], Floor]:
    """For :class:`measure.Worker`."""
    from deepscan.config import PredictSettings
    from deepscan.detector import load_detector

    detector = load_detector(settings=PredictSettings.model_validate({"frames": n_frames, "runtime": "torch"}))
    peak = matrix_peak_per_s()

    def floor(path: Path) -> Floor:
        decode_s = min(_median_s(_sampled, path, n_frames), _median_s(_needed, path, n_frames))
        return Floor(decode_s, count_operations(lambda: detector.predict(path)), peak)

    return floor


def count_operations(work: Callable[[], Any]) -> int:
    """Floating-point operations of the torch networks that ``work`` runs: convolutions and matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def matrix_peak_per_s() -> float:
    """Operations a second of a product of large matrices, the best of several."""
    import torch

    from deepscan.runtimes.processor import cpu_has_bf16

    best = 0.0
    for dtype in (torch.float32, torch.bfloat16) if cpu_has_bf16() else (torch.float32,):
        a, b = torch.randn(_MATRIX, _MATRIX).to(dtype), torch.randn(_MATRIX, _MATRIX).to(dtype)
        a @ b
        for _ in range(_PRODUCTS):
            start = time.perf_counter()
            a @ b
            best = max(best, 2 * _MATRIX**3 / (time.perf_counter() - start))
    return best


def _median_s(work: Callable[[Path, int], float], path: Path, n_frames: int) -> float:
    return median(work(path, n_frames) for _ in range(_DECODES))


def _sampled(path: Path, n_frames: int) -> float:
    """Seconds of the product's own sampling, as a prediction does it."""
    start = time.perf_counter()
    for _ in _frames(path, n_frames):
        pass
    return time.perf_counter() - start


def _needed(path: Path, n_frames: int) -> float:
    """Seconds of decoding in one pass with all threads, without frames that nobody needs; no picture is converted."""
    import av

    times_s = [frame.time_s for frame in _frames(path, n_frames)]
    start = time.perf_counter()
    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        stream.thread_type = "AUTO"
        taken = {round(time_s / stream.time_base) + (stream.start_time or 0) for time_s in times_s}
        may_skip = stream.codec_context.name in ("h264", "hevc")
        for packet in container.demux(stream):
            if may_skip:
                stream.codec_context.skip_frame = "DEFAULT" if packet.pts in taken else "NONREF"
            if any(frame.pts >= max(taken) for frame in packet.decode()):
                break
    return time.perf_counter() - start


def _frames(path: Path, n_frames: int) -> Iterator[Frame]:
    from deepscan.extract.video.frames import sample_frames
    from deepscan.extract.video.sampling import NEARBY_SHARE

    return sample_frames(path, n_frames, nearby_share=NEARBY_SHARE)
