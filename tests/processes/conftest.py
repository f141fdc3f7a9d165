"""Engines for tests, and processes to watch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raycluster import needs_ray, two_node_cluster

from deepscan.processes import Engine, create_engine

MakeEngine = Callable[..., Engine]
PARAMETERS = ["local", pytest.param("ray", marks=[pytest.mark.slow, needs_ray])]


@pytest.fixture(scope="session")
def cluster_address() -> Iterator[str]:
    with two_node_cluster() as address:
        yield address


@pytest.fixture(scope="module", params=PARAMETERS)
def engine_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Which engine, for ``create_engine``: two workers on this machine, or a cluster of two nodes."""
    if request.param == "local":
        return {"name": "local", "jobs": 2}
    return {"name": "ray", "address": request.getfixturevalue("cluster_address")}


@pytest.fixture
def make_engine(engine_options: dict[str, Any]) -> MakeEngine:
    def make(**options: Any) -> Engine:
        return create_engine(**{**engine_options, **options})

    return make


@pytest.fixture(scope="module")
def engine(engine_options: dict[str, Any]) -> Iterator[Engine]:
    """One for all tests of a file that leave it as it was."""
    with create_engine(**engine_options) as made:
        yield made


@pytest.fixture
def leaders() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts scripts in sessions of their own; ends what is left of them."""
    started: list[subprocess.Popen[str]] = []

    def start(script: Path, *arguments: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), *(path for path in sys.path if path)])
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
