"""Exported detectors: whole folders, the same answers, and nothing written that does not give them."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch
from madedetectors import card
from PIL import Image
from typer.testing import CliRunner

from deepscan.cli import app
from deepscan.commands.export import verdict_by
from deepscan.config import CropSettings, HeadSettings, ModelSettings
from deepscan.detector import load_detector
from deepscan.errors import ModelError, OutputError
from deepscan.models import export
from deepscan.models.card import Calibration
from deepscan.models.checkpoint import load_card, save_detector
from deepscan.models.ensemble import open_detector
from deepscan.models.ensemble_folder import save_ensemble
from deepscan.models.export import Parity, export_detector, synthetic_sequences
from deepscan.models.network import DetectorNetwork
from deepscan.models.scorer import torch_scorer
from deepscan.runtimes.openvino_runtime import load_openvino
from deepscan.types import Score

ROOT = Path(__file__).parent.parent.parent
CALIBRATION = Calibration(scale=1.5, bias=-0.3, frame_scale=0.7, frame_bias=0.2, uncertain_low=0.3, uncertain_high=0.7)
NETWORKS = {"openvino": ["detector.bin", "detector.xml"], "onnx": ["detector.onnx"]}
ABOUT = ["README.txt", "card.json", "networks.json", "parity.json"]

needs_onnx = pytest.mark.skipif(util.find_spec("onnxscript") is None, reason="needs onnxscript")


def make(folder, backbone="custom_cnn", head="lstm", side=48, seed=0):
    torch.manual_seed(seed)
    settings = ModelSettings(backbone=backbone, head=HeadSettings(name=head, hidden=8))
    network = DetectorNetwork(settings)
    with torch.no_grad():
        for layer in (network.classifier[-1], network.frame_classifier):
            layer.weight.mul_(20)
    made = {"name": f"{backbone} {seed}", "network": settings, "crop": CropSettings(size_px=side)}
    save_detector(folder, network, card(**made, calibration=CALIBRATION))
    return open_detector(folder)


def crops(n, side=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def wanted(files, sequence, tta=True):
    """P(fake) of a person, by torch."""
    (score,) = torch_scorer(files, tta=tta).score([sequence])
    calibration = files.card.calibration
    return 1 / (1 + np.exp(-(score.video_logit * calibration.scale + calibration.bias)))


def run_readme(folder, target):
    """The function that the README's code defines."""
    load_openvino()  # so that the example's own import reports nothing to anybody
    text = (folder / "README.txt").read_text(encoding="utf-8")
    code = textwrap.dedent(re.search(r"^    import json\n(?:(?:    .*)?\n)+", text, re.MULTILINE).group())
    assert f"import {'openvino' if target == 'openvino' else 'onnxruntime'}\n" in code
    names = {}
    exec(code.replace('Path(".")', f"Path({str(folder)!r})"), names)  # noqa: S102 - what is under test
    return names["probability"]


def run(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.mark.parametrize(
    ("target", "tta"),
    [
        ("openvino", True),
        pytest.param("openvino", False, marks=pytest.mark.slow),
        pytest.param("onnx", True, marks=[needs_onnx, pytest.mark.slow]),
    ],
)
def test_the_files_answer_as_the_detector_does(tmp_path, target, tta):
    files = make(tmp_path / "net")
    out = tmp_path / "deep" / "out"
    samples = [crops(2)]
    parity = export_detector(files, target, out, verdict=verdict_by(CALIBRATION), tta=tta, samples=samples)
    assert sorted(p.name for p in out.iterdir()) == sorted(ABOUT + NETWORKS[target])
    assert [p.name for p in out.parent.iterdir()] == ["out"]  # nothing is left of the writing
    assert load_card(out) == files.card
    assert parity.sequences == parity.same_verdicts == len(synthetic_sequences(48)) + 1
    assert parity.max_difference < 1e-4
    assert parity.max_frame_difference < 1e-4
    report = json.loads((out / "parity.json").read_text())
    assert report["sequences"] == {"made": parity.sequences - 1, "samples": 1}
    assert report["max_difference"] == parity.max_difference
    assert report["same_verdicts"] == f"{parity.sequences} of {parity.sequences}"
    assert report["compared_with"].startswith("torch ")
    about = json.loads((out / "networks.json").read_text())
    assert about["tta"] is tta
    if target == "openvino" or util.find_spec("onnxruntime"):
        probability = run_readme(out, target)
        for sequence in (crops(1), crops(7, seed=1)):
            assert probability(sequence) == pytest.approx(wanted(files, sequence, tta), abs=1e-4)


@pytest.mark.parametrize(
    ("target", "head"),
    [("openvino", "mean"), ("openvino", "attention"), pytest.param("onnx", "attention", marks=needs_onnx)],
)
def test_other_heads(tmp_path, target, head):
    parity = export_detector(make(tmp_path / "net", "meso4", head), target, tmp_path / "out", verdict=str)
    assert parity.max_difference < 1e-4


def test_an_ensemble_of_ensembles_is_one_sum(tmp_path):
    for name, backbone, side in (("a", "custom_cnn", 48), ("b", "meso4", 32), ("c", "custom_cnn", 48)):
        make(tmp_path / name, backbone, side=side, seed=ord(name))
    save_ensemble(
        tmp_path / "inner", [tmp_path / "a", tmp_path / "b"], name="inner", weights=[3, 1], calibration=CALIBRATION
    )
    outer = Calibration(scale=0.5, bias=0.1, frame_scale=2, frame_bias=-0.4)
    save_ensemble(tmp_path / "all", [tmp_path / "inner", tmp_path / "c"], name="all", weights=[1, 3], calibration=outer)
    files = open_detector(tmp_path / "all")
    out = tmp_path / "out"
    parity = export_detector(files, "openvino", out, verdict=verdict_by(outer))
    assert parity.max_difference < 1e-4
    assert parity.max_frame_difference < 1e-4
    assert sorted(p.name for p in out.glob("*.xml")) == ["detector-1.xml", "detector-2.xml", "detector-3.xml"]
    probability = run_readme(out, "openvino")
    sequence = crops(3)
    assert probability(sequence) == pytest.approx(wanted(files, sequence), abs=1e-4)


def test_a_member_without_a_share_is_not_written(tmp_path):
    for name in "abc":
        make(tmp_path / name, seed=ord(name))
    save_ensemble(tmp_path / "all", [tmp_path / n for n in "abc"], name="all", weights=[1, 0, 1])
    export_detector(open_detector(tmp_path / "all"), "openvino", tmp_path / "out", verdict=str)
    assert len(list((tmp_path / "out").glob("*.xml"))) == 2


# Refusals


@pytest.mark.parametrize("wrong", [0.05, float("nan")])
def test_files_that_answer_otherwise_are_not_written(tmp_path, monkeypatch, wrong):
    def off(path):
        run_file, name = runner(path)
        return lambda sequence: (run_file(sequence)[0] + wrong * 8, run_file(sequence)[1]), name

    runner = export.open_exported
    monkeypatch.setattr(export, "open_exported", off)
    make(tmp_path / "net")
    out = tmp_path / "out"
    done = run("--to", "openvino", "--model", tmp_path / "net", "--out", out)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "is not exported" in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net"]


def test_frames_alone_that_differ_are_enough():
    assert Parity(1, 0.0, 0.0, 1, "").holds
    assert Parity(1, 0.01, 0.0, 1, "").holds
    assert not Parity(1, 0.0, 0.011, 1, "").holds
    assert not Parity(1, float("nan"), 0.0, 1, "").holds


def test_differences_are_seen_on_made_crops(tmp_path):
    """The made crops are not all answered with certainty, where nothing would show."""
    files = open_detector(ROOT / "deepscan" / "weights" / "default")
    scores = torch_scorer(files, tta=False).score(synthetic_sequences(files.card.crop.size_px)[:6])
    logits = [score.video_logit for score in scores]
    assert np.ptp(logits) > 1
    assert max(map(abs, logits)) < 6


def test_a_folder_that_holds_something_stays_as_it_is(tmp_path):
    files = make(tmp_path / "net")
    before = {p.name: p.read_bytes() for p in (tmp_path / "net").iterdir()}
    with pytest.raises(OutputError, match="it holds something already"):
        export_detector(files, "openvino", tmp_path / "net", verdict=str)
    assert {p.name: p.read_bytes() for p in (tmp_path / "net").iterdir()} == before
    with pytest.raises(OutputError, match="it is a file"):
        export_detector(files, "openvino", tmp_path / "net" / "card.json", verdict=str)


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    export_detector(make(tmp_path / "net"), "openvino", tmp_path / "out", verdict=str)
    assert (tmp_path / "out" / "detector.xml").is_file()


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    files = make(tmp_path / "net")
    monkeypatch.setattr(export, "readme_text", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        export_detector(files, "openvino", tmp_path / "out", verdict=str)
    assert [p.name for p in tmp_path.iterdir()] == ["net"]


def test_without_onnx_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    make(tmp_path / "net")
    done = run("--to", "onnx", "--model", tmp_path / "net", "--out", tmp_path / "out")
    assert done.exit_code == 3
    assert "pip install 'deepscan-video[export]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_as_onnx(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such operator\nand a page about it")

    pytest.importorskip("onnxscript")
    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ModelError, match=r"no such operator\. Use --to openvino") as caught:
        export_detector(make(tmp_path / "net"), "onnx", tmp_path / "out", verdict=str)
    assert caught.value.reason == "runtime"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_onnx_files_are_compared_without_onnxruntime_too(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "onnxruntime" else find(name, *more))
    parity = export_detector(make(tmp_path / "net"), "onnx", tmp_path / "out", verdict=str)
    assert parity.runtime.startswith("openvino ")
    assert parity.max_difference < 1e-4


# What an export is no good for


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folders of an exported detector and of an exported ensemble."""
    folder = tmp_path_factory.mktemp("exported")
    for name in "ab":
        make(folder / name, "meso4", head="mean", seed=ord(name))
    save_ensemble(folder / "both", [folder / "a", folder / "b"], name="both")
    for name in ("a", "both"):
        export_detector(open_detector(folder / name), "openvino", folder / f"{name}-out", verdict=str)
    return folder


@pytest.mark.parametrize(
    "target", ["a-out", "both-out", "a-out/card.json", "a-out/detector.xml", "a-out/networks.json"]
)
def test_an_export_is_no_detector_and_says_what_it_is_for(exported, target):
    with pytest.raises(ModelError, match=r"without deepscan.*exported from") as caught:
        load_detector(exported / target)
    assert caught.value.reason == "exported_model"
    assert "\n" not in str(caught.value)


def test_an_export_that_lost_its_card_is_known_by_its_networks(exported, tmp_path):
    shutil.copytree(exported / "a-out", tmp_path / "out")
    (tmp_path / "out" / "card.json").unlink()
    with pytest.raises(ModelError) as caught:
        load_detector(tmp_path / "out")
    assert caught.value.reason == "exported_model"


@pytest.mark.parametrize("command", [["predict"], ["evaluate", "--data"]])
def test_commands_refuse_an_export_in_one_line(exported, portrait_image, command):
    done = CliRunner().invoke(app, [*command, str(portrait_image), "--model", str(exported / "both-out")])
    assert done.exit_code == 2
    assert "is an exported detector" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_card_of_an_export_can_be_read(exported):
    done = CliRunner().invoke(app, ["card", str(exported / "both-out")])
    assert done.exit_code == 0
    assert done.stdout.startswith("# Model card: both 1")


# The command


def test_the_command(tmp_path, portrait_image):
    make(tmp_path / "net")
    done = run("--to", "openvino", "--model", tmp_path / "net", "--out", tmp_path / "out", "--sample", portrait_image)
    assert done.exit_code == 0, done.stderr
    assert "13 of 13 verdicts are the same" in " ".join(done.stdout.split())
    assert json.loads((tmp_path / "out" / "parity.json").read_text())["sequences"] == {"made": 12, "samples": 1}


def test_an_unknown_model(tmp_path):
    done = run("--to", "openvino", "--model", "nothing", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "Unknown model 'nothing'" in done.stderr


def test_verdicts_are_the_detectors():
    verdict = verdict_by(CALIBRATION)
    frames = np.full(4, -5.0)
    assert [verdict(Score(logit, frames)) for logit in (-3.0, 0.2, 3.0)] == ["real", "uncertain", "fake"]


@pytest.mark.slow
def test_the_guides_example_runs(tmp_path, monkeypatch, capsys, portrait):
    """From the shipped detector to a printed probability, as docs/export.md says it."""
    guide = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    command = re.search(r"^deepscan (export .*)$", guide, re.MULTILINE).group(1)
    example = re.search(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL).group(1)
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, command.split()).exit_code == 0
    Path("faces").mkdir()
    for number in range(3):
        Image.fromarray(portrait[100 + number : 356 + number, 120:376]).save(f"faces/{number}.png")
    load_openvino()
    exec(example, {"__name__": "__main__"})  # noqa: S102 - what is under test
    assert "torch" not in re.findall(r"^(?:import|from) (\w+)", example, re.MULTILINE)
    output = capsys.readouterr().out
    assert re.search(r"P\(fake\) = 0\.\d{3}", output)
    assert sys.modules["openvino"] is load_openvino()
