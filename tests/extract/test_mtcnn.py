"""The detector's networks: facenet-pytorch's numbers from facenet-pytorch's weights, in every runtime."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from types import SimpleNamespace

import facenet_pytorch
import numpy as np
import pytest
import torch

from deepscan.errors import ModelError
from deepscan.extract.faces import mtcnn
from deepscan.extract.faces.mtcnn import build, load_networks, weights_file, weights_sha256

NAMES = ("pnet", "rnet", "onet")
SHAPES = {"pnet": (1, 61, 84, 3), "rnet": (5, 24, 24, 3), "onet": (3, 48, 48, 3)}


def pixels(name):
    return np.random.default_rng(1).integers(0, 256, SHAPES[name]).astype(np.float32)


@pytest.fixture(scope="module")
def reference():
    """Facenet-pytorch's networks."""
    detector = facenet_pytorch.MTCNN()
    return {name: getattr(detector, name) for name in NAMES}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPSCAN_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_network_computes_what_facenet_pytorchs_does(reference, name):
    x = pixels(name)
    with torch.no_grad():
        ours = build(name)(torch.from_numpy(x)).numpy()
        outputs = reference[name](torch.from_numpy((x.transpose(0, 3, 1, 2) - 127.5) / 128))
    *others, probabilities = [out.movedim(1, -1).numpy() for out in outputs]
    np.testing.assert_allclose(1 / (1 + np.exp(-ours[..., 0])), probabilities[..., 1], atol=1e-5)
    np.testing.assert_allclose(ours[..., 1:], np.concatenate(others, axis=-1), atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
def test_runtimes_agree(cache):
    for name, ours, theirs in zip(NAMES, load_networks("torch"), load_networks("openvino"), strict=True):
        x = pixels(name)
        np.testing.assert_allclose(theirs(x)[0], ours(x)[0], atol=1e-3)


def test_torch_takes_over_where_a_runtime_cannot(monkeypatch, caplog):
    real = mtcnn.load_network

    def load(*arguments, runtime, **options):
        if runtime == "openvino":
            raise ModelError("The runtime openvino is not there", "not installed", reason="runtime")
        return real(*arguments, runtime=runtime, **options)

    monkeypatch.setattr(mtcnn, "load_network", load)
    with caplog.at_level(logging.INFO, "deepscan"):
        networks = load_networks("openvino")
    assert networks[1](pixels("rnet"))[0].shape == (5, 5)
    assert "runs in torch" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_of_the_wheel(name):
    assert weights_file(name).parent.name == "data"
    assert len(weights_sha256(name)) == 64
    assert len({weights_sha256(other) for other in NAMES}) == 3


def test_nothing_heavy_is_imported_to_find_them():
    code = (
        "import sys; from deepscan.extract.faces.mtcnn import weights_sha256; weights_sha256('pnet');"
        "assert not {'torch', 'facenet_pytorch', 'openvino'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_facenet_pytorch_is_missing(monkeypatch):
    monkeypatch.setattr(mtcnn.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="facenet-pytorch is not installed"):
        weights_file("pnet")


@pytest.mark.parametrize("content", [None, b"", b"not weights", b"PK\x03\x04 torn"])
def test_damaged_weights(monkeypatch, tmp_path, content):
    (tmp_path / "data").mkdir()
    if content is not None:
        (tmp_path / "data" / "rnet.pt").write_bytes(content)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(mtcnn.importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(ModelError, match=r"rnet\.pt is (not there|damaged)"):
        build("rnet")


def test_other_weights(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "data" / "onet.pt")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(mtcnn.importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(ModelError, match=r"onet\.pt is damaged"):
        build("onet")
