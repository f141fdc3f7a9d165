"""Reports and their material as the pipeline gives them, without a network."""

from __future__ import annotations

import numpy as np

from deepscan.config import CropSettings, ModelSettings
from deepscan.models.card import DetectorCard
from deepscan.report.html import FramePicture, Material, PersonMaterial, Picture
from deepscan.types import FrameResult, ModelInfo, Report, Result, Segment, TrackResult, VerdictLabel

MODEL = ModelInfo(
    "default", "ab" * 32, 0.5, (0.27, 0.73), True, "resnet18", "lstm", "1",
    {"frames": 8, "tta": True, "face": {"min_face_px": 40, "thresholds": [0.6, 0.7, 0.7]}},
)  # fmt: skip
NOISE = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
BINS = [
    {"probability": 0.05 + 0.1 * i, "share": round(0.02 + 0.1 * i, 2), "low": 0.1 * i, "high": 0.1 * i + 0.1, "n": 50}
    for i in range(10)
]


def card(*, bins=BINS, part="half of val that calibration did not see", **values):
    """A card with one evaluation."""
    figures = {"auc": {"value": 0.931, "low": 0.9, "high": 0.95, "n": 500}}
    evaluations = [{"part": "test", "figures": figures, "reliability": []},
                   {"part": part, "figures": figures, "reliability": bins}]  # fmt: skip
    return DetectorCard(
        name="default", network=ModelSettings(), crop=CropSettings(), mean=(0, 0, 0), std=(1, 1, 1),
        weights_sha256="ab" * 32, evaluations=evaluations, limits=["Only face swaps were trained on."],
        data=[{"name": "Corpus", "use": "training", "terms": "research"}], **values,
    )  # fmt: skip


def track(number=1, verdict=VerdictLabel.FAKE, probability=0.95, times=None, values=None):
    times = times or [0.125 + 0.25 * i for i in range(8)]
    values = values or [probability] * len(times)
    frames = tuple(FrameResult(t, (10.0, 10.0, 97.0, 120.0), 0.99, p) for t, p in zip(times, values, strict=True))
    return TrackResult(number, verdict, probability, times[0], times[-1], frames)


def one_face(path="clip.mp4"):
    return Result(path, "cd" * 32, "video", VerdictLabel.FAKE, probability=0.95, duration_s=2.0, frames_sampled=8,
                  frames_with_face=7, tracks=(track(),), segments=(Segment(1, 0.5, 1.5, 0.97),))  # fmt: skip


def two_people(path="two.mp4"):
    second = track(2, VerdictLabel.REAL, 0.06, [0.125, 0.375, 1.625, 1.875])
    result = one_face(path)
    return Result(path, result.sha256, "video", VerdictLabel.FAKE, probability=0.95, duration_s=2.0, frames_sampled=8,
                  frames_with_face=8, tracks=(second, result.tracks[0]), segments=result.segments)  # fmt: skip


def image(path="face.jpg"):
    person = track(1, VerdictLabel.REAL, 0.06, [0.0])
    return Result(path, "ef" * 32, "image", VerdictLabel.REAL, probability=0.06, frames_sampled=1, frames_with_face=1,
                  tracks=(person,))  # fmt: skip


def no_face(path="empty.mp4"):
    message = "No face was found, so there is nothing to judge."
    return Result(
        path, "01" * 32, "video", VerdictLabel.NOT_APPLICABLE, "no_face", message, duration_s=2.0, frames_sampled=8
    )


def error(path="gone.mp4"):
    return Result(path, None, None, VerdictLabel.ERROR, "not_found", f"{path}: not found. Check the path.")


def uncertain(path="odd.mp4"):
    message = "The evidence points neither way clearly enough to keep the promised error rate."
    person = track(1, VerdictLabel.UNCERTAIN, 0.5)
    return Result(
        path, "23" * 32, "video", VerdictLabel.UNCERTAIN, "low_confidence", message, 0.5, 2.0, 8, 8, (person,)
    )


def report(*results, model=MODEL):
    return Report("0.1.0", model, tuple(results))


def material(result, *, facts=None, explained=True, noise=False):
    """Pictures of one colour, or of noise, for every person of a result."""
    people = []
    for person in result.tracks:
        pictures = []
        for row, frame in enumerate(person.frames):
            plain = np.full((64, 64, 3), (20 * person.id + row) % 256, np.uint8)
            shown = NOISE if noise else plain
            pictures.append(Picture(shown, frame.time_s, shown if explained else None))
        importance = tuple((f.time_s, 0.1 * (-1) ** i) for i, f in enumerate(person.frames)) if explained else ()
        people.append(PersonMaterial(person.id, tuple(pictures), importance, 2.0 if explained else None))
    whole = np.full((360, 640, 3), 99, np.uint8)
    frames = (FramePicture(whole, 0.5, (1,), heat=whole if explained else None),) if people else ()
    return Material(facts, tuple(people), frames, None if explained else "Heat maps were not made.")
