"""Scoring: batches, views of test-time augmentation, devices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from madedetectors import SIDE, card
from madedetectors import network as made_network

from deepscan.config import HeadSettings, ModelSettings
from deepscan.errors import ModelError
from deepscan.models.ensemble import Networks
from deepscan.models.network import DetectorNetwork
from deepscan.models.scorer import CROPS_PER_BATCH, pick_device, torch_scorer
from deepscan.models.transform import normalise, to_unit, tta_views

SETTINGS = ModelSettings(backbone="custom_cnn", head=HeadSettings(hidden=8))
CARD = card(network=SETTINGS, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


@pytest.fixture(scope="module")
def network():
    return made_network(SETTINGS)


def sequence(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def assert_same(a, b):
    assert a.video_logit == pytest.approx(b.video_logit, rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(a.frame_logits, b.frame_logits, rtol=1e-4, atol=1e-5)


def by_hand(network, unit):
    """Video logit and frame logits of one view ``[T, 3, S, S]`` in [0, 1], straight through the network."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CARD.mean, CARD.std))
    with torch.inference_mode():
        output = network(((unit - mean) / std).unsqueeze(0))
    return output.video_logit.item(), output.frame_logits[0].double().numpy()


def test_without_tta_it_is_one_pass_through_the_network(network):
    crops = sequence(3)
    (score,) = torch_scorer(Networks.of(network, CARD), tta=False).score([crops])
    video, frames = by_hand(network, torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255)
    assert score.video_logit == pytest.approx(video, rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(score.frame_logits, frames, rtol=1e-4, atol=1e-5)


def test_tta_is_the_mean_of_the_single_views(network):
    crops = sequence(3)
    views = tta_views(to_unit(crops))
    single = [by_hand(network, view) for view in views]
    assert len({round(video, 4) for video, _ in single}) == len(views) == 2  # each view tells something new
    (score,) = torch_scorer(Networks.of(network, CARD), tta=True).score([crops])
    assert score.video_logit == pytest.approx(np.mean([video for video, _ in single]), rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(score.frame_logits, np.mean([f for _, f in single], axis=0), rtol=1e-4, atol=1e-5)


@settings(max_examples=6)
@given(lengths=st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_many_tracks_score_as_each_alone(network, lengths):
    sequences = [sequence(n, seed) for seed, n in enumerate(lengths)]
    together = torch_scorer(Networks.of(network, CARD)).score(sequences)
    assert [len(s.frame_logits) for s in together] == lengths
    for score, crops in zip(together, sequences, strict=True):
        assert_same(score, torch_scorer(Networks.of(network, CARD)).score([crops])[0])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_batches_inside_change_nothing(network, size):
    sequences = [sequence(3, 0), sequence(4, 1)]
    expected = torch_scorer(Networks.of(network, CARD)).score(sequences)
    sizes = []
    hook = network.backbone.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    scoring = torch_scorer(Networks.of(network, CARD))
    scoring.crops_per_batch = size
    scores = scoring.score(sequences)
    hook.remove()
    assert max(sizes) == 2 * size  # two views
    assert sum(sizes) == 2 * 7
    for a, b in zip(scores, expected, strict=True):
        assert_same(a, b)


def test_more_crops_than_one_real_batch(network):
    crops = sequence(CROPS_PER_BATCH + 3)
    (score,) = torch_scorer(Networks.of(network, CARD), tta=False).score([crops])
    assert score.frame_logits.shape == (len(crops),)
    (tail,) = torch_scorer(Networks.of(network, CARD), tta=False).score([crops[-2:]])
    np.testing.assert_allclose(score.frame_logits[-2:], tail.frame_logits, rtol=1e-4, atol=1e-5)


def test_nobody_to_score(network):
    assert torch_scorer(Networks.of(network, CARD)).score([]) == []


def test_scores_are_plain_numbers(network):
    (score,) = torch_scorer(Networks.of(network, CARD)).score([sequence(2)])
    assert type(score.video_logit) is float
    assert score.frame_logits.dtype == np.float64


def test_a_network_in_training_mode_is_scored_in_evaluation_mode():
    torch.manual_seed(0)
    network = DetectorNetwork(SETTINGS).train()
    scoring = torch_scorer(Networks.of(network, CARD))
    assert_same(*(scoring.score([sequence(2)])[0] for _ in range(2)))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_network_that_answers_with_nan_is_an_error_not_a_score(broken):
    torch.manual_seed(0)
    network = DetectorNetwork(SETTINGS)
    with torch.no_grad():
        network.classifier[-1].bias.fill_(broken)
    with pytest.raises(ModelError):
        torch_scorer(Networks.of(network, CARD)).score([sequence(1)])


def test_views():
    unit = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    views = tta_views(unit)
    assert views.shape == (2, 2, 3, 40, 40)
    assert torch.equal(views[0], unit)
    assert (views >= 0).all()
    assert (views <= 1).all()
    middle = views[1].flip(-1)[..., 15:25, 15:25]
    assert (middle - unit[..., 15:25, 15:25]).abs().mean() < (middle - unit.flip(-1)[..., 15:25, 15:25]).abs().mean()


def test_the_closer_view_is_centred():
    ramp = torch.linspace(0, 1, 50).view(1, 1, 1, 50).expand(1, 3, 50, 50)
    closer = tta_views(ramp)[1]
    torch.testing.assert_close(closer.mean(), torch.tensor(0.5), rtol=0, atol=1e-4)
    assert closer[..., 0].min() < 0.98  # mirrored: the ramp falls
    assert closer[..., -1].max() > 0.02


def test_unit_and_normalise():
    crops = np.zeros((1, 2, 2, 3), np.uint8)
    crops[..., 0] = 255
    unit = to_unit(crops)
    assert unit.shape == (1, 3, 2, 2)
    assert unit.dtype == torch.float32
    assert unit[0, :, 0, 0].tolist() == [1, 0, 0]
    out = normalise(unit, (0.5, 0.5, 0.25), (0.5, 0.25, 0.25))
    assert out[0, :, 1, 1].tolist() == [1, -2, -1]
    assert to_unit(crops[:, :, ::-1]).is_contiguous  # a mirrored, negative-stride array is taken too


def test_pick_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("cpu") == pick_device("auto") == "cpu"
    for name in ("cuda", "mps", "tpu"):
        with pytest.raises(ModelError, match=f"'{name}' is not available.*--device cpu") as caught:
            pick_device(name)
        assert caught.value.reason == "no_device"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == "cuda"
