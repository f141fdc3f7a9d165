"""What the decoder may say: lines of JSON, checked before anything is made of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, PositiveInt

MAX_LINE_BYTES = 1 << 16
_Length = Annotated[FiniteFloat, Field(ge=0)]
_Text = Annotated[str, Field(max_length=2000)]
_Reason = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,40}$")]


class Reply(BaseModel):
    """One line: exactly one of the fields, and ``tired`` beside a last one.

    Attributes:
        frame: slot of the shared memory, height, width, time in seconds, index, whether a seek led to it, and seconds
            by which it was shifted.
        coverage: seconds in all, damaged and cut off.
        probe: kind, width, height, seconds, frames, other pictures, a JPEG's table.
        facts: a part of their JSON, and whether it is the last one.
        need: bytes of a frame that is larger than a slot.
        log: level and text.
        alive: there is progress.
        end: the file is done.
        error: what, why, hint and reason of a MediaError; or the memory was too little.
        failed: an unexpected exception.
        tired: the process should be replaced.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    frame: tuple[NonNegativeInt, PositiveInt, PositiveInt, FiniteFloat, NonNegativeInt, bool, FiniteFloat] | None = None
    coverage: tuple[_Length, _Length, _Length] | None = None
    probe: (
        tuple[
            Literal["video", "image"],
            NonNegativeInt,
            NonNegativeInt,
            FiniteFloat | None,
            NonNegativeInt | None,
            NonNegativeInt,
            Annotated[list[PositiveInt], Field(min_length=64, max_length=64)] | None,
        ]
        | None
    ) = None
    facts: tuple[str, bool] | None = None
    need: PositiveInt | None = None
    log: tuple[int, str] | None = None
    alive: bool = False
    end: bool = False
    error: Literal["memory"] | tuple[_Text, _Text, _Text, _Reason] | None = None
    failed: str | None = None
    tired: bool = True

    @property
    def is_last(self) -> bool:
        """Whether nothing follows on this file."""
        return self.end or self.error is not None or self.failed is not None
