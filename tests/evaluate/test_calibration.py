"""Calibration: known distortions are found, promises hold on inputs never seen, too little data promises nothing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm

from deepscan.evaluate.calibration.calibrate import fit_calibration, fit_scale
from deepscan.evaluate.calibration.conformal import (
    conformal_limit,
    fake_limit,
    samples_needed,
    tail,
    uncertain_band,
)
from deepscan.models.probability import calibrated
from deepscan.verdict import decisions

seeds = st.integers(0, 10_000)
SHARP, FAIR, WEAK = 4.0, 2.0, 1.0  # distance of the classes' mean logits, in standard deviations


def drawn(n, distance, seed=0):
    """Labels and logits ``[2 n]`` of two normal classes; unscaled, these logits are calibrated where distance is 1."""
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1], n)
    return y, rng.normal(size=2 * n) + distance * (y - 0.5)


def errors_elsewhere(band, threshold, distance):
    """Of a further real and a further fake: the chances of "real" and of "fake", exactly. Scores are P = Phi(logit)."""
    low, high = band
    edges = (min(low, threshold), max(high, threshold))
    z = norm.ppf(edges)
    called_real, called_fake = (
        norm.cdf(z[0] - np.array([-1, 1]) * distance / 2),
        norm.sf(z[1] - np.array([-1, 1]) * distance / 2),
    )
    return {"real": (called_real[0], called_fake[0]), "fake": (called_real[1], called_fake[1])}


@given(st.lists(st.floats(-1e3, 1e3), max_size=20), st.floats(0.01, 50), st.floats(-20, 20))
def test_probabilities_are_the_sigmoid_of_scaled_logits(logits, scale, bias):
    z = np.array(logits, np.float64)
    assert calibrated(z, scale, bias) == pytest.approx(expit(z * scale + bias), abs=1e-12)


@pytest.mark.parametrize(("scale", "bias"), [(3.0, 0.0), (0.2, 0.0), (1.0, 2.5), (0.05, -40.0), (30.0, 100.0)])
def test_a_known_distortion_is_undone(scale, bias):
    # Normal classes of distance d and unit spread have the exact posterior logit d * z.
    y, z = drawn(20_000, 1.5)
    fitted_scale, fitted_bias = fit_scale((1.5 * z - bias) / scale, y)
    assert fitted_scale == pytest.approx(scale, rel=0.04)
    assert fitted_bias - bias == pytest.approx(0, abs=0.04 * max(1, abs(bias)))


def test_both_classes_count_the_same():
    y, z = drawn(20_000, 1.5)
    kept = np.r_[np.arange(20_000), np.arange(20_000, 22_000)]  # ten reals a fake
    y, z = y[kept], 1.5 * z[kept]
    assert fit_scale(z, y) == (pytest.approx(1, abs=0.06), pytest.approx(0, abs=0.06))


@settings(max_examples=60)
@given(
    seed=seeds, n=st.integers(1, 60), distance=st.floats(-3, 30), unit=st.floats(1e-4, 1e4), shift=st.floats(-50, 50)
)
def test_any_scores_give_a_sane_scale(seed, n, distance, unit, shift):
    y, z = drawn(n, distance, seed)
    z = (z + shift) * unit
    scale, bias = fit_scale(z, y)
    assert scale > 0
    assert math.isfinite(bias)
    p = calibrated(z, scale, bias)
    assert p.min() > 0  # nothing saturates
    assert p.max() < 1
    order = np.argsort(z)
    assert (np.diff(p[order]) >= 0).all()


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_few_separable_samples_give_no_certainty(n):
    y = np.repeat([0, 1], n)
    z = np.where(y == 1, 8.0, -8.0)
    p = calibrated(z, *fit_scale(z, y))
    assert 0.7 < p.max() < 0.95  # the logits themselves say 0.9997
    assert 0.05 < p.min() < 0.3


def test_equal_logits_say_nothing():
    p = calibrated(np.full(100, 3.0), *fit_scale(np.full(100, 3.0), np.arange(100) % 2))
    assert p == pytest.approx(np.full(100, 0.5), abs=0.01)


def test_frames_of_a_video_weigh_as_one():
    y, z = drawn(300, 1.5)
    often = np.repeat(np.arange(600), np.where(np.arange(600) % 7 == 0, 40, 1))
    assert fit_scale(z[often], y[often], often) == pytest.approx(fit_scale(z, y), abs=1e-4)
    assert fit_scale(z[often], y[often]) != pytest.approx(fit_scale(z, y), abs=0.02)


def test_samples_needed():
    assert [samples_needed(a) for a in (0.05, 0.01, 0.1, 0.5, 0.2)] == [19, 99, 9, 1, 4]
    for alpha in (0.05, 0.013, 0.1, 0.3):
        n = samples_needed(alpha)
        assert conformal_limit(np.arange(n, dtype=float), np.arange(n), alpha) is not None
        assert conformal_limit(np.arange(n - 1, dtype=float), np.arange(n - 1), alpha) is None


def limit_of(p, rate, groups=None):
    return fake_limit(p, np.arange(len(p)) if groups is None else groups, rate)


def test_the_limit_is_just_above_its_order_statistic():
    p = np.arange(1, 101) / 200
    # ceil(101 * 0.95) = 96: the 96th smallest of the reals.
    assert limit_of(p, 0.05) == np.nextafter(p[95], 1)
    tied = np.repeat([0.2, 0.7], [90, 10])
    assert (tied >= limit_of(tied, 0.05)).mean() == 0  # all ten at 0.7 or none


@pytest.mark.parametrize(
    ("p", "groups"),
    [(np.linspace(0.1, 0.5, 18), None), (np.linspace(0.1, 0.5, 90), np.arange(90) // 5), (np.ones(50), None)],
)
def test_a_rate_that_cannot_be_promised(p, groups):
    """Too few independent reals, or reals that score up to 1."""
    assert limit_of(p, 0.05, groups) is None


@pytest.mark.parametrize(("n", "target"), [(19, 0.05), (50, 0.05), (200, 0.1), (150, 0.01)])
def test_false_positive_rate_of_fresh_reals(n, target):
    rng = np.random.default_rng(n)
    rates = [norm.sf(norm.ppf(limit_of(norm.cdf(rng.normal(size=n)), target))) for _ in range(1500)]
    mean, error = np.mean(rates), np.std(rates) / math.sqrt(1500)
    assert mean <= target + 3 * error
    assert mean >= target - 1 / (n + 1) - 3 * error  # the promise is not bought with more strictness than it takes


def test_false_positive_rate_of_fresh_groups():
    # Half of the variance is the group's: its 20 inputs are far from independent.
    rng, n, per_group = np.random.default_rng(1), 40, 20
    rates, naive = [], []
    groups = np.repeat(np.arange(n), per_group)
    for _ in range(600):
        z = np.repeat(rng.normal(size=n), per_group) + rng.normal(size=n * per_group)
        p = norm.cdf(z / math.sqrt(2))
        rates.append(norm.sf(norm.ppf(limit_of(p, 0.05, groups))))
        naive.append(norm.sf(norm.ppf(limit_of(p, 0.05))))
    assert np.mean(rates) <= 0.05 + 3 * np.std(rates) / math.sqrt(600)
    assert np.mean(rates) >= 0.02
    assert np.mean(naive) > np.mean(rates)


@pytest.mark.parametrize("distance", [WEAK, FAIR, SHARP])
@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (60, 0.05), (300, 0.05), (300, 0.1)])
def test_the_promise_holds_for_fresh_inputs(distance, n, alpha):
    wrong = {True: [], False: []}
    for seed in range(150):
        y, z = drawn(n, distance, seed)
        for among_answered, found in wrong.items():
            chosen = uncertain_band(y, norm.cdf(z), alpha, among_answered=among_answered)
            rates = errors_elsewhere(*(chosen or ((0.0, 1.0), 0.5)), distance)
            found.append((rates["real"][1], rates["fake"][0]))
    for rates in (np.array(found) for found in wrong.values()):
        mean, error = rates.mean(axis=0), rates.std(axis=0) / math.sqrt(len(rates))
        assert (mean <= alpha + 3 * error).all()
    # The promise by itself is kept tightly where the answers do not meet.
    if distance != SHARP:
        assert (np.mean(wrong[False], axis=0) >= alpha - 1 / (n + 1) - 0.006).all()


@pytest.mark.parametrize("distance", [1.5, FAIR, 2.5])
def test_few_are_wrong_among_the_answered_elsewhere(distance):
    shares = []
    for seed in range(60):
        y, z = drawn(800, distance, seed)
        chosen = uncertain_band(y, norm.cdf(z), 0.05)
        if chosen is not None:
            rates = errors_elsewhere(*chosen, distance)
            shares.append([rates["real"][1] / sum(rates["real"]), rates["fake"][0] / sum(rates["fake"])])
    assert len(shares) > 40
    assert (np.mean(shares, axis=0) <= 0.055).all()
    loose = uncertain_band(*(drawn(800, distance)[0], norm.cdf(drawn(800, distance)[1])), 0.05, among_answered=False)
    rates = errors_elsewhere(*loose, distance)
    assert rates["real"][1] / sum(rates["real"]) > 0.055  # without it they are more


@settings(max_examples=40)
@given(seed=seeds, n=st.integers(19, 400), distance=st.floats(0.8, 2.5), digits=st.sampled_from([1, 2, 15]))
def test_the_band_holds_on_the_data_it_comes_from(seed, n, distance, digits):
    y, z = drawn(n, distance, seed)
    p = np.round(norm.cdf(z), digits).clip(0.001, 0.999)
    chosen = uncertain_band(y, p, 0.1)
    if chosen is None:
        return
    (low, high), threshold = chosen
    assert 0 <= low <= threshold <= high < 1
    real, fake = p[y == 0], p[y == 1]
    open_band = low < high
    called_fake = (real >= high).sum() if open_band else (real >= threshold).sum()
    called_real = (fake <= low).sum() if open_band else (fake < threshold).sum()
    right_real = (real <= low).sum() if open_band else (real < threshold).sum()
    right_fake = (fake >= high).sum() if open_band else (fake >= threshold).sum()
    assert called_fake + 1 <= 0.1 * (n + 1) + 1e-9
    assert called_real + 1 <= 0.1 * (n + 1) + 1e-9
    assert called_fake + 1 <= 0.1 * (called_fake + right_real + 1) + 1e-9
    assert called_real + 1 <= 0.1 * (called_real + right_fake + 1) + 1e-9


@settings(max_examples=40)
@given(seed=seeds, distance=st.floats(0.3, 5), alphas=st.tuples(st.floats(0.02, 0.4), st.floats(0.02, 0.4)))
def test_a_stricter_promise_never_has_a_narrower_band(seed, distance, alphas):
    y, z = drawn(120, distance, seed)
    strict, loose = (uncertain_band(y, norm.cdf(z), a) for a in sorted(alphas))
    if strict is None:
        return
    assert loose is not None
    (low, high), (low_strict, high_strict) = loose[0], strict[0]
    if low < high:
        assert low_strict <= low
        assert high_strict >= high


def test_answers_do_not_depend_on_the_scale_that_was_fitted():
    # Why the promise survives that scale and band are fitted on the same data.
    y, z = drawn(500, FAIR)
    c = fit_calibration(z, y).calibration
    band, threshold = uncertain_band(y, norm.cdf(z))
    fresh = drawn(5000, FAIR, seed=9)[1]
    fitted = decisions(calibrated(fresh, c.scale, c.bias), c.threshold, (c.uncertain_low, c.uncertain_high))
    assert np.array_equal(fitted, decisions(norm.cdf(fresh), threshold, band))
    assert set(fitted) == {-1, 0, 1}


def test_a_sharp_detector_needs_no_band():
    y, z = drawn(300, 8.0)
    calibration = fit_calibration(z, y).calibration
    assert calibration.uncertain_low == calibration.uncertain_high == calibration.threshold == 0.5


def test_where_the_answers_meet_the_threshold_lies_between_the_limits():
    y = np.repeat([0, 1], 100)
    chosen = uncertain_band(y, np.r_[np.linspace(0.6, 0.7, 100), np.linspace(0.8, 0.9, 100)])
    (low, high), threshold = chosen
    assert low == high == threshold
    assert 0.69 < threshold < 0.71  # as near to 0.5 as the reals let it come


@pytest.mark.parametrize(
    ("n_real", "n_fake", "named"), [(18, 300, "real"), (300, 18, "fake"), (5, 5, "real"), (0, 40, "real")]
)
def test_too_few_samples_are_always_uncertain(n_real, n_fake, named):
    rng = np.random.default_rng(0)
    z = np.r_[rng.normal(-4, 1, n_real), rng.normal(4, 1, n_fake)]
    fitted = fit_calibration(z, np.repeat([0, 1], [n_real, n_fake]))
    assert (fitted.calibration.uncertain_low, fitted.calibration.uncertain_high) == (0, 1)
    assert fitted.calibration.threshold == 0.5
    number = {"real": n_real, "fake": n_fake}[named]
    assert any(w.startswith(f"{number} independent {named} samples cannot carry") for w in fitted.warnings)
    assert any("At least 19 are needed" in w for w in fitted.warnings)


def test_many_frames_of_few_videos_are_too_few():
    y, z = drawn(500, SHARP)
    assert fit_calibration(z, y).calibration.uncertain_high < 1
    few = fit_calibration(z, y, groups=np.arange(1000) // 50)  # ten a class
    assert few.calibration.uncertain_high == 1
    assert any("10 independent real samples" in w for w in few.warnings)


def test_scores_that_say_nothing_are_always_uncertain():
    y, z = drawn(400, 0.0)
    fitted = fit_calibration(z, y)
    assert (fitted.calibration.uncertain_low, fitted.calibration.uncertain_high) == (0, 1)
    assert any("cannot keep the promise" in w for w in fitted.warnings)
    inverted = fit_calibration(-drawn(400, FAIR)[1], y)
    assert inverted.calibration.scale > 0
    assert (inverted.calibration.uncertain_low, inverted.calibration.uncertain_high) == (0, 1)
    assert any("rank fakes no higher than reals" in w for w in inverted.warnings)


def test_the_strictest_source_sets_the_limit():
    y, z = drawn(400, SHARP)
    rng = np.random.default_rng(5)
    portraits = rng.normal(1.5, 1, 300)  # reals that look suspicious
    labels, logits = np.r_[y, np.zeros(300)], np.r_[z, portraits]
    sources = np.r_[np.full(800, "main"), np.full(300, "portraits")]
    alone, both = fit_calibration(z, y), fit_calibration(logits, labels, sources)
    pooled = fit_calibration(logits, labels)
    assert (both.calibration.scale, both.calibration.bias) == (alone.calibration.scale, alone.calibration.bias)
    assert set(both.limits) == {"all", "main", "portraits"}
    assert both.limits["portraits"] > both.limits["all"] > both.limits["main"]
    assert both.calibration.uncertain_high >= both.limits["portraits"]
    fresh = calibrated(rng.normal(1.5, 1, 100_000), both.calibration.scale, both.calibration.bias)
    assert (fresh >= both.calibration.uncertain_high).mean() < 0.06
    missed = calibrated(rng.normal(1.5, 1, 100_000), pooled.calibration.scale, pooled.calibration.bias)
    assert (missed >= pooled.calibration.uncertain_high).mean() > 0.06


def test_a_small_source_has_no_limit_of_its_own():
    y, z = drawn(400, SHARP)
    logits, labels = np.r_[z, np.full(30, 9.0)], np.r_[y, np.zeros(30)]
    sources = np.r_[np.full(800, "main"), np.full(30, "clips")]
    fitted = fit_calibration(logits, labels, sources)
    assert set(fitted.limits) == {"all", "main"}
    assert any("Source 'clips' has 30 independent real samples and needs 50" in w for w in fitted.warnings)


def test_a_target_rate_sets_the_threshold():
    y, z = drawn(1000, FAIR)
    plain = fit_calibration(z, y)
    asked = fit_calibration(z, y, target_fpr=0.01)
    p = calibrated(z, asked.calibration.scale, asked.calibration.bias)
    assert asked.calibration.threshold == pytest.approx(limit_of(p[y == 0], 0.01), abs=1e-12)
    assert (p[y == 0] >= asked.calibration.threshold).mean() <= 0.01
    assert asked.calibration.uncertain_high >= asked.calibration.threshold > plain.calibration.uncertain_high


def test_a_target_rate_that_cannot_be_kept_answers_nothing():
    y, z = drawn(60, SHARP)
    fitted = fit_calibration(z, y, target_fpr=0.01)
    assert (fitted.calibration.uncertain_low, fitted.calibration.uncertain_high) == (0, 1)
    assert any("60 independent real samples cannot carry a false positive rate of 0.01" in w for w in fitted.warnings)
    assert any("At least 99 are needed" in w for w in fitted.warnings)


def test_reals_up_to_certainty_answer_nothing():
    y, z = drawn(200, FAIR)
    labels, logits = np.r_[y, np.zeros(100)], np.r_[z, np.full(100, 1e6)]
    sources = np.r_[np.full(400, "main"), np.full(100, "odd")]
    fitted = fit_calibration(logits, labels, sources)
    assert fitted.calibration.uncertain_high == 1
    assert any("score up to a probability of 1 (odd)" in w for w in fitted.warnings)


def test_frames_are_fitted_by_themselves():
    y, z = drawn(500, FAIR)
    fitted = fit_calibration(z, y, frame_logits=5 * z + 1, frame_labels=y, frame_groups=np.arange(1000))
    c = fitted.calibration
    assert c.frame_scale == pytest.approx(c.scale / 5, rel=0.05)
    assert c.frame_bias == pytest.approx(c.bias - c.scale / 5, abs=0.05)
    assert fitted.warnings == ()
    without = fit_calibration(z, y)
    assert (without.calibration.frame_scale, without.calibration.frame_bias) == (1, 0)
    assert any("frame" in w for w in without.warnings)


def test_figures_and_json():
    y, z = drawn(500, FAIR)
    fitted = fit_calibration(3 * z, y)
    assert fitted.figures["n_real"] == fitted.figures["n_fake"] == 500
    assert fitted.figures["log_loss_after"] < fitted.figures["log_loss_before"]
    assert 0.3 < fitted.figures["answered"] < 0.9
    assert fitted.figures["real_called_fake"] <= 0.05
    loaded = json.loads(json.dumps(fitted.to_dict(), allow_nan=False))
    assert loaded["calibration"]["threshold"] == fitted.calibration.threshold


@pytest.mark.parametrize(
    ("logits", "labels", "more", "message"),
    [
        ([0.0, 1.0], [0], {}, "shapes"),
        ([0.0, np.nan], [0, 1], {}, "row 1"),
        ([0.0, 1.0], [0, 3], {}, "labels"),
        ([0.0, 1.0], [0, 1], {"sources": ["a"]}, "sources"),
        ([0.0, 1.0], [0, 1], {"alpha": 0.0}, "rate"),
        ([0.0, 1.0], [0, 1], {"target_fpr": 1.5}, "rate"),
        ([0.0, 1.0], [0, 1], {"frame_logits": [1.0]}, "shapes"),
    ],
)
def test_wrong_arrays_are_refused(logits, labels, more, message):
    with pytest.raises(ValueError, match=message):
        fit_calibration(logits, labels, **more)


def test_one_class_keeps_the_logits_as_they_are():
    with pytest.raises(ValueError, match="both classes"):
        fit_scale([0.0, 1.0], [1, 1])
    fitted = fit_calibration(np.arange(100.0), np.zeros(100))
    assert (fitted.calibration.scale, fitted.calibration.bias) == (1, 0)
    assert any("no fake videos" in w for w in fitted.warnings)


def test_a_collection_counts_as_much_as_its_share_says():
    """Two sources whose scores differ by a constant: scale and bias follow the one that has nearly all of the share."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 300)
    logits = np.where(labels, 1.0, -1.0) + rng.normal(0, 1, 600)
    source = np.where(np.arange(600) < 500, "many", np.where(np.arange(600) % 4 < 2, "few/one", "few/two"))
    logits[500:] += 3.0
    counted = fit_calibration(logits, labels, source).calibration
    shared = fit_calibration(logits, labels, source, shares={"many": 0.001, "few": 0.999}).calibration
    assert -shared.bias / shared.scale == pytest.approx(3.0, abs=0.3)  # where both answers are equally likely
    assert -counted.bias / counted.scale < 1.5


def test_small_origins_of_a_collection_have_one_limit_together():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 400)
    logits = np.where(labels, 3.0, -3.0) + rng.normal(0, 1, 800)
    source = np.array(["all" if i < 400 else f"set/{i % 40}" for i in range(800)])
    fitted = fit_calibration(logits, labels, source)
    assert set(fitted.limits) == {"all", "set"}
    assert not any("set/" in warning for warning in fitted.warnings)


@pytest.mark.parametrize("rate", [1.0, 2.0, 3.0])
def test_the_tail_of_reals_is_found(rate):
    log_odds = np.random.default_rng(0).exponential(rate, 4000)
    assert tail(log_odds, np.arange(4000)) == pytest.approx(rate, rel=0.1)
    assert tail(log_odds[:30], np.arange(30)) is None  # too few to tell
    assert tail(log_odds, np.arange(4000) % 9) is None  # of few people


@pytest.mark.parametrize("n", [5, 25])
def test_the_promise_holds_for_a_file_of_many_people(n):
    """Real people together: at most a twentieth of the files is called fake; without the tail a fifth and more is."""
    labels, logits = drawn(2000, 3.0)
    calibration = fit_calibration(logits, labels).calibration
    assert calibration.tail is not None
    crowds = np.random.default_rng(1).normal(-1.5, 1, (400, n)) * calibration.scale + calibration.bias
    high = calibration.uncertain_high
    limit = math.log(high / (1 - high))
    assert (crowds.max(axis=1) >= limit).mean() > 0.15
    assert (crowds.max(axis=1) >= limit + calibration.tail * math.log(n)).mean() < 0.06
