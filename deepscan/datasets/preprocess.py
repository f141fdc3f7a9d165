"""Preprocessing: from a corpus to a store of face crops, its manifest and its failures.

The leading process plans, keeps the journal and writes the tables; :func:`process` does the work of one video, in
whatever process an engine runs it. Only the journal decides what is done: a run that was killed goes on where it was.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deepscan.config import DEFAULT_LIMITS, FaceSettings, MediaLimits
from deepscan.datasets.readers.base import CorpusItem, Problem
from deepscan.datasets.reuse_boxes import reuse_people
from deepscan.datasets.sources import opened_item
from deepscan.datasets.store.archive import StoreError
from deepscan.datasets.store.journal import Entry, Journal, content_sha256, input_stamp, usable_boxes
from deepscan.datasets.store.manifest import (
    Failure,
    ManifestError,
    ManifestRow,
    Status,
    check_tables,
    read_failures,
    read_manifest,
    write_failures,
    write_manifest,
)
from deepscan.datasets.store.shards import Share
from deepscan.datasets.store.store import StoreSettings, find_store, read_store, write_store
from deepscan.errors import DeepscanError, OutputError
from deepscan.extract.people import Extraction, clear_people, find_people, nobody_reason
from deepscan.files import remove_marked
from deepscan.processes import Engine, Lost

if TYPE_CHECKING:
    from deepscan.extract.faces.detect import FaceFinder

log = logging.getLogger(__name__)

MANIFEST, FAILURES = "manifest", "failures"
Row = TypeVar("Row", ManifestRow, Failure)


@dataclass(frozen=True, slots=True)
class Task:
    """One video to be done, as it is sent to a worker.

    Attributes:
        item: the video.
        folder: of the output.
        settings: of the store.
        limits: on the file.
        original: what became of the video it was made from, whose boxes may be used.
        mark: of the run's temporary files.
    """

    item: CorpusItem
    folder: Path
    settings: StoreSettings
    limits: MediaLimits = DEFAULT_LIMITS
    original: Entry | None = None
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
    """Where a run is: ``done`` of ``total`` videos, ``recalled`` of these from earlier, ``failed`` of these."""

    total: int
    done: int
    recalled: int
    failed: int
    name: str


def process(task: Task) -> Entry:
    """Do one video: find its people and write them into the store, unless they are there.

    Raises:
        OutputError: the store cannot be written; everything else that goes wrong is the entry's reason.
    """
    item, settings = task.item, task.settings
    boxes = usable_boxes(task.original, settings)
    boxes_sha256 = boxes.sha256 if boxes else None
    stamp = input_stamp(item, boxes)
    sha256 = None

    def without(status: Status, reason: str, message: str, n_frames: int = 0) -> Entry:
        return Entry.without(
            item,
            status,
            reason,
            message,
            stamp=stamp,
            sha256=sha256,
            settings=settings,
            boxes_sha256=boxes_sha256,
            n_frames=n_frames,
        )

    try:
        sha256 = content_sha256(item, task.limits)
        stored = find_store(task.folder, item, sha256, settings, boxes_sha256=boxes_sha256)
        if stored is None:
            found = _reused(task, boxes) if boxes else None
            fits = found is not None
            found = found or _extract(task)
            clear = clear_people(found)
            if not clear:
                return without("skipped", nobody_reason(found), "", found.frames_sampled)
            found = replace(found, people=clear)
            path = write_store(
                task.folder,
                item,
                sha256,
                settings,
                found,
                boxes_sha256=boxes_sha256,
                boxes_fit=fits,
                mark=task.mark,
            )
            stored = read_store(path)
        return Entry.stored(task.folder, item, stamp, stored)
    except OutputError:
        raise
    except StoreError as error:  # of the original: when that has been mended, this one is to be tried again
        sha256 = None
        return without("failed", error.reason, str(error))
    except DeepscanError as error:
        return without("failed", error.reason, str(error))


def preprocess(
    items: Sequence[CorpusItem],
    folder: Path,
    settings: StoreSettings,
    engine: Engine,
    *,
    problems: Iterable[Problem] = (),
    share: Share | None = None,
    limits: MediaLimits = DEFAULT_LIMITS,
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Do every video that is not done, then write ``manifest.csv`` and ``failures.csv``.

    Rows of other corpora that are in the folder's manifest stay there: several corpora can share a folder. Ctrl-C ends
    the run early; what was done is in the tables and is not done again.

    Args:
        items: of one corpus, with their splits.
        folder: of the output.
        settings: of the store.
        engine: that runs :func:`process`.
        problems: of the corpus, for ``failures.csv``.
        share: of an array job; all the work when not given.
        limits: on the files.
        on_progress: called after every video.

    Raises:
        OutputError: the output cannot be written; what is done stays done.
    """
    start = time.perf_counter()
    share = share or Share()
    check_tables(folder / f"{MANIFEST}{share.suffix}.csv", folder / f"{FAILURES}{share.suffix}.csv")
    mine = [item for item in items if share.takes(item)]
    summary = Summary(n_open=len(mine))
    mark, killed = secrets.token_hex(4), False
    with Journal(folder, share.suffix) as journal:
        entries: dict[str, Entry] = {}

        def done(entry: Entry, *, recalled: bool = False) -> None:
            entries[entry.row.video_id] = entry
            summary.n_crops += entry.n_crops
            summary.n_recalled += recalled
            summary.n_open -= 1
            summary.n_failed += entry.failure is not None
            if on_progress is not None:
                name = entry.row.video_id
                on_progress(Progress(len(mine), len(entries), summary.n_recalled, summary.n_failed, name))

        try:
            for wave in _waves(mine):
                todo = []
                for item in wave:
                    original = entries.get(item.original) if item.original else None
                    known = journal.recall(item, settings, original=original)
                    if known is None:
                        todo.append(Task(item, folder, settings, limits, original, mark))
                    else:
                        done(known, recalled=True)
                for task, result in engine.map(process, todo):
                    killed |= isinstance(result, Lost)
                    entry = _lost(task, result) if isinstance(result, Lost) else result
                    journal.append(entry)
                    done(entry)
        except KeyboardInterrupt:
            log.warning("Interrupted: %d of %d videos are done and stay done.", len(entries), len(mine))
        finally:
            if killed or summary.n_open:
                remove_marked(folder, mark)
    _conclude(folder, share, {item.dataset for item in items}, list(entries.values()), problems, summary)
    summary.wall_s = time.perf_counter() - start
    return summary


def _waves(items: Sequence[CorpusItem]) -> Iterator[Sequence[CorpusItem]]:
    """Originals first: the fakes made from them may be cut at their boxes."""
    yield [item for item in items if item.original is None]
    yield [item for item in items if item.original is not None]


def _extract(task: Task) -> Extraction:
    """The people of a video."""
    settings = task.settings
    with opened_item(task.item, settings.frames, task.limits) as source:
        finder = _finder(settings.face)
        return find_people(source.media, source.frames, finder, settings.crop, settings.track, close_up=source.stills)


def _reused(task: Task, boxes: Entry) -> Extraction | None:
    """The people of a fake at the boxes of its original; None where they do not fit."""
    if boxes.row.store is None:
        return None
    original = read_store(task.folder / boxes.row.store)
    with opened_item(task.item, task.settings.frames, task.limits) as source:
        return reuse_people(source.media, source.frames, original, task.settings)


@lru_cache(maxsize=1)
def _finder(settings: FaceSettings) -> FaceFinder:
    """One a process: its networks are loaded once."""
    from deepscan.extract.faces.detect import FaceFinder

    return FaceFinder(settings)


def _lost(task: Task, lost: Lost) -> Entry:
    """A video that no worker finished. Without a hash it is tried again by the next run."""
    boxes = usable_boxes(task.original, task.settings)
    return Entry.without(
        task.item,
        "failed",
        lost.reason,
        f"{task.item.path.name}: {lost.message}",
        stamp=None,
        sha256=None,
        settings=task.settings,
        boxes_sha256=boxes.sha256 if boxes else None,
    )


def _conclude(
    folder: Path,
    share: Share,
    datasets: set[str],
    entries: list[Entry],
    problems: Iterable[Problem],
    summary: Summary,
) -> None:
    """Write the tables."""
    summary.rows = [entry.row for entry in entries]
    failed = [failure for entry in entries if (failure := entry.failure) is not None]
    dataset = min(datasets, default="")
    failed += [Failure(dataset, "", p.path.as_posix(), p.reason, p.message) for p in problems]
    summary.failures = failed
    kept = _others(folder / f"{MANIFEST}{share.suffix}.csv", datasets, read_manifest)
    kept_failures = _others(folder / f"{FAILURES}{share.suffix}.csv", datasets, read_failures)
    write_failures(folder / f"{FAILURES}{share.suffix}.csv", [*kept_failures, *failed])
    write_manifest(folder / f"{MANIFEST}{share.suffix}.csv", [*kept, *summary.rows])


def _others(path: Path, datasets: set[str], read: Callable[[Path], list[Row]]) -> list[Row]:
    """The rows of other corpora in a table that is about to be replaced."""
    if not path.exists():
        return []
    try:
        return [row for row in read(path) if row.dataset not in datasets]
    except ManifestError as error:
        log.warning("%s; it is written anew", error)
        return []
