"""Preprocessing on a Ray cluster gives what it gives on this machine."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from minicorpora import QUICK, dfdc, place, run
from stored import tree

from deepscan.processes import create_engine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    # What Ray itself warns of, and the sockets and processes it leaves to the end of the interpreter.
    pytest.mark.filterwarnings("ignore"),
]


def test_two_nodes_give_the_same_tables_and_store(tmp_path, face_clip, no_face_clip):
    from raycluster import two_node_cluster

    root = dfdc(tmp_path / "dfdc", face_clip, no_face_clip)
    place(face_clip, root / "dfdc_train_part_0" / "gone.mp4")
    (root / "dfdc_train_part_1" / "orig.mp4").write_bytes(b"no video")
    local, ray = tmp_path / "local", tmp_path / "ray"
    reuse = QUICK.model_copy(update={"boxes": "original"})
    with create_engine("local", jobs=2, time_limit_s=120) as engine:
        run(root, local, engine, reuse)
    with two_node_cluster() as address, create_engine("ray", address=address, time_limit_s=120) as engine:
        summary, _ = run(root, ray, engine, reuse)
    assert len(summary.rows) == 5
    assert summary.n_failed == 1
    for name in ("manifest.csv", "failures.csv"):
        one, other = ((folder / name).read_bytes().splitlines() for folder in (local, ray))
        assert sorted(one) == sorted(other)
        assert (local / name).read_bytes() == (ray / name).read_bytes()
    left, right = ({k: v for k, v in tree(f).items() if k.startswith("store/")} for f in (local, ray))
    assert left == right
    assert len(left) == 3
