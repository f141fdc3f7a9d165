"""``deepscan predict --live``: a running verdict on a camera or stream."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from deepscan.commands.terminal import EXIT_FAKE, EXIT_INTERRUPTED, EXIT_USAGE, fail, fail_with

if TYPE_CHECKING:
    from deepscan.commands.predict_run import PredictOptions
    from deepscan.types import Result


def predict_live(options: PredictOptions, source: str) -> None:
    """Print a verdict every second: in one line that changes for whoever watches, else in a line each."""
    from deepscan.errors import DeepscanError

    outputs = options.json_file, options.csv_file, options.jsonl_file, options.html_file
    if options.paths or options.from_file or any(outputs) or options.has_workers:
        fail("--live is a camera or stream alone: leave files, outputs and workers out.", EXIT_USAGE)
    seen = _Seen()
    is_interrupted = False
    try:
        _watch(options, source, seen)
    except KeyboardInterrupt:
        is_interrupted = True
    except DeepscanError as error:
        seen.print_summary()
        fail_with(error)
    seen.print_summary()
    if is_interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if options.exit_code and seen.verdicts["fake"]:
        raise typer.Exit(EXIT_FAKE)


def _watch(options: PredictOptions, source: str, seen: _Seen) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from deepscan.detector import load_detector
    from deepscan.extract.video.live import check_source
    from deepscan.live import watch
    from deepscan.report.table import status_line

    check_source(source)
    detector = load_detector(options.model, options.settings)
    band = detector.info.uncertain_band
    console = Console(highlight=False)
    answers = watch(detector, source, seconds=options.live_seconds)
    with closing(answers), Live(console=console, auto_refresh=False, transient=True) as live:  # type: ignore[type-var]
        for time_s, result in answers:
            seen.add(result)
            line = Text(f"{time.strftime('%H:%M:%S', time.gmtime(time_s))}  ") + status_line(result, band)
            line.no_wrap, line.overflow = True, "ellipsis"
            if console.is_terminal:
                live.update(line, refresh=True)
            else:
                console.print(line)


class _Seen:
    """How often each verdict was given, and one result of each kind, for what their words mean."""

    def __init__(self) -> None:
        self.verdicts: Counter[str] = Counter()
        self._kinds: dict[tuple[str, str | None], Result] = {}

    def add(self, result: Result) -> None:
        self.verdicts[str(result.verdict)] += 1
        self._kinds.setdefault((result.verdict, result.reason), result)

    def print_summary(self) -> None:
        from rich.console import Console

        from deepscan.report.table import print_explanations, totals

        console = Console(highlight=False)
        if self.verdicts:
            console.print(totals(self.verdicts, "answer"), style="bold")
            print_explanations(list(self._kinds.values()), console)
