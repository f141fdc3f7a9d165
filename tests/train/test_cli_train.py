"""`deepscan train` as users run it: killed in the middle, resumed, and what it says when something is wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from halting import halting, wait_at_work
from madestores import pairs_store
from safetensors.torch import load_file
from typer.testing import CliRunner

from deepscan.cli import app
from deepscan.detector import load_detector
from deepscan.models.checkpoint import load_card
from deepscan.report.html.model_view import model_view
from deepscan.train.recipe import RECIPES, load_recipe
from deepscan.train.run import settle

DEFAULT = RECIPES / "default.yaml"
STAGES = [stage.name for stage in load_recipe(DEFAULT).stages]
SHORT = ["crop.size_px=32", "checkpoint_steps=2", "stages.0.size_px=32"]
SHORT += [f"stages.{n}.{key}" for n in range(len(STAGES)) for key in ("epochs=2", "steps_per_epoch=3", "batch_size=4")]


def words(store, out, *more):
    changes = [word for change in SHORT for word in ("--set", change)]
    return ["train", "--config", DEFAULT, "--data", store, "--out", out, *changes, *more]


def command(store, out, *more):
    return [sys.executable, "-m", "deepscan.cli", *map(str, words(store, out, *more))]


@pytest.mark.slow
def test_the_default_recipe_killed_and_resumed_gives_the_same_weights(tmp_path):
    """SIGKILL in the first and in the last stage; all stages end with the weights of an uninterrupted run."""
    store = pairs_store(tmp_path / "store", n=20, length=2)
    whole = subprocess.run(command(store, tmp_path / "whole"), check=True, capture_output=True, text=True, timeout=600)
    assert f"stage 1 of {len(STAGES)} ({STAGES[0]}): 6 steps of 4 images" in whole.stderr
    run = tmp_path / "run"
    for stage in (STAGES[0], STAGES[-1]):
        more = ["--resume"] if run.exists() else []
        last = run / stage / "last.ckpt"
        halted = halting(
            "deepscan.train.callbacks:CheckpointWithinEpochs.on_train_batch_end", last, 0, *words(store, run, *more)
        )
        process = subprocess.Popen(halted, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_at_work(process, last.exists)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL
        assert not (run / "card.json").exists()
    done = subprocess.run(command(store, run, "--resume"), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    for stage in STAGES:
        one, other = (load_file(folder / stage / "final.safetensors") for folder in (tmp_path / "whole", run))
        assert all(one[name].equal(other[name]) for name in one), stage
    assert "AUC" in done.stdout
    assert "deepscan predict --model" in done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--config", "missing.yaml"], "no file and no recipe"),
        (["--set", "stages.0.epoch=1"], "did you mean epochs?"),
        (["--data", "nowhere"], "no such file or folder"),
        (["--set", "crop.margin=0.3"], "cut by another rule"),
        (["--set", "model.backbone=resnet19", "--set", "crop.size_px=32"], "resnet19"),
        (["--set", "crop.size_px=64"], "too small"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path, monkeypatch, change, message):
    store = pairs_store(tmp_path / "store", n=5)
    monkeypatch.chdir(tmp_path)
    words = ["--config", str(DEFAULT), "--data", str(store), "--out", "run"]
    for option, value in zip(change[::2], change[1::2], strict=True):
        words = [
            value if before == option and option != "--set" else word
            for before, word in zip(["", *words], words, strict=False)
        ]
        words += [option, value] if option == "--set" else []
    done = CliRunner().invoke(app, ["train", *words])
    assert done.exit_code in (2, 3), done.output
    assert message in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("deepscan:")]) == 1


# Whose model it is

RECIPE = """
name: default
version: "9.8"
model: {backbone: custom_cnn, head: {name: mean}}
crop: {size_px: 32}
data:
  sources:
    - {name: dfdc, path: dfdc_faces, share: 0.7, about: what we trained on, terms: our terms}
limits: ["Of four manipulations it called three real."]
stages: [{epochs: 1, steps_per_epoch: 1, batch_size: 4}]
"""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "default.yaml"
    path.write_text(RECIPE)
    return path


def test_a_model_of_other_data_does_not_pose_as_the_recipes_own(tmp_path, recipe_file):
    """Also where the data is called as one of the recipe's sources is."""
    store = pairs_store(tmp_path / "store", n=8, dataset="dfdc")
    run = tmp_path / "runs" / "mine"
    done = CliRunner().invoke(app, ["train", "--config", str(recipe_file), "--data", str(store), "--out", str(run)])
    assert done.exit_code == 0, done.stderr
    card = load_card(run)
    assert (card.name, card.version) == ("mine", "1")
    assert [set(row) for row in card.data] == [{"name", "use"}]
    info = load_detector(run).info
    assert (info.name, info.version) == ("mine", "1")
    view = model_view(info, card, "0", "report.json", "0" * 64)
    shown = CliRunner().invoke(app, ["card", str(run)]).stdout
    assert view.name == "mine 1"
    assert shown.startswith("# Model card: mine 1")
    for text in (shown, (run / "recipe.yaml").read_text(), " ".join(view.limits)):
        for ours in ("9.8", "three real", "what we trained on", "our terms"):
            assert ours not in text


@pytest.mark.parametrize(
    ("out", "changes", "own_sources", "named", "folder"),
    [
        ("runs/mine", (), False, ("mine", "1"), "runs/mine"),
        ("runs/my first", (), False, ("my-first", "1"), "runs/my first"),
        ("runs/mine", ("name=2026", "version=0.10"), False, ("2026", "0.10"), "runs/mine"),
        (None, (), False, ("default-videos", "1"), "runs/default-videos"),
        (None, ("name=his",), False, ("his", "1"), "runs/his"),
        (None, (), True, ("default", "9.8"), "runs/default"),
        ("runs/again", (), True, ("again", "9.8"), "runs/again"),
        ("runs/again", ("name=default",), True, ("default", "9.8"), "runs/again"),
    ],
)
def test_a_detector_is_called_by_its_run_or_by_its_user(recipe_file, out, changes, own_sources, named, folder):
    recipe = load_recipe(recipe_file, changes)
    settled, run = settle(recipe, [Path("data/videos")], out and Path(out), changes, own_sources=own_sources)
    assert (settled.name, settled.version) == named
    assert run == Path(folder)
    assert bool(settled.limits) == bool(settled.data.sources) == own_sources
    assert settled == load_recipe(recipe_file).model_copy(
        update={"name": named[0], "version": named[1], "limits": settled.limits, "data": settled.data}
    )


def test_what_the_user_says_of_the_model_stays(recipe_file):
    changes = ("limits=[Mine sees nothing.]", "version=7")
    settled, _ = settle(load_recipe(recipe_file, changes), [Path("x")], None, changes, own_sources=False)
    assert (settled.limits, settled.version) == (("Mine sees nothing.",), "7")
