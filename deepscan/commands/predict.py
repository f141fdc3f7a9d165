"""``deepscan predict``: videos and images are judged."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import typer

from deepscan.commands.outputs import Output, check_outputs, leave_stdout, to_stdout, write_outputs
from deepscan.commands.predict_run import PredictOptions, PredictRun, files_text
from deepscan.commands.terminal import EXIT_FAILED, EXIT_FAKE, EXIT_INTERRUPTED, EXIT_USAGE, fail, fail_with
from deepscan.text import printable

if TYPE_CHECKING:
    from deepscan.batch import InputBatch
    from deepscan.errors import DeepscanError
    from deepscan.types import Report

log = logging.getLogger(__name__)


def predict(options: PredictOptions) -> None:
    """Judge videos and images: is a face in them manipulated?

    Example: deepscan predict clip.mp4 photos/ --json report.json

    Many, and again after an interruption: deepscan predict archive/ --jsonl results.jsonl --jobs 4
    """
    if options.live is not None:
        from deepscan.commands.live import predict_live

        predict_live(options, options.live)
        return
    if not options.paths and not options.from_file:
        fail("Nothing to judge. Give files, folders or patterns, or a list of them with --from-file.", EXIT_USAGE)
    if "-" in (options.paths or []) and "-" in (options.from_file or []):
        fail("Both a clip and the list of inputs are to come through stdin. Give one of them as a file.", EXIT_USAGE)
    batch = _predict(options)
    if batch.n_failed:
        raise typer.Exit(EXIT_FAILED)
    if options.exit_code and batch.n_fake:
        raise typer.Exit(EXIT_FAKE)


def _predict(options: PredictOptions) -> InputBatch:
    """Judge and write everything."""
    from deepscan.errors import DeepscanError

    try:
        table = not _check(options)
        with options.fetcher() as fetcher:
            batch, ended_by = _run(options, PredictRun(options, fetcher), table)
        if isinstance(ended_by, DeepscanError):
            raise ended_by
    except DeepscanError as error:
        fail_with(error)
    except BrokenPipeError:
        # The reader of our stdout went away (`deepscan predict ... | head`): nothing is left to say to it.
        leave_stdout()
        raise typer.Exit(EXIT_FAILED) from None
    if ended_by is not None:
        raise typer.Exit(EXIT_INTERRUPTED)
    return batch


def _run(
    options: PredictOptions, run: PredictRun, table: bool
) -> tuple[InputBatch, DeepscanError | KeyboardInterrupt | None]:
    """What was done, once it is written, and what ended it early."""
    from deepscan.errors import DeepscanError

    batch, ended_by = run.judge()
    if isinstance(ended_by, DeepscanError) and not batch.n_done:
        raise ended_by
    if options.keeps_results:
        report = batch.report(run.passed_over)
        _write(report, options, table)
        if options.html_file is not None:
            run.write_page(report, batch, options.html_file)
            if log.isEnabledFor(logging.WARNING):
                typer.echo(f"deepscan: {options.html_file} is the page to open.", err=True)
    else:
        _print_summary(batch)
    _print_passed_over(run.passed_over)
    return batch, ended_by


def _check(options: PredictOptions) -> bool:
    """What would be found out after hours of work; whether stdout is taken.

    Raises:
        DeepscanError: a list cannot be read, there can be no page of that name, or no heat map.
    """
    from deepscan.extract.inputs import check_list
    from deepscan.files import json_of
    from deepscan.report.table import CSV_START, SCHEMA_ID

    for name in options.from_file or []:
        check_list(name)
    ours = json_of(SCHEMA_ID)
    outputs = [
        Output("--json", options.json_file, ours),
        Output("--csv", options.csv_file, CSV_START),
        Output("--jsonl", options.jsonl_file),  # it is added to, and ResultLines looks at all of it
    ]
    if options.html_file is not None:
        from deepscan.report.html import OURS, check_name

        check_name(options.html_file)
        outputs += [
            Output("--html", str(options.html_file.with_suffix(".json")), ours),
            Output("--html", str(options.html_file), OURS),
        ]
    stdout_is_taken = check_outputs(outputs, options.paths or [], options.from_file or [])
    if options.html_file is not None and options.heat:
        from deepscan.explain.gradcam import require_gradcam

        require_gradcam()
    return stdout_is_taken


def _write(report: Report, options: PredictOptions, table: bool) -> None:
    from deepscan.report.table import print_table, to_csv, to_json

    # First to stdout: a file that cannot be written must not cost the answer.
    if table:
        from rich.console import Console

        to_stdout(partial(print_table, report, Console()))
    write_outputs([(options.json_file, partial(to_json, report)), (options.csv_file, partial(to_csv, report))])


def _print_summary(batch: InputBatch) -> None:
    """One line to stderr, for a run whose results are in a file only."""
    if not log.isEnabledFor(logging.WARNING):
        return
    seconds = batch.elapsed_s
    took = f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
    parts = [f"{count:,} {verdict}" for verdict, count in sorted(batch.counts.items()) if verdict != "error"]
    if batch.reasons:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in batch.reasons.most_common())
        parts.append(f"{batch.n_failed:,} error ({reasons})")
    summary = ": ".join([f"{files_text(batch.n_done)} in {took}", *filter(None, [", ".join(parts)])])
    before = f"; {batch.n_recalled:,} of them done before" if batch.n_recalled else ""
    typer.echo(f"deepscan: {summary}{before}; {batch.per_second:.2f} files/s", err=True)


def _print_passed_over(passed_over: Counter[str]) -> None:
    """One line to stderr: a folder may hold other files that somebody took for videos."""
    if passed_over and log.isEnabledFor(logging.WARNING):
        from deepscan.extract.file_kinds import passed_over_text

        text = printable(f"{passed_over_text(passed_over)} in folders passed over; a file given by name is read.")
        typer.echo(f"deepscan: {text}", err=True)
