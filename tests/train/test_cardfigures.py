"""What a card keeps of an evaluation."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from madedetectors import NO_TTA, card, network
from madestores import pairs_store

from deepscan.modelcard import model_card_markdown
from deepscan.pipeline import Detector
from deepscan.train.cardfigures import condensed
from deepscan.train.evaluate import evaluate
from deepscan.train.samples import read_samples


@pytest.fixture(scope="module", params=[30, 6])
def evaluation(request, tmp_path_factory):
    samples = read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=request.param, length=2))
    return evaluate(Detector(network(), card(), NO_TTA), samples, data=["made"], resamples=20)


def test_what_a_card_keeps_is_what_was_measured(evaluation):
    kept = condensed(evaluation, "made")
    assert kept["figures"]["auc"]["value"] == pytest.approx(evaluation.video["auc"].value, abs=1e-5)
    counts = Counter(str(video.verdict) for video in evaluation.videos)
    for verdict in ("fake", "real", "uncertain", "not_applicable", "error"):
        assert sum(row[verdict] for row in kept["answers"]) == counts[verdict]
    judged = sum(video.probability is not None for video in evaluation.videos)
    assert sum(one["n"] for one in kept["reliability"]) == judged
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept


def test_small_sources_are_told_video_by_video(evaluation):
    listed = condensed(evaluation, "made")["videos"]
    assert len(listed) == (12 if len(evaluation.videos) == 12 else 0)
    probabilities = [video["probability"] for video in listed]
    assert probabilities == sorted(probabilities, reverse=True)
    page = model_card_markdown(card().model_copy(update={"evaluations": [condensed(evaluation, "made")]}))
    assert "### Calibration curve" in page
    assert all(video["video"] in page for video in listed)
