"""Every recipe of the package: trains, is resumed, is measured, and predicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from madestores import pairs_store
from typer.testing import CliRunner

from deepscan import load_detector
from deepscan.cli import app
from deepscan.config import PredictSettings
from deepscan.datasets.dataset import read_samples
from deepscan.errors import ConfigError
from deepscan.models.checkpoint import load_card
from deepscan.train import batches
from deepscan.train.recipe import RECIPES, dump_recipe, find_recipe, list_recipes, load_recipe, parse_recipe
from deepscan.train.run import train

CONFIGS = sorted(RECIPES.glob("*.yaml"))
QUICK = {"custom_cnn"}
# Of widths and sizes alone, so that it fits into a test; the structure is the recipe's.
SMALLER = {
    "resnet50_lstm": ("model.head.hidden=32", "model.head.dense=32"),
    "inception_resnet_v1_lstm": ("crop.size_px=80",),
    "xception": ("crop.size_px=72",),
    "vit": ("model.backbone=timm:vit_tiny_patch16_224", "crop.size_px=224"),
    "mesoinception_kfold": ("folds=2",),
}


def small(path, precision):
    """The recipe with two steps an epoch and small pictures."""
    whole = load_recipe(path)
    changes = ["crop.size_px=64", "checkpoint_steps=1", f"precision={precision}", *SMALLER.get(path.stem, ())]
    for number, stage in enumerate(whole.stages):
        key = f"stages.{number}"
        changes += [f"{key}.epochs=1", f"{key}.steps_per_epoch=2", f"{key}.batch_size=4", f"{key}.accumulate=1"]
        changes += [f"{key}.sequence_length={min(2, stage.sequence_length)}"]
        changes += [f"{key}.size_px=48"] if stage.size_px else []
    return load_recipe(path, tuple(changes))


class KilledError(Exception):
    pass


def cases():
    for path in CONFIGS:
        for precision in ("32", "bf16") if path.stem in {*QUICK, "default"} else ("auto",):
            marks = () if path.stem in QUICK else pytest.mark.slow
            yield pytest.param(path, precision, marks=marks, id=f"{path.stem}-{precision}")


@pytest.mark.parametrize(("path", "precision"), list(cases()))
def test_recipe(path, precision, tmp_path, monkeypatch, face_clip):
    plan = small(path, precision)
    samples = read_samples(pairs_store(tmp_path / "store", n=20, length=2, **plan.crop.model_dump()))
    make = batches.BatchMaker.make

    def stopping(self, step, rank=0):
        if step == 1:
            raise KilledError
        return make(self, step, rank)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(batches.BatchMaker, "make", stopping)
        with pytest.raises(KilledError):
            train(plan, samples, run)
    train(plan, samples, run, resume=True)
    if plan.folds == 1:
        assert load_recipe(run / "recipe.yaml") == plan
        assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
        for split in ("val", "test"):
            figures = json.loads((run / f"evaluation-{split}.json").read_text())
            assert 0 <= figures["video"]["auc"]["value"] <= 1
            assert figures["video"]["auc"]["n"] == 8
    # Converting every network anew takes longer than its training; tests/models does that.
    detector = load_detector(run, PredictSettings(frames=2, tta=False, runtime="torch"))
    result = detector.predict(face_clip)
    assert result.verdict in ("fake", "real", "uncertain")
    assert 0 <= result.probability <= 1
    assert load_card(run).trained


def test_a_recipe_is_found_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mesonet").mkdir()  # a folder of that name is no recipe
    (tmp_path / "my.yaml").write_text("name: mine")
    assert load_recipe(find_recipe("mesonet")).name == "mesonet"
    assert load_recipe(find_recipe("my.yaml")).name == "mine"
    (tmp_path / "default").write_text("name: own")
    assert load_recipe(find_recipe("default")).name == "own"  # what the user has goes first


@pytest.mark.parametrize("name", ["mesonett", "configs/mesonett.yaml"])
def test_no_file_and_no_recipe_has_the_nearest_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as raised:
        find_recipe(name)
    assert raised.value.reason == "config"
    assert raised.value.problem.split()[1] == name
    assert "mesonet" in raised.value.cause
    assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError) as raised:
        find_recipe("qqq")
    assert raised.value.cause == ""


def test_paths_in_configs_lead_to_the_recipes_of_the_package():
    """`--config configs/default.yaml` works in a clone."""
    root = Path(__file__).parents[2]
    links = sorted((root / "configs").iterdir())
    assert [path.resolve() for path in links] == [root / "deepscan" / "recipes" / path.name for path in CONFIGS]
    # The package may be installed elsewhere than in the clone.
    assert [path.read_bytes() for path in links] == [path.read_bytes() for path in CONFIGS]


def test_the_list_of_recipes(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = CliRunner().invoke(app, ["recipes"])
    assert done.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == [path.stem for path in CONFIGS]
    assert ["mesonet", "MesoNet (Meso-4) at 256 px on single faces. Preprocess with --size 256 or more.",
            "meso4 + mean", "256 px"] in rows  # fmt: skip
    for name, (summary, recipe) in list_recipes().items():
        assert recipe.name == name
        assert summary.endswith(".")  # a whole sentence


def test_the_recipes_are_those_of_the_docs():
    document = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    assert [path.stem for path in CONFIGS if f"`{path.stem}`" not in document] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stages.0.epoch=3", r"unknown setting stages.0.epoch, did you mean epochs\?"),
        ("model.bacbone=resnet50", r"did you mean backbone\?"),
        ("modle.backbone=resnet50", r"did you mean model\?"),
        ("stages.0.epochs=many", "stages.0.epochs"),
        ("stages.7.epochs=1", "there is no number 7"),
        ("stages", "must be KEY=VALUE"),
        ("name.first=x", "has no settings of its own"),
        ("stages.0.loss.video=-1", "stages.0.loss.video"),
        ("seed=[", "no YAML"),
        ("adversarial={attack: fgsm, steps: 3}", "fgsm takes one step, not 3"),
        ("adversarial={budjet: 2}", r"unknown setting adversarial.budjet, did you mean budget\?"),
        ("adversarial={budget: 0}", "adversarial.budget"),
    ],
)
def test_wrong_settings_are_told(change, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(CONFIGS[0], (change,))


@pytest.mark.parametrize("value", ["32", "16", "bf16", "auto", "'32'"])
def test_a_precision_is_a_word_also_where_yaml_makes_a_number_of_it(value):
    assert load_recipe(CONFIGS[0], (f"precision={value}",)).precision == value.strip("'")


@pytest.mark.parametrize("value", ["64", "true", "32.0"])
def test_no_precision(value):
    with pytest.raises(ConfigError, match="precision"):
        load_recipe(CONFIGS[0], (f"precision={value}",))


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "no YAML"), ("- 1", "no recipe"), ("!!python/object:os.system x", "no YAML")]
)
def test_files_that_are_no_recipe(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path / "missing.yaml")


def test_a_recipe_survives_being_written(tmp_path):
    plan = load_recipe(CONFIGS[0], ("stages.0.epochs=3", "data.source_shares={made: 0.5}"))
    (tmp_path / "x.yaml").write_text(dump_recipe(plan))
    assert load_recipe(tmp_path / "x.yaml") == plan
    assert plan.stages[0].epochs == 3


def test_stages_need_names_of_their_own():
    with pytest.raises(ConfigError, match="different names"):
        parse_recipe({"stages": [{"name": "a"}, {"name": "a"}]})


def test_settings_that_did_nothing_are_passed_over_in_older_recipes():
    plan = {"name": "old", "data": {"pairs": False}}
    assert parse_recipe({**plan, "tta": True, "data": {"pairs": False, "workers": 4}}) == parse_recipe(plan)
    with pytest.raises(ConfigError, match="unknown setting"):
        parse_recipe({**plan, "stages": [{"workers": 4}]})
