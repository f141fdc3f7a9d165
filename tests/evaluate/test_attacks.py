"""Attacks stay within their budget and lead away from the label; the check for attacked input keeps its rate."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from madedetectors import card, network
from madestores import pairs_store
from torch import nn

from deepscan.config import HeadSettings, ModelSettings
from deepscan.datasets.dataset import read_samples
from deepscan.errors import DeepscanError
from deepscan.evaluate.robustness.attack_check import fit_attack_check, squeeze_changes, threshold_for
from deepscan.evaluate.robustness.attack_corruptions import rescaled
from deepscan.evaluate.robustness.attacks import Attack, Attacker, evaluating, perturbed, squeezed_levels
from deepscan.models.card import AttackCheck
from deepscan.models.ensemble import Networks
from deepscan.models.feature_squeezing import squeezed
from deepscan.models.scorer import torch_scorer

LABELS = np.array([0, 1, 0, 1])
CHECK = AttackCheck(limits={"bits": 1.0, "median": 1.0, "denoise": 1.0})
LSTM = ModelSettings(backbone="custom_cnn", head=HeadSettings(name="lstm", hidden=4))


@pytest.fixture(scope="module", autouse=True)
def toolbox():
    pytest.importorskip("art", reason="the Adversarial Robustness Toolbox is optional")


@pytest.fixture(scope="module")
def crops():
    """With values at both ends of the range, where an attack must stop."""
    made = np.random.default_rng(0).integers(0, 256, (4, 2, 32, 32, 3), dtype=np.uint8)
    made[:, :, :8] = 255
    made[:, :, -8:] = 0
    return made


def logits(made, crops):
    return np.array(
        [score.video_logit for score in torch_scorer(Networks.of(made, card()), tta=False).score(list(crops))]
    )


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
@pytest.mark.parametrize(
    ("budget", "knows"),
    [
        *((budget, "network") for budget in (1, 3, 8)),
        *((3, knows) for knows in ("tta", "check")),
        *(pytest.param(b, knows, marks=pytest.mark.slow) for b in (1, 8) for knows in ("tta", "check")),
    ],
)
def test_no_value_changes_by_more_than_the_budget(crops, name, budget, knows):
    attack = Attack(name=name, budget=budget, steps=3, knows=knows)
    found = Attacker(network(), card(), CHECK).crops(crops, LABELS, attack)
    assert (found.shape, found.dtype) == (crops.shape, np.uint8)
    change = np.abs(found.astype(int) - crops)
    assert change.max() == budget


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
@pytest.mark.parametrize("settings", [card().network, LSTM], ids=["mean", "lstm"])
def test_fakes_are_led_to_real_and_reals_to_fake(crops, name, settings):
    made = network(settings)
    attack = Attack(name=name, budget=8, steps=5)
    found = Attacker(made, card(network=settings), None).crops(crops, LABELS, attack)
    moved = logits(made, found) - logits(made, crops)
    assert (moved[LABELS == 1] < 0).all()
    assert (moved[LABELS == 0] > 0).all()


def test_the_seed_decides_and_the_global_generator_is_left_alone(crops):
    attacker, attack = Attacker(network(), card()), Attack(name="pgd", budget=4, steps=2)
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    one, same, other = (attacker.crops(crops, LABELS, attack, seed=seed) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()
    assert (np.random.get_state()[1] == before).all()


def test_the_network_is_as_it_was(crops):
    made = network()
    state = {name: value.clone() for name, value in made.state_dict().items()}
    Attacker(made, card()).crops(crops, LABELS, Attack(name="pgd", budget=4, steps=2))
    assert not made.training
    assert all(torch.equal(value, state[name]) for name, value in made.state_dict().items())
    assert all(parameter.grad is None for parameter in made.parameters())


def test_who_knows_the_views_moves_their_mean_further(crops):
    made = network()
    scorer = torch_scorer(Networks.of(made, card()), tta=True)

    def moved(knows):
        attack = Attack(name="pgd", budget=4, steps=6, knows=knows)
        found = Attacker(made, card()).crops(crops, LABELS, attack)
        after, before = ([s.video_logit for s in scorer.score(list(c))] for c in (found, crops))
        return float(np.sum((np.array(after) - before) * np.where(LABELS == 0, 1, -1)))

    assert moved("tta") > moved("network") > 0


def test_the_copies_of_the_attacker_are_those_of_the_check(crops):
    levels = torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 1, 4, 2, 3))).float()
    own = [copy.permute(0, 1, 3, 4, 2).numpy() for copy in squeezed_levels(levels, CHECK)]
    for name, found in zip(CHECK.limits, own, strict=True):
        assert (np.stack([squeezed(sequence, CHECK)[name] for sequence in crops]) == found).all()


@pytest.mark.parametrize(("attack", "steps"), [("fgsm", 1), ("pgd", 4)])
def test_training_gets_pixels_within_the_budget_that_raise_the_loss(attack, steps):
    torch.manual_seed(0)
    unit, weights = torch.rand(2, 3, 8, 8), torch.randn(3, 8, 8)
    unit[:, :, 0], unit[:, :, -1] = 0, 1

    def loss(at):
        return (at * weights).sum()

    found = perturbed(loss, unit, attack=attack, budget=4.0, steps=steps)
    assert found.shape == unit.shape
    assert not found.requires_grad
    assert float((found - unit).abs().max()) <= 4 / 255 + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert loss(found) > loss(unit)
    # A slope that does not change leads to the edge of the budget, or of the range.
    inner = unit[:, :, 1:-1]
    far = (found[:, :, 1:-1] - inner).abs()
    assert float((far > 3.9 / 255).float().mean()) > (0.95 if attack == "pgd" else 0.5)


def test_modes_are_given_back_part_by_part():
    made = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 1)).train()
    made[0].eval()
    with evaluating(made):
        assert not any(part.training for part in made.modules())
    assert [part.training for part in made] == [False, True, True]


def test_without_the_toolbox_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "art.attacks.evasion", None)
    with pytest.raises(DeepscanError, match="Adversarial Robustness Toolbox is not installed"):
        Attacker(network(), card())


# The check is fitted


def test_the_threshold_keeps_the_rate_and_no_more():
    moved = np.random.default_rng(0).permutation(np.arange(1.0, 201.0))
    threshold = threshold_for(moved, 0.02)
    assert sum(value >= threshold for value in moved) == 3
    assert threshold_for(moved[:48], 0.02) is None
    assert threshold_for(moved[:49], 0.02) is not None


def test_a_detector_gets_a_check_from_clean_people(tmp_path):
    samples = read_samples(pairs_store(tmp_path, n=20, length=2))
    made = network()
    scorer = torch_scorer(Networks.of(made, card()))
    check, why = fit_attack_check(scorer, card(), samples, rate=0.1)
    assert why is None
    moved = [own for _, own in squeeze_changes(scorer, card(), check, samples)]
    assert len(moved) == len(samples)
    assert sum((own >= list(check.limits.values())).any() for own in moved) == 3
    assert set(check.limits) == {"bits", "median", "denoise"}
    assert check.false_positive_rate == 0.1
    none, why = fit_attack_check(scorer, card(), samples, rate=0.001)
    assert none is None
    assert "999 are needed" in why


def test_rescaled_crops_are_nearly_the_same():
    crops = np.full((3, 32, 32, 3), 100, np.uint8)
    crops[..., 8:24, 8:24, :] = 200
    rng = np.random.default_rng(0)
    found = rescaled(crops, rng)
    assert (found.shape, found.dtype) == (crops.shape, crops.dtype)
    assert np.abs(found.astype(int) - crops).mean() < 8
    assert (found != rescaled(crops, rng)).any()
