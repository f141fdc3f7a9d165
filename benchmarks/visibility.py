"""What abstaining saves: reals called fake before and after it, on inputs that were made worse in steps.

    python benchmarks/visibility.py --data STORE [--split val] [--clips FOLDER] [--model M] [--out FILE]

On one crop of each of 200 people of the data (the half of it that no limit is fitted on), and on real clips whose
sampled frames are changed before faces are looked for. ``--out`` gets the table in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from deepscan.config import PredictSettings
from deepscan.datasets.data import open_data
from deepscan.datasets.dataset import SampleSet
from deepscan.detector import Detector, load_detector
from deepscan.evaluate.calibration.refit import halved
from deepscan.evaluate.calibration.visibility_limits import chosen_people, measured
from deepscan.evaluate.robustness.codecs import STILL_RATE
from deepscan.evaluate.robustness.corruptions import CHANGES, Setting, run_steps
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.isolation.client import probe, sample_frames
from deepscan.extract.people import PeopleSearch, Person
from deepscan.files import write_atomically
from deepscan.report.model_card import markdown_table
from deepscan.types import Score, VerdictLabel
from deepscan.verdict import BLACK_ONLY, decisions, visible_people

ON_CROPS = {
    "blur": (1, 2, 4), "rescale": (0.5, 0.25, 0.15), "jpeg": (20, 5), "h264-crf": (33, 38, 43), "hevc-rate": (0.025,),
    "social": (0.5, 0.25), "low-light": (0.1, 0.02), "darken": (0.2,),
}  # fmt: skip
ON_CLIPS = {"blur": (1, 2, 4), "rescale": (0.5,), "jpeg": (10,), "h264-crf": (33, 43), "low-light": (0.1, 0.02)}


@dataclass(frozen=True, slots=True)
class AbstentionRow:
    """Answers to the same inputs without (before) and with the limits, ``int8 [n]`` each: 0 real, 1 fake, -1 none."""

    inputs: str
    condition: str
    labels: np.ndarray
    before: np.ndarray
    after: np.ndarray

    def cells(self) -> tuple[str, ...]:
        """For the table."""
        real = self.labels == 0
        name, _, strength = self.condition.partition("=")
        shares = [f"{np.mean(answers >= 0):.2f}" for answers in (self.before, self.after)]
        called = [f"{np.sum(answers[real] == 1)}" for answers in (self.before, self.after)]
        share = f"{np.mean(self.after[real] == 1):.3f}"
        return (self.inputs, name, strength, *shares, *called, share, str(int(real.sum())), str(int((~real).sum())))


HEADER = (
    "on", "change", "strength", "answered before", "answered after", "reals called fake before", "after",
    "share after", "reals", "fakes",
)  # fmt: skip


def crop_rows(detector: Detector, samples: SampleSet, seed: int = 0) -> Iterator[AbstentionRow]:
    """One crop of each person, as it is and changed."""
    people = chosen_people(samples, seed)
    labels = np.array([sample.label for sample in people])
    crops = [sample.crops([len(sample) // 2], detector.card.crop.size_px) for sample in people]
    calibration = detector.card.calibration
    for condition in (None, *((name, value) for name, values in ON_CROPS.items() for value in values)):
        measurement = measured(detector.score, detector.card, people, crops, condition, seed)
        answers = decisions(measurement.probabilities, calibration.threshold, calibration.band)
        blind, limited = (
            measurement.visible(BLACK_ONLY),
            measurement.visible(detector.card.visibility or BLACK_ONLY),
        )
        yield AbstentionRow(
            "crops", measurement.name, labels, np.where(blind, answers, -1), np.where(limited, answers, -1)
        )


def clip_rows(detector: Detector, clips: Sequence[Path], seed: int = 0) -> Iterator[AbstentionRow]:
    """Real clips: their sampled frames are changed, then faces are looked for."""
    settings = detector.settings
    finder = FaceFinder(settings.face, detector.device, detector.runtime)
    films = [(probe(path), list(sample_frames(path, settings.frames))) for path in clips]
    conditions = [("unchanged", 0.0), *((name, value) for name, values in ON_CLIPS.items() for value in values)]
    for name, strength in conditions:
        before, after = [], []
        for media, frames in films:
            make = CHANGES[name].steps if name in CHANGES else None
            steps = () if make is None else make(strength)
            changed = run_steps(steps, iter(frames), Setting(seed, STILL_RATE, lambda _: ()))
            people = PeopleSearch(media, changed, finder, detector.card.crop, settings.track).run().people
            by_id = {
                person.track.id: score
                for person, score in zip(people, detector.score([p.crops for p in people]), strict=True)
            }
            before.append(_answer(detector, visible_people(people)[0], by_id))
            after.append(_answer(detector, detector.visible(people)[0], by_id))
        labels = np.zeros(len(films), int)
        yield AbstentionRow("clips", f"{name}={strength:g}", labels, np.array(before), np.array(after))


def _answer(detector: Detector, people: Sequence[Person], scores: dict[int, Score]) -> int:
    """0 real, 1 fake, -1 none. ``scores`` are of all sightings; who has lost some is scored anew."""
    if not people:
        return -1
    whole = [scores[person.track.id] for person in people]
    kept = [
        score if len(score.frame_logits) == len(person.crops) else detector.score([person.crops])[0]
        for person, score in zip(people, whole, strict=True)
    ]
    label = detector.decide([person.track for person in people], kept).label
    return {VerdictLabel.REAL: 0, VerdictLabel.FAKE: 1}.get(label, -1)


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--split", default=None)
    parser.add_argument("--clips", type=Path, help="folder of real clips")
    parser.add_argument("--limit", type=int, default=20, help="of the clips, evenly taken")
    parser.add_argument("--frames", type=int, default=8, help="of each clip")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    detector = load_detector(args.model, PredictSettings(frames=args.frames))
    rows: list[AbstentionRow] = []
    if args.data:
        halves = halved(open_data(args.data, detector.card.crop, PredictSettings(), split=args.split))
        rows += tqdm(crop_rows(detector, halves.measure), "crops", unit="condition")
    if args.clips:
        paths = sorted(args.clips.iterdir())
        chosen = paths[:: max(1, len(paths) // args.limit)][: args.limit]
        rows += tqdm(clip_rows(detector, chosen), "clips", unit="condition")
    text = markdown_table(HEADER, [row.cells() for row in rows]) + "\n"
    if args.out:
        write_atomically(args.out, text.encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
