"""Fit the check for attacked input of a detector, and write it into its card; weights stay as they are.

python scripts/fit_attack_check.py FOLDER --data STORE [--data STORE ...]

It is fitted on the half of the validation split that the calibration was fitted on, and its false alarms are counted on
the other. How often it finds attacks is measured on that other half, too, with FGSM and PGD of 1, 4 and 8 grey levels.
New detectors get theirs from `deepscan train`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from deepscan.config import PredictSettings
from deepscan.datasets.data import open_data
from deepscan.datasets.dataset import SampleSet
from deepscan.detector import load_detector
from deepscan.evaluate.robustness.attack_check import fit_attack_check, has_fired, squeeze_changes
from deepscan.evaluate.robustness.attack_evaluation import AttackMeasure, fired_metric, share
from deepscan.evaluate.robustness.attacks import Attack
from deepscan.files import write_atomically
from deepscan.models.card import ATTACK_CHECK_FIRED
from deepscan.models.checkpoint import CARD_FILE, card_bytes, load_card
from deepscan.models.scorer import torch_scorer
from deepscan.train.finalize import halved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--people", type=int, help="people at most of either half, drawn; without it all of them")
    parser.add_argument("--limit", type=int, default=300, help="people who are attacked")
    parser.add_argument("--where", default="val", help="what the data is, for the card")
    given = parser.parse_args()

    settings = PredictSettings(runtime="torch")
    detector = load_detector(given.folder, settings)
    halves = halved(open_data(given.data, detector.card.crop, settings, split="val"))
    fitted, measured = (_drawn(half, given.people) for half in (halves.fit, halves.measure))
    scorer = torch_scorer(detector.networks, device=detector.device)
    check, why = fit_attack_check(scorer, detector.card, fitted)
    if check is None:
        raise SystemExit(f"{why}")
    print(f"fitted on {len(fitted)} people: {check}")
    _write(given.folder, {"attack_check": check})
    detector = load_detector(given.folder, settings)
    before = load_card(given.folder).metrics
    metrics = {name: metric for name, metric in before.items() if not name.startswith(ATTACK_CHECK_FIRED)}
    moved = squeeze_changes(scorer, detector.card, check, measured)
    fired = share(
        np.array([has_fired(own, check) for _, own in moved]),
        np.array([f"{sample.dataset}/{sample.group}" for sample, _ in moved]),
    )
    metrics |= fired_metric("clean", given.where, fired)
    attacks = [Attack(name=name, budget=budget) for name in ("fgsm", "pgd") for budget in (1, 4, 8)]
    measure = AttackMeasure(detector, measured, attacks, limit=given.limit)
    for done in measure.run():
        print(f"{done} of {measure.n_people}", end="\r")
    found = measure.evaluation().card_metrics(given.where)
    metrics |= {name: metric for name, metric in found.items() if name not in metrics}  # clean: that of everybody
    for name, metric in metrics.items():
        if name.startswith(ATTACK_CHECK_FIRED):
            print(name, metric)
    _write(given.folder, {"metrics": metrics})


def _drawn(samples: SampleSet, people: int | None) -> SampleSet:
    order = np.random.default_rng(0).permutation(len(samples))[:people]
    return replace(samples, samples=tuple(samples.samples[place] for place in sorted(order)))


def _write(folder: Path, changes: dict[str, object]) -> None:
    card = load_card(folder).model_copy(update=changes)
    write_atomically(folder / CARD_FILE, card_bytes(card))


if __name__ == "__main__":
    main()
