"""Batches for Lightning's loops, starting where a run stopped."""

from __future__ import annotations

import math
from collections.abc import Iterator

import lightning as L
import numpy as np
import torch

from deepscan.datasets.dataset import SampleSet
from deepscan.extract.video.sampling import evenly
from deepscan.train.batches import REGION_CELL_PX, UNKNOWN, Batch, BatchMaker

_VALIDATION_FRAMES = 16


class TrainLoader:
    """An epoch of batches; of a resumed epoch what is left of it.

    Args:
        maker: of the batches.
        per_epoch: batches an epoch.
        trainer: whose counters say where the run is.
    """

    def __init__(self, maker: BatchMaker, per_epoch: int, trainer: L.Trainer) -> None:
        self._maker, self._per_epoch, self._trainer = maker, per_epoch, trainer

    def __len__(self) -> int:
        return self._per_epoch

    def __iter__(self) -> Iterator[Batch]:
        first = self._trainer.fit_loop.epoch_loop.batch_progress.total.ready
        last = (first // self._per_epoch + 1) * self._per_epoch
        return self._maker.batches(first, last, self._trainer.global_rank)


class ValidationLoader:
    """The samples of a split as they are, a few evenly spaced crops of each; every process takes its part.

    Args:
        samples: of the split.
        size_px: of the crops.
        batch_size: samples a batch.
        trainer: whose processes share the work.
    """

    def __init__(self, samples: SampleSet, size_px: int, batch_size: int, trainer: L.Trainer) -> None:
        self._samples, self._size_px, self._batch_size = samples.samples, size_px, batch_size
        self._trainer = trainer
        # Padding is avoided where lengths agree: sequences of a length lie together.
        self._order = sorted(range(len(self._samples)), key=lambda i: (len(self._samples[i]), self._samples[i].id))

    def __len__(self) -> int:
        mine = len(range(self._trainer.global_rank, len(self._order), self._trainer.world_size))
        return math.ceil(mine / self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        mine = self._order[self._trainer.global_rank :: self._trainer.world_size]
        for start in range(0, len(mine), self._batch_size):
            yield self._batch(mine[start : start + self._batch_size])

    def _batch(self, indices: list[int]) -> Batch:
        chosen = [self._samples[index] for index in indices]
        length = min(_VALIDATION_FRAMES, max(len(sample) for sample in chosen))
        size, grid = self._size_px, max(1, self._size_px // REGION_CELL_PX)
        crops = np.zeros((len(chosen), length, size, size, 3), np.uint8)
        mask = np.zeros((len(chosen), length), bool)
        for row, sample in enumerate(chosen):
            indices = evenly(len(sample), length)
            crops[row, : len(indices)] = sample.crops(indices, size)
            mask[row, : len(indices)] = True
        return Batch(
            torch.from_numpy(crops),
            torch.tensor([float(sample.label) for sample in chosen]),
            torch.from_numpy(mask),
            torch.full((len(chosen), length, grid, grid), UNKNOWN),
            torch.full((len(chosen),), -1),
        )
