"""Figures: the library's values, intervals by group, and no figure where there is none."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from deepscan.evaluate.bootstrap import checked_inputs, weighted_figures
from deepscan.evaluate.metrics import (
    TITLES,
    MetricValue,
    card_metrics,
    count_inputs,
    evaluate_scores,
    find_warnings,
    to_json,
)
from deepscan.models.card import Calibration, Metric
from deepscan.models.probability import calibrated
from deepscan.types import Face, Score, Sighting, Track, VerdictLabel
from deepscan.verdict import decide, decisions


def scores(n=400, distance=1.5, seed=0, ties=False):
    """Labels and probabilities of a detector whose logits are normal, ``distance`` apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    p = 1 / (1 + np.exp(-(rng.normal(size=n) + distance * (y - 0.5))))
    return y, np.round(p, 1) if ties else p


def library(y, p, w, threshold):
    """Every figure that scikit-learn has, under weights."""
    over = (p >= threshold).astype(int)
    fpr, tpr, _ = sk.roc_curve(y, p, sample_weight=w, drop_intermediate=False)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        y, over, labels=[0, 1], sample_weight=w, zero_division=0.0
    )
    tn, fp, fn, tp = sk.confusion_matrix(y, over, labels=[0, 1], sample_weight=w).ravel()
    return {
        "auc": sk.roc_auc_score(y, p, sample_weight=w),
        "average_precision": sk.average_precision_score(y, p, sample_weight=w),
        "tpr_at_fpr_1": tpr[fpr <= 0.01].max(),
        "tpr_at_fpr_5": tpr[fpr <= 0.05].max(),
        "log_loss": sk.log_loss(y, p, sample_weight=w),
        "brier": sk.brier_score_loss(y, p, sample_weight=w),
        "accuracy": sk.accuracy_score(y, over, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, over, sample_weight=w),
        "precision_real": precision[0],
        "recall_real": recall[0],
        "f1_real": f1[0],
        "precision_fake": precision[1],
        "recall_fake": recall[1],
        "f1_fake": f1[1],
        "fpr": fp / (fp + tn),
        "fnr": fn / (fn + tp),
    }


@pytest.mark.parametrize("ties", [False, True])
def test_values_are_the_librarys(ties):
    y, p = scores(ties=ties)
    measured = evaluate_scores(y, p, threshold=0.4, resamples=0)
    assert list(measured) == list(TITLES)
    for name, value in library(y, p, None, 0.4).items():
        assert measured[name].value == pytest.approx(value, abs=1e-12), name


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(12, 120), ties=st.booleans(), threshold=st.sampled_from([0.3, 0.5]))
def test_a_resample_is_the_library_under_weights(seed, n, ties, threshold):
    y, p = scores(n, 1.0, seed, ties)
    y[:2] = 0, 1
    groups = np.random.default_rng(seed).integers(0, n // 3, n)
    inputs = checked_inputs(y, p, groups, None, threshold)
    weights = np.random.default_rng(seed + 1).integers(0, 4, (3, inputs.n_groups))
    drawn = weighted_figures(inputs, weights.astype(float))
    for row in range(3):
        w = weights[row, inputs.group_of]
        if w[y == 0].sum() == 0 or w[y == 1].sum() == 0:
            assert np.isnan(drawn["auc"][row])
            continue
        # scikit-learn sees each input as often as it was drawn.
        again = np.repeat(np.arange(n), w)
        for name, value in library(y[again], p[again], None, threshold).items():
            if name.startswith("precision") and np.isnan(drawn[name][row]):
                assert value == 0, name  # a precision without any answer is undefined here, 0 there
            else:
                assert drawn[name][row] == pytest.approx(value, abs=1e-9), name


def test_equal_error_rate():
    # Reals 0.1 0.2 0.6, fakes 0.4 0.7 0.8: at 0.5 one of three is wrong on either side.
    assert evaluate_scores([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.6, 0.4, 0.7, 0.8], threshold=0.5)["eer"].value == (
        pytest.approx(1 / 3)
    )
    # All alike: no threshold tells them apart, and the straight line between the ends crosses in the middle.
    assert evaluate_scores([0, 1], [0.5, 0.5], threshold=0.5, resamples=0)["eer"].value == 0.5
    assert evaluate_scores([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], threshold=0.5, resamples=0)["eer"].value == 0
    y, p = scores(4000)
    measured = evaluate_scores(y, p, threshold=0.5, resamples=0)["eer"].value
    fpr, tpr, _ = sk.roc_curve(y, p)
    assert measured == pytest.approx(fpr[np.argmin(np.abs(fpr - (1 - tpr)))], abs=0.002)


def test_calibration_error():
    # 100 scores of 0.3 of which 30 are fake, 100 of 0.8 of which 60 are: 0.2 off in half of the mass.
    y = np.r_[np.ones(30), np.zeros(70), np.ones(60), np.zeros(40)].astype(int)
    p = np.repeat([0.3, 0.8], 100)
    assert evaluate_scores(y, p, threshold=0.5, resamples=0)["ece"].value == pytest.approx(0.1)


def test_the_interval_of_the_calibration_error_reaches_below_its_noise():
    rng = np.random.default_rng(3)
    p = rng.uniform(size=2000)
    ece = evaluate_scores((rng.uniform(size=2000) < p).astype(int), p, threshold=0.5)["ece"]
    assert ece.low < ece.value / 2  # the scores are perfectly calibrated: what was measured is noise
    assert ece.low <= ece.value <= ece.high


def test_the_interval_is_that_of_theory():
    y, p = scores(2000)
    fpr = evaluate_scores(y, p, threshold=0.5, resamples=2000)["fpr"]
    spread = np.sqrt(fpr.value * (1 - fpr.value) / fpr.n)
    assert fpr.low == pytest.approx(fpr.value - 1.96 * spread, abs=0.15 * spread)
    assert fpr.high == pytest.approx(fpr.value + 1.96 * spread, abs=0.15 * spread)


def test_inputs_of_a_group_count_as_one():
    y, p = scores(200)
    once = evaluate_scores(y, p, threshold=0.5)["auc"]
    copies = np.repeat(np.arange(200), 5)
    grouped = evaluate_scores(y[copies], p[copies], copies, threshold=0.5)["auc"]
    assert grouped.value == pytest.approx(once.value)
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high), abs=1e-9)
    alone = evaluate_scores(y[copies], p[copies], threshold=0.5)["auc"]
    assert alone.high - alone.low < 0.6 * (once.high - once.low)


@pytest.mark.parametrize("groups", [[f"video {i // 2}" for i in range(100)], np.arange(100) // 2, [None, *range(99)]])
def test_a_seed_gives_the_same_intervals(groups):
    y, p = scores(100)
    assert evaluate_scores(y, p, groups, threshold=0.5, resamples=50, seed=4) == evaluate_scores(
        y, p, groups, threshold=0.5, resamples=50, seed=4
    )
    assert evaluate_scores(y, p, groups, threshold=0.5, resamples=50, seed=4) != evaluate_scores(
        y, p, groups, threshold=0.5, resamples=50, seed=5
    )


def test_many_inputs_are_resampled_in_blocks_that_change_nothing():
    y, p = scores(8000)
    few, many = (evaluate_scores(y, p, threshold=0.5, resamples=n)["fpr"] for n in (50, 51))  # 50 fill one block
    assert (few.low, few.high) == pytest.approx((many.low, many.high), abs=2e-3)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_auc_but_an_error_rate(label):
    p = np.linspace(0.1, 0.9, 40)
    measured = evaluate_scores(np.full(40, label), p, threshold=0.7)
    for name in ("auc", "average_precision", "eer", "tpr_at_fpr_1", "tpr_at_fpr_5", "balanced_accuracy"):
        assert measured[name].value is None
        assert measured[name].reason == f"only {('real', 'fake')[label]} inputs were scored"
    here, there = (("fpr", "fnr"), ("fnr", "fpr"))[label]
    assert 0 < measured[here].value < 1
    assert measured[here].n == 40
    assert measured[there] == MetricValue(None, reason=f"there is no scored {('fake', 'real')[label]} input")
    assert measured["log_loss"].value > 0


def test_nothing_at_all():
    measured = evaluate_scores([], [], threshold=0.5)
    assert all(m.value is None and m.reason and m.n == 0 for m in measured.values())
    assert find_warnings([], [], threshold=0.5)


def test_every_value_is_finite_and_inside_its_interval():
    for n, distance, ties in product((2, 3, 7, 60), (0, 3, 9), (False, True)):
        y, p = scores(n, distance, n, ties)
        for name, m in evaluate_scores(
            y, p, threshold=0.5, answers=decisions(p, 0.5, (0.3, 0.7)), resamples=60
        ).items():
            text = json.dumps(m.to_dict(), allow_nan=False)
            assert "NaN" not in text
            if m.low is not None:
                assert m.low <= m.value + 1e-9, name
                assert m.value <= m.high + 1e-9, name
            elif m.value is not None:
                assert m.reason, name


def test_resamples_without_a_class_are_skipped_and_counted():
    y, p = scores(40)
    y[:] = 0
    y[:2] = 1
    auc = evaluate_scores(y, p, threshold=0.5, resamples=500)["auc"]
    assert 0.08 < auc.skipped / 500 < 0.2  # (1 - 2/40)^40 = 0.13 draw neither of the two fakes
    assert auc.low is not None
    assert auc.to_dict()["skipped"] == auc.skipped
    rare = evaluate_scores([0, 1], [0.2, 0.7], threshold=0.5, resamples=500)["fnr"]
    assert rare.low is not None
    # With both of two groups needed, half of the resamples have one class only, and the rest are all the same.
    assert evaluate_scores([0, 1], [0.2, 0.7], threshold=0.5, resamples=500)["auc"].low is None


def test_no_wrong_answer_is_not_certainty():
    y, p = np.repeat([0, 1], 30), np.repeat([0.1, 0.9], 30)
    measured = evaluate_scores(y, p, threshold=0.5)
    assert measured["fpr"].value == 0
    assert measured["fpr"].low == 0
    assert measured["fpr"].high == pytest.approx(0.1157, abs=1e-4)  # Clopper and Pearson: 0 of 30
    assert (measured["recall_fake"].low, measured["recall_fake"].high) == (pytest.approx(1 - 0.1157, abs=1e-4), 1)
    assert measured["auc"].value == 1
    assert measured["auc"].low is None
    assert measured["auc"].reason == "every resample gives the same value"
    in_groups = evaluate_scores(y, p, np.arange(60) // 6, threshold=0.5)  # five groups a class
    assert in_groups["fpr"].high == pytest.approx(1 - 0.025 ** (1 / 5))


def test_the_band_and_inputs_without_a_face():
    y = [0, 0, 0, 0, 1, 1, 1, 1, 0, 1]
    p = [0.1, 0.2, 0.5, 0.9, 0.1, 0.5, 0.8, 0.9, np.nan, np.nan]
    missing = [False] * 8 + [True] * 2
    answers = decisions(p, 0.5, (0.2, 0.8))
    measured = evaluate_scores(y, p, threshold=0.5, answers=answers, not_applicable=missing)
    values = {name: (m.value, m.n) for name, m in measured.items()}
    assert values["scored"] == (0.8, 10)
    assert values["coverage"] == (0.6, 10)  # the ends of the band are answers
    assert values["real_called_fake"] == (0.25, 4)
    assert values["fake_called_real"] == (0.25, 4)
    assert values["error_answered_real"] == (pytest.approx(1 / 3), 3)
    assert values["error_answered_fake"] == (pytest.approx(1 / 3), 3)
    assert values["fpr"] == (0.5, 4)  # without the band 0.5 is an answer
    assert values["auc"][1] == 8
    counts = count_inputs(y, p, threshold=0.5, answers=answers, not_applicable=missing)
    assert counts == {
        "real": 5,
        "fake": 5,
        "groups": 10,
        "real_called_real": 2,
        "real_called_fake": 1,
        "real_uncertain": 1,
        "real_not_applicable": 1,
        "fake_called_real": 1,
        "fake_called_fake": 2,
        "fake_uncertain": 1,
        "fake_not_applicable": 1,
    }


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 0.99), st.floats(-6, 6))
def test_answers_are_those_of_a_prediction(low, high, threshold, logit):
    """Also at the ends of the band."""
    names = {0: VerdictLabel.REAL, 1: VerdictLabel.FAKE, -1: VerdictLabel.UNCERTAIN}
    p = float(calibrated(logit))
    track = Track(1, (Sighting(0, 0.0, Face((0, 0, 9, 9), 0.99, np.zeros((5, 2), np.float32)), 99.0),))
    for at, a, b in ((threshold, low, high), (p, p, high), (p, low, p)):
        band = min(a, at), max(b, at)
        calibration = Calibration(threshold=at, uncertain_low=band[0], uncertain_high=band[1])
        verdict = decide([track], [Score(logit, np.array([-9.0]))], calibration)
        assert names[int(decisions([p], at, band)[0])] is verdict.label


@pytest.mark.parametrize(
    ("labels", "probabilities", "more", "message"),
    [
        ([0, 1], [0.1], {}, "shape"),
        ([0, 2], [0.1, 0.2], {}, "labels"),
        ([0, 1], [0.1, 1.2], {}, "1.2 in row 1"),
        ([0, 1], [np.nan, 0.2], {}, "nan in row 0"),
        ([0, 1], [0.1, 0.2], {"groups": ["a"]}, "groups"),
        ([0, 1], [[0.1, 0.2]], {}, "shape"),
    ],
)
def test_wrong_arrays_are_refused(labels, probabilities, more, message):
    with pytest.raises(ValueError, match=message):
        evaluate_scores(labels, probabilities, threshold=0.5, **more)


def test_warnings():
    y, p = scores(400)
    assert find_warnings(y, p, np.arange(400), threshold=0.5) == []
    few = find_warnings(y[:40], p[:40], np.arange(40) // 4, threshold=0.5, train_groups=["7", "8", "x"])
    assert len([w for w in few if w.startswith("Only") and "inputs were scored" in w]) == 2
    assert any(w.startswith("Only 10 independent groups") for w in few)
    assert any(w.startswith("2 groups are in the training data and here (7, 8)") for w in few)
    lopsided = find_warnings(np.r_[np.ones(80), np.zeros(20)], np.full(100, 0.9), threshold=0.5)
    assert any("80% of the scored inputs are fake: always answering 'fake'" in w for w in lopsided)
    assert any("All 100 scored inputs lie on the 'fake' side" in w for w in lopsided)
    one = find_warnings(np.zeros(50), np.full(50, 0.1), threshold=0.5)
    assert any(w.startswith("No fake input") for w in one)
    assert not any("always answering" in w for w in one)
    unseen = find_warnings(y, p, threshold=0.5, not_applicable=y == 1)
    assert any(w.startswith("No fake input") for w in unseen)


def test_json_and_card():
    y, p = scores(300)
    measured = evaluate_scores(y, p, threshold=0.5, resamples=50)
    loaded = json.loads(json.dumps(to_json(measured), allow_nan=False))
    assert loaded["auc"].keys() == {"value", "low", "high", "n"}
    assert loaded["auc"]["n"] == 300
    card = card_metrics(measured, "DFDC test", ["auc", "fpr"])
    assert list(card) == ["AUC, DFDC test", "FPR (real over the threshold), DFDC test"]
    assert isinstance(card["AUC, DFDC test"], Metric)
    assert card["AUC, DFDC test"].value == pytest.approx(measured["auc"].value, abs=1e-4)
    assert card_metrics(evaluate_scores([0], [0.1], threshold=0.5), "x", ["auc"]) == {}
