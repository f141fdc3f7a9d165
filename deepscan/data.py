"""Stores of ``deepscan preprocess`` for one's own training in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from deepscan.datasets.dataset import Sample, read_samples
from deepscan.errors import ConfigError
from deepscan.extract.video.sampling import evenly

__all__ = ["CropStore"]


class CropStore(Dataset[tuple[Any, int]]):
    """The crops of stores, with their labels; they are read and decoded when they are asked for.

    An item is ``(crops, label)``: RGB ``uint8 [3, S, S]``, or ``[sequence_length, 3, S, S]`` in the order of time; 0 is
    real, 1 fake. It can be pickled, and so be read by a loader's processes.

    Args:
        paths: folders of stores, or their manifests; several must have the same crop rule.
        split: ``train``, ``val`` or ``test``; None takes every file.
        size_px: side S that crops are resized to; None takes the store's.
        sequence_length: crops of one person that make an item, spread evenly over the person's time; people with
            fewer are seen in some twice. None makes every crop an item.
        transform: of the crops, as they would be given; the item then has what it returns.

    Attributes:
        samples: people, with what the store says of each (``group``, ``method``, ``dataset``, ``pair``, ...).
        labels: of every item, ``int64 [N]``, for samplers and weights.
        groups: of every item, what it must not be divided from: split by these, never by items.

    Raises:
        ConfigError: there is no such split, nothing in it, or a number that cannot be.
        ManifestError, StoreError: a store is damaged.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        split: str | None = None,
        size_px: int | None = None,
        sequence_length: int | None = None,
        transform: Callable[[torch.Tensor], Any] | None = None,
    ) -> None:
        for name, number in (("size_px", size_px), ("sequence_length", sequence_length)):
            if number is not None and number < 1:
                raise ConfigError(f"{name}={number} cannot be", "it must be at least 1")
        everything = read_samples(paths)
        self.samples: tuple[Sample, ...] = (everything if split is None else everything.split(split)).samples
        self.size_px = size_px or everything.crop.size_px
        self.sequence_length = sequence_length
        self.transform = transform
        sizes = [len(sample) if sequence_length is None else 1 for sample in self.samples]
        self._ends = np.cumsum(sizes)
        self.labels = np.repeat([sample.label for sample in self.samples], sizes).astype(np.int64)
        self.groups = [sample.group for sample, size in zip(self.samples, sizes, strict=True) for _ in range(size)]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """An item.

        Raises:
            IndexError: there is none of this number.
            StoreError: the store's file has changed or is damaged.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        number = int(np.searchsorted(self._ends, index, side="right"))
        sample = self.samples[number]
        length = self.sequence_length
        if length is None:
            indices = [index - int(self._ends[number]) + len(sample)]
        else:
            few = evenly(len(sample), length)
            indices = [few[i * len(few) // length] for i in range(length)]
        crops = torch.from_numpy(np.ascontiguousarray(sample.crops(indices, self.size_px).transpose(0, 3, 1, 2)))
        item = crops[0] if length is None else crops
        return (item if self.transform is None else self.transform(item)), sample.label
