"""``deepscan predict``: videos and images are judged."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from itertools import chain, islice
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
    Model,
    Runtime,
    RuntimeChoice,
    Threshold,
    Tta,
    WorkEngine,
    limits_of,
    settings_of,
)
from deepscan.commands.outputs import (
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
    from collections.abc import Iterator

    from rich.progress import Progress

    from deepscan.batch import InputBatch, PagePictures
    from deepscan.config import PredictSettings
    from deepscan.detector import Detector
    from deepscan.errors import DeepscanError
    from deepscan.processes import Engine, EngineName
    from deepscan.report.html import Material
    from deepscan.types import Report

    Input = tuple[Path, DeepscanError | None]

# Heat maps take longer than the answer, in torch.
_MOST_WITH_HEAT = 10

log = logging.getLogger(__name__)

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="Videos, images, folders or patterns.", show_default=False),
]
Lists = Annotated[
    list[str] | None,
    typer.Option(
        "--from-file",
        metavar="FILE",
        help="A list of more: one a line, or ended by NUL; '-' is stdin. Repeatable.",
        show_default=False,
    ),
]
JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write JSON; '-' is stdout, instead of the table."),
]
CsvFile = Annotated[
    str | None,
    typer.Option("--csv", metavar="FILE", help="Write a CSV line a file; '-' is stdout, instead of the table."),
]
JsonlFile = Annotated[
    str | None,
    typer.Option(
        "--jsonl",
        metavar="FILE",
        help="Add a JSON line when a file is done; again goes on from there.",
    ),
]
HtmlFile = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write a page for people, with the JSON beside it.",
    ),
]
Heat = Annotated[
    bool | None,
    typer.Option(
        "--heat/--no-heat",
        help="Heat maps in the page; they need the part 'explain'.",
        show_default=f"up to {_MOST_WITH_HEAT} files",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Files at a time, each in a process.",
        show_default="1",
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        min=1,
        metavar="SECONDS",
        help="Give a file up after this time.",
        show_default="none",
    ),
]
ExitCode = Annotated[bool, typer.Option("--exit-code", help="Exit with 1 when anything is fake.")]


@dataclass(frozen=True)
class PredictOptions:
    """What is to be judged, how, and where the answers go; ``lists`` name more inputs."""

    paths: list[str]
    lists: list[str]
    model: str
    settings: PredictSettings
    workers: WorkerOptions | None
    json_file: str | None
    csv_file: str | None
    jsonl_file: str | None
    html_file: Path | None
    heat: bool | None

    @property
    def keeps_results(self) -> bool:
        """Whether something is written at the end, and not only line by line."""
        return self.jsonl_file is None or any((self.json_file, self.csv_file, self.html_file))


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Where to start worker processes, once there is something for them to do."""

    engine: EngineName
    jobs: int | None
    time_limit_s: float | None
    address: str | None

    def start(self) -> Engine:
        from deepscan.processes import create_engine

        return create_engine(self.engine, jobs=self.jobs, time_limit_s=self.time_limit_s, address=self.address)


def predict(
    paths: Paths = None,
    from_file: Lists = None,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    jsonl_file: JsonlFile = None,
    html_file: HtmlFile = None,
    heat: Heat = None,
    frames: Frames = None,
    min_segment: MinSegment = None,
    tta: Tta = None,
    attack_check: AttackCheck = None,
    model: Model = "default",
    device: Device = DeviceName.AUTO,
    runtime: Runtime = RuntimeChoice.AUTO,
    threshold: Threshold = None,
    limits: Limits = None,
    jobs: Jobs = None,
    engine: WorkEngine = EngineChoice.LOCAL,
    address: Address = None,
    time_limit: TimeLimit = None,
    exit_code: ExitCode = False,
    allow_untrained: AllowUntrained = False,
) -> None:
    """Judge videos and images: is a face in them manipulated?

    Example: deepscan predict clip.mp4 photos/ --json report.json

    Many, and again after an interruption: deepscan predict archive/ --jsonl results.jsonl --jobs 4
    """
    if not paths and not from_file:
        fail("Nothing to judge. Give files, folders or patterns, or a list of them with --from-file.", EXIT_USAGE)
    n_jobs = jobs or (1 if engine is EngineChoice.LOCAL else None)
    here = engine is EngineChoice.LOCAL and n_jobs == 1 and time_limit is None and address is None
    workers = None if here else WorkerOptions(engine.value, n_jobs, time_limit, address)
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
    outputs = json_file, csv_file, jsonl_file, html_file
    options = PredictOptions(paths or [], from_file or [], model, settings, workers, *outputs, heat)
    batch = _predict(options)
    if batch.n_failed:
        raise typer.Exit(EXIT_FAILED)
    if exit_code and batch.n_fake:
        raise typer.Exit(EXIT_FAKE)


def _predict(options: PredictOptions) -> InputBatch:
    """Judge and write everything."""
    from deepscan.errors import DeepscanError

    try:
        table = not _check(options)
        run = PredictRun(options)
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


def _check(options: PredictOptions) -> bool:
    """What would be found out after hours of work; whether stdout is taken.

    Raises:
        DeepscanError: a list cannot be read, there can be no page of that name, or no heat map.
    """
    from deepscan.extract.inputs import check_list
    from deepscan.files import json_of
    from deepscan.report.table import CSV_START, SCHEMA_ID

    for name in options.lists:
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
    stdout_is_taken = check_outputs(outputs, options.paths, options.lists)
    if options.html_file is not None and options.heat:
        from deepscan.explain.gradcam import require_gradcam

        require_gradcam()
    return stdout_is_taken


class PredictRun:
    """One run of the command."""

    def __init__(self, options: PredictOptions) -> None:
        self._options = options
        self.passed_over: Counter[str] = Counter()

    @cached_property
    def _detector(self) -> Detector:
        from deepscan.detector import load_detector

        return load_detector(self._options.model, self._options.settings)

    def judge(self) -> tuple[InputBatch, DeepscanError | KeyboardInterrupt | None]:
        """What was done, and what ended it early."""
        from contextlib import ExitStack, nullcontext

        from deepscan.batch import InputBatch
        from deepscan.detector import describe_detector
        from deepscan.errors import DeepscanError
        from deepscan.extract.inputs import expand_inputs, read_list
        from deepscan.report.result_log import ResultLines

        options, jsonl_file = self._options, self._options.jsonl_file
        inputs = expand_inputs(chain(options.paths, *map(read_list, options.lists)), self.passed_over)
        if options.workers is None:
            name, info = options.model, self._detector.info
        else:
            name, info = describe_detector(options.model, options.settings)
        with ExitStack() as stack:
            lines = None
            if jsonl_file is not None:
                # A million lines of earlier runs take minutes to read.
                with stderr().status("Reading the results of earlier runs") if shows_progress() else nullcontext():
                    lines = ResultLines(None if is_stdout(jsonl_file) else Path(jsonl_file), __version__, info)
                stack.enter_context(lines)
            engine = stack.enter_context(options.workers.start()) if options.workers is not None else None
            shown = _Shown(stack.enter_context(progress_bar()), options.paths, options.lists)
            pictures, inputs = self._pictures(inputs, trained=info.trained)
            batch = InputBatch(info, lines=lines, keep=options.keeps_results, pictures=pictures, on_done=shown)
            try:
                if engine is None:
                    batch.run(self._detector, inputs)
                else:
                    batch.run_on(engine, name, options.settings, inputs)
            except KeyboardInterrupt as error:
                again = "" if jsonl_file is None or is_stdout(jsonl_file) else "; the same command goes on from there"
                log.warning("Interrupted: %s done%s.", _files(batch.n_done), again)
                return batch, error
            except DeepscanError as error:
                return batch, error
        return batch, None

    def _pictures(self, inputs: Iterator[Input], *, trained: bool) -> tuple[PagePictures | None, Iterator[Input]]:
        """What a page shows, which depends on how many inputs there are; and the inputs."""
        from importlib.util import find_spec

        from deepscan.batch import PagePictures

        heat = self._options.heat
        if self._options.html_file is None:
            return None, inputs
        if heat is not None or not trained:
            return PagePictures(
                bool(heat) and trained, "Heat maps were not asked for." if heat is False else None
            ), inputs
        n_first, inputs = _peeked(inputs, _MOST_WITH_HEAT + 1)
        if n_first <= _MOST_WITH_HEAT:
            return PagePictures(find_spec("pytorch_grad_cam") is not None), inputs
        why = f"Heat maps are made for up to {_MOST_WITH_HEAT} files at a time; --heat makes them for any number."
        return PagePictures(False, why), inputs

    def write_page(self, report: Report, batch: InputBatch, path: Path) -> None:
        """The page. Pictures that the run did not keep, as of files that an earlier one judged, are taken now."""
        from datetime import datetime

        from deepscan.models.checkpoint import load_card, resolve_detector
        from deepscan.report.html import from_file, write_pages
        from deepscan.types import Result, VerdictLabel

        pictures, settings = batch.pictures, self._options.settings

        def material(result: Result) -> Material | None:
            if pictures is None or result.verdict is VerdictLabel.ERROR:
                return None
            file, kept = Path(result.path), batch.materials.get(result.path)
            if kept is None and pictures.heat:
                return pictures.material(self._detector, self._detector.analyze(file, keep=pictures.keep))
            why = pictures.not_explained
            return kept or from_file(file, result, limits=settings.limits, not_explained=why)

        with progress_bar() as bar:
            task = bar.add_task("report page", total=len(report.results), rate="", failed=0)
            write_pages(
                report,
                path,
                made=datetime.now().astimezone(),
                card=load_card(resolve_detector(self._options.model)) if report.model.trained else None,
                material=material,
                on_progress=lambda n, _: bar.update(task, completed=n),
            )


def _peeked(inputs: Iterator[Input], most: int) -> tuple[int, Iterator[Input]]:
    """How many there are, up to ``most``; and all of them."""
    from deepscan.errors import DeepscanError

    first: list[Input] = []

    def rest(failure: DeepscanError | None) -> Iterator[Input]:
        yield from first
        if failure is not None:
            raise failure  # after what came before it is judged
        yield from inputs

    try:
        for one in islice(inputs, most):
            first.append(one)
    except DeepscanError as error:
        return len(first), rest(error)
    return len(first), rest(None)


class _Shown:
    """A bar for whoever watches. How many files there are is found out while the first are judged."""

    def __init__(self, bar: Progress, paths: list[str], lists: list[str]) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None, rate="", failed=0)
        if not bar.disable and all(Path(name).is_file() for name in lists):  # a pipe can be read only once
            Thread(target=self._find_total, args=(paths, lists), daemon=True).start()

    def __call__(self, batch: InputBatch, path: Path) -> None:
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
    summary = ": ".join([f"{_files(batch.n_done)} in {took}", *filter(None, [", ".join(parts)])])
    before = f"; {batch.n_recalled:,} of them done before" if batch.n_recalled else ""
    typer.echo(f"deepscan: {summary}{before}; {batch.per_second:.2f} files/s", err=True)


def _print_passed_over(passed_over: Counter[str]) -> None:
    """One line to stderr: a folder may hold other files that somebody took for videos."""
    if passed_over and log.isEnabledFor(logging.WARNING):
        from deepscan.extract.file_kinds import passed_over_text

        text = printable(f"{passed_over_text(passed_over)} in folders passed over; a file given by name is read.")
        typer.echo(f"deepscan: {text}", err=True)


def _files(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"
