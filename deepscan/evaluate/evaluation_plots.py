"""The pictures of an evaluation: which plots there are, and of what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from deepscan.errors import OutputError, import_extra
from deepscan.evaluate.comparison import Comparison
from deepscan.evaluate.evaluation import Evaluation
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
    import_extra("matplotlib", "Plots cannot be drawn", "matplotlib", f"; or leave {option} out.")
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
    videos, frames = evaluation.video_level(), evaluation.frame_level()
    scores, of_frames = ((level["labels"], level["probabilities"]) for level in (videos, frames))
    curves = {"videos": scores, "frames": of_frames}
    aucs = {"videos": evaluation.video["auc"], "frames": evaluation.frame["auc"]}
    names = ("confusion", "roc", "precision_recall", "reliability", "scores", "scores_frames")
    files = {name: folder / f"{name}.png" for name in names}
    limits: Any = {"threshold": model.threshold, "band": model.uncertain_band}
    plot_confusion(
        files["confusion"],
        videos["labels"],
        videos["answers"],
        **limits,
        not_applicable=videos["not_applicable"],
        title=f"Answers, videos: {title}",
    )
    plot_roc(files["roc"], curves, intervals=aucs, threshold=model.threshold, title=f"ROC: {title}")
    plot_precision_recall(files["precision_recall"], curves, title=f"Precision and recall: {title}")
    plot_reliability(files["reliability"], *scores, title=f"Reliability, videos: {title}")
    plot_scores(files["scores"], *scores, **limits, title=f"Scores, videos: {title}")
    plot_scores(files["scores_frames"], *of_frames, threshold=model.threshold, title=f"Scores, frames: {title}")
    return list(files.values())


def draw_comparison(comparison: Comparison, folder: Path) -> Path:
    """Draw the heat map of AUCs at video level, detectors by parts of the data, into ``comparison.png``.

    Raises:
        OutputError: the file cannot be written.
    """
    check_folder(folder)
    rows = comparison.rows
    parts = list(dict.fromkeys(part for row in rows for part in row.figures)) or ["nothing"]
    values = np.full((len(rows), len(parts)), np.nan)
    for index, row in enumerate(rows):
        for part, figures in row.figures.items():
            if figures.auc is not None and figures.auc.value is not None:
                values[index, parts.index(part)] = figures.auc.value
    file = folder / "comparison.png"
    plot_matrix(file, values, [row.name for row in rows], parts, title="AUC of videos: detectors by data")
    return file
