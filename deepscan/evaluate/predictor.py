"""Any other package's model, measured like a detector: a function from paths to probabilities.

    def predict(paths: list[Path]) -> list[float | None]: ...

It is called with the files as they are in the data, some at a time, and gives P(fake) in [0, 1] of each, or None where
it has no answer. Nothing is preprocessed and no face is looked for: what it does with a file is its own matter.
"""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from deepscan.datasets.readers import CorpusItem
from deepscan.datasets.store.tar_members import read_member
from deepscan.errors import ConfigError, DeepscanError, ModelError
from deepscan.evaluate.evaluation import Evaluation, ScoredVideo, evaluate_videos
from deepscan.evaluate.slices import groupings
from deepscan.types import ModelInfo, VerdictLabel

log = logging.getLogger(__name__)

Predictor = Callable[[list[Path]], Sequence[float | None]]

_AT_ONCE = 32


def load_predictor(name: str) -> Predictor:
    """The function ``module:function``; the module is looked for in the current folder, too.

    Raises:
        ConfigError: it cannot be imported, or is no function.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise ConfigError(
            f"--predictor {name}", "it is not of the form module:function", "Give mine:predict for mine.py."
        )
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        loaded: Any = importlib.import_module(module)
        for part in function.split("."):
            loaded = getattr(loaded, part)
    except Exception as error:
        raise ConfigError(f"--predictor {name} cannot be imported", f"{type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
    if not callable(loaded):
        raise ConfigError(f"--predictor {name}", "it is no function")
    return cast("Predictor", loaded)


def evaluate_predictor(
    predictor: Predictor,
    name: str,
    items: Sequence[tuple[str, CorpusItem]],
    *,
    threshold: float = 0.5,
    data: Sequence[str] = (),
    split: str | None = None,
    by: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a predictor; there are no frames and nothing is known of faces.

    Args:
        predictor: see the module.
        name: of it, for the report.
        items: with the names of their sources.
        threshold: from this P(fake) on its answer counts as "fake".
        data, split, by, resamples, seed, on_progress: as for :func:`deepscan.evaluate.evaluation.evaluate`.

    Raises:
        ConfigError: the data lacks a column of ``by``.
        ModelError: the predictor gives no list of as many numbers in [0, 1].
    """
    names = groupings(by, {column for _, item in items for column in item.further_columns})
    videos: list[ScoredVideo] = []
    for start in range(0, len(items), _AT_ONCE):
        batch = items[start : start + _AT_ONCE]
        with _files([item for _, item in batch]) as paths:
            answers = _answers(predictor, paths)
        videos += [
            _scored(item, source, answer, threshold) for (source, item), answer in zip(batch, answers, strict=True)
        ]
        if on_progress is not None:
            on_progress(len(videos), len(items))
    model = ModelInfo(name, None, threshold, (threshold, threshold), True, "predictor", "none", "", {})
    return evaluate_videos(model, videos, data=data, split=split, by=names, resamples=resamples, seed=seed)


def _answers(predictor: Predictor, paths: list[Path | DeepscanError]) -> Iterable[float | Exception | None]:
    """What the predictor says of each file; of a batch that fails, file by file."""
    readable = [path for path in paths if isinstance(path, Path)]
    answers = iter(_checked(predictor, readable))
    return [path if isinstance(path, DeepscanError) else next(answers) for path in paths]


def _checked(predictor: Predictor, paths: list[Path]) -> list[float | Exception | None]:
    if not paths:
        return []
    try:
        answers = list(predictor(list(paths)))
    except Exception as error:  # noqa: BLE001 - it is the answer of one file, or is looked for file by file
        if len(paths) == 1:
            log.warning("%s: the predictor failed: %s: %s", paths[0].name, type(error).__name__, error)
            return [error]
        return [answer for path in paths for answer in _checked(predictor, [path])]
    if len(answers) != len(paths):
        raise ModelError("The predictor's answers do not fit", f"{len(answers)} came for {len(paths)} files")
    for path, answer in zip(paths, answers, strict=True):
        if answer is not None and not (isinstance(answer, int | float | np.number) and 0 <= answer <= 1):
            raise ModelError(
                f"The predictor's answer for {path.name} is {answer!r}",
                "it must be P(fake) in [0, 1], or None for no answer",
            )
    return [None if answer is None else float(answer) for answer in answers]


def _scored(item: CorpusItem, source: str, answer: float | Exception | None, threshold: float) -> ScoredVideo:
    probability = None if isinstance(answer, Exception) else answer
    reason: str | None = "no_answer"
    label = VerdictLabel.NOT_APPLICABLE
    if isinstance(answer, Exception):
        label, reason = VerdictLabel.ERROR, getattr(answer, "reason", "predictor")
    elif answer is not None:
        label, reason = (VerdictLabel.FAKE if answer >= threshold else VerdictLabel.REAL), None
    return ScoredVideo(
        video_id=item.video_id,
        dataset=item.dataset,
        label=item.label,
        method=item.method,
        group=item.group,
        split=item.split,
        verdict=label,
        reason=reason,
        probability=probability,
        people=0,
        frames=np.empty(0),
        face_px=float("nan"),
        luma=float("nan"),
        height_px=0,
        compression=None,
        source=source,
        family=item.family,
        file_type=item.file_type,
        columns=item.further_columns,
    )


@contextmanager
def _files(items: Sequence[CorpusItem]) -> Iterator[list[Path | DeepscanError]]:
    """The items as files; those of a tar are unpacked for as long as they are looked at."""
    with tempfile.TemporaryDirectory(prefix="deepscan-") as folder:
        paths: list[Path | DeepscanError] = []
        for number, item in enumerate(items):
            if item.member is None:
                paths.append(item.path)
                continue
            # The last part of its name alone cannot lead out of the folder.
            path = Path(folder) / str(number) / Path(item.member).name
            try:
                path.parent.mkdir()
                path.write_bytes(read_member(item.path, item.member, None))
                paths.append(path)
            except DeepscanError as error:
                paths.append(error)
        yield paths
