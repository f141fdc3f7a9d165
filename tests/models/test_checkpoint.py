"""Detectors on disk: what comes back, and everything that must be refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from deepscan.config import CropSettings, HeadSettings, ModelSettings
from deepscan.errors import DeepscanError, ModelError
from deepscan.files import file_sha256
from deepscan.models import checkpoint
from deepscan.models.backbones.registry import create_backbone, list_backbones
from deepscan.models.card import Calibration, DetectorCard, Metric
from deepscan.models.checkpoint import (
    CARD_FILE,
    WEIGHTS_FILE,
    check_weights,
    list_detectors,
    load_backbone_weights,
    load_card,
    resolve_detector,
    save_detector,
    untrained_detector,
)
from deepscan.models.ensemble import open_detector
from deepscan.models.network import DetectorNetwork

SETTINGS = ModelSettings(backbone="meso4", head=HeadSettings(hidden=4, dense=3))
CARD = DetectorCard(
    name="tiny",
    version="2",
    created="2025-01-01",
    network=SETTINGS,
    crop=CropSettings(size_px=64, margin=0.1, align="eyes"),
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.3, 0.4),
    calibration=Calibration(scale=1.5, bias=-0.2, threshold=0.6, uncertain_low=0.4, uncertain_high=0.7),
    weights_sha256="",
    training={"epochs": 3},
    data=[{"name": "none", "terms": "é"}],
    metrics={"auc": Metric(value=0.9, low=0.8, high=0.95, n=100)},
    limits=["not for use"],
)


def make_network(settings=SETTINGS):
    torch.manual_seed(0)
    return DetectorNetwork(settings).eval()


@pytest.fixture
def folder(tmp_path):
    save_detector(tmp_path / "tiny", make_network(), CARD)
    return tmp_path / "tiny"


def edit_card(folder, **changes):
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps(card | changes))


def vouch_for_the_weights(folder):
    edit_card(folder, weights_sha256=file_sha256(folder / WEIGHTS_FILE))


def logits(network):
    x = torch.randn(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return network(x).video_logit


# Round trips


def test_round_trip(folder):
    network, card = open_detector(folder).single()
    assert card == CARD.model_copy(update={"weights_sha256": file_sha256(folder / WEIGHTS_FILE)})
    assert not network.training
    for name, value in make_network().state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert torch.equal(logits(network), logits(make_network()))
    assert sorted(p.name for p in folder.iterdir()) == [CARD_FILE, WEIGHTS_FILE]


def test_round_trip_in_half_precision(tmp_path):
    original = make_network()
    card = save_detector(tmp_path / "half", original, CARD, half=True)
    network, loaded = open_detector(tmp_path / "half").single()
    assert loaded == card
    stored = load_file(tmp_path / "half" / WEIGHTS_FILE)
    assert {v.dtype for v in stored.values()} == {torch.float16, torch.int64}
    for name, value in network.state_dict().items():
        wanted = original.state_dict()[name]
        assert value.dtype == wanted.dtype, name
        torch.testing.assert_close(value, wanted, rtol=1e-3, atol=1e-6)
    assert original.backbone.dense[2].weight.dtype == torch.float32  # what was saved is left alone
    torch.testing.assert_close(logits(network), logits(original), rtol=0, atol=1e-2)


def test_saving_again_replaces(folder):
    torch.manual_seed(1)
    other = DetectorNetwork(SETTINGS).eval()
    save_detector(folder, other, CARD.model_copy(update={"name": "other"}))
    network, card = open_detector(folder).single()
    assert card.name == "other"
    assert torch.equal(logits(network), logits(other))


def test_a_saved_detector_is_readable_json(folder):
    card = json.loads((folder / CARD_FILE).read_text())
    assert card["schema_id"] == "deepscan.card/1"
    assert card["crop"]["align"] == "eyes"
    assert len(card["weights_sha256"]) == 64


# Refusals


def test_exchanged_weights_are_refused(folder):
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(data)
    with pytest.raises(ModelError, match="damaged or was exchanged"):
        open_detector(folder).single()


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_truncated_weights_are_refused(folder, keep):
    file = folder / WEIGHTS_FILE
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ModelError, match="damaged"):
        open_detector(folder).single()
    vouch_for_the_weights(folder)  # and also when the card agrees with the stump
    with pytest.raises(ModelError, match="cannot be read"):
        open_detector(folder).single()


def test_a_pickle_in_place_of_the_weights_is_not_opened(folder, tmp_path):
    (folder / WEIGHTS_FILE).write_bytes(pickle.dumps(Bomb(tmp_path / "marker")))
    vouch_for_the_weights(folder)
    with pytest.raises(ModelError, match="cannot be read"):
        open_detector(folder).single()
    assert not (tmp_path / "marker").exists()


def test_missing_weights(folder):
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        open_detector(folder).single()


def test_missing_card(folder):
    (folder / CARD_FILE).unlink()
    with pytest.raises(ModelError, match=r"card\.json cannot be read"):
        open_detector(folder).single()
    with pytest.raises(ModelError, match=r"it is a folder without card\.json"):
        resolve_detector(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff", '{"name": "x"}'])
def test_a_card_that_is_no_card(folder, text):
    (folder / CARD_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match="is not a valid model card"):
        load_card(folder)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"treshold": 0.5}, "treshold"),
        ({"schema_id": "deepscan.card/9"}, "schema_id"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"crop": {"size_px": 4}}, r"crop\.size_px"),
        ({"crop": {"padding": 4}}, r"crop\.padding"),
        ({"network": {"backbone": "meso4", "head": {"name": "gru"}}}, r"network\.head\.name"),
        (
            {"calibration": {"threshold": 0.5, "uncertain_low": 0.6, "uncertain_high": 0.9}},
            "calibration.*band",
        ),
        (
            {"calibration": {"threshold": 0.5, "uncertain_low": 0.1, "uncertain_high": 0.4}},
            "calibration.*band",
        ),
        ({"calibration": {"scale": 0}}, r"calibration\.scale"),
        ({"calibration": {"scale": -1}}, r"calibration\.scale"),
        ({"calibration": {"bias": float("nan")}}, "calibration"),
        ({"calibration": {"bias": float("inf")}}, "calibration"),
        ({"calibration": {"threshold": 1.0, "uncertain_high": 1.0}}, r"calibration\.threshold"),
        ({"metrics": {"auc": {"value": 1}}}, r"metrics\.auc\.n"),
    ],
)
def test_an_invalid_card_says_where(folder, changes, where):
    edit_card(folder, **changes)
    with pytest.raises(ModelError, match=where) as caught:
        open_detector(folder).single()
    assert "\n" not in str(caught.value)


def test_a_zero_standard_deviation_is_refused(folder):
    edit_card(folder, std=[0.0, 0.5, 0.5])  # would divide by it: every score NaN
    with pytest.raises(ModelError, match="std"):
        open_detector(folder).single()


def test_a_head_without_layers_is_refused(folder):
    edit_card(folder, network={"backbone": "meso4", "head": {"bidirectional_layers": 0, "unidirectional_layers": 0}})
    with pytest.raises(ModelError):
        open_detector(folder).single()


def test_an_unknown_backbone_in_the_card(folder):
    edit_card(folder, network={"backbone": "meso5"})
    with pytest.raises(ModelError, match="Unknown backbone 'meso5'") as caught:
        open_detector(folder).single()
    assert caught.value.reason == "unknown_model"


@pytest.mark.parametrize(
    "network",
    [
        {"backbone": "mesoinception4", "head": {"hidden": 4, "dense": 3}},
        {"backbone": "meso4", "head": {"hidden": 5, "dense": 3}},
        {"backbone": "meso4", "head": {"name": "mean", "dense": 3}},
    ],
)
def test_weights_that_do_not_fit_the_card(folder, network):
    edit_card(folder, network=network)
    with pytest.raises(ModelError, match="does not fit the network") as caught:
        open_detector(folder).single()
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_calibration_band_includes_its_threshold():
    Calibration(threshold=0.3, uncertain_low=0.3, uncertain_high=0.3)
    with pytest.raises(ValidationError, match="within the uncertain band"):
        Calibration(threshold=0.3)


# Nothing half written


def test_a_failure_while_writing_weights_leaves_the_old_detector(folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def fail(_state, file):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(DeepscanError, match="No space left"):
        save_detector(folder, make_network(), CARD)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_failure_while_writing_a_new_detector_leaves_no_detector(tmp_path, monkeypatch):
    def fail(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_atomically", fail)
    with pytest.raises(KeyboardInterrupt):
        save_detector(tmp_path / "new", make_network(), CARD)
    assert not (tmp_path / "new" / CARD_FILE).exists()
    assert not list((tmp_path / "new").glob(".*"))
    with pytest.raises(ModelError):
        resolve_detector(tmp_path / "new")


def test_a_folder_that_cannot_be_made_is_a_deepscan_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DeepscanError):
        save_detector(tmp_path / "file" / "model", make_network(), CARD)


def test_exchanged_weights_with_a_card_that_fits_are_not_those_that_ship(folder, monkeypatch):
    check_weights(folder, load_card(folder))
    monkeypatch.setattr(checkpoint, "SHIPPED_ROOT", folder.parent)
    monkeypatch.setitem(checkpoint.SHIPPED_SHA256, folder.name, "0" * 64)
    with pytest.raises(ModelError, match=r"damaged or was exchanged: .*, deepscan ships 000000000000"):
        check_weights(folder, load_card(folder))


def test_everything_that_ships_is_pinned():
    assert sorted(checkpoint.SHIPPED_SHA256) == list_detectors()


# Names


@pytest.mark.parametrize("inside", ["", WEIGHTS_FILE, CARD_FILE])
def test_resolve_a_folder_or_a_file_in_it(folder, inside):
    assert resolve_detector(folder / inside) == folder
    assert resolve_detector(str(folder / inside)) == folder


def test_resolve_a_shipped_name(folder, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHIPPED_ROOT", folder.parent)
    assert list_detectors() == ["tiny"]
    assert resolve_detector("tiny") == folder
    with pytest.raises(ModelError, match="Known detectors: tiny;") as caught:
        resolve_detector("tini")
    assert caught.value.reason == "unknown_model"


@pytest.mark.parametrize("name", sorted({*list_backbones(), "timm:xception"} - set(list_detectors())))
def test_resolve_a_backbone_says_how_to_run_it_untrained(name):
    with pytest.raises(ModelError, match=r"that is a backbone.*--allow-untrained") as caught:
        resolve_detector(name)
    assert caught.value.reason == "unknown_model"


@pytest.mark.parametrize("name", ["no-such-detector", "", "~nosuchuser/model", "/no/such/folder"])
def test_resolve_what_is_not_there(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="Unknown model") as caught:
        resolve_detector(name)
    assert caught.value.reason == "unknown_model"
    assert "--allow-untrained" not in str(caught.value)


def test_untrained_detector_says_so_and_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    network, card = untrained_detector("meso4")
    assert torch.equal(torch.rand(1), expected)
    assert card.trained is False
    assert (card.crop.size_px, card.mean) == (256, (0.5, 0.5, 0.5))
    again, _ = untrained_detector("meso4")
    assert torch.equal(logits(network), logits(again))
    assert not torch.equal(logits(network), logits(untrained_detector("meso4", seed=1)[0]))
    assert not network.training


# Published weights


def with_weights(name, file):
    backbone = create_backbone(name)
    load_backbone_weights(backbone, file)
    return backbone


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_the_bomb_is_live(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "marker")))  # noqa: S301 - our own, to know that the tests below test
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
def test_a_pickle_that_runs_code_is_refused(tmp_path, suffix, form):
    file, marker = tmp_path / f"weights{suffix}", tmp_path / "marker"
    if form == "plain":
        file.write_bytes(pickle.dumps(Bomb(marker)))
    else:
        state = {"blocks.0.0.weight": torch.zeros(1), "bomb": Bomb(marker)}
        torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ModelError, match="files that carry code are refused"):
        with_weights("meso4", file)
    assert not marker.exists()


@pytest.fixture(scope="module")
def facenet_state():
    """What facenet-pytorch's VGGFace2 file looks like: the network and a classifier of 8631 people."""
    torch.manual_seed(3)
    state = create_backbone("inception_resnet_v1").net.state_dict()
    return state | {"logits.weight": torch.zeros(8631, 4), "logits.bias": torch.zeros(8631)}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_facenet_weights_fit_without_their_classifier(tmp_path, facenet_state, suffix):
    file = tmp_path / f"vggface2{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(facenet_state, file)
    backbone = with_weights("inception_resnet_v1", file)
    loaded = backbone.net.state_dict()
    assert not any(name.startswith("logits") for name in loaded)
    for name, value in loaded.items():
        assert torch.equal(value, facenet_state[name]), name


def test_torchvision_and_timm_weights_fit_without_their_classifier(tmp_path):
    from torchvision import models

    torch.manual_seed(1)
    published = models.resnet18(weights=None).state_dict()
    assert "fc.weight" in published
    torch.save(published, tmp_path / "resnet18.pth")
    backbone = with_weights("resnet18", tmp_path / "resnet18.pth")
    assert torch.equal(backbone.net.conv1.weight, published["conv1.weight"])
    import timm

    published = timm.create_model("vit_tiny_patch16_224", pretrained=False).state_dict()
    assert "head.weight" in published
    save_file(published, tmp_path / "vit.safetensors")
    backbone = with_weights("timm:vit_tiny_patch16_224", tmp_path / "vit.safetensors")
    assert torch.equal(backbone.net.cls_token, published["cls_token"])


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_weights_of_another_network_do_not_fit(tmp_path, fault):
    state = create_backbone("meso4").state_dict()
    name = "blocks.0.0.weight"
    if fault == "missing":
        del state[name]
    elif fault == "extra":
        state["surprise"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(1, 2, 3)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"does not fit the network.*(blocks|surprise)"):
        load_backbone_weights(create_backbone("meso4"), tmp_path / "w.pt")


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}, torch.zeros(2)])
def test_a_file_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds no state dict"):
        with_weights("meso4", tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["missing.pt", "empty.pt", "text.pth", "missing.safetensors", "text.safetensors"])
def test_unreadable_weights(tmp_path, name):
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"hello" if name.startswith("text") else b"")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        with_weights("meso4", tmp_path / name)
