"""The same detector in torch and in OpenVINO: the same scores, the same verdicts; and which of them is taken."""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from madedetectors import card
from torch import nn

from deepscan.config import CropSettings, HeadSettings, ModelSettings, PredictSettings
from deepscan.detector import Detector, describe_detector, load_detector
from deepscan.errors import ModelError
from deepscan.models import runtime_scorer
from deepscan.models.backbones.registry import list_backbones
from deepscan.models.card import Calibration
from deepscan.models.checkpoint import save_detector
from deepscan.models.ensemble import open_detector
from deepscan.models.ensemble_folder import save_ensemble
from deepscan.models.network import DetectorNetwork
from deepscan.models.runtime_scorer import converted_networks, device_of, foresee_runtime, make_scorer
from deepscan.models.scorer import torch_scorer
from deepscan.runtimes import openvino_runtime, processor

QUICK = ("custom_cnn", "meso4", "mesoinception4", "resnet18")
SLOW = (
    *sorted(set(list_backbones()) - set(QUICK)),
    "timm:densenet121",
    "timm:efficientnet_b0",
    "timm:vit_tiny_patch16_224",
    "timm:xception",
)
HEADS = {
    "lstm": HeadSettings(hidden=16),
    "mean": HeadSettings(name="mean"),
    "attention": HeadSettings(name="attention", hidden=16, dense=8),
    "stacked": HeadSettings(hidden=8, bidirectional_layers=2, unidirectional_layers=1),
}
LENGTHS = (1, 3, 32)


@pytest.fixture(autouse=True)
def known_precision(request):
    """What random weights say of a face hangs on differences that 16 bits round away."""
    if not {"native_precision", "precision"} & set(request.fixturenames):
        request.getfixturevalue("full_precision")


@pytest.fixture
def native_precision():
    """As users get it: bf16 where the processor has it."""


@pytest.fixture(params=["float32", "bf16"])
def precision(request, monkeypatch):
    """Either, whatever the processor has: bf16 is imitated where it is missing."""
    monkeypatch.setattr(processor, "cpu_has_bf16", lambda: request.param == "bf16")
    return request.param


def make_network(settings, seed=0, side=64):
    """Random weights whose probabilities differ from crop to crop: logits have a mean of 0, and vary by about 1.5."""
    torch.manual_seed(seed)
    network = DetectorNetwork(settings).eval()
    for parameter in network.head.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=2 / parameter.shape[-1] ** 0.5)
    with torch.no_grad():
        outputs = []
        for n in (1, 2, 3, 5, 8):
            crops = torch.from_numpy(sequence(n, side, 100 + n)).permute(0, 3, 1, 2)
            outputs.append(network(((crops / 255 - 0.5) / 0.3).unsqueeze(0)))
        videos, frames = torch.cat([o[0] for o in outputs]), torch.cat([o[1][0] for o in outputs])
        for layer, logits in ((network.classifier[-1], videos), (network.frame_classifier, frames)):
            factor = 1.5 / logits.std()
            layer.bias.sub_(logits.mean()).mul_(factor)
            layer.weight.mul_(factor)
    return network


def make_detector(folder, backbone="custom_cnn", head="lstm", side=64, seed=0, **more):
    settings = ModelSettings(backbone=backbone, head=HEADS[head])
    facts = {"name": backbone, "network": settings, "crop": CropSettings(size_px=side), **more}
    save_detector(folder, make_network(settings, seed, side), card(**{"calibration": Calibration(), **facts}))
    return open_detector(folder)


def sequence(n, side, seed=0):
    """Crops that are neither all alike nor all noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 216, (n, 4, 4, 3)).repeat(side // 4, axis=1).repeat(side // 4, axis=2)
    return (coarse + random.integers(-40, 40, coarse.shape)).astype(np.uint8)


def probability(logit):
    return 1 / (1 + np.exp(-np.asarray(logit, np.float64)))


def assert_parity(files, side, lengths=LENGTHS, tta=True):
    sequences = [sequence(n, side, seed) for seed, n in enumerate(lengths)]
    settings = PredictSettings(runtime="openvino", tta=tta)
    scorer, runtime = make_scorer(files, settings)
    assert runtime == "openvino"
    expected = torch_scorer(files, tta=tta).score(sequences)
    scored = scorer.score(sequences)
    for a, b, n in zip(scored, expected, lengths, strict=True):
        assert a.frame_logits.shape == (n,)
        assert a.frame_logits.dtype == np.float64
        assert type(a.video_logit) is float
        assert probability(a.video_logit) == pytest.approx(probability(b.video_logit), abs=1e-3)
        np.testing.assert_allclose(probability(a.frame_logits), probability(b.frame_logits), atol=1e-3, rtol=0)
    # The networks tell the sequences apart: sameness means something.
    assert np.ptp([score.video_logit for score in expected]) > 0.2
    assert np.ptp(expected[-1].frame_logits) > 0.5


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_detector(tmp_path_factory.mktemp("tiny") / "tiny")


@pytest.mark.parametrize("backbone", QUICK)
def test_every_backbone(tmp_path, backbone):
    assert_parity(make_detector(tmp_path, backbone), 64)


@pytest.mark.usefixtures("precision")
def test_runtimes_agree_whatever_the_processor_has(tiny):
    sequences = [sequence(n, 64, n) for n in LENGTHS]
    exact = torch_scorer(tiny, tta=True).score(sequences)
    for runtime in ("openvino", "torch"):
        scorer, _ = make_scorer(tiny, PredictSettings(runtime=runtime, device="cpu", tta=True))
        apart = [
            float(np.abs(probability(a.frame_logits) - probability(b.frame_logits)).max())
            for a, b in zip(scorer.score(sequences), exact, strict=True)
        ]
        assert max(apart) < 1e-3


@pytest.mark.usefixtures("native_precision")
def test_the_shipped_detector_as_users_run_it(face_clip, two_people_clip, portrait_image):
    shipped = [load_detector(settings=PredictSettings(frames=8, runtime=r)) for r in ("openvino", "torch")]
    for file in (face_clip, two_people_clip, portrait_image):
        a, b = (detector.predict(file) for detector in shipped)
        assert a.verdict is b.verdict
        assert len(a.tracks) == len(b.tracks) > 0
        for one, other in zip(a.tracks, b.tracks, strict=True):
            assert one.verdict is other.verdict
            assert one.probability == pytest.approx(other.probability, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", SLOW)
def test_every_large_backbone(tmp_path, backbone):
    assert_parity(make_detector(tmp_path, backbone, side=96), 96, lengths=(1, 3))


@pytest.mark.parametrize("tta", [True, False])
@pytest.mark.parametrize("head", HEADS)
def test_every_head(tmp_path, head, tta):
    assert_parity(make_detector(tmp_path, head=head), 64, tta=tta)


def test_people_share_batches_and_score_as_each_alone(tiny):
    scorer, _ = make_scorer(tiny, PredictSettings(runtime="openvino"))
    sequences = [sequence(n, 64, n) for n in (5, 1, 30, 2)]
    for together, crops in zip(scorer.score(sequences), sequences, strict=True):
        (alone,) = scorer.score([crops])
        assert together.video_logit == pytest.approx(alone.video_logit, abs=1e-4)
        np.testing.assert_allclose(together.frame_logits, alone.frame_logits, atol=1e-4)
    assert scorer.score([]) == []


def test_an_ensemble(tmp_path):
    band = Calibration(scale=2, bias=0.5, frame_scale=0.5, frame_bias=-1)
    for name, backbone, side in (("a", "custom_cnn", 64), ("b", "meso4", 64), ("c", "custom_cnn", 48)):
        make_detector(tmp_path / name, backbone, side=side, seed=ord(name), calibration=band)
    save_ensemble(tmp_path / "inner", [tmp_path / "a", tmp_path / "c"], name="inner", weights=[3, 1])
    save_ensemble(tmp_path / "all", [tmp_path / "inner", tmp_path / "b"], name="all")
    files = open_detector(tmp_path / "all")
    assert_parity(files, 64)
    assert len(converted_networks(files, True)) == 9


def test_the_same_verdicts_of_a_video(tmp_path, face_clip, portrait_image):
    make_detector(tmp_path)
    for file in (face_clip, portrait_image):
        results = []
        for runtime in ("openvino", "torch"):
            detector = load_detector(tmp_path, PredictSettings(frames=6, runtime=runtime))
            results.append(detector.predict(file))
            assert detector.info.settings["runtime"] == detector.runtime == runtime
        a, b = results
        assert a.verdict is b.verdict
        assert len(a.tracks) == len(b.tracks) == 1
        assert a.probability == pytest.approx(b.probability, abs=0.01)
        for one, other in zip(a.tracks[0].frames, b.tracks[0].frames, strict=True):
            assert one.probability == pytest.approx(other.probability, abs=0.01)


def test_a_network_that_answers_with_nan_is_an_error_not_a_score(tmp_path):
    settings = ModelSettings(backbone="custom_cnn", head=HEADS["mean"])
    network = make_network(settings)
    with torch.no_grad():
        network.classifier[-1].bias.fill_(float("nan"))
    save_detector(tmp_path, network, card(network=settings, crop=CropSettings(size_px=64)))
    files = open_detector(tmp_path)
    scorer, runtime = make_scorer(files, PredictSettings(runtime="openvino"))
    assert runtime == "openvino"
    with pytest.raises(ModelError) as caught:
        scorer.score([sequence(2, 64)])
    assert caught.value.reason == "not_finite"


# Which runtime


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_openvino_on_the_processor(tiny):
    assert make_scorer(tiny, PredictSettings())[1] == "openvino"
    assert make_scorer(tiny, PredictSettings(runtime="torch"))[1] == "torch"


def test_a_gpu_is_for_torch(tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    made = []
    monkeypatch.setattr(runtime_scorer, "torch_scorer", lambda *_, **options: made.append(options))
    assert make_scorer(tiny, PredictSettings())[1] == "torch"
    assert foresee_runtime(tiny, PredictSettings()) == "torch"
    assert made == [{"device": "cuda", "tta": True, "precision": "auto"}]
    assert device_of(PredictSettings(runtime="openvino")) == "cpu"


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_openvino_on_a_gpu_is_refused(device):
    with pytest.raises(ModelError, match=f"does not run on device '{device}'") as caught:
        device_of(PredictSettings(runtime="openvino", device=device))
    assert caught.value.reason == "no_device"


@pytest.mark.usefixtures("no_gpu")
def test_networks_in_memory_stay_in_torch_unless_forced(tiny):
    loaded = tiny.load()
    assert make_scorer(loaded, PredictSettings())[1] == "torch"
    scorer, runtime = make_scorer(loaded, PredictSettings(runtime="openvino"))
    assert runtime == "openvino"
    (a,), (b,) = (s.score([sequence(3, 64)]) for s in (scorer, torch_scorer(loaded)))
    assert probability(a.video_logit) == pytest.approx(probability(b.video_logit), abs=0.01)


@pytest.mark.usefixtures("no_gpu")
def test_without_openvino_auto_is_torch_and_says_why(tiny, monkeypatch, caplog):
    monkeypatch.setattr(openvino_runtime, "is_installed", lambda: False)
    with caplog.at_level(logging.INFO, "deepscan"):
        scorer, runtime = make_scorer(tiny, PredictSettings())
    assert runtime == "torch"
    assert len(scorer.score([sequence(1, 64)])) == 1
    assert [r.levelname for r in caplog.records if "OpenVINO is not installed" in r.getMessage()] == ["INFO"]


@pytest.mark.usefixtures("no_gpu")
def test_a_network_that_does_not_convert_runs_in_torch_and_is_not_tried_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("DEEPSCAN_CACHE", str(tmp_path / "cache"))
    files = make_detector(tmp_path / "net", "meso4")
    tried = []

    def fail(_module, spec):
        tried.append(spec.name)
        raise openvino_runtime.ConversionError("The network cannot be converted", "no such operation", "Use torch.")

    monkeypatch.setattr(openvino_runtime, "convert", fail)
    with caplog.at_level(logging.INFO, "deepscan"):
        assert make_scorer(files, PredictSettings())[1] == "torch"
        assert make_scorer(files, PredictSettings())[1] == "torch"
    assert tried == ["meso4-lstm-backbone"]
    assert caplog.text.count("run in torch") == 2
    assert foresee_runtime(files, PredictSettings()) == "torch"
    with pytest.raises(ModelError, match="no such operation"):  # forced, it is tried, and told
        make_scorer(files, PredictSettings(runtime="openvino"))
    assert len(tried) == 2


@pytest.mark.usefixtures("no_gpu")
def test_a_leading_process_says_what_its_workers_will_use(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPSCAN_CACHE", str(tmp_path / "cache"))
    make_detector(tmp_path / "net")
    converted = []
    convert = openvino_runtime.convert
    monkeypatch.setattr(openvino_runtime, "convert", lambda m, spec: converted.append(spec.name) or convert(m, spec))
    for _ in range(2):
        name, info = describe_detector(tmp_path / "net", PredictSettings())
        assert name == str(tmp_path / "net")
        assert info.settings["runtime"] == "openvino"
    n_converted = len(converted)
    assert {"custom_cnn-lstm-backbone", "custom_cnn-lstm-logits", "views-64"} <= set(converted)
    detector = load_detector(tmp_path / "net")  # as a worker does
    assert detector.info == info
    assert len(converted) == n_converted  # the leader has done it
    _, forced = describe_detector(tmp_path / "net", PredictSettings(runtime="torch"))
    assert forced.settings["runtime"] == "torch"


def test_the_network_of_a_loaded_detector_is_there_for_who_wants_it(tiny):
    detector = Detector(tiny, PredictSettings(runtime="openvino"))
    network, card = detector.networks.single()
    assert (type(network), card) == (DetectorNetwork, tiny.card)
    assert detector.networks is detector.networks


def test_weights_that_changed_after_conversion_are_refused(tmp_path):
    make_detector(tmp_path)
    load_detector(tmp_path, PredictSettings(runtime="openvino"))
    file = tmp_path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match="damaged or was exchanged"):
        load_detector(tmp_path, PredictSettings(runtime="openvino"))


_SCORE = """
import sys
import numpy as np
from deepscan.config import PredictSettings
from deepscan.models.ensemble import open_detector
from deepscan.models.runtime_scorer import make_scorer
from pathlib import Path
files = open_detector(Path(sys.argv[1]))
scorer, runtime = make_scorer(files, PredictSettings(device="cpu"))
assert runtime == "openvino"
(score,) = scorer.score([np.zeros((2, 64, 64, 3), np.uint8)])
print(score.video_logit)
assert not {"torch", "torchvision", "timm", "facenet_pytorch"} & set(sys.modules)
"""


def test_scoring_with_kept_networks_does_without_torch(tiny):
    scorer, _ = make_scorer(tiny, PredictSettings(runtime="openvino"))  # keeps them
    words = [sys.executable, "-c", _SCORE, str(tiny.parts[0].folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (score,) = scorer.score([np.zeros((2, 64, 64, 3), np.uint8)])
    assert float(done.stdout) == pytest.approx(score.video_logit, abs=1e-4)
