"""Division without leakage."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepscan.datasets.readers import CorpusItem
from deepscan.datasets.splits import assign_splits, check_groups
from deepscan.errors import ConfigError

SPLITS = ("train", "val", "test")


def item(number, group, split=None):
    return CorpusItem(f"v{number}", Path(f"v{number}.mp4"), 0, "folders", "real", group, split)


names = st.text(min_size=1, max_size=8)
shares = st.tuples(st.floats(0, 0.49), st.floats(0, 0.49))


@st.composite
def corpora(draw):
    """Items of a few groups; a group has one official split or none, which not all of its items carry."""
    official = draw(st.dictionaries(names, st.sampled_from([None, *SPLITS]), min_size=1, max_size=12))
    groups = draw(st.lists(st.sampled_from(sorted(official)), min_size=1, max_size=40))
    flags = draw(st.lists(st.booleans(), min_size=len(groups), max_size=len(groups)))
    return [item(i, g, official[g] if t else None) for i, (g, t) in enumerate(zip(groups, flags, strict=True))]


@given(corpora(), shares, st.integers())
def test_no_group_crosses_and_official_splits_are_kept(items, share, seed):
    divided = assign_splits(items, *share, seed)
    check_groups(divided)
    assert [replace(d, split=i.split) for d, i in zip(divided, items, strict=True)] == items
    official = {i.group: i.split for i in items if i.split}
    for before, after in zip(items, divided, strict=True):
        assert after.split in SPLITS
        assert after.split == official.get(before.group, after.split)


@given(corpora(), shares, st.integers(0, 9), st.randoms(use_true_random=False))
def test_a_groups_split_depends_on_nothing_but_its_name(items, share, seed, rng: random.Random):
    division = {i.group: i.split for i in assign_splits(items, *share, seed)}
    shuffled = rng.sample(items, len(items))
    assert {i.group: i.split for i in assign_splits(shuffled, *share, seed)} == division
    free = [i for i in items if i.group not in {o.group for o in items if o.split}]
    for one in free:  # alone or among others
        assert assign_splits([one], *share, seed)[0].split == division[one.group]
    assert assign_splits(assign_splits(items, *share, seed), *share, seed + 1) == assign_splits(items, *share, seed)


@given(corpora())
def test_a_divided_group_is_refused(items):
    broken = [*items, item("x", items[0].group, "train"), item("y", items[0].group, "test")]
    for check in (check_groups, assign_splits):
        with pytest.raises(ConfigError) as caught:
            check(broken)
        assert caught.value.reason == "split_leak"
        assert "\n" not in str(caught.value)


def test_the_refusal_names_groups_and_items():
    items = [item(n, f"g{n // 2}", ("train", "test")[n % 2]) for n in range(10)]
    with pytest.raises(ConfigError) as caught:
        check_groups(items)
    message = str(caught.value)
    assert "5 of 5 groups" in message
    assert "g0 is in train (v0) and test (v1)" in message
    assert "and 2 more" in message


def test_the_same_division_on_every_machine():
    """Written down: a change here changes everybody's test sets."""
    items = [item(n, f"group {n}") for n in range(12)]
    divided = "".join(i.split[1] for i in assign_splits(items, 0.25, 0.25, seed=7))
    assert divided == "rrarearrrrar"
    decomposed, composed = item(0, "Zoe\u0308"), item(1, "Zo\u00eb")
    for seed in range(20):
        first, second = assign_splits([decomposed, composed], 0.3, 0.3, seed)
        assert first.split == second.split


def test_shares_are_met_on_average_and_seeds_differ():
    items = [item(n, f"g{n}") for n in range(4000)]
    divided = assign_splits(items, 0.1, 0.2, seed=1)
    counts = {split: sum(i.split == split for i in divided) for split in SPLITS}
    assert abs(counts["val"] - 400) < 80
    assert abs(counts["test"] - 800) < 100
    assert divided != assign_splits(items, 0.1, 0.2, seed=2)
    assert {i.split for i in assign_splits(items, 0, 0)} == {"train"}
    larger = assign_splits(items, 0.3, 0.2, seed=1)  # a larger val takes from train only
    assert all(
        a.split == b.split or (a.split, b.split) == ("train", "val") for a, b in zip(divided, larger, strict=True)
    )


@pytest.mark.parametrize("shares", [(-0.1, 0.1), (0.1, 1.0), (0.5, 0.5), (float("nan"), 0.1), (2, 0)])
def test_shares_that_leave_no_training_set(shares):
    with pytest.raises(ConfigError, match="below 1"):
        assign_splits([item(0, "g")], *shares)


def test_surprises_are_told(caplog):
    caplog.set_level(logging.WARNING, logger="deepscan")
    assign_splits([item(0, "a", "test"), item(1, "a")], 0, 0.1)
    assert "1 items without a split of their own follow" in caplog.text
    caplog.clear()
    assign_splits([item(0, "a", "train")], 0.1, 0)
    assert "no group fell into val" in caplog.text
    caplog.clear()
    assert assign_splits([]) == []
    assert not caplog.text


def test_groups_of_any_name():
    """Names from a disk that is not in UTF-8 carry lone surrogates."""
    assert assign_splits([item(0, "\udce9"), item(1, "")])[0].split in SPLITS
