"""Measure a detector anew for its card, which keeps everything else: weights, calibration and limits.

python scripts/measure_card.py DATA [MODEL]

DATA is the folder with the sources of the detector's recipe; of these the splits val and test are read.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deepscan.config import PredictSettings
from deepscan.datasets.data import Preparation
from deepscan.datasets.dataset import pool
from deepscan.datasets.training_sources import open_sources
from deepscan.files import write_atomically
from deepscan.models.card import DetectorCard
from deepscan.models.checkpoint import CARD_FILE, card_bytes, load_card, read_network, resolve_detector
from deepscan.report.model_card import model_card_markdown
from deepscan.train.finalize import with_figures
from deepscan.train.recipe import parse_recipe

PAGE = Path(__file__).parent.parent / "docs" / "model-card.md"


def main(data: Path, model: str = "default") -> None:
    """Measure, and write ``card.json``; for the shipped default also its page in the docs."""
    folder = resolve_detector(model)
    card = load_card(folder)
    if not isinstance(card, DetectorCard):
        raise SystemExit("An ensemble's card is made by deepscan ensemble.")
    recipe = parse_recipe(card.training["recipe"])
    preparation = Preparation(divide=True)
    plan = recipe.data
    samples = pool(
        [
            open_sources(
                data, plan.sources, card.crop, PredictSettings(), preparation, exclude=plan.exclude, split=split
            )
            for split in ("val", "test")
        ]
    )
    measured = with_figures(read_network(folder, card).eval(), card, samples)
    write_atomically(folder / CARD_FILE, card_bytes(measured))
    if model == "default":
        PAGE.write_text(model_card_markdown(measured), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
