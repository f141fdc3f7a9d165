"""How the commands are shown by ``--help``, and the options that all of them take."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup
from typer.models import OptionInfo, ParameterInfo

JUDGE, TRAIN, DETECTORS = "Judge", "Train", "Detectors"  # groups of commands
GENERAL = "General"
# The options of each panel by the names of their parameters; panels and options are shown in this order.
PANELS = {
    "Input": (
        "data", "config", "by", "split", "dataset", "from_file", "live", "live_seconds", "on", "frames_of_data",
        "sample", "follow_links", "shard",
    ),
    "Output": (
        "html_file", "json_file", "csv_file", "jsonl_file", "to", "out", "name", "video", "heat", "error_level", "full",
        "markdown", "plots", "report", "merge", "exit_code", "host", "port", "auth", "licence",
        "private",
    ),
    "Model": (
        "model", "predictor", "threshold", "tta", "attack_check", "weights", "equal", "error_rate", "threshold_fpr",
    ),
    "Speed": (
        "frames", "min_segment", "jobs", "device", "runtime", "devices", "num_nodes", "accelerator", "cache", "resume",
        "engine", "address",
    ),
    "Limits": ("time_limit", "limits", "limit", "clip_seconds", "max_upload_mb", "max_duration"),
    "Expert": (
        "changes", "strengths", "floor", "unseen_half", "knows", "steps", "transfer_from", "random_resize",
        "list_changes", "size", "margin", "image", "val", "test", "reuse_boxes", "resamples", "seed", "allow_untrained",
        "allow_private_addresses", "force",
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
    """A command whose ``--help`` stands with the other general options, below its own; no argument has a type."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters as they are shown."""
        return _tidied(super().get_params(ctx))


class Group(TyperGroup):
    """All the commands: the options that come with Typer stand with the other general ones, flags without a type."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters as they are shown."""
        return _tidied(super().get_params(ctx))


def _tidied(parameters: list[Any]) -> list[Any]:
    for one in parameters:
        if isinstance(one, TyperArgument):
            one.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
        elif one.rich_help_panel is None:
            one.rich_help_panel, one.metavar = GENERAL, ""
    return parameters


def log_level(verbose: bool, quiet: bool) -> int:
    """Of deepscan's messages."""
    return logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING


def add_command(app: typer.Typer, function: Callable[..., None], group: str) -> None:
    """Make a function a command, with its options in panels and with ``--verbose`` and ``--quiet``.

    A parameter that is a dataclass stands for the options that its fields are.
    """
    signature = inspect.signature(function, eval_str=True)
    groups: dict[str, Any] = {p.name: p.annotation for p in signature.parameters.values() if is_dataclass(p.annotation)}
    parameters = [one for p in signature.parameters.values() for one in _options(p)]
    parameters.sort(key=lambda p: _position(p.name, p.annotation))
    for name, annotation in (("verbose", Verbose), ("quiet", Quiet)):
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_shown(name, annotation))
        )

    @wraps(function)
    def command(*, verbose: bool, quiet: bool, **given: Any) -> None:
        if verbose or quiet:
            logging.getLogger("deepscan").setLevel(log_level(verbose, quiet))
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        function(**given)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    app.command(rich_help_panel=group, cls=Command)(command)


def add_group(app: typer.Typer, function: Callable[[], None], commands: tuple[Callable[..., None], ...]) -> None:
    """Make a function a command that has others below it, of the group of detectors; it takes nothing itself."""
    group = typer.Typer(cls=Group, name=function.__name__, help=function.__doc__)

    @group.callback(invoke_without_command=True)
    def alone(context: typer.Context, verbose: Verbose = False, quiet: Quiet = False) -> None:
        if verbose or quiet:
            logging.getLogger("deepscan").setLevel(log_level(verbose, quiet))
        if context.invoked_subcommand is None:
            function()

    for command in commands:
        add_command(group, command, function.__name__.capitalize())
    app.add_typer(group, rich_help_panel=DETECTORS)


def _options(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """The parameter itself, or those that a dataclass stands for."""
    kind = parameter.annotation
    if not is_dataclass(kind):
        return [parameter.replace(annotation=_shown(parameter.name, kind))]
    types = get_type_hints(kind, include_extras=True)
    defaults = {f.name: inspect.Parameter.empty if f.default is MISSING else f.default for f in fields(kind)}
    return [
        inspect.Parameter(name, parameter.kind, default=default, annotation=_shown(name, types[name]))
        for name, default in defaults.items()
    ]


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


_METAVARS: dict[Any, str] = {int: "N", float: "X", str: "NAME", Path: "PATH"}


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
