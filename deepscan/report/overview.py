"""What is there: detectors, backbones, versions, devices."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from rich.console import Console
from rich.table import Table

from deepscan.version import __version__

_PACKAGES = (
    "torch",
    "torchvision",
    "facenet-pytorch",
    "timm",
    "av",
    "opencv-python-headless",
    "numpy",
    "pillow",
)


def print_models() -> None:
    """Print the detectors with their measured figures, then backbones and heads."""
    from deepscan.models.backbones.registry import backbone_spec, list_backbones
    from deepscan.models.checkpoint import SHIPPED_ROOT, list_detectors, load_card

    console = Console()
    for name in list_detectors():
        card = load_card(SHIPPED_ROOT / name)
        console.print(
            f"[bold]{name}[/] {card.version}: {card.backbone} + {card.head}, "
            f"{card.crop.size_px} px, sha256 {card.weights_sha256[:12]}",
            highlight=False,
        )
        table = Table(show_edge=False, pad_edge=False)
        for column in ("Measured", "Value", "95 % interval", "n"):
            table.add_column(column, justify="left" if column == "Measured" else "right")
        for label, metric in card.metrics.items():
            interval = "-" if metric.low is None or metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}"
            table.add_row(label, f"{metric.value:.3f}", interval, str(metric.n))
        console.print(table)
        for limit in card.limits:
            console.print(f"  - {limit}", highlight=False)
    backbones = Table(title="Backbones to train with", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("Name", "Input", "Source"):
        backbones.add_column(column)
    for name in list_backbones():
        spec = backbone_spec(name)
        backbones.add_row(name, f"{spec.input_size_px} px", spec.source)
    backbones.add_row("timm:NAME", "any", "every model of timm")
    console.print()
    console.print(backbones)
    console.print("\nHeads: lstm (default), mean, attention", highlight=False)


def print_info() -> None:
    """Print versions, devices and threads."""
    import av
    import cv2
    import torch

    from deepscan.runtimes.openvino_runtime import is_installed

    rows = [
        ("deepscan", __version__),
        ("Python", f"{platform.python_version()} on {platform.platform()}"),
        *((name, _version(name)) for name in _PACKAGES),
        (
            "FFmpeg libraries",
            ", ".join(f"{k} {'.'.join(map(str, v))}" for k, v in sorted(av.library_versions.items())),
        ),
        ("Device", _devices()),
        ("CPU", f"{torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"),
        ("Threads", f"torch {torch.get_num_threads()}, OpenCV {cv2.getNumThreads()}"),
        ("Runtimes", "openvino, torch" if is_installed() else "torch"),
        ("Engines", "local, ray" if find_spec("ray") else "local"),
    ]
    table = Table(show_header=False, show_edge=False, pad_edge=False)
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table, highlight=False)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"
