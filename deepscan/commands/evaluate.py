"""``deepscan evaluate``: a detector is measured on data."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepscan.commands.measuring import Measuring, MeasuringAnswers, check_plots, progress_of, train_groups_of
from deepscan.commands.options import Model
from deepscan.commands.outputs import EVALUATION_CSV, Output, check_outputs, write_outputs
from deepscan.commands.terminal import EXIT_USAGE, fail, fail_with

if TYPE_CHECKING:
    from deepscan.evaluate.evaluation import Evaluation

log = logging.getLogger(__name__)

JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write all figures as JSON; '-' is stdout, instead of the table."),
]
CsvFile = Annotated[
    str | None, typer.Option("--csv", metavar="FILE", help="Write one line a video, with its score; '-' is stdout.")
]
PredictorName = Annotated[
    str | None,
    typer.Option(
        "--predictor",
        metavar="MODULE:FUNCTION",
        help="Measure a function instead: from a list of paths to P(fake) of each, None for no answer.",
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN,...",
        help="What the tables divide by: source, method, family, face_size, quality, file_type, brightness, any column "
        "of the data's CSV.",
        show_default="these, and sex, age_band, race or skin_tone",
    ),
]
Plots = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        file_okay=False,
        help="Draw confusion matrix, ROC, precision and recall, reliability and scores.",
    ),
]


def evaluate(
    options: MeasuringAnswers,
    model: Model = "default",
    predictor: PredictorName = None,
    by: By = None,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    plots: Plots = None,
) -> None:
    """Measure a detector on data: figures with their intervals and counts, of all and of its parts, the worst first.

    Several data sets are pooled; deepscan compare measures on each of them.

    Example: deepscan evaluate --model runs/x --data data/dfdc-faces --split test --json figures.json --plots plots/
    """
    from deepscan.errors import DeepscanError
    from deepscan.evaluate.evaluation import SCHEMA_ID
    from deepscan.files import json_of
    from deepscan.models.checkpoint import DEFAULT_DETECTOR

    try:
        quiet = check_outputs(
            [Output("--json", json_file, json_of(SCHEMA_ID)), Output("--csv", csv_file, EVALUATION_CSV)]
        )
        check_plots(plots)
        columns = by.split(",") if by else None
        if predictor is not None:
            if model != DEFAULT_DETECTOR:
                fail("--model and --predictor contradict each other. Give one of them.", EXIT_USAGE)
            evaluation = _of_predictor(predictor, options, columns)
        else:
            evaluation = _measured(model, options, columns)
        _write(evaluation, json_file, csv_file, plots, quiet)
    except DeepscanError as error:
        fail_with(error)


def _measured(model: str, options: Measuring, by: list[str] | None) -> Evaluation:
    from deepscan.detector import load_detector
    from deepscan.evaluate.evaluation import evaluate as measure

    detector = load_detector(model, options.settings)
    with progress_of() as progress:
        return measure(
            detector,
            options.open(detector.card.crop, progress, detector.card.training),
            data=options.data_names,
            split=options.split_name,
            frames=options.frames,
            train_groups=train_groups_of(model, options.settings),
            by=by,
            resamples=options.resamples,
            seed=options.seed,
            on_progress=lambda done, total: progress(detector.card.name[:30], done, total),
        )


def _of_predictor(name: str, options: MeasuringAnswers, by: list[str] | None) -> Evaluation:
    from deepscan.evaluate.predictor import evaluate_predictor, load_predictor

    predictor = load_predictor(name)
    with progress_of() as progress:
        return evaluate_predictor(
            predictor,
            name,
            options.items(),
            threshold=0.5 if options.threshold is None else options.threshold,
            data=options.data_names,
            split=options.split_name,
            by=by,
            resamples=options.resamples,
            seed=options.seed,
            on_progress=lambda done, total: progress(name[:30], done, total),
        )


def _write(
    evaluation: Evaluation, json_file: str | None, csv_file: str | None, plots: Path | None, quiet: bool
) -> None:
    from rich.console import Console

    from deepscan.evaluate.evaluation_plots import draw_evaluation
    from deepscan.evaluate.tables import print_evaluation

    if not quiet:
        print_evaluation(evaluation, Console(highlight=False))
    write_outputs(
        [
            (json_file, lambda: json.dumps(evaluation.to_dict(), indent=1, allow_nan=False) + "\n"),
            (csv_file, evaluation.to_csv),
        ]
    )
    if plots is not None:
        for file in draw_evaluation(evaluation, plots):
            log.info("%s", file)
