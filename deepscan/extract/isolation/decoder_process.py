"""One process that decodes for this one: its requests and its answers.

What it says is not trusted: lines are bounded and checked, sizes are checked before they are used, and nothing that it
sends is run.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from deepscan.config import MediaLimits
from deepscan.errors import DeepscanError, MediaError
from deepscan.extract.file_facts.metadata import FileFacts
from deepscan.extract.isolation.messages import MAX_LINE_BYTES, Reply
from deepscan.extract.isolation.shared_memory import SharedArea
from deepscan.processes.supervisor import FEW_ARENAS, ChildDied, ChildProcess, one_line
from deepscan.types import Coverage, Frame, MediaInfo

log = logging.getLogger(__name__)
# Warnings of the other side come out as if the file had been decoded here.
_video_log = logging.getLogger("deepscan.extract.video.frames")

TARGET = "deepscan.extract.isolation.decoder_worker:main"
# A frame's memory is used again for the next one; given back and taken anew, it would be cleared every time.
_VARIABLES = {**FEW_ARENAS, "MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 27)}
_START_S = 60.0
_STOP_S = 2.0
_MOST_FACTS_CHARS = 1 << 20
_SLOTS = 4
_SLOTS_BYTES = 1 << 27  # of large frames there are fewer slots; with more than this a process is not kept
_PAGE_BYTES = 1 << 16


class DecoderProcess:
    """A process that decodes one file after the other. For one thread at a time.

    Args:
        memory_bytes: of addresses it may use above those it starts with.

    Attributes:
        n_files: that it was given.

    Raises:
        DeepscanError: it cannot be started.
    """

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes, self.n_files = memory_bytes, 0
        self._is_tired = False
        self._slot_bytes = self._n_slots = 0
        self._facts = ""
        self._area = SharedArea()
        try:
            self._child = ChildProcess(
                TARGET,
                {"memory_bytes": memory_bytes, "area": self._area.handle},
                variables={**{name: os.environ.get(name, value) for name, value in _VARIABLES.items()},
                           "OPENBLAS_NUM_THREADS": "1"},
                inherited=[self._area.handle] if isinstance(self._area.handle, int) else [],
                is_quiet=not log.isEnabledFor(logging.DEBUG),
            )  # fmt: skip
        except OSError as error:
            self._area.close()
            raise _cannot_start(error.strerror or str(error)) from error

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_usable(self) -> bool:
        """Whether it can be given another file."""
        return not self._is_tired and self._child.is_alive

    def run(
        self, path: Path, request: dict[str, Any], limits: MediaLimits, stall_s: float, total_s: float | None
    ) -> Generator[Frame | Coverage | MediaInfo | FileFacts, None, None]:
        """What the process answers to a request; closing this early leaves it usable.

        Args:
            path: of the file.
            request: ``do`` and what belongs to it.
            limits: on the file.
            stall_s: seconds in which something must happen.
            total_s: seconds in all that may be waited for it; None for any.

        Raises:
            MediaError: what the process raised.
            ChildDied: it is of no use any more.
            DeepscanError: it could not be started.
        """
        self._wait_until_ready()
        self.n_files += 1
        number, self._facts = self.n_files, ""
        n_wanted, n_next = request.get("n_frames", 0), request.get("first", 0)
        result: MediaInfo | FileFacts | None = None
        is_over = False
        try:
            self._request(number, path, limits, request)
            for reply in self._replies(stall_s, total_s):
                if reply.is_last:
                    is_over = True
                    self._is_tired = reply.tired or self._slot_bytes * self._n_slots > _SLOTS_BYTES
                    self._check_end(path, reply)
                    if result is not None:
                        yield result
                    elif not n_wanted:
                        raise _broken("no answer")
                    return
                if reply.frame is not None and n_next < n_wanted:
                    frame = self._frame(reply.frame, n_next, limits)
                    self._send(free=reply.frame[0])
                    n_next += 1
                    yield frame
                elif reply.coverage is not None and n_wanted:
                    yield Coverage(*reply.coverage)
                elif reply.need is not None:
                    self._grow(reply.need, limits)
                elif result is None:
                    result = self._result(reply, request["do"], path, limits)
                else:
                    raise _broken("more than was asked for")
        except ChildDied:
            is_over = True
            self.end()
            raise
        finally:
            if not is_over:
                self._stop(number)

    def disown(self) -> None:
        """Leave the process to the one that this one was forked from."""
        self._child.disown()

    def end(self) -> None:
        """End the process at once: it has nothing to lose."""
        if self._child.is_over:
            return
        self._child.end()
        self._area.close()

    def _wait_until_ready(self) -> None:
        try:
            self._child.wait_until_ready(_START_S)
        except ChildDied as death:
            self.end()
            raise _cannot_start(f"it {death.ending}") from None

    def _request(self, number: int, path: Path, limits: MediaLimits, request: dict[str, Any]) -> None:
        level = max(1, logging.getLogger("deepscan").getEffectiveLevel())
        self._send(id=number, path=str(path.absolute()), limits=limits.model_dump(), log_level=level, **request)

    def _send(self, **message: Any) -> None:
        self._child.send(json.dumps(message).encode() + b"\n")

    def _receive(self, within_s: float) -> Reply:
        line = self._child.read_line(MAX_LINE_BYTES, within_s)
        try:
            return Reply.model_validate_json(line)
        except ValidationError:
            raise _broken("what is no answer") from None

    def _replies(self, stall_s: float, total_s: float | None) -> Iterator[Reply]:
        """Those that are for somebody else, up to the last one on a file."""
        waited_s = 0.0
        while True:
            start = time.monotonic()
            reply = self._receive(stall_s if total_s is None else min(stall_s, total_s - waited_s))
            waited_s += time.monotonic() - start
            if reply.log is not None:
                level, text = reply.log
                _video_log.log(min(level, logging.WARNING), "%s", text if level <= logging.DEBUG else one_line(text))
            elif not reply.alive:
                yield reply

    def _frame(self, fields: tuple[int, int, int, float, int, bool, float], index: int, limits: MediaLimits) -> Frame:
        slot, height, width, time_s, reply_index, sought, shift_s = fields
        n_bytes = height * width * 3
        if (
            slot >= self._n_slots
            or height * width > limits.max_pixels
            or n_bytes > self._slot_bytes
            or reply_index != index
        ):
            raise _broken("a frame that cannot be")
        # A copy: what it does with the memory from now on is its own matter.
        image = self._area.array(slot * self._slot_bytes, (height, width, 3)).copy()
        return Frame(image, time_s, index, sought, shift_s)

    def _result(self, reply: Reply, request: str, path: Path, limits: MediaLimits) -> MediaInfo | FileFacts | None:
        """The one answer to a request that is not for frames, None while it is not whole."""
        if request == "probe" and reply.probe is not None:
            kind, width, height, duration_s, n_frames, other_pictures, jpeg_table = reply.probe
            if width * height > limits.max_pixels:
                raise _broken("a file that cannot be")
            table = None if jpeg_table is None else tuple(jpeg_table)
            return MediaInfo(path, kind, width, height, duration_s, n_frames, other_pictures, table)
        if request != "facts" or reply.facts is None:
            raise _broken("another answer")
        text, is_last = reply.facts
        self._facts += text
        if len(self._facts) > _MOST_FACTS_CHARS:
            raise _broken("facts without an end")
        try:
            return TypeAdapter(FileFacts).validate_json(self._facts, strict=True) if is_last else None
        except ValidationError:
            raise _broken("facts that are none") from None

    def _grow(self, n_bytes: int, limits: MediaLimits) -> None:
        if not self._slot_bytes < n_bytes <= limits.max_pixels * 3:
            raise _broken("a size that cannot be")
        self._slot_bytes = -(-n_bytes // _PAGE_BYTES) * _PAGE_BYTES
        self._n_slots = max(1, min(_SLOTS, _SLOTS_BYTES // self._slot_bytes))
        try:
            self._area.resize(self._slot_bytes * self._n_slots)
        except OSError as error:
            raise ChildDied("broken", f"cannot be given memory: {error.strerror}") from error
        self._send(slot_bytes=self._slot_bytes, n_slots=self._n_slots)

    def _check_end(self, path: Path, reply: Reply) -> None:
        """Raises what the last answer on a file says."""
        if reply.error == "memory":
            self._is_tired = True
            raise MediaError(
                f"{path.name}: needs too much memory",
                f"decoding it took more than {self.memory_bytes / 2**30:.1f} GiB",
                "Scale it down first.",
                reason="out_of_memory",
            )
        if reply.failed is not None:
            raise MediaError(
                f"{path.name}: could not be decoded",
                one_line(f"unexpected {reply.failed}"),
                "Run again with --verbose for details.",
                reason="internal",
            )
        if reply.error is not None:
            problem, cause, hint, reason = reply.error
            raise MediaError(problem, cause, hint, reason=reason)

    def _stop(self, number: int) -> None:
        """Have it leave the file, whose rest nobody wants; end it where it does not."""
        if not self._child.is_alive:
            return
        self._send(stop=number)
        until = time.monotonic() + _STOP_S
        try:
            while not (reply := self._receive(until - time.monotonic())).is_last:
                pass
            self._is_tired = reply.tired
        except ChildDied:
            self.end()


def _broken(problem: str) -> ChildDied:
    return ChildDied("broken", f"sent {problem}")


def _cannot_start(cause: str) -> DeepscanError:
    return DeepscanError(
        "The process that decodes cannot be started", cause, "Close other programs and try again.", reason="no_decoder"
    )
