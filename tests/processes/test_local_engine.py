"""What only the local engine does, and what ``create_engine`` refuses."""

from __future__ import annotations

import logging
import os
import signal

import engine_tasks
import pytest
from process_tools import is_running, wait_until

from deepscan.errors import ConfigError
from deepscan.processes import create_engine, guard


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "at least 1"),
        ({"time_limit_s": 0}, "above 0"),
        ({"time_limit_s": float("nan")}, "above 0"),
        ({"address": "127.0.0.1:6379"}, "the engine is local"),
        ({"name": "dask"}, "Known engines are local, ray"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        create_engine(**options)


def test_by_default_there_is_a_worker_for_each_available_core(monkeypatch):
    monkeypatch.setattr(guard.os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    with create_engine() as engine:
        assert engine.n_workers == 3


@pytest.mark.parametrize(
    ("n_cores", "n_workers", "wish", "expected"),
    [(8, 2, None, 4), (8, 3, None, 2), (2, 8, None, 1), (8, 2, "1", 1), (8, 2, "64", 4), (8, 2, "4,2", 4)],
)
def test_workers_share_the_cores(monkeypatch, n_cores, n_workers, wish, expected):
    monkeypatch.setattr(guard, "available_cores", lambda: n_cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wish is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", wish)
    assert guard.threads_per_worker(n_workers) == expected


def test_threads_in_a_worker_are_its_share(monkeypatch):
    monkeypatch.setattr(guard, "available_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    with create_engine(jobs=2) as engine:
        # The first call loads the library, the second finds it.
        results = [result for _, result in engine.map(engine_tasks.threads, range(2))]
    assert results == [[3, 3, 3, 3]] * 2
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["MKL_NUM_THREADS"] == "5"


@pytest.mark.slow
def test_threads_of_torch_in_a_worker_are_its_share(monkeypatch):
    # One is a share on every machine; more than its cores torch takes only when told so once it is loaded.
    monkeypatch.setattr(guard, "available_cores", lambda: 1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with create_engine(jobs=1) as engine:
        assert [result for _, result in engine.map(engine_tasks.torch_threads, range(2))] == [1, 1]
    monkeypatch.setattr(guard, "available_cores", lambda: 5)
    with create_engine(jobs=1) as engine:
        assert [result for _, result in engine.map(engine_tasks.torch_threads, range(2))][1] == 5


def test_one_job_runs_in_a_process_of_its_own():
    with create_engine(jobs=1) as engine:
        assert engine.n_workers == 1
        pids = {result for _, result in engine.map(engine_tasks.pid, range(5))}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert wait_until(lambda: not is_running(*pids), 1)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_worker_that_dies_between_tasks_costs_none():
    with create_engine(jobs=1) as engine:
        [(_, pid)] = engine.map(engine_tasks.pid, [0])
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not is_running(pid))
        assert dict(engine.map(engine_tasks.square, [1, 2])) == {1: 1, 2: 4}


def test_one_map_at_a_time():
    with create_engine(jobs=1) as engine:
        first = engine.map(engine_tasks.square, [1, 2])
        next(first)
        with pytest.raises(RuntimeError, match="another map"):
            next(engine.map(engine_tasks.square, [3]))
        assert list(first) == [(2, 4)]
        assert list(engine.map(engine_tasks.square, [3])) == [(3, 9)]


def test_workers_log_as_the_leader_does(monkeypatch, capfd):
    logger = logging.getLogger("deepscan")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("<%(levelname)s> %(message)s"))
    monkeypatch.setattr(logger, "handlers", [handler])
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        with create_engine(jobs=1) as engine:
            list(engine.map(engine_tasks.log_two, [1]))
    finally:
        logger.setLevel(before)
    captured = capfd.readouterr()
    assert captured.err == "<INFO> said by a worker\n"
    assert captured.out == ""


def test_a_script_that_starts_itself_again_is_told_so(leaders, tmp_path):
    """Without a guard around its main part, every worker would start workers."""
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import engine_tasks\n"
        "from deepscan.processes import create_engine\n"
        "from deepscan.errors import DeepscanError\n"
        "try:\n"
        "    with create_engine(jobs=1) as engine:\n"
        "        print(list(engine.map(engine_tasks.square, [1])))\n"
        "except DeepscanError as error:\n"
        "    print(error.reason, error.hint, flush=True)\n"  # a worker is killed with what it has not written
    )
    leader = leaders(script)
    output, _ = leader.communicate(timeout=60)
    assert output.startswith("no_worker A script that starts them needs `if __name__")
    assert leader.returncode == 0
