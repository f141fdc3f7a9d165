"""What only the engine of Ray does. Whatever starts a cluster is slow."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import sys
from pathlib import Path

import engine_tasks
import pytest
from process_tools import is_running, listening, pids_of_tasks, session_pids, wait_until
from raycluster import NODES, importable_on_nodes, needs_ray

from deepscan.errors import ConfigError, OutputError
from deepscan.processes import Lost, create_engine, ray_engine

LEADER = Path(__file__).parents[1] / "helpers" / "leader.py"


def test_without_ray_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"Ray is not installed\. Run: pip install 'deepscan-video\[ray\]'"):
        create_engine("ray")


@pytest.mark.parametrize("address", ["nonsense", "host:port", "127.0.0.1:", ":6379"])
@needs_ray
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match="not of the form host:port"):
        create_engine("ray", address=address)


@needs_ray
def test_an_address_where_nothing_listens_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConfigError, match=rf"No Ray cluster can be joined at 127\.0\.0\.1:{port}: .*refused"):
        create_engine("ray", address=f"127.0.0.1:{port}")


def test_a_function_that_nodes_cannot_import_is_refused(monkeypatch):
    """Without a cluster: the function is looked at before anything is sent."""
    engine = ray_engine.RayEngine.__new__(ray_engine.RayEngine)
    monkeypatch.setattr(engine_tasks.square, "__module__", "__main__")
    with pytest.raises(ValueError, match="main module"):
        engine.map(engine_tasks.square, [1])


@needs_ray
@pytest.mark.slow
def test_a_cluster_of_this_machine_gives_the_results_of_local_workers():
    tasks = [1, "exception", "kill", "exit 0", "hang", "unpicklable", *range(2, 6)]
    with create_engine("local", jobs=2, time_limit_s=1.0) as engine:
        expected = dict(engine.map(engine_tasks.trouble, tasks))
    with importable_on_nodes(), create_engine("ray", jobs=2, time_limit_s=1.0) as engine:
        assert engine.n_workers == 2
        assert dict(engine.map(engine_tasks.trouble, tasks)) == expected
        with pytest.raises(OutputError, match="no space left"):
            list(engine.map(engine_tasks.trouble, ["disk full"]))
    assert {result.reason for result in expected.values() if isinstance(result, Lost)} == {
        "internal",
        "timeout",
        "worker_died",
    }
    import ray

    assert not ray.is_initialized()


@pytest.mark.slow
@needs_ray
def test_tasks_run_on_every_node(cluster_address):
    with create_engine("ray", address=cluster_address) as engine:
        assert engine.n_workers == 2
        assert {result for _, result in engine.map(engine_tasks.node, range(12))} == set(NODES)
    with create_engine("ray", address=cluster_address, jobs=1) as engine:
        assert engine.n_workers == 1
        assert len(list(engine.map(engine_tasks.node, range(4)))) == 4


@pytest.mark.slow
@needs_ray
def test_a_task_that_ends_rays_own_process_is_retried_then_lost(cluster_address, tmp_path):
    tries = tmp_path / "tries"
    with create_engine("ray", address=cluster_address) as engine:
        [(_, result)] = engine.map(engine_tasks.end_parent, [tries])
        assert dict(engine.map(engine_tasks.square, [3])) == {3: 9}
    assert isinstance(result, Lost)
    assert result.reason == "worker_died"
    assert result.message.startswith("Ray gave the task up after 3 retries")
    assert tries.read_text() == "x" * 4


@pytest.mark.slow
@needs_ray
def test_a_connection_that_the_caller_made_stays(cluster_address):
    import ray

    ray.init(cluster_address, log_to_driver=False)
    try:
        with create_engine("ray", address=cluster_address) as engine:
            assert dict(engine.map(engine_tasks.square, [3])) == {3: 9}
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@pytest.mark.slow
@needs_ray
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_workers_of_a_cluster_end_when_its_leader_was_killed(leaders, tmp_path):
    """Ray's own agents, without work, take up to a minute."""
    leader = leaders(LEADER, str(tmp_path), json.dumps({"name": "ray", "jobs": 2}))
    assert wait_until(lambda: len(pids_of_tasks(tmp_path)) == 2, 60)
    pids = pids_of_tasks(tmp_path)
    leader.kill()
    leader.wait()
    assert wait_until(lambda: not any(is_running(pid) for pid in pids), 30)


@pytest.mark.slow
@needs_ray
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are looked up in /proc")
def test_a_cluster_of_this_machine_listens_on_loopback_only(leaders, tmp_path):
    leader = leaders(LEADER, str(tmp_path), json.dumps({"name": "ray", "jobs": 2}))
    assert wait_until(lambda: len(pids_of_tasks(tmp_path)) == 2, 60)
    addresses = listening(session_pids(leader.pid))
    assert len(addresses) > 4
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses), addresses
