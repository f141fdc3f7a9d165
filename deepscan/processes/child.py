"""Inside a supervised child process: the line to its parent. See :mod:`deepscan.processes.supervisor`."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable
from typing import BinaryIO, Generic, TypeVar

M = TypeVar("M")


class Parent(Generic[M]):
    """The parent of this process. Requests come through a thread, which ends this process when the parent is gone.

    Args:
        read: reads one request; None at the end.
        received: called in that thread with each; by default it waits for :meth:`receive`.
        on_end: called before the process ends.
    """

    def __init__(
        self,
        read: Callable[[BinaryIO], M | None],
        received: Callable[[M], None] = lambda _: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        # Ctrl-C is the parent's matter.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # What prints must not speak into the answers, nor what asks eat the requests.
        self._requests, self._answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self._queue: queue.SimpleQueue[M] = queue.SimpleQueue()
        self._read_request, self._received, self._on_end = read, received, on_end
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def ready(self, failure: str = "") -> None:
        """Say that this process is up, or in a line why it cannot be."""
        self.send(f"{failure or 'ready'}\n".encode())

    def send(self, data: bytes) -> None:
        """Send bytes; where nobody is there any more the process ends."""
        try:
            self._answers.write(data)
            self._answers.flush()
        except OSError:
            os._exit(0)

    def receive(self) -> M:
        """The next request, when it comes."""
        return self._queue.get()

    def _read(self) -> None:
        try:
            while (message := self._read_request(self._requests)) is not None:
                self._received(message)
                self._queue.put(message)
        finally:
            self._on_end()
            os._exit(0)
