"""The data of an evaluation in whatever form it is given: stores as they are, anything else preprocessed into a cache.

Below the cache folder is one folder for each set of extraction settings, and in it one store for each corpus. They are
kept: a second evaluation decodes nothing, and one that was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from deepscan.config import CropSettings, PredictSettings, Settings
from deepscan.datasets.dataset import Sample, SampleSet, pack_samples, read_samples
from deepscan.datasets.store.packs import Pack, is_packable, make_pack
from deepscan.datasets.store.store import StoreSettings, recipe
from deepscan.errors import ConfigError

if TYPE_CHECKING:
    from deepscan.datasets.preprocess import Progress
    from deepscan.datasets.readers import Corpus, CorpusItem, Split

log = logging.getLogger(__name__)

DEFAULT_CACHE = Path(".deepscan-cache")

# Of pictures by the hundred thousand: large enough for what is trained at 160 pixels, and a third smaller.
PACK_SETTINGS = StoreSettings(frames=1, crop=CropSettings(size_px=192), jpeg_quality=92)

_TIME_LIMIT_S = 600.0  # for one video, as deepscan preprocess has it


class SourceSettings(Settings):
    """One corpus of several that a recipe is trained on.

    Attributes:
        name: that its samples are counted and drawn under.
        path: of the corpus, below the folder that ``--data`` gives; of several the first that is there.
        share: how often its samples are drawn; those without one share the rest by size.
        group: regular expression; what it finds first in a video's id is its group (``speaker\\d+``), and a video that
            it does not fit keeps its own. None leaves the corpus' groups.
        val, test: shares of the groups for these splits where the corpus has none of its own.
        reuse_boxes: cut fakes at the boxes of their originals.
        use: ``train`` divides it into splits; ``test`` keeps all of it for the last measurement.
        hold_out: origins, methods and families of a collection that are kept for the last measurement whole.
        leave_out: origins of a collection that are not used: those that another source has in full, say.
        about, terms: what it is, and the terms it may be used under; for the card.
    """

    name: str = Field(pattern=r"[A-Za-z0-9_-]+")
    path: str | tuple[str, ...]
    share: float | None = Field(None, ge=0, le=1)
    group: str | None = None
    val: float = Field(0.1, ge=0, lt=1)
    test: float = Field(0.1, ge=0, lt=1)
    reuse_boxes: bool = False
    use: Literal["train", "test"] = "train"
    hold_out: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    about: str = ""
    terms: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """One or several."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @field_validator("group")
    @classmethod
    def _is_pattern(cls, group: str | None) -> str | None:
        try:
            re.compile(group or "")
        except re.error as error:
            raise ValueError(f"{group!r} is no regular expression: {error}") from error
        return group


@dataclass(frozen=True, slots=True)
class Preparation:
    """How data that is no store is made one.

    Attributes:
        cache: folder that the stores are kept in.
        jobs: processes; the cores of the machine when None.
        divide: give what has no splits of its own those of ``deepscan preprocess``, as training needs.
        on_start: called with a corpus and the folder of its store, before it is preprocessed.
        on_progress: called after every video.
    """

    cache: Path = DEFAULT_CACHE
    jobs: int | None = None
    divide: bool = False
    on_start: Callable[[Path, Path], None] | None = None
    on_progress: Callable[[Progress], None] | None = None


def open_data(
    paths: Sequence[Path],
    crop: CropSettings,
    predict: PredictSettings,
    *,
    split: Split | None = None,
    preparation: Preparation | None = None,
    check: bool = True,
) -> SampleSet:
    """The samples of stores and corpora, all in one set.

    Args:
        paths: stores, their manifests, or anything that ``deepscan preprocess`` reads.
        crop: the crop rule that is needed; what is no store is cut by it.
        predict: frames a video, and how faces are found and followed, for what is no store.
        split: only this one; of what is no store nothing else is preprocessed.
        preparation: of what is no store.
        check: refuse stores that were cut by another rule; without it whoever uses the samples must look.

    Raises:
        ConfigError: a store was cut by another rule, or there is no sample (in this split).
        DeepscanError: a corpus or store cannot be read, or the cache not be written.
        KeyboardInterrupt: preprocessing was interrupted; what is done stays done.
    """
    how = preparation or Preparation()
    settings = StoreSettings(frames=predict.frames, face=predict.face, track=predict.track, crop=crop)
    cache = how.cache / f"{settings.frames}x{crop.size_px}px-{recipe(settings)[:8]}"
    found = []
    for path in dict.fromkeys(paths):
        samples = read_samples(
            path, cache=cache, prepare=lambda corpus, folder: prepare(corpus, folder, settings, split, how)
        )
        if check:
            check_rule(samples.crop, crop, str(path))
        found.append(samples)
    pooled = pool(found)
    return pooled.split(split) if split else pooled


def items_of(found: Corpus, split: Split | None, *, divide: bool = False) -> list[CorpusItem]:
    """The items of a corpus, or of one split of it: its own, else those that ``deepscan preprocess`` would give.

    Args:
        found: the corpus.
        split: only this one.
        divide: give splits also where no split is asked for.

    Raises:
        ConfigError: there is nothing in this split.
    """
    from deepscan.datasets.splits import assign_splits, check_groups

    items = list(found.items)
    if split or divide:
        check_groups(items)
        if any(item.split is None for item in items):
            items = assign_splits(items)
        items = [item for item in items if split in (None, item.split)]
        if not items:
            raise ConfigError(
                f"{found.root} has nothing in split {split!r}", hint="Leave --split out to take everything."
            )
    return items


def prepare(corpus: Path, folder: Path, settings: StoreSettings, split: Split | None, how: Preparation) -> None:
    """Preprocess a corpus, or one split of it, into a store, as ``deepscan preprocess`` does.

    Splits are the corpus' own, else those that ``deepscan preprocess`` would give; without ``split`` it gets none.

    Raises:
        As :func:`open_data`.
    """
    from deepscan.datasets.readers import read_corpus

    found = read_corpus(corpus)
    _preprocess(corpus, found, items_of(found, split, divide=how.divide), folder, settings, how)


def open_sources(
    root: Path,
    sources: Sequence[SourceSettings],
    crop: CropSettings,
    predict: PredictSettings,
    preparation: Preparation | None = None,
    *,
    exclude: str | None = None,
) -> SampleSet:
    """The samples of a recipe's own list of corpora, preprocessed into the cache where they are not there yet.

    Args:
        root: the folder that the paths of the list are in.
        sources: the list.
        crop: the crop rule that is needed; crops are kept as large as ``deepscan preprocess`` does, or larger.
        predict: frames a video, and how faces are found and followed.
        preparation: cache and processes.
        exclude: file below ``root`` with the groups that must not be among them; see ``data.exclude`` of a recipe.

    Raises:
        ConfigError: a path is not inside the folder, there is no sample, or a group is excluded.
        DeepscanError: a corpus cannot be read, or the cache not be written.
        KeyboardInterrupt: preprocessing was interrupted; what is done stays done.
    """
    from deepscan.datasets.readers import read_corpus
    from deepscan.datasets.splits import assign_splits

    how = preparation or Preparation()
    excluded = _excluded(root / exclude) if exclude else frozenset()
    found = []
    for source in sources:
        corpus = root / _path_of(source, root)
        if not corpus.resolve().is_relative_to(root.resolve()):
            raise ConfigError(f"data.sources: {source.name} is not inside {root}", hint="Give paths below --data.")
        content = read_corpus(corpus)
        items = [_grouped(item, source.group) for item in content.items if item.origin not in source.leave_out]
        _refuse_excluded(items, excluded, source.name)
        if source.use == "test":
            items = [replace(item, split="test") for item in items]
        else:  # whoever shares a group with what is held out is held out, too
            items = assign_splits([_held_out(item, source) for item in items], source.val, source.test)
        stills = is_packable(items)
        usual = PACK_SETTINGS if stills else StoreSettings()
        settings = usual.model_copy(
            update={
                "frames": 1 if stills else predict.frames,
                "face": predict.face,
                "track": predict.track,
                "crop": crop.model_copy(update={"size_px": max(crop.size_px, usual.crop.size_px)}),
                "boxes": "original" if source.reuse_boxes else "own",
            }
        )
        digest = hashlib.sha256(f"{corpus.resolve()}\0{source.group}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
        kind = "pack-" if stills else f"{settings.frames}x"
        folder = how.cache / f"{kind}{settings.crop.size_px}px-{recipe(settings)[:8]}" / f"{source.name}-{digest}"
        if stills:
            samples = pack_samples(_pack(corpus, content, items, folder, settings, how), items)
        else:
            _preprocess(corpus, content, items, folder, settings, how)
            samples = read_samples(folder)
        found.append(replace(samples, samples=_named(samples.samples, source, items)))
    return pool(found)


def _path_of(source: SourceSettings, root: Path) -> str:
    """Of a source's paths the first that is there, or the last."""
    return next((path for path in source.paths if (root / path).exists()), source.paths[-1])


def _named(samples: Sequence[Sample], source: SourceSettings, items: Sequence[CorpusItem]) -> tuple[Sample, ...]:
    """Samples under the name of their source; those of a collection with where it has them from."""
    by_id = {item.video_id: item for item in items}

    def named(sample: Sample) -> Sample:
        item = by_id[sample.video_id]
        pair = f"{source.name}/{sample.pair}" if sample.pair else None
        return replace(
            sample,
            id=f"{source.name}/{sample.id}",
            pair=pair,
            source=f"{source.name}/{item.origin}" if item.origin else source.name,
            family=item.family,
            split=item.split,
            method=item.method,
        )

    return tuple(map(named, samples))


def _held_out(item: CorpusItem, source: SourceSettings) -> CorpusItem:
    """An item in the split ``test`` if its origin, method or family is one of those that a source holds out whole."""
    return replace(item, split="test") if {item.origin, item.method, item.family} & set(source.hold_out) else item


def _excluded(path: Path) -> frozenset[str]:
    try:
        return frozenset(path.read_text(encoding="ascii").split())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"data.exclude: {path} cannot be read",
            str(error),
            "Put the list there: without it nobody knows what to leave.",
        ) from error


def _refuse_excluded(items: Sequence[CorpusItem], excluded: frozenset[str], name: str) -> None:
    for item in items:
        if hashlib.sha256(item.group.encode("utf-8", "surrogatepass")).hexdigest()[:16] in excluded:
            raise ConfigError(
                f"data.sources: {name} holds the group {item.group}",
                "it is one of data.exclude, which nothing may be trained or tuned on",
                "Take its files out of the corpus.",
            )


def _pack(
    corpus: Path, content: Corpus, items: Sequence[CorpusItem], folder: Path, settings: StoreSettings, how: Preparation
) -> Pack:
    from deepscan.datasets.preprocess import Progress
    from deepscan.datasets.readers import log_problems
    from deepscan.processes import create_engine

    log_problems(content)
    if how.on_start is not None:
        how.on_start(corpus, folder)

    def report(done: int, total: int) -> None:
        if how.on_progress is not None:
            how.on_progress(Progress(total, done, 0, 0, corpus.name))

    folder.mkdir(parents=True, exist_ok=True)
    with create_engine("local", jobs=how.jobs, time_limit_s=_TIME_LIMIT_S) as engine:
        return make_pack(items, folder, settings, engine, on_progress=report)


def has_sources(paths: Sequence[Path], sources: Sequence[SourceSettings]) -> bool:
    """Whether what is given is the folder of a recipe's own list of corpora; if not, it is data of the user's own.

    Raises:
        ConfigError: some of the list are in the folder, others are not.
    """
    there = [source for source in sources if len(paths) == 1 and (paths[0] / _path_of(source, paths[0])).exists()]
    if there and len(there) < len(sources):
        missing = next(_path_of(source, paths[0]) for source in sources if source not in there)
        raise ConfigError(
            f"{paths[0]} has only some of the recipe's sources",
            f"{missing} is not there",
            "Give the folder that all of them are in, or list those that you have in data.sources.",
        )
    return bool(there)


def _grouped(item: CorpusItem, pattern: str | None) -> CorpusItem:
    """An item in the group that the pattern finds."""
    match = re.search(pattern, item.video_id) if pattern else None
    return replace(item, group=match.group()) if match else item


def _preprocess(
    corpus: Path, found: Corpus, items: Sequence[CorpusItem], folder: Path, settings: StoreSettings, how: Preparation
) -> None:
    from deepscan.datasets.preprocess import PreprocessSettings, preprocess
    from deepscan.datasets.readers import log_problems
    from deepscan.processes import create_engine

    log_problems(found)
    if how.on_start is not None:
        how.on_start(corpus, folder)
    with create_engine("local", jobs=how.jobs, time_limit_s=_TIME_LIMIT_S) as engine:
        summary = preprocess(
            replace(found, items=tuple(items)),
            folder,
            PreprocessSettings(settings),
            engine,
            on_progress=how.on_progress,
        )
    if summary.n_open:
        # Figures of a part would be taken for those of the whole.
        raise KeyboardInterrupt


def pool(sets: Sequence[SampleSet]) -> SampleSet:
    """Several sets as one, with the crop rule of the first; the sizes that crops are kept in may differ."""
    without = sum((samples.without for samples in sets), Counter())
    joined = sorted((sample for samples in sets for sample in samples.samples), key=lambda sample: sample.id)
    return SampleSet(tuple(joined), sets[0].crop, without)


def widest_like(crop: CropSettings, crops: Iterable[CropSettings]) -> CropSettings:
    """The largest of the crop rules that are ``crop`` apart from their size: one store then serves all of them."""
    return max(
        (crop, *(other for other in crops if crop.same_but_size(other))),
        key=lambda other: other.size_px,
    )


def check_rule(kept: CropSettings, needed: CropSettings, name: str) -> None:
    """Refuse crops that a detector was not made for; larger ones will do, they are resized.

    Args:
        kept: the rule that the crops were cut by.
        needed: that of the detector.
        name: of the data, for the message.

    Raises:
        ConfigError: margin, shift or alignment differ, or the crops are too small.
    """
    same = kept.same_but_size(needed)
    if same and kept.size_px >= needed.size_px:
        return
    raise ConfigError(
        f"{name} has crops that are too small" if same else f"{name} was cut by another rule than the model needs",
        f"it has {kept.text}; the model needs {needed.text}",
        "Give the videos themselves, or preprocess them with the model's settings.",
    )
