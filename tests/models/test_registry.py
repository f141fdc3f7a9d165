"""One suite over every backbone, with random weights and small inputs."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from torch import nn

from deepscan.config import HeadSettings, ModelSettings
from deepscan.errors import ModelError
from deepscan.models.backbones import base
from deepscan.models.backbones.base import Backbone, register_backbone
from deepscan.models.backbones.registry import backbone_spec, create_backbone, list_backbones
from deepscan.models.network import DetectorNetwork

SIDE = 80  # the smallest that every network takes
TIMM = ["timm:xception", "timm:densenet121", "timm:vit_tiny_patch16_224"]
PUBLISHED = {
    # name: features, million parameters of the published network without its classifier
    "resnet18": (512, 11.2),
    "resnet34": (512, 21.3),
    "resnet50": (2048, 23.5),
    "inception_resnet_v1": (512, 23.5),
    "meso4": (16, 0.028),
    "mesoinception4": (16, 0.029),
    "custom_cnn": (128, 0.57),
    "timm:xception": (2048, 20.8),
    "timm:densenet121": (1024, 6.95),
    "timm:vit_tiny_patch16_224": (192, 5.5),
}


def crops(n, seed=0):
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=[*list_backbones(), *TIMM])
def network(request):
    """A detector in evaluation mode whose batch norms have seen data: deep nets need it."""
    torch.manual_seed(0)
    net = DetectorNetwork(ModelSettings(backbone=request.param, head=HeadSettings(name="lstm", hidden=8, dropout=0.0)))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        net.train()
        net.backbone(crops(4, seed=1))
    return net.eval()


def test_features_have_the_promised_shape_and_depend_on_the_picture(network):
    with torch.inference_mode():
        features = network.backbone(crops(2))
    assert features.shape == (2, network.backbone.feature_dim)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()
    assert (features[0] - features[1]).abs().max() > 1e-3 * features.abs().max() > 0


@pytest.mark.parametrize("time", [1, 3])
def test_a_sequence_scores_the_same_again_alone_and_in_a_batch(network, time):
    sequences = crops(2 * time).unflatten(0, (2, time))
    with torch.inference_mode():
        together = network(sequences)
        alone, again = network(sequences[1:]), network(sequences[1:])
    assert together.video_logit.shape == (2,)
    assert together.frame_logits.shape == (2, time)
    assert torch.isfinite(together.video_logit).all()
    assert torch.equal(alone.video_logit, again.video_logit)
    assert torch.equal(alone.frame_logits, again.frame_logits)
    torch.testing.assert_close(together.video_logit[1:], alone.video_logit, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.frame_logits[1:], alone.frame_logits, rtol=1e-4, atol=1e-4)


def test_size_is_that_of_the_published_network(network):
    features, millions = PUBLISHED[network.settings.backbone]
    assert network.backbone.feature_dim == features
    parameters = sum(p.numel() for p in network.backbone.parameters()) / 1e6
    assert parameters == pytest.approx(millions, rel=0.03)


def test_every_backbone_is_in_the_suite():
    assert set(PUBLISHED) == {*list_backbones(), *TIMM}


@pytest.mark.parametrize("name", list_backbones())
def test_entry_says_what_the_network_expects(name):
    spec = backbone_spec(name)
    assert spec.name == name
    assert 96 <= spec.input_size_px <= 300
    assert all(0 < value < 1 for value in (*spec.mean, *spec.std))
    assert spec.source


def test_timm_entries_carry_what_timm_states():
    vit = backbone_spec("timm:vit_tiny_patch16_224")
    assert (vit.name, vit.input_size_px, vit.mean, vit.std) == (
        "timm:vit_tiny_patch16_224", 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5),
    )  # fmt: skip
    densenet = backbone_spec("timm:densenet121")
    assert (densenet.mean, densenet.std) == (base.IMAGENET_MEAN, base.IMAGENET_STD)


def test_xception_is_normalised_as_it_was_published():
    # timm's old name "xception" has no entry of its own; the network behind it has.
    spec, real = backbone_spec("timm:xception"), backbone_spec("timm:legacy_xception")
    assert (spec.input_size_px, spec.mean, spec.std) == (real.input_size_px, real.mean, real.std)
    assert (real.input_size_px, real.mean) == (299, (0.5, 0.5, 0.5))


@pytest.mark.parametrize("name", ["timm:mobilenetv3_small_050", "timm:vgg11"])
def test_timm_models_with_a_layer_after_the_pooling(name):
    # Their `num_features` is not what comes out when the classifier is taken away.
    with torch.device("meta"):
        backbone = create_backbone(name).eval()
        assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, backbone.feature_dim)


def test_timm_vit_without_size_option():
    # Named vit_ like the others, but its class knows no `dynamic_img_size`.
    with torch.device("meta"):
        assert create_backbone("timm:vit_relpos_small_patch16_224").feature_dim == 384


def test_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(ModelError) as caught:
        backbone_spec("resnet19")
    assert caught.value.reason == "unknown_model"
    assert "did you mean 'resnet18'?" in str(caught.value)
    for name in list_backbones():
        assert name in str(caught.value)
    assert "timm:NAME" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_name_without_neighbour_suggests_none():
    with pytest.raises(ModelError) as caught:
        create_backbone("zzzzzz")
    assert "did you mean" not in str(caught.value)
    assert caught.value.reason == "unknown_model"


def test_unknown_timm_name_suggests_near_ones():
    with pytest.raises(ModelError) as caught:
        create_backbone("timm:densenet122")
    assert caught.value.reason == "unknown_model"
    assert "densenet121" in str(caught.value)


@pytest.mark.parametrize("name", ["timm:", "timm:densenet121.no_such_weights"])
def test_odd_timm_names_are_unknown_models(name):
    with pytest.raises(ModelError) as caught:
        create_backbone(name)
    assert caught.value.reason == "unknown_model"


def test_names_are_sorted_and_registered_once():
    assert list_backbones() == sorted(set(list_backbones()))
    with pytest.raises(ValueError, match="resnet18 is registered twice"):
        register_backbone("resnet18", input_size_px=64, source="")(Backbone)


@patch.dict(base.REGISTRY)
def test_a_new_backbone_needs_one_registration():
    @register_backbone("average_colour", input_size_px=64, source="a test")
    class AverageColour(Backbone):
        feature_dim = 3

        def forward(self, x):
            return x.mean(dim=(2, 3))

    assert "average_colour" in list_backbones()
    network = DetectorNetwork(ModelSettings(backbone="average_colour", head=HeadSettings(name="mean")))
    assert network(torch.zeros(1, 2, 3, 8, 8)).frame_logits.shape == (1, 2)
    assert backbone_spec("average_colour").mean == base.IMAGENET_MEAN


def test_making_a_backbone_downloads_nothing(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("network access")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    for name in ("timm:vit_tiny_patch16_224", "resnet18"):
        create_backbone(name)
