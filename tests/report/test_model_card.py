"""The page of a detector says what its card says, and what the card keeps is what was measured."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from deepscan.cli import app
from deepscan.config import CropSettings, ModelSettings
from deepscan.models.card import AttackCheck, Calibration, DetectorCard, Metric
from deepscan.models.checkpoint import SHIPPED_ROOT, load_card
from deepscan.report.model_card import model_card_markdown

PAGE = Path(__file__).parents[2] / "docs" / "model-card.md"


def made_card(**changes):
    settings = {
        "name": "mine",
        "network": ModelSettings(backbone="resnet18"),
        "crop": CropSettings(size_px=128),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
        "weights_sha256": "ab" * 32,
        "calibration": Calibration(scale=2.0, bias=-0.25, uncertain_low=0.2, uncertain_high=0.8),
    }
    return DetectorCard(**settings | changes)


def table_after(page, heading):
    block = page.split(heading, 1)[1].split("\n\n")[1]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block.splitlines()]


def test_the_page_in_the_docs_is_that_of_the_shipped_detector():
    assert PAGE.read_text(encoding="utf-8") == model_card_markdown(load_card(SHIPPED_ROOT / "default"))


def test_answers_near_a_limit_agree_with_the_rule():
    near = {"source": "a", "video": "b", "label": 0, "method": "", "verdict": "uncertain", "probability": 0.1189}
    evaluation = {
        "part": "test", "figures": {}, "tables": [], "reliability": [], "warnings": [], "answers": [], "videos": [near],
    }  # fmt: skip
    band = Calibration(uncertain_low=0.1188, uncertain_high=0.9093)
    page = model_card_markdown(made_card(evaluations=[evaluation], calibration=band))
    assert "fake from 90.9 %, real up to 11.9 %, uncertain between" in page
    assert table_after(page, "### Small sources")[2] == ["a", "b", "real", "12.0 %", "uncertain"]


def test_figures_come_with_interval_and_count():
    figures = {"auc": {"value": 0.87654, "low": 0.85, "high": 0.9, "n": 321}, "ece": {"value": 0.04, "n": 321}}
    evaluation = {
        "part": "test", "figures": figures, "tables": [], "reliability": [], "videos": [], "warnings": ["Few videos."],
        "answers": [{"source": "a", "label": 1, "n": 3, "fake": 1, "real": 0, "uncertain": 2}],
    }  # fmt: skip
    page = model_card_markdown(made_card(evaluations=[evaluation]))
    assert ["AUC", "0.877", "0.850 to 0.900", "321"] in table_after(page, "## Measured: test")
    assert ["Calibration error (ECE)", "0.040", "-", "321"] in table_after(page, "## Measured: test")
    assert table_after(page, "### Answers")[2] == ["a", "fake", "3", "1", "0", "2", "0", "0"]
    assert "- Few videos." in page
    assert "2 x logit - 0.25" in page


def test_figures_without_an_evaluation_are_told_too():
    page = model_card_markdown(made_card(metrics={"AUC, mine": Metric(value=0.5, n=7)}))
    assert ["AUC, mine", "0.500", "-", "7"] in table_after(page, "## Measured")


def test_the_check_for_attacks_is_told_with_how_often_it_fired():
    assert "There is no check for attacked input." in model_card_markdown(made_card())
    metrics = {
        "Attack check fired, clean, mine val": Metric(value=0.021, low=0.01, high=0.03, n=300),
        "AUC, mine": Metric(value=0.5, n=7),
    }
    page = model_card_markdown(made_card(attack_check=AttackCheck(limits={"median": 1.25}), metrics=metrics))
    assert "by 1.25 under a median of 3 px" in page
    assert "2 % of clean people" in page
    rows = table_after(page, "2 % of clean people.")
    assert rows[2:] == [["clean, mine val", "0.021", "0.010 to 0.030", "300"]]


def test_text_from_outside_stays_in_its_cell():
    page = model_card_markdown(made_card(data=[{"name": "a|b", "about": "two\nlines", "terms": "<none>"}]))
    (row,) = table_after(page, "## Data")[2:]
    assert row == ["a\\|b", "two lines", "", "<none>"]


def test_untrained_detectors_say_so():
    assert "random weights" in model_card_markdown(made_card(trained=False))


def test_the_command_prints_and_writes(tmp_path):
    printed = CliRunner().invoke(app, ["card"])
    assert printed.exit_code == 0
    assert printed.stdout.startswith("# Model card: default")
    out = tmp_path / "card.md"
    for _ in range(2):  # an older page is replaced
        assert CliRunner().invoke(app, ["card", "default", "--out", str(out)]).exit_code == 0
    assert out.read_text(encoding="utf-8") == printed.stdout
    unknown = CliRunner().invoke(app, ["card", "nothing"])
    assert unknown.exit_code == 2
    assert "Traceback" not in unknown.stderr
