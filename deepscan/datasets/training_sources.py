"""The corpora that a recipe lists for its training, each with its groups, splits and share."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from deepscan.config import CropSettings, PredictSettings, Settings
from deepscan.datasets.data import Preparation, cache_folder
from deepscan.datasets.dataset import Sample, SampleSet, pack_samples, pool, read_samples
from deepscan.datasets.store.packs import is_packable
from deepscan.datasets.store.store import StoreSettings
from deepscan.errors import ConfigError

if TYPE_CHECKING:
    from deepscan.datasets.readers import Corpus, CorpusItem, Split

logger = logging.getLogger(__name__)

# Of pictures by the hundred thousand: large enough for what is trained at 160 pixels, and a third smaller.
PACK_SETTINGS = StoreSettings(frames=1, crop=CropSettings(size_px=192), jpeg_quality=92)


class SourceSettings(Settings):
    """One corpus of several that a recipe is trained on.

    Attributes:
        name: its samples are counted and drawn under it.
        path: of the corpus, below the folder that ``--data`` gives; of several the first that is there.
        share: how often its samples are drawn; those without one share the rest by size.
        group: regular expression; what it finds first in a video's id is its group (``speaker\\d+``), and a video that
            it does not fit keeps its own. None leaves the corpus' groups.
        val, test: shares of the groups for these splits where the corpus has none of its own.
        reuse_boxes: cut fakes at the boxes of their originals.
        optional: goes without it where the path is not there.
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
    optional: bool = False
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


def has_sources(paths: Sequence[Path], sources: Sequence[SourceSettings]) -> bool:
    """Whether what is given is the folder of a recipe's own list of corpora; if not, it is data of the user's own.

    Raises:
        ConfigError: some of the list are in the folder, others are not.
    """
    present = [source for source in sources if len(paths) == 1 and _is_there(source, paths[0])]
    missing = [source for source in sources if source not in present and not source.optional]
    if present and missing:
        raise ConfigError(
            f"{paths[0]} has only some of the recipe's sources",
            f"{_path_of(missing[0], paths[0])} is not there",
            "Give the folder that all of them are in, or list those that you have in data.sources.",
        )
    return bool(present)


def sources_in(root: Path, listed: Sequence[SourceSettings]) -> bool:
    """Whether a folder that is no corpus itself holds all the sources of a recipe, but for optional ones."""
    from deepscan.datasets.readers import detect_corpus

    needed = [source for source in listed if not source.optional]
    if not needed or not all(_is_there(source, root) for source in needed):
        return False
    try:
        detect_corpus(root)
    except ConfigError:
        return True
    return False


def open_sources(
    root: Path,
    sources: Sequence[SourceSettings],
    crop: CropSettings,
    predict: PredictSettings,
    preparation: Preparation | None = None,
    *,
    exclude: str | None = None,
    split: Split | None = None,
) -> SampleSet:
    """The samples of a recipe's own list of corpora, preprocessed into the cache where they are not there yet.

    Args:
        root: the folder that the paths of the list are in.
        sources: the list.
        crop: the crop rule that is needed; crops are kept as large as ``deepscan preprocess`` does, or larger.
        predict: frames a video, and how faces are found and followed.
        preparation: cache and processes.
        exclude: file below ``root`` with the groups that must not be among them; see ``data.exclude`` of a recipe.
        split: only this one; nothing else is preprocessed.

    Raises:
        ConfigError: a path is not inside the folder, there is no sample, or a group is excluded.
        DeepscanError: a corpus cannot be read, or the cache not be written.
        KeyboardInterrupt: preprocessing was interrupted; what is done stays done.
    """
    preparation = preparation or Preparation()
    excluded = _excluded(root / exclude) if exclude else frozenset()
    sets = []
    for source in sources:
        if source.optional and not _is_there(source, root):
            logger.warning("the source %s is left out: %s is not there", source.name, root / _path_of(source, root))
            continue
        corpus = _read(root, source, excluded)
        if split is not None:
            corpus = replace(corpus, items=tuple(item for item in corpus.items if item.split == split))
            if not corpus.items:
                continue
        settings = _settings(corpus, source, crop, predict)
        sets.append(_prepared(corpus, source, settings, preparation))
    if not sets:
        raise ConfigError(f"{root} has nothing in split {split!r}", hint="Leave --split out to take everything.")
    return pool(sets)


def source_items(root: Path, sources: Sequence[SourceSettings], split: Split | None) -> list[tuple[str, CorpusItem]]:
    """The items of a recipe's own list of corpora with the names of their sources; as :func:`open_sources`."""
    return [
        (_name_of(source.name, item), item)
        for source in sources
        if _is_there(source, root)
        for item in _read(root, source, frozenset()).items
        if split in (None, item.split)
    ]


def _read(root: Path, source: SourceSettings, excluded: frozenset[str]) -> Corpus:
    """The corpus of a source, with its groups and splits."""
    from deepscan.datasets.readers import read_corpus
    from deepscan.datasets.splits import assign_splits

    path = root / _path_of(source, root)
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"data.sources: {source.name} is not inside {root}", hint="Give paths below --data.")
    corpus = read_corpus(path)
    items = [_grouped(item, source.group) for item in corpus.items if item.origin not in source.leave_out]
    _refuse_excluded(items, excluded, source.name)
    if source.use == "test":
        items = [replace(item, split="test") for item in items]
    else:  # whoever shares a group with what is held out is held out, too
        items = assign_splits([_held_out(item, source) for item in items], source.val, source.test)
    return replace(corpus, items=tuple(items))


def _settings(corpus: Corpus, source: SourceSettings, crop: CropSettings, predict: PredictSettings) -> StoreSettings:
    """How the faces of a source are kept."""
    stills = is_packable(corpus.items)
    usual = PACK_SETTINGS if stills else StoreSettings()
    return usual.model_copy(
        update={
            "frames": 1 if stills else predict.frames,
            "face": predict.face,
            "track": predict.track,
            "crop": crop.model_copy(update={"size_px": max(crop.size_px, usual.crop.size_px)}),
            "boxes": "original" if source.reuse_boxes else "own",
        }
    )


def _prepared(corpus: Corpus, source: SourceSettings, settings: StoreSettings, preparation: Preparation) -> SampleSet:
    """The samples of a source: of a pack for pictures, of a store for videos."""
    digest = hashlib.sha256(f"{corpus.root.resolve()}\0{source.group}".encode("utf-8", "surrogatepass")).hexdigest()
    name = f"{source.name}-{digest[:12]}"
    if is_packable(corpus.items):
        folder = cache_folder(preparation.cache, settings, "pack-") / name
        samples = pack_samples(preparation.make_pack(corpus, folder, settings), corpus.items)
    else:
        folder = cache_folder(preparation.cache, settings) / name
        preparation.make_store(corpus, folder, settings)
        samples = read_samples(folder)
    by_id = {item.video_id: item for item in corpus.items}
    renamed = (_renamed(sample, source.name, by_id[sample.video_id]) for sample in samples.samples)
    return replace(samples, samples=tuple(renamed))


def _renamed(sample: Sample, source: str, item: CorpusItem) -> Sample:
    """A sample under the name of its source; one of a collection with where it has it from."""
    return replace(
        sample,
        id=f"{source}/{sample.id}",
        pair=f"{source}/{sample.pair}" if sample.pair else None,
        source=_name_of(source, item),
        family=item.family,
        split=item.split,
        method=item.method,
        columns=item.further_columns,
    )


def _name_of(source: str, item: CorpusItem) -> str:
    return f"{source}/{item.origin}" if item.origin else source


def _is_there(source: SourceSettings, root: Path) -> bool:
    return any((root / path).exists() for path in source.paths)


def _path_of(source: SourceSettings, root: Path) -> str:
    """Of a source's paths the first that is there, or the last."""
    return next((path for path in source.paths if (root / path).exists()), source.paths[-1])


def _grouped(item: CorpusItem, pattern: str | None) -> CorpusItem:
    """An item in the group that the pattern finds."""
    match = re.search(pattern, item.video_id) if pattern else None
    return replace(item, group=match.group()) if match else item


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
