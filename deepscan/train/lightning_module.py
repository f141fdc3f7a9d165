"""The Lightning module: one stage of a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from deepscan.errors import ConfigError
from deepscan.evaluate.robustness.attacks import evaluating, perturbed, without_cudnn_rnn
from deepscan.models.backbones.base import BackboneSpec
from deepscan.models.backbones.registry import backbone_spec
from deepscan.models.network import DetectorNetwork
from deepscan.models.transform import normalise
from deepscan.train.batches import Batch
from deepscan.train.losses import Distillation, RegionHeads, masked_frame_mean, total_loss
from deepscan.train.recipe import AdversarialSettings, Recipe, StageSettings

# Plain SGD needs no more than this from the step schedule: a tenth of the rate after each third of the stage.
_STEP_PARTS = 3


class Forward(NamedTuple):
    """What a network gives for a batch.

    Attributes:
        video: logits ``[B]``; None where only frames are trained.
        frames: logits ``[B, T]``.
        cells: logits of regions, of each map.
        maps: of the backbone, where they are needed.
    """

    video: Tensor | None
    frames: Tensor
    cells: list[Tensor]
    maps: tuple[Tensor, ...]


class DetectorModule(L.LightningModule):
    """Trains a detector's network on :class:`~deepscan.train.batches.Batch`.

    Validation takes the same kind of batch, not augmented; it logs ``val_auc``, ``val_log_loss`` and ``val_accuracy``
    of the sequences, and of frames with the suffix ``_frame``.

    Args:
        recipe: the whole run.
        stage: index of the stage.
        network: is trained in place.
        n_updates: optimiser updates in the whole stage, for the schedule.
        teacher: that is learned from as ``recipe.distill`` says; None for none.

    Raises:
        ConfigError: the recipe asks for the region loss or for maps of a teacher, and a backbone has no maps.
    """

    def __init__(
        self,
        recipe: Recipe,
        stage: int,
        network: DetectorNetwork,
        n_updates: int,
        teacher: DetectorNetwork | None = None,
    ) -> None:
        super().__init__()
        from torchmetrics.classification import BinaryAUROC

        self.recipe, self.stage, self.network = recipe, recipe.stages[stage], network
        self.stage_index, self.n_updates = stage, n_updates
        self.spec: BackboneSpec = backbone_spec(recipe.model.backbone)
        self.regions: RegionHeads | None = None
        if self.stage.loss.region:
            channels: tuple[int, ...] = network.backbone.map_channels
            if not channels:
                raise ConfigError(
                    f"{recipe.model.backbone} cannot be trained with loss.region",
                    "it gives no maps of features",
                    "Set the stage's loss.region to 0, or take a ResNet.",
                )
            self.regions = RegionHeads(channels)
        self.distillation: Distillation | None = None
        if teacher is not None and recipe.distill is not None:
            self.distillation = Distillation(recipe.distill, teacher, network.backbone, recipe.model.backbone)
        taught_maps = self.distillation is not None and self.distillation.projection is not None
        self._needs_maps = self.regions is not None or taught_maps
        for parameter in network.backbone.parameters():
            parameter.requires_grad_(not self.stage.freeze_backbone)
        self._auc, self._frame_auc = BinaryAUROC(), BinaryAUROC()

    def forward(self, batch: Batch) -> Forward:
        """Logits of a batch, not attacked."""
        return self._forward(_pixels(batch), batch.mask)

    def _forward(self, pixels: Tensor, mask: Tensor) -> Forward:
        """:meth:`forward` of pixels in [0, 1] of the faces that are there, ``[N, 3, S, S]``."""
        x = self._normalised(pixels)
        maps: tuple[Tensor, ...] = ()
        if self.training and self._needs_maps:
            flat, maps = self.network.backbone.features_and_maps(x)
        else:
            flat = self.network.backbone(x)
        if self.stage.freeze_backbone:
            flat = flat.detach()
        features = _as_map(flat, mask)
        cells = self.regions(maps) if self.regions is not None and maps else []
        if self.training and not self.stage.loss.video:
            return Forward(None, self.network.frame_classifier(features).squeeze(-1), cells, maps)
        output = self.network.from_features(features, mask)
        return Forward(output.video_logit, output.frame_logits, cells, maps)

    def _normalised(self, pixels: Tensor) -> Tensor:
        return normalise(pixels, self.spec.mean, self.spec.std).contiguous(memory_format=torch.channels_last)

    def attacked(self, settings: AdversarialSettings, batch: Batch) -> Tensor:
        """The pixels of a batch, of a share of its samples attacked."""
        pixels, mask = _pixels(batch), batch.mask
        chosen = (torch.rand(len(mask)) < settings.share).to(mask.device)
        if not bool(chosen.any()):
            return pixels
        attacked_mask, labels = mask[chosen], batch.labels[chosen]
        trains_video = bool(self.stage.loss.video)

        def loss(attacked: Tensor) -> Tensor:
            features = _as_map(self.network.backbone(self._normalised(attacked)), attacked_mask)
            frames = self.network.frame_classifier(features).squeeze(-1)
            wrong = F.binary_cross_entropy_with_logits(
                frames, labels.unsqueeze(1).expand_as(frames), weight=attacked_mask.to(frames.dtype), reduction="sum"
            )
            if trains_video:
                video = self.network.from_features(features, attacked_mask).video_logit
                wrong = wrong + F.binary_cross_entropy_with_logits(video, labels, reduction="sum")
            return wrong

        there = chosen.unsqueeze(1).expand_as(mask)[mask]
        # What the attacker meets is the network as it judges: with its kept statistics, and nothing dropped.
        with evaluating(self.network), without_cudnn_rnn():
            pixels[there] = perturbed(
                loss, pixels[there], attack=settings.attack, budget=settings.budget, steps=settings.steps
            )
        return pixels

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout draws from the seed and the step, so that a resumed run draws the same."""
        if self.stage.freeze_backbone:  # its batch statistics too
            self.network.backbone.eval()
        step = self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed(hash((self.recipe.seed, self.stage_index, step, self.global_rank)) & 0x7FFFFFFF)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The loss and its parts."""
        adversarial = self.recipe.adversarial
        pixels = _pixels(batch) if adversarial is None else self.attacked(adversarial, batch)
        out = self._forward(pixels, batch.mask)
        parts = total_loss(self.stage.loss, out.video, out.frames, out.cells, batch)
        if self.distillation is not None:
            taught = self.distillation(pixels, out.frames[batch.mask], out.maps)
            parts |= {**taught, "loss": parts["loss"] + torch.stack(list(taught.values())).sum()}
        self.log("train_loss_step", parts["loss"].detach(), prog_bar=True, batch_size=len(batch.labels))
        return {name: value if name == "loss" else value.detach() for name, value in parts.items()}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect scores."""
        out = self(batch)
        video, frames = out.video, out.frames
        labels = batch.labels.long()
        frame = masked_frame_mean(frames.float(), batch.mask)
        # A stage that trains frames alone has a head that knows nothing yet.
        of_sequences = frame if video is None or not self.stage.loss.video else video.float()
        for suffix, logits in (("", of_sequences), ("_frame", frame)):
            self._auc_of(suffix).update(torch.sigmoid(logits), labels)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, batch.labels, reduction="none")
            right = ((logits > 0).long() == labels).float()
            self.log(f"val_log_loss{suffix}", loss.mean(), batch_size=len(labels), sync_dist=True)
            self.log(f"val_accuracy{suffix}", right.mean(), batch_size=len(labels), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """AUC over all of the split; without one of the labels there is none."""
        for suffix in ("", "_frame"):
            metric = self._auc_of(suffix)
            labels = torch.cat([t.flatten() for t in metric.target]) if metric.target else torch.zeros(0)
            if 0 < int(labels.sum()) < len(labels):
                self.log(f"val_auc{suffix}", metric.compute(), prog_bar=not suffix, sync_dist=True)
            metric.reset()

    def _auc_of(self, suffix: str) -> Any:
        return self._frame_auc if suffix else self._auc

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the norm of all gradients, which are unscaled by now; Lightning's own refuses a fused optimiser in
        bf16 too, where nothing is scaled."""
        if gradient_clip_val:
            trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(trained, gradient_clip_val)

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule of the stage; biases and norms are not decayed."""
        stage = self.stage
        decayed = [p for p in self.parameters() if p.requires_grad and p.ndim > 1]
        rest = [p for p in self.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        rate = stage.learning_rate
        # In one pass over the weights; on GPUs, clipping could not reach the scaled gradients of float16.
        fused = all(parameter.device.type == "cpu" for parameter in rest)
        optimizers: dict[str, Callable[[], torch.optim.Optimizer]] = {
            "adamw": lambda: torch.optim.AdamW(groups, lr=rate, fused=fused),
            "adam": lambda: torch.optim.Adam(groups, lr=rate),
            "rmsprop": lambda: torch.optim.RMSprop(groups, lr=rate, momentum=stage.momentum),
            "sgd": lambda: torch.optim.SGD(groups, lr=rate, momentum=stage.momentum, nesterov=stage.momentum > 0),
        }
        optimizer = optimizers[stage.optimizer]()
        if stage.schedule == "plateau":
            better = "min" if stage.monitor == "log_loss" else "max"
            plateau = ReduceLROnPlateau(optimizer, mode=better, factor=0.3, patience=max(1, stage.patience // 2))  # type: ignore[arg-type]
            watched = {"scheduler": plateau, "monitor": f"val_{stage.monitor}", "strict": False}
            return {"optimizer": optimizer, "lr_scheduler": watched}
        schedule = LambdaLR(optimizer, lambda update: rate_factor(stage, update, self.n_updates))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _pixels(batch: Batch) -> Tensor:
    """Pixels in [0, 1] of the faces that are there, ``float32 [N, 3, S, S]``; padding goes through no backbone: it
    would spoil the batch statistics."""
    return batch.crops.flatten(0, 1)[batch.mask.flatten()].movedim(-1, 1).float().div_(255)


def _as_map(flat: Tensor, mask: Tensor) -> Tensor:
    """Features ``[N, D]`` of the faces that are there as ``[B, T, D]``, zero elsewhere."""
    features = flat.new_zeros(mask.numel(), flat.shape[-1])
    features[mask.flatten()] = flat
    return features.view(*mask.shape, -1)


def rate_factor(stage: StageSettings, update: int, n_updates: int) -> float:
    """Share of the learning rate at an update: warm-up, then the stage's schedule."""
    warmup = min(stage.warmup_steps, max(0, n_updates - 1))
    if update < warmup:
        return (update + 1) / (warmup + 1)
    progress = min(1.0, (update - warmup) / max(1, n_updates - warmup))
    if stage.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if stage.schedule == "step":
        return float(0.1 ** min(_STEP_PARTS - 1, int(progress * _STEP_PARTS)))
    return 1.0
