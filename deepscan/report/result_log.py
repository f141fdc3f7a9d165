"""Results as JSON lines: one for each input as soon as it is done, and what a later run need not do again.

A line is the contract ``deepscan.result/1``; its JSON Schema comes with the package as
``deepscan/schema/result-1.json``. It holds all that decides whether it still stands: the model with its settings, and
size and modification time of the input. Of each model, the last line of a file counts, by whichever path it was named.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from deepscan.append_log import LineFile
from deepscan.files import FileIdentity
from deepscan.report.table import to_dict
from deepscan.types import ModelInfo, Report, Result, VerdictLabel

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA_ID: Literal["deepscan.result/1"] = "deepscan.result/1"
TRIED_AGAIN = ("internal", "timeout", "worker_died")

# Line ends to some readers of text, and halves of file names that are not UTF-8: written as JSON's own escapes.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "\x7f\x85\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an input looked like before it was read: size in bytes, modification time in nanoseconds."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Of a file; None if it is not there, or none whose content stays."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return None
        return cls(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


@dataclass(frozen=True, slots=True)
class _LogLine:
    """A line read back."""

    model: dict[str, Any]
    stamp: Stamp | None
    result: Result


def schema() -> dict[str, Any]:
    """The JSON Schema of a line."""
    text = files("deepscan").joinpath("schema/result-1.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def stands(result: Result) -> bool:
    """Whether a result holds for as long as its input stays as it is.

    Not when no worker finished it, nor when the file could not be read to its end: both may go better next time.
    """
    failed = result.verdict is VerdictLabel.ERROR
    return not failed or (result.reason not in TRIED_AGAIN and result.sha256 is not None)


class ResultLines:
    """The lines of a file, and of the runs before that wrote into it; a context manager.

    For each line of this model some 250 bytes are kept in memory, not its result.

    Args:
        path: made if it is not there; None is stdout, which has no lines from before.
        version: of deepscan.
        model: that judges now; results of others stay in the file and are not used.

    Raises:
        OutputError: the file cannot be written, another run is writing to it, or it holds something else.
    """

    def __init__(self, path: Path | None, version: str, model: ModelInfo) -> None:
        head = to_dict(Report(version, model, ()))
        self._head = {"schema": SCHEMA_ID, "version": version, "model": head["model"]}
        self._model = json.loads(_dumps(head["model"]))  # as it is read back: no tuples
        self._identity = FileIdentity()
        self._file: LineFile[bytes, Stamp] = LineFile(path, self._stamp_of, schema=SCHEMA_ID)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        """Inputs with a result that stands."""
        return len(self._file)

    def recall(self, path: Path, stamp: Stamp | None) -> Result | None:
        """The result of an input that need not be judged again.

        Args:
            path: of the input, whichever way to the file was given to the run before.
            stamp: of the input today.

        Raises:
            OutputError: the file cannot be read.
        """
        identity = self._identity(str(path))
        if stamp is None or self._file.get(identity) != stamp:
            return None
        try:
            return replace(_parse(self._file.line(identity)).result, path=str(path))
        except ValueError:  # changed under our hands
            return None

    def append(self, result: Result, stamp: Stamp | None) -> None:
        """Write a result.

        Args:
            result: of an input.
            stamp: of the input, taken before it was read.

        Raises:
            OutputError: it cannot be written; the file is then as it was.
            BrokenPipeError: the reader of stdout has gone.
        """
        facts = None if stamp is None else {"size": stamp.size, "mtime_ns": stamp.mtime_ns}
        line = {**self._head, "input": facts, "result": result.to_dict()}
        self._file.append_line(_dumps(line).encode() + b"\n")

    def _stamp_of(self, data: bytes) -> tuple[bytes, Stamp | None] | None:
        """Of a line of this model whose input and stamp it is; without a stamp where it does not stand."""
        line = _parse(data)
        if line.model != self._model:
            return None
        return self._identity(line.result.path), line.stamp if stands(line.result) else None


def _parse(data: bytes) -> _LogLine:
    """
    Raises:
        ValueError: it is no line of ours.
    """
    try:
        loaded = json.loads(data)
    except RecursionError as error:
        raise ValueError("Invalid line (nested too deeply).") from error
    if not isinstance(loaded, dict) or loaded.get("schema") != SCHEMA_ID:
        raise ValueError(f"Invalid line. Supported is {SCHEMA_ID}.")
    result = loaded.get("result")
    texts: dict[str, Any] = {}
    if isinstance(result, dict):
        # Names that are not UTF-8 are halves of characters here, which pydantic refuses in any text.
        texts = {key: result[key] for key in ("path", "message") if isinstance(result.get(key), str)}
        loaded["result"] = {**result, **dict.fromkeys(texts, ""), **_divided_tracks(result.get("tracks"))}
    line: _LogLine = _adapter().validate_python(
        {"model": loaded.get("model"), "stamp": loaded.get("input"), "result": loaded.get("result")}
    )
    return replace(line, result=replace(line.result, **texts))


def _divided_tracks(tracks: object) -> dict[str, Any]:
    """The tracks of a line as a result holds them: those that were judged, and the others."""
    if not isinstance(tracks, list):
        return {}
    scored: list[object] = []
    others: list[object] = []
    for track in tracks:
        left_out = isinstance(track, dict) and track.get("verdict") == VerdictLabel.NOT_APPLICABLE
        (others if left_out else scored).append(track)
    return {"tracks": scored, "unjudged": others}


@cache
def _adapter() -> TypeAdapter[_LogLine]:
    from pydantic import TypeAdapter

    return TypeAdapter(_LogLine)


def _dumps(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode("utf-8")
