"""Batches: what is in them, and that seed, stage, step and rank alone decide it."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from madestores import SIDE, order_store, pairs_store, stripes

from deepscan.datasets.dataset import Sample, read_samples
from deepscan.datasets.store.archive import StoreError
from deepscan.errors import ConfigError
from deepscan.train.batches import UNKNOWN, BatchMaker
from deepscan.train.recipe import parse_recipe

PLAIN = {"strength": 0.0, **dict.fromkeys(("flip", "blur", "reduction", "noise", "jpeg", "grey", "cutout"), 0.0)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return read_samples(pairs_store(tmp_path_factory.mktemp("made"), n=20, split="train"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return read_samples(order_store(tmp_path_factory.mktemp("clips"), n=8)).split("train")


def maker(samples, stage=None, data=None, augment=PLAIN, seed=0):
    stage = {"batch_size": 8, **(stage or {})}
    plan = {"crop": {"size_px": SIDE}, "stages": [stage], "data": data or {}, "augment": augment, "seed": seed}
    return BatchMaker(samples, parse_recipe(plan), 0)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_step_alone_decides(made):
    strong = {"strength": 1.0, "h264": 0.3}
    first, second = maker(made, augment=strong), maker(made, augment=strong)
    assert same(first.make(7), second.make(7))
    assert not same(first.make(7), first.make(8))
    assert not same(first.make(7, rank=0), first.make(7, rank=1))
    assert not same(first.make(7), maker(made, augment=strong, seed=1).make(7))
    ahead = list(second.batches(5, 9))
    assert len(ahead) == 4
    assert same(ahead[2], first.make(7))


def test_pairs_are_a_real_and_its_own_fake(made):
    batch = maker(made).make(0)
    assert batch.labels.tolist() == [0, 1] * 4
    assert batch.partners.tolist() == [-1, 0, -1, 2, -1, 4, -1, 6]
    for real, fake in zip(batch.crops[0::2, 0].numpy(), batch.crops[1::2, 0].numpy(), strict=True):
        assert np.array_equal(stripes(real), fake)


def test_pairs_are_augmented_alike(made):
    """The same flip, cut and light: outside of what was manipulated both are equal."""
    batch = maker(made, augment={**PLAIN, "strength": 1.0, "flip": 0.5}).make(0)
    for real, fake in zip(batch.crops[0::2, 0], batch.crops[1::2, 0], strict=True):
        corner = slice(0, 4)
        assert torch.equal(real[corner, corner], fake[corner, corner])
        assert not torch.equal(real, fake)


def test_regions_show_where(made):
    batch = maker(made).make(0)
    grid = SIDE // 8
    assert batch.regions.shape == (8, 1, grid, grid)
    assert float(batch.regions[0::2].abs().max()) == 0
    fakes = batch.regions[1::2, 0]
    assert float(fakes[:, 1:3, 1:3].mean()) > 0.5  # the stripes are in the middle
    assert float(fakes[:, 0].mean()) < 0.2


def test_regions_of_pairs_that_are_not_aligned_are_unknown(clips):
    batch = maker(clips, {"sequence_length": 4}).make(0)
    assert torch.equal(batch.regions[1::2], torch.full_like(batch.regions[1::2], UNKNOWN))


def test_clips_keep_their_order_and_stills_get_motion(clips, made):
    moving = maker(clips, {"sequence_length": 4}).make(0)
    reds = moving.crops[..., 0].float().mean(dim=(2, 3)) - moving.crops[..., 2].float().mean(dim=(2, 3))
    assert bool((reds[0::2, 0] > reds[0::2, -1]).all())  # reals turn from red to blue
    assert bool((reds[1::2, 0] < reds[1::2, -1]).all())
    still = maker(made, {"sequence_length": 4}).make(0)
    assert bool(still.mask.all())
    assert not torch.equal(still.crops[:, 0], still.crops[:, 1])
    alone = maker(made, {"sequence_length": 4}, {"simulate_motion": False}).make(0)
    assert alone.mask.tolist() == [[True, False, False, False]] * 8


def test_self_blending_needs_no_fakes(made):
    reals = made.where(lambda sample: sample.label == 0)
    batch = maker(reals, data={"self_blend": 1.0}).make(3)
    assert batch.labels.tolist() == [0, 1] * 4
    differs = (batch.crops[0::2].float() - batch.crops[1::2].float()).abs().mean(dim=(1, 2, 3, 4))
    assert float(differs.max()) > 1
    assert float(batch.regions[1::2].amax(dim=(1, 2, 3)).min()) > 0.2
    with pytest.raises(ConfigError, match="no fake to train on"):
        maker(reals)
    with pytest.raises(ConfigError, match="no real face"):
        maker(made.where(lambda sample: sample.label == 1))


def test_blended_sequences_flicker(made):
    """What a frame-wise swap leaves: the blend moves from frame to frame where the face does not."""
    reals = made.where(lambda sample: sample.label == 0)
    changes = {}
    for jitter in (True, False):
        data = {"self_blend": 1.0, "motion_jitter": jitter}
        batch = maker(reals, {"sequence_length": 4}, data).make(1)
        real, fake = batch.crops[0::2].float(), batch.crops[1::2].float()
        changes[jitter] = float(((fake - real)[:, 1:] - (fake - real)[:, :-1]).abs().mean())
    assert changes[True] > 1.3 * changes[False]


def test_mixed_pairs_have_mixed_labels(made):
    batch = maker(made, data={"mixup": 1.0}).make(0)
    assert batch.labels[0::2].tolist() == [0] * 4
    assert bool(((batch.labels[1::2] > 0) & (batch.labels[1::2] < 1)).all())
    plain = maker(made).make(0)
    assert not torch.equal(batch.crops[1::2], plain.crops[1::2])


def inverted(crop):
    return 255 - crop


def n_inverted(batch):
    pairs = zip(batch.crops[0::2, 0].numpy(), batch.crops[1::2, 0].numpy(), strict=True)
    return sum(bool(np.array_equal(inverted(real), fake)) for real, fake in pairs)


def test_methods_are_drawn_equally_often(tmp_path):
    """One method has nine times the videos of the other; without the balance it fills the batches."""
    many = pairs_store(tmp_path / "many", n=27, split="train", dataset="x")
    few = pairs_store(tmp_path / "few", n=3, split="train", dataset="x", seed=9, artefact=inverted)
    samples = read_samples([many, few])
    rare = tuple(
        replace(s, method="inverted") if s.label and s.track.path.is_relative_to(few) else s for s in samples.samples
    )
    samples = replace(samples, samples=rare)
    stage = {"batch_size": 128}
    assert 22 <= n_inverted(maker(samples, stage).make(0)) <= 42
    assert n_inverted(maker(samples, stage, {"balance": "none"}).make(0)) <= 14


def test_shares_of_datasets(tmp_path):
    one = pairs_store(tmp_path / "one", n=6, split="train", dataset="one")
    two = pairs_store(tmp_path / "two", n=6, split="train", dataset="two", artefact=inverted)
    samples = read_samples([one, two])
    made = maker(samples, {"batch_size": 64}, {"source_shares": {"two": 0.9}})
    batch = made.make(0)
    assert 24 <= n_inverted(batch) <= 32
    with pytest.raises(ConfigError, match="no such dataset"):
        maker(samples, data={"source_shares": {"three": 0.5}})


def test_without_pairs_both_labels_are_drawn(made):
    batch = maker(made, data={"pairs": False}).make(0)
    assert sorted(batch.labels.tolist()) == [0] * 4 + [1] * 4
    assert batch.partners.tolist() == [-1] * 8


def test_without_any_balance_labels_come_as_the_data_has_them(made):
    few = made.where(lambda sample: sample.label == 0 or sample.group in ("p000", "p001"))
    batch = maker(few, {"batch_size": 100}, {"pairs": False, "balance": "none"}).make(0)
    assert 2 <= int(batch.labels.sum()) <= 22  # 2 of 22 are fake


def test_a_damaged_store_is_told_where_the_batch_is_taken(tmp_path):
    samples = read_samples(pairs_store(tmp_path / "store", n=4, split="train"))
    for sample in samples.samples:
        sample.track.path.write_bytes(b"x")
    with pytest.raises(StoreError, match=r"ends inside|damaged"):
        next(maker(samples).batches(0, 3))


def test_no_thread_is_left(made):
    before = threading.active_count()
    batches = maker(made).batches(0, 100)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_fakes_that_change_nothing_are_drawn_again(tmp_path):
    """Half of the fakes equal their reals: with a least change they are not taken for fakes."""
    unchanged = iter([True, False] * 20)
    store = pairs_store(tmp_path, n=20, split="train", artefact=lambda crop: crop if next(unchanged) else stripes(crop))
    samples = read_samples(store)

    def changed(least):
        made = [maker(samples, {"batch_size": 20}, {"least_change": least}).make(step) for step in range(3)]
        return [bool((b.crops[i] != b.crops[i - 1]).any()) for b in made for i in range(1, 20, 2)]

    assert 0 < sum(changed(0)) < 30
    assert all(changed(8))


def test_crops_are_brought_near_the_size_by_area(tmp_path):
    """A chequered face of twice the size comes out grey, as prediction would cut it, and not as every second pixel."""
    y, x = np.mgrid[0:64, 0:64]
    board = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    store = pairs_store(tmp_path, n=4, split="train", size_px=64, artefact=lambda crop: board)
    stage = {"batch_size": 4, "size_px": 28}
    fakes = maker(read_samples(store), stage).make(0).crops[1::2].numpy()
    assert np.abs(fakes.astype(int) - 128).mean() < 20


def test_shares_of_sources_that_are_not_there_are_passed_over(made):
    """A recipe's own sources do not stand in the way of other data; a share that is asked for by name does."""
    listed = {"sources": [{"name": "elsewhere", "path": "elsewhere", "share": 0.7}]}
    assert maker(made, data=listed).make(0).labels.tolist() == [0, 1] * 4
    with pytest.raises(ConfigError, match="elsewhere"):
        maker(made, data={"source_shares": {"elsewhere": 0.7}})


def test_families_and_origins_of_a_collection_are_drawn_alike(made, monkeypatch):
    """One family with nine tenths of the fakes, another with one; an origin that has only reals is blended."""
    samples = []
    for sample in made.samples:
        origin = ("big", "big", "small", "reals")[min(3, int(sample.group[1:]) // 5)]
        if sample.label and origin == "reals":
            continue
        family = ("swap" if origin == "big" else "lipsync") if sample.label else "real"
        samples.append(replace(sample, source=f"set/{origin}", family=family, pair=None))
    batches = maker(replace(made, samples=tuple(samples)), data={"balance": "family"})
    drawn = Counter()
    crops = Sample.crops

    def noting(self, indices, size_px):
        drawn[self.source, self.label, self.family] += 1
        return crops(self, indices, size_px)

    monkeypatch.setattr(Sample, "crops", noting)
    for step in range(60):
        batches.make(step)
    swaps, talks = drawn["set/big", 1, "swap"], drawn["set/small", 1, "lipsync"]
    assert drawn["set/reals", 0, "real"] / 240 == pytest.approx(1 / 3, abs=0.1)
    assert swaps + talks + drawn["set/reals", 0, "real"] == 240
    assert swaps / (swaps + talks) == pytest.approx(0.5, abs=0.12)
    # Beside a fake stands a real of the same origin.
    assert drawn["set/big", 0, "real"] == swaps
