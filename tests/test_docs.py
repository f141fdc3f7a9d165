"""The pages: every command parses as the program parses it, what examples import is there, the site builds."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from madestores import pairs_store
from typer.main import get_command

from deepscan.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")] + sorted(ROOT.glob("docs/**/*.md"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
COMMAND = get_command(app)
USAGE_ERROR = typer.BadParameter.__base__  # of the click that this Typer brings


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page that are of these languages."""
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def commands(text: str) -> list[list[str]]:
    """The simple commands of a shell block: no comments, prompts, variables and pipes; what is no shell gives none."""
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # a line of what was printed
            continue
        simple: list[str] = []
        for word in [*words, ";"]:
            if word and set(word) <= set("|&;<>"):
                found.append(simple)
                simple = []
            elif simple or not re.match(r"^[A-Z_]+=", word):
                simple.append(word)
    return [command for command in found if command]


ALL = [
    pytest.param(command, id=f"{page.relative_to(ROOT)}: {' '.join(command)}"[:120])
    for page in PAGES
    for block in blocks(page, "", "bash", "sh", "console")
    for command in commands(block)
]


def parse(arguments: list[str]) -> None:
    """As the program parses them, without running anything; what it refuses is a UsageError."""
    command, context = COMMAND, None
    while True:
        try:
            context = command.make_context(command.name, list(arguments), parent=context)
        except typer.Exit:  # --help, --version
            return
        rest = [*getattr(context, "_protected_args", []), *context.args]
        if not hasattr(command, "resolve_command") or not rest:
            return
        _, command, arguments = command.resolve_command(context, rest)


def test_there_are_commands_to_look_at():
    assert sum(param.values[0][0] == "deepscan" for param in ALL) > 40


@pytest.mark.parametrize(
    "arguments", [["predict", "--frame", "3", "x"], ["models", "fetch"], ["nothing"], ["evaluate"]]
)
def test_what_the_program_would_refuse_is_refused(arguments):
    with pytest.raises(USAGE_ERROR):
        parse(arguments)


@pytest.mark.parametrize("command", ALL)
def test_every_command_of_the_pages_parses(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    if command[0] == "deepscan":
        parse(command[1:])
    elif command[0] == "python" and command[1].endswith(".py"):
        assert (ROOT / command[1]).is_file()
    elif command[:2] == ["pip", "install"]:
        for extras in re.findall(r"\[([\w,]+)\]", " ".join(command)):
            assert set(extras.split(",")) <= EXTRAS.keys()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_what_the_examples_import_is_there(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("deepscan"):
                module = import_module(node.module)
                assert all(hasattr(module, one.name) for one in node.names), ast.unparse(node)
            elif isinstance(node, ast.Import):
                assert all(find_spec(one.name.partition(".")[0]) for one in node.names), ast.unparse(node)


def test_the_example_of_a_store_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pairs_store(tmp_path / "data" / "mine-faces", n=20, length=2)
    (example,) = blocks(ROOT / "docs" / "crop-store.md", "python")
    names: dict[str, object] = {}
    exec(compile(example, "crop-store.md", "exec"), names)  # noqa: S102
    assert tuple(names["inputs"].shape) == (32, 3, 128, 128)
    assert tuple(names["crops"].shape[:2]) == (8, 3)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("material", reason="deepscan-video[docs] is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "cli" / "index.html").read_text(encoding="utf-8")
    for name in COMMAND.commands:
        assert f'id="deepscan-{name}"' in page


@pytest.mark.slow
def test_the_notebook_runs():
    pytest.importorskip("nbmake", reason="deepscan-video[docs] is not installed")
    options = ["-o", "addopts=", "-p", "no:xdist", "--nbmake", "--nbmake-timeout=600"]
    command = [sys.executable, "-m", "pytest", *options, "docs/tutorial.ipynb"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout
