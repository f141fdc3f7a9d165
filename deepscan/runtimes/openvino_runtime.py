"""Networks in OpenVINO on the processor, converted from torch once and kept.

OpenVINO reports its use to Google Analytics when it is imported and when its ``convert_model`` runs, and that prints to
stdout when the command line has ``--verbose``. Neither happens here: it is imported without the package that reports,
and networks go straight through its PyTorch frontend.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepscan.errors import ModelError
from deepscan.runtimes.base import NetworkSpec
from deepscan.runtimes.cache import Entry, entry_path, read_entry, read_note, write_entry, write_note
from deepscan.runtimes.processor import thread_limit

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_FORMAT = 1  # of what is kept; a new one makes every network anew
_TELEMETRY = "openvino_telemetry"
# A converted network that differs from torch's by more than this share of its largest output is not used.
_TOLERANCE = 1e-3


class ConversionError(ModelError):
    """OpenVINO cannot run a network as torch does, or is not there."""

    reason = "runtime"


class OpenVinoNetwork:
    """A compiled network behind numpy arrays; see :class:`deepscan.runtimes.Network`."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def __call__(self, x: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
        with self._lock:
            results = self._request.infer(np.ascontiguousarray(x), share_inputs=True, share_outputs=False)
        return tuple(np.asarray(value, np.float32) for value in results.values())


def is_installed() -> bool:
    """Whether OpenVINO can be imported; it is not imported for that."""
    return importlib.util.find_spec("openvino") is not None


def installed_version(package: str = "openvino") -> str:
    """Version of a package, OpenVINO's if none is named; empty where it is not installed. Nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def load(spec: NetworkSpec, build: Callable[[], torch.nn.Module]) -> OpenVinoNetwork:
    """The network, from its kept file or converted now; arguments as for :func:`deepscan.runtimes.load_network`.

    Raises:
        ConversionError: OpenVINO is missing, or does not run the network as torch does.
    """
    start = time.perf_counter()
    path = _entry(spec)
    entry = None if path is None else read_entry(path)
    compiled = None if path is None or entry is None else _compiled(spec, path, entry)
    if compiled is not None:
        log.debug("%s: converted network read in %.2f s", spec.name, time.perf_counter() - start)
        return OpenVinoNetwork(compiled)
    try:
        model, network = _convert(build(), spec)
    except ConversionError as error:
        if path is not None:
            write_note(path, f"{installed_version('torch')}\n{error.cause}")
        raise
    log.info("%s: converted for OpenVINO in %.1f s", spec.name, time.perf_counter() - start)
    if path is not None:
        write_entry(path, *_serialised(model))
    return network


def is_kept(spec: NetworkSpec) -> bool:
    """Whether a converted copy is there, as far as can be told without reading it."""
    path = _entry(spec)
    return path is not None and path.is_file()


def known_failure(spec: NetworkSpec) -> str | None:
    """Why the network could not be converted when that was last tried with these versions; None if it was not."""
    path = _entry(spec)
    noted = None if path is None else read_note(path)
    torch_version, _, cause = (noted or "").partition("\n")
    return cause if noted and torch_version == installed_version("torch") else None


def convert(module: torch.nn.Module, spec: NetworkSpec) -> Any:
    """An ``openvino.Model`` of a torch module on the processor, traced.

    Args:
        module: in evaluation mode; takes one tensor, gives one or a tuple of them.
        spec: shape and type of its input.

    Raises:
        ConversionError: the module cannot be traced, or has operations that OpenVINO lacks.
    """
    openvino = load_openvino()
    import torch

    example = torch.from_numpy(_example(spec, free=(2, 64)))
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            # Tracing warns that it is to go, and of every shape that it takes for fixed: those that it must not take
            # for fixed are run with other sizes below.
            warnings.simplefilter("ignore")
            from openvino.frontend import FrontEndManager
            from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

            frontend = FrontEndManager().load_by_framework("pytorch")
            decoder = TorchScriptPythonDecoder(module.eval(), example_input=(example,))
            loaded = frontend.load(decoder)  # borrows the decoder, which has to outlive the conversion
            entry = loaded.get_place_by_input_index(0)
            loaded.set_partial_shape(entry, openvino.PartialShape([-1 if n is None else n for n in spec.input_shape]))
            loaded.set_element_type(entry, openvino.Type(np.dtype(spec.input_type)))
            return frontend.convert(loaded)
    except Exception as error:
        raise ConversionError(
            "The network cannot be converted for OpenVINO", _one_line(error), "Use --runtime torch."
        ) from error


@cache
def load_openvino() -> Any:
    """The ``openvino`` package, imported so that it reports its use to nobody.

    Raises:
        ConversionError: it is not installed, or does not run on this system.
    """
    blocked = _TELEMETRY not in sys.modules
    if blocked:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # its import fails, which OpenVINO is made for
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise ConversionError(
            "The runtime openvino is not there", _one_line(error), "Install it (pip install openvino)."
        ) from error
    finally:
        if blocked:
            del sys.modules[_TELEMETRY]
    return openvino


@cache
def core() -> Any:
    """OpenVINO's one core of this process."""
    return load_openvino().Core()


def _entry(spec: NetworkSpec) -> Path | None:
    """Where the network is kept; None if it cannot be told from others, or there is no place."""
    if not spec.source_sha256:
        return None
    key = f"{_FORMAT} {installed_version()} {spec.name} {spec.source_sha256} {spec.input_type} {spec.input_shape}"
    try:
        return entry_path(spec.name, key)
    except RuntimeError as error:  # no home folder
        log.info("Converted networks are not kept: %s", error)
        return None


def _compiled(spec: NetworkSpec, path: Path, entry: Entry) -> Any:
    """A kept network, compiled: as it was kept, too, or now; None where it does not fit this OpenVINO."""
    openvino, settings = load_openvino(), _settings()
    # Compiling takes five times as long as reading what was compiled for this processor and these settings.
    processor = core().get_property("CPU", "FULL_DEVICE_NAME"), os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    key = f"{_FORMAT} {installed_version()} {entry.sha256} {processor} {sorted(settings.items())}"
    compiled_path = entry_path(spec.name, key, "compiled")
    kept = read_entry(compiled_path)
    if kept is not None:
        try:
            return core().import_model(kept.graph, "CPU", settings)
        except RuntimeError as error:
            log.info("%s does not fit this OpenVINO (%s): it is compiled again.", compiled_path, _one_line(error))
    try:
        model = core().read_model(entry.graph, openvino.Tensor(np.frombuffer(entry.weights, np.uint8)))
    except (RuntimeError, TypeError) as error:
        log.info("%s does not fit this OpenVINO (%s): the network is converted again.", path, _one_line(error))
        return None
    compiled = compile_model(model)
    try:
        write_entry(compiled_path, compiled.export_model().getvalue(), b"")
    except RuntimeError as error:
        log.info("%s: the compiled network cannot be kept: %s", spec.name, _one_line(error))
    return compiled


def _convert(module: torch.nn.Module, spec: NetworkSpec) -> tuple[Any, OpenVinoNetwork]:
    """The converted network, and compiled; it was seen to give torch's numbers."""
    import torch

    model = convert(module, spec)
    network = OpenVinoNetwork(compile_model(model))
    x = _example(spec, free=(3, 72))
    with torch.inference_mode():
        output = module(torch.from_numpy(x))
    expected = (output,) if isinstance(output, torch.Tensor) else tuple(output)
    try:
        computed = network(x)
    except RuntimeError as error:
        raise ConversionError("OpenVINO cannot run the network", _one_line(error), "Use --runtime torch.") from error
    if not same_numbers([w.float().numpy() for w in expected], computed):
        raise ConversionError("OpenVINO cannot run the network", "it gives other numbers", "Use --runtime torch.")
    return model, network


def same_numbers(expected: Sequence[NDArray[Any]], computed: Sequence[NDArray[Any]]) -> bool:
    """Whether outputs are the same up to rounding; what is not finite must be so in both."""
    return len(expected) == len(computed) and all(map(_close, expected, computed))


def _close(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if a.shape != b.shape:
        return False
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return False
    largest = np.abs(a[finite]).max(initial=1.0)
    return bool((np.abs(a[finite] - b[finite]) <= _TOLERANCE * largest).all())


def compile_model(model: Any) -> Any:
    """A model of OpenVINO, compiled for the processor, in 32 bits: bf16 moves scores and boxes.

    Raises:
        ConversionError: OpenVINO cannot run it.
    """
    try:
        return core().compile_model(model, "CPU", _settings())
    except RuntimeError as error:
        raise ConversionError("OpenVINO cannot run the network", _one_line(error), "Use --runtime torch.") from error


def _settings() -> dict[str, Any]:
    limit = thread_limit()
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        # Processes that run side by side would all be bound to the same cores.
        "ENABLE_CPU_PINNING": False,
        **({} if limit is None else {"INFERENCE_NUM_THREADS": limit}),
    }


def _serialised(model: Any) -> tuple[bytes, bytes]:
    """Graph and weights as OpenVINO writes them, the weights in float32."""
    with tempfile.TemporaryDirectory(prefix="deepscan-") as folder:
        graph = Path(folder) / "network.xml"
        load_openvino().save_model(model, graph, compress_to_fp16=False)
        return graph.read_bytes(), graph.with_suffix(".bin").read_bytes()


def _example(spec: NetworkSpec, free: tuple[int, int]) -> NDArray[Any]:
    """Noise for an input; ``free`` is the size of a free first dimension, and of other free ones."""
    shape = [n if n is not None else free[i > 0] for i, n in enumerate(spec.input_shape)]
    random = np.random.default_rng(0)
    if spec.input_type == "uint8":
        return random.integers(0, 256, shape, dtype=np.uint8)
    return random.standard_normal(shape, dtype=np.float32)


def _one_line(error: BaseException) -> str:
    """The last telling line: OpenVINO's messages begin with places in its sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
