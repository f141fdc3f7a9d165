"""Stores as a dataset of torch."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from madestores import SIDE, order_store, pairs_store
from torch.utils.data import DataLoader

from deepscan.data import CropStore
from deepscan.errors import ConfigError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    pairs_store(folder, n=6, length=3)
    return folder


def test_every_crop_is_an_item(store):
    data = CropStore(store)
    assert len(data) == sum(len(sample) for sample in data.samples) == len(data.labels) == len(data.groups)
    position = 0
    for sample in data.samples:
        whole = sample.crops(range(len(sample)), SIDE)
        for crop in whole:
            image, label = data[position]
            assert (image.dtype, tuple(image.shape)) == (torch.uint8, (3, SIDE, SIDE))
            assert np.array_equal(image.permute(1, 2, 0).numpy(), crop)
            assert label == sample.label == data.labels[position]
            assert data.groups[position] == sample.group
            position += 1
    assert torch.equal(data[-1][0], data[len(data) - 1][0])
    with pytest.raises(IndexError):
        data[len(data)]


@pytest.mark.parametrize(("length", "seen"), [(2, [0, 2]), (3, [0, 1, 2]), (5, [0, 0, 1, 1, 2])])
def test_sequences_are_in_the_order_of_time(store, length, seen):
    data = CropStore(store, sequence_length=length)
    assert len(data) == len(data.samples)
    crops, label = data[1]
    assert tuple(crops.shape) == (length, 3, SIDE, SIDE)
    assert label == data.samples[1].label
    assert np.array_equal(crops.permute(0, 2, 3, 1).numpy(), data.samples[1].crops(seen, SIDE))


def test_size_and_transform(store):
    data = CropStore(store, size_px=16, transform=lambda crops: crops.float().mean())
    value, _ = data[0]
    assert value.shape == ()
    assert tuple(CropStore(store, size_px=16)[0][0].shape) == (3, 16, 16)


def test_a_loader_of_one_process_and_a_pickled_one(store):
    data = pickle.loads(pickle.dumps(CropStore(store, sequence_length=2)))  # noqa: S301
    crops, labels = next(iter(DataLoader(data, batch_size=4)))
    assert tuple(crops.shape) == (4, 2, 3, SIDE, SIDE)
    assert labels.tolist() == data.labels[:4].tolist()


def test_only_a_split(tmp_path):
    pairs_store(tmp_path, n=6, split="val")
    assert len(CropStore(tmp_path, split="val")) == len(CropStore(tmp_path))
    with pytest.raises(ConfigError, match="split 'train'"):
        CropStore(tmp_path, split="train")


@pytest.mark.parametrize("wrong", [{"size_px": 0}, {"sequence_length": 0}])
def test_numbers_that_cannot_be(store, wrong):
    with pytest.raises(ConfigError, match="at least 1"):
        CropStore(store, **wrong)


def test_what_only_the_order_tells_is_there(tmp_path):
    order_store(tmp_path, n=8)
    for crops, label in CropStore(tmp_path, sequence_length=4):
        red = crops[:, 0].float().mean((1, 2))
        assert bool(red[0] < red[-1]) == (label == 1)
