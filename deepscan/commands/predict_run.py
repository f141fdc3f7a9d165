"""One run of ``deepscan predict``: the inputs are judged, here or in workers, and the page is written."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from deepscan.commands.options import Address, AllowUntrained, Full, JudgeOptions, WorkEngine
from deepscan.commands.outputs import is_stdout
from deepscan.commands.terminal import EngineChoice, progress_bar, shows_progress, stderr
from deepscan.text import printable
from deepscan.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from deepscan.batch import InputBatch, PagePictures
    from deepscan.detector import Detector
    from deepscan.errors import DeepscanError
    from deepscan.extract.fetch import Fetcher
    from deepscan.processes import Engine
    from deepscan.report.html import Material
    from deepscan.types import Report

    Input = tuple[Path, DeepscanError | None]

# Heat maps take longer than the answer, in torch.
MOST_WITH_HEAT = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PredictOptions(JudgeOptions):
    """What is judged, how, and where the answers go."""

    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Videos, images, folders, patterns, web addresses, or '-' for stdin.",
            show_default=False,
        ),
    ] = None
    from_file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A list of more, each ending in LF or NUL; '-' is stdin.",
            show_default=False,
        ),
    ] = None
    live: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Watch a camera (0), rtsp://... or a file, looped."),
    ] = None
    live_seconds: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="End --live after them.", show_default="Ctrl-C")
    ] = None
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write JSON; '-' is stdout, instead of the table.")
    ] = None
    csv_file: Annotated[
        str | None,
        typer.Option("--csv", metavar="FILE", help="Write a CSV line a file; '-' is stdout, instead of the table."),
    ] = None
    jsonl_file: Annotated[
        str | None,
        typer.Option("--jsonl", metavar="FILE", help="Add a JSON line when a file is done; again goes on from there."),
    ] = None
    html_file: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page for people, with the JSON beside it."),
    ] = None
    heat: Annotated[
        bool | None,
        typer.Option(
            "--heat/--no-heat",
            help="Heat maps in the page; they need the part 'explain'.",
            show_default=f"up to {MOST_WITH_HEAT} files",
        ),
    ] = None
    full: Full = False
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Files at a time, each in a process.", show_default="1"),
    ] = None
    engine: WorkEngine = EngineChoice.LOCAL
    address: Address = None
    time_limit: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Give a file up after this time.", show_default="none"),
    ] = None
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 when anything is fake.")] = False
    allow_untrained: AllowUntrained = False
    allow_private_addresses: Annotated[
        bool, typer.Option("--allow-private-addresses", help="Fetch from this machine and private networks, too.")
    ] = False

    def fetcher(self) -> Fetcher:
        """Makes files of addresses and stdin."""
        from deepscan.extract.fetch import MAX_BYTES, Fetcher

        limit = self.settings.limits.max_bytes
        return Fetcher(max_bytes=min(MAX_BYTES, limit or MAX_BYTES), allow_private=self.allow_private_addresses)

    @property
    def keeps_results(self) -> bool:
        """Whether something is written at the end, and not only line by line."""
        return self.jsonl_file is None or any((self.json_file, self.csv_file, self.html_file))

    @property
    def has_workers(self) -> bool:
        """Whether other processes than this one judge."""
        return (
            self.engine is not EngineChoice.LOCAL
            or self.jobs not in (None, 1)
            or (self.time_limit or self.address) is not None
        )

    def start_engine(self) -> Engine:
        """The processes that judge."""
        from deepscan.processes import create_engine

        jobs = self.jobs or (1 if self.engine is EngineChoice.LOCAL else None)
        return create_engine(self.engine.value, jobs=jobs, time_limit_s=self.time_limit, address=self.address)

    def inputs(self) -> Iterator[str]:
        """The arguments, then what the lists name."""
        from deepscan.extract.inputs import read_list

        return chain(self.paths or [], *map(read_list, self.from_file or []))


class PredictRun:
    """One run of the command."""

    def __init__(self, options: PredictOptions, fetcher: Fetcher) -> None:
        self._options, self._fetcher = options, fetcher
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
        from deepscan.extract.inputs import expand_inputs
        from deepscan.report.result_log import ResultLines

        options, jsonl_file = self._options, self._options.jsonl_file
        inputs = expand_inputs(options.inputs(), self.passed_over, self._fetcher)
        if options.has_workers:
            name, info = describe_detector(options.model, options.settings)
        else:
            name, info = options.model, self._detector.info
        with ExitStack() as stack:
            lines = None
            if jsonl_file is not None:
                # A million lines of earlier runs take minutes to read.
                with stderr().status("Reading the results of earlier runs") if shows_progress() else nullcontext():
                    lines = ResultLines(None if is_stdout(jsonl_file) else Path(jsonl_file), __version__, info)
                stack.enter_context(lines)
            engine = stack.enter_context(options.start_engine()) if options.has_workers else None
            shown = _Shown(stack.enter_context(progress_bar()), options)
            pictures, inputs = self._pictures(inputs, trained=info.trained)
            batch = InputBatch(
                info,
                lines=lines,
                keep=options.keeps_results,
                pictures=pictures,
                on_done=shown,
                fetcher=self._fetcher,
            )
            try:
                if engine is None:
                    batch.run(self._detector, inputs)
                else:
                    batch.run_on(engine, name, options.settings, inputs)
            except KeyboardInterrupt as error:
                again = "" if jsonl_file is None or is_stdout(jsonl_file) else "; the same command goes on from there"
                log.warning("Interrupted: %s done%s.", files_text(batch.n_done), again)
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
        n_first, inputs = _peeked(inputs, MOST_WITH_HEAT + 1)
        if n_first <= MOST_WITH_HEAT:
            return PagePictures(find_spec("pytorch_grad_cam") is not None), inputs
        why = f"Heat maps are made for up to {MOST_WITH_HEAT} files at a time; --heat makes them for any number."
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
            file, kept = self._fetcher.file(result.path), batch.materials.get(result.path)
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
                full=self._options.full,
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

    def __init__(self, bar: Progress, options: PredictOptions) -> None:
        self._bar, self._options = bar, options
        self._task = bar.add_task("", total=None, rate="", failed=0)
        if not bar.disable and all(Path(name).is_file() for name in options.from_file or []):
            Thread(target=self._find_total, daemon=True).start()  # a pipe can be read only once

    def __call__(self, batch: InputBatch, path: Path) -> None:
        rate = f"{batch.per_second:.2f}/s" if batch.per_second < 10 else f"{batch.per_second:.0f}/s"
        name = printable(path.name[-30:])
        self._bar.update(self._task, completed=batch.n_done, description=name, rate=rate, failed=batch.n_failed)

    def _find_total(self) -> None:
        from deepscan.errors import DeepscanError
        from deepscan.extract.inputs import expand_inputs

        try:
            total = sum(1 for _ in expand_inputs(self._options.inputs()))
        except DeepscanError as error:  # the run comes upon it, too
            log.debug("The files cannot be counted: %s", error)
        else:
            self._bar.update(self._task, total=total)


def files_text(count: int) -> str:
    return f"{count:,} file" if count == 1 else f"{count:,} files"
