"""The end of a run: calibration on the validation split, figures of it, and the detector.

The validation split is halved by group: one half decides calibration and thresholds, the other is measured. Where there
are too few groups for that, one half serves both, and the card says so.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepscan.config import PredictSettings
from deepscan.datasets.dataset import SampleSet
from deepscan.datasets.readers.base import SPLITS
from deepscan.detector import Detector
from deepscan.evaluate.calibration.refit import fit_samples, halved
from deepscan.evaluate.calibration.visibility_limits import fit_visibility
from deepscan.evaluate.card_figures import condensed
from deepscan.evaluate.evaluation import Evaluation, evaluate
from deepscan.evaluate.metrics import card_metrics
from deepscan.evaluate.robustness.attack_check import fit_attack_check
from deepscan.files import write_atomically
from deepscan.models.backbones.registry import backbone_spec
from deepscan.models.card import ATTACK_CHECK_FIRED, Calibration, DetectorCard
from deepscan.models.checkpoint import save_detector
from deepscan.models.ensemble import Networks
from deepscan.models.network import DetectorNetwork
from deepscan.models.scorer import torch_scorer
from deepscan.train.recipe import Recipe

log = logging.getLogger(__name__)

EVALUATION_FILE = "evaluation-{split}.json"
_CARD_FIGURES = ("auc", "log_loss", "accuracy", "balanced_accuracy", "eer", "ece", "coverage")
_RESAMPLES = 1000
# Of files without a usable face it is known how many they are in a split, not in which part of it.
_FACES_ONLY = "files with a usable face"
_LIMITS = (
    "Figures hold for data like that which it was measured on; other makers of fakes may pass unseen.",
    "It judges the picture of faces only: not sound, not bodies, not the scene, not whether a caption is true.",
    "Not for decisions about people without other evidence.",
)


def finalize_detector(
    recipe: Recipe, network: DetectorNetwork, samples: SampleSet, folder: Path, training: dict[str, Any] | None = None
) -> DetectorCard:
    """Calibrate a trained network, write it as a detector, measure it.

    Args:
        recipe: that it was trained by.
        network: in evaluation mode.
        samples: with the splits ``train`` and ``val``; ``test``, if there is one, is measured.
        folder: of the detector.
        training: more for the card.

    Returns:
        The card as written, with the figures.

    Raises:
        OutputError: it cannot be written.
    """
    if recipe.half:
        network = network.half().float()  # what is measured is what is kept
    halves = halved(_split(samples, "val"))
    card, notes = _calibrated(recipe, network, _new_card(recipe, samples, training or {}), halves.fit)
    if halves.same and halves.fit.samples:
        notes.append("Few validation groups: the figures are of the data that calibration was fitted on.")
    for note in notes:
        log.warning("%s", note)
    card = card.model_copy(update={"training": {**card.training, "calibration_notes": notes}})
    card = save_detector(folder, network, card, half=recipe.half)
    card = with_figures(network, card, samples, folder)
    return save_detector(folder, network, card, half=recipe.half)


def _new_card(recipe: Recipe, samples: SampleSet, training: dict[str, Any]) -> DetectorCard:
    spec = backbone_spec(recipe.model.backbone)
    n_train = sum(sample.split == "train" for sample in samples.samples)
    return DetectorCard(
        name=recipe.name,
        version=recipe.version,
        created=time.strftime("%Y-%m-%d"),
        network=recipe.model,
        crop=recipe.crop,
        mean=spec.mean,
        std=spec.std,
        weights_sha256="",
        training={"recipe": recipe.model_dump(mode="json"), "samples": n_train, **training},
        data=_data(recipe, samples),
        limits=[*_LIMITS, *recipe.limits],
    )


def _calibrated(
    recipe: Recipe, network: DetectorNetwork, card: DetectorCard, samples: SampleSet
) -> tuple[DetectorCard, list[str]]:
    """The card with all that is fitted (calibration, visibility, the check for attacks), and what is to be noted."""
    if len({sample.label for sample in samples.samples}) < 2:
        # Without both classes nothing is known of the error rates: every answer is "uncertain".
        unknown = Calibration(uncertain_low=0.0, uncertain_high=1.0)
        note = "The validation split lacks reals or fakes: there is no calibration, every answer is uncertain."
        return card.model_copy(update={"calibration": unknown}), [note]
    scorer = torch_scorer(Networks.of(network, card), tta=PredictSettings().tta)
    shares = recipe.data.shares or None
    fitted = fit_samples(scorer.score, card.crop.size_px, samples, recipe.calibration, shares)
    card = card.model_copy(update={"calibration": fitted.calibration})
    limits, limit_notes = fit_visibility(scorer.score, card, samples, rate=recipe.calibration.error_rate)
    card = card.model_copy(update={"visibility": limits})
    check, check_note = fit_attack_check(scorer, card, samples)
    card = card.model_copy(update={"attack_check": check})
    return card, [*fitted.warnings, *limit_notes, *([check_note] if check_note else [])]


def with_figures(
    network: DetectorNetwork, card: DetectorCard, samples: SampleSet, folder: Path | None = None
) -> DetectorCard:
    """The card with what is measured: of all sources together, and of each by itself where there are several.

    Args:
        network: in evaluation mode.
        card: of it; what was measured before gives way, but for figures of attacks.
        samples: with the split ``val``, whose half that calibration did not see is measured, and ``test``.
        folder: where the whole of each evaluation is written.
    """
    halves = halved(_split(samples, "val"))
    metrics = {name: metric for name, metric in card.metrics.items() if name.startswith(ATTACK_CHECK_FIRED)}
    kept = []
    val_part = "val" if halves.same else f"half of val that calibration did not see, {_FACES_ONLY}"
    for name, description, part in (
        ("val", val_part, halves.measure),
        ("test", "test", _split(samples, "test")),
    ):
        if not part.samples:
            continue
        evaluation = _measured(network, card, part, name, folder)
        metrics |= card_metrics(evaluation.video, f"{', '.join(evaluation.data)} {name}", _CARD_FIGURES)
        kept.append(condensed(evaluation, description))
        # Pooled, a source that is easily told from the others hides how well its own fakes are.
        single_description = f"{description.removesuffix(f', {_FACES_ONLY}')}, {_FACES_ONLY}"
        for source, of_source in _mixed_sources(part).items() if len(evaluation.data) > 1 else ():
            evaluation = _measured(network, card, of_source, name)
            metrics |= card_metrics(evaluation.video, f"{source} {name}", _CARD_FIGURES)
            kept.append(condensed(evaluation, f"{source}: {single_description}"))
    return card.model_copy(update={"metrics": metrics, "evaluations": kept})


def _measured(
    network: DetectorNetwork, card: DetectorCard, samples: SampleSet, split: str, folder: Path | None = None
) -> Evaluation:
    """Samples of a split, evaluated; with a folder, the whole of it is kept there as JSON."""
    names = sorted({sample.source for sample in samples.samples})
    evaluation = evaluate(Detector(Networks.of(network, card)), samples, data=names, split=split, resamples=_RESAMPLES)
    if folder is not None:
        text = json.dumps(evaluation.to_dict(), indent=1, allow_nan=False) + "\n"
        write_atomically(folder / EVALUATION_FILE.format(split=split), text.encode())
    return evaluation


def _split(samples: SampleSet, name: str) -> SampleSet:
    """The samples of a split, which may be none, and what gave no sample there."""
    of_split = samples.where(lambda sample: sample.split == name)
    return replace(of_split, without=Counter({key: n for key, n in samples.without.items() if key[0] == name}))


def _mixed_sources(samples: SampleSet) -> dict[str, SampleSet]:
    """The sources and collections that have reals and fakes, each by itself."""
    labels: dict[str, set[int]] = {}
    for sample in samples.samples:
        labels.setdefault(sample.source_name, set()).add(sample.label)

    def of(source: str) -> SampleSet:
        return samples.where(lambda sample: sample.source_name == source)

    return {source: of(source) for source in sorted(labels) if len(labels[source]) == 2}


def _data(recipe: Recipe, samples: SampleSet) -> list[dict[str, str]]:
    """For the card: what it was trained and measured on, and under which terms."""
    described = {source.name: source for source in recipe.data.sources}
    counts = Counter((sample.source, str(sample.split or "none"), sample.label) for sample in samples.samples)
    rows = []
    for name in sorted({sample.source for sample in samples.samples}):
        parts = [
            f"{split}: {counts[name, split, 0]} real, {counts[name, split, 1]} fake"
            for split in (*SPLITS, "none")
            if counts[name, split, 0] + counts[name, split, 1]
        ]
        row = {"name": name, "use": "; ".join(parts)}
        if (source := described.get(name)) is not None:
            held_out = sorted({s.group for s in samples.samples if s.source == name and s.split == "test"})
            if source.group and held_out:
                row["held_out"] = ", ".join(held_out)
            row |= {key: text for key, text in (("about", source.about), ("terms", source.terms)) if text}
        rows.append(row)
    return rows
