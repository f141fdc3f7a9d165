"""Temporal heads: masks, gaps, padding, order, and the stacked form of the report."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deepscan.config import HeadSettings, ModelSettings
from deepscan.models.heads import Head, LSTMHead, create_head, masked_mean
from deepscan.models.network import DetectorNetwork

DIM = 5
STACKED = HeadSettings(bidirectional_layers=3, unidirectional_layers=1, hidden=6, dropout=0.4, dense=7)
VARIANTS = {
    "lstm": HeadSettings(name="lstm", hidden=6),
    "lstm-stacked": STACKED,
    "lstm-one-way": HeadSettings(name="lstm", hidden=6, bidirectional_layers=0, unidirectional_layers=2),
    "mean": HeadSettings(name="mean"),
    "attention": HeadSettings(name="attention", hidden=6),
}


def make_head(name):
    torch.manual_seed(0)
    head = create_head(VARIANTS[name], DIM).eval()
    for parameter in head.parameters():  # large enough that what must differ differs visibly
        nn.init.normal_(parameter, std=0.7)
    return head


HEADS = {name: make_head(name) for name in VARIANTS}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
masks = st.lists(st.booleans(), min_size=1, max_size=9)


def features(*shape, seed=0):
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(seed))


def run(head, x, mask):
    with torch.inference_mode():
        return head(x, torch.as_tensor(mask, dtype=torch.bool))


def assert_same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@every_head
@pytest.mark.parametrize("time", [1, 2, 3, 40])
def test_any_length(head, time):
    out = run(head, features(2, time), torch.ones(2, time))
    assert out.shape == (2, head.out_dim)
    assert torch.isfinite(out).all()


@every_head
@settings(max_examples=15)
@given(
    rows=st.integers(1, 6).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=2, max_size=3)
    )
)
def test_masked_values_do_not_matter(head, rows):
    mask = torch.tensor(rows)
    x = features(*mask.shape)
    changed = torch.where(mask.unsqueeze(-1), x, 100 * features(*mask.shape, seed=1))
    assert_same(run(head, x, mask), run(head, changed, mask))


@every_head
@settings(max_examples=20)
@given(mask=masks.filter(any))
def test_gaps_equal_the_same_frames_without_gaps(head, mask):
    x = features(1, len(mask))
    dense = x[:, mask]
    assert_same(run(head, x, [mask]), run(head, dense, torch.ones(dense.shape[:2])))


@every_head
@pytest.mark.parametrize("padding", [1, 5])
def test_padding_changes_nothing(head, padding):
    short, long = features(1, 3), features(1, 3 + padding, seed=2)
    batch = torch.cat([torch.cat([short, torch.zeros(1, padding, DIM)], dim=1), long])
    mask = torch.tensor([[True] * 3 + [False] * padding, [True] * (3 + padding)])
    out = run(head, batch, mask)
    assert_same(out[:1], run(head, short, torch.ones(1, 3)))
    assert_same(out[1:], run(head, long, torch.ones(1, 3 + padding)))


@every_head
def test_a_row_without_any_face_is_zero_and_spoils_no_other(head):
    x = features(2, 4)
    out = run(head, x, [[False] * 4, [True] * 4])
    assert_same(out[0], torch.zeros(head.out_dim))
    assert_same(out[1:], run(head, x[1:], torch.ones(1, 4)))
    assert_same(run(head, x, torch.zeros(2, 4)), torch.zeros(2, head.out_dim))


@every_head
def test_gradients_are_finite_with_an_empty_row(head):
    x = features(2, 4).requires_grad_()
    head(x, torch.tensor([[False] * 4, [True, False, True, False]])).square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[1, [0, 2]] != 0).any()
    assert (x.grad[0] == 0).all()
    assert (x.grad[1, [1, 3]] == 0).all()
    head.zero_grad()


@pytest.mark.parametrize("name", HEADS)
def test_order_matters_to_recurrent_heads_only(name):
    head, x = HEADS[name], features(1, 6)
    forwards, backwards = run(head, x, torch.ones(1, 6)), run(head, x.flip(1), torch.ones(1, 6))
    difference = (forwards - backwards).abs().max()
    if name.startswith("lstm"):
        assert difference > 1e-2
    else:
        assert difference < 1e-5


@every_head
def test_every_frame_counts(head):
    x = features(1, 5)
    before = run(head, x, torch.ones(1, 5))
    for t in range(5):
        changed = x.clone()
        changed[0, t] += 1
        assert (run(head, changed, torch.ones(1, 5)) - before).abs().max() > 1e-4


def test_attention_weighs_frames_and_mean_does_not():
    x = features(1, 3)
    assert_same(run(HEADS["mean"], x, torch.ones(1, 3)), x.mean(dim=1))
    attended = run(HEADS["attention"], x, torch.ones(1, 3))
    assert (attended - x.mean(dim=1)).abs().max() > 1e-2
    assert (attended <= x.amax(dim=1) + 1e-6).all()
    assert (attended >= x.amin(dim=1) - 1e-6).all()


def test_masked_mean_by_hand():
    values = torch.tensor([[[1.0], [5.0], [100.0]]])
    assert masked_mean(values, torch.tensor([[True, True, False]])).tolist() == [[3.0]]


def layer_shapes(head):
    return [(m.input_size, m.hidden_size, m.bidirectional, m.batch_first) for m in head.layers]


def test_stacked_form_of_the_report_has_its_layers():
    report = HeadSettings(bidirectional_layers=3, unidirectional_layers=1, hidden=2048, dropout=0.4, dense=2048)
    with torch.device("meta"):
        network = DetectorNetwork(ModelSettings(backbone="inception_resnet_v1", head=report))
    assert isinstance(network.head, LSTMHead)
    assert layer_shapes(network.head) == [
        (512, 2048, True, True),
        (4096, 2048, True, True),
        (4096, 2048, True, True),
        (4096, 2048, False, True),
    ]
    assert network.head.out_dim == 2048
    assert network.head.dropout.p == 0.4
    kinds = [type(layer) for layer in network.classifier]
    assert kinds == [nn.Dropout, nn.Linear, nn.LeakyReLU, nn.Dropout, nn.Linear]
    assert network.classifier[1].weight.shape == (2048, 2048)
    assert network.classifier[4].weight.shape == (1, 2048)
    assert [m.p for m in network.classifier if isinstance(m, nn.Dropout)] == [0.4, 0.4]


def test_default_head_is_one_bidirectional_lstm():
    network = DetectorNetwork(ModelSettings(backbone="meso4"))
    assert layer_shapes(network.head) == [(16, 128, True, True)]
    assert [type(layer) for layer in network.classifier] == [nn.Dropout, nn.Linear]


def test_dropout_between_layers_only_while_training():
    torch.manual_seed(0)
    head = create_head(STACKED, DIM)
    x, mask = features(1, 4), torch.ones(1, 4, dtype=torch.bool)
    head.train()
    assert not torch.equal(head(x, mask), head(x, mask))
    head.eval()
    assert torch.equal(head(x, mask), head(x, mask))


def test_an_lstm_head_needs_a_layer():
    with pytest.raises(ValueError, match="at least one layer"):
        create_head(HeadSettings(bidirectional_layers=0, unidirectional_layers=0), DIM)


def test_the_base_defines_nothing():
    with pytest.raises(TypeError, match="does not define forward"):
        Head()(features(1, 1), torch.ones(1, 1))
