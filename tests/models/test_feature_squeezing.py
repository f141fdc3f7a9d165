"""Squeezed crops, and how far a score moves under them."""

from __future__ import annotations

import numpy as np
import pytest
from madedetectors import card, network, save

from deepscan.config import PredictSettings
from deepscan.detector import Detector, load_detector
from deepscan.models.card import AttackCheck, Calibration
from deepscan.models.checkpoint import CARD_FILE, card_bytes, load_card
from deepscan.models.ensemble import Networks
from deepscan.models.ensemble_folder import save_ensemble
from deepscan.models.feature_squeezing import denoised, disagreements, median_smoothed, reduced_depth, squeezed
from deepscan.types import Score
from deepscan.verdict import MESSAGES

CHECK = AttackCheck(bits=5, median_px=3, denoise=5.0, crops=4, limits={"bits": 0.5, "median": 2.0, "denoise": 4.0})
CALIBRATION = Calibration(scale=2.0, bias=-1.0)


class Counting:
    """A scorer whose logit is the mean of a sequence's crops; it keeps how much it was asked."""

    crops_per_batch = 6

    def __init__(self):
        self.asked = []

    def features(self, crops):
        self.asked.append(len(crops))
        return [float(crop.mean()) for crop in crops]

    def judge(self, features):
        return Score(float(np.mean(features)), np.asarray(features, np.float64))

    def score(self, sequences):
        return [self.judge(self.features(crops)) for crops in sequences]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("bits", [1, 3, 5, 7])
def test_depth_is_reduced_to_the_nearest_of_evenly_spread_levels(bits):
    values = np.arange(256, dtype=np.uint8)
    out = reduced_depth(values, bits).astype(int)
    assert len(np.unique(out)) == 2**bits
    assert (out[0], out[-1]) == (0, 255)
    assert np.abs(out - values).max() <= 255 / (2**bits - 1) / 2 + 1
    assert (np.diff(out) >= 0).all()


def test_a_median_takes_out_single_values_and_leaves_flat_ones():
    crops = np.full((2, 8, 8, 3), 90, np.uint8)
    crops[0, 4, 4, 1] = 255
    assert (median_smoothed(crops, 3) == 90).all()


def test_non_local_means_take_out_noise_and_leave_edges():
    clean = np.full((1, 32, 32, 3), 60, np.uint8)
    clean[:, :, 16:] = 200
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 3, clean.shape), 0, 255).astype(np.uint8)
    out = denoised(noisy, 5.0).astype(int)
    assert np.abs(out - clean).mean() < np.abs(noisy.astype(int) - clean).mean() / 2
    assert np.abs(out[:, :, 14:18] - clean[:, :, 14:18]).max() < 20


def test_squeezed_crops_are_as_many_and_as_large():
    crops = noise(3, 16, 16, 3)
    copies = squeezed(crops, CHECK)
    assert list(copies) == ["bits", "median", "denoise"]
    for copy in copies.values():
        assert (copy.shape, copy.dtype) == (crops.shape, crops.dtype)
        assert (copy != crops).any()
    assert list(squeezed(crops, AttackCheck(limits={"median": 1.0}))) == ["median"]


def test_the_largest_change_of_the_log_odds_counts_by_its_limit():
    crops = noise(1, 16, 16, 3)
    changes = {
        name: CALIBRATION.scale * abs(float(copy.mean() - crops.mean())) / CHECK.limits[name]
        for name, copy in squeezed(crops, CHECK).items()
    }
    assert disagreements(Counting(), [crops], CALIBRATION, CHECK) == pytest.approx([max(changes.values())])
    for name, change in changes.items():
        alone = CHECK.model_copy(update={"limits": {name: CHECK.limits[name]}})
        assert disagreements(Counting(), [crops], CALIBRATION, alone) == pytest.approx([change])


def test_known_features_give_the_same_and_are_not_asked_for_again():
    people = [noise(n, 16, 16, 3, seed=n) for n in (1, 3, 9)]
    plain, spared = Counting(), Counting()
    known = [plain.features(crops_of) for crops_of in people]
    plain.asked.clear()
    whole = disagreements(plain, people, CALIBRATION, CHECK)
    assert disagreements(spared, people, CALIBRATION, CHECK, known) == pytest.approx(whole)
    # Of the nine crops of the third four are looked at, in three copies.
    assert sum(spared.asked) == 3 * (1 + 3 + 4)
    assert sum(plain.asked) == 4 * (1 + 3 + 4)


def test_nobody_moves_nowhere():
    assert disagreements(Counting(), [], CALIBRATION, CHECK) == []


def test_an_even_median_is_refused():
    with pytest.raises(ValueError, match="odd side"):
        AttackCheck(median_px=4, limits={"median": 1.0})


@pytest.mark.parametrize("limits", [{}, {"bits": 0.0}, {"blur": 1.0}])
def test_limits_are_above_zero_and_of_known_squeezes(limits):
    with pytest.raises(ValueError, match="limits"):
        AttackCheck(limits=limits)


# In a prediction


def made_detector(settings, attack_check):
    made = card(calibration=Calibration(), attack_check=attack_check)
    return Detector(Networks.of(network(), made), settings)


def everywhere(limit):
    return CHECK.model_copy(update={"limits": dict.fromkeys(CHECK.limits, limit)})


def test_what_moves_is_uncertain_and_keeps_its_probability(face_clip):
    """Everything moves by more than nothing, nothing by so much; without the setting nothing is looked at."""
    settings = PredictSettings(frames=4, device="cpu", attack_check=True)
    alarmed = made_detector(settings, everywhere(1e-9)).predict(face_clip)
    calm = made_detector(settings, everywhere(1e9)).predict(face_clip)
    off = made_detector(PredictSettings(frames=4, device="cpu"), everywhere(1e-9)).predict(face_clip)
    none = made_detector(settings, None).predict(face_clip)
    assert (alarmed.verdict, alarmed.reason) == ("uncertain", "possible_attack")
    assert alarmed.message == MESSAGES["possible_attack"]
    assert calm.verdict in ("fake", "real")
    for other in (calm, off, none):
        assert other.probability == pytest.approx(alarmed.probability)
        assert (other.verdict, other.reason, other.tracks) == (calm.verdict, calm.reason, calm.tracks)


@pytest.mark.usefixtures("full_precision")
def test_runtimes_agree_on_how_far_a_score_moves():
    people = [noise(n, 32, 32, 3, seed=n) for n in (1, 5)]
    torch_moved, vino_moved = (
        made_detector(PredictSettings(runtime=runtime, device="cpu", attack_check=True), CHECK).disagreements(people)
        for runtime in ("torch", "openvino")
    )
    assert vino_moved == pytest.approx(torch_moved, rel=0.05, abs=0.02)


def test_an_ensemble_moves_as_its_members_do(tmp_path):
    parts = [save(tmp_path / f"part{seed}", seed=seed) for seed in (0, 1)]
    save_ensemble(tmp_path / "both", parts, name="both")
    checked = load_card(tmp_path / "both").model_copy(update={"attack_check": CHECK})
    (tmp_path / "both" / CARD_FILE).write_bytes(card_bytes(checked))
    people = [noise(2, 32, 32, 3), noise(7, 32, 32, 3, seed=1)]
    settings = PredictSettings(runtime="torch", device="cpu", attack_check=True)
    moved = load_detector(tmp_path / "both", settings).disagreements(people)
    assert len(moved) == 2
    assert min(moved) > 0
