"""What a card keeps of an evaluation."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from madedetectors import NO_TTA, card, network
from madestores import pairs_store

from deepscan.datasets.dataset import read_samples
from deepscan.detector import Detector
from deepscan.evaluate.card_figures import condensed, shortcuts
from deepscan.evaluate.evaluation import evaluate
from deepscan.models.ensemble import Networks
from deepscan.report.html.model_view import model_view
from deepscan.report.model_card import model_card_markdown


@pytest.fixture(scope="module", params=[30, 6])
def evaluation(request, tmp_path_factory):
    samples = read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=request.param, length=2))
    return evaluate(Detector(Networks.of(network(), card()), NO_TTA), samples, data=["made"], resamples=20)


def test_what_a_card_keeps_is_what_was_measured(evaluation):
    kept = condensed(evaluation, "made")
    assert kept["figures"]["auc"]["value"] == pytest.approx(evaluation.video["auc"].value, abs=1e-5)
    counts = Counter(str(video.verdict) for video in evaluation.videos)
    for verdict in ("fake", "real", "uncertain", "not_applicable", "error"):
        assert sum(row[verdict] for row in kept["answers"]) == counts[verdict]
    judged = sum(video.probability is not None for video in evaluation.videos)
    assert sum(one["n"] for one in kept["reliability"]) == judged
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept


def test_error_rates_are_counted_and_say_of_which_files_wherever_they_stand(evaluation):
    """Counted from the answers themselves, against the card's page and the report page."""
    kept = condensed(evaluation, "made")
    made = card().model_copy(update={"evaluations": [kept]})
    counts = Counter((video.label, str(video.verdict)) for video in evaluation.videos)
    page = model_card_markdown(made)
    rows = {
        name: (value.split(" ")[0], n) for name, value, n in model_view(evaluation.model, made, "0", "", "").figures
    }
    for name, label, wrong, right, title in (
        ("error_answered_real", 0, "fake", "real", "Of real files with an answer, called fake"),
        ("error_answered_fake", 1, "real", "fake", "Of fake files with an answer, called real"),
    ):
        answered = counts[label, wrong] + counts[label, right]
        share = counts[label, wrong] / answered
        assert (kept["figures"][name]["value"], kept["figures"][name]["n"]) == (
            pytest.approx(share, abs=1e-6),
            answered,
        )
        # A handful of files says nothing on a user's page.
        assert rows.get(title) == ((f"{share:.3f}", str(answered)) if answered >= 20 else None)
        assert re.search(rf"^\| {title} \| {share:.3f} \| .* \| {answered} \|$", page, re.MULTILINE)
    assert counts[0, "fake"] != counts[1, "real"]  # the two cannot be mistaken for each other


def test_small_sources_are_told_video_by_video(evaluation):
    listed = condensed(evaluation, "made")["videos"]
    assert len(listed) == (12 if len(evaluation.videos) == 12 else 0)
    probabilities = [video["probability"] for video in listed]
    assert probabilities == sorted(probabilities, reverse=True)
    page = model_card_markdown(card().model_copy(update={"evaluations": [condensed(evaluation, "made")]}))
    assert "### Calibration curve" in page
    assert all(video["video"] in page for video in listed)


def test_real_sources_that_the_score_tells_apart_are_named(evaluation):
    """Two sources alike, one that scores higher, one too small to say."""
    video = evaluation.videos[0]
    rng = np.random.default_rng(0)
    made = [
        replace(video, label=label, source=source, probability=float(p))
        for source, label, n, low in (
            ("a", 0, 40, 0.0),
            ("b", 0, 40, 0.0),
            ("c", 0, 30, 0.3),
            ("d", 0, 29, 0.9),
            ("a", 1, 50, 0.9),
        )
        for p in rng.uniform(low, low + 0.1, n)
    ]
    found = shortcuts(made)
    assert [(row["one"], row["other"]) for row in found[:2]] == [("c", "a"), ("c", "b")]
    assert [row["auc"] for row in found[:2]] == [1.0, 1.0]
    assert (found[0]["n_one"], found[0]["n_other"]) == (30, 40)
    assert {found[2]["one"], found[2]["other"]} == {"a", "b"}
    assert found[2]["auc"] == pytest.approx(0.5, abs=0.15)
    assert shortcuts([replace(v, label=1) for v in made]) == []
