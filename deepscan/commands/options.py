"""Options that several commands take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepscan.commands.terminal import DeviceName, EngineChoice

if TYPE_CHECKING:
    from deepscan.config import MediaLimits, PredictSettings

_LIMITS = {
    "pixels": "max_pixels",
    "bytes": "max_bytes",
    "duration": "max_duration_s",
    "frames": "max_frames",
    "tracks": "max_tracks",
}
_ANY_PIXELS = 2**31 - 1  # the most that FFmpeg takes
_UNITS_S = {"": 1.0, "s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0}
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


def seconds(text: str) -> float:
    """A length of time: a number, or one with ``s``, ``ms``, ``min`` or ``h``.

    Raises:
        BadParameter: it is none, or not above 0.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?(s|ms|min|h|)", text.strip())
    value = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
    if value <= 0:
        raise typer.BadParameter(f"{text!r} is no length of time above 0, such as 2s.")
    return value


def threshold_of(text: str) -> float:
    """A probability that a threshold can be.

    Raises:
        BadParameter: it is none, or not from 0.001 to 0.999.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.001 <= value <= 0.999:
        raise typer.BadParameter(f"{text!r} is no number from 0.001 to 0.999.")
    return value


def limits_of(given: list[str] | None) -> MediaLimits:
    """Limits on files from ``NAME=VALUE`` options; what is not named keeps its default.

    Raises:
        BadParameter: there is no such limit, or it cannot have that value.
    """
    from pydantic import ValidationError

    from deepscan.config import MediaLimits

    values: dict[str, float | None] = {}
    for text in given or []:
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in _LIMITS:
            raise typer.BadParameter(
                f"{text!r} is none of {', '.join(f'{known}=VALUE' for known in _LIMITS)}.", param_hint="--max"
            )
        if value == "none":
            values[_LIMITS[name]] = _ANY_PIXELS if name == "pixels" else None
        else:
            values[_LIMITS[name]] = seconds(value) if name == "duration" else _count(value)
    try:
        return MediaLimits.model_validate(values)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = next(name for name, field in _LIMITS.items() if field == wrong["loc"][0])
        raise typer.BadParameter(f"{name}={wrong['input']}: {wrong['msg']}.", param_hint="--max") from error


def _count(text: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kMG]?)", text)
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no number, such as 2000, 2M or 1.5G; 'none' lifts a limit.", param_hint="--max"
        )
    return int(float(match[1]) * _UNITS[match[2]])


def settings_of(**given: object) -> PredictSettings:
    """Settings of a prediction from options; None takes the default."""
    from deepscan.config import PredictSettings

    return PredictSettings.model_validate({name: value for name, value in given.items() if value is not None})


class SplitName(StrEnum):
    """A part of the data."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class RuntimeChoice(StrEnum):
    """What runs the networks."""

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"


Model = Annotated[str, typer.Option(help="A name of `deepscan models`, a folder, or hf:user/name.", show_default=False)]
Device = Annotated[DeviceName, typer.Option(help="Where the networks run.")]
Runtime = Annotated[RuntimeChoice, typer.Option(help="auto is OpenVINO on a CPU.")]
Tta = Annotated[
    bool | None, typer.Option("--tta/--no-tta", help="Average several views of a face.", show_default="tta")
]
AttackCheck = Annotated[
    bool | None,
    typer.Option("--attack-check/--no-attack-check", help="Doubt faces altered to deceive.", show_default="off"),
]
Full = Annotated[bool, typer.Option("--full", help="Unfold all of the page, so that it is printed.")]
Frames = Annotated[int | None, typer.Option(min=1, max=10_000, help="Sampled evenly over a video.", show_default="32")]
MinSegment = Annotated[
    float | None,
    typer.Option(
        "--min-segment", parser=seconds, metavar="SECONDS", help="More frames: two in every stretch, such as 2s.",
        show_default=False,
    ),
]  # fmt: skip
Threshold = Annotated[
    float | None,
    typer.Option(parser=threshold_of, metavar="P", help="Fake from this P(fake) on.", show_default="the model's"),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--max", metavar="NAME=VALUE", help="Limit pixels of a frame, bytes, duration, frames or tracks (people): "
        "duration=5min, bytes=2G; none lifts one. Repeatable.",
        show_default="67M pixels, 64 GiB, 24 h, 10M frames, 64 tracks",
    ),
]  # fmt: skip
AllowUntrained = Annotated[bool, typer.Option("--allow-untrained", help="Allow --model BACKBONE, with random weights.")]
Split = Annotated[SplitName | None, typer.Option(help="Only this part of the data.", show_default="everything")]
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
        file_okay=False, help="Folder for the stores of what is none; kept and used again.",
        show_default=".deepscan-cache",
    ),
]  # fmt: skip
Resamples = Annotated[int, typer.Option(min=0, max=100_000, help="Of the bootstrap behind the intervals.")]
WorkEngine = Annotated[EngineChoice, typer.Option(help="Processes here, or a Ray cluster.")]
Address = Annotated[str | None, typer.Option(help="Of the Ray cluster.", show_default="a local one")]


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """What every command that judges files takes."""

    frames: Frames = None
    min_segment: MinSegment = None
    tta: Tta = None
    attack_check: AttackCheck = None
    model: Model = "default"
    device: Device = DeviceName.AUTO
    runtime: Runtime = RuntimeChoice.AUTO
    threshold: Threshold = None
    limits: Limits = None

    @cached_property
    def settings(self) -> PredictSettings:
        """Of the predictions.

        Raises:
            BadParameter: a limit cannot be.
        """
        return settings_of(
            frames=self.frames,
            min_segment_s=self.min_segment,
            tta=self.tta,
            attack_check=self.attack_check,
            threshold=self.threshold,
            device=self.device.value,
            runtime=self.runtime.value,
            limits=limits_of(self.limits),
            allow_untrained=getattr(self, "allow_untrained", None),
        )
