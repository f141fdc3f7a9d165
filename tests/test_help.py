"""What ``--help`` shows, and the options that every command takes."""

from __future__ import annotations

import logging
import re
from itertools import pairwise

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from deepscan.cli import app
from deepscan.commands.help import GENERAL, PANELS

GROUPS = {
    "Judge": ["predict", "explain", "serve"],
    "Train": ["preprocess", "train", "recipes", "evaluate", "compare"],
    "Detectors": ["card", "ensemble", "export", "robustness", "info", "models"],
}
COMMANDS = [name for names in GROUPS.values() for name in names]


def shown(*arguments, columns=100):
    return CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": str(columns), "TERM": "dumb"}).output


def titles(text):
    return re.findall(r"╭─ (\w+) ─", text)


@pytest.fixture
def level():
    logger = logging.getLogger("deepscan")
    before, handlers, propagate = logger.level, logger.handlers[:], logger.propagate
    yield lambda: logger.level
    logger.setLevel(before)
    logger.handlers[:], logger.propagate = handlers, propagate


def test_the_help_of_predict_fits_a_screen_and_begins_with_everyday_options():
    text = shown("predict")
    assert len(text.splitlines()) <= 60
    assert titles(text) == ["Arguments", *PANELS, GENERAL]
    everyday, rare = ("--html", "--json", "--csv", "--model"), ("--engine", "--address", "--max", "--allow-untrained")
    assert max(text.index(name) for name in everyday) < min(text.index(name) for name in rare)


def test_commands_stand_in_groups():
    text = shown()
    assert "<bool>" not in text
    assert [title for title in titles(text) if title in GROUPS] == list(GROUPS)
    for name, following in pairwise(COMMANDS):
        assert text.index(f"│ {name} ") < text.index(f"│ {following} ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_panel_and_no_flag_a_type(name):
    text = shown(name)
    assert "Options" not in titles(text)
    assert not re.search(r"<(bool|list|str|path)", text)
    command = get_command(app).commands[name]
    assert {"verbose", "quiet"} <= {parameter.name for parameter in command.params}


@pytest.mark.parametrize("name", ["predict", "explain", "serve", "evaluate", "robustness", "card", "export"])
def test_commands_of_one_detector_take_it_alike(name):
    (model,) = (one for one in get_command(app).commands[name].params if one.name == "model")
    assert (model.opts, model.default) == (["--model"], "default")


@pytest.mark.parametrize(("option", "expected"), [("-v", "DEBUG"), ("--quiet", "ERROR"), ("-q", "ERROR")])
@pytest.mark.parametrize("after", [True, False])
def test_what_is_logged_can_be_said_on_either_side_of_the_command(option, expected, after, level):
    arguments = ["card", option] if after else [option, "card"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert level() == getattr(logging, expected)


def test_card_takes_a_model_either_way():
    outputs = {CliRunner().invoke(app, ["card", *rest]).output for rest in ([], ["default"], ["--model", "default"])}
    assert len(outputs) == 1
    assert CliRunner().invoke(app, ["card", "--model", "resnet18"]).output not in outputs
