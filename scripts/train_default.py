"""The first half of training the shipped detector: backbone and frame-level head on single frames.

    python scripts/prepare_faces.py DATA faces/
    python scripts/train_default.py faces/ runs/first --steps 3000
    python scripts/finish_default.py faces/ runs/first deepscan/weights/default

Writes a checkpoint every 250 steps and goes on from it when started again.
"""

from __future__ import annotations

import argparse
import copy
import math
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from deepscan.config import HeadSettings, ModelSettings
from deepscan.models.network import DetectorNetwork
from deepscan.models.registry import backbone_spec
from deepscan.models.transform import normalise, to_unit
from deepscan.train.augment import augment, draw_augmentation
from deepscan.train.selfblend import draw_blend, self_blend

SIZE_PX, SMALL_PX, SMALL_SHARE = 128, 96, 0.65
PAIRS, BLENDS_OF_DFDC, OTHERS = 11, 2, 5  # 16 pairs, 32 images a step
OTHER_SHARES = {"adults": 0.5, "talking_heads": 0.4, "portraits": 0.1}
WARMUP_STEPS, PEAK_RATE, WEIGHT_DECAY, EMA = 100, 1e-3, 0.05, 0.997
MODEL = ModelSettings(backbone="resnet18", head=HeadSettings())


class Faces:
    """The arrays of prepare_faces.py, and the indices that training draws from."""

    def __init__(self, root: Path) -> None:
        self.crops = np.load(root / "crops.npy", mmap_mode="r")
        self.landmarks = np.load(root / "landmarks.npy")
        self.table = pd.read_csv(root / "faces.csv")
        train = self.table[self.table.split == "train"]
        dfdc = train[train.source == "dfdc"]
        # `groups` holds row labels of the table; `indices` would count within the filtered frame.
        reals = dfdc[dfdc.label == 0].groupby("group").groups
        fakes = dfdc[dfdc.label == 1].groupby("group").groups
        self.pairs = [(reals[g][0], fakes[g].to_numpy()) for g in reals if g in fakes]
        if any(self.table.label[real] != 0 or (self.table.label[fake] != 1).any() for real, fake in self.pairs):
            raise ValueError("A pair is not a real and its fakes.")
        self.others = {s: train.index[train.source == s].to_numpy() for s in OTHER_SHARES}

    def batch(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """A step's images ``uint8 [32, size, size, 3]`` and labels: every real with its own fake, augmented alike."""
        images, labels = [], []
        for position, pair in enumerate(rng.choice(len(self.pairs), PAIRS, replace=False)):
            real, fakes = self.pairs[pair]
            p = draw_augmentation(rng)
            if position < BLENDS_OF_DFDC:
                fake = self_blend(self.crops[real], self.landmarks[real], draw_blend(rng))
            else:
                fake = self.crops[rng.choice(fakes)]
            images += [augment(self.crops[real], p, size), augment(fake, p, size)]
            labels += [0, 1]
        for source in rng.choice(list(OTHER_SHARES), OTHERS, p=list(OTHER_SHARES.values())):
            real = rng.choice(self.others[source])
            p = draw_augmentation(rng)
            fake = self_blend(self.crops[real], self.landmarks[real], draw_blend(rng))
            images += [augment(self.crops[real], p, size), augment(fake, p, size)]
            labels += [0, 1]
        return np.stack(images), np.asarray(labels, np.float32)

    def batches(self, first: int, steps: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches from step ``first`` on, each from its own seed, made ahead in a thread."""
        ready: queue.Queue[tuple[np.ndarray, np.ndarray]] = queue.Queue(4)

        def fill() -> None:
            for step in range(first, steps):
                ready.put(self.batch(np.random.default_rng([seed, step]), size_at(step, steps)))

        threading.Thread(target=fill, daemon=True).start()
        for _ in range(first, steps):
            yield ready.get()


def frame_logits(network: DetectorNetwork, crops: np.ndarray) -> np.ndarray:
    """Frame-level logits of crops ``uint8 [n, S, S, 3]``."""
    spec = backbone_spec(MODEL.backbone)
    out = []
    with torch.inference_mode():
        for start in range(0, len(crops), 128):
            small = np.stack([cv2.resize(c, (SIZE_PX, SIZE_PX)) for c in crops[start : start + 128]])
            x = normalise(to_unit(small), spec.mean, spec.std)
            out.append(network.frame_classifier(network.backbone(x)).squeeze(-1))
    return torch.cat(out).numpy()


def report(network: DetectorNetwork, faces: Faces, limit: int | None = None) -> str:
    """AUC on DFDC validation crops, share of held-out reals of each other source above a logit of 0."""
    network.eval()
    val = faces.table[faces.table.split == "val"]
    dfdc = val[val.source == "dfdc"]
    if limit:
        dfdc = dfdc.iloc[:limit]
    logits = frame_logits(network, faces.crops[dfdc.index])
    words = [f"auc={roc_auc_score(dfdc.label, logits):.4f} ll={log_loss(dfdc.label, 1 / (1 + np.exp(-logits))):.3f}"]
    words.append(f"fpr_dfdc={np.mean(logits[dfdc.label == 0] > 0):.3f}")
    for source in OTHER_SHARES:
        index = val.index[val.source == source]
        words.append(f"fpr_{source}={np.mean(frame_logits(network, faces.crops[index]) > 0):.3f}")
    network.train()
    return " ".join(words)


def size_at(step: int, steps: int) -> int:
    """Side of the training images: small first, which is cheap, then the side that prediction uses."""
    return SMALL_PX if step < SMALL_SHARE * steps else SIZE_PX


def rate(step: int, steps: int) -> float:
    """Warm-up, then cosine decay."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (steps - WARMUP_STEPS)))


def train_frames(faces: Faces, run: Path, steps: int, seed: int) -> None:
    """Backbone and frame-level head on single frames."""
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    network = DetectorNetwork(MODEL).to(memory_format=torch.channels_last)
    average = copy.deepcopy(network)
    spec = backbone_spec(MODEL.backbone)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    loss_of, first, state_file = nn.BCEWithLogitsLoss(), 0, run / "frames.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    losses, start = [], time.time()
    for step, (images, labels) in enumerate(faces.batches(first, steps, seed), first):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * rate(step, steps)
        x = normalise(to_unit(images), spec.mean, spec.std).contiguous(memory_format=torch.channels_last)
        logits = network.frame_classifier(network.backbone(x)).squeeze(-1)
        # Which of the two is the fake is easier to learn than whether one is: person and light cancel out.
        ranking = nn.functional.softplus(logits[0::2] - logits[1::2]).mean()
        loss = 0.5 * loss_of(logits, torch.from_numpy(labels)) + ranking
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        update_average(average, network, min(EMA, (step + 1) / (step + 10)))
        losses.append((loss.item(), ((logits[0::2] < logits[1::2]).float().mean().item())))
        if (step + 1) % 50 == 0:
            pace, start = (time.time() - start) / 50, time.time()
            mean_loss, ranked = np.mean(losses[-50:], axis=0)
            print(f"step {step + 1} loss {mean_loss:.4f} ranked {ranked:.3f} {pace:.2f} s/step", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == steps:
            state = {"network": network.state_dict(), "average": average.state_dict(), "step": step + 1}
            state["optimizer"] = optimizer.state_dict()
            torch.save(state, state_file.with_suffix(".tmp"))
            state_file.with_suffix(".tmp").replace(state_file)
        if (step + 1) % 500 == 0 or step + 1 == steps:
            limit = None if step + 1 == steps else 1200
            print(f"step {step + 1} average {report(average, faces, limit)}", flush=True)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential moving average of weights and of batch-norm statistics."""
    for mine, theirs in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mine.dtype.is_floating_point:
            mine.lerp_(theirs, 1 - decay)
        else:
            mine.copy_(theirs)


def main() -> None:
    """Parse and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(2)
    cv2.setNumThreads(1)
    train_frames(Faces(args.faces), args.run, args.steps, args.seed)


if __name__ == "__main__":
    main()
