"""The data of an evaluation or a training in whatever form it is given: stores as they are, anything else preprocessed.

Below the cache folder is one folder for each set of extraction settings, and in it one store for each corpus. They are
kept: a second evaluation decodes nothing, and one that was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepscan.config import CropSettings, PredictSettings
from deepscan.datasets.dataset import SampleSet, is_store, pool, read_samples
from deepscan.datasets.store.packs import Pack, make_pack
from deepscan.datasets.store.store import StoreSettings, recipe
from deepscan.errors import ConfigError

if TYPE_CHECKING:
    from deepscan.datasets.preprocess import Progress
    from deepscan.datasets.readers import Corpus, CorpusItem, Split
    from deepscan.processes import Engine

DEFAULT_CACHE = Path(".deepscan-cache")

_TIME_LIMIT_S = 600.0  # for one video, as deepscan preprocess has it


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

    def make_store(self, corpus: Corpus, folder: Path, settings: StoreSettings) -> None:
        """Preprocess a corpus as ``deepscan preprocess`` does; what is done already is not done again.

        Raises:
            DeepscanError: the store cannot be written.
            KeyboardInterrupt: it was interrupted; what is done stays done.
        """
        from deepscan.datasets.preprocess import PreprocessSettings, preprocess

        with self._engine(corpus, folder) as engine:
            summary = preprocess(corpus, folder, PreprocessSettings(settings), engine, on_progress=self.on_progress)
        if summary.n_open:
            # Figures of a part would be taken for those of the whole.
            raise KeyboardInterrupt

    def make_pack(self, corpus: Corpus, folder: Path, settings: StoreSettings) -> Pack:
        """Pack a corpus of pictures; raises as :func:`deepscan.datasets.store.packs.make_pack`."""
        from deepscan.datasets.preprocess import Progress

        def report(n_done: int, total: int) -> None:
            if self.on_progress is not None:
                self.on_progress(Progress(total, n_done, 0, 0, corpus.root.name))

        folder.mkdir(parents=True, exist_ok=True)
        with self._engine(corpus, folder) as engine:
            return make_pack(corpus.items, folder, settings, engine, on_progress=report)

    @contextmanager
    def _engine(self, corpus: Corpus, folder: Path) -> Iterator[Engine]:
        from deepscan.datasets.readers import log_problems
        from deepscan.processes import create_engine

        log_problems(corpus)
        if self.on_start is not None:
            self.on_start(corpus.root, folder)
        with create_engine("local", jobs=self.jobs, time_limit_s=_TIME_LIMIT_S) as engine:
            yield engine


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
    settings = StoreSettings(frames=predict.frames, face=predict.face, track=predict.track, crop=crop)
    sets = []
    for path in dict.fromkeys(paths):
        store = path if is_store(path) else _prepared(path, settings, split, preparation or Preparation())
        samples = read_samples(store)
        if check:
            check_rule(samples.crop, crop, str(path))
        sets.append(samples)
    pooled = pool(sets)
    return pooled.split(split) if split else pooled


def cache_folder(cache: Path, settings: StoreSettings, prefix: str | None = None) -> Path:
    """Where stores of these settings are kept; ``prefix`` stands for the number of frames."""
    start = f"{settings.frames}x" if prefix is None else prefix
    return cache / f"{start}{settings.crop.size_px}px-{recipe(settings)[:8]}"


def items_of(corpus: Corpus, split: Split | None, *, divide: bool = False) -> list[CorpusItem]:
    """The items of a corpus, or of one split of it: its own, else those that ``deepscan preprocess`` would give.

    Args:
        corpus: of which.
        split: only this one.
        divide: give splits also where no split is asked for.

    Raises:
        ConfigError: there is nothing in this split.
    """
    from deepscan.datasets.splits import assign_splits, check_groups

    items = list(corpus.items)
    if split or divide:
        check_groups(items)
        if any(item.split is None for item in items):
            items = assign_splits(items)
        items = [item for item in items if split in (None, item.split)]
        if not items:
            raise ConfigError(
                f"{corpus.root} has nothing in split {split!r}", hint="Leave --split out to take everything."
            )
    return items


def corpus_items(path: Path, split: Split | None = None) -> list[CorpusItem]:
    """The files of a corpus, as they are.

    Raises:
        ConfigError: it is a store, which has crops alone, or there is nothing in this split.
        MediaError: nothing in it can be used.
    """
    from deepscan.datasets.readers import log_problems, read_corpus

    if is_store(path):
        raise ConfigError(
            f"{path} is a store", "it has crops, and files are needed", "Give the corpus it was made from."
        )
    corpus = read_corpus(path)
    log_problems(corpus)
    return items_of(corpus, split)


def _prepared(path: Path, settings: StoreSettings, split: Split | None, preparation: Preparation) -> Path:
    """The store in the cache that a corpus, or one split of it, is preprocessed into."""
    from deepscan.datasets.readers import read_corpus

    if not path.exists():
        raise ConfigError(f"{path} cannot be read", "there is no such file or folder", "Check --data.")
    digest = hashlib.sha256(str(path.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    folder = cache_folder(preparation.cache, settings) / f"{path.resolve().name}-{digest}"
    corpus = read_corpus(path)
    items = items_of(corpus, split, divide=preparation.divide)
    preparation.make_store(replace(corpus, items=tuple(items)), folder, settings)
    return folder


def widest_like(crop: CropSettings, crops: Iterable[CropSettings]) -> CropSettings:
    """The largest of the crop rules that are ``crop`` apart from their size: one store then serves all of them."""
    return max((crop, *(other for other in crops if crop.same_but_size(other))), key=lambda other: other.size_px)


def check_rule(stored: CropSettings, required: CropSettings, name: str) -> None:
    """Refuse crops that a detector was not made for; larger ones will do, they are resized.

    Args:
        stored: the rule that the crops were cut by.
        required: that of the detector.
        name: of the data, for the message.

    Raises:
        ConfigError: margin, shift or alignment differ, or the crops are too small.
    """
    same = stored.same_but_size(required)
    if same and stored.size_px >= required.size_px:
        return
    raise ConfigError(
        f"{name} has crops that are too small" if same else f"{name} was cut by another rule than the model needs",
        f"it has {stored.text}; the model needs {required.text}",
        "Give the videos themselves, or preprocess them with the model's settings.",
    )
