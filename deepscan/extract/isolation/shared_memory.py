"""Memory that a process shares with one that it starts.

Not :mod:`multiprocessing.shared_memory`: that starts one more process, which tracks names; what has no name needs none,
and is gone with the last of the two processes, however they end.
"""

from __future__ import annotations

import mmap
import os
import secrets
import sys
import tempfile

import numpy as np
from numpy.typing import NDArray

if sys.platform == "linux":
    import fcntl


class SharedArea:
    """Bytes that both processes see. The one that made the area resizes it, the other follows with :meth:`remap`.

    Args:
        handle: of the area to join: a file descriptor, on Windows a name; None makes one.

    Attributes:
        handle: for the other process, which inherits the descriptor.
    """

    def __init__(self, handle: int | str | None = None) -> None:
        self.handle: int | str = _created() if handle is None else handle
        self._map: mmap.mmap | None = None

    def resize(self, n_bytes: int) -> None:
        """Make it larger. What was in it is undefined afterwards."""
        if isinstance(self.handle, int):
            os.ftruncate(self.handle, n_bytes)
        self.remap(n_bytes)

    def remap(self, n_bytes: int) -> None:
        """See the first ``n_bytes`` of it, after it was resized."""
        # The earlier map goes when the last array over it does.
        if sys.platform == "win32":
            self._map = mmap.mmap(-1, n_bytes, tagname=f"{self.handle}-{n_bytes}")
        else:
            assert isinstance(self.handle, int)  # noqa: S101 - what else it is on this system
            self._map = mmap.mmap(self.handle, n_bytes)

    def array(self, start: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The bytes from ``start`` as ``uint8`` of this shape; not a copy.

        Raises:
            ValueError: it would reach out of the area.
        """
        n_bytes = 1
        for side in shape:
            n_bytes *= side
        if self._map is None or start < 0 or start + n_bytes > len(self._map):
            raise ValueError(f"Invalid part ({n_bytes} bytes from {start}). Supported is what lies in the area.")
        return np.frombuffer(self._map, np.uint8, n_bytes, start).reshape(shape)

    def close(self) -> None:
        """Let go of it."""
        self._map = None
        if isinstance(self.handle, int):
            os.close(self.handle)


if sys.platform == "linux":

    def _created() -> int | str:
        descriptor = os.memfd_create("deepscan-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # If the other process could make it smaller, it could end this one: what is gone must not be read.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return descriptor

elif sys.platform == "win32":

    def _created() -> int | str:
        return f"deepscan-{secrets.token_hex(16)}"

else:

    def _created() -> int | str:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
