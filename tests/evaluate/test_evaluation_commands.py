"""``deepscan evaluate``, ``compare`` and ``ensemble`` as users meet them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest
import typer
from inprocess import InProcess, labelled
from madedetectors import save
from madestores import pairs_store
from typer.testing import CliRunner

from deepscan.commands.card import card
from deepscan.commands.compare import compare
from deepscan.commands.ensemble import ensemble
from deepscan.commands.evaluate import evaluate
from deepscan.commands.help import add_command
from deepscan.commands.outputs import COMPARISON_CSV, COMPARISON_MARKDOWN, EVALUATION_CSV
from deepscan.config import CropSettings
from deepscan.errors import OutputError
from deepscan.evaluate import comparison
from deepscan.evaluate.training_groups import write_groups
from deepscan.files import check_target, json_of
from deepscan.models.card import AttackCheck
from deepscan.models.checkpoint import load_card

app = typer.Typer(pretty_exceptions_enable=False)
for command in (card, evaluate, compare, ensemble):
    add_command(app, command, "All")


@pytest.fixture
def deepscan(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "180")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


@pytest.fixture
def model(tmp_path):
    return save(tmp_path / "model")


@pytest.fixture
def data(tmp_path):
    return pairs_store(tmp_path / "data", n=10, length=2)


def options(*extra):
    return ("--no-tta", "--device", "cpu", "--resamples", 10, *extra)


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "--data", "DATA", "--json", "mine"),
        ("evaluate", "--data", "DATA", "--csv", "mine"),
        ("compare", "--markdown", "mine"),
        ("compare", "--csv", "mine"),
        ("compare", "--json", "mine"),
        ("card", "--out", "mine"),
        ("card", "--out", "nowhere/mine"),
        ("card", "--out", "."),
    ],
)
def test_outputs_replace_only_what_is_ours(deepscan, tmp_path, arguments):
    """Before anything is loaded: there is no such data."""
    (tmp_path / "mine").write_text('{"schema": "deepscan.report/1"}\n')
    given = ["default" if argument == "DATA" else argument for argument in arguments]
    result = deepscan(*given, *(["default"] if given[0] == "compare" else []), code=3)
    assert "cannot be written" in result.stderr
    assert not result.stdout
    assert (tmp_path / "mine").read_text() == '{"schema": "deepscan.report/1"}\n'


def test_the_check_for_attacks_is_off_until_it_is_asked_for(deepscan, tmp_path, data):
    """Everything moves so far: who would get an answer without the check gets none with it."""
    made = save(tmp_path / "checked", attack_check=AttackCheck(limits={"denoise": 1e-9}))
    given = ("--model", made, "--data", data, *options("--json", "-"))
    off, on = (json.loads(deepscan("evaluate", *given, *asked).stdout) for asked in ([], ["--attack-check"]))
    assert [one["model"]["settings"]["attack_check"] for one in (off, on)] == [False, True]
    assert off["video"]["coverage"]["value"] > 0
    assert on["video"]["coverage"]["value"] == 0
    assert all(on["verdicts"][label]["uncertain"] == 10 for label in ("real", "fake"))


def ours(path, kind):
    """Whether a later run may replace it, and not a file with something before it."""
    check_target(path, kind)
    path.write_bytes(b"Mine: " + path.read_bytes())
    with pytest.raises(OutputError):
        check_target(path, kind)


# evaluate


def test_evaluate_prints_tables(deepscan, model, data):
    result = deepscan("evaluate", "--model", model, "--data", data, "--split", "val", *options())
    assert "model (custom_cnn, mean) on" in result.stdout
    assert "split val: 4 videos, 2 real and 2 fake" in result.stdout
    assert "AUC" in result.stdout
    assert "does not say which groups" in result.stdout


def test_evaluate_writes_what_is_asked_for(deepscan, model, data, tmp_path):
    write_groups(model, [("made", "p000")])
    deepscan(
        "evaluate", "--model", model, "--data", data, "--json", "out.json", "--csv", "out.csv", "--plots", "a/plots",
        "--frames", 1, "--threshold", 0.7, *options(),
    )  # fmt: skip
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["video"]["auc"]["n"] == 20
    assert told["counts"]["frame"]["real"] == 10
    assert told["model"]["threshold"] == 0.7
    assert told["data"] == [data.as_posix()]
    assert any("1 groups are in the training data" in warning for warning in told["warnings"])
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 21
    ours(tmp_path / "out.json", json_of("deepscan.evaluation/1"))
    ours(tmp_path / "out.csv", EVALUATION_CSV)
    assert len(list((tmp_path / "a" / "plots").glob("*.png"))) == 6


def test_json_to_stdout_is_nothing_but_json(deepscan, model, data):
    result = deepscan("evaluate", "--model", model, "--data", data, "--json", "-", *options())
    assert {"frame", "video"} <= set(json.loads(result.stdout))
    rows = deepscan("evaluate", "--model", model, "--data", data, "--csv", "-", *options()).stdout
    assert len(list(csv.reader(io.StringIO(rows)))) == 21


def test_several_data_sets_are_pooled(deepscan, model, data, tmp_path):
    other = pairs_store(tmp_path / "other", n=5, dataset="other")
    result = deepscan(
        "evaluate", "--model", model, "--data", data, "--data", other / "manifest.csv", "--json", "-", *options()
    )
    told = json.loads(result.stdout)
    assert told["video"]["scored"]["n"] == 30
    assert {(row["by"], row["name"]) for row in told["tables"]} >= {("source", "made"), ("source", "other")}


def test_videos_are_preprocessed_into_a_cache_that_is_told(deepscan, model, tmp_path, monkeypatch, face_clip):
    engine = InProcess().install(monkeypatch)
    root = labelled(tmp_path / "mine", face_clip)
    result = deepscan(
        "evaluate", "--model", model, "--data", root, "--frames", 2, "--jobs", 3, "--json", "-", *options()
    )
    assert json.loads(result.stdout)["counts"]["frame"]["real"] == 2
    assert f"{root} is preprocessed into .deepscan-cache" in result.stderr
    assert engine.jobs == [3]
    deepscan("evaluate", "--model", model, "--data", root, "--frames", 2, *options())
    assert len(engine.done) == 2
    deepscan("evaluate", "--model", model, "--data", root, "--frames", 2, "--cache", "elsewhere", *options())
    assert len(engine.done) == 4
    assert (tmp_path / "elsewhere").is_dir()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--model", "MODEL", "--data", "missing"), 2, "no such file or folder"),
        (("--model", "nothing", "--data", "DATA"), 2, "Unknown model 'nothing'"),
        (
            ("--model", "MODEL", "--data", "DATA", "--split", "test", "--json", "no/folder.json"),
            3,
            "there is no folder",
        ),
        (("--model", "MODEL", "--data", "DATA", "--json", "."), 3, "it is a folder"),
        (("--model", "MODEL", "--data", "DATA", "--json", "-", "--csv", "-"), 2, "both want stdout"),
        (("--model", "custom_cnn", "--data", "DATA"), 2, "no trained weights"),
    ],
)
def test_wrong_usage(deepscan, model, data, arguments, code, message):
    places = {"MODEL": model, "DATA": data}
    result = deepscan("evaluate", *(places.get(a, a) for a in arguments), *options(), code=code)
    assert message in result.stderr
    assert result.stderr.count("deepscan: ") == 1
    assert not result.stdout


def test_a_store_of_another_rule(deepscan, data, tmp_path):
    odd = save(tmp_path / "odd", crop=CropSettings(size_px=32, margin=0.5))
    result = deepscan("evaluate", "--model", odd, "--data", data, *options(), code=2)
    assert "was cut by another rule" in result.stderr


def test_plots_that_cannot_be_drawn_fail_at_once(deepscan, model, data, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    result = deepscan("evaluate", "--model", model, "--data", data, "--plots", "file/plots", *options(), code=3)
    assert "cannot be made" in result.stderr
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = deepscan("evaluate", "--model", model, "--data", data, "--plots", "plots", *options(), code=3)
    assert "matplotlib is not installed" in result.stderr


def test_random_weights_on_request(deepscan, tmp_path):
    store = pairs_store(tmp_path / "data", n=4)
    result = deepscan("evaluate", "--model", "custom_cnn", "--allow-untrained", "--data", store, *options(), code=2)
    assert "too small" in result.stderr  # the backbone's own size is 128 px


# compare


def test_compare_prints_a_table(deepscan, model, data, tmp_path):
    other = save(tmp_path / "other", backbone="meso4", seed=2)
    result = deepscan("compare", model, other, "--data", data, "--split", "test", *options())
    assert "model (custom_cnn, mean, 32 px)" in result.stdout
    assert "other (meso4, mean, 32 px)" in result.stdout
    assert "Measured on: data test." in result.stdout
    assert "thread" in result.stdout


def test_compare_without_data_takes_what_is_saved(deepscan, tmp_path):
    metrics = {"AUC, elsewhere val": {"value": 0.7654, "low": 0.7, "high": 0.8, "n": 99}}
    model = save(tmp_path / "model", metrics=metrics)
    result = deepscan("compare", model, "--csv", "-")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["val_auc"], row["test_auc"]) == ("0.7654", "")


def test_compare_as_markdown_and_json(deepscan, model, tmp_path):
    result = deepscan("compare", model, "--markdown", "-", "--json", "out.json", "--csv", "out.csv")
    assert result.stdout.startswith("| Model |")
    assert "Time: network alone" in result.stdout
    assert json.loads((tmp_path / "out.json").read_text())["models"][0]["name"] == "model"
    (tmp_path / "out.md").write_text(result.stdout)
    for name, kind in (
        ("json", json_of("deepscan.comparison/1")), ("csv", COMPARISON_CSV), ("md", COMPARISON_MARKDOWN),
    ):  # fmt: skip
        ours(tmp_path / f"out.{name}", kind)


def test_compare_goes_on_after_one_that_cannot_be_loaded(deepscan, model, tmp_path):
    (tmp_path / "unfinished").mkdir()
    result = deepscan("compare", tmp_path / "unfinished", model, "--json", "-", code=3)
    assert [row["name"] for row in json.loads(result.stdout)["models"]] == ["model"]
    result = deepscan("compare", tmp_path / "unfinished", code=2)
    assert "folder without card.json" in result.stderr


def test_compare_on_several_data_sets(deepscan, model, data, tmp_path):
    other = save(tmp_path / "other", backbone="meso4", seed=2)
    odd = save(tmp_path / "odd", seed=3, crop=CropSettings(size_px=32, margin=0.5))
    two = pairs_store(tmp_path / "two", n=5, seed=1)
    given = ("compare", model, other, odd, "--data", data, "--data", two, "--split", "test", *options())
    result = deepscan(*given, "--json", "out.json", "--plots", "plots", code=3)
    assert "AUC" in result.stdout
    assert "! odd on data: data was cut by another rule" in result.stdout
    models = json.loads((tmp_path / "out.json").read_text())["models"]
    assert [list(row["figures"]) for row in models] == [["data test", "two test"]] * 2 + [[]]
    assert [list(row["errors"]) for row in models] == [[], [], ["data", "two"]]
    assert (tmp_path / "plots" / "comparison.png").is_file()


def test_data_that_nothing_can_be_measured_on(deepscan, model):
    result = deepscan("compare", model, "--data", "missing", "--json", "-", *options(), code=2)
    assert "no such file or folder" in result.stderr
    assert not result.stdout


def test_an_interrupted_comparison_keeps_what_is_done(deepscan, model, data, tmp_path, monkeypatch):
    measure = comparison.evaluate
    calls = []

    def stopping(*arguments, **given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*arguments, **given)

    monkeypatch.setattr(comparison, "evaluate", stopping)
    two = pairs_store(tmp_path / "two", n=5, seed=1)
    given = ("compare", model, "--data", data, "--data", two, "--split", "test", "--json", "-", *options())
    (row,) = json.loads(deepscan(*given, code=130).stdout)["models"]
    assert list(row["figures"]) == ["data test"]


def test_models_of_the_same_name_are_told_apart(deepscan, tmp_path):
    models = [save(tmp_path / "a" / "net", seed=1), save(tmp_path / "b" / "net", seed=2)]
    result = deepscan("compare", *models, "--json", "-")
    assert [row["name"] for row in json.loads(result.stdout)["models"]] == [str(model) for model in models]


def test_compare_backbones_by_size_and_speed(deepscan):
    result = deepscan("compare", "custom_cnn", "meso4", "--allow-untrained", "--json", "-")
    models = json.loads(result.stdout)["models"]
    assert [model["input_px"] for model in models] == [128, 256]
    assert all(model["parameters"] > 0 for model in models)


# ensemble


def test_ensemble_makes_a_detector(deepscan, model, tmp_path):
    other = save(tmp_path / "other", backbone="meso4", seed=2)
    data = pairs_store(tmp_path / "data", n=60, split="val")
    result = deepscan("ensemble", model, other, "--out", "all", "--data", data, "--no-tta", "--error-rate", 0.2)
    assert "custom_cnn" in result.stdout
    card = load_card(tmp_path / "all")
    assert (card.name, len(card.members)) == ("all", 2)
    assert "data val" in card.training["calibrated_on"]
    measured = deepscan("evaluate", "--model", "all", "--data", data, "--json", "-", *options())
    told = json.loads(measured.stdout)["model"]
    assert (told["sha256"], told["backbone"]) == (card.weights_sha256, "custom_cnn + meso4")


def test_ensemble_without_data(deepscan, model, tmp_path):
    other = save(tmp_path / "other", backbone="meso4", seed=2)
    result = deepscan("ensemble", model, other, "--out", "all", "--weights", "3,1", "--name", "both")
    assert "0.750" in result.stdout
    assert "Not calibrated as a whole" in result.stdout
    assert load_card(tmp_path / "all").name == "both"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("MODEL", "--out", "all"), "at least two"),
        (("MODEL", "MODEL", "--out", "all"), "same weights"),
        (("MODEL", "OTHER", "--out", "all", "--weights", "a,b"), "are no weights"),
        (("MODEL", "OTHER", "--out", "all", "--weights", "1"), "Invalid weights"),
        (("MODEL", "OTHER", "--out", "all", "--weights", "1,2", "--equal"), "contradict"),
        (("MODEL", "nothing", "--out", "all"), "Unknown model"),
        (("MODEL", "OTHER", "--out", "all", "--data", "missing"), "no such file or folder"),
    ],
)
def test_ensembles_that_cannot_be(deepscan, model, tmp_path, arguments, message):
    places = {"MODEL": model, "OTHER": save(tmp_path / "other", backbone="meso4", seed=2)}
    result = deepscan("ensemble", *(places.get(a, a) for a in arguments), code=2)
    assert message in result.stderr
    assert not (tmp_path / "all").exists()


def test_help_loads_nothing_heavy():
    """What `deepscan --help` imports."""
    code = (
        "import sys\n"
        "import deepscan.commands.evaluate, deepscan.commands.compare, deepscan.commands.ensemble\n"
        "heavy = {'torch', 'numpy', 'cv2', 'sklearn', 'scipy', 'matplotlib', 'rich.table'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
