"""Processes and conditions to watch from a test."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable
from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether a process lives; one that only waits for its parent to ask for its exit code does not."""
    if Path("/proc/self/stat").exists():
        return _state_and_session(pid)[0] not in "ZX"
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def session_pids(session: int) -> list[int]:
    """Processes of a session that live; needs /proc."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if _state_and_session(pid)[1] == session and is_running(pid)]


def _state_and_session(pid: int) -> tuple[str, int]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[3])


def wait_until(condition: Callable[[], bool], limit_s: float = 20.0) -> bool:
    """Whether it became true in time."""
    until = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def listening(pids: list[int]) -> list[str]:
    """Addresses that TCP sockets of these processes listen on; needs /proc of Linux."""
    inodes = {target for pid in pids for target in _links(Path(f"/proc/{pid}/fd"))}
    processes = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                # In groups of four bytes, each in this machine's order.
                text = fields[1].partition(":")[0]
                packed = b"".join(bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8))
                address = ipaddress.ip_address(packed)
                processes.append(str(getattr(address, "ipv4_mapped", None) or address))
    return processes


def _links(folder: Path) -> list[str]:
    try:
        return [str(path.readlink()) for path in folder.iterdir()]
    except OSError:
        return []


def pids_of_tasks(folder: Path, name: str = "") -> list[int]:
    """Of the workers that noted the start of such tasks there."""
    texts = [path.read_text() for path in folder.glob(f"{name}*.started")]
    return [int(text) for text in texts if text]
