"""The second half of training the shipped detector: the LSTM on sequences, calibration, measurement, the card.

    python scripts/finish_default.py faces/ runs/first deepscan/weights/default

Sequences come from stills by simulated motion (a real and its fake move alike) and from real talking-head clips, whole
or self-blended frame by frame. The validation split is halved by group: one half calibrates, the other is measured.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn
from train_default import MODEL, OTHER_SHARES, SIZE_PX, Faces

from deepscan.config import CropSettings
from deepscan.models.checkpoint import Calibration, DetectorCard, Metric, save_detector
from deepscan.models.network import DetectorNetwork
from deepscan.models.registry import backbone_spec
from deepscan.models.scorer import TorchScorer
from deepscan.models.transform import normalise, to_unit
from deepscan.train.augment import augment, draw_augmentation
from deepscan.train.selfblend import draw_blend, self_blend

STILL_FRAMES, CLIP_FRAMES, MAX_SEQUENCES = 5, 16, 8000
DFDC_PAIRS, OTHER_STILLS, CLIP_REPEATS, EPOCHS = 500, 250, 2, 30
PROMISED_ERROR = 0.05
BOOTSTRAPS = 1000

Sequence_ = np.ndarray  # uint8 [T, S, S, 3]


def moving(crops: Sequence[np.ndarray], rng: np.random.Generator) -> Callable[[Sequence[np.ndarray]], Sequence_]:
    """One simulated camera for a real sequence and its fake: the same parameters for both."""
    p = draw_augmentation(rng)
    steps = []
    for _ in crops:
        steps.append(p)
        p = p.next_frame(rng)
    return lambda frames: np.stack([augment(c, q, SIZE_PX) for c, q in zip(frames, steps, strict=True)])


def training_sequences(faces: Faces, rng: np.random.Generator):
    """Yield (sequence, label): reals and their fakes in turn."""
    for pair in rng.choice(len(faces.pairs), min(DFDC_PAIRS, len(faces.pairs)), replace=False):
        real, fakes = faces.pairs[pair]
        still, fake = faces.crops[real], faces.crops[rng.choice(fakes)]
        move = moving([still] * STILL_FRAMES, rng)
        yield move([still] * STILL_FRAMES), 0
        yield move([fake] * STILL_FRAMES), 1
    for source in ("adults", "portraits"):
        rows = faces.others[source]
        for index in rng.choice(rows, min(OTHER_STILLS, len(rows)), replace=False):
            yield from with_blend([faces.crops[index]] * STILL_FRAMES, [faces.landmarks[index]] * STILL_FRAMES, rng)
    for rows in clips(faces, "train"):
        for _ in range(CLIP_REPEATS):
            yield from with_blend(faces.crops[rows], faces.landmarks[rows], rng)


def with_blend(crops: Sequence[np.ndarray], points: Sequence[np.ndarray], rng: np.random.Generator):
    """A real sequence and the same self-blended frame by frame."""
    move, blend = moving(crops, rng), draw_blend(rng)
    yield move(crops), 0
    fakes = [self_blend(c, p, blend.jittered(rng)) for c, p in zip(crops, points, strict=True)]
    yield move(fakes), 1


def clips(faces: Faces, split: str) -> list[np.ndarray]:
    """Row numbers of each talking-head clip of a split, in time order."""
    rows = faces.table[(faces.table.source == "talking_heads") & (faces.table.split == split)]
    names = rows.name.str.split("#").str[0]
    return [group.index.to_numpy() for _, group in rows.groupby(names)]


def features_of(network: DetectorNetwork, sequence: Sequence_) -> np.ndarray:
    """Backbone features ``float32 [T, D]`` of a sequence."""
    spec = backbone_spec(MODEL.backbone)
    with torch.inference_mode():
        return network.backbone(normalise(to_unit(sequence), spec.mean, spec.std)).numpy()


def train_head(network: DetectorNetwork, faces: Faces, seed: int) -> None:
    """Train the LSTM and its classifier on features of the frozen backbone."""
    rng, start = np.random.default_rng(seed), time.time()
    # One block from the start: thousands of small arrays kept among large short-lived ones would fragment the heap.
    store = np.empty((MAX_SEQUENCES, CLIP_FRAMES, network.backbone.feature_dim), np.float32)
    features, labels = [], []
    for sequence, label in training_sequences(faces, rng):
        row = store[len(labels), : len(sequence)]
        row[:] = features_of(network, sequence)
        features.append(torch.from_numpy(row))
        labels.append(label)
    print(f"{len(labels)} sequences, features in {time.time() - start:.0f} s", flush=True)
    target = torch.tensor(labels, dtype=torch.float32)
    parameters = [*network.head.parameters(), *network.classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * (len(labels) // 128))
    network.head.train()
    network.classifier.train()
    torch.manual_seed(seed)
    for epoch in range(EPOCHS):
        order, losses = torch.from_numpy(rng.permutation(len(labels))), []
        for batch in order.split(128)[: len(labels) // 128]:
            # Any length from one frame on must work: each sequence is cut to a random stretch of itself.
            parts = []
            for i in batch.tolist():
                length = int(rng.integers(1, len(features[i]) + 1))
                first = int(rng.integers(0, len(features[i]) - length + 1))
                parts.append(features[i][first : first + length])
            x = nn.utils.rnn.pad_sequence(parts, batch_first=True)
            mask = torch.arange(x.shape[1]) < torch.tensor([len(p) for p in parts]).unsqueeze(1)
            logits = network.from_features(x, mask).video_logit
            loss = nn.functional.binary_cross_entropy_with_logits(logits, target[batch] * 0.96 + 0.02)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        print(f"epoch {epoch + 1} loss {np.mean(losses):.4f}", flush=True)
    network.eval()


def score_stills(scorer: TorchScorer, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Video and frame logits of stills ``uint8 [n, S, S, 3]``, each a sequence of one, with test-time augmentation."""
    small = [cv2.resize(c, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)[None] for c in crops]
    scores = [s for start in range(0, len(small), 256) for s in scorer.score(small[start : start + 256])]
    return np.array([s.video_logit for s in scores]), np.array([s.frame_logits[0] for s in scores])


def platt(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Scale and bias that minimise the log loss, classes weighed equally."""
    weight = np.where(labels == 1, 0.5 / (labels == 1).mean(), 0.5 / (labels == 0).mean())

    def loss(x: np.ndarray) -> float:
        z = np.exp(x[0]) * logits + x[1]
        return float(np.mean(weight * (np.logaddexp(0, z) - labels * z)))

    result = minimize(loss, np.zeros(2), method="Nelder-Mead")
    return float(np.exp(result.x[0])), float(result.x[1])


def band(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Split-conformal limits: at most the promised share of reals lies above, and of fakes below."""
    real, fake = np.sort(probabilities[labels == 0]), np.sort(probabilities[labels == 1])
    high = real[min(len(real) - 1, int(np.ceil((len(real) + 1) * (1 - PROMISED_ERROR))) - 1)]
    low = fake[max(0, int(np.floor((len(fake) + 1) * PROMISED_ERROR)) - 1)]
    return float(low), float(high)


def interval(statistic: Callable[..., float], *arrays: np.ndarray, groups: np.ndarray) -> Metric:
    """A figure with its bootstrap 95 % interval, resampled by group."""
    rng, names = np.random.default_rng(0), np.unique(groups)
    rows = {name: np.flatnonzero(groups == name) for name in names}
    values = []
    for _ in range(BOOTSTRAPS):
        index = np.concatenate([rows[n] for n in rng.choice(names, len(names))])
        try:
            values.append(statistic(*(a[index] for a in arrays)))
        except ValueError:  # a resample with one class only has no AUC
            continue
    low, high = np.percentile(values, [2.5, 97.5])
    value = float(statistic(*arrays))
    return Metric(value=round(value, 4), low=round(float(low), 4), high=round(float(high), 4), n=len(groups))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Logistic function."""
    return 1 / (1 + np.exp(-x))


def calibration_half(groups: pd.Series) -> np.ndarray:
    """True for the half of the groups that calibrates."""
    return np.array([zlib.crc32(f"half {g}".encode()) % 2 == 0 for g in groups])


def measure(scorer: TorchScorer, faces: Faces) -> tuple[Calibration, dict[str, Metric]]:
    """Calibrate on one half of the validation data, measure on the other."""
    val = faces.table[faces.table.split == "val"]
    video, frame = score_stills(scorer, faces.crops[val.index])
    labels, groups = val.label.to_numpy(), val.group.to_numpy()
    first = calibration_half(val.group)
    dfdc = (val.source == "dfdc").to_numpy()
    a, b = platt(video[first & dfdc], labels[first & dfdc])
    fa, fb = platt(frame[first & dfdc], labels[first & dfdc])
    p = sigmoid(video * a + b)
    # The promise holds for each class: reals from every source count, as users' files come from anywhere.
    low, high = band(p[first], labels[first])
    threshold = float(np.clip(0.5, min(low, high), max(low, high)))
    low, high = (low, high) if low < high else (threshold, threshold)
    calibration = Calibration(
        scale=a,
        bias=b,
        frame_scale=fa,
        frame_bias=fb,
        threshold=threshold,
        uncertain_low=low,
        uncertain_high=high,
    )
    rest = ~first
    on = rest & dfdc
    metrics = {
        "AUC, DFDC val, one frame": interval(roc_auc_score, labels[dfdc], video[dfdc], groups=groups[dfdc]),
        "log loss, DFDC val half B, one frame": interval(log_loss, labels[on], p[on], groups=groups[on]),
    }
    answered = (p <= low) | (p >= high)
    mean = lambda x: float(np.mean(x))  # noqa: E731
    metrics["answered, DFDC val half B"] = interval(mean, answered[on].astype(float), groups=groups[on])
    for name, label in (("real", 0), ("fake", 1)):
        of = on & (labels == label)
        wrong = (p >= high) if label == 0 else (p <= low)
        metrics[f"called {'fake' if label == 0 else 'real'}, DFDC val half B {name}s"] = interval(
            mean, wrong[of].astype(float), groups=groups[of]
        )
    for source in OTHER_SHARES:
        of = (val.source == source).to_numpy() & rest
        if of.any():
            flags = (p[of] >= high).astype(float)
            metrics[f"called fake, held-out {source} half B, one frame"] = interval(mean, flags, groups=groups[of])
    return calibration, metrics


def measure_clips(scorer: TorchScorer, faces: Faces, calibration: Calibration) -> dict[str, Metric]:
    """Whole held-out talking-head clips: how many are called fake, real, and left open."""
    held_out = clips(faces, "val")
    sequences = [
        np.stack([cv2.resize(faces.crops[i], (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA) for i in rows])
        for rows in held_out
    ]
    p = sigmoid(np.array([s.video_logit for s in scorer.score(sequences)]) * calibration.scale + calibration.bias)
    people = np.array([faces.table.group[rows[0]] for rows in held_out])
    mean = lambda x: float(np.mean(x))  # noqa: E731
    return {
        "called fake, held-out real clips": interval(mean, (p >= calibration.uncertain_high) * 1.0, groups=people),
        "called real, held-out real clips": interval(mean, (p <= calibration.uncertain_low) * 1.0, groups=people),
    }


def main() -> None:
    """Train the head, calibrate, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(2)
    cv2.setNumThreads(1)
    faces = Faces(args.faces)
    network = DetectorNetwork(MODEL)
    state = torch.load(args.run / "frames.pt", weights_only=True)
    network.load_state_dict(state["average"])
    network.eval()
    train_head(network, faces, args.seed)
    spec = backbone_spec(MODEL.backbone)
    card = DetectorCard(
        name="default",
        version="0.1",
        created=time.strftime("%Y-%m-%d"),
        network=MODEL,
        crop=CropSettings(size_px=SIZE_PX),
        mean=spec.mean,
        std=spec.std,
        weights_sha256="",
        training={
            "recipe": "scripts/prepare_faces.py, scripts/train_default.py, scripts/finish_default.py",
            "frame_steps": int(state["step"]),
            "images_per_step": 32,
            "initial_weights": "random",
        },
        data=DATA,
        limits=LIMITS,
    )
    scorer = TorchScorer(network, card)
    calibration, metrics = measure(scorer, faces)
    metrics |= measure_clips(scorer, faces, calibration)
    card = card.model_copy(update={"calibration": calibration, "metrics": metrics})
    card = save_detector(args.out, network, card, half=True)
    print(card.model_dump_json(indent=1))


DATA = [
    {
        "name": "DFDC face crops, one frame a video",
        "use": "training on split=train; calibration and measurement on split=val, halved by group",
        "terms": "DeepFake Detection Challenge data, research terms",
    },
    {
        "name": "UTKFace adults",
        "use": "real, and the source of self-blended fakes; 20 % held out",
        "terms": "research terms",
    },
    {
        "name": "Portraits of members of the US Congress",
        "use": "real, and the source of self-blended fakes; 25 % held out",
        "terms": "works of the US government, public domain",
    },
    {
        "name": "Talking-head clips in the style of VoxCeleb2, 16 speakers",
        "use": "real, and the source of self-blended fakes; speakers 04, 08, 12 and 16 held out",
        "terms": "research terms",
    },
]
LIMITS = [
    "DFDC actors recur across groups: the figures on its validation split are optimistic for other people.",
    "Nearly all training faces were at least 89 px wide in their source: small faces are judged less well.",
    "The LSTM learned from simulated motion and self-blended clips; it saw no whole deepfake video.",
    "Only face swaps of the DFDC kind and self-blending were trained on; wholly generated faces and lip-sync were not.",
    "It judges the picture of faces only: not sound, not bodies, not the scene, not whether a caption is true.",
    "Not for decisions about people without other evidence.",
]


if __name__ == "__main__":
    main()
