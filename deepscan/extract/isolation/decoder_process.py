"""One process that decodes for this one: its start, its answers, its end.

What it says is not trusted: lines are bounded and are JSON, sizes are checked before they are used, and nothing that it
sends is run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from deepscan.config import MediaLimits
from deepscan.errors import DeepscanError, MediaError
from deepscan.extract.file_facts.metadata import FileFacts
from deepscan.extract.isolation.shared_memory import SharedArea
from deepscan.processes.worker import FEW_ARENAS, end_of_process, one_line
from deepscan.types import Coverage, Frame, MediaInfo

log = logging.getLogger(__name__)
# Warnings of the other side come out as if the file had been decoded here.
_video_log = logging.getLogger("deepscan.extract.video.frames")

_BOOT = (
    "import json, sys; s = json.loads(sys.argv[1]); sys.path[:] = s['path']; "
    "from deepscan.extract.isolation.decoder_worker import main; main(s)"
)
# A frame's memory is used again for the next one; given back and taken anew, it would be cleared every time.
_MEMORY_VARIABLES = {**FEW_ARENAS, "MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 27)}
_START_S = 60.0
_STOP_S = 2.0
_END_S = 0.5
_MOST_LINE_BYTES = 1 << 16
_MOST_TEXT_CHARS = 4000
_MOST_FACTS_CHARS = 1 << 20
_SLOTS = 4
_SLOTS_BYTES = 1 << 27  # of large frames there are fewer slots; with more than this a process is not kept
_PAGE_BYTES = 1 << 16


class DecoderDied(Exception):  # noqa: N818 - an event; it becomes a MediaError once nothing more can be done
    """The process ended, was ended, or answered nonsense.

    Attributes:
        kind: ``crashed``, ``timeout`` or ``broken``.
        how: the end of a sentence about it.
    """

    def __init__(self, kind: Literal["crashed", "timeout", "broken"], how: str) -> None:
        super().__init__(how)
        self.kind, self.how = kind, how


class DecoderProcess:
    """A process that decodes one file after the other. For one thread at a time.

    Args:
        memory_bytes: of addresses it may use above those it starts with.

    Attributes:
        n_files: that it was given.
    """

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes, self.n_files = memory_bytes, 0
        self._tired = self._timed_out = self._disowned = False
        self._ready = False
        self._started = time.monotonic()
        self._n_asked = 0
        self._slot_bytes = self._n_slots = 0
        self._facts = ""
        self._area = SharedArea()
        settings = {"path": [path or os.getcwd() for path in sys.path], "memory_bytes": memory_bytes}  # noqa: PTH109
        settings["area"] = self._area.handle
        inherited = [self._area.handle] if isinstance(self._area.handle, int) else []
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this program itself
                [sys.executable, "-I", "-c", _BOOT, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if log.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL,
                env={**_MEMORY_VARIABLES, **os.environ, "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=sys.platform != "win32",  # Ctrl-C of the terminal does not reach it
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                **({"pass_fds": inherited} if inherited else {}),  # type: ignore[call-overload]
            )
        except OSError as error:
            self._area.close()
            raise _cannot_start(error.strerror or str(error)) from error
        self._watch = _Watchdog(self._bite)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        """Whether it can be given another file."""
        return not (self._tired or self._disowned) and self._process.poll() is None

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
            DecoderDied: it is of no use any more.
            DeepscanError: it could not be started.
        """
        self._wait_until_ready()
        self.n_files += 1
        self._n_asked += 1
        asked, ended = self._n_asked, False
        n_wanted = request.get("n_frames", 0)
        found: MediaInfo | FileFacts | None = None
        level = logging.getLogger("deepscan").getEffectiveLevel()
        n_next = request.get("first", 0)
        self._facts = ""
        waited_s = 0.0
        try:
            self._send(
                id=asked, path=str(path.absolute()), limits=limits.model_dump(), log_level=max(1, level), **request
            )
            while True:
                start = time.monotonic()
                message = self._receive(stall_s if total_s is None else min(stall_s, total_s - waited_s))
                waited_s += time.monotonic() - start
                if "frame" in message and n_next < n_wanted:
                    frame, slot = self._frame(message["frame"], n_next, limits)
                    self._send(free=slot)
                    n_next += 1
                    yield frame
                elif "coverage" in message and n_wanted:
                    yield self._coverage(message["coverage"])
                elif request["do"] in message and found is None:
                    found = self._found(message, path, limits)
                elif "need" in message:
                    self._grow(message["need"], limits)
                elif "log" in message:
                    self._log(message["log"])
                elif "alive" not in message:
                    ended = True
                    self._tired = message.get("tired") is not False or self._slot_bytes * self._n_slots > _SLOTS_BYTES
                    self._end_of_file(path, message)
                    if found is not None:
                        yield found
                    elif not n_wanted:
                        raise _broken("no answer")
                    return
        except DecoderDied:
            ended = True
            self.end()
            raise
        finally:
            if not ended:
                self._stop(asked)

    def disown(self) -> None:
        """Leave the process to the one that this one was forked from."""
        self._disowned = True
        self._process.returncode = 0  # it is not ours to wait for
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                os.dup2(nothing, stream.fileno())  # not closed: a thread that is not here may hold its lock
        os.close(nothing)

    def end(self) -> None:
        """End the process at once: it has nothing to lose."""
        if self._disowned:
            return
        self._tired = True
        self._watch.stop()
        process = self._process
        process.kill()
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._area.close()
        self._disowned = True

    def _wait_until_ready(self) -> None:
        if self._ready:
            return
        try:
            self._ready = "ready" in self._receive(_START_S - (time.monotonic() - self._started))
        except DecoderDied as death:
            self.end()
            raise _cannot_start(f"it {death.how}") from None

    def _send(self, **message: Any) -> None:
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(OSError):  # it is gone: the next answer, which does not come, tells
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()

    def _receive(self, within_s: float) -> dict[str, Any]:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it is a pipe
        with self._watch.within(within_s):
            line = stdout.readline(_MOST_LINE_BYTES)
        if not line.endswith(b"\n"):
            if len(line) == _MOST_LINE_BYTES:
                raise _broken("a line without an end")
            raise self._death()
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise _broken("what is no JSON") from None
        if not isinstance(message, dict):
            raise _broken("no message")
        return message

    def _death(self) -> DecoderDied:
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return _broken("nothing, but it lives")
        if self._timed_out:
            return DecoderDied("timeout", "did not answer in time")
        return DecoderDied("crashed", end_of_process(code))

    def _bite(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _frame(self, told: Any, index: int, limits: MediaLimits) -> tuple[Frame, int]:
        slot, height, width, time_s, told_index, sought = _fields(told, (int, int, int, float, int, bool))
        n_bytes = height * width * 3
        if not (
            0 <= slot < self._n_slots
            and min(height, width) >= 1
            and height * width <= limits.max_pixels
            and n_bytes <= self._slot_bytes
            and told_index == index
            and math.isfinite(time_s)
        ):
            raise _broken("a frame that cannot be")
        # A copy: what it does with the memory from now on is its own matter.
        image = self._area.array(slot * self._slot_bytes, (height, width, 3)).copy()
        return Frame(image, time_s, index, sought), slot

    def _coverage(self, told: Any) -> Coverage:
        lengths_s = _fields(told, (float, float, float))
        if not all(0 <= length < math.inf for length in lengths_s):
            raise _broken("lengths that cannot be")
        return Coverage(*lengths_s)

    def _media(self, told: Any, path: Path, limits: MediaLimits) -> MediaInfo:
        kind, width, height, duration_s, n_frames, n_others = _fields(
            told, (str, int, int, float | None, int | None, int)
        )
        if (
            kind not in ("video", "image")
            or min(width, height) < 0
            or width * height > limits.max_pixels
            or (duration_s is not None and not math.isfinite(duration_s))
            or min(n_frames or 0, n_others) < 0
        ):
            raise _broken("a file that cannot be")
        return MediaInfo(path, kind, width, height, duration_s, n_frames, n_others)

    def _found(self, message: dict[str, Any], path: Path, limits: MediaLimits) -> MediaInfo | FileFacts | None:
        """The one answer to a request that is not for frames, None while it is not whole."""
        if "probe" in message:
            return self._media(message["probe"], path, limits)
        text, is_last = _fields(message["facts"], (str, bool))
        self._facts += text
        if len(self._facts) > _MOST_FACTS_CHARS:
            raise _broken("facts without an end")
        try:
            return TypeAdapter(FileFacts).validate_json(self._facts, strict=True) if is_last else None
        except ValidationError:
            raise _broken("facts that are none") from None

    def _grow(self, told: Any, limits: MediaLimits) -> None:
        if type(told) is not int or not self._slot_bytes < told <= limits.max_pixels * 3:
            raise _broken("a size that cannot be")
        self._slot_bytes = -(-told // _PAGE_BYTES) * _PAGE_BYTES
        self._n_slots = max(1, min(_SLOTS, _SLOTS_BYTES // self._slot_bytes))
        try:
            self._area.resize(self._slot_bytes * self._n_slots)
        except OSError as error:
            raise DecoderDied("broken", f"cannot be given memory: {error.strerror}") from error
        self._send(slot_bytes=self._slot_bytes, n_slots=self._n_slots)

    def _log(self, told: Any) -> None:
        level, text = _fields(told, (int, str))
        _video_log.log(min(level, logging.WARNING), "%s", text if level <= logging.DEBUG else one_line(text))

    def _end_of_file(self, path: Path, message: dict[str, Any]) -> None:
        """Raises what the last answer on a file says."""
        if "end" in message:
            return
        error = message.get("error")
        if error == "memory":
            self._tired = True
            raise MediaError(
                f"{path.name}: needs too much memory",
                f"decoding it took more than {self.memory_bytes / 2**30:.1f} GiB",
                "Scale it down first.",
                reason="out_of_memory",
            )
        if "failed" in message:
            (text,) = _fields([message["failed"]], (str,))
            raise MediaError(
                f"{path.name}: could not be decoded",
                one_line(f"unexpected {text}"),
                "Run again with --verbose for details.",
                reason="internal",
            )
        what, why, hint, reason = _fields(error, (str, str, str, str))
        if not (reason.isidentifier() and reason.islower()) or sum(map(len, (what, why, hint))) > _MOST_TEXT_CHARS:
            raise _broken("an error that cannot be")
        raise MediaError(what, why, hint, reason=reason)

    def _stop(self, asked: int) -> None:
        """Have it leave the file, whose rest nobody wants; end it where it does not."""
        if self._disowned:
            return
        self._send(stop=asked)
        until = time.monotonic() + _STOP_S
        try:
            while True:
                message = self._receive(until - time.monotonic())
                if "tired" in message:
                    self._tired = message["tired"] is not False
                    return
        except DecoderDied:
            self.end()


class _Watchdog:
    """Calls ``bite``, once, when something takes too long; a thread that sleeps otherwise."""

    def __init__(self, bite: Callable[[], None]) -> None:
        self._bite = bite
        self._changed = threading.Condition()
        self._due: float | None = None
        self._wakes_at: float | None = None
        self._stopped = False
        threading.Thread(target=self._run, name="decoder-watch", daemon=True).start()

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        with self._changed:
            self._due = time.monotonic() + seconds
            if self._wakes_at is None or self._due < self._wakes_at:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._due = None

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                left_s = None if self._due is None else self._due - time.monotonic()
                if left_s is not None and left_s <= 0:
                    self._bite()
                    return
                self._wakes_at = self._due
                self._changed.wait(left_s)


def _fields(told: Any, kinds: tuple[Any, ...]) -> Any:
    """A list's items, of these types; whole numbers count as fractions, truth values not as numbers."""
    if not isinstance(told, list) or len(told) != len(kinds):
        raise _broken("an answer of another length")
    for value, kind in zip(told, kinds, strict=True):
        if isinstance(value, bool) if kind is not bool else not isinstance(value, bool):
            raise _broken("an answer of another type")
        if not isinstance(value, kind):
            raise _broken("an answer of another type")
    return told


def _broken(what: str) -> DecoderDied:
    return DecoderDied("broken", f"sent {what}")


def _cannot_start(why: str) -> DeepscanError:
    return DeepscanError(
        "The process that decodes cannot be started", why, "Close other programs and try again.", reason="no_decoder"
    )
