"""The command line: parse, call one function, render, exit code.

Nothing heavy is imported before a command runs, so `--help` and completion answer at once.

Exit codes: 0 every input was answered, whatever the verdict; 1 with --exit-code when anything is fake; 2 wrong usage;
3 at least one input could not be read or scored; 130 interrupted. Results go to stdout, progress and logs to stderr.
"""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from deepscan import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from deepscan.config import PredictSettings
    from deepscan.records import Report, Result

EXIT_FAKE, EXIT_USAGE, EXIT_FAILED, EXIT_INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    name="deepscan",
    help="Deepfake detector for video: finds the faces, follows each person, gives a calibrated verdict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class DeviceName(StrEnum):
    """Where the networks run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"deepscan {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done, to stderr.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no warnings.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING
    logger = logging.getLogger("deepscan")
    logger.handlers[:] = [logging.StreamHandler()]
    logger.handlers[0].setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger.setLevel(level)
    logger.propagate = False


@app.command()
def predict(
    paths: Annotated[list[str], typer.Argument(help="Videos, images, folders or patterns.", show_default=False)],
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
    frames: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Frames sampled evenly over the whole duration.", show_default="32"),
    ] = None,
    tta: Annotated[
        bool | None,
        typer.Option("--tta/--no-tta", help="Average over several views of every face.", show_default="tta"),
    ] = None,
    model: Annotated[str, typer.Option(help="A detector's name or folder; see `deepscan models`.")] = "default",
    device: Annotated[DeviceName, typer.Option(help="Where the networks run.")] = DeviceName.AUTO,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=0.999,
            help="Call fake from this probability on; replaces the model's threshold and its uncertain band.",
            show_default="the model's",
        ),
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 when anything is fake.")] = False,
    allow_untrained: Annotated[
        bool,
        typer.Option("--allow-untrained", help="Allow --model BACKBONE with random weights; marks the report."),
    ] = False,
) -> None:
    """Judge videos and images: is a face in them manipulated?

    Example: deepscan predict clip.mp4 photos/ --json report.json
    """
    from deepscan.errors import DeepscanError

    if json_file == "-" and csv_file == "-":
        _fail("--json - and --csv - both want stdout. Give one of them a file name.", EXIT_USAGE)
    try:
        settings = _settings(
            frames=frames, tta=tta, threshold=threshold, device=device.value, allow_untrained=allow_untrained
        )
        report, interrupted = _predict_all(paths, model, settings)
        _write(report, json_file, csv_file)
    except DeepscanError as error:
        usage = error.reason in ("unknown_model", "untrained_model", "no_device", "config")
        _fail(str(error), EXIT_USAGE if usage else EXIT_FAILED)
    if interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if report.exit_code:
        raise typer.Exit(report.exit_code)
    if exit_code and any(r.verdict == "fake" for r in report.results):
        raise typer.Exit(EXIT_FAKE)


@app.command()
def models() -> None:
    """List the detectors that can judge and the backbones that can be trained."""
    from deepscan.overview import print_models

    print_models()


@app.command()
def info() -> None:
    """Versions, devices, engines and threads: what to put into a bug report."""
    from deepscan.overview import print_info

    print_info()


def main() -> None:
    """Entry point of the ``deepscan`` command."""
    try:
        app()
    except KeyboardInterrupt:
        _fail("Interrupted.", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our stdout went away (`deepscan predict ... | head`): nothing is left to say to it.
        sys.stderr.close()
        sys.exit(EXIT_FAILED)


def _settings(**given: object) -> PredictSettings:
    from deepscan.config import PredictSettings

    return PredictSettings.model_validate({name: value for name, value in given.items() if value is not None})


def _predict_all(paths: list[str], model: str, settings: PredictSettings) -> tuple[Report, bool]:
    """The report, and whether Ctrl-C ended it early: what was done until then is complete."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from deepscan.extract.inputs import expand_inputs
    from deepscan.pipeline import load_detector

    inputs = expand_inputs(paths)
    detector = load_detector(model, settings)
    results: list[Result] = []
    interrupted = False
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_stderr(), transient=True, disable=not _shows_progress()) as progress:
        task = progress.add_task("", total=len(inputs))
        try:
            for path, error in inputs:
                progress.update(task, description=path.name)
                results.append(detector.predict_or_error(path, error))
                progress.advance(task)
        except KeyboardInterrupt:
            interrupted = True
            logging.getLogger("deepscan").warning("Interrupted: %d of %d files done.", len(results), len(inputs))
    return detector.report(results), interrupted


def _write(report: Report, json_file: str | None, csv_file: str | None) -> None:
    from deepscan.files import write_atomically
    from deepscan.report import print_table, to_csv, to_json

    outputs = ((json_file, to_json), (csv_file, to_csv))
    # First to stdout: a file that cannot be written must not cost the answer.
    if "-" not in (json_file, csv_file):
        from rich.console import Console

        print_table(report, Console())
    for target, render in outputs:
        if target == "-":
            # Bytes: what reads our stdout expects UTF-8, whatever the terminal's encoding is.
            sys.stdout.flush()
            sys.stdout.buffer.write(render(report).encode())
    for target, render in outputs:
        if target not in (None, "-"):
            write_atomically(Path(str(target)), render(report).encode())


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _shows_progress() -> bool:
    return sys.stderr.isatty() and logging.getLogger("deepscan").isEnabledFor(logging.WARNING)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"deepscan: {message}", err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
