"""One supervised child process, seen from its parent: started, spoken with over pipes, watched, ended with its family.

Engines' workers and the decoder are such children; :mod:`deepscan.processes.child` is the other side. What a child
sends is bytes, and is waited for no longer than is said. A child ends when its parent is gone, however that ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

# glibc reserves 64 MB of addresses for each arena, several for every core.
FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
MAX_MESSAGE_CHARS = 300
_BOOT = (
    "import json, sys; from importlib import import_module; s = json.loads(sys.argv[1]); sys.path[:] = s.pop('path'); "
    "module, _, function = s.pop('target').partition(':'); getattr(import_module(module), function)(s)"
)
_END_S = 0.5  # in which a process that closed its pipe is to end
_MOST_READY_BYTES = 4096

_starts_allowed = True
_refused_starts = 0


class ChildDied(Exception):  # noqa: N818 - an event; whoever gave it work says what it means
    """A child process ended, was ended, or answered nonsense; it is of no use any more.

    Attributes:
        kind: ``crashed``, ``timeout`` or ``broken``.
        ending: the end of a sentence about it.
        exit_code: where it ended by itself; below 0 the signal.
    """

    def __init__(
        self, kind: Literal["crashed", "timeout", "broken"], ending: str, exit_code: int | None = None
    ) -> None:
        super().__init__(ending)
        self.kind, self.ending, self.exit_code = kind, ending, exit_code


class ChildProcess:
    """A Python process that runs one function. One thread at a time talks to it; any may end it.

    Args:
        target: ``module:function``, called with ``settings`` in the child; it calls
            :meth:`deepscan.processes.child.Parent.ready` when it is up.
        settings: what JSON can hold.
        variables: of the environment, beside those of this process.
        inherited: file descriptors that the child keeps (not on Windows).
        flags: of the interpreter.
        is_quiet: what the child and its libraries print goes nowhere, not to stderr.

    Attributes:
        is_over: it was ended or disowned.

    Raises:
        OSError: it cannot be started.
        RuntimeError: this process is a child that imports the main module of its parent.
    """

    def __init__(
        self,
        target: str,
        settings: Mapping[str, Any],
        *,
        variables: Mapping[str, str],
        inherited: Sequence[int] = (),
        flags: Sequence[str] = ("-I",),
        is_quiet: bool = False,
    ) -> None:
        _check_starts_allowed()
        path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109 - as text
        self._is_ready = self._timed_out = self.is_over = False
        self._process = subprocess.Popen(  # noqa: S603 - this program itself
            [sys.executable, *flags, "-c", _BOOT, json.dumps({**settings, "path": path, "target": target})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if is_quiet else None,
            env={**os.environ, **variables},
            start_new_session=sys.platform != "win32",  # Ctrl-C of the terminal does not reach it
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            **({"pass_fds": inherited} if inherited else {}),  # type: ignore[call-overload]
        )
        self._started = time.monotonic()
        self._watchdog = _Watchdog(self._time_out)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self.is_over and self._process.poll() is None

    def wait_until_ready(self, within_s: float | None) -> None:
        """Wait for its start, counted from the beginning of that.

        Raises:
            ChildDied: ``broken`` with its own words where it says that it failed.
        """
        if self._is_ready:
            return
        left_s = None if within_s is None else within_s - (time.monotonic() - self._started)
        line = self.read_line(_MOST_READY_BYTES, left_s)
        if line != b"ready\n":
            raise ChildDied("broken", one_line(line.decode("utf-8", "replace")))
        self._is_ready = True

    def send(self, data: bytes) -> None:
        """Send bytes. Where it is gone nothing happens: the next answer, which does not come, tells."""
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(OSError, ValueError):  # ValueError: another thread ended it
            stdin.write(data)
            stdin.flush()

    def read_line(self, most_bytes: int, within_s: float | None) -> bytes:
        """Its next line, with the line end.

        Raises:
            ChildDied: there is none in time, or no end of it in ``most_bytes``.
        """
        line = self._read(lambda stdout: stdout.readline(most_bytes), within_s)
        if line.endswith(b"\n"):
            return line
        raise ChildDied("broken", "sent a line without an end") if len(line) == most_bytes else self._death()

    def read(self, n_bytes: int, within_s: float | None) -> bytes:
        """Exactly so many bytes.

        Raises:
            ChildDied: they do not come in time.
        """
        data = self._read(lambda stdout: stdout.read(n_bytes), within_s)
        if len(data) < n_bytes:
            raise self._death()
        return data

    def kill(self) -> None:
        """End it and what it started, without waiting for that."""
        if not self.is_over:
            if sys.platform != "win32":
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)
            self._process.kill()

    def end(self) -> None:
        """End it at once, and wait until it is gone: it has nothing to lose."""
        if self.is_over:
            return
        self._watchdog.stop()
        self.kill()
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.wait()
        self.is_over = True
        if self._process.stdout is not None:
            self._process.stdout.close()

    def disown(self) -> None:
        """In a fork of its parent: leave the child to that one."""
        self.is_over = True
        self._process.returncode = 0  # it is not ours to wait for
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                os.dup2(nothing, stream.fileno())  # not closed: a thread that is not here may hold its lock
        os.close(nothing)

    def _read(self, read: Callable[[Any], bytes], within_s: float | None) -> bytes:
        try:
            with self._watchdog.within(within_s):
                return read(self._process.stdout)
        except (OSError, ValueError):  # another thread ended it
            return b""

    def _death(self) -> ChildDied:
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            return ChildDied("broken", "sent nothing, but it lives")
        if self._timed_out:
            return ChildDied("timeout", "did not answer in time")
        return ChildDied("crashed", end_of_process(code), code)

    def _time_out(self) -> None:
        self._timed_out = True
        self.kill()


class _Watchdog:
    """Calls ``bite``, once, when something takes too long; a thread that sleeps otherwise."""

    def __init__(self, bite: Callable[[], None]) -> None:
        self._bite = bite
        self._changed = threading.Condition()
        self._due: float | None = None
        self._wakes_at: float | None = None
        self._is_stopped = False
        threading.Thread(target=self._run, name="child-watch", daemon=True).start()

    @contextlib.contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        with self._changed:
            self._due = None if seconds is None else time.monotonic() + seconds
            if self._due is not None and (self._wakes_at is None or self._due < self._wakes_at):
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._due = None

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._is_stopped:
                left_s = None if self._due is None else self._due - time.monotonic()
                if left_s is not None and left_s <= 0:
                    self._bite()
                    return
                self._wakes_at = self._due
                self._changed.wait(left_s)


@contextlib.contextmanager
def no_children() -> Iterator[None]:
    """Nothing can be started meanwhile: a main module that is imported in a child must not start children itself.

    Raises:
        RuntimeError: at the end, where it was tried.
    """
    global _starts_allowed  # noqa: PLW0603 - of the process
    _starts_allowed = False
    try:
        yield
    finally:
        _starts_allowed = True
    if _refused_starts:
        raise RuntimeError("the main module starts processes when it is imported")


def _check_starts_allowed() -> None:
    global _refused_starts  # noqa: PLW0603 - of the process
    if not _starts_allowed:
        _refused_starts += 1
        raise RuntimeError("a process that is being started must not start others")


def end_of_process(code: int) -> str:
    """How a process ended, after its name in a sentence, by its exit code (below 0: the signal)."""
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}{'; the memory may have run out' if name == 'SIGKILL' else ''}"


def one_line(text: str) -> str:
    """The text on one line, cut to ``MAX_MESSAGE_CHARS`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_MESSAGE_CHARS else f"{line[: MAX_MESSAGE_CHARS - 3]}..."
