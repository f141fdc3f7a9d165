"""Networks in both runtimes: the same numbers, converted once, and no failure that is not one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from importlib import util
from importlib.metadata import version

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepscan.errors import ModelError
from deepscan.runtimes import NetworkSpec, load_network, openvino_runtime, processor
from deepscan.runtimes.cache import cache_folder, read_entry, write_entry
from deepscan.runtimes.torch_runtime import TorchNetwork

SHA = "5" * 64

pytestmark = pytest.mark.loads_networks


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPSCAN_CACHE", str(tmp_path / "cache"))


class Small(nn.Module):
    """Two outputs; height and width are free."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.norm(self.conv(x)))
        return y, y.mean(dim=(2, 3))


class FromBytes(nn.Module):
    """uint8 ``[N, H, W, 3]`` in, one output."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().div(255).permute(0, 3, 1, 2).mean(dim=(2, 3))


class Frozen(nn.Module):
    """Takes the number of images that it was traced with for the only one."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(len(x))


class Sorts(nn.Module):
    """What no runtime but torch has."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svdvals(x)


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def load(module=None, runtime="openvino", name="small", sha=SHA, shape=(None, 3, None, None), kind="float32"):
    return load_network(NetworkSpec(name, sha, shape, kind), lambda: module or Small().eval(), runtime=runtime)


def never():
    raise AssertionError("a kept network is not built")


def kept():
    return sorted(path.name for path in (cache_folder() / "networks").glob("*"))


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_both_give_what_the_module_gives(runtime):
    module = Small().eval()
    network = load(module, runtime)
    for shape in ((1, 3, 40, 60), (5, 3, 33, 33)):
        x = images(*shape)
        with torch.inference_mode():
            expected = [out.numpy() for out in module(torch.from_numpy(x))]
        outputs = network(x)
        assert [out.dtype for out in outputs] == [np.float32, np.float32]
        for a, b in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_bytes_in_one_output_any_layout_in_memory(runtime):
    network = load(FromBytes(), runtime, shape=(None, None, None, 3), kind="uint8")
    x = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    x.setflags(write=False)
    (mean,) = network(x[:, ::-1, ::2])
    np.testing.assert_allclose(mean, x[:, ::-1, ::2].mean(axis=(1, 2)) / 255, rtol=1e-5)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_outputs_stay_when_the_network_runs_again(runtime):
    network = load(None, runtime)
    first = network(images(1, 3, 20, 20))
    before = [out.copy() for out in first]
    network(images(1, 3, 20, 20, seed=1))
    for a, b in zip(first, before, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.flags.writeable


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_threads_may_share_a_network(runtime):
    network, x = load(None, runtime), [images(2, 3, 40, 40, seed=n) for n in range(4)]
    expected = [network(one)[1] for one in x]
    wrong = []

    def run(index):
        for _ in range(20):
            if not np.allclose(network(x[index])[1], expected[index], atol=1e-5):
                wrong.append(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_it_is_converted_once():
    x = images(2, 3, 24, 24)
    first = load()(x)
    (name,) = kept()
    assert name.startswith("small-")
    again = load_network(NetworkSpec("small", SHA, (None, 3, None, None)), never, runtime="openvino")
    for a, b in zip(again(x), first, strict=True):
        np.testing.assert_array_equal(a, b)


def compiled_copies():
    return sorted((cache_folder() / "compiled").glob("*"))


def test_it_is_compiled_once(monkeypatch):
    x = images(2, 3, 24, 24)
    load()
    first = load()(x)
    (path,) = compiled_copies()
    assert path.name.startswith("small-")
    monkeypatch.setattr(openvino_runtime, "compile_model", never)
    for a, b in zip(load()(x), first, strict=True):
        np.testing.assert_array_equal(a, b)


def test_for_other_settings_it_is_compiled_anew(monkeypatch):
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        load()
        load()
    assert len(compiled_copies()) == 2
    assert len(kept()) == 1


@pytest.mark.parametrize(
    "content", [b"", b"no network", None], ids=["empty", "other bytes", "whole, of something else"]
)
def test_a_compiled_copy_that_is_of_no_use_is_made_again(content, caplog):
    x = images(1, 3, 24, 24)
    load()
    expected = load()(x)
    (path,) = compiled_copies()
    if content is None:
        write_entry(path, b"no network", b"")
    else:
        path.write_bytes(content)
    with caplog.at_level(logging.INFO, "deepscan"):
        np.testing.assert_array_equal(load()(x)[1], expected[1])
    assert str(path) in caplog.text
    entry = read_entry(path)
    assert entry is not None
    assert entry.graph != b"no network"


def test_other_weights_and_other_shapes_are_other_networks():
    x = images(2, 3, 24, 24)
    one = load()(x)[1]
    other = load(Small(seed=1).eval(), sha="6" * 64)(x)[1]
    assert not np.allclose(one, other)
    load(shape=(None, 3, 24, 24))
    load(name="smaller")
    assert len(kept()) == 4


def test_another_openvino_converts_anew(monkeypatch):
    load()
    monkeypatch.setattr(openvino_runtime, "installed_version", lambda *_: "1999.1")
    load()
    assert len(kept()) == 2


def test_without_a_source_nothing_is_kept():
    load(sha="")
    assert not (cache_folder() / "networks").exists()


@pytest.mark.parametrize("keep", [0, 200, -1])
def test_a_damaged_copy_is_made_again(keep, caplog):
    x = images(1, 3, 24, 24)
    expected = load()(x)
    path = cache_folder() / "networks" / kept()[0]
    path.write_bytes(path.read_bytes()[:keep])
    with caplog.at_level(logging.INFO, "deepscan"):
        outputs = load()(x)
    np.testing.assert_allclose(outputs[1], expected[1], rtol=1e-5)
    assert "is damaged" in caplog.text
    assert read_entry(path) is not None


def test_a_copy_that_openvino_cannot_read_is_made_again(caplog):
    x = images(1, 3, 24, 24)
    expected = load()(x)
    write_entry(cache_folder() / "networks" / kept()[0], b"<net>", b"")  # whole, by its sha256
    with caplog.at_level(logging.INFO, "deepscan"):
        np.testing.assert_allclose(load()(x)[1], expected[1], rtol=1e-5)
    assert "does not fit this OpenVINO" in caplog.text


def test_without_a_place_for_the_copy_it_runs_all_the_same(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPSCAN_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO, "deepscan"):
        assert load()(images(1, 3, 24, 24))[1].shape == (1, 8)
    assert "is not kept" in caplog.text


def test_a_network_that_takes_sizes_for_fixed_is_refused():
    with pytest.raises(ModelError, match="it gives other numbers") as caught:
        load(Frozen(), shape=(None, 4))
    assert caught.value.reason == "runtime"


def test_a_network_that_openvino_lacks_operations_for():
    spec = NetworkSpec("svd", SHA, (None, 4, 4))
    assert openvino_runtime.known_failure(spec) is None
    with pytest.raises(ModelError, match="Use --runtime torch") as caught:
        load(Sorts(), name="svd", shape=(None, 4, 4))
    assert caught.value.reason == "runtime"
    assert "\n" not in str(caught.value)
    assert openvino_runtime.known_failure(spec)  # the next process need not try
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino_runtime, "version", lambda package: "99" if package == "torch" else version(package))
        assert openvino_runtime.known_failure(spec) is None  # another torch may do better
    assert not openvino_runtime.is_kept(spec)
    (values,) = load(Sorts(), "torch", name="svd", shape=(None, 4, 4))(images(2, 4, 4))
    assert values.shape == (2, 4)


def test_openvino_that_is_not_there(monkeypatch):
    openvino_runtime.load_openvino.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    try:
        with pytest.raises(ModelError, match="pip install openvino") as caught:
            load()
    finally:
        monkeypatch.undo()
        openvino_runtime.load_openvino.cache_clear()
    assert caught.value.reason == "runtime"


def test_telling_whether_openvino_is_there(monkeypatch):
    assert openvino_runtime.is_installed()
    assert openvino_runtime.installed_version()
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    assert not openvino_runtime.is_installed()


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ([1.0, 2.0], [1.0, 2.0015], True),  # of the largest, 2: less than a thousandth
        ([1.0, 2.0], [1.0, 2.01], False),
        ([0.0, 0.001], [0.0, 0.0015], True),  # nothing beside 1
        ([1000.0, 0.0], [1000.0, 0.5], True),
        ([np.nan, 1.0], [np.nan, 1.0], True),
        ([np.nan, 1.0], [0.0, 1.0], False),
        ([1.0, 1.0], [np.inf, 1.0], False),
    ],
)
def test_same_numbers(a, b, same):
    assert openvino_runtime.same_numbers([np.array(a)], [np.array(b)]) is same


def test_same_numbers_have_the_same_shapes():
    one = np.zeros((2, 1))
    assert not openvino_runtime.same_numbers([one], [one.T])
    assert not openvino_runtime.same_numbers([one], [one, one])


# Precision and threads


_HAS_BF16 = """
from pathlib import Path
Path.read_text = lambda *_, **__: "processor: 0\\nflags: {flags}\\n"
from deepscan.runtimes.processor import cpu_has_bf16
print(cpu_has_bf16())
"""


@pytest.mark.parametrize(
    ("flags", "limit", "expected"),
    [
        ("avx2 avx512f avx512_bf16", "", True),
        ("amx_tile amx_bf16", "avx512_core_amx", True),
        ("avx512_vnni", "", False),
        ("avx512_bf16", "AVX512_CORE_VNNI", False),
        ("avx512_bf16", "avx2", False),
    ],
)
def test_bf16_only_where_the_processor_has_it_and_may_use_it(flags, limit, expected):
    """In a process of its own: what the processor has is found out once."""
    words = [sys.executable, "-c", _HAS_BF16.format(flags=flags)]
    printed = subprocess.run(words, env={**os.environ, "ONEDNN_MAX_CPU_ISA": limit}, capture_output=True, check=True)
    assert printed.stdout.split() == [str(expected).encode()]


def test_in_bf16_torch_gives_nearly_the_same(monkeypatch):
    """On a processor without it this is imitated: slow, and the same numbers."""
    x = images(2, 3, 24, 24)
    exact = load(None, "torch")(x)
    monkeypatch.setattr(processor, "cpu_has_bf16", lambda: True)
    np.testing.assert_array_equal(load(None, "torch")(x)[0], exact[0])
    rough = TorchNetwork(Small().eval(), precision="auto")(x)
    assert rough[0].dtype == np.float32
    assert 0 < np.abs(rough[0] - exact[0]).max() < 0.05


@pytest.mark.parametrize(("variable", "threads"), [("", None), ("2,1", 2), ("many", None)])
def test_openvino_computes_in_32_bits_in_as_many_threads_as_the_environment_allows(monkeypatch, variable, threads):
    class Core:
        def compile_model(self, _model, device, settings):
            raise RuntimeError(
                f"{device} {settings['INFERENCE_PRECISION_HINT']} {settings.get('INFERENCE_NUM_THREADS')}"
            )

    monkeypatch.setattr(openvino_runtime, "core", Core)
    monkeypatch.setattr(processor, "cpu_has_bf16", lambda: True)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    with pytest.raises(ModelError) as caught:
        openvino_runtime.compile_model(None)
    assert caught.value.cause == f"CPU f32 {threads}"


# Processes

_CONVERT = """
import socket, sys, pathlib
calls = []
socket.socket.connect = lambda self, address: calls.append(address)
socket.getaddrinfo = lambda *given, **more: calls.append(given) or []
sys.argv.append("--verbose")  # makes OpenVINO's own converter print
import numpy as np
from torch import nn
from deepscan.runtimes import NetworkSpec, load_network
assert "openvino" not in sys.modules
build = lambda: nn.Conv2d(3, 4, 3).eval()
network = load_network(NetworkSpec("conv", "7" * 64, (None, 3, None, None)), build, runtime="openvino")
assert network(np.ones((1, 3, 9, 9), np.float32))[0].shape == (1, 4, 7, 7)
assert "openvino_telemetry" not in sys.modules
assert not calls, calls
"""


def test_nobody_is_told_and_nothing_is_printed(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):  # which would switch OpenVINO's reports off
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", _CONVERT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
    assert not list(home.iterdir())  # the reports' client id would be here


@pytest.mark.slow
def test_two_processes_at_once():
    processes = [subprocess.Popen([sys.executable, "-c", _CONVERT], stderr=subprocess.PIPE) for _ in range(2)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    (name,) = kept()  # one copy, no temporary files
    assert name.endswith(".network")
