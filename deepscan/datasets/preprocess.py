"""Preprocessing: from a corpus to a store of face crops, its manifest and its failures.

The leading process plans, keeps the journal and writes the tables; :func:`process` does the work of one video, in
whatever process an engine runs it. Only the journal decides what is done: a run that was killed goes on where it was.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from deepscan.config import DEFAULT_LIMITS, MediaLimits
from deepscan.datasets.array_jobs import Share
from deepscan.datasets.item_frames import opened_item
from deepscan.datasets.readers.base import Corpus, CorpusItem
from deepscan.datasets.reuse_boxes import reuse_people
from deepscan.datasets.store.archive import StoreError
from deepscan.datasets.store.journal import Journal, JournalEntry, content_sha256, input_stamp, usable_boxes
from deepscan.datasets.store.manifest import (
    Failure,
    ManifestError,
    ManifestRow,
    check_tables,
    read_failures,
    read_manifest,
    write_failures,
    write_manifest,
)
from deepscan.datasets.store.store import StoreSettings, find_store, read_store, write_store
from deepscan.errors import DeepscanError, OutputError
from deepscan.extract.faces.detect import cached_finder
from deepscan.extract.people import Extraction, PeopleSearch, clear_people, nobody_reason
from deepscan.files import remove_marked
from deepscan.processes import Engine, Lost

log = logging.getLogger(__name__)

MANIFEST, FAILURES = "manifest", "failures"
Row = TypeVar("Row", ManifestRow, Failure)


@dataclass(frozen=True, slots=True)
class PreprocessSettings:
    """What a run does.

    Attributes:
        store: how faces are found, cut and kept.
        share: of an array job; by default all the work.
        limits: on the files.
    """

    store: StoreSettings
    share: Share = field(default_factory=Share)
    limits: MediaLimits = DEFAULT_LIMITS


@dataclass(frozen=True, slots=True)
class Task:
    """One video to be done, as it is sent to a worker; ``mark`` is of the run's temporary files.

    ``original`` is what became of the video it was made from, whose boxes may be used.
    """

    item: CorpusItem
    folder: Path
    settings: StoreSettings
    limits: MediaLimits = DEFAULT_LIMITS
    original: JournalEntry | None = None
    mark: str = ""


@dataclass(slots=True)
class Summary:
    """What a run did, for the summary at its end.

    Attributes:
        rows: of the manifest, those of this run's corpus.
        failures: of its videos and of the corpus' metadata.
        n_recalled: videos that an earlier run had done.
        n_failed: videos that could not be read.
        n_crops: face crops in the store, of these videos.
        n_open: videos that were not reached: the run was interrupted.
        wall_s: length of the run.
    """

    rows: list[ManifestRow] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    n_recalled: int = 0
    n_failed: int = 0
    n_crops: int = 0
    n_open: int = 0
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is: ``n_done`` of ``total`` videos, ``recalled`` of these from earlier, ``failed`` of these."""

    total: int
    done: int
    recalled: int
    failed: int
    name: str


def process(task: Task) -> JournalEntry:
    """Do one video: find its people and write them into the store, unless they are there.

    Raises:
        OutputError: the store cannot be written; everything else that goes wrong is the entry's reason.
    """
    item, settings = task.item, task.settings
    boxes = usable_boxes(task.original, settings)
    boxes_sha256 = boxes.sha256 if boxes else None
    stamp = input_stamp(item, boxes)
    without = partial(JournalEntry.without, item, stamp=stamp, settings=settings, boxes_sha256=boxes_sha256)
    sha256 = None
    try:
        sha256 = content_sha256(item, task.limits)
        stored = find_store(task.folder, item, sha256, settings, boxes_sha256=boxes_sha256)
        if stored is None:
            reused = _reused(task, boxes) if boxes else None
            extraction = reused or _extract(task)
            people = clear_people(extraction)
            if not people:
                reason, n_frames = nobody_reason(extraction), extraction.frames_sampled
                return without("skipped", reason, "", sha256=sha256, n_frames=n_frames)
            extraction, fit = replace(extraction, people=people), reused is not None
            write = partial(write_store, boxes_sha256=boxes_sha256, boxes_fit=fit, mark=task.mark)
            stored = read_store(write(task.folder, item, sha256, settings, extraction))
        return JournalEntry.stored(task.folder, item, stamp, stored)
    except OutputError:
        raise
    except StoreError as error:  # of the original: when that has been mended, this one is to be tried again
        return without("failed", error.reason, str(error), sha256=None)
    except DeepscanError as error:
        return without("failed", error.reason, str(error), sha256=sha256)


def preprocess(
    corpus: Corpus,
    folder: Path,
    settings: PreprocessSettings,
    engine: Engine,
    *,
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Do every video that is not done, then write ``manifest.csv`` and ``failures.csv``.

    Rows of other corpora that are in the folder's manifest stay there: several corpora can share a folder. Ctrl-C ends
    the run early; what was done is in the tables and is not done again.

    Args:
        corpus: its items with their splits, and its problems, for ``failures.csv``.
        folder: of the output.
        settings: of the run.
        engine: that runs :func:`process`.
        on_progress: called after every video.

    Raises:
        OutputError: the output cannot be written; what is done stays done.
    """
    start = time.perf_counter()
    suffix = settings.share.suffix
    tables = folder / f"{MANIFEST}{suffix}.csv", folder / f"{FAILURES}{suffix}.csv"
    check_tables(*tables)
    run = _Run([item for item in corpus.items if settings.share.takes(item)], folder, settings, on_progress)
    with Journal(folder, suffix) as journal:
        run.execute(journal, engine)
    summary = run.summary()
    datasets = {item.dataset for item in corpus.items}
    dataset = min(datasets, default="")
    summary.failures += [Failure(dataset, "", p.path.as_posix(), p.reason, p.message) for p in corpus.problems]
    manifest, failures = tables
    kept, kept_failures = _kept_rows(manifest, datasets, read_manifest), _kept_rows(failures, datasets, read_failures)
    write_failures(failures, [*kept_failures, *summary.failures])
    write_manifest(manifest, [*kept, *summary.rows])
    summary.wall_s = time.perf_counter() - start
    return summary


class _Run:
    """The videos of one run and what became of them."""

    def __init__(
        self,
        items: Sequence[CorpusItem],
        folder: Path,
        settings: PreprocessSettings,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._items, self._folder, self._settings = items, folder, settings
        self._on_progress = on_progress
        self._entries: dict[str, JournalEntry] = {}
        self._n_recalled = self._n_failed = 0

    def execute(self, journal: Journal, engine: Engine) -> None:
        """Do what the journal does not know."""
        mark, killed = secrets.token_hex(4), False
        try:
            # Originals first: the fakes made from them may be cut at their boxes.
            for with_original in (False, True):
                wave = [item for item in self._items if (item.original is not None) is with_original]
                for task, result in engine.map(process, self._tasks(wave, journal, mark)):
                    killed |= isinstance(result, Lost)
                    entry = _lost(task, result) if isinstance(result, Lost) else result
                    journal.append(entry)
                    self._add(entry)
        except KeyboardInterrupt:
            log.warning("Interrupted: %d of %d videos are done and stay done.", len(self._entries), len(self._items))
        finally:
            if killed or len(self._entries) < len(self._items):
                remove_marked(self._folder, mark)

    def summary(self) -> Summary:
        """What was done so far."""
        entries = self._entries.values()
        return Summary(
            rows=[entry.row for entry in entries],
            failures=[failure for entry in entries if (failure := entry.failure) is not None],
            n_recalled=self._n_recalled,
            n_failed=self._n_failed,
            n_crops=sum(entry.n_crops for entry in entries),
            n_open=len(self._items) - len(entries),
        )

    def _tasks(self, items: Sequence[CorpusItem], journal: Journal, mark: str) -> list[Task]:
        """The videos that must be looked at; the others are done."""
        store, tasks = self._settings.store, []
        for item in items:
            original = self._entries.get(item.original) if item.original else None
            entry = journal.recall(item, store, original=original)
            if entry is None:
                tasks.append(Task(item, self._folder, store, self._settings.limits, original, mark))
            else:
                self._n_recalled += 1
                self._add(entry)
        return tasks

    def _add(self, entry: JournalEntry) -> None:
        self._entries[entry.row.video_id] = entry
        self._n_failed += entry.failure is not None
        if self._on_progress is not None:
            n_entries, name = len(self._entries), entry.row.video_id
            self._on_progress(Progress(len(self._items), n_entries, self._n_recalled, self._n_failed, name))


def _extract(task: Task) -> Extraction:
    """The people of a video."""
    settings = task.settings
    with opened_item(task.item, settings.frames, task.limits) as source:
        finder = cached_finder(settings.face)
        return PeopleSearch(
            source.media, source.frames, finder, settings.crop, settings.track, close_up=source.stills
        ).run()


def _reused(task: Task, boxes: JournalEntry) -> Extraction | None:
    """The people of a fake at the boxes of its original; None where they do not fit."""
    if boxes.row.store is None:
        return None
    original = read_store(task.folder / boxes.row.store)
    with opened_item(task.item, task.settings.frames, task.limits) as source:
        return reuse_people(source.media, source.frames, original, task.settings)


def _lost(task: Task, lost: Lost) -> JournalEntry:
    """A video that no worker finished. Without a hash it is tried again by the next run."""
    boxes = usable_boxes(task.original, task.settings)
    without = partial(JournalEntry.without, settings=task.settings, boxes_sha256=boxes.sha256 if boxes else None)
    return without(task.item, "failed", lost.reason, f"{task.item.path.name}: {lost.message}", stamp=None, sha256=None)


def _kept_rows(path: Path, datasets: set[str], read: Callable[[Path], list[Row]]) -> list[Row]:
    """The rows of other corpora in a table that is about to be replaced."""
    if not path.exists():
        return []
    try:
        return [row for row in read(path) if row.dataset not in datasets]
    except ManifestError as error:
        log.warning("%s; it is written anew", error)
        return []
