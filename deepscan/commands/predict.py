"""``deepscan predict``: videos and images are judged."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from deepscan.commands.options import (
    Address,
    AllowUntrained,
    AttackCheck,
    Device,
    Frames,
    Limits,
    MinSegment,
    Runtime,
    RuntimeChoice,
    Threshold,
    Tta,
    WorkEngine,
    limits_of,
    settings_of,
)
from deepscan.commands.outputs import (
    REPORT_CSV,
    Output,
    check_outputs,
    is_stdout,
    leave_stdout,
    to_stdout,
    write_outputs,
)
from deepscan.commands.terminal import (
    EXIT_FAILED,
    EXIT_FAKE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    DeviceName,
    EngineChoice,
    fail,
    fail_with,
    progress_bar,
    shows_progress,
    stderr,
)
from deepscan.text import printable
from deepscan.version import __version__

if TYPE_CHECKING:
    from rich.progress import Progress

    from deepscan.batch import Batch
    from deepscan.config import PredictSettings
    from deepscan.detector import Detector
    from deepscan.errors import DeepscanError
    from deepscan.processes import Engine, EngineName
    from deepscan.report.html import Material
    from deepscan.types import Report

# Heat maps take a file's judgement once more, in torch.
_MOST_WITH_HEAT = 10

log = logging.getLogger(__name__)


def predict(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Videos, images, folders or patterns.", show_default=False),
    ] = None,
    from_file: Annotated[
        list[str] | None,
        typer.Option(
            "--from-file",
            metavar="FILE",
            help="Read more of them from a list: one a line, or ended by NUL as find -print0 does; '-' is stdin. "
            "Repeatable.",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the report as JSON; '-' is stdout, instead of the table."),
    ] = None,
    csv_file: Annotated[
        str | None,
        typer.Option(
            "--csv", metavar="FILE", help="Write one line a file as CSV; '-' is stdout, instead of the table."
        ),
    ] = None,
    jsonl_file: Annotated[
        str | None,
        typer.Option(
            "--jsonl",
            metavar="FILE",
            help="Add a line of JSON as soon as a file is done; '-' is stdout. "
            "Files that have theirs from an earlier run, and have not changed, are passed over.",
        ),
    ] = None,
    html_file: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write a report for people, one page that loads nothing; the JSON lies beside it.",
        ),
    ] = None,
    heat: Annotated[
        bool | None,
        typer.Option(
            "--heat/--no-heat",
            help="Heat maps in the page; they need the optional part 'explain'.",
            show_default=f"up to {_MOST_WITH_HEAT} files, where that is installed",
        ),
    ] = None,
    frames: Frames = None,
    min_segment: MinSegment = None,
    tta: Tta = None,
    attack_check: AttackCheck = None,
    model: Annotated[str, typer.Option(help="A detector's name or folder; see `deepscan models`.")] = "default",
    device: Device = DeviceName.AUTO,
    runtime: Runtime = RuntimeChoice.AUTO,
    threshold: Threshold = None,
    limits: Limits = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            help="Files judged at a time, each in a process of its own when above 1.",
            show_default="1; all cores with ray",
        ),
    ] = None,
    engine: WorkEngine = EngineChoice.LOCAL,
    address: Address = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="Give a file up after this time; a worker's first file includes loading the model.",
            show_default="none",
        ),
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 when anything is fake.")] = False,
    allow_untrained: AllowUntrained = False,
) -> None:
    """Judge videos and images: is a face in them manipulated?

    Example: deepscan predict clip.mp4 photos/ --json report.json

    Many, and again after an interruption: deepscan predict archive/ --jsonl results.jsonl --jobs 4
    """
    from deepscan.errors import DeepscanError

    if not paths and not from_file:
        fail("Nothing to judge. Give files, folders or patterns, or a list of them with --from-file.", EXIT_USAGE)
    keep = jsonl_file is None or json_file is not None or csv_file is not None or html_file is not None
    try:
        table = not _check(paths or [], from_file or [], json_file, csv_file, jsonl_file, html_file)
        if html_file is not None and heat:
            from deepscan.explain.gradcam import require_gradcam

            require_gradcam()
        settings = settings_of(
            frames=frames,
            min_segment_s=min_segment,
            tta=tta,
            attack_check=attack_check,
            threshold=threshold,
            device=device.value,
            runtime=runtime.value,
            limits=limits_of(limits),
            allow_untrained=allow_untrained,
        )
        n_jobs = jobs or (1 if engine is EngineChoice.LOCAL else None)
        here = engine is EngineChoice.LOCAL and n_jobs == 1 and time_limit is None and address is None
        workers = None if here else _Workers(engine.value, n_jobs, time_limit, address)
        passed_over: Counter[str] = Counter()
        batch, ended_by = _run(paths or [], from_file or [], model, settings, workers, jsonl_file, keep, passed_over)
        if isinstance(ended_by, DeepscanError) and not batch.n_done:
            raise ended_by
        if keep:
            report = batch.report(passed_over)
            _write(report, json_file, csv_file, table)
            if html_file is not None:
                _write_page(report, html_file, model, settings, heat)
        else:
            _print_summary(batch)
        _print_passed_over(passed_over)
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
    if batch.n_failed:
        raise typer.Exit(EXIT_FAILED)
    if exit_code and batch.n_fake:
        raise typer.Exit(EXIT_FAKE)


def _check(
    paths: list[str],
    lists: list[str],
    json_file: str | None,
    csv_file: str | None,
    jsonl_file: str | None,
    html_file: Path | None,
) -> bool:
    """What would be found out after hours of work; whether stdout is taken.

    Raises:
        DeepscanError: a list cannot be read, or there can be no page of that name.
    """
    from deepscan.extract.inputs import check_list
    from deepscan.files import json_of
    from deepscan.report.table import SCHEMA_ID

    for name in lists:
        check_list(name)
    ours = json_of(SCHEMA_ID)
    outputs = [
        Output("--json", json_file, ours),
        Output("--csv", csv_file, REPORT_CSV),
        Output("--jsonl", jsonl_file),  # it is added to, and ResultLines looks at all of it
    ]
    if html_file is not None:
        from deepscan.report.html import OURS, check_name

        check_name(html_file)
        outputs += [
            Output("--html", str(html_file.with_suffix(".json")), ours),
            Output("--html", str(html_file), OURS),
        ]
    return check_outputs(outputs, paths, lists)


def _run(
    paths: list[str],
    lists: list[str],
    model: str,
    settings: PredictSettings,
    workers: _Workers | None,
    jsonl_file: str | None,
    keep: bool,
    passed_over: Counter[str],
) -> tuple[Batch, DeepscanError | KeyboardInterrupt | None]:
    """What was done, and what ended it early."""
    from contextlib import ExitStack, nullcontext

    from deepscan.batch import Batch
    from deepscan.detector import describe_detector, load_detector
    from deepscan.errors import DeepscanError
    from deepscan.extract.inputs import expand_inputs, read_list
    from deepscan.report.result_log import ResultLines

    inputs = expand_inputs(chain(paths, *map(read_list, lists)), passed_over)
    detector = load_detector(model, settings) if workers is None else None
    name, about = (model, detector.info) if detector is not None else describe_detector(model, settings)
    with ExitStack() as stack:
        lines = None
        if jsonl_file is not None:
            # A million lines of earlier runs take minutes to read.
            with stderr().status("Reading the results of earlier runs") if shows_progress() else nullcontext():
                lines = ResultLines(None if is_stdout(jsonl_file) else Path(jsonl_file), __version__, about)
            stack.enter_context(lines)
        engine = stack.enter_context(workers.start()) if workers is not None else None
        bar = stack.enter_context(progress_bar())
        batch = Batch(about, lines=lines, keep=keep, on_done=_Shown(bar, paths, lists))
        try:
            if detector is not None:
                batch.run(detector, inputs)
            elif engine is not None:
                batch.run_on(engine, name, settings, inputs)
        except KeyboardInterrupt as error:
            again = "" if jsonl_file is None or is_stdout(jsonl_file) else "; the same command goes on from there"
            log.warning("Interrupted: %s done%s.", _files(batch.n_done), again)
            return batch, error
        except DeepscanError as error:
            return batch, error
    return batch, None


@dataclass(frozen=True, slots=True)
class _Workers:
    """Where to start worker processes, once there is something for them to do."""

    engine: EngineName
    jobs: int | None
    time_limit_s: float | None
    address: str | None

    def start(self) -> Engine:
        from deepscan.processes import create_engine

        return create_engine(self.engine, jobs=self.jobs, time_limit_s=self.time_limit_s, address=self.address)


class _Shown:
    """A bar for whoever watches. How many files there are is found out while the first are judged."""

    def __init__(self, bar: Progress, paths: list[str], lists: list[str]) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, rate="", failed=0)
        if not bar.disable and all(Path(name).is_file() for name in lists):  # a pipe can be read only once
            Thread(target=self._find_total, args=(paths, lists), daemon=True).start()

    def __call__(self, batch: Batch, path: Path) -> None:
        rate = f"{batch.per_second:.2f}/s" if batch.per_second < 10 else f"{batch.per_second:.0f}/s"
        name = printable(path.name[-30:])
        self._bar.update(self._task, completed=batch.n_done, description=name, rate=rate, failed=batch.n_failed)

    def _find_total(self, paths: list[str], lists: list[str]) -> None:
        from deepscan.errors import DeepscanError
        from deepscan.extract.inputs import expand_inputs, read_list

        try:
            total = sum(1 for _ in expand_inputs(chain(paths, *map(read_list, lists))))
        except DeepscanError as error:  # the run comes upon it, too
            log.debug("The files cannot be counted: %s", error)
        else:
            self._bar.update(self._task, total=total)


def _write(report: Report, json_file: str | None, csv_file: str | None, table: bool) -> None:
    from deepscan.report.table import print_table, to_csv, to_json

    # First to stdout: a file that cannot be written must not cost the answer.
    if table:
        from rich.console import Console

        to_stdout(partial(print_table, report, Console()))
    write_outputs([(json_file, partial(to_json, report)), (csv_file, partial(to_csv, report))])


def _write_page(report: Report, path: Path, model: str, settings: PredictSettings, heat: bool | None) -> None:
    """The page, with pictures that are taken from the files once more."""
    from datetime import datetime
    from importlib.util import find_spec

    from deepscan.models.checkpoint import load_card, resolve_detector
    from deepscan.report.html import from_file, write_pages
    from deepscan.types import Result, VerdictLabel

    few = len(report.results) <= _MOST_WITH_HEAT
    with_heat = report.model.trained and (heat if heat is not None else few and find_spec("pytorch_grad_cam"))
    why = "Heat maps were not asked for." if heat is False else None
    if heat is None and not few:
        why = f"Heat maps are made for up to {_MOST_WITH_HEAT} files at a time; --heat makes them for any number."

    def material(result: Result) -> Material | None:
        file = Path(result.path)
        if result.verdict is VerdictLabel.ERROR:
            return None
        return explained(file) if with_heat else from_file(file, result, limits=settings.limits, not_explained=why)

    def explained(file: Path) -> Material:
        from deepscan.explain.evidence import explain
        from deepscan.extract.isolation.client import file_facts
        from deepscan.report.html import from_explanation

        return from_explanation(explain(detector(), file), file_facts(file, settings.limits))

    @cache
    def detector() -> Detector:
        from deepscan.detector import load_detector

        return load_detector(model, settings)

    with progress_bar() as bar:
        task = bar.add_task("report page", total=len(report.results), rate="", failed=0)
        write_pages(
            report,
            path,
            made=datetime.now().astimezone(),
            card=load_card(resolve_detector(model)) if report.model.trained else None,
            material=material,
            on_progress=lambda n, _: bar.update(task, completed=n),
        )


def _print_summary(batch: Batch) -> None:
    """One line to stderr, for a run whose results are in a file only."""
    if not log.isEnabledFor(logging.WARNING):
        return
    seconds = batch.elapsed_s
    took = f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
    parts = [f"{count:,} {verdict}" for verdict, count in sorted(batch.counts.items()) if verdict != "error"]
    if batch.reasons:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in batch.reasons.most_common())
        parts.append(f"{batch.n_failed:,} error ({reasons})")
    told = ": ".join([f"{_files(batch.n_done)} in {took}", *filter(None, [", ".join(parts)])])
    before = f"; {batch.n_recalled:,} of them done before" if batch.n_recalled else ""
    typer.echo(f"deepscan: {told}{before}; {batch.per_second:.2f} files/s", err=True)


def _print_passed_over(passed_over: Counter[str]) -> None:
    """One line to stderr: a folder may hold other files that somebody took for videos."""
    if passed_over and log.isEnabledFor(logging.WARNING):
        from deepscan.extract.file_kinds import passed_over_text

        told = printable(f"{passed_over_text(passed_over)} in folders passed over; a file given by name is read.")
        typer.echo(f"deepscan: {told}", err=True)


def _files(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"
