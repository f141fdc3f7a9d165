"""A Ray cluster of two nodes on this machine, on loopback, for tests."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NODE_VARIABLE = "DEEPSCAN_TEST_NODE"
NODES = ("first", "second")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@contextmanager
def importable_on_nodes() -> Iterator[None]:
    """Nodes that are started meanwhile import from where the test does, not only what is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        yield


@contextmanager
def two_node_cluster() -> Iterator[str]:
    """Give the address of a cluster of two nodes with one core each; ends it.

    Tasks can import whatever the test can. On a node, ``NODE_VARIABLE`` is one of ``NODES`` in the environment.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Loopback only; read when Ray is imported.
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        try:
            # Only while they start: the cluster lasts as long as the test session, and a variable that is
            # set as long reaches every program another test starts (pip then finds deepscan "installed").
            with importable_on_nodes():
                for name in NODES:
                    cluster.add_node(
                        num_cpus=1, node_ip_address="127.0.0.1", include_dashboard=False, env_vars={NODE_VARIABLE: name}
                    )
            yield cluster.address
        finally:
            cluster.shutdown()
