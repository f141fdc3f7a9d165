"""The detector's network as a whole: masks, shapes, the frame-level head."""

from __future__ import annotations

import pytest
import torch

from deepscan.config import HeadSettings, ModelSettings
from deepscan.errors import ModelError
from deepscan.models.network import DetectorNetwork

HEADS = {
    "lstm": HeadSettings(hidden=8),
    "mean": HeadSettings(name="mean"),
    "attention": HeadSettings(name="attention", hidden=8),
    "report": HeadSettings(bidirectional_layers=3, unidirectional_layers=1, hidden=8, dense=8),
}


@pytest.fixture(scope="module", params=HEADS, ids=str)
def network(request):
    torch.manual_seed(0)
    return DetectorNetwork(ModelSettings(backbone="meso4", head=HEADS[request.param])).eval()


def crops(*shape, seed=0):
    return torch.randn(*shape, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("time", [1, 3])
def test_one_logit_a_sequence_and_one_a_frame(network, time):
    with torch.inference_mode():
        output = network(crops(2, time))
    assert output.video_logit.shape == (2,)
    assert output.frame_logits.shape == (2, time)
    assert torch.isfinite(output.video_logit).all()
    assert torch.isfinite(output.frame_logits).all()


def test_no_mask_means_a_face_everywhere(network):
    with torch.inference_mode():
        bare, full = network(crops(1, 3)), network(crops(1, 3), torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(bare.video_logit, full.video_logit)


def test_masked_crops_do_not_reach_the_video_logit(network):
    mask = torch.tensor([[True, False, True, False]])
    first, second = crops(1, 4), crops(1, 4)
    second[:, [1, 3]] = crops(1, 2, seed=9)
    with torch.inference_mode():
        a, b = network(first, mask), network(second, mask)
        c = network(first[:, [0, 2]])
    torch.testing.assert_close(a.video_logit, b.video_logit, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(a.video_logit, c.video_logit, rtol=1e-5, atol=1e-6)


def test_frame_logits_see_single_frames_only(network):
    with torch.inference_mode():
        clip = network(crops(1, 3)).frame_logits[0]
        singles = torch.stack([network(crops(1, 3)[:, t : t + 1]).frame_logits[0, 0] for t in range(3)])
    torch.testing.assert_close(clip, singles, rtol=1e-5, atol=1e-6)


def test_features_scored_apart_equal_the_whole(network):
    x = crops(1, 3)
    with torch.inference_mode():
        features = network.backbone(x.flatten(0, 1)).unflatten(0, (1, 3))
        apart, whole = network.from_features(features), network(x)
    torch.testing.assert_close(apart.video_logit, whole.video_logit)


def test_both_losses_reach_the_backbone():
    torch.manual_seed(0)
    network = DetectorNetwork(ModelSettings(backbone="meso4", head=HEADS["lstm"])).train()
    first = next(network.backbone.parameters())
    for loss in (lambda o: o.video_logit.sum(), lambda o: o.frame_logits.sum()):
        network.zero_grad()
        loss(network(crops(2, 2))).backward()
        assert first.grad.abs().sum() > 0


def test_unknown_backbone():
    with pytest.raises(ModelError, match="Unknown backbone 'meso5'"):
        DetectorNetwork(ModelSettings(backbone="meso5"))
