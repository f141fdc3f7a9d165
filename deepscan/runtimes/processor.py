"""What this machine computes with, found out without torch."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

# What the drivers of NVIDIA's and AMD's GPUs put there; the last is the Linux kernel under Windows.
_GPU_SIGNS = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/kfd", "/dev/dxg")


# Limits of oneDNN, with which torch and OpenVINO compute, below which there are no instructions for bf16.
_LIMITS_BELOW_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself, and is not forbidden to (``ONEDNN_MAX_CPU_ISA``).

    Imitating it is ten times slower than 32 bits.
    """
    return os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() not in _LIMITS_BELOW_BF16 and _lists_bf16()


@cache
def _lists_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def may_have_gpu() -> bool:
    """Whether torch has to be asked for a GPU; false only where it would see none for sure."""
    if sys.platform == "darwin":
        return True
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").exists()
    return any(Path(sign).exists() for sign in _GPU_SIGNS)


def thread_limit() -> int | None:
    """Threads of this process as its environment limits them (``OMP_NUM_THREADS``), None where it does not."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(text) if text.isascii() and text.isdigit() and int(text) > 0 else None
