"""What watches a run: the table of its epochs, its speed, checkpoints within epochs, the moving average."""

from __future__ import annotations

import logging
import math
import sys
import time
from contextlib import redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from deepscan.files import write_atomically
from deepscan.train.batches import Batch

log = logging.getLogger(__name__)

EPOCHS_FILE = "metrics.csv"
_FIRST = ("epoch", "step", "learning_rate", "train_loss")
_EVERY_STEPS = 100
_WARM_UP_STEPS = 3
_FIRST_ESTIMATE_STEPS = 13  # ten are timed
_PEAK_SIDE, _PEAK_RUNS = 1024, 5
_PASSES = 3  # there, and back twice: to the inputs and to the weights


class EpochTable(Callback):
    """Writes ``metrics.csv``: after each epoch all that was logged, one row.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        # Sums over the batches of the epoch so far: an epoch that was cut in two has one mean.
        self._sums: dict[str, float] = {}
        self._n = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add up the parts of the loss."""
        for name, value in outputs.items():
            self._sums[f"train_{name}"] = self._sums.get(f"train_{name}", 0.0) + float(value)
        self._n += 1

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the row of the epoch that ended (validation, if any, is done by then)."""
        figures = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(("val_", "images_s"))
        } | {name: total / self._n for name, total in self._sums.items()}
        row = {"epoch": float(trainer.current_epoch), "step": float(trainer.global_step), **figures}
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.rows = [old for old in self.rows if old["epoch"] < row["epoch"]] + [row]
        self._sums, self._n = {}, 0
        if trainer.is_global_zero:
            names = [*_FIRST, *sorted({name for row in self.rows for name in row} - set(_FIRST))]
            table = pd.DataFrame(self.rows, columns=names).to_csv(index=False, float_format="%.6g", lineterminator="\n")
            write_atomically(self.path, table.encode())

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"rows": self.rows, "sums": self._sums, "n": self._n}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.rows, self._sums, self._n = list(state_dict["rows"]), dict(state_dict["sums"]), state_dict["n"]


def read_epochs(path: Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.csv``; what was not measured in an epoch is left out of its row."""
    rows = pd.read_csv(path).to_dict("records")
    return [{str(name): float(cell) for name, cell in row.items() if not math.isnan(cell)} for row in rows]


class Throughput(Callback):
    """Logs the device and when the stage will end; images a second in the progress bar and, now and then, with the
    share of the peak in the log.

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

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what it runs on."""
        device = pl_module.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device
        log.info("training on %s, %d processes, %s", name, trainer.world_size, trainer.precision)

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
        if self._n_steps == _FIRST_ESTIMATE_STEPS:
            self._log_end(trainer, (self._ended - self._since) / (_FIRST_ESTIMATE_STEPS - _WARM_UP_STEPS))
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
        if self._n_steps > _EVERY_STEPS:  # before, the first steps were no part of it
            self._log_end(trainer, took_s / _EVERY_STEPS)
        self._since, self._waited_s, self._n_images = time.perf_counter(), 0.0, 0
        self._ended = self._since

    def _log_end(self, trainer: L.Trainer, step_s: float) -> None:
        n_done, total = steps_of(trainer)
        left = timedelta(seconds=round((total - n_done) * step_s))
        log.info("this stage ends in about %s, at %s, validation apart", left, f"{datetime.now() + left:%b %d %H:%M}")

    def _share_of_peak(self, pl_module: L.LightningModule, batch: Batch) -> float:
        if not self._peak:
            device = batch.crops.device
            trained = any(parameter.requires_grad for parameter in self._network.parameters())
            passes = _PASSES if trained else 1  # a frozen backbone is not gone back through
            self._flop_an_image = passes * _flop(self._network, batch.crops.shape[-2], device)
            dtype = torch.bfloat16 if "bf16" in str(pl_module.trainer.precision) else torch.float32
            self._peak = matrix_peak(device, dtype)
        return self.images_s * self._flop_an_image / self._peak


class StepBar(TQDMProgressBar):
    """The bar of an epoch on stderr, with the step of all those of the stage; Lightning's is on stdout."""

    def init_train_tqdm(self) -> Any:
        """The bar of an epoch."""
        with redirect_stdout(sys.stderr):
            return super().init_train_tqdm()

    def init_validation_tqdm(self) -> Any:
        """The bar of a validation."""
        with redirect_stdout(sys.stderr):
            return super().init_validation_tqdm()

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics["step"] = "{} of {}".format(*steps_of(trainer))
        return metrics


def steps_of(trainer: L.Trainer) -> tuple[int, int]:
    """How many batches of the stage are done, and of how many."""
    return trainer.fit_loop.total_batch_idx + 1, (trainer.max_epochs or 0) * int(trainer.num_training_batches)


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


class CheckpointWithinEpochs(ModelCheckpoint):
    """Checkpoints every so many updates, not after an epoch's last batch: a resume would lose its validation."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def moved_towards(average: Tensor, current: Tensor, n_averaged: Tensor, decay: float) -> Tensor:
    """The moving average, after a warm-up in which it forgets the random weights of the start quickly."""
    if not average.is_floating_point():
        return current
    n = int(n_averaged)
    return average.lerp(current, 1 - min(decay, (1 + n) / (10 + n)))


def averaged(state: dict[str, Tensor], start: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """The average of two states of one network, with ``share`` of ``start``; counters stay as they are."""
    return {
        name: value.lerp(start[name].to(value), share) if value.is_floating_point() else value
        for name, value in state.items()
    }
