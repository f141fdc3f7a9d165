"""Many inputs: order, counts, losses and resuming, with workers that are played; the real ones are in test_cli.py."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from deepscan import batch as batch_module
from deepscan.analysis import error_result
from deepscan.batch import InputBatch, JudgeTask, judge
from deepscan.config import PredictSettings
from deepscan.errors import ConfigError, MediaError, OutputError
from deepscan.processes import Lost
from deepscan.report.result_log import ResultLines
from deepscan.types import ModelInfo, Result, VerdictLabel

SHA = "ab" * 32
MODEL = ModelInfo("default", "cd" * 32, 0.5, (0.4, 0.6), True, "resnet18", "lstm", "1", {})
SETTINGS = PredictSettings()


class Judge:
    """A detector that goes by names, and remembers them."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def predict_files(self, paths):
        for path in paths:
            yield self.predict_or_error(path)

    def predict_or_error(self, path: Path) -> Result:
        self.seen.append(path.name)
        if path.name.startswith("bad"):
            return error_result(path, "unreadable", f"{path.name}: cannot be read", SHA)
        label = VerdictLabel.FAKE if path.name.startswith("fake") else VerdictLabel.NOT_APPLICABLE
        return Result(str(path), SHA, "video", label, "no_face", "No face was found.")


class Backwards:
    """An engine in this process, which finishes three tasks at a time, the last first, and loses some."""

    n_workers = 3

    def map(self, function, tasks):
        tasks = iter(tasks)
        while wave := list(islice(tasks, 3)):
            for task in reversed(wave):
                sent = pickle.loads(pickle.dumps(task))  # noqa: S301 - as it reaches a worker
                reason = next((r for r in ("timeout", "worker_died", "internal") if r in task.path.name), None)
                yield task, Lost(reason, "it\nwas lost") if reason else function(sent)


@pytest.fixture
def detector(monkeypatch):
    made = Judge()
    monkeypatch.setattr(batch_module, "worker_detector", lambda model, settings: made)
    return made


@pytest.fixture(params=["here", "workers"])
def run(request, detector):
    def go(batch, inputs):
        if request.param == "here":
            batch.run(detector, inputs)
        else:
            batch.run_on(Backwards(), "default", SETTINGS, inputs)

    return go


def inputs_of(*names):
    return [(Path(name), None) for name in names]


NAMES = ("a.mp4", "fake1.mp4", "sub/b.mp4", "bad.mp4", "fake2.mp4", "c.mp4", "d.mp4")


def test_results_are_in_input_order_and_counted(run):
    done = []
    batch = InputBatch(MODEL, on_done=lambda batch, path: done.append((batch.n_done, path)))
    error = MediaError("nothing is empty", reason="no_media")
    run(batch, [*inputs_of(*NAMES), (Path("nothing"), error)])
    report = batch.report()
    assert [result.path for result in report.results] == [*NAMES, "nothing"]
    assert report.results[-1] == error_result(Path("nothing"), "no_media", "nothing is empty")
    assert report.model == MODEL
    assert (batch.n_done, batch.n_failed, batch.n_fake, batch.n_recalled) == (8, 2, 2, 0)
    assert batch.reasons == {"unreadable": 1, "no_media": 1}
    assert sorted(n for n, _ in done) == list(range(1, 9))
    assert {str(path) for _, path in done} == {*NAMES, "nothing"}
    assert report.exit_code == 3


@pytest.mark.parametrize(
    ("reason", "hint"), [("timeout", "--time-limit"), ("worker_died", "fewer jobs"), ("internal", "--verbose")]
)
def test_what_no_worker_finished_is_an_error(detector, reason, hint):
    batch = InputBatch(MODEL)
    batch.run_on(Backwards(), "default", SETTINGS, inputs_of("a.mp4", f"x/{reason}.mp4", "b.mp4"))
    first, lost, last = batch.report().results
    assert (lost.path, lost.verdict, lost.reason, lost.sha256) == (f"x/{reason}.mp4", "error", reason, None)
    assert lost.message.startswith(f"{reason}.mp4 could not be judged: it was lost. ")
    assert hint in lost.message
    assert {first.verdict, last.verdict} == {VerdictLabel.NOT_APPLICABLE}
    assert detector.seen == ["b.mp4", "a.mp4"]


def test_workers_need_not_run_in_this_folder(detector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(detector, "predict_or_error", lambda path: seen.append(path) or error_result(path, "x", "y"))
    batch = InputBatch(MODEL)
    batch.run_on(Backwards(), "default", SETTINGS, inputs_of("sub/a.mp4"))
    assert seen == [tmp_path / "sub" / "a.mp4"]
    assert batch.report().results[0].path == "sub/a.mp4"


def test_a_worker_loads_its_networks_once(monkeypatch):
    loaded = []
    monkeypatch.setattr(batch_module, "load_detector", lambda *arguments: loaded.append(arguments) or Judge())
    batch_module.worker_detector.cache_clear()
    other = PredictSettings(frames=8)
    for settings in (SETTINGS, PredictSettings(), other, other):
        judge(JudgeTask(0, Path("a"), Path("/a"), None, "default", settings))
    batch_module.worker_detector.cache_clear()
    assert loaded == [("default", SETTINGS), ("default", other)]


# Lines


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(name.encode())
    return tmp_path


def with_lines(run, names, keep=True):
    with ResultLines(Path("r.jsonl"), "0.1.0", MODEL) as lines:
        batch = InputBatch(MODEL, lines=lines, keep=keep)
        run(batch, inputs_of(*names))
    return batch


def test_what_is_done_is_not_done_again(run, detector, folder):
    whole = with_lines(run, NAMES[:4]).report()
    assert len(Path("r.jsonl").read_bytes().splitlines()) == 4
    detector.seen.clear()
    batch = with_lines(run, NAMES)
    assert sorted(detector.seen) == ["c.mp4", "d.mp4", "fake2.mp4"]
    assert batch.n_recalled == 4
    assert (batch.n_done, batch.n_failed, batch.n_fake) == (7, 1, 2)
    assert [result.path for result in batch.report().results] == list(NAMES)
    assert batch.report().results[:4] == whole.results
    assert len(Path("r.jsonl").read_bytes().splitlines()) == 7
    detector.seen.clear()
    Path("a.mp4").write_bytes(b"another content")
    with_lines(run, NAMES)
    assert detector.seen == ["a.mp4"]


def test_lost_and_missing_inputs_are_tried_again(detector, folder):
    names = ("timeout.mp4", "worker_died.mp4", "internal.mp4", "a.mp4", "missing.mp4")
    for name in names[:3]:
        Path(name).write_bytes(b"x")

    def on_workers(batch, inputs):
        batch.run_on(Backwards(), "default", SETTINGS, inputs)

    assert with_lines(on_workers, names).n_failed == 3
    detector.seen.clear()
    with_lines(lambda batch, inputs: batch.run(detector, inputs), names)
    assert detector.seen == [*names[:3], "missing.mp4"]


def test_results_need_not_be_kept(run, folder):
    batch = with_lines(run, NAMES, keep=False)
    assert batch.report().results == ()
    assert (batch.n_done, batch.n_fake) == (7, 2)
    assert with_lines(run, NAMES, keep=False).n_recalled == 7


def test_an_interrupted_run_keeps_what_was_done(run, detector, folder, monkeypatch):
    original = detector.predict_or_error

    def interrupted(path):
        if len(detector.seen) == 3:
            raise KeyboardInterrupt
        return original(path)

    monkeypatch.setattr(detector, "predict_or_error", interrupted)
    with ResultLines(Path("r.jsonl"), "0.1.0", MODEL) as lines:
        batch = InputBatch(MODEL, lines=lines)
        with pytest.raises(KeyboardInterrupt):
            run(batch, inputs_of(*NAMES))
    assert [result.path for result in batch.report().results] == list(NAMES[:3])
    assert len(Path("r.jsonl").read_bytes().splitlines()) == 3


def test_inputs_that_end_in_an_error(run, detector):
    def inputs():
        yield from inputs_of(*NAMES[:4])
        raise ConfigError("The list cannot be read on")

    batch = InputBatch(MODEL)
    with pytest.raises(ConfigError, match="cannot be read on"):
        run(batch, inputs())
    assert [result.path for result in batch.report().results] == list(NAMES[:4])  # what was begun came to its end


def test_a_full_disk_ends_the_run_with_whole_lines(run, detector, folder, monkeypatch):
    append = ResultLines.append

    def full(self, result, stamp):
        if len(detector.seen) > 4:
            raise OutputError("r.jsonl cannot be written", "the disk is full")
        append(self, result, stamp)

    monkeypatch.setattr(ResultLines, "append", full)
    with ResultLines(Path("r.jsonl"), "0.1.0", MODEL) as lines:
        batch = InputBatch(MODEL, lines=lines)
        with pytest.raises(OutputError, match="the disk is full"):
            run(batch, inputs_of(*NAMES))
    n_lines = len(Path("r.jsonl").read_bytes().splitlines())
    assert n_lines == batch.n_done == len(batch.report().results) > 2


def test_inputs_are_read_as_they_are_judged(detector):
    read = []

    def inputs():
        for number in range(100):
            read.append(number)
            yield Path(f"{number}.mp4"), None

    seen = []
    batch = InputBatch(MODEL, on_done=lambda batch, path: seen.append(len(read) - batch.n_done))
    batch.run_on(Backwards(), "default", SETTINGS, inputs())
    assert batch.n_done == 100
    assert max(seen) <= 3


def test_rate_counts_what_was_judged(run, detector, folder):
    with_lines(run, NAMES)
    assert with_lines(run, NAMES).per_second == 0
    batch = InputBatch(replace(MODEL, name="other"))
    run(batch, inputs_of(*NAMES))
    assert batch.per_second == pytest.approx(7 / batch.elapsed_s, rel=0.5)
