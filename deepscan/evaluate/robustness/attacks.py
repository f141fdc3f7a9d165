"""FGSM and PGD on sequences of face crops, in the largest change of a single value (L-infinity).

The attacker wants a fake to be called real and a real to be called fake. Budgets are in grey levels: no value of a crop
differs by more from what it was. FGSM (Goodfellow et al., 2015) is one step of the whole budget along the sign of the
gradient; PGD (Madry et al., 2018) starts at a random place within the budget and takes ten steps of a quarter of it,
each put back within the budget. What comes out is a picture again: whole grey levels from 0 to 255.

The attacks are those of the Adversarial Robustness Toolbox, which is kept and needs nothing that deepscan does not have
already (torchattacks 3.5.1 asks for requests 2.25 and would take newer ones away from other packages). It works on
arrays; :func:`perturbed` is the same arithmetic on tensors, for batches of a training that never leave the device.

What an attacker knows is the ``knows`` of an :class:`Attack`: the network alone, also the views of test-time
augmentation, or also the check for attacked input (:mod:`deepscan.models.feature_squeezing`), whose parts without a
slope are passed by as if they changed nothing in the gradient (Athalye et al., 2018).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from deepscan.config import Settings
from deepscan.errors import import_extra
from deepscan.models.card import AttackCheck, DetectorCard
from deepscan.models.feature_squeezing import squeezed
from deepscan.models.network import DetectorNetwork
from deepscan.models.transform import normalise, tta_views

if TYPE_CHECKING:
    from collections.abc import Sequence

AttackName = Literal["fgsm", "pgd"]
Knows = Literal["network", "tta", "check"]

PGD_STEPS = 10
# The length of all steps together, in budgets: from any start every place within the budget can be reached.
_PGD_REACH = 2.5
# One step from a random start is a little longer than the budget (Wong et al., 2020).
_FGSM_REACH = 1.25


class Attack(Settings):
    """One attack.

    Attributes:
        name: ``fgsm``, one step, or ``pgd``, several from a random start.
        budget: largest change of a value, in grey levels.
        steps: of ``pgd``.
        knows: of the detector: its ``network``; with ``tta`` also the views that are averaged; with ``check`` these and
            the check for attacked input.
    """

    name: AttackName
    budget: int = Field(ge=1, le=64)
    steps: int = Field(PGD_STEPS, ge=1, le=1000)
    knows: Knows = "network"

    @property
    def step_levels(self) -> float:
        """Length of a step in grey levels."""
        return float(self.budget) if self.name == "fgsm" else _PGD_REACH * self.budget / self.steps

    def __str__(self) -> str:
        knows = "" if self.knows == "network" else f", knows {self.knows}"
        return f"{self.name} {self.budget}{knows}"


class _AttackedNetwork(nn.Module):
    """Crops in grey levels ``float32 [B, T, 3, S, S]`` -> logits of real (0) and fake ``[B, 2]``, as a classifier."""

    def __init__(self, network: DetectorNetwork, card: DetectorCard, knows: Knows, check: AttackCheck | None) -> None:
        super().__init__()
        self.network, self.card, self.knows, self.check = network, card, knows, check

    def forward(self, levels: Tensor) -> Tensor:
        if self.knows == "check" and self.check is not None:
            # Every squeezed copy must be called what the attacker wants, or the copies would disagree.
            copies = [levels, *squeezed_levels(levels, self.check)]
            logit = torch.stack([self._logit(copy) for copy in copies]).mean(dim=0)
        else:
            logit = self._logit(levels)
        return torch.stack([torch.zeros_like(logit), logit], dim=1)

    def _logit(self, levels: Tensor) -> Tensor:
        unit = levels.flatten(0, 1) / 255
        views = unit[None] if self.knows == "network" else tta_views(unit)
        logits = [
            self.network(normalise(view, self.card.mean, self.card.std).view_as(levels)).video_logit for view in views
        ]
        return torch.stack(logits).mean(dim=0)


class Attacker:
    """Attacks crops through the gradient of a detector's network.

    Args:
        network: that the gradient is of; a copy is taken, so whoever else uses it is not disturbed.
        card: of the same: normalisation.
        check: of the detector that is to be deceived, for an attacker who knows it.
        device: torch device; what is not CUDA is attacked on the processor.

    Raises:
        DeepscanError: the Adversarial Robustness Toolbox is not installed.
    """

    def __init__(
        self, network: DetectorNetwork, card: DetectorCard, check: AttackCheck | None = None, device: str = "cpu"
    ) -> None:
        failure, toolbox = "Attacks cannot be made", "the Adversarial Robustness Toolbox"
        self._evasion = import_extra("art.attacks.evasion", failure, toolbox)
        self._classification = import_extra("art.estimators.classification", failure, toolbox)
        self._kind = "gpu" if device.startswith("cuda") else "cpu"
        self._network = copy.deepcopy(network).to("cuda" if self._kind == "gpu" else "cpu").eval()
        self._card, self._check = card, check

    def crops(
        self, crops: NDArray[np.uint8], labels: Sequence[int] | NDArray[np.int64], attack: Attack, *, seed: int = 0
    ) -> NDArray[np.uint8]:
        """Attack sequences of crops.

        Args:
            crops: RGB ``uint8 [B, T, S, S, 3]``, one sequence a row.
            labels: ``[B]``, what the rows are: real = 0, fake = 1; the attack leads away from it.
            attack: which, how far, and with what knowledge.
            seed: of the random start.

        Returns:
            ``uint8 [B, T, S, S, 3]``; no value differs by more than ``attack.budget``.
        """
        levels = np.ascontiguousarray(crops.transpose(0, 1, 4, 2, 3)).astype(np.float32)
        classifier = self._classification.PyTorchClassifier(
            _AttackedNetwork(self._network, self._card, attack.knows, self._check),
            nn.CrossEntropyLoss(),
            levels.shape[1:],
            2,
            clip_values=(0.0, 255.0),
            device_type=self._kind,
        )
        common = {"eps": float(attack.budget), "eps_step": attack.step_levels, "batch_size": len(levels)}
        maker = (
            self._evasion.FastGradientMethod(classifier, **common)
            if attack.name == "fgsm"
            else self._evasion.ProjectedGradientDescent(
                classifier, max_iter=attack.steps, num_random_init=1, verbose=False, **common
            )
        )
        with _numpy_seed(seed):
            attacked = maker.generate(levels, np.eye(2, dtype=np.float32)[np.asarray(labels)])
        # A budget is whole, so rounding stays within it, but for the last bit of a float.
        change = np.clip(np.rint(attacked - levels), -attack.budget, attack.budget)
        out = np.clip(levels + change, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(out.transpose(0, 1, 3, 4, 2))


def perturbed(
    loss: Callable[[Tensor], Tensor], unit: Tensor, *, attack: AttackName, budget: float, steps: int = 1
) -> Tensor:
    """Pixels that raise a loss, for training on them.

    Args:
        loss: of pixels; its gradient is taken.
        unit: pixels in [0, 1], of any shape.
        attack: ``fgsm`` takes one step from a random start, ``pgd`` several shorter ones.
        budget: largest change, in grey levels.
        steps: of ``pgd``.

    Returns:
        Of the same shape, in [0, 1], without a graph. Draws from torch's generator.
    """
    reach = budget / 255
    size = _FGSM_REACH * reach if attack == "fgsm" else _PGD_REACH * reach / steps
    start = unit.detach()
    change = torch.empty_like(start).uniform_(-reach, reach)
    for _ in range(1 if attack == "fgsm" else steps):
        at = (start + change).clamp(0, 1).requires_grad_()
        (slope,) = torch.autograd.grad(loss(at), at)
        change = (at.detach() - start + size * slope.sign()).clamp(-reach, reach)
    return (start + change).clamp(0, 1).detach()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while: batch statistics stay as they are, nothing drops out. Then each part as it was."""
    before = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


def without_cudnn_rnn() -> Any:
    """For a while torch's own LSTM: cuDNN's gives no gradient in evaluation mode."""
    return torch.backends.cudnn.flags(enabled=False)


def squeezed_levels(levels: Tensor, check: AttackCheck) -> list[Tensor]:
    """The copies of :func:`deepscan.models.feature_squeezing.squeezed`, with a gradient: that of the crops where a
    squeeze has none of use."""
    copies = []
    for name in check.limits:
        if name == "median":
            side = check.median_px
            flat = F.pad(levels.flatten(0, 2).unsqueeze(1), (side // 2,) * 4, mode="replicate")
            windows = flat.unfold(2, side, 1).unfold(3, side, 1).flatten(4)
            copies.append(windows.median(dim=-1).values.view_as(levels))
            continue
        crops = levels.detach().round().to(torch.uint8).flatten(0, 1).movedim(1, -1).cpu().numpy()
        only = check.model_copy(update={"limits": {name: check.limits[name]}})
        copy = torch.from_numpy(squeezed(crops, only)[name]).to(levels).movedim(-1, 1).view_as(levels)
        copies.append(levels + (copy - levels).detach())
    return copies


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """The toolbox draws from numpy's global generator, which is left as it was."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
