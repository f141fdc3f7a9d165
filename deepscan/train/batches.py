"""Batches, as a function of the seed, the stage, the step and the rank alone.

A run that resumes at step s sees the batches it would have seen, two processes see different ones, and nothing has to
be stored for it. A real and the fake made from it come together, cut and augmented alike, so that person, light and
compression tell nothing about the label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepscan.datasets.dataset import Sample, SampleSet
from deepscan.datasets.readers.base import FAKE, REAL
from deepscan.errors import ConfigError
from deepscan.evaluate.robustness.codecs import h264_round_trip
from deepscan.processes.prefetch import ahead
from deepscan.train.augment import AugmentParameters, augment, augment_region, draw_augmentation
from deepscan.train.recipe import Recipe, StageSettings
from deepscan.train.self_blend import blend_mask, draw_blend, self_blend

REGION_CELL_PX = 8
UNKNOWN = -1.0
# Grey levels by which a smoothed difference counts as recompression, and from which it is surely a change.
_SAME_LEVELS, _CHANGED_LEVELS = 4.0, 12.0
# A pair whose edges differ as well does not show the same square of the same moment.
_MISALIGNED_LEVELS = 9.0
# Crops are first brought this near to the size that is needed, by area as prediction cuts them; the rest is for zoom.
_ROOM = 1.15
_TRIES = 20
_AHEAD = 4

T = TypeVar("T")
Crops = NDArray[np.uint8]
Map = NDArray[np.float32]


class Batch(NamedTuple):
    """Samples of one step.

    Attributes:
        crops: RGB ``uint8 [B, T, S, S, 3]``.
        labels: ``float32 [B]`` in [0, 1]; between the two where a pair was mixed.
        mask: bool ``[B, T]``, false where a sequence is shorter.
        regions: ``float32 [B, T, S/8, S/8]`` in [0, 1], where a crop was manipulated; -1 where that is not known.
        partners: ``int64 [B]``, index of a fake's real in the batch, -1 for reals and for fakes without one.
    """

    crops: Tensor
    labels: Tensor
    mask: Tensor
    regions: Tensor
    partners: Tensor


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is drawn at once: a sequence, or a real with its fake."""

    crops: Crops
    label: float
    region: Map
    change: float = math.inf  # grey levels by which a fake differs from its aligned real where it does most


class BatchMaker:
    """Makes the batches of a stage.

    Args:
        samples: of the training split.
        recipe: data and augmentation.
        stage: index of the stage.

    Raises:
        ConfigError: there are no reals, or neither fakes nor self-blending.
    """

    def __init__(self, samples: SampleSet, recipe: Recipe, stage: int) -> None:
        self._recipe, self._index = recipe, stage
        self.stage: StageSettings = recipe.stages[stage]
        self.size_px = self.stage.size_px or recipe.crop.size_px
        self._by_id = {sample.id: sample for sample in samples.samples}
        self._reals = _grouped((s for s in samples.samples if s.label == REAL), lambda s: s.source_name)
        self._fakes = _grouped((s for s in samples.samples if s.label == FAKE), lambda s: s.source_name)
        self._methods = {
            name: list(_grouped(fakes, lambda s: s.method).values()) for name, fakes in self._fakes.items()
        }
        # Of a collection: its families, the origins in each, and what reals an origin has.
        self._families = {
            name: [
                list(_grouped(fakes_of, lambda s: s.source).values())
                for fakes_of in _grouped(fakes, lambda s: s.family).values()
            ]
            for name, fakes in self._fakes.items()
        }
        self._by_origin = _grouped((s for s in samples.samples if s.label == REAL), lambda s: s.source)
        self._origins = {
            name: list(_grouped(reals, lambda s: s.source).values()) for name, reals in self._reals.items()
        }
        if not self._reals:
            raise ConfigError("There is no real face to train on", hint="Check the labels in the manifest.")
        if not self._fakes and not recipe.data.self_blend:
            raise ConfigError(
                "There is no fake to train on",
                "the training split has only reals",
                "Set data.self_blend=1 to train on self-blended images.",
            )
        with_fakes = {s.source for s in samples.samples if s.label == FAKE}
        self._only_reals = {
            name: [reals for reals in origins if reals[0].source not in with_fakes]
            if recipe.data.balance == "family" and name in self._fakes
            else []
            for name, origins in self._origins.items()
        }
        self._datasets = sorted({*self._reals, *(self._fakes if recipe.data.self_blend < 1 else ())})
        self._shares = self._dataset_shares()

    def make(self, step: int, rank: int = 0) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng([self._recipe.seed, self._index, step, rank])
        units: list[_Unit] = []
        partners: list[int] = []
        size, pairs = self.stage.batch_size, self._recipe.data.pairs
        while len(units) < size:
            if pairs and len(units) + 2 <= size:
                real, fake = self._pair(rng)
                partners += [-1, len(units)]
                units += [real, fake]
            else:
                units.append(self._single(rng, self._label(rng, len(units))))
                partners.append(-1)
        return self._stacked(units, partners)

    def batches(self, first: int, last: int, rank: int = 0) -> Iterator[Batch]:
        """The batches of the steps from ``first`` up to ``last``, made ahead in a thread."""
        return ahead(lambda: (self.make(step, rank) for step in range(first, last)), _AHEAD, "batches")

    # Drawing

    def _dataset_shares(self) -> NDArray[np.float64]:
        """How often each dataset is drawn."""
        sizes = np.array([len(self._reals.get(d, ())) + len(self._fakes.get(d, ())) for d in self._datasets], float)
        unknown = sorted(set(self._recipe.data.source_shares) - set(self._datasets))
        if unknown:
            raise ConfigError(
                f"data.source_shares names {unknown[0]!r}", "there is no such dataset", f"Known: {self._datasets}."
            )
        # A recipe's own sources are not there when it is used on other data.
        listed = self._recipe.data.shares
        shares = np.array([listed.get(d, np.nan) for d in self._datasets])
        rest = np.isnan(shares)
        if rest.all() and self._recipe.data.balance == "source":
            sizes = np.ones(len(self._datasets))
        left = max(0.0, 1 - float(np.nansum(shares)))
        shares[rest] = left * sizes[rest] / max(1.0, sizes[rest].sum())
        if not shares.sum():
            raise ConfigError("data.source_shares leaves nothing to draw", hint="Give shares above 0.")
        return np.asarray(shares / shares.sum())

    def _pair(self, rng: np.random.Generator) -> tuple[_Unit, _Unit]:
        """A real and a fake, cut and augmented alike."""
        dataset = str(rng.choice(self._datasets, p=self._shares))
        blend = dataset not in self._fakes or rng.random() < self._blend_share(dataset)
        if blend and dataset in self._reals:
            return self._drawn(rng, self._real_to_blend(rng, dataset), None)
        for _ in range(_TRIES):
            fake = self._fake(rng, dataset)
            partner = self._by_id.get(fake.pair) if fake.pair else None
            real_unit, fake_unit = self._drawn(rng, partner or self._real_near(rng, fake), fake)
            if fake_unit.change >= self._recipe.data.least_change:
                break
        return real_unit, fake_unit

    def _label(self, rng: np.random.Generator, position: int) -> int:
        """Labels in turn, or as often as the data has them."""
        if self._recipe.data.balance != "none" or self._recipe.data.self_blend:
            return FAKE if position % 2 else REAL
        n_fakes, n_reals = (sum(map(len, kind.values())) for kind in (self._fakes, self._reals))
        return FAKE if rng.random() < n_fakes / (n_fakes + n_reals) else REAL

    def _single(self, rng: np.random.Generator, label: int) -> _Unit:
        dataset = str(rng.choice(self._datasets, p=self._shares))
        if label == REAL:
            if self._recipe.data.balance == "none" and dataset not in self._reals:
                dataset = next(iter(self._reals))
            return self._drawn(rng, self._real(rng, dataset), None, only=REAL)[0]
        if dataset in self._fakes and rng.random() >= self._blend_share(dataset):
            fake = self._fake(rng, dataset)
            return self._drawn(rng, self._real_near(rng, fake), fake, only=FAKE)[1]
        return self._drawn(rng, self._real_to_blend(rng, dataset), None, only=FAKE)[1]

    def _blend_share(self, dataset: str) -> float:
        """How many of a dataset's fakes are self-blends. Balanced by family these are one more, where there are origins
        that have only reals: their faces would otherwise never be seen."""
        share = self._recipe.data.self_blend
        return max(share, 1 / (len(self._families[dataset]) + 1)) if self._only_reals.get(dataset) else share

    def _real_to_blend(self, rng: np.random.Generator, dataset: str) -> Sample:
        """A real of an origin that has no fakes, where there is one and families are balanced; else any."""
        origins = self._only_reals.get(dataset)
        return _any(rng, _any(rng, origins)) if origins else self._real(rng, dataset)

    def _fake(self, rng: np.random.Generator, dataset: str) -> Sample:
        """A fake of a dataset; of its methods (or families) each as often as the others, if the settings say so."""
        if self._recipe.data.balance == "family":
            return _any(rng, _any(rng, _any(rng, self._families[dataset])))
        if self._recipe.data.balance != "method":
            return _any(rng, self._fakes[dataset])
        return _any(rng, _any(rng, self._methods[dataset]))

    def _real(self, rng: np.random.Generator, dataset: str) -> Sample:
        """A real of the dataset, or of any where it has none; of a collection's origins each as often as the others."""
        if dataset not in self._reals:
            return _any(rng, [s for reals in self._reals.values() for s in reals])
        return _any(rng, _any(rng, self._origins[dataset]))

    def _real_near(self, rng: np.random.Generator, fake: Sample) -> Sample:
        """A real to stand beside a fake: of the same origin if there is one."""
        return (
            _any(rng, self._by_origin[fake.source])
            if fake.source in self._by_origin
            else self._real(rng, fake.source_name)
        )

    # Making

    def _drawn(
        self, rng: np.random.Generator, real: Sample, fake: Sample | None, only: int | None = None
    ) -> tuple[_Unit, _Unit]:
        """The two sequences of a pair; without a fake the real is blended into itself. ``only`` saves the other."""
        length = self.stage.sequence_length
        shared = fake is not None and (fake.pair == real.id)
        indices = _window(rng, len(real), length)
        parameters = self._parameters(rng, length, still=len(real) == 1)
        change = math.inf
        source = real.crops(indices, self._source_px(real)) if only != FAKE or fake is None or shared else None
        if fake is None:
            assert source is not None  # noqa: S101 - it is what is blended
            fakes, region = self._blended(rng, source, real.landmarks(indices, source.shape[1]))
        else:
            fake_indices = indices if shared and len(fake) == len(real) else _window(rng, len(fake), length)
            fakes = fake.crops(fake_indices, self._source_px(fake))
            aligned = shared and fake.aligned and source is not None and len(source) == len(fakes)
            region = _unknown(fakes)
            if aligned and source is not None:
                region, change = _difference(source, fakes)
        label = 1.0
        if self._recipe.data.mixup and source is not None and source.shape == fakes.shape:
            label = float(rng.beta(self._recipe.data.mixup, self._recipe.data.mixup))
            fakes = cv2.addWeighted(fakes.ravel(), label, source.ravel(), 1 - label, 0).reshape(fakes.shape)
            region = np.where(region < 0, region, region * np.float32(label))
        fake_unit = replace(self._finished(fakes, region, label, parameters), change=change)
        if source is None or only == FAKE:
            return fake_unit, fake_unit
        return self._finished(source, np.zeros(source.shape[:3], np.float32), 0.0, parameters), fake_unit

    def _source_px(self, sample: Sample) -> int:
        """Side that a sample's crops are augmented at."""
        return min(sample.crop.size_px, round(self.size_px * _ROOM))

    def _parameters(self, rng: np.random.Generator, length: int, *, still: bool) -> list[AugmentParameters]:
        """Of each frame: a still is moved as a camera would, a clip moves by itself."""
        parameters = [draw_augmentation(rng, self._recipe.augment)]
        moving = still and self._recipe.data.simulate_motion
        while len(parameters) < length:
            before = parameters[-1]
            parameters.append(before.next_frame(rng) if moving else before.next_coding(rng))
        return parameters

    def _blended(self, rng: np.random.Generator, source: Crops, landmarks: Map) -> tuple[Crops, Map]:
        blend = draw_blend(rng)
        crops, regions = [], []
        for crop, points in zip(source, landmarks, strict=True):
            crops.append(self_blend(crop, points, blend))
            regions.append(blend_mask(points, (crop.shape[0], crop.shape[1]), blend) * min(1.0, blend.ratio + 0.25))
            if self._recipe.data.motion_jitter:
                blend = blend.jittered(rng)
        return np.stack(crops), np.stack(regions).astype(np.float32)

    def _finished(self, crops: Crops, regions: Map, label: float, parameters: Sequence[AugmentParameters]) -> _Unit:
        """Augment; a still becomes a sequence if motion is simulated."""
        length = len(parameters)
        if len(crops) == 1 and length > 1 and self._recipe.data.simulate_motion:
            crops, regions = crops.repeat(length, axis=0), regions.repeat(length, axis=0)
        size, grid = self.size_px, max(1, self.size_px // REGION_CELL_PX)
        out = np.stack([augment(crop, p, size) for crop, p in zip(crops, parameters, strict=False)])
        crf = parameters[0].h264_crf
        if crf and size % 2 == 0:
            out = h264_round_trip(out, crf)
        cells = [
            cv2.resize(augment_region(region, p, size), (grid, grid), interpolation=cv2.INTER_AREA)
            for region, p in zip(regions, parameters, strict=False)
        ]
        return _Unit(out, label, np.stack(cells))

    def _stacked(self, units: list[_Unit], partners: list[int]) -> Batch:
        length = self.stage.sequence_length
        grid = units[0].region.shape[1]
        crops = np.zeros((len(units), length, self.size_px, self.size_px, 3), np.uint8)
        mask = np.zeros((len(units), length), bool)
        regions = np.full((len(units), length, grid, grid), UNKNOWN, np.float32)
        for row, unit in enumerate(units):
            n = len(unit.crops)
            crops[row, :n], mask[row, :n], regions[row, :n] = unit.crops, True, unit.region
        labels = np.array([unit.label for unit in units], np.float32)
        return Batch(
            torch.from_numpy(crops),
            torch.from_numpy(labels),
            torch.from_numpy(mask),
            torch.from_numpy(regions),
            torch.tensor(partners),
        )


def _grouped(samples: Iterable[Sample], key: Callable[[Sample], str]) -> dict[str, list[Sample]]:
    """Samples by what ``key`` says, in the order of these names."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(key(sample), []).append(sample)
    return dict(sorted(groups.items()))


def _any(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _window(rng: np.random.Generator, available: int, length: int) -> list[int]:
    """Consecutive sightings, as many as there are."""
    if available <= length:
        return list(range(available))
    start = int(rng.integers(available - length + 1))
    return list(range(start, start + length))


def _unknown(crops: Crops) -> Map:
    return np.full(crops.shape[:3], UNKNOWN, np.float32)


def _difference(real: Crops, fake: Crops) -> tuple[Map, float]:
    """Where a fake differs from its aligned real, ``[T, S, S]`` in [0, 1], unknown where they do not show the same; and
    by how many grey levels it does at most, infinite where that is unknown."""
    maps, largest = [], 0.0
    for one, other in zip(real, fake, strict=True):
        levels = cv2.absdiff(one, other).mean(axis=-1, dtype=np.float32)
        window = max(3, one.shape[0] // 20) | 1
        smooth = cv2.blur(levels, (window, window))
        edge = max(2, one.shape[0] // 28)
        border = np.concatenate(
            [smooth[:edge].ravel(), smooth[-edge:].ravel(), smooth[:, :edge].ravel(), smooth[:, -edge:].ravel()]
        )
        if float(np.median(border)) >= _MISALIGNED_LEVELS:
            maps.append(np.full(smooth.shape, UNKNOWN, np.float32))
            largest = math.inf
        else:
            largest = max(largest, float(smooth.max()))
            maps.append(np.clip((smooth - _SAME_LEVELS) / (_CHANGED_LEVELS - _SAME_LEVELS), 0, 1))
    return np.stack(maps), largest
