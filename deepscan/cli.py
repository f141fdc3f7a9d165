"""The command line: parse, call one function, render, exit code.

Nothing heavy is imported before a command runs, so `--help` and completion answer at once.

Exit codes: 0 every input was answered, whatever the verdict; 1 with --exit-code when anything is fake; 2 wrong usage;
3 at least one input could not be read or scored; 130 interrupted, 143 ended by SIGTERM, 129 by a closed terminal: what
was done until then is reported whole. Results go to stdout, progress and logs to stderr.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer

from deepscan.commands.calibrate import calibrate
from deepscan.commands.card import card
from deepscan.commands.compare import compare
from deepscan.commands.ensemble import ensemble
from deepscan.commands.evaluate import evaluate
from deepscan.commands.explain import explain
from deepscan.commands.export import export
from deepscan.commands.help import DETECTORS, JUDGE, TRAIN, Group, Quiet, Verbose, add_command, add_group, log_level
from deepscan.commands.models import models, pull, push
from deepscan.commands.predict import predict
from deepscan.commands.preprocess import preprocess
from deepscan.commands.robustness import robustness
from deepscan.commands.serve import serve
from deepscan.commands.terminal import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from deepscan.commands.train import recipes, train
from deepscan.text import PrintableFormatter
from deepscan.version import DISTRIBUTION, __version__

app = typer.Typer(
    name="deepscan",
    cls=Group,
    help="Deepfake detector for video: finds the faces, follows each person, gives a calibrated verdict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"deepscan {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    verbose: Verbose = False,
    quiet: Quiet = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, metavar="", help="Print the version.")
    ] = False,
) -> None:
    logger = logging.getLogger("deepscan")
    logger.handlers[:] = [logging.StreamHandler()]
    logger.handlers[0].setFormatter(PrintableFormatter("%(levelname)s: %(message)s"))
    logger.setLevel(log_level(verbose, quiet))
    logger.propagate = False
    logging.getLogger("deepscan.train").setLevel(logging.NOTSET)


def info() -> None:
    """Versions, devices, engines and threads: what to put into a bug report."""
    from deepscan.report.overview import print_info

    print_info()


for _group, _commands in (
    (JUDGE, (predict, explain, serve)),
    (TRAIN, (preprocess, train, recipes, evaluate, calibrate, compare)),
    (DETECTORS, (card, ensemble, export, robustness, info)),
):
    for _command in _commands:
        add_command(app, _command, _group)
add_group(app, models, (pull, push))


def main() -> None:
    """Entry point of the ``deepscan`` command."""
    with _ended_in_order() as signals:
        try:
            app()
        except KeyboardInterrupt:
            typer.echo("deepscan: Interrupted.", err=True)
            sys.exit(128 + signals[0] if signals else EXIT_INTERRUPTED)
        except SystemExit as end:
            if signals and end.code == EXIT_INTERRUPTED:
                sys.exit(128 + signals[0])
            raise
        except ModuleNotFoundError as error:
            # An installation that only runs networks which were converted elsewhere, as that of the container.
            if error.name not in ("torch", "torchvision", "timm"):
                raise
            message = f"{error.name} is not installed, and this needs it. pip install {DISTRIBUTION} brings it."
            typer.echo(f"deepscan: {message}", err=True)
            sys.exit(EXIT_USAGE)
        except BrokenPipeError:
            # The reader of our stdout went away (`deepscan predict ... | head`): nothing is left to say to it.
            sys.stderr.close()
            sys.exit(EXIT_FAILED)


@contextmanager
def _ended_in_order() -> Iterator[list[int]]:
    """SIGTERM and a closed terminal end a run as Ctrl-C does, with what is done reported and nothing temporary left.

    Yields:
        Of these signals the one that came; empty so far.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        came.append(number)
        for other in ours:  # a second one must not end the clearing up
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    named = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    ours = [number for number in named if signal.getsignal(number) is signal.SIG_DFL]  # nohup ignores SIGHUP
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield came
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    main()
