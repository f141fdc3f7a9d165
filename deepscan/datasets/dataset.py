"""What training and evaluation work on: one sample for each person of each video or picture of stores and packs.

Everything comes from a store, so that a face is found, followed and cut for training as it is for prediction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepscan.config import CropSettings
from deepscan.datasets.readers.base import FAKE, REAL, file_type
from deepscan.datasets.store.manifest import ManifestRow, read_manifest
from deepscan.datasets.store.packs import Pack
from deepscan.datasets.store.store import STORE_FOLDER, StoredTrack, StoredVideo, read_store
from deepscan.errors import ConfigError
from deepscan.extract.crops import face_square, resized
from deepscan.extract.tracks import iou

if TYPE_CHECKING:
    from deepscan.datasets.readers import CorpusItem, Split

MANIFEST_NAME = "manifest.csv"
_COMPRESSIONS = ("raw", "c0", "c23", "c40")
# Two tracks of a fake and its real that cover each other less than this are two people.
_SAME_PERSON_IOU = 0.3


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """What the tables of an evaluation divide by.

    Attributes:
        face_px: median size of the person's face in the source.
        brightness: median mean luma of the crops, in [0, 255].
        height_px: of the video's frames.
        compression: where the corpus' names have it (FaceForensics++: c0, c23, c40).
        n_tracks: people in the video.
        file_type: ending of the file without its dot; empty where it is not known, as for a file in a tar of a store.
    """

    face_px: float
    brightness: float
    height_px: int
    compression: str | None
    n_tracks: int
    file_type: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One person of a video, or of a picture.

    Attributes:
        id: unique: address of the video in its store, and track. (Names may recur in another corpus.)
        track: the person; crops are decoded when they are asked for.
        crop: the crop rule of the store.
        frame_shape: height and width of the video in pixels.
        split: from the manifest.
        pair: id of the real that this fake was made from, seen at the same times; None if there is none.
        aligned: whether both were cut at the same boxes, so that their pixels can be compared.
        facts: for tables.
        source: what it is counted and drawn under: the dataset, unless a recipe names its sources; of a collection
            ``SOURCE/ORIGIN``.
        family: kind of manipulation; empty where it is not known.
        columns: what else the corpus says of it, by name: ``sex``, ``age_band``...
    """

    id: str
    video_id: str
    dataset: str
    label: int
    method: str
    group: str
    split: Split | None
    track: StoredTrack
    crop: CropSettings
    frame_shape: tuple[int, int]
    facts: SampleFacts
    pair: str | None = None
    aligned: bool = False
    source: str = ""
    family: str = ""
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __len__(self) -> int:
        return len(self.track)

    @property
    def source_name(self) -> str:
        """The source alone, without the origin."""
        return source_name(self.source)

    def crops(self, indices: Sequence[int], size_px: int) -> NDArray[np.uint8]:
        """Crops, RGB ``uint8 [k, size_px, size_px, 3]``, of these sightings.

        Raises:
            StoreError: the store's file has changed or is damaged.
        """
        return resized(self.track.crops(indices), size_px)

    def landmarks(self, indices: Sequence[int], size_px: int) -> NDArray[np.float32]:
        """Landmarks ``float32 [k, 5, 2]`` in pixels of crops of ``size_px``."""
        faces = [self.track.track.sightings[index].face for index in indices]
        return np.stack(
            [face_square(face, self.frame_shape, self.crop).to_crop(face.landmarks, size_px) for face in faces]
        )


@dataclass(frozen=True, slots=True)
class SampleSet:
    """Samples of one or several stores.

    Attributes:
        samples: sorted by id.
        crop: the crop rule they all share, with the size that the crops are kept in.
        without: videos that gave no sample, counted by split, label and reason: they are coverage, not guesses.
    """

    samples: tuple[Sample, ...]
    crop: CropSettings
    without: Counter[tuple[str, int, str]]

    def __len__(self) -> int:
        return len(self.samples)

    def where(self, keep: Callable[[Sample], bool]) -> SampleSet:
        """The samples that ``keep`` is true of. What gave no sample cannot be asked, and is left out."""
        return replace(self, samples=tuple(sample for sample in self.samples if keep(sample)), without=Counter())

    def split(self, name: str) -> SampleSet:
        """Those of a split; what gave no sample too.

        Raises:
            ConfigError: there are none.
        """
        part = self.where(lambda sample: sample.split == name)
        if not part.samples:
            have = ", ".join(sorted({sample.split or "none" for sample in self.samples}))
            raise ConfigError(f"There is no sample in split {name!r}", f"there are {have}", "See deepscan preprocess.")
        return replace(part, without=Counter({key: n for key, n in self.without.items() if key[0] == name}))


def source_name(source: str) -> str:
    """The name of a source without the origin that may follow it: ``SOURCE`` of ``SOURCE/ORIGIN``."""
    return source.partition("/")[0]


def read_samples(paths: str | Path | Sequence[str | Path]) -> SampleSet:
    """The samples of stores.

    Args:
        paths: folders of stores, or their manifests.

    Raises:
        ConfigError: the stores were made with different crop rules or sizes, or there is no sample.
        ManifestError, StoreError: a store is damaged.
    """
    folders = [paths] if isinstance(paths, str | Path) else list(paths)
    samples: list[Sample] = []
    without: Counter[tuple[str, int, str]] = Counter()
    for path in map(Path, folders):
        folder = path.parent if path.name == MANIFEST_NAME else path
        rows = read_manifest(folder / MANIFEST_NAME)
        samples += _samples(folder, rows)
        without.update((row.split or "none", row.label, str(row.reason)) for row in rows if row.status != "ok")
    if not samples:
        raise ConfigError(
            f"{', '.join(map(str, folders))} gave no face to work on",
            f"{sum(without.values())} videos were skipped or failed" if without else "the manifest is empty",
            "See its manifest.csv and failures.csv.",
        )
    rules = {sample.crop for sample in samples}
    if len(rules) > 1:
        shown = "; ".join(sorted(f"{r.size_px} px, margin {r.margin:g}, {r.align}" for r in rules))
        raise ConfigError("The stores were cut by different rules", shown, "Preprocess them with the same settings.")
    return _sample_set(samples, rules.pop(), without)


def pack_samples(pack: Pack, items: Sequence[CorpusItem]) -> SampleSet:
    """The samples of a pack, fakes with their originals.

    Args:
        pack: of these items.
        items: that say what the corpus knows of the pictures.

    Raises:
        ConfigError: there is none.
    """
    if not pack.faces:
        raise ConfigError("The pictures gave no face to work on", f"{len(pack.without)} were left out")
    by_id = {item.video_id: item for item in items}
    numbers = {(face.video_id, face.number) for face, _ in pack.faces}
    samples = []
    for face, track in pack.faces:
        item = by_id[face.video_id]
        size_px = track.track.sightings[0].face.size_px
        facts = SampleFacts(size_px, face.brightness, face.height_px, None, face.n_people, item.file_type)
        name, shape = f"{item.dataset}/{face.video_id}#{face.number}", (face.height_px, face.width_px)
        sample = _sample(item, name, track, pack.settings.crop, shape, facts)
        if item.original is not None and (item.original, face.number) in numbers:
            sample = replace(sample, pair=f"{item.dataset}/{item.original}#{face.number}", aligned=face.aligned)
        samples.append(sample)
    without: Counter[tuple[str, int, str]] = Counter(
        (by_id[name].split or "none", by_id[name].label, reason) for name, reason in pack.without.items()
    )
    return _sample_set(samples, pack.settings.crop, without)


def pool(sets: Sequence[SampleSet]) -> SampleSet:
    """Several sets as one, with the crop rule of the first; the sizes that crops are kept in may differ."""
    without = sum((samples.without for samples in sets), Counter())
    return _sample_set((sample for samples in sets for sample in samples.samples), sets[0].crop, without)


def is_store(path: Path) -> bool:
    """Whether a path is a store's folder or its manifest."""
    manifest = path if path.name == MANIFEST_NAME else path / MANIFEST_NAME
    return manifest.is_file() and (manifest.parent / STORE_FOLDER).is_dir()


def _sample_set(samples: Iterable[Sample], crop: CropSettings, without: Counter[tuple[str, int, str]]) -> SampleSet:
    return SampleSet(tuple(sorted(samples, key=lambda sample: sample.id)), crop, without)


def _samples(folder: Path, rows: Iterable[ManifestRow]) -> list[Sample]:
    """One for each track, fakes with their pairs."""
    samples: list[Sample] = []
    reals: dict[tuple[str, str, int], str] = {}  # of an input's content and a track: the sample
    by_group: dict[tuple[str, str], list[tuple[Sample, str]]] = {}
    reused: dict[str, str] = {}  # of a fake that was cut at the boxes of an original: the original's content
    for row in rows:
        if row.store is None:
            continue
        stored = read_store(folder / row.store)
        for track in stored.tracks:
            name, shape = f"{stored.key}#{track.track.id}", (stored.video.height_px, stored.video.width_px)
            sample = _sample(row, name, track, stored.settings.crop, shape, _facts(row, stored, track))
            samples.append(sample)
            if row.label == REAL:
                reals[row.dataset, stored.video.sha256, track.track.id] = sample.id
                by_group.setdefault((row.dataset, row.group), []).append((sample, stored.video.sha256))
            elif stored.video.boxes == "original" and stored.video.boxes_sha256 is not None:
                reused[sample.id] = stored.video.boxes_sha256
    return [_paired(sample, reals, by_group, reused) if sample.label == FAKE else sample for sample in samples]


def _facts(row: ManifestRow, stored: StoredVideo, track: StoredTrack) -> SampleFacts:
    sightings = track.track.sightings
    return SampleFacts(
        face_px=float(np.median([s.face.size_px for s in sightings])),
        brightness=float(np.median([s.brightness for s in sightings])),
        height_px=stored.video.height_px,
        compression=next((part for part in row.video_id.split("/") if part in _COMPRESSIONS), None),
        n_tracks=stored.video.n_tracks,
        file_type=file_type(row.path),
    )


def _sample(
    row: ManifestRow | CorpusItem,
    name: str,
    track: StoredTrack,
    crop: CropSettings,
    frame_shape: tuple[int, int],
    facts: SampleFacts,
) -> Sample:
    columns = row.columns if isinstance(row, ManifestRow) else row.further_columns
    return Sample(
        id=name,
        video_id=row.video_id,
        dataset=row.dataset,
        label=row.label,
        method=row.method,
        group=row.group,
        split=row.split,
        track=track,
        crop=crop,
        frame_shape=frame_shape,
        facts=facts,
        source=row.dataset,
        family=columns.get("family", ""),
        columns=columns,
    )


def _paired(
    fake: Sample,
    reals: dict[tuple[str, str, int], str],
    by_group: dict[tuple[str, str], list[tuple[Sample, str]]],
    reused: dict[str, str],
) -> Sample:
    """A fake with the real it was made from: the one whose boxes it has, else the only real of its group."""
    number = fake.track.track.id
    if (content := reused.get(fake.id)) is not None:
        real = reals.get((fake.dataset, content, number))
        return replace(fake, pair=real, aligned=real is not None)
    same = by_group.get((fake.dataset, fake.group), [])
    if len({content for _, content in same}) != 1:
        return fake
    # Of several people it is the one who is where the fake is.
    near = {real.id: _overlap(fake.track, real.track) for real, _ in same}
    best = max(near, key=lambda name: near[name])
    return replace(fake, pair=best) if near[best] > _SAME_PERSON_IOU else fake


def _overlap(first: StoredTrack, second: StoredTrack) -> float:
    """Mean IoU of two people's boxes over the sampled frames that both are in; 0 where there are none."""
    boxes = {s.frame_index: s.face.box for s in second.track.sightings}
    values = [iou(s.face.box, boxes[s.frame_index]) for s in first.track.sightings if s.frame_index in boxes]
    return sum(values) / len(values) if values else 0.0
