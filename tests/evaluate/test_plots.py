"""Pictures: valid, the right size, the same bytes every time, and nothing left behind in matplotlib."""

from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from deepscan.errors import OutputError
from deepscan.evaluate import plots
from deepscan.evaluate.metrics import MetricValue
from deepscan.verdict import decisions

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 2, 300)
P = 1 / (1 + np.exp(-(RNG.normal(size=300) + 1.5 * (Y - 0.5))))
CURVES = {"default": (Y, P), "a $name$ with_signs": (Y, 1 - P), "reals only": (np.zeros(9), P[:9])}
ROWS = [
    {"epoch": 0, "stage": "frames", "train_loss": 0.7, "val_log_loss": 0.69, "val_auc": 0.5, "learning_rate": 1e-3},
    {"epoch": 1, "stage": "frames", "train_loss": 0.5, "val_log_loss": float("nan"), "val_accuracy": 0.7},
    {"epoch": 0, "stage": "video", "train_loss": 0.4, "val_log_loss": 0.5, "val_auc": 0.8, "val_accuracy": ""},
]
DRAW = {
    "confusion": lambda path: plots.plot_confusion(path, Y, P >= 0.5, threshold=0.5),
    "confusion_band": lambda path: plots.plot_confusion(
        path, Y, decisions(P, 0.5, (0.3, 0.7)), threshold=0.5, band=(0.3, 0.7), not_applicable=P > 0.9
    ),
    "roc": lambda path: plots.plot_roc(
        path, CURVES, intervals={"default": MetricValue(0.8, 0.7, 0.9, 300)}, threshold=0.5
    ),
    "pr": lambda path: plots.plot_precision_recall(path, CURVES),
    "reliability": lambda path: plots.plot_reliability(path, Y, P),
    "scores": lambda path: plots.plot_scores(path, Y, P, threshold=0.5, band=(0.3, 0.7)),
    "training": lambda path: plots.plot_training(path, ROWS),
    "matrix": lambda path: plots.plot_matrix(path, [[0.9, 0.4], [np.nan, 0.7]], ["A", "B"], ["C" * 30, "D" * 30]),
}
EMPTY = {
    "confusion": lambda path: plots.plot_confusion(path, [], [], threshold=0.5),
    "roc": lambda path: plots.plot_roc(path, {"none": ([], [])}),
    "pr": lambda path: plots.plot_precision_recall(path, {}),
    "reliability": lambda path: plots.plot_reliability(path, [], []),
    "scores": lambda path: plots.plot_scores(path, [], [], threshold=0.5),
    "training": lambda path: plots.plot_training(path, []),
    "one epoch": lambda path: plots.plot_training(path, ROWS[:1]),
    "matrix": lambda path: plots.plot_matrix(path, [[np.nan]], ["A"], ["A"]),
}


@pytest.fixture
def shown(monkeypatch):
    """Every text and line of the figures that are drawn, by the time they are saved."""
    found = []
    save = mpl.figure.Figure.savefig

    def keep(figure, *args, **kwargs):
        found.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(mpl.figure.Figure, "savefig", keep)
    return found


def words(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


@pytest.mark.parametrize("name", DRAW)
def test_a_picture_is_800_pixels_wide_and_always_the_same(tmp_path, name):
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    DRAW[name](first)
    DRAW[name](second)
    with Image.open(first) as image:
        assert image.format == "PNG"
        assert image.width == 800
        assert image.height >= 600
        image.verify()
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("name", EMPTY)
def test_little_or_no_data_gives_a_picture(tmp_path, name):
    EMPTY[name](tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 800


def test_a_users_own_settings_change_nothing_and_are_kept(tmp_path):
    DRAW["roc"](tmp_path / "plain.png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 33}):
        before = dict(mpl.rcParams)
        DRAW["roc"](tmp_path / "own.png")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_no_window_system_and_no_open_figure(tmp_path):
    code = (
        "import sys; from pathlib import Path; from deepscan.evaluate import plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"plots.plot_training(Path({str(tmp_path / 'a.png')!r}), [{{'train_loss': 1.0}}])\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        DRAW["roc"](tmp_path / "nowhere" / "a.png")


def test_a_failure_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="reshape"):
        plots.plot_matrix(tmp_path / "a.png", [[0.5, 0.5]], ["A"], ["B"])
    assert list(tmp_path.iterdir()) == []


def test_confusion_counts(tmp_path, shown):
    plots.plot_confusion(
        tmp_path / "a.png",
        [0, 0, 0, 1, 1, 1, 1],
        [0, -1, 1, 1, 1, 0, -1],
        threshold=0.5,
        band=(0.3, 0.7),
        not_applicable=[False] * 6 + [True],
    )
    cells = [text for text in words(shown[0]) if "\n" in text and "n =" not in text]
    assert cells == [
        "1\n33.3 %",
        "1\n33.3 %",
        "1\n33.3 %",
        "0\n0.0 %",
        "1\n25.0 %",
        "0\n0.0 %",
        "2\n50.0 %",
        "1\n25.0 %",
    ]
    assert {"real\nn = 3", "fake\nn = 4", "called real", "uncertain", "called fake", "no usable face"} <= set(
        words(shown[0])
    )


def test_curves_are_named_with_their_figures(tmp_path, shown):
    DRAW["roc"](tmp_path / "a.png")
    text = words(shown[0])
    assert "default: AUC 0.800 [0.700, 0.900], n = 300" in text
    assert "reals only: one class only, n = 9" in text
    assert any(t.startswith("a $name$ with_signs: AUC 0.1") for t in text)


def test_inputs_without_a_score_are_left_out(tmp_path):
    y, p = np.r_[Y, np.ones(30, int)], np.r_[P, np.full(30, np.nan)]
    for name, draw in {
        "scores": lambda path, y, p: plots.plot_scores(path, y, p, threshold=0.5),
        "roc": lambda path, y, p: plots.plot_roc(path, {"a": (y, p)}, threshold=0.5),
        "reliability": plots.plot_reliability,
    }.items():
        draw(tmp_path / "with.png", y, p)
        draw(tmp_path / "without.png", Y, P)
        assert (tmp_path / "with.png").read_bytes() == (tmp_path / "without.png").read_bytes(), name


def test_every_line_has_its_own_style():
    styles = [(s["color"], s["linestyle"]) for s, _ in zip(plots.line_styles(), range(12), strict=False)]
    assert len(set(styles)) == 12


def test_training_panels(tmp_path, shown):
    DRAW["training"](tmp_path / "a.png")
    axes = shown[0].axes
    assert [a.get_ylabel() for a in axes] == ["Loss", "AUC", "Accuracy"]
    curves = {line.get_label(): line.get_xydata().tolist() for a in axes for line in a.get_lines()}
    assert curves["train loss"] == [[1, 0.7], [2, 0.5], [3, 0.4]]
    assert curves["val log loss"] == [[1, 0.69], [3, 0.5]]  # what is not known is skipped
    assert curves["val accuracy"] == [[2, 0.7]]
    stars = [line.get_xydata().tolist() for a in axes for line in a.get_lines() if line.get_marker() == "*"]
    assert stars == [[[3, 0.5]], [[3, 0.8]], [[2, 0.7]]]  # lowest loss, highest AUC and accuracy
    assert "stage video" in words(shown[0])
    assert not any("learning" in text for text in words(shown[0]))


def test_matrix_says_what_was_not_measured(tmp_path, shown):
    DRAW["matrix"](tmp_path / "a.png")
    assert {"0.900", "0.400", "0.700", "not\nmeasured", "Detector", "Measured on"} <= set(words(shown[0]))


def test_reliability_of_calibrated_scores_is_the_diagonal(tmp_path, shown):
    p = np.repeat([0.1, 0.5, 0.9], 100)
    y = np.concatenate([np.arange(100) < n for n in (10, 50, 90)]).astype(int)
    plots.plot_reliability(tmp_path / "a.png", y, p, bins=3)
    points = next(line.get_xydata() for line in shown[0].axes[0].get_lines() if len(line.get_xydata()) == 3)
    assert points == pytest.approx(np.array([[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]))
