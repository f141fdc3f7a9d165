"""A training run: its folder, its stages, and how it goes on after it was stopped.

    runs/NAME/
      recipe.yaml         the resolved recipe
      groups.txt          hashed names of the groups that it trained on
      STAGE/last.ckpt     to resume from; best.ckpt: of the best epoch
      STAGE/final.safetensors          what the next stage begins with
      STAGE/metrics.csv   one row an epoch; STAGE/tensorboard/: the same for TensorBoard
      run.lock            held while it trains
      curves.png          loss, AUC and accuracy over the epochs of all stages
      model.safetensors, card.json     the detector: ``deepscan predict --model runs/NAME``

Batches depend on the seed and the step alone, and so does dropout: a run that is killed and resumed ends with the
weights it would have had (same machine, same number of processes).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    WeightAveraging,
)
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from safetensors.torch import load_file, save_file

from deepscan.datasets.dataset import SampleSet
from deepscan.errors import ConfigError
from deepscan.evaluate.training_groups import write_groups
from deepscan.files import temporary_beside
from deepscan.models.network import DetectorNetwork
from deepscan.runtimes import processor
from deepscan.train.batches import BatchMaker
from deepscan.train.callbacks import (
    EPOCHS_FILE,
    CheckpointWithinEpochs,
    EpochTable,
    StepBar,
    Throughput,
    averaged,
    moved_towards,
)
from deepscan.train.initial_weights import initial_network, teacher_network
from deepscan.train.lightning_module import DetectorModule
from deepscan.train.loader import TrainLoader, ValidationLoader
from deepscan.train.recipe import Recipe, StageSettings
from deepscan.train.run_lock import FINAL_FILE, claimed

log = logging.getLogger(__name__)

LAST, BEST = "last", "best"
_VALIDATION_BATCH = 32


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run may use.

    Attributes:
        devices: processes on this node; on a GPU machine GPUs.
        num_nodes: machines; each starts the same command, through torchrun or Lightning's own environment.
        accelerator: ``auto`` takes a GPU when there is one.
        progress: show a bar on stderr.
        data: folder from which weights that a recipe names are looked for, too.
    """

    devices: int = 1
    num_nodes: int = 1
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    progress: bool = False
    data: Path | None = None


def train_network(
    recipe: Recipe, samples: SampleSet, run: Path, machine: Machine | None = None, *, resume: bool = False
) -> DetectorNetwork:
    """Train all the stages of a recipe.

    Args:
        recipe: what to do.
        samples: with ``train`` and, to choose the best epoch, ``val`` splits.
        run: folder of the run.
        machine: what may be used.
        resume: go on from the run's last checkpoint; without it the folder must not hold a run. One that ended before
            its first checkpoint left nothing to go on from, and is none.

    Returns:
        The trained network, in evaluation mode.

    Raises:
        ConfigError: the folder holds a run already, or one of another recipe; or the data does not fit.
        OutputError: another process trains in the folder at this time, or it cannot be written.
    """
    with claimed(run, recipe, resume) if is_leading_process() else nullcontext():
        return _train_stages(recipe, samples, run, machine or Machine())


def _train_stages(recipe: Recipe, samples: SampleSet, run: Path, machine: Machine) -> DetectorNetwork:
    train = samples.split("train")
    val = samples.where(lambda sample: sample.split == "val")
    if is_leading_process():
        write_groups(run, {(sample.dataset, sample.group) for sample in train.samples})
    torch.manual_seed(recipe.seed)
    network = initial_network(recipe, machine.data)
    for index, stage in enumerate(recipe.stages):
        folder = run / stage.name
        final = folder / FINAL_FILE
        if not final.exists():
            _run_stage(recipe, index, network, train, val, final, machine)
        network.load_state_dict(load_file(final))
    return network.eval()


def is_leading_process() -> bool:
    """Whether this is the process that writes: of several that train together, the first."""
    return not getattr(rank_zero_only, "rank", 0)


def pick_precision(recipe: Recipe) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """Lightning's name of the precision; ``auto`` is bf16 where the hardware has it and does not imitate it."""
    if recipe.precision == "bf16":
        return "bf16-mixed"
    if recipe.precision == "16":
        return "16-mixed"
    if (
        recipe.precision == "auto"
        and torch.cuda.is_available()
        and torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        return "bf16-mixed"
    if recipe.precision == "auto" and not torch.cuda.is_available() and processor.cpu_has_bf16():
        return "bf16-mixed"
    return "32-true"


def batches_per_epoch(stage: StageSettings, n_samples: int, n_processes: int) -> int:
    """Batches that pass over as many samples as there are, or what the stage says."""
    return stage.steps_per_epoch or max(1, -(-n_samples // (stage.batch_size * n_processes)))


def _run_stage(
    recipe: Recipe,
    index: int,
    network: DetectorNetwork,
    train: SampleSet,
    val: SampleSet,
    final: Path,
    machine: Machine,
) -> None:
    """Train a stage and write its best weights to ``final``."""
    stage, folder = recipe.stages[index], final.parent
    folder.mkdir(parents=True, exist_ok=True)
    maker = BatchMaker(train, recipe, index)
    per_epoch = batches_per_epoch(stage, len(train), machine.devices * machine.num_nodes)
    n_updates = stage.epochs * -(-per_epoch // stage.accumulate)
    log.info(
        "stage %d of %d (%s): %d steps of %d images, %s; %d people of %d videos, %d of them fake",
        index + 1,
        len(recipe.stages),
        stage.name,
        stage.epochs * per_epoch,
        stage.batch_size * stage.sequence_length,
        pick_precision(recipe),
        len(train),
        len({sample.video_id for sample in train.samples}),
        sum(sample.label for sample in train.samples),
    )
    start = {name: value.clone() for name, value in network.state_dict().items()} if stage.start_share else {}
    # As the crops come: on CPUs convolutions are otherwise reordered at every layer.
    teacher = teacher_network(recipe.distill, machine.data) if recipe.distill and not stage.freeze_backbone else None
    module = DetectorModule(recipe, index, network, n_updates, teacher).to(memory_format=torch.channels_last)
    with _quiet():
        trainer = _fit(recipe, stage, module, maker, per_epoch, val, folder, machine)
    if trainer.is_global_zero:
        best = folder / f"{BEST}.ckpt"
        if best.exists():
            load_checkpoint(network, best)
        if start:
            network.load_state_dict(averaged(network.state_dict(), start, stage.start_share))
        _save_state(network, final)
    trainer.strategy.barrier(stage.name)


def _fit(
    recipe: Recipe,
    stage: StageSettings,
    module: DetectorModule,
    maker: BatchMaker,
    per_epoch: int,
    val: SampleSet,
    folder: Path,
    machine: Machine,
) -> L.Trainer:
    """Lightning's part; afterwards the module has its last weights and ``best.ckpt`` the best, if any were measured."""
    validates = len({sample.label for sample in val.samples}) == 2
    trainer = L.Trainer(
        accelerator=machine.accelerator,
        devices=machine.devices,
        num_nodes=machine.num_nodes,
        strategy="ddp_find_unused_parameters_true" if machine.devices * machine.num_nodes > 1 else "auto",
        precision=pick_precision(recipe),
        max_epochs=stage.epochs,
        accumulate_grad_batches=stage.accumulate,
        gradient_clip_val=stage.clip_norm or None,
        callbacks=[
            *_callbacks(recipe, stage, module, folder, validates=validates),
            *([StepBar()] if machine.progress else []),
        ],
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        enable_progress_bar=machine.progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    last = folder / f"{LAST}.ckpt"
    if last.exists():
        _read_checkpoint(last)  # what is wrong with it is told here in one line
    loader = TrainLoader(maker, per_epoch, trainer)
    checked = ValidationLoader(val, maker.size_px, _VALIDATION_BATCH, trainer) if validates else None
    trainer.fit(module, loader, checked, ckpt_path=last if last.exists() else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return trainer


def _callbacks(
    recipe: Recipe, stage: StageSettings, module: DetectorModule, folder: Path, *, validates: bool
) -> list[Callback]:
    """Checkpoints, the table of epochs, the moving average, early stopping."""
    mode = "min" if stage.monitor == "log_loss" else "max"
    callbacks: list[Callback] = [EpochTable(folder / EPOCHS_FILE), Throughput(module.network.backbone)]
    if stage.ema:
        callbacks.append(WeightAveraging(avg_fn=partial(moved_towards, decay=stage.ema)))
    if validates:
        watched = f"val_{stage.monitor}"
        callbacks.append(ModelCheckpoint(folder, BEST, monitor=watched, mode=mode, enable_version_counter=False))
        if stage.patience:
            callbacks.append(EarlyStopping(watched, mode=mode, patience=stage.patience, check_on_train_epoch_end=False))
    # What is resumed from: written every so many updates, and when an epoch and its validation are over.
    callbacks.append(
        CheckpointWithinEpochs(folder, LAST, every_n_train_steps=recipe.checkpoint_steps, enable_version_counter=False)
    )
    callbacks.append(ModelCheckpoint(folder, LAST, save_on_train_epoch_end=True, enable_version_counter=False))
    return callbacks


def _read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """A checkpoint of Lightning's; one that carries code, from somebody else's run, is refused and does not run.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        content = dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
        content["state_dict"] = dict(content["state_dict"])
    except Exception as error:
        cause = "it holds more than numbers" if isinstance(error, UnpicklingError) else type(error).__name__
        hint = f"Remove it to begin its stage again: {checkpoint.parent}."
        raise ConfigError(f"{checkpoint.name} cannot be read as a checkpoint", cause, hint) from error
    return content


def load_checkpoint(network: DetectorNetwork, checkpoint: Path) -> None:
    """Take a network's weights from a checkpoint of its training.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    state = _read_checkpoint(checkpoint)["state_dict"]
    prefix = "network."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def _save_state(network: DetectorNetwork, path: Path) -> None:
    with temporary_beside(path) as temporary:
        save_file({name: value.contiguous().cpu() for name, value in network.state_dict().items()}, temporary)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning tells what it found and what it would do otherwise; here that is decided, and errors still come."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
