"""What is known of one file: it is decoded once, its faces are found once, and everybody takes it from here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deepscan.errors import DeepscanError, MediaError
from deepscan.extract.file_kinds import NoFileError
from deepscan.extract.in_memory import InMemory
from deepscan.extract.people import Extraction, Person
from deepscan.files import file_sha256
from deepscan.models.scorer import Features
from deepscan.processes import LostReason
from deepscan.types import Result, Score, VerdictLabel

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Analysis:
    """One file and its answer.

    Attributes:
        result: the answer, with the verdict ``error`` where there is none.
        extraction: what was found, with the media facts and the pictures that were to be kept; None where it failed.
        people: those who were judged, with their crops, in the order of ``result.tracks``.
        features: of every crop of each.
        scores: of each.
        error: what failed.
    """

    result: Result
    extraction: Extraction | None = None
    people: tuple[Person, ...] = ()
    features: Sequence[Sequence[Features]] = ()
    scores: tuple[Score, ...] = ()
    error: Exception | None = None


def failed_analysis(path: Path | InMemory, error: Exception) -> Analysis:
    """That of a file which could not be judged."""
    if isinstance(error, MediaError) and not isinstance(error, NoFileError):
        result = error_result(path, error.reason, str(error), _sha256_if_read(path))
    elif isinstance(error, DeepscanError):
        result = refused_result(path, error)
    else:
        # A defect of ours, or of a library on a hostile file, must not cost the results of the other files.
        log.debug("%s: unexpected failure", path, exc_info=error)
        result = lost_result(path, "internal", f"unexpected {type(error).__name__}: {error}")
    return Analysis(result, error=error)


def error_result(path: Path | InMemory, reason: str, message: str, sha256: str | None = None) -> Result:
    """The result of an input that could not be judged.

    Args:
        path: of the input.
        reason: short and stable.
        message: one sentence for a person.
        sha256: of the file, if it could be read to its end; the failure is then the content's.
    """
    return Result(str(path), sha256, None, VerdictLabel.ERROR, reason, message)


def refused_result(path: Path | InMemory, error: DeepscanError) -> Result:
    """The result of an input that is refused before it is read; its path is what was given, also if that is none."""
    result = error_result(path, error.reason, str(error))
    return replace(result, path=error.text) if isinstance(error, NoFileError) else result


def lost_result(path: Path | InMemory, reason: LostReason, cause: str) -> Result:
    """The result of an input that deepscan failed on, or that no worker process finished."""
    text = " ".join(f"{path.name} could not be judged: {cause}".split())[:300].rstrip(".")
    hint = {
        "timeout": "Give it more with --time-limit, or cut the file.",
        "worker_died": "The other files were judged; run again for this one, with fewer jobs.",
        "internal": "Run again with --verbose for details.",
    }[reason]
    return error_result(path, reason, f"{text}. {hint}")


def _sha256_if_read(path: Path | InMemory) -> str | None:
    """Of a file that is no use; None if it cannot be read to its end, or is no plain file (a pipe has none)."""
    try:
        return file_sha256(path) if isinstance(path, Path) and path.is_file() else None
    except (OSError, ValueError):
        return None
