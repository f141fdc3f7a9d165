"""Whether segments are where the manipulation is: clips of a person that are real, fake, and real again.

    python benchmarks/localise.py [CLIP...] [--pair REAL FAKE ...] [--model NAME_OR_FOLDER] [--seed 0] [--json FILE]

Of every CLIP, a video of a real face, a stretch of a quarter to a half of its length is blended into itself, frame by
frame as in training (``deepscan/train/self_blend.py``), and the clip is encoded again (H.264, CRF 18), stretch and rest
alike; without clips those of ``footage.py`` are taken. Of every ``--pair``, an original and its forgery with the same
frames, the stretch is taken from the forgery. Each clip also goes in as it is, encoded the same way: a segment found
there is a false one. It prints

- the mean temporal IoU of what was reported and the stretch, over all clips that have one;
- the average precision of segments at an IoU of 0.5, ranked by their probability, with the untouched clips among them;
- in how many clips a segment begins and ends within one sampling step of the stretch;
- in how many untouched clips a segment was reported.

Intervals are 95 % bootstrap intervals over clips.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.error
import numpy as np
from footage import CLIPS, default_folder, make_clip
from measure import markdown
from tqdm import tqdm

from deepscan.config import PredictSettings
from deepscan.detector import Detector, load_detector
from deepscan.errors import DeepscanError, MediaError
from deepscan.evaluate.robustness.codecs import Coding, write_clip
from deepscan.explain.timeline import sampling_step_s
from deepscan.extract.faces.detect import FaceFinder
from deepscan.files import write_atomically
from deepscan.train.self_blend import BlendParameters, draw_blend, self_blend
from deepscan.types import Face, Frame, RgbImage

SCHEMA = "deepscan.benchmark.localise/1"
_MOST_FRAMES = 400
_JITTER = 0.5

Span = tuple[float, float]
Kind = Literal["self-blended", "forgery", "untouched"]


@dataclass(frozen=True, slots=True)
class LocalisedClip:
    """One made clip and what was said of it.

    Attributes:
        name: of the clip that it was made from.
        kind: what was done to it.
        stretch: start and end in seconds of what was changed; None where nothing was.
        segments: start, end and probability of the segments.
        step_s: between sampled frames.
        probability: of the whole clip; None where nobody was judged.
    """

    name: str
    kind: Kind
    stretch: Span | None
    segments: tuple[tuple[float, float, float], ...]
    step_s: float
    probability: float | None

    @property
    def iou(self) -> float:
        """Of all segments together and the stretch, in time; a segment reaches half a step beyond its frames."""
        assert self.stretch is not None  # noqa: S101 - asked of changed clips only
        half = self.step_s / 2
        spans = [(start - half, end + half) for start, end, _ in self.segments]
        common = sum(_common(span, self.stretch) for span in spans)
        whole = sum(end - start for start, end in spans) + self.stretch[1] - self.stretch[0] - common
        return common / whole

    @property
    def within_a_step(self) -> bool:
        """Whether some segment begins and ends no further than one sampling step from the stretch."""
        assert self.stretch is not None  # noqa: S101
        start, end = self.stretch
        return any(abs(a - start) <= self.step_s and abs(b - end) <= self.step_s for a, b, _ in self.segments)


def read(path: Path) -> tuple[list[RgbImage], Fraction]:
    """Up to 400 frames of a clip, and its frame rate.

    Raises:
        MediaError: it cannot be read.
    """
    frames: list[RgbImage] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            for frame in container.decode(stream):
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
                if len(frames) == _MOST_FRAMES:
                    break
            return frames, stream.average_rate or Fraction(25)
    except (av.error.FFmpegError, IndexError) as error:
        raise MediaError(f"{path.name}: cannot be read", str(error), "Give a video.") from error


def blended(frames: Sequence[RgbImage], finder: FaceFinder, rng: np.random.Generator) -> list[RgbImage] | None:
    """The largest face of each frame blended into itself, by one drawing that moves a little; None without faces."""
    parameters: BlendParameters = draw_blend(rng)
    face: Face | None = None
    out = []
    for image in frames:
        face = next(iter(finder.detect([image])[0]), face)
        if face is None:
            return None
        out.append(self_blend(image, face.landmarks, parameters.jittered(rng, _JITTER)))
    return out


def judge(detector: Detector, name: str, kind: Kind, frames: Sequence[RgbImage], rate: Fraction, span: Span | None,
          folder: Path) -> LocalisedClip:  # fmt: skip
    """Encode and judge one made clip."""
    path = folder / "made.mp4"
    timed = (Frame(image, float(index / rate), index) for index, image in enumerate(frames))
    write_clip(path, timed, Coding("libx264", crf=18), float(rate))
    result = detector.predict(path)
    segments = tuple((s.start_s, s.end_s, s.probability) for s in result.segments)
    return LocalisedClip(name, kind, span, segments, sampling_step_s(result) or 0.0, result.probability)


def measure(options: argparse.Namespace) -> Iterator[LocalisedClip]:
    """All clips, one after the other."""
    detector = load_detector(options.model, PredictSettings())
    rng = np.random.default_rng(options.seed)
    clips = options.clips or ([] if options.pair else [make_clip(CLIPS["480p"], default_folder())])
    sources: list[tuple[Path, Path | None]] = [(clip, None) for clip in clips]
    sources += [(real, fake) for real, fake in options.pair or []]
    with tempfile.TemporaryDirectory(prefix="deepscan-") as made:
        for clip, forgery in tqdm(sources, unit="clip"):
            frames, rate = read(clip)
            n = len(frames) if forgery is None else min(len(frames), len(read(forgery)[0]))
            length = int(n * rng.uniform(0.25, 0.5))
            first = int(rng.uniform(0.15, 0.85) * (n - length))
            changed: Sequence[RgbImage] | None
            if forgery is None:
                changed = blended(frames[first : first + length], FaceFinder(), rng)
            else:
                changed = read(forgery)[0][first : first + length]
            if changed is None:
                print(f"{clip.name}: no face is found; left out", file=sys.stderr)
                continue
            mixed = [*frames[:first], *changed, *frames[first + length : n]]
            span = float(first / rate), float((first + length) / rate)
            kind: Kind = "self-blended" if forgery is None else "forgery"
            yield judge(detector, clip.name, kind, mixed, rate, span, Path(made))
            yield judge(detector, clip.name, "untouched", frames[:n], rate, None, Path(made))


def average_precision(clips: Sequence[LocalisedClip], least_iou: float = 0.5) -> float:
    """Of segments ranked by probability; one is right if it shares so much with a stretch that no surer one took."""
    n_stretches = sum(one.stretch is not None for one in clips)
    ranked = sorted(((s, i) for i, one in enumerate(clips) for s in one.segments), key=lambda pair: -pair[0][2])
    taken: set[int] = set()
    right: list[bool] = []
    for (start, end, _), i in ranked:
        one, half = clips[i], clips[i].step_s / 2
        hit = one.stretch is not None and i not in taken and _iou((start - half, end + half), one.stretch) >= least_iou
        if hit:
            taken.add(i)
        right.append(hit)
    if not n_stretches or not right:
        return 0.0
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(right) + 1))[::-1])[::-1]
    return float(precision[np.array(right)].sum() / n_stretches)


def figures(clips: Sequence[LocalisedClip], seed: int = 0) -> dict[str, Any]:
    """What was measured, with 95 % intervals. Clips are drawn with what is made of them."""
    names = sorted({one.name for one in clips})
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(names, len(names)) for _ in range(1000)]
    of = {name: [one for one in clips if one.name == name] for name in names}

    def interval(value: Any) -> list[float]:
        values = [value([one for name in sample for one in of[name]]) for sample in drawn]
        return [float(v) for v in np.percentile(values, [2.5, 97.5])]

    def iou(some: Sequence[LocalisedClip]) -> float:
        return float(np.mean([one.iou for one in some if one.stretch is not None]))

    changed = [one for one in clips if one.stretch is not None]
    untouched = [one for one in clips if one.stretch is None]
    return {
        "clips": len(changed),
        "iou": iou(clips),
        "iou_95": interval(iou),
        "ap_50": average_precision(clips),
        "ap_50_95": interval(average_precision),
        "within_a_step": sum(one.within_a_step for one in changed),
        "with_any_segment": sum(bool(one.segments) for one in changed),
        "untouched": len(untouched),
        "untouched_with_a_segment": sum(bool(one.segments) for one in untouched),
    }


def _common(a: Span, b: Span) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def _iou(a: Span, b: Span) -> float:
    common = _common(a, b)
    return common / (a[1] - a[0] + b[1] - b[0] - common)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 3 if something cannot be read or written."""
    parser = argparse.ArgumentParser(description="Whether segments are where the manipulation is.")
    parser.add_argument("clips", nargs="*", type=Path, metavar="CLIP", help="videos of a real face")
    parser.add_argument("--pair", nargs=2, action="append", type=Path, metavar=("REAL", "FAKE"), help="repeatable")
    parser.add_argument("--model", default="default", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures there")
    options = parser.parse_args(arguments)
    try:
        clips = list(measure(options))
        report: dict[str, Any] = {"schema": SCHEMA, "model": options.model, "seed": options.seed}
        rows = []
        for kind in ("self-blended", "forgery"):
            names = {one.name for one in clips if one.kind == kind}
            if some := [one for one in clips if one.name in names]:
                report[kind] = measured = figures(some)
                rows.append(
                    [
                        kind,
                        str(measured["clips"]),
                        f"{measured['iou']:.3f} ({measured['iou_95'][0]:.3f}-{measured['iou_95'][1]:.3f})",
                        f"{measured['ap_50']:.3f} ({measured['ap_50_95'][0]:.3f}-{measured['ap_50_95'][1]:.3f})",
                        f"{measured['within_a_step']}",
                        f"{measured['with_any_segment']}",
                        f"{measured['untouched_with_a_segment']} of {measured['untouched']}",
                    ]
                )
        header = ["stretch", "clips", "IoU", "AP at 0.5", "within a step", "any segment", "untouched with one"]
        print(markdown(header, rows))
        if options.json is not None:
            report["clips"] = [asdict(one) for one in clips]
            write_atomically(options.json, json.dumps(report, indent=2).encode())
    except DeepscanError as error:
        print(f"localise: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
