"""What every engine does; the local one by default, Ray's with the slow tests."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import engine_tasks
import pytest
from process_tools import is_running, pids_of_tasks, session_pids, wait_until

from deepscan.errors import OutputError
from deepscan.processes import Engine, Lost

LEADER = Path(__file__).parents[1] / "helpers" / "leader.py"


def lost(engine: Engine, trouble_name: str) -> Lost:
    """What comes of one task in the midst of good ones, which must all come through."""
    results = dict(engine.map(engine_tasks.trouble, [1, 2, trouble_name, 3, 4, 5]))
    result = results.pop(trouble_name)
    assert results == {number: number for number in range(1, 6)}
    assert isinstance(result, Lost)
    assert "\n" not in result.message
    return result


def test_every_task_comes_back_once_with_its_result(engine):
    results = list(engine.map(engine_tasks.square, range(60)))
    assert Counter(task for task, _ in results) == Counter(range(60))
    assert all(result == task * task for task, result in results)


def test_no_tasks_give_no_results(engine):
    assert list(engine.map(engine_tasks.square, [])) == []


def test_tasks_are_read_as_they_are_needed(engine):
    read = itertools.count()
    results = engine.map(engine_tasks.square, read)
    for _ in range(20):
        next(results)
    results.close()
    assert next(read) <= 20 + 4 * engine.n_workers


def test_a_slow_source_of_tasks_does_not_hold_results_back(engine):
    one_came, read = threading.Event(), []

    def source():
        for number in range(600):
            read.append(number)
            yield number
            if one_came.wait(0.1):
                return
        pytest.fail("no result came before the last task was read")

    results = engine.map(engine_tasks.square, source())
    came = [next(results)]
    one_came.set()
    assert sorted([*came, *results]) == [(number, number * number) for number in read]


def test_several_workers_share_the_tasks(engine, engine_options):
    n = 300 if engine_options["name"] == "local" else 40  # each node of a cluster has its own tasks from the start
    pids = {result for _, result in engine.map(engine_tasks.pid, range(n))}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_workers_keep_what_they_loaded_from_one_map_to_the_next(engine):
    first = dict(result for _, result in engine.map(engine_tasks.calls_in_this_process, range(50)))
    second = dict(result for _, result in engine.map(engine_tasks.calls_in_this_process, range(50)))
    assert any(second[pid] > first[pid] for pid in second.keys() & first.keys())


def test_relative_paths_mean_the_same_in_a_worker(engine):
    assert {result for _, result in engine.map(engine_tasks.folder, range(4))} == {str(Path.cwd())}


def test_a_task_over_the_time_limit_is_lost_and_the_others_are_not(make_engine):
    start = time.monotonic()
    with make_engine(time_limit_s=1.5) as engine:
        result = lost(engine, "hang")
    assert result == Lost("timeout", "not done within the time limit of 1.5 s")
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("trouble_name", "message"),
    [
        ("kill", "its worker process was ended by SIGKILL; the memory may have run out, fewer jobs need less"),
        ("segfault", "its worker process was ended by SIGSEGV"),
        ("exit 0", "its worker process ended by itself with exit code 0"),
        ("exit 3", "its worker process ended by itself with exit code 3"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_dead_worker_costs_only_its_task(engine, trouble_name, message):
    assert lost(engine, trouble_name) == Lost("worker_died", message)


def test_an_unexpected_exception_costs_only_its_task(engine, caplog):
    with caplog.at_level(logging.DEBUG, logger="deepscan"):
        result = lost(engine, "exception")
    assert result.reason == "internal"
    assert result.message.startswith("unexpected TypeError: two lines xxx")
    assert len(result.message) == 300
    traces = [record for record in caplog.records if "Traceback" in record.getMessage()]
    assert [record.levelno for record in traces] == [logging.DEBUG]


@pytest.mark.parametrize("trouble_name", ["unpicklable", "sys.exit"])
def test_odd_ends_of_a_function_are_losses_too(engine, trouble_name):
    assert lost(engine, trouble_name).reason == "internal"


def test_a_task_that_cannot_be_sent_is_lost(engine):
    tasks = [1, lambda: None, 2]
    results = dict(engine.map(engine_tasks.trouble, tasks))
    assert results.pop(tasks[1]).reason == "internal"
    assert results == {1: 1, 2: 2}


def test_an_error_of_deepscan_ends_the_map(engine, tmp_path):
    tasks = [(tmp_path, "long", 60), (tmp_path, "bad", 0), *((tmp_path, f"later{n}", 0.2) for n in range(100))]
    start = time.monotonic()
    with pytest.raises(OutputError, match="no space left") as caught:
        for _ in engine.map(engine_tasks.note_or_raise, tasks):
            pass
    assert caught.value.reason == "disk_full"
    assert time.monotonic() - start < 30
    started = {path.name for path in tmp_path.iterdir()}
    assert len(started) < 50
    # The engine goes on with the next map; what ran is ended.
    at_work = {result for _, result in engine.map(engine_tasks.pid, range(50))}
    assert not (tmp_path / "long.ended").exists()
    assert wait_until(lambda: not any(is_running(pid) for pid in pids_of_tasks(tmp_path) if pid not in at_work))


def test_a_map_that_is_left_early_leaves_nothing_running(make_engine, tmp_path):
    with make_engine() as engine:
        tasks = [(tmp_path, "quick", 0), *((tmp_path, f"slow{n}", 60) for n in range(20))]
        for task, _ in engine.map(engine_tasks.note, tasks):
            assert task[1] == "quick"
            assert wait_until(lambda: len(pids_of_tasks(tmp_path, "slow")) == 2)
            break
    started = list(tmp_path.glob("slow*.started"))
    pids = pids_of_tasks(tmp_path, "slow")
    assert len(pids) == 2
    assert wait_until(lambda: not any(is_running(pid) for pid in pids))
    assert list(tmp_path.glob("slow*.started")) == started
    assert not list(tmp_path.glob("slow*.ended"))


def test_a_closed_engine_says_so(make_engine):
    with make_engine() as engine:
        unfinished = engine.map(engine_tasks.square, itertools.count())
        next(unfinished)
    with pytest.raises(RuntimeError, match="closed"):
        list(engine.map(engine_tasks.square, [1]))
    with pytest.raises(RuntimeError, match="closed"):
        list(unfinished)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_reaches_all_and_ends_all_quietly(leaders, engine_options, tmp_path):
    leader = leaders(LEADER, str(tmp_path), json.dumps(engine_options))
    assert wait_until(lambda: len(pids_of_tasks(tmp_path)) == 2, 60)
    os.killpg(leader.pid, signal.SIGINT)
    output, errors = leader.communicate(timeout=30)
    assert (leader.returncode, output, errors) == (130, "", "")
    assert wait_until(lambda: not any(is_running(pid) for pid in pids_of_tasks(tmp_path)))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_nothing_is_left_of_a_leader_that_was_killed(leaders, engine_options, tmp_path):
    leader = leaders(LEADER, str(tmp_path), json.dumps(engine_options))
    assert wait_until(lambda: len(pids_of_tasks(tmp_path)) == 2, 60)
    pids = pids_of_tasks(tmp_path)
    leader.kill()
    leader.wait()
    assert wait_until(lambda: not any(is_running(pid) for pid in pids))
    assert wait_until(lambda: not session_pids(leader.pid))
