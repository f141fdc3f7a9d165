"""The process that decodes: what runs on the other side of :mod:`deepscan.extract.isolation.client`.

It reads requests from its input and writes answers to its output, each a line of JSON; the pixels go through memory
that both sides share. It imports only what decoding needs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from deepscan.config import MediaLimits
from deepscan.errors import MediaError
from deepscan.extract.isolation.shared_memory import SharedArea
from deepscan.extract.video import frames
from deepscan.extract.video.container import on_packet
from deepscan.processes.child import Parent
from deepscan.types import Coverage, Frame

Message = dict[str, Any]

_ALIVE_EVERY_S = 1.0
_MOST_LOGS = 50  # of one file
_PART_CHARS = 10_000
# From here on a failure is put down to the lack of memory.
_MEMORY_IS_SHORT = 0.75


class _Stopped(BaseException):
    """Nobody wants the rest of this file."""


class Link:
    """The line to the parent."""

    def __init__(self) -> None:
        self._stopped_id = self._id = -1
        self._sent_at = 0.0
        self.parent: Parent[Message] = Parent(self._read, self._note_stop)

    def send(self, **message: Any) -> None:
        self._sent_at = time.monotonic()
        self.parent.send(json.dumps(message).encode() + b"\n")

    def next_request(self) -> Message:
        while True:
            message = self.parent.receive()
            if "do" in message:
                self._id = message["id"]
                return message
            # What was still on its way when the last one ended.

    def check(self) -> None:
        """Say now and then that there is progress; ends the work on a file that nobody wants."""
        if self._stopped_id == self._id:
            raise _Stopped
        if time.monotonic() - self._sent_at > _ALIVE_EVERY_S:
            self.send(alive=True)

    @staticmethod
    def _read(file: BinaryIO) -> Message | None:
        line = file.readline()
        return json.loads(line) if line else None

    def _note_stop(self, message: Message) -> None:
        self._stopped_id = message.get("stop", self._stopped_id)


class _Slots:
    """Where frames go: the shared area, in equal parts."""

    def __init__(self, link: Link, area: SharedArea) -> None:
        self._link, self._area = link, area
        self._slot_bytes = self._n_slots = 0
        self._free: list[int] = []

    def reset(self) -> None:
        """All are free: a new request means that the parent has taken what it wanted."""
        self._free = list(range(self._n_slots))

    def put(self, frame: Frame) -> int:
        """Copy a frame into a free slot, when there is one; gives the slot."""
        n_bytes = frame.image.nbytes
        if n_bytes > self._slot_bytes:
            self._link.send(need=n_bytes)
            self._wait_for("slot_bytes")
        while not self._free:
            self._wait_for("free")
        slot = self._free.pop()
        self._area.array(slot * self._slot_bytes, frame.image.shape)[:] = frame.image
        return slot

    def _wait_for(self, key: str) -> None:
        while True:
            message = self._link.parent.receive()
            self._link.check()
            if "free" in message:
                self._free.append(message["free"])
            elif "slot_bytes" in message:
                self._slot_bytes, self._n_slots = message["slot_bytes"], message["n_slots"]
                self._area.remap(self._slot_bytes * self._n_slots)
                self.reset()
            if key in message:
                return


class _LogLines(logging.Handler):
    """Sends log records to the parent."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self.n_left = _MOST_LOGS

    def emit(self, record: logging.LogRecord) -> None:
        if self.n_left > 0:
            self.n_left -= 1
            self._link.send(log=[record.levelno, record.getMessage()])


class _Memory:
    """The limit on the address space, and how near it this process came.

    Args:
        n_bytes: allowed above what it has now.
    """

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        self._start = _status_bytes("VmSize")
        if self._start:
            _limit("RLIMIT_AS", self._start + n_bytes)

    @property
    def is_short(self) -> bool:
        return bool(self._start) and _status_bytes("VmPeak") - self._start > _MEMORY_IS_SHORT * self._n_bytes

    def is_to_blame_for(self, error: BaseException) -> bool:
        """Whether a failure is one of memory; FFmpeg also says so of files that claim nonsense."""
        import av

        causes = list(_causes(error))
        if any(_is_lack_of_memory(cause) and not isinstance(cause, av.FFmpegError) for cause in causes):
            return True
        return self.is_short and (not isinstance(error, MediaError) or error.reason == "unreadable")


def _is_lack_of_memory(error: BaseException) -> bool:
    """Also of the system's, where memory that is shared is to be mapped."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _status_bytes(name: str) -> int:
    """A figure of /proc/self/status, 0 where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def _limit(name: str, value: int) -> None:
    """Lower a limit on this process, where the system has it."""
    if sys.platform == "win32":
        return
    import resource

    with contextlib.suppress(OSError, ValueError, AttributeError):
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def main(settings: Mapping[str, Any]) -> None:
    """Serve the parent until it is gone.

    Args:
        settings: ``area``, the handle of the shared memory, and ``memory_bytes``.
    """
    link = Link()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # it goes first, not the parent
    memory = _Memory(settings["memory_bytes"])
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_FSIZE", 0)
    logs = _LogLines(link)
    logger = logging.getLogger("deepscan")
    logger.handlers[:], logger.propagate = [logs], False
    slots = _Slots(link, SharedArea(settings["area"]))
    on_packet.set(link.check)
    link.parent.ready()
    while True:
        request = link.next_request()
        slots.reset()
        logs.n_left = _MOST_LOGS
        logger.setLevel(request["log_level"])
        reply: Message = {"end": True}
        try:
            serve(request, link, slots)
        except _Stopped:
            pass
        except (MediaError, MemoryError) as error:
            reply = {"error": _error(error, memory)}
        except Exception as error:  # noqa: BLE001 - the parent tells of it
            short = memory.is_to_blame_for(error)
            reply = {"error": "memory"} if short else {"failed": f"{type(error).__name__}: {error}"[:300]}
            link.send(log=[logging.DEBUG, traceback.format_exc()[-3000:]])
        link.send(**reply, tired=memory.is_short)


def serve(request: Message, link: Link, slots: _Slots) -> None:
    """Answer one request."""
    path, limits = Path(request["path"]), MediaLimits.model_validate(request["limits"])
    if request["do"] == "probe":
        media = frames.probe(path, limits)
        link.send(
            probe=[
                media.kind,
                media.width_px,
                media.height_px,
                media.duration_s,
                media.n_frames,
                media.other_pictures,
                media.jpeg_table,
            ]
        )
        return
    if request["do"] == "facts":
        from deepscan.extract.file_facts.facts import file_facts

        text = json.dumps(asdict(file_facts(path, limits)))
        for start in range(0, len(text), _PART_CHARS):
            link.send(facts=[text[start : start + _PART_CHARS], start + _PART_CHARS >= len(text)])
        return

    def examined(coverage: Coverage) -> None:
        link.send(coverage=[coverage.duration_s, coverage.damaged_s, coverage.cut_off_s])

    if request["do"] == "live":
        from deepscan.extract.video.live import live_frames

        sampled = live_frames(request["source"], request["every_s"], limits)
    else:
        share = request["nearby_share"]
        sampled = frames.sample_frames(path, request["n_frames"], limits, nearby_share=share, examined=examined)
    with contextlib.closing(sampled):  # type: ignore[type-var]
        for frame in sampled:
            link.check()
            if frame.index < request["first"]:
                continue
            slot = slots.put(frame)
            height, width = frame.image.shape[:2]
            link.send(frame=[slot, height, width, frame.time_s, frame.index, frame.sought, frame.shift_s])


def _error(error: MediaError | MemoryError, memory: _Memory) -> Any:
    if isinstance(error, MemoryError) or memory.is_to_blame_for(error):
        return "memory"
    return [error.problem, error.cause, error.hint, error.reason]
