"""What leaving frames out does to the answer, and which frames are named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tinynets import CALIBRATED, Brightness, detector, noise, spread

from deepscan.config import CropSettings, HeadSettings, ModelSettings
from deepscan.explain.occlusion import MAX_STRETCHES, explain_track
from deepscan.models.card import Calibration, EnsembleCard, EnsembleMember
from deepscan.models.ensemble import Networks, weighted
from deepscan.models.heads import Head, masked_mean
from deepscan.models.network import DetectorNetwork
from deepscan.models.scorer import torch_scorer

HEADS = {
    "lstm": HeadSettings(hidden=8, bidirectional_layers=2, unidirectional_layers=1),
    "mean": HeadSettings(name="mean"),
    "attention": HeadSettings(name="attention", hidden=8),
}


def made(head="mean", seed=0, **card):
    _, base = detector("custom_cnn", calibration=CALIBRATED, seed=seed)
    settings = ModelSettings(backbone="custom_cnn", head=HEADS[head])
    torch.manual_seed(seed)
    return spread(DetectorNetwork(settings)).eval(), base.model_copy(update={"network": settings, **card})


def calibrated(score, calibration=CALIBRATED):
    return score.video_logit * calibration.scale + calibration.bias


@pytest.mark.parametrize("tta", [True, False])
@pytest.mark.parametrize("head", HEADS)
def test_importance_is_what_scoring_without_the_frame_would_change(head, tta):
    network, card = made(head)
    crops = noise(6)
    found = explain_track(Networks.of(network, card), crops, tta=tta)
    scorer = torch_scorer(Networks.of(network, card), tta=tta)
    whole, *without = scorer.score([crops, *(np.delete(crops, t, axis=0) for t in range(6))])
    assert found.logit == pytest.approx(calibrated(whole), rel=1e-4, abs=1e-5)
    expected = [calibrated(whole) - calibrated(score) for score in without]
    np.testing.assert_allclose(found.importance, expected, rtol=1e-3, atol=1e-4)
    assert np.ptp(found.importance) > 0.01
    frames = whole.frame_logits * CALIBRATED.frame_scale + CALIBRATED.frame_bias
    np.testing.assert_allclose(found.frame_logits, frames, rtol=1e-4, atol=1e-5)
    assert found.stretches == tuple((t, t + 1) for t in range(6))


class SecondUnheard(Head):
    """The mean of all frames but the second."""

    out_dim = 1

    def forward(self, features, mask):
        heard = mask.clone()
        heard[:, 1] = False
        return masked_mean(features, heard)


def test_a_frame_that_the_head_ignores_has_no_importance():
    network, card = detector(Brightness())
    network.head = SecondUnheard()
    values = np.array([200, 10, 90, 250], np.uint8)
    crops = np.broadcast_to(values[:, None, None, None], (4, 32, 32, 3)).copy()
    found = explain_track(Networks.of(network, card), crops)
    assert found.importance[1] == 0
    assert np.all(np.abs(np.delete(found.importance, 1)) > 0.01)


def test_the_backbone_runs_once_however_often_frames_are_left_out():
    network, card = made("lstm")
    seen = []
    network.backbone.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    explain_track(Networks.of(network, card), noise(10), tta=False)
    assert seen == [10]


def test_frames_are_left_out_in_stretches_where_asked_or_where_they_are_many():
    network, card = made()
    crops = noise(5)
    found = explain_track(Networks.of(network, card), crops, stretch=2, tta=False)
    assert found.stretches == ((0, 2), (2, 4), (4, 5))
    whole, without = torch_scorer(Networks.of(network, card), tta=False).score([crops, crops[[0, 1, 4]]])
    assert (
        found.importance[2] == found.importance[3] == pytest.approx(calibrated(whole) - calibrated(without), rel=1e-3)
    )
    many = explain_track(Networks.of(network, card), noise(2 * MAX_STRETCHES + 1), tta=False)
    assert len(many.stretches) <= MAX_STRETCHES
    assert many.stretches[0] == (0, 3)
    assert [start for start, _ in many.stretches[1:]] == [end for _, end in many.stretches[:-1]]
    assert many.stretches[-1][1] == len(many.importance) == 2 * MAX_STRETCHES + 1


def test_runs_of_the_head_are_split_without_a_trace(monkeypatch):
    network, card = made("lstm")
    whole = explain_track(Networks.of(network, card), noise(7))
    monkeypatch.setattr("deepscan.explain.occlusion._FRAMES_PER_RUN", 1)
    np.testing.assert_allclose(
        explain_track(Networks.of(network, card), noise(7)).importance, whole.importance, atol=1e-5
    )


def test_the_only_frame_carries_the_whole_answer():
    network, card = made("lstm")
    found = explain_track(Networks.of(network, card), noise(1))
    assert found.importance.tolist() == [found.logit]


def test_an_ensembles_answer_is_the_one_that_is_taken_apart():
    first, second = made("mean"), made("attention", seed=1, crop=CropSettings(size_px=48))
    weights = (0.75, 0.25)
    card = EnsembleCard(
        name="both",
        crop=CropSettings(size_px=48),
        calibration=Calibration(scale=1.5, bias=-0.2),
        weights_sha256="",
        members=tuple(
            EnsembleMember(folder=f"m{i}", weight=w, weights_sha256="", backbone="custom_cnn", head="mean")
            for i, w in enumerate(weights)
        ),
    )
    networks, crops = weighted([Networks.of(*first), Networks.of(*second)], weights, card), noise(4, 48)
    found = explain_track(networks, crops)
    whole, without = torch_scorer(networks).score([crops, crops[1:]])
    assert found.logit == pytest.approx(calibrated(whole, card.calibration), rel=1e-4, abs=1e-5)
    expected = calibrated(whole, card.calibration) - calibrated(without, card.calibration)
    assert found.importance[0] == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("options", [{"stretch": 0}, {"stretch": -1}])
def test_a_stretch_of_nothing_is_refused(options):
    network, card = made()
    with pytest.raises(ValueError, match="Invalid stretch"):
        explain_track(Networks.of(network, card), noise(2), **options)


def test_no_crops_are_refused():
    network, card = made()
    with pytest.raises(ValueError, match="Invalid crops"):
        explain_track(Networks.of(network, card), noise(0))
