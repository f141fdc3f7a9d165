"""Files in, searched and scored files out: decoding, detection and scoring at the same time.

A thread decodes, one looks for faces and follows them, and whoever iterates scores the crops, which are gathered into
whole batches across files. What is scored together depends on the order of the files alone, never on which thread was
quicker: the same files give the same numbers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepscan.errors import DeepscanError
from deepscan.extract.in_memory import InMemory
from deepscan.extract.people import Extraction, PeopleSearch
from deepscan.extract.pictures import CropKey
from deepscan.models.scorer import Features, Scorer
from deepscan.processes.prefetch import ahead
from deepscan.types import RgbImage

# Frames' worth of crops that may wait to be scored: some megabytes, and time for two batches.
_CUTS_AHEAD = 32


@dataclass(slots=True)
class Searched:
    """One file that was looked through.

    Attributes:
        path: of the file, as it was given, or what is in memory.
        start: of the work on it, by ``time.perf_counter``.
        extraction: of it; None where it failed.
        sha256: of its content; None where it failed.
        error: what failed.
        features: of every crop.
        score_s: seconds that its share of the batches took.
    """

    path: Path | InMemory
    start: float
    extraction: Extraction | None = None
    sha256: str | None = None
    error: Exception | None = None
    features: dict[CropKey, Features] = field(default_factory=dict)
    score_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Cut:
    """A crop that is to be scored, and whose it is."""

    file: Searched
    key: CropKey
    crop: RgbImage


def search_and_score(
    inputs: Iterable[tuple[Path | InMemory, DeepscanError | None]],
    search: Callable[[Path | InMemory], PeopleSearch],
    sha256: Callable[[Path | InMemory], str | None],
    scorer: Scorer,
) -> Iterator[Searched]:
    """Look through files and compute the features of all crops.

    A file that gives a whole batch or more is done by its own end. Those that give less, pictures say, wait for each
    other until a batch is full; the last ones for the end.

    Args:
        inputs: files, or what is wrong with them already; taken as they are needed, in another thread.
        search: opens a file.
        sha256: of a file's content, once it has been looked through.
        scorer: of the crops.

    Yields:
        The files in their order, those that failed too.

    Raises:
        DeepscanError: ``inputs`` raised it; the files before have come out.
    """
    waiting: deque[Searched] = deque()  # looked through, with crops that are not scored
    cuts: list[_Cut] = []
    failure: DeepscanError | None = None
    events = ahead(lambda: _events(inputs, search, sha256), _CUTS_AHEAD, "search")
    n_of_file = 0
    try:
        while (event := next(events, None)) is not None:
            if isinstance(event, _Cut):
                cuts.append(event)
                n_of_file += 1
                if len(cuts) == scorer.crops_per_batch:
                    _score(cuts, scorer)
                continue
            waiting.append(event)
            if n_of_file >= scorer.crops_per_batch:
                _score(cuts, scorer)
            n_of_file = 0
            unscored = {id(cut.file) for cut in cuts}
            while waiting and id(waiting[0]) not in unscored:
                yield waiting.popleft()
    except DeepscanError as error:
        failure = error
    finally:
        events.close()
    _score(cuts, scorer)
    yield from waiting
    if failure is not None:
        raise failure


def _events(
    inputs: Iterable[tuple[Path | InMemory, DeepscanError | None]],
    search: Callable[[Path | InMemory], PeopleSearch],
    sha256: Callable[[Path | InMemory], str | None],
) -> Iterator[_Cut | Searched]:
    """The crops of each file as they are found, then the file."""
    for path, result in inputs:
        file = Searched(path, time.perf_counter(), error=result)
        if result is not None:
            yield file
            continue
        try:
            people = search(path)
            # Of an hour's video it takes as long as a batch of faces.
            digest = _in_background(lambda path=path: sha256(path))  # type: ignore[misc]
            for crops in people.look():
                for key, crop in crops.items():
                    yield _Cut(file, key, crop)
            file.sha256 = digest.result()
            file.extraction = people.finish()
        except Exception as error:  # noqa: BLE001 - it is the file's result
            file.error, file.extraction = error, None
        yield file


def _in_background(work: Callable[[], str | None]) -> Future[str | None]:
    """What is computed in a thread that no exit waits for."""
    future: Future[str | None] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - it is raised where the result is taken
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="digest").start()
    return future


def _score(cuts: list[_Cut], scorer: Scorer) -> None:
    """Give the crops' features to their files, and forget the crops."""
    if not cuts:
        return
    start = time.perf_counter()
    try:
        features = scorer.features(np.stack([cut.crop for cut in cuts]))
    except Exception as error:  # noqa: BLE001 - it is the files' result
        for cut in cuts:
            cut.file.error = error
    else:
        share_s = (time.perf_counter() - start) / len(cuts)
        for cut, track_features in zip(cuts, features, strict=True):
            cut.file.features[cut.key] = track_features
            cut.file.score_s += share_s
    cuts.clear()
