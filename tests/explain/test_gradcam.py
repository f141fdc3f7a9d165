"""Grad-CAM: every backbone, networks whose map is known, the unit and the scale, ensembles."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tinynets import CALIBRATED, Brightness, Corner, detector, noise, spot
from torch import nn

from deepscan.config import CropSettings
from deepscan.errors import ConfigError, ModelError
from deepscan.explain.gradcam import HeatMaps, explain_frames, find_map_layer, signed_maps, upsampled
from deepscan.models.backbones.base import Backbone
from deepscan.models.backbones.registry import list_backbones
from deepscan.models.card import Calibration, EnsembleCard, EnsembleMember
from deepscan.models.ensemble import Networks, weighted
from deepscan.models.transform import to_unit

pytest.importorskip("pytorch_grad_cam")

SIDE = 96
TIMM = ["timm:vit_tiny_patch16_224", "timm:convnext_atto"]
HEAVY = ["timm:xception", "timm:densenet121"]
NAMES = [*list_backbones(), *TIMM, *(pytest.param(name, marks=pytest.mark.slow) for name in HEAVY)]


def logits(network, crops):
    with torch.inference_mode():
        return network.frame_classifier(network.backbone(to_unit(crops))).squeeze(-1).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_has_maps_that_follow_the_picture_and_stays_as_it_is(name):
    network, card = detector(name, SIDE)
    network.train(name == "custom_cnn")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    training = [module.training for module in network.modules()]
    crops = noise(2, SIDE)
    crops[1] //= 4
    signed, cells = signed_maps(Networks.of(network, card), crops)
    assert signed.shape == (2, SIDE, SIDE)
    assert signed.dtype == np.float32
    assert min(cells) >= 5
    assert np.ptp(signed[0]) > 0
    assert not np.allclose(signed[0], signed[1], rtol=1e-3)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_heat_lies_where_the_logit_comes_from():
    network, card = detector(Corner())
    heat = explain_frames(Networks.of(network, card), np.full((1, 32, 32, 3), 200, np.uint8)).heat[0]
    np.testing.assert_allclose(heat[:16, :16], 1, rtol=1e-5)
    assert not heat[16:].any()
    assert not heat[:, 16:].any()


@pytest.mark.parametrize(("row", "column"), [(3, 4), (20, 22), (2, 24)])
def test_heat_moves_with_the_picture(row, column):
    network, card = detector(Brightness())
    heat = explain_frames(Networks.of(network, card), spot(32, row, column)[None]).heat[0]
    rows, columns = np.nonzero(heat > 0.5)
    assert (rows.mean(), columns.mean()) == (row + 2.5, column + 2.5)


def test_a_mirrored_crop_has_mirrored_heat_where_the_kernels_are_symmetric():
    network, card = detector("custom_cnn", 64)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = (module.weight + module.weight.flip(-1)) / 2
    crops = noise(2, 64)
    signed, cells = signed_maps(Networks.of(network, card), crops)
    mirrored, _ = signed_maps(Networks.of(network, card), np.ascontiguousarray(crops[:, :, ::-1]))
    assert cells == (8, 8)
    np.testing.assert_allclose(mirrored, signed[:, :, ::-1], rtol=1e-3, atol=1e-4 * float(np.abs(signed).max()))
    assert not np.allclose(signed, signed[:, :, ::-1], atol=1e-2 * float(np.abs(signed).max()))


def test_a_map_before_pooling_adds_up_to_the_calibrated_logit():
    network, card = detector("resnet18", SIDE, calibration=CALIBRATED)
    crops = noise(3, SIDE)
    signed, cells = signed_maps(Networks.of(network, card), crops, min_cells=1)
    assert cells == (3, 3)
    less_constant = logits(network, crops) - network.frame_classifier.bias.item()
    np.testing.assert_allclose(signed.mean(axis=(1, 2)), less_constant * CALIBRATED.frame_scale, rtol=1e-3, atol=1e-4)


def test_cells_that_take_turns_leave_no_grid_of_dots():
    turns = np.indices((8, 8)).sum(axis=0, dtype=np.float32)[None] % 2
    shown = upsampled(turns, 128)
    assert shown.shape == (1, 128, 128)
    assert np.ptp(shown[0, 24:-24, 24:-24]) < 0.1
    assert shown.mean() == pytest.approx(0.5, abs=1e-3)
    spot = np.zeros((1, 8, 8), np.float32)
    spot[0, 2, 5] = 1
    assert np.unravel_index(upsampled(spot, 128)[0].argmax(), (128, 128)) in {(39, 87), (39, 88), (40, 87), (40, 88)}
    assert upsampled(turns, 8) is turns  # as fine as the crop


def test_maps_are_those_of_the_package_before_its_scaling():
    from pytorch_grad_cam import HiResCAM
    from pytorch_grad_cam.utils.model_targets import RawScoresOutputTarget

    network, card = detector(Brightness())
    crop = spot(32, 9, 5, value=130)[None]
    with HiResCAM(nn.Sequential(network.backbone, network.frame_classifier), [network.backbone.look]) as cam:
        theirs = cam(input_tensor=to_unit(crop), targets=[RawScoresOutputTarget()])
    ours = explain_frames(Networks.of(network, card), crop)
    np.testing.assert_allclose(ours.heat, theirs, atol=1e-5)
    assert ours.scale == pytest.approx(130 / 255, rel=1e-5)


def test_a_quiet_frame_stays_quiet_beside_a_loud_one():
    network, card = detector(Brightness())
    crops = np.stack([spot(32, 5, 5), spot(32, 5, 5, value=51), spot(32, 5, 5, value=0)])
    heat = explain_frames(Networks.of(network, card), crops)
    np.testing.assert_allclose(heat.heat.max(axis=(1, 2)), [1, 0.2, 0], rtol=1e-4)
    assert heat.scale == pytest.approx(1, rel=1e-5)
    halved = heat.on_scale(2.0)
    np.testing.assert_allclose(halved.heat, heat.heat / 2)
    assert (halved.scale, halved.cells) == (2.0, heat.cells)
    with pytest.raises(ValueError, match="Invalid scale"):
        heat.on_scale(0.5)


def test_heat_is_what_speaks_for_fake():
    network, card = detector(Brightness(), mean=(0.5, 0.5, 0.5))
    crops = noise(3)
    heat = explain_frames(Networks.of(network, card), crops)
    signed, _ = signed_maps(Networks.of(network, card), crops)
    np.testing.assert_allclose(heat.heat * heat.scale, signed.clip(min=0), rtol=1e-4, atol=1e-7)
    assert signed.min() < 0
    assert heat.heat.dtype == np.float32
    assert heat.heat.max() == pytest.approx(1)


def test_where_nothing_speaks_for_fake_there_is_no_heat():
    network, card = detector(Brightness())
    heat = explain_frames(Networks.of(network, card), np.zeros((2, 32, 32, 3), np.uint8))
    assert heat.scale == 0
    assert not heat.heat.any()
    assert not heat.on_scale(3.0).heat.any()
    assert not HeatMaps(heat.heat, 0.0, heat.cells).on_scale(0.0).heat.any()


def ensemble(weights=(0.75, 0.25, 0.0)):
    parts = [detector(Brightness(), 64, calibration=CALIBRATED), detector(Corner(), 32), detector(Linear(), 32)]
    card = EnsembleCard(
        name="both",
        crop=CropSettings(size_px=64),
        calibration=Calibration(frame_scale=2.0),
        weights_sha256="",
        members=tuple(
            EnsembleMember(folder=f"m{i}", weight=w, weights_sha256="", backbone="custom_cnn", head="mean")
            for i, w in enumerate(weights)
        ),
    )
    return weighted([Networks.of(*part) for part in parts], weights, card)


def test_an_ensembles_map_is_the_weighted_mean_of_its_members_calibrated_ones():
    networks = ensemble()
    crops = np.full((1, 64, 64, 3), 255, np.uint8)
    signed, cells = signed_maps(networks, crops)
    everywhere = 2.0 * 0.75 * CALIBRATED.frame_scale
    np.testing.assert_allclose(signed[0, :25, :25], everywhere + 2.0 * 0.25, rtol=1e-5)
    np.testing.assert_allclose(signed[0, 39:], everywhere, rtol=1e-5)
    assert cells == (64, 64)
    assert explain_frames(networks, crops).heat.shape == (1, 64, 64)


class Linear(Backbone):
    """No rows and columns anywhere."""

    feature_dim = 1

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3 * 32 * 32, 1)

    def forward(self, x):
        return self.dense(x.flatten(1))


def test_a_network_without_any_map_is_told():
    network, card = detector(Linear())
    with pytest.raises(ModelError, match="gives no heat map") as error:
        explain_frames(Networks.of(network, card), noise(1))
    assert error.value.reason == "no_map"


class Branches(Backbone):
    """A trunk, then two branches; the function that joins them is no module."""

    feature_dim = 1

    def __init__(self):
        super().__init__()
        self.trunk = nn.Conv2d(3, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 1, 1), nn.Conv2d(4, 1, 1)

    def forward(self, x):
        x = F.relu(self.trunk(x), inplace=True)
        return (self.left(x) + self.right(x)).mean(dim=(2, 3))


def test_one_branch_of_several_is_not_taken_for_the_whole():
    backbone = Branches().eval().requires_grad_(False)
    layer = find_map_layer(backbone, torch.rand(1, 3, 16, 16))
    assert layer.module is backbone.trunk
    assert layer.cells == (16, 16)
    assert not any(module._forward_hooks for module in backbone.modules())


def test_a_layer_that_is_changed_in_place_afterwards_keeps_its_own_map():
    network, card = detector(Branches())
    crops = noise(2)
    signed, _ = signed_maps(Networks.of(network, card), crops)
    before = network.backbone.trunk(to_unit(crops))
    joined = network.backbone.left.weight[0] + network.backbone.right.weight[0]
    # Each cell's own gradient, which is 0 where the ReLU is.
    np.testing.assert_allclose(signed, (joined * F.relu(before)).sum(dim=1).detach().numpy(), rtol=1e-4, atol=1e-6)


def test_a_map_that_is_not_finite_is_refused():
    network, card = detector(Brightness())
    network.frame_classifier.weight.data.fill_(float("inf"))
    with pytest.raises(ModelError, match="gave no heat"):
        explain_frames(Networks.of(network, card), noise(1))


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    network, card = detector(Brightness())
    with pytest.raises(ConfigError, match=r"pip install 'deepscan-video\[explain\]'"):
        explain_frames(Networks.of(network, card), noise(1))


@pytest.mark.parametrize("shape", [(0, 32, 32, 3), (32, 32, 3), (1, 32, 32)])
def test_what_is_no_sequence_of_crops_is_refused(shape):
    network, card = detector(Brightness())
    with pytest.raises(ValueError, match="Invalid crops"):
        explain_frames(Networks.of(network, card), np.zeros(shape, np.uint8))
