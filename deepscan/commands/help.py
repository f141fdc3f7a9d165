"""How the commands are shown by ``--help``, and the options that all of them take."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand
from typer.models import OptionInfo, ParameterInfo

JUDGE, TRAIN, DETECTORS = "Judge", "Train", "Detectors"  # groups of commands
GENERAL = "General"
# The options of each panel by the names of their parameters; panels and options are shown in this order.
PANELS = {
    "Input": (
        "data", "config", "split", "dataset", "from_file", "on", "frames_of_data", "sample", "follow_links", "shard",
    ),
    "Output": (
        "html_file", "json_file", "csv_file", "jsonl_file", "to", "out", "name", "video", "heat", "markdown", "plots",
        "report", "merge", "exit_code", "host", "port", "auth",
    ),
    "Model": ("model", "threshold", "tta", "attack_check", "weights", "equal", "error_rate", "threshold_fpr"),
    "Speed": (
        "frames", "min_segment", "jobs", "device", "runtime", "devices", "num_nodes", "accelerator", "cache", "resume",
        "engine", "address",
    ),
    "Limits": ("time_limit", "limits", "limit", "clip_seconds", "max_upload_mb", "max_duration"),
    "Expert": (
        "changes", "strengths", "floor", "unseen_half", "knows", "steps", "transfer_from", "random_resize",
        "list_changes", "size", "margin", "image", "val", "test", "reuse_boxes", "resamples", "seed",
        "allow_untrained",
    ),
}  # fmt: skip
_POSITIONS = {name: (panel, index) for panel, names in PANELS.items() for index, name in enumerate(names)}
_ORDER = list(PANELS)

Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log what is done, to stderr.", metavar="", rich_help_panel=GENERAL)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no warnings.", metavar="", rich_help_panel=GENERAL)
]


class Command(TyperCommand):
    """A command whose ``--help`` stands with the other general options, below its own."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option, in the panel of the general ones."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel, option.metavar = GENERAL, ""
        return option


def log_level(verbose: bool, quiet: bool) -> int:
    """Of deepscan's messages."""
    return logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING


def add_command(app: typer.Typer, function: Callable[..., None], group: str) -> None:
    """Make a function a command, with its options in panels and with ``--verbose`` and ``--quiet``."""
    signature = inspect.signature(function, eval_str=True)
    parameters = [p.replace(annotation=_shown(p.name, p.annotation)) for p in signature.parameters.values()]
    parameters.sort(key=lambda p: _position(p.name, p.annotation))
    for name, annotation in (("verbose", Verbose), ("quiet", Quiet)):
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_shown(name, annotation))
        )

    @wraps(function)
    def command(*, verbose: bool, quiet: bool, **given: Any) -> None:
        if verbose or quiet:
            logging.getLogger("deepscan").setLevel(log_level(verbose, quiet))
        function(**given)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    app.command(rich_help_panel=group, cls=Command)(command)


def _shown(name: str, annotation: Any) -> Any:
    """The annotation of a parameter with its panel; a flag needs no type beside it."""
    info = _info(annotation)
    if not isinstance(info, OptionInfo):
        return annotation
    kind, info = get_args(annotation)[0], copy(info)
    if name in _POSITIONS:
        info.rich_help_panel = _POSITIONS[name][0]
    if kind is bool or bool in get_args(kind):
        info.metavar = ""
    elif info.metavar is None:
        info.metavar = _METAVARS.get(kind) or next((_METAVARS[k] for k in get_args(kind) if k in _METAVARS), None)
    return Annotated[kind, info]


_METAVARS: dict[Any, str] = {int: "N", float: "X", str: "NAME"}


def _position(name: str, annotation: Any) -> tuple[int, int]:
    """Arguments first; then by panel."""
    if not isinstance(_info(annotation), OptionInfo):
        return -1, 0
    panel, index = _POSITIONS.get(name, (_ORDER[-1], 0))
    return _ORDER.index(panel), index


def _info(annotation: Any) -> ParameterInfo | None:
    if get_origin(annotation) is not Annotated:
        return None
    return next((one for one in get_args(annotation)[1:] if isinstance(one, ParameterInfo)), None)
