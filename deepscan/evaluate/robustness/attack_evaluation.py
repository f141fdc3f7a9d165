"""What attacks do to a detector, and what stops them: figures of people, clean and attacked, with each defence.

The attacker follows the gradient of a person's video logit and knows the network alone, unless the attack says more.
Crops are made on one detector and may be judged by another (transfer). Three ways of judging are measured side by side:
crops as they are (``none``), averaged over the views of test-time augmentation as ``deepscan predict`` does (``tta``),
and each crop scaled by a random factor and back (``resize``), of which no attacker knows. Beside them stands the check
for attacked input: how often it fires on clean people and on attacked ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from deepscan.datasets.data import check_rule
from deepscan.datasets.dataset import Sample, SampleSet
from deepscan.detector import Detector
from deepscan.errors import ConfigError
from deepscan.evaluate.bootstrap import answers_of
from deepscan.evaluate.evaluation import model_to_dict
from deepscan.evaluate.metrics import MetricValue, evaluate_scores, to_json
from deepscan.evaluate.robustness.attacks import Attack, Attacker
from deepscan.extract.crops import resized
from deepscan.extract.people import is_too_dark
from deepscan.extract.video.sampling import evenly
from deepscan.models.card import ATTACK_CHECK_FIRED, AttackCheck, DetectorCard, Metric
from deepscan.models.feature_squeezing import disagreements
from deepscan.models.probability import calibrated
from deepscan.models.scorer import Scorer, torch_scorer
from deepscan.types import VerdictLabel
from deepscan.version import __version__

SCHEMA_ID = "deepscan.attack/1"
Defence = Literal["none", "tta", "resize"]
DEFENCES: tuple[Defence, ...] = ("none", "tta", "resize")
TITLES = {
    "auc": "AUC",
    "fpr": "FPR",
    "fnr": "FNR",
    "coverage": "Answered",
    "success": "Attack succeeded",
    "wrong": "Wrong answers",
    "flagged": "Check fired",
    "flagged_successes": "Check fired on successes",
    "wrong_unflagged": "Wrong answers that pass the check",
}
_OF_SCORES = ("auc", "fpr", "fnr", "coverage", "real_called_fake", "fake_called_real")
_CROPS_AT_ONCE = 32
_SMALLEST_SCALE = 0.85


@dataclass(frozen=True, slots=True)
class Condition:
    """What was done to the crops.

    Attributes:
        attack: None for clean ones.
        made_on: name of the detector that the attack was made on; None for the one that judges.
    """

    attack: Attack | None = None
    made_on: str | None = None

    def __str__(self) -> str:
        if self.attack is None:
            return "clean"
        return str(self.attack) + (f", made on {self.made_on}" if self.made_on else "")


@dataclass(frozen=True, slots=True)
class AttackRow:
    """Figures of one condition under one defence, by the names of :data:`TITLES` and of an evaluation.

    ``success``: of the people on the right side of the threshold when clean, those on the wrong side. ``wrong``: real
    or fake was answered, and it is wrong. With ``tta`` alone, as the check belongs to it: ``flagged``, people that the
    check takes for attacked; ``flagged_successes``, those of them whose attack succeeded; ``wrong_unflagged``.
    """

    condition: Condition
    defence: Defence
    figures: dict[str, MetricValue]


@dataclass(frozen=True, slots=True)
class AttackEvaluation:
    """All that was measured.

    Attributes:
        model: of the detector that judges, as plain values.
        made_on: the same of the one that attacks were carried over from, if any.
        check: that was measured; None where the detector has none.
        people, groups: how many.
        planned: people that would have been measured without an interruption.
        rows: by condition and defence.
    """

    model: dict[str, Any]
    made_on: dict[str, Any] | None
    check: AttackCheck | None
    data: tuple[str, ...]
    split: str | None
    frames: int
    seed: int
    people: int
    groups: int
    planned: int
    rows: tuple[AttackRow, ...]

    def card_metrics(self, where: str) -> dict[str, Metric]:
        """How often the check fired, for the detector's card; empty where it has none.

        Args:
            where: data and split.
        """
        found: dict[str, Metric] = {}
        for row in self.rows:
            value = row.figures.get("flagged")
            if value is not None:
                found |= fired_metric(str(row.condition), where, value)
        return found

    def to_dict(self) -> dict[str, Any]:
        """As plain values, the JSON of ``deepscan attack``."""
        return {
            "schema": SCHEMA_ID,
            "version": __version__,
            "model": self.model,
            "made_on": self.made_on,
            "check": None if self.check is None else self.check.model_dump(),
            "data": list(self.data),
            "split": self.split,
            "frames": self.frames,
            "seed": self.seed,
            "people": self.people,
            "groups": self.groups,
            "planned": self.planned,
            "rows": [
                {
                    "attack": None if row.condition.attack is None else row.condition.attack.model_dump(),
                    "made_on": row.condition.made_on,
                    "defence": row.defence,
                    "figures": to_json(row.figures),
                }
                for row in self.rows
            ],
        }


class AttackMeasure:
    """Attacks people and keeps their scores. Iterate over :meth:`run`, then take :meth:`evaluation`, also early.

    Args:
        detector: that judges.
        samples: the people; those who are too dark are left out, as in a prediction.
        attacks: which.
        transfer_from: make each of the attacks on this detector as well.
        frames: crops of each person, evenly taken, at most.
        limit: people at most, of groups that are drawn; None takes all.
        seed: of the draw, the attacks, the resizing and the bootstrap.

    Raises:
        ConfigError: the samples were cut by another rule than a detector needs, there is nobody, or attacks would have
            to be made on an ensemble.
        DeepscanError: the Adversarial Robustness Toolbox is not installed.
    """

    def __init__(
        self,
        detector: Detector,
        samples: SampleSet,
        attacks: Sequence[Attack],
        *,
        transfer_from: Detector | None = None,
        frames: int = 8,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        self._detector, self._source, self._frames, self._seed = detector, transfer_from, frames, seed
        for judge in filter(None, (detector, transfer_from)):
            for crop in {sample.crop for sample in samples.samples}:
                check_rule(crop, judge.card.crop, "The data")
        check = detector.card.attack_check
        self._attackers: dict[str | None, Attacker] = {}
        if isinstance(detector.card, DetectorCard):
            self._attackers[None] = _attacker(detector, check)
        elif transfer_from is None:
            raise ConfigError(
                f"{detector.card.name} is an ensemble",
                "attacks are made on one network",
                "Give one of its members with --transfer-from.",
            )
        if transfer_from is not None:
            if not isinstance(transfer_from.card, DetectorCard):
                raise ConfigError(f"{transfer_from.card.name} is an ensemble", "attacks are made on one network")
            self._attackers[transfer_from.card.name] = _attacker(transfer_from, check)
        self.conditions = [
            Condition(),
            *(Condition(attack, made_on) for made_on in self._attackers for attack in attacks),
        ]
        self._scorers: dict[bool, Scorer] = {
            tta: torch_scorer(detector.networks, device=detector.device, tta=tta) for tta in (False, True)
        }
        self._people = _drawn(samples, limit, seed)
        if not self._people:
            raise ConfigError("There is nobody to attack", "every face is too dark", "Give other data.")
        self._seen: list[Sample] = []
        self._judgements: dict[tuple[int, Defence], list[tuple[float, VerdictLabel]]] = {
            (number, defence): [] for number in range(len(self.conditions)) for defence in DEFENCES
        }
        self._moved: list[list[float]] = [[] for _ in self.conditions]

    @property
    def n_people(self) -> int:
        """People who are to be attacked."""
        return len(self._people)

    def run(self) -> Iterator[int]:
        """Attack batch after batch; yields the people done so far."""
        for number, batch in enumerate(_batches(self._people, self._frames)):
            places = evenly(len(batch[0]), self._frames)
            judged: dict[tuple[int, Defence], list[tuple[float, VerdictLabel]]] = {}
            moved = []
            for which, condition in enumerate(self.conditions):
                crops = self._crops(batch, places, condition, [self._seed, number, which])
                judged |= {(which, how): self._judged(batch, places, crops, how, number) for how in DEFENCES}
                moved.append(self._moves(crops))
            # All at once: an interruption leaves every condition with the same people.
            self._seen += batch
            for key, values in judged.items():
                self._judgements[key] += values
            for which, own in enumerate(moved):
                self._moved[which] += own
            yield len(self._seen)

    def evaluation(self, data: Sequence[str] = (), split: str | None = None, resamples: int = 1000) -> AttackEvaluation:
        """Figures of the people done so far; intervals are bootstrapped by group.

        Args:
            data, split: what the samples are of, for the report.
            resamples: of the bootstrap.
        """
        groups = np.array([f"{sample.dataset}/{sample.group}" for sample in self._seen], dtype=str)
        rows = [
            AttackRow(condition, defence, self._figures(which, defence, groups, resamples))
            for which, condition in enumerate(self.conditions)
            for defence in DEFENCES
        ]
        return AttackEvaluation(
            model_to_dict(self._detector.info),
            None if self._source is None else model_to_dict(self._source.info),
            self._detector.card.attack_check,
            tuple(data),
            split,
            self._frames,
            self._seed,
            len(self._seen),
            len(np.unique(groups)),
            len(self._people),
            tuple(rows) if self._seen else (),
        )

    def _crops(
        self, batch: Sequence[Sample], places: Sequence[int], condition: Condition, seed: Sequence[int]
    ) -> NDArray[np.uint8]:
        """Crops of the size that the detector judges, ``uint8 [B, T, S, S, 3]``."""
        size_px = self._detector.card.crop.size_px
        if condition.attack is None:
            return np.stack([sample.crops(places, size_px) for sample in batch])
        made_on = self._detector if condition.made_on is None or self._source is None else self._source
        clean = np.stack([sample.crops(places, made_on.card.crop.size_px) for sample in batch])
        found = self._attackers[condition.made_on].crops(
            clean,
            [sample.label for sample in batch],
            condition.attack,
            seed=int(np.random.default_rng(seed).integers(2**32)),
        )
        return np.stack([resized(crops, size_px) for crops in found])

    def _judged(
        self, batch: Sequence[Sample], places: Sequence[int], crops: NDArray[np.uint8], defence: Defence, number: int
    ) -> list[tuple[float, VerdictLabel]]:
        """Calibrated log-odds of each person, and the answer without the check."""
        if defence == "resize":
            crops = rescaled(crops, np.random.default_rng([self._seed, number]))
        calibration = self._detector.card.calibration
        scores = self._scorers[defence == "tta"].score(list(crops))
        found = []
        for sample, score in zip(batch, scores, strict=True):
            track = sample.track.track
            seen = replace(track, sightings=tuple(track.sightings[place] for place in places))
            odds = score.video_logit * calibration.scale + calibration.bias
            found.append((odds, self._detector.decide([seen], [score]).label))
        return found

    def _moves(self, crops: NDArray[np.uint8]) -> list[float]:
        card = self._detector.card
        if card.attack_check is None:
            return []
        return disagreements(self._scorers[True], list(crops), card.calibration, card.attack_check)

    def _figures(self, which: int, defence: Defence, groups: NDArray[Any], resamples: int) -> dict[str, MetricValue]:
        info = self._detector.info
        how: Any = {"resamples": resamples, "seed": self._seed}
        labels = np.array([sample.label for sample in self._seen], np.int64)
        found, clean = (calibrated([odds for odds, _ in self._judgements[n, defence]]) for n in (which, 0))
        answer = answers_of(verdict for _, verdict in self._judgements[which, defence])
        whole = evaluate_scores(labels, found, groups, threshold=info.threshold, answers=answer, **how)
        figures = {name: whole[name] for name in _OF_SCORES}
        wrong_side = (found >= info.threshold) != (labels == 1)
        was_right = (clean >= info.threshold) == (labels == 1)
        wrong = answer == 1 - labels
        if which:
            figures["success"] = share(wrong_side[was_right], groups[was_right], **how)
        figures["wrong"] = share(wrong, groups, **how)
        check = self._detector.card.attack_check
        if check is not None and defence == "tta":
            fired = np.array(self._moved[which]) >= 1
            figures["flagged"] = share(fired, groups, **how)
            if which:
                won = was_right & wrong_side
                figures["flagged_successes"] = share(fired[won], groups[won], **how)
            figures["wrong_unflagged"] = share(wrong & ~fired, groups, **how)
        return figures


def rescaled(crops: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each crop of ``uint8 [B, T, S, S, 3]`` scaled by a factor drawn from 0.85 to 1, and back to its size."""
    side = crops.shape[2]
    out = np.empty_like(crops)
    for index in np.ndindex(crops.shape[:2]):
        small = max(1, round(side * rng.uniform(_SMALLEST_SCALE, 1)))
        less = cv2.resize(crops[index], (small, small), interpolation=cv2.INTER_AREA)
        out[index] = cv2.resize(less, (side, side), interpolation=cv2.INTER_LINEAR)
    return out


def _attacker(detector: Detector, check: AttackCheck | None) -> Attacker:
    return Attacker(*detector.networks.single(), check, detector.device)


def _drawn(samples: SampleSet, limit: int | None, seed: int) -> list[Sample]:
    """Whole groups in a drawn order, until there are enough people; those of one length lie together."""
    clear = [sample for sample in samples.samples if not is_too_dark(sample.track.track)]
    by_group: dict[tuple[str, str], list[Sample]] = {}
    for sample in clear:
        by_group.setdefault((sample.dataset, sample.group), []).append(sample)
    names = sorted(by_group)
    drawn: list[Sample] = []
    for place in np.random.default_rng(seed).permutation(len(names)):
        if limit is not None and len(drawn) >= limit:
            break
        drawn += by_group[names[place]]
    return drawn if limit is None else drawn[:limit]


def _batches(people: Sequence[Sample], frames: int) -> list[list[Sample]]:
    """People with as many crops each, in the order drawn as far as that allows: a part of them is a fair part."""
    open_ones: dict[tuple[int, int], list[Sample]] = {}
    batches: list[list[Sample]] = []
    for sample in people:
        n = min(len(sample), frames)
        own = open_ones.setdefault((len(sample), sample.crop.size_px), [])
        own.append(sample)
        if len(own) * n >= _CROPS_AT_ONCE:
            batches.append(open_ones.pop((len(sample), sample.crop.size_px)))
    return [*batches, *open_ones.values()]


def fired_metric(condition: str, where: str, value: MetricValue) -> dict[str, Metric]:
    """How often the check fired on crops in a condition, by its name on a card; empty where it is undefined."""
    if value.value is None:
        return {}
    low, high = (None if bound is None else round(bound, 4) for bound in (value.low, value.high))
    name = f"{ATTACK_CHECK_FIRED}, {condition}, {where}"
    return {name: Metric(value=round(value.value, 4), low=low, high=high, n=value.n)}


def share(flags: NDArray[np.bool_], groups: NDArray[Any], *, resamples: int = 1000, seed: int = 0) -> MetricValue:
    """How often something is true, with the interval of any other share.

    Args:
        flags: ``[n]``.
        groups: ``[n]`` ids; those of one group are resampled together.
        resamples, seed: of the bootstrap.
    """
    if not len(flags):
        return MetricValue(None, reason="there is nobody to count")
    none = np.zeros(len(flags), np.int64)
    return evaluate_scores(none, flags.astype(float), groups, threshold=0.5, resamples=resamples, seed=seed)["fpr"]
