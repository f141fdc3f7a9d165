"""Options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deepscan.commands.terminal import DeviceName, EngineChoice


class RuntimeChoice(StrEnum):
    """What runs the networks."""

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"


Device = Annotated[DeviceName, typer.Option(help="Where the networks run.")]
Runtime = Annotated[
    RuntimeChoice, typer.Option(help="What runs the networks; auto is OpenVINO on the processor, torch elsewhere.")
]
Tta = Annotated[
    bool | None,
    typer.Option("--tta/--no-tta", help="Average over several views of every face.", show_default="tta"),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        max=0.999,
        help="Call fake from this probability on; replaces the model's threshold and its uncertain band.",
        show_default="the model's",
    ),
]
FramesOfData = Annotated[
    int | None,
    typer.Option(min=1, max=10_000, help="Frames of each video.", show_default="all that a store has; 32 of a video"),
]
PrepareJobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Processes that preprocess what is no store.", show_default="cores"),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help="Folder for the stores of what is none; kept and used again.",
        show_default=".deepscan-cache",
    ),
]
Resamples = Annotated[int, typer.Option(min=0, max=100_000, help="Of the bootstrap behind the intervals.")]
WorkEngine = Annotated[EngineChoice, typer.Option(help="This machine's processes, or a Ray cluster.")]
Address = Annotated[str | None, typer.Option(help="Of the Ray cluster.", show_default="a local one is started")]
