"""What the tests run in the benchmarks' worker processes; a module of its own, for those are to start quickly."""

from __future__ import annotations

import os
import time

from measure import peak_memory_bytes

from deepscan.errors import MediaError


def make_probe(name):
    """One of the functions below, for :class:`measure.Worker`."""
    return {"sleep": _sleep, "allocate": _allocate, "cores": _cores, "fail": _fail, "die": os._exit}[name]


def _sleep(seconds):
    time.sleep(seconds)
    return os.getpid()


def _allocate(size):
    before = peak_memory_bytes()
    held = b"1" * size
    return before, peak_memory_bytes(), len(held)


def _cores(_):
    return sorted(os.sched_getaffinity(0))


def _fail(name):
    raise MediaError(name, "on purpose", reason="tried")
