"""The pictures of an evaluation: which plots there are, and of what."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepscan.errors import DeepscanError, OutputError
from deepscan.evaluate.cross_dataset import Cell
from deepscan.evaluate.evaluation import Evaluation, Levels
from deepscan.evaluate.plots import (
    plot_confusion,
    plot_matrix,
    plot_precision_recall,
    plot_reliability,
    plot_roc,
    plot_scores,
)


def check_folder(folder: Path, option: str = "--plots") -> None:
    """Make the folder of the pictures, before the work that they are to show.

    Args:
        folder: to be made.
        option: that asked for them, for the message.

    Raises:
        OutputError: it cannot be made.
        DeepscanError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise DeepscanError(
            "Plots cannot be drawn",
            "matplotlib is not installed",
            f"Install it with: pip install 'deepscan[train]'; or leave {option} out.",
            reason="missing_package",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made", error.strerror or str(error)) from error


def draw_evaluation(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Draw what there is to draw of an evaluation.

    Args:
        evaluation: measured.
        folder: of the PNG files, which are replaced.

    Returns:
        The files: confusion matrix, ROC, precision and recall, reliability and scores.

    Raises:
        OutputError: a file cannot be written.
    """
    check_folder(folder)
    model = evaluation.model
    where = ", ".join(evaluation.data) + (f", {evaluation.split}" if evaluation.split else "")
    title = f"{model.name} on {where}" if where else model.name
    videos = evaluation.video_level()
    scored, frames = _scored(videos), _scored(evaluation.frame_level())
    curves = {"videos": scored, "frames": frames}
    aucs = {"videos": evaluation.video["auc"], "frames": evaluation.frame["auc"]}
    files = {
        name: folder / f"{name}.png"
        for name in ("confusion", "roc", "precision_recall", "reliability", "scores", "scores_frames")
    }
    plot_confusion(
        files["confusion"],
        videos.labels,
        videos.probabilities,
        threshold=model.threshold,
        band=model.uncertain_band,
        answers=videos.answers,
        not_applicable=videos.not_applicable,
        title=f"Answers, videos: {title}",
    )
    plot_roc(files["roc"], curves, intervals=aucs, threshold=model.threshold, title=f"ROC: {title}")
    plot_precision_recall(files["precision_recall"], curves, title=f"Precision and recall: {title}")
    plot_reliability(files["reliability"], *scored, title=f"Reliability, videos: {title}")
    plot_scores(
        files["scores"],
        *scored,
        threshold=model.threshold,
        band=model.uncertain_band,
        title=f"Scores, videos: {title}",
    )
    plot_scores(files["scores_frames"], *frames, threshold=model.threshold, title=f"Scores, frames: {title}")
    return list(files.values())


def draw_cross(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Draw the heat map of AUCs at video level, models by data sets.

    Args:
        cells: of :func:`deepscan.evaluate.cross_dataset.cross_evaluate`.
        folder: of the PNG file, which is replaced.

    Raises:
        OutputError: the file cannot be written.
    """
    check_folder(folder)
    models = list(dict.fromkeys(cell.model for cell in cells))
    data = list(dict.fromkeys(cell.data for cell in cells))
    values = np.full((len(models), len(data)), np.nan)
    for cell in cells:
        if cell.evaluation is not None and (auc := cell.evaluation.video["auc"].value) is not None:
            values[models.index(cell.model), data.index(cell.data)] = auc
    file = folder / "cross.png"
    plot_matrix(file, values, models, data, title="AUC of videos: models by data sets")
    return [file]


def _scored(level: Levels) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of what has a score."""
    return level.labels[~level.not_applicable], level.probabilities[~level.not_applicable]
