"""What ``import deepscan`` gives: a detector for files and for what is in memory, and reports that can be saved."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, overload

from pydantic import ValidationError

from deepscan.config import DEFAULT_LIMITS, MediaLimits, PredictSettings
from deepscan.detector import Detector, open_networks
from deepscan.errors import ConfigError, DeepscanError, MediaError
from deepscan.extract.in_memory import InMemory, Source, check_source, is_frames, read_source
from deepscan.extract.isolation.client import DEFAULT_ISOLATION
from deepscan.files import check_target, json_of, write_atomically
from deepscan.models.card import Card
from deepscan.report.table import CSV_START, SCHEMA_ID, to_csv, to_dict, to_json
from deepscan.types import Report, Result
from deepscan.version import __version__

if TYPE_CHECKING:
    from deepscan.report.html import Material


@dataclass(frozen=True, slots=True, repr=False)
class SavableReport(Report):
    """Results of one detector, as the files that the command line writes.

    Files of the same kind that deepscan wrote are replaced, others never (OutputError).
    """

    card: Card | None = None
    limits: MediaLimits = DEFAULT_LIMITS

    def to_dict(self) -> dict[str, object]:
        """The JSON report as plain values."""
        return to_dict(self)

    def to_json(self) -> str:
        """The JSON report."""
        return to_json(self)

    def save_json(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON report, as ``deepscan predict --json`` does."""
        check_target(Path(path), json_of(SCHEMA_ID))
        write_atomically(Path(path), to_json(self).encode())

    def save_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line a result, as ``deepscan predict --csv`` does."""
        check_target(Path(path), CSV_START)
        write_atomically(Path(path), to_csv(self).encode())

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write a page for people, and the JSON beside it. Faces are read from the files once more, if still there."""
        from deepscan.report.html import write_pages

        created_at = datetime.now().astimezone()
        write_pages(self, Path(path), made=created_at, card=self.card, material=self._material)

    def _material(self, result: Result) -> Material | None:
        from deepscan.report.html import from_file

        if result.sha256 is None or not result.kind:  # it was in memory, or failed
            return None
        cause = "Heat maps are made by the commands predict --html and explain."
        return from_file(Path(result.path), result, limits=self.limits, not_explained=cause)


class LoadedDetector(Detector):
    """A detector as :func:`deepscan.load_detector` gives it."""

    @overload
    def predict(self, source: Source) -> Result: ...

    @overload
    def predict(self, source: list[Source]) -> list[Result]: ...

    def predict(self, source: Source | list[Source]) -> Result | list[Result]:
        """Judge one input, or each of a list.

        Args:
            source: the path of a video or image; a PIL image; an array RGB ``uint8 [H, W, 3]``; or the frames of a
                video, an iterable of (time in seconds, array) with rising times. Of more frames than
                ``settings.frames`` so many are taken, spread evenly. Of a list each is judged.

        Returns:
            The result: ``verdict`` is fake, real, uncertain, or not_applicable when there is no face to judge. Of a
            list a list, in which one that cannot be read has the verdict ``error``.

        Raises:
            TypeError: it is none of these.
            ValueError: times do not rise, or the frames differ in size.
            MediaError: the one input cannot be read.
        """
        if isinstance(source, list) and not is_frames(source):
            for item in source:
                check_source(item)
            inputs = (self._input(item, f" {i}") for i, item in enumerate(source))
            return [analysis.result for analysis in self.analyze_many(inputs)]
        analysis = next(self.analyze_many([self._input(source, "")]))
        if analysis.error is not None:
            raise analysis.error
        return analysis.result

    def report(self, results: Iterable[Result]) -> SavableReport:
        """A report of this detector over results."""
        return SavableReport(__version__, self.info, tuple(results), card=self.card, limits=self.settings.limits)

    def __repr__(self) -> str:
        card = self.card
        return f"Detector({card.name} {card.version}: {card.backbone} + {card.head}, {self.device}, {self.runtime})"

    def _input(self, source: object, label: str) -> tuple[Path | InMemory, DeepscanError | None]:
        settings = self.settings
        try:
            return read_source(source, label, settings.frames, settings.min_segment_s), None
        except MediaError as error:
            return Path(error.problem.split(":")[0]), error


def load(
    model: str | Path,
    settings: PredictSettings | None,
    changes: Mapping[str, object],
    *,
    isolate: bool,
) -> LoadedDetector:
    """See :func:`deepscan.load_detector`; ``changes`` are of single settings."""
    resolved = settings or PredictSettings()
    try:
        resolved = PredictSettings.model_validate({**dict(resolved), **changes})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{name}={first['input']!r} cannot be", first["msg"]) from error
    networks = open_networks(model, resolved)
    return LoadedDetector(networks, resolved, isolation=DEFAULT_ISOLATION if isolate else None)
