"""Decoding at arm's length: :func:`probe`, :func:`sample_frames` and :func:`file_facts` in a process of their own.

Decoders are large native libraries and the files come from anybody. In a process with limits on time and memory a
decoder that crashes, hangs or takes all memory costs its file and nothing else: that is a
:class:`deepscan.errors.MediaError` with the reason ``decoder_crashed``, ``timeout`` or ``out_of_memory``.

The process is started for the first file and used for many. Each call that is being served has one to itself: several
threads that decode at the same time have one each, of which a few are kept.
"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from deepscan.config import DEFAULT_LIMITS, MediaLimits
from deepscan.errors import MediaError
from deepscan.extract.isolation.pool import DEFAULT_ISOLATION, IsolationLimits, decoders
from deepscan.extract.video import frames
from deepscan.extract.video.container import checked_kind
from deepscan.processes.supervisor import ChildDied
from deepscan.types import Coverage, Frame, MediaInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from deepscan.extract.file_facts.metadata import FileFacts

__all__ = ["DEFAULT_ISOLATION", "IsolationLimits", "file_facts", "live_frames", "prepare", "probe", "sample_frames"]

# Seconds in which a stream has to give a picture.
_STREAM_STALL_S = 30.0


def probe(
    path: Path, limits: MediaLimits = DEFAULT_LIMITS, isolation: IsolationLimits | None = DEFAULT_ISOLATION
) -> MediaInfo:
    """:func:`deepscan.extract.video.frames.probe` in another process; None for ``isolation`` does it in this one.

    Raises:
        MediaError: also with the reason ``decoder_crashed``, ``timeout`` or ``out_of_memory``.
        DeepscanError: no process can be started.
    """
    if isolation is None:
        return frames.probe(path, limits)
    return cast("MediaInfo", _answer(path, "probe", limits, isolation))


def sample_frames(
    path: Path,
    n_frames: int,
    limits: MediaLimits = DEFAULT_LIMITS,
    isolation: IsolationLimits | None = DEFAULT_ISOLATION,
    *,
    nearby_share: float = 0.0,
    examined: Callable[[Coverage], None] | None = None,
) -> Iterator[Frame]:
    """:func:`deepscan.extract.video.frames.sample_frames` in another process; without ``isolation`` in this one.

    The other process decodes up to four frames ahead. Close the iterator if it is not read to its end.

    Raises:
        ValueError, MediaError, DeepscanError: as above, at the same points.
    """
    # This checks the number, and starts when it is iterated.
    here = frames.sample_frames(path, n_frames, limits, nearby_share=nearby_share, examined=examined)
    request = {"do": "sample", "n_frames": n_frames, "nearby_share": nearby_share}
    return here if isolation is None else _sampled(path, request, limits, isolation, examined)


def file_facts(
    path: Path, limits: MediaLimits = DEFAULT_LIMITS, isolation: IsolationLimits | None = DEFAULT_ISOLATION
) -> FileFacts:
    """:func:`deepscan.extract.file_facts.facts.file_facts` in another process; without ``isolation`` in this one.

    Raises:
        MediaError, DeepscanError: as :func:`probe`.
    """
    if isolation is None:
        from deepscan.extract.file_facts import facts

        return facts.file_facts(path, limits)
    return cast("FileFacts", _answer(path, "facts", limits, isolation))


def live_frames(
    source: str,
    every_s: float,
    limits: MediaLimits = DEFAULT_LIMITS,
    isolation: IsolationLimits | None = DEFAULT_ISOLATION,
) -> Iterator[Frame]:
    """:func:`deepscan.extract.video.live.live_frames` in another process; without ``isolation`` in this one.

    Raises:
        MediaError, DeepscanError: as :func:`probe`.
    """
    from deepscan.extract.video import live

    live.check_source(source)
    return (
        live.live_frames(source, every_s, limits) if isolation is None else _watched(source, every_s, limits, isolation)
    )


def _watched(source: str, every_s: float, limits: MediaLimits, isolation: IsolationLimits) -> Iterator[Frame]:
    request = {"do": "live", "source": source, "every_s": every_s, "n_frames": sys.maxsize, "first": 0}
    process = decoders.take(isolation)
    try:
        with closing(process.run(Path(source), request, limits, _STREAM_STALL_S, None)) as answers:
            yield from cast("Iterator[Frame]", answers)
    except ChildDied as death:
        raise _media_error(Path(source), death, replace(isolation, stall_s=_STREAM_STALL_S)) from None
    finally:
        decoders.give_back(process, isolation)


def prepare(isolation: IsolationLimits | None = DEFAULT_ISOLATION) -> None:
    """Start the process now, without waiting for it, so that it is there for the first file.

    Raises:
        DeepscanError: it cannot be started.
    """
    if isolation is not None:
        decoders.prepare(isolation)


def _answer(path: Path, request: str, limits: MediaLimits, isolation: IsolationLimits) -> object:
    checked_kind(path, limits)  # what is no file at all needs no process
    with closing(_responses(path, {"do": request}, limits, isolation)) as items:
        return next(items)


def _sampled(
    path: Path,
    request: dict[str, Any],
    limits: MediaLimits,
    isolation: IsolationLimits,
    examined: Callable[[Coverage], None] | None,
) -> Iterator[Frame]:
    checked_kind(path, limits)
    with closing(_responses(path, request, limits, isolation)) as items:
        for item in items:
            if isinstance(item, Coverage):
                if examined is not None:
                    examined(item)
            else:
                yield cast("Frame", item)


def _responses(
    path: Path, request: dict[str, Any], limits: MediaLimits, isolation: IsolationLimits
) -> Generator[Frame | Coverage | MediaInfo | FileFacts, None, None]:
    """The answers to a request. A crash in a process that had other files before may be theirs: it is tried again."""
    n_items = 0
    while True:
        process = decoders.take(isolation)
        fresh = process.n_files == 0
        try:
            with_first = {**request, "first": n_items}
            with closing(process.run(path, with_first, limits, isolation.stall_s, isolation.total_s)) as items:
                for item in items:
                    n_items += 1
                    yield item
        except ChildDied as death:
            if fresh or death.kind == "timeout":
                raise _media_error(path, death, isolation) from None
        else:
            return
        finally:
            decoders.give_back(process, isolation)


def _media_error(path: Path, death: ChildDied, isolation: IsolationLimits) -> MediaError:
    if death.kind == "timeout":
        seconds = isolation.stall_s if isolation.total_s is None else min(isolation.stall_s, isolation.total_s)
        return MediaError(
            f"{path.name}: takes too long",
            f"its decoder did not get on for {seconds:g} s",
            "The file may be damaged or made to do harm; convert it to mp4 with another program.",
            reason="timeout",
        )
    return MediaError(
        f"{path.name}: cannot be read",
        f"its decoder {death.ending}",
        "The file may be damaged or made to do harm; get it again, or convert it to mp4 with another program.",
        reason="decoder_crashed",
    )
