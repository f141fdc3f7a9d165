"""Results as text: to files or, for ``-``, to stdout. Where commands may write is decided here, for all of them."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from deepscan.commands.terminal import EXIT_USAGE, fail, fail_with

# How every file of a kind begins, in this version and in those before.
EVALUATION_CSV = re.compile(rb"dataset,video_id,label,method,")
COMPARISON_CSV = re.compile(rb"model,parameters_m,")
COMPARISON_MARKDOWN = re.compile(rb"\| Model \| Million weights \|")
CARD_MARKDOWN = re.compile(rb"# Model card: ")

_STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class Output(NamedTuple):
    """Where a result goes.

    Attributes:
        option: that asked for it.
        target: a file, ``-`` for stdout, or None where it was not asked for.
        ours: what deepscan writes there; see :func:`deepscan.files.check_target`.
    """

    option: str
    target: str | None
    ours: re.Pattern[bytes] | None = None


def check_outputs(outputs: Sequence[Output], inputs: Sequence[str] = (), lists: Sequence[str] = ()) -> bool:
    """End the command before the work, not after it, where an output has nowhere to go or would destroy something.

    Args:
        outputs: of the command.
        inputs: its arguments; what lies in folders and comes of patterns is not looked at, as only files that deepscan
            wrote can be replaced anyway.
        lists: files that name more of them.

    Returns:
        Whether stdout is taken by one of them, so that no table belongs there.
    """
    from deepscan.errors import OutputError
    from deepscan.files import check_target

    taken: dict[str, str] = {}
    for option, target, ours in outputs:
        if target is None:
            continue
        destination = "-" if is_stdout(target) else os.path.realpath(target)
        if destination in taken:
            both = f"{taken[destination]} and {option} {target}"
            want = "stdout" if destination == "-" else target
            fail(f"{both} both want {want}. Give one of them another file name.", EXIT_USAGE)
        taken[destination] = f"{option} {target}"
        if destination == "-":
            continue
        role = _role(target, inputs, lists)
        if role is not None:
            fail(f"{option} {target} is {role}, and would be overwritten. Give another name.", EXIT_USAGE)
        try:
            check_target(Path(target), ours)
        except OutputError as error:
            fail_with(OutputError(f"{option} {error.problem}", error.cause, error.hint))
    return "-" in taken


def is_stdout(target: str | None) -> bool:
    """Whether a target is stdout."""
    return target in _STDOUT


def write_outputs(outputs: Iterable[tuple[str | None, Callable[[], str]]]) -> None:
    """Write what was asked for, stdout first: a file that cannot be written costs neither the answer nor another file.

    Raises:
        OutputError: a file cannot be written; its content is then kept elsewhere, if that is possible.
        BrokenPipeError: the reader of stdout has gone.
    """
    from deepscan.errors import OutputError
    from deepscan.files import write_atomically

    given = [(target, render) for target, render in outputs if target is not None]
    for target, render in given:
        if is_stdout(target):
            # Bytes: what reads our stdout expects UTF-8, whatever the terminal's encoding is.
            to_stdout(lambda render=render: sys.stdout.buffer.write(render().encode()))  # type: ignore[misc]
    failures: list[OutputError] = []
    for target, render in given:
        if not is_stdout(target):
            data = render().encode()
            try:
                write_atomically(Path(target), data)
            except OutputError as error:
                failures.append(OutputError(error.problem, error.cause, _kept_elsewhere(Path(target), data)))
    if failures:
        raise failures[0]


def to_stdout(write: Callable[[], object]) -> None:
    """Write to stdout and flush it.

    Raises:
        OutputError: it cannot be written.
        BrokenPipeError: its reader has gone.
    """
    from deepscan.errors import OutputError

    try:
        sys.stdout.flush()
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        leave_stdout()
        raise OutputError("stdout cannot be written", error.strerror or str(error)) from error


def leave_stdout() -> None:
    """What is left in its buffer would fail once more when Python ends."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _kept_elsewhere(path: Path, data: bytes) -> str:
    """Hours of work are not lost with a folder that went away meanwhile."""
    try:
        handle, name = tempfile.mkstemp(prefix="deepscan-", suffix=path.suffix)
        os.close(handle)
        Path(name).write_bytes(data)
    except OSError:
        return ""
    return f"It was kept as {name}."


def _role(target: str, inputs: Iterable[str], lists: Iterable[str]) -> str | None:
    """What else a target is to the command, if anything."""
    if not Path(target).is_file():
        return None
    try:
        if os.path.samestat(os.fstat(1), Path(target).stat()):
            return "where stdout goes"
    except OSError:  # there is no stdout
        pass
    if any(_is_file(name, target) for name in lists):
        return "the list of inputs"
    if any(_is_file(name, target) for name in _named(inputs, lists, Path(target).name)):
        return "one of the inputs"
    return None


def _named(inputs: Iterable[str], lists: Iterable[str], name: str) -> Iterator[str]:
    """The arguments, and of lists that can be read twice the lines that end in a file's name."""
    from deepscan.extract.inputs import read_list

    yield from inputs
    for path in lists:
        if path != "-" and Path(path).is_file():
            yield from (line for line in read_list(path) if line.endswith(name))


def _is_file(name: str, target: str) -> bool:
    try:
        return Path(target).samefile(name)
    except (OSError, ValueError):
        return False
