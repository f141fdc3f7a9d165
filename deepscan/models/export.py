"""A detector as files that run without torch and without deepscan: OpenVINO's IR, or ONNX.

    FOLDER/
      detector.xml, detector.bin    or detector.onnx; those of an ensemble are detector-1, detector-2...
      networks.json                 what to do with their outputs
      card.json                     the detector's
      parity.json                   how far the files' answers were from torch's
      README.txt                    how to run them

A network takes the crops of one person as they were cut and does the rest itself: normalisation, views, head. What it
says becomes a probability by one sum for every kind of detector: an ensemble's shares and all calibrations on the way
are multiplied out into ``networks.json``.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from deepscan.errors import ModelError, OutputError
from deepscan.extract.crops import resized
from deepscan.models.card import Calibration
from deepscan.models.checkpoint import CARD_FILE, NETWORKS_FILE, card_bytes
from deepscan.models.ensemble import Networks, Part
from deepscan.models.export_readme import readme_text
from deepscan.models.probability import calibrated
from deepscan.models.scorer import torch_scorer
from deepscan.runtimes import NetworkSpec, openvino_runtime
from deepscan.types import Score
from deepscan.version import __version__, install_command

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

Target = Literal["openvino", "onnx"]
PARITY_FILE, README_FILE = "parity.json", "README.txt"
MAX_DIFFERENCE = 0.01
OUTPUTS = ("video_logit", "frame_logits")

_ONNX_OPSET, _MAX_LENGTH = 18, 10_000
_SUFFIX = {"openvino": ".xml", "onnx": ".onnx"}

# From the crops of one person, RGB uint8 [T, S, S, 3], to the video logit and the frame logits [T].
Runner = Callable[[NDArray[np.uint8]], tuple[float, NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class Parity:
    """How far exported networks are from the detector in torch.

    Attributes:
        sequences: that both have scored.
        max_difference: largest difference of a person's probability.
        max_frame_difference: largest difference of a single frame's probability.
        same_verdicts: sequences with the same verdict.
        runtime: what ran the files, with its version.
    """

    sequences: int
    max_difference: float
    max_frame_difference: float
    same_verdicts: int
    runtime: str

    @property
    def holds(self) -> bool:
        """Whether the files may stand for the detector."""
        return all(d <= MAX_DIFFERENCE for d in (self.max_difference, self.max_frame_difference))  # no for NaN, too


def export_detector(
    networks: Networks,
    target: Target,
    out: Path,
    *,
    verdict: Callable[[Score], str],
    tta: bool = True,
    samples: Sequence[NDArray[np.uint8]] = (),
) -> Parity:
    """Write a detector's networks so that they run without torch; the folder appears whole or not at all.

    Args:
        networks: of the detector.
        target: what is to read them.
        out: the folder; must not exist, or be empty.
        verdict: of a person's score, as the detector itself gives it.
        tta: put the views of test-time augmentation into the networks.
        samples: crops of people that are compared beside the made ones, ``uint8 [T, S, S, 3]`` of the card's size.

    Raises:
        ModelError: the networks cannot be exported (reason ``runtime``), or differ too much (reason ``parity``).
        OutputError: the folder holds something, or cannot be written.
    """
    _refuse_full(out)
    if target == "onnx":
        _require_onnx()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:40]}."))
    except OSError as error:
        raise OutputError(f"{out} cannot be written", error.strerror or str(error)) from error
    try:
        about = _write_networks(networks, target, temporary, tta)
        sequences = synthetic_sequences(networks.card.crop.size_px)
        parity = _compare(networks, about, temporary, [*sequences, *samples], verdict, tta)
        if not parity.holds:
            worst = max(parity.max_difference, parity.max_frame_difference)
            raise ModelError(
                f"Model '{networks.card.name}' is not exported",
                f"as {target} its probabilities differ by up to {worst:.3f} from torch's, {MAX_DIFFERENCE} is allowed",
                "Use it with deepscan itself, or export it to the other format.",
                reason="parity",
            )
        report = _report(parity, n_synthetic=len(sequences), n_samples=len(samples))
        (temporary / PARITY_FILE).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (temporary / CARD_FILE).write_bytes(card_bytes(networks.card))
        (temporary / README_FILE).write_text(readme_text(networks.card, about, target), encoding="utf-8")
        temporary.chmod(0o755)
        if out.is_dir():
            out.rmdir()  # Windows does not rename onto it
        temporary.rename(out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written", error.strerror or str(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return parity


def synthetic_sequences(size_px: int) -> list[NDArray[np.uint8]]:
    """Made crops, the same at every call: noise from fine to coarse and from faint to strong, 1 to 16 at a time."""
    import cv2

    random = np.random.default_rng(0)
    sequences = []
    for length, contrast in ((1, 0.1), (3, 0.3), (8, 1.0), (16, 0.3)):
        for grain in (2, 8, 32):
            small = random.integers(0, 256, (length, max(2, size_px // grain), max(2, size_px // grain), 3), np.uint8)
            large = [cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_CUBIC) for image in small]
            strong = np.stack(large).astype(np.float32)
            sequences.append((128 + contrast * (strong - 128)).clip(0, 255).astype(np.uint8))
    return sequences


def _refuse_full(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        cause = "it holds something already" if out.is_dir() else "it is a file"
        raise OutputError(f"{out} cannot take an exported detector", cause, "Give a new or empty --out.")


def _require_onnx() -> None:
    missing = [package for package in ("onnx", "onnxscript") if importlib.util.find_spec(package) is None]
    if missing:
        raise ModelError(
            "ONNX files cannot be written",
            f"not installed: {', '.join(missing)}",
            f"Install what is needed with: {install_command('export')}.",
            reason="runtime",
        )


def _write_networks(networks: Networks, target: Target, folder: Path, tta: bool) -> dict[str, Any]:
    """Write every network; returns what ``networks.json`` says."""
    card, calibration = networks.card, networks.card.calibration
    entries = []
    for number, part in enumerate(networks.parts, 1):
        name = "detector" if len(networks.parts) == 1 else f"detector-{number}"
        path = folder / f"{name}{_SUFFIX[target]}"
        size = part.card.crop.size_px
        (_write_openvino if target == "openvino" else _write_onnx)(_whole_network(part, tta), size, path)
        scale, frame_scale = calibration.scale * part.weight, calibration.frame_scale * part.frame_weight
        entries.append({"file": path.name, "size_px": size, "scale": scale, "frame_scale": frame_scale})
    about = {
        "format": "deepscan.export/1",
        "name": card.name,
        "weights_sha256": card.weights_sha256,
        "input": "crops: RGB uint8 [T, size_px, size_px, 3], one person in time order, T from 1",
        "outputs": "video_logit: float32, frame_logits: float32 [T]",
        "networks": entries,
        "bias": calibration.scale * networks.bias + calibration.bias,
        "frame_bias": calibration.frame_scale * networks.frame_bias + calibration.frame_bias,
        "threshold": calibration.threshold,
        "uncertain_band": [calibration.uncertain_low, calibration.uncertain_high],
        "crop": card.crop.model_dump(mode="json"),
        "tta": tta,
    }
    (folder / NETWORKS_FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


def _whole_network(part: Part, tta: bool) -> nn.Module:
    from deepscan.models.graphs import PersonLogits

    return PersonLogits(part.load(), part.card.mean, part.card.std, tta=tta).eval()


def _write_openvino(module: nn.Module, size_px: int, path: Path) -> None:
    model = openvino_runtime.convert(module, NetworkSpec(path.stem, "", (None, size_px, size_px, 3), "uint8"))
    model.input(0).get_tensor().set_names({"crops"})
    for output, name in zip(model.outputs, OUTPUTS, strict=True):
        output.get_tensor().set_names({name})
    openvino_runtime.load_openvino().save_model(model, path, compress_to_fp16=False)


def _write_onnx(module: nn.Module, size_px: int, path: Path) -> None:
    import torch

    crops = torch.zeros((3, size_px, size_px, 3), dtype=torch.uint8)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of what torch's own parts call that is to go
            torch.onnx.export(
                module,
                (crops,),
                path,
                input_names=["crops"],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: torch.export.Dim("T", min=1, max=_MAX_LENGTH)},),
                opset_version=_ONNX_OPSET,
                external_data=False,  # one file
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        cause = str(error).strip().splitlines()
        raise ModelError(
            "The network cannot be written as ONNX",
            cause[0][:200] if cause else "",
            "Use --to openvino.",
            reason="runtime",
        ) from error


def _compare(
    networks: Networks,
    about: dict[str, Any],
    folder: Path,
    sequences: Sequence[NDArray[np.uint8]],
    verdict: Callable[[Score], str],
    tta: bool,
) -> Parity:
    """Score sequences with torch in float32 and with the files as they were written."""
    runners, runtime = {}, ""
    for part in about["networks"]:
        runners[part["file"]], runtime = open_exported(folder / part["file"])
    scores = torch_scorer(networks, tta=tta).score(sequences)
    worst = worst_frame = 0.0
    same = 0
    for crops, score in zip(sequences, scores, strict=True):
        expected = _logits_of(score, networks.card.calibration)
        exported = _calibrated(about, runners, crops)
        if not (np.isfinite(exported[0]) and np.isfinite(exported[1]).all()):
            return Parity(len(sequences), float("nan"), float("nan"), same, runtime)
        worst = max(worst, abs(float(calibrated(exported[0]) - calibrated(expected[0]))))
        worst_frame = max(worst_frame, float(np.abs(calibrated(exported[1]) - calibrated(expected[1])).max()))
        same += verdict(score) == verdict(_score_of(exported, networks.card.calibration))
    return Parity(len(sequences), worst, worst_frame, same, runtime)


def open_exported(path: Path) -> tuple[Runner, str]:
    """What runs a file, and what that is."""
    if path.suffix == ".onnx" and importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        def run_onnx(crops: NDArray[np.uint8]) -> tuple[float, NDArray[np.float64]]:
            video, frames = session.run(list(OUTPUTS), {"crops": crops})
            return float(video), np.asarray(frames, np.float64)

        return run_onnx, f"onnxruntime {onnxruntime.__version__}"
    openvino = openvino_runtime.load_openvino()
    network = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run_openvino(crops: NDArray[np.uint8]) -> tuple[float, NDArray[np.float64]]:
        outputs = network(crops)
        return float(outputs[OUTPUTS[0]]), np.asarray(outputs[OUTPUTS[1]], np.float64)

    return run_openvino, f"openvino {openvino_runtime.installed_version()}"


def _calibrated(
    about: dict[str, Any], runners: dict[str, Runner], crops: NDArray[np.uint8]
) -> tuple[float, NDArray[np.float64]]:
    """Calibrated logits of a person and of single frames: the sum that ``README.txt`` tells to make."""
    video, frames = float(about["bias"]), np.full(len(crops), float(about["frame_bias"]))
    for part in about["networks"]:
        sequence_logits, each = runners[part["file"]](resized(crops, part["size_px"]))
        video, frames = video + part["scale"] * sequence_logits, frames + part["frame_scale"] * each
    return video, frames


def _logits_of(score: Score, calibration: Calibration) -> tuple[float, NDArray[np.float64]]:
    video = score.video_logit * calibration.scale + calibration.bias
    return video, score.frame_logits * calibration.frame_scale + calibration.frame_bias


def _score_of(calibrated: tuple[float, NDArray[np.float64]], calibration: Calibration) -> Score:
    """The score that the calibration makes these logits of."""
    video, frames = calibrated
    frame_logits = (frames - calibration.frame_bias) / calibration.frame_scale
    return Score((video - calibration.bias) / calibration.scale, frame_logits)


def _report(parity: Parity, *, n_synthetic: int, n_samples: int) -> dict[str, Any]:
    return {
        "sequences": {"made": n_synthetic, "samples": n_samples},
        "max_difference": parity.max_difference,
        "max_frame_difference": parity.max_frame_difference,
        "allowed": MAX_DIFFERENCE,
        "same_verdicts": f"{parity.same_verdicts} of {parity.sequences}",
        "run_with": parity.runtime,
        "compared_with": f"torch {version('torch')}, float32",
        "deepscan": __version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
