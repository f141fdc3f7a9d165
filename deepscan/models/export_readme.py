"""The README.txt of an exported detector."""

from __future__ import annotations

from typing import Any, Literal

from deepscan.models.card import Card
from deepscan.text import answer_rule

# Package, what loads a file, what runs it.
_CODE = {
    "openvino": (
        "openvino",
        'openvino.compile_model(folder / part["file"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
        "network(resized)",
    ),
    "onnx": (
        "onnxruntime",
        'onnxruntime.InferenceSession(folder / part["file"])',
        'dict(zip(["video_logit", "frame_logits"], network.run(None, {"crops": resized})))',
    ),
}

_TEXT = """\
{title}
{rule}

The networks of a detector of manipulated faces, for {package}. Neither torch nor deepscan is needed to run them:

    pip install {package} numpy opencv-python-headless

Input: "crops", the face of one person in time order, RGB uint8 [T, {side}, {side}, 3], T from 1. Each is a square
around the face: its side is the longer side of the face's box times {reach:g}, its centre lies {shift:g} of the box's
height below the box's own{aligned}. `deepscan preprocess` cuts such crops.

Output: "video_logit" of the person and "frame_logits" [T] of the single frames. networks.json says how they become
probabilities:

    import json
    from pathlib import Path

    import cv2
    import numpy as np
    import {package}

    folder = Path("{folder}")
    about = json.loads((folder / "networks.json").read_text())

    def probability(crops):
        \"\"\"P(fake) of the person in crops, RGB uint8 [T, S, S, 3] with S = about["crop"]["size_px"].\"\"\"
        logit = about["bias"]
        for part in about["networks"]:
            network = {load}
            size = (part["size_px"], part["size_px"])
            resized = np.stack([cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in crops])
            outputs = {run}
            logit += part["scale"] * float(outputs["video_logit"])
        return 1 / (1 + np.exp(-logit))

Answers: {answers}; exactly, "threshold" and "uncertain_band" in networks.json. For single
frames take "frame_logits", "frame_scale" and "frame_bias" likewise.

card.json says what the detector was trained on, what was measured of it and what it must not be used for. parity.json
says how far these files were from the detector itself when they were written.
"""


def readme_text(card: Card, about: dict[str, Any], target: Literal["openvino", "onnx"], folder: str = ".") -> str:
    """What to do with the files.

    Args:
        card: of the detector.
        about: the content of ``networks.json``.
        target: what the files are for.
        folder: that the example reads from.
    """
    package, load, run = _CODE[target]
    crop = card.crop
    title = f"{card.name} {card.version}"
    return _TEXT.format(
        title=title,
        rule="=" * len(title),
        package=package,
        side=crop.size_px,
        reach=1 + crop.margin,
        shift=crop.shift_y,
        aligned=", and it is turned until the eyes are level" if crop.align == "eyes" else "",
        folder=folder,
        load=load,
        run=run,
        answers=answer_rule(about["threshold"], about["uncertain_band"]),
    )
