"""Calibration fitted anew to labelled data: what is fitted, what is held out, what is said of too little."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from madedetectors import CALIBRATION, NO_TTA, save
from madestores import pairs_store
from typer.testing import CliRunner

from deepscan.cli import app
from deepscan.config import CalibrationSettings
from deepscan.datasets.dataset import read_samples
from deepscan.detector import load_detector
from deepscan.errors import ConfigError, OutputError
from deepscan.evaluate.calibration.refit import halved, refit
from deepscan.evaluate.evaluation import evaluate, promised_error
from deepscan.evaluate.training_groups import write_groups
from deepscan.models.card import AttackCheck
from deepscan.models.checkpoint import load_card

METHODS = ("swap", "lips", "gan", "edit")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    made = read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=60))
    named = (replace(s, method=METHODS[int(s.group[1:]) % 4]) if s.label else s for s in made.samples)
    return replace(made, samples=tuple(named))


@pytest.fixture
def model(tmp_path):
    made = save(tmp_path / "model", attack_check=AttackCheck(limits={"median": 1.5}))
    write_groups(made, [("made", "p000")])
    return made


def test_halves_share_neither_groups_nor_methods(samples):
    halves = halved(samples, by_method=True)
    fit, measure = ([*half.samples] for half in (halves.fit, halves.measure))
    assert halves.by_method
    assert not halves.same
    assert not {s.group for s in fit} & {s.group for s in measure}
    methods = [{s.method for s in half if s.label} for half in (fit, measure)]
    assert methods[0] | methods[1] == set(METHODS)
    assert not methods[0] & methods[1]
    assert sum(not s.label for s in (*fit, *measure)) == 60  # no real is left out
    assert not halved(samples).by_method
    assert halved(samples.where(lambda s: s.group < "p030")).same


def test_a_detector_of_its_own_with_what_was_measured(samples, model, tmp_path):
    detector = load_detector(model, NO_TTA)
    settings = CalibrationSettings(error_rate=0.2)
    made = refit(detector, model, tmp_path / "new", samples, data=["mine"], settings=settings, resamples=10)
    card = load_card(tmp_path / "new")
    assert card == made.card
    assert (card.name, card.weights_sha256) == ("new", detector.card.weights_sha256)
    assert card.calibration != CALIBRATION
    ratio = card.calibration.scale / CALIBRATION.scale
    assert card.attack_check.limits["median"] == pytest.approx(1.5 * ratio)
    assert promised_error(card) == 0.2
    assert (tmp_path / "new" / "groups.txt").read_bytes() == (model / "groups.txt").read_bytes()
    # What the card says of the held-out half is what the new detector answers there.
    held_out = halved(samples, by_method=True).measure
    again = evaluate(load_detector(tmp_path / "new", NO_TTA), held_out, resamples=0)
    kept = Counter()
    for row in card.evaluations[0]["answers"]:
        kept.update({verdict: row[verdict] for verdict in ("real", "fake", "uncertain", "not_applicable")})
    assert kept == Counter(str(video.verdict) for video in again.videos)


def test_what_cannot_be_promised_is_said(samples, model, tmp_path):
    made = refit(load_detector(model, NO_TTA), model, tmp_path / "new", samples, resamples=0)
    assert sum("too few to promise" in warning for warning in made.warnings) == 2  # 60 of a class, not 200
    assert any("trained on 1 of the 60 groups" in warning for warning in made.warnings)
    assert set(made.warnings) == set(load_card(tmp_path / "new").training["calibration_notes"])


def test_nothing_is_overwritten_and_both_classes_are_needed(samples, model, tmp_path):
    detector = load_detector(model, NO_TTA)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(OutputError):
        refit(detector, model, tmp_path / "mine", samples)
    with pytest.raises(ConfigError):
        refit(detector, model, tmp_path / "new", samples.where(lambda sample: sample.label == 0))
    assert not (tmp_path / "new").exists()


def test_the_command(tmp_path, model):
    data = pairs_store(tmp_path / "data", n=20)
    given = ["calibrate", "--model", str(model), "--data", str(data), "--out", str(tmp_path / "new")]
    result = CliRunner().invoke(app, [*given, "--no-tta", "--device", "cpu", "--resamples", "0"])
    assert result.exit_code == 0, result.output
    assert "too few to promise" in " ".join(result.stdout.split())
    assert load_card(tmp_path / "new").training["recalibrated_on"] == data.as_posix()
