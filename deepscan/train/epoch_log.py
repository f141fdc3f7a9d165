"""One row of figures an epoch, kept through a resume."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from deepscan.files import write_atomically

EPOCHS_FILE = "metrics.csv"
_FIRST = ("epoch", "step", "learning_rate", "train_loss")


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
            write_atomically(self.path, _table(self.rows))

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints."""
        return {"rows": self.rows, "sums": self._sums, "n": self._n}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.rows, self._sums, self._n = list(state_dict["rows"]), dict(state_dict["sums"]), state_dict["n"]


def read_epochs(path: Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.csv``; what was not measured in an epoch is left out of its row."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def _table(rows: list[dict[str, float]]) -> bytes:
    names = dict.fromkeys([*_FIRST, *sorted({name for row in rows for name in row})])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" for k, v in row.items()} for row in rows)
    return text.getvalue().encode()
