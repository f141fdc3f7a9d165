"""How fast a run is: images a second, the share of the machine's matrix peak, and how long it waits for data."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.flop_counter import FlopCounterMode

from deepscan.train.batches import Batch

log = logging.getLogger(__name__)

_EVERY_STEPS = 100
_WARM_UP_STEPS = 3
_PEAK_SIDE, _PEAK_RUNS = 1024, 5
_PASSES = 3  # there, and back twice: to the inputs and to the weights


class Throughput(Callback):
    """Logs images a second in the progress bar and, now and then, with the share of the peak in the log.

    Args:
        network: whose arithmetic is counted: the backbone.

    Attributes:
        images_s: images a second since the last report; 0 before there is one.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network
        self.images_s = 0.0
        self._n_images = self._n_steps = 0
        self._since = self._ended = 0.0
        self._waited_s = 0.0
        self._flop_an_image = self._peak = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count what the step waited for its batch."""
        now = time.perf_counter()
        if self._ended:
            self._waited_s += now - self._ended

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count, and report every so many steps."""
        self._ended = time.perf_counter()
        self._n_steps += 1
        if self._n_steps == _WARM_UP_STEPS:
            self._since, self._waited_s, self._n_images = self._ended, 0.0, 0
            return
        self._n_images += int(batch.mask.sum()) * trainer.world_size
        if self._n_steps <= _WARM_UP_STEPS or self._n_steps % _EVERY_STEPS:
            return
        took_s = self._ended - self._since
        self.images_s = self._n_images / took_s
        pl_module.log("images_s", self.images_s, prog_bar=True, batch_size=1)
        log.info(
            "step %d of %d: %.0f images/s, %.0f %% of the matrix peak, %.0f %% of the time waiting for data",
            trainer.global_step,
            trainer.estimated_stepping_batches,
            self.images_s,
            100 * self._share_of_peak(pl_module, batch) / trainer.world_size,
            100 * self._waited_s / took_s,
        )
        self._since, self._waited_s, self._n_images = time.perf_counter(), 0.0, 0
        self._ended = self._since

    def _share_of_peak(self, pl_module: L.LightningModule, batch: Batch) -> float:
        if not self._peak:
            device = batch.crops.device
            self._flop_an_image = _PASSES * _flop(self._network, batch.crops.shape[-2], device)
            dtype = torch.bfloat16 if "bf16" in str(pl_module.trainer.precision) else torch.float32
            self._peak = matrix_peak(device, dtype)
        return self.images_s * self._flop_an_image / self._peak


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP a second of a product of two large matrices: the best of a few."""
    a, b = (torch.randn(_PEAK_SIDE, _PEAK_SIDE, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(_PEAK_RUNS):
        start = time.perf_counter()
        (a @ b).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * _PEAK_SIDE**3 / best


def _flop(network: torch.nn.Module, size_px: int, device: torch.device) -> float:
    """Of one image there. The network's statistics are left as they are."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, size_px, size_px, device=device))
    finally:
        network.train(was_training)
    return float(counter.get_total_flops())
