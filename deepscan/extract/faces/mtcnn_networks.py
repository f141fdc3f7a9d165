"""MTCNN's three networks (Zhang et al., IEEE SPL 2016), made from facenet-pytorch's weights.

They compute what facenet-pytorch's do, to within rounding, but nothing has to be done around them: they take pixels as
they are, ``[N, H, W, 3]`` in [0, 255], the order that the quickest kernels want, and give one array.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
# facenet-pytorch feeds (x - 127.5) / 128.
_MEAN, _STD = 127.5, 128.0


class PNet(nn.Module):
    """The first network, slid over a whole picture.

    Maps ``float32 [N, H, W, 3]``, sides of 12 px and more, to ``[N, h, w, 5]``: a logit of "face" and the corrections
    of x1, y1, x2, y2 in shares of the window's side, for a window of 12 px at every second pixel.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self.conv1, self.prelu1 = _first_conv(state), _prelu(state, "prelu1")
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2, self.prelu2 = _conv(state, "conv2"), _prelu(state, "prelu2")
        self.conv3, self.prelu3 = _conv(state, "conv3"), _prelu(state, "prelu3")
        weight, bias = _joined(state, "conv4_1", ["conv4_2"])
        self.head = nn.Conv2d(weight.shape[1], len(weight), 1)
        _fill(self.head, weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.prelu1(self.conv1(x.permute(0, 3, 1, 2))))
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.head(x).permute(0, 2, 3, 1)


class RNet(nn.Module):
    """The second network: ``float32 [N, 24, 24, 3]`` to ``[N, 5]``, a logit of "face" and corrections of the box."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _first_conv(state),
            _prelu(state, "prelu1"),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            _conv(state, "conv2"),
            _prelu(state, "prelu2"),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            _conv(state, "conv3"),
            _prelu(state, "prelu3"),
        )
        self.dense, self.prelu = _dense(state, "dense4", side=3), _prelu(state, "prelu4")
        self.head = _linear(*_joined(state, "dense5_1", ["dense5_2"]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1)
        out: Tensor = self.head(self.prelu(self.dense(x)))
        return out


class ONet(nn.Module):
    """The third network: ``float32 [N, 48, 48, 3]`` to ``[N, 15]``: a logit of "face", corrections of the box, and five
    landmarks in shares of the box, first all x, then all y."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _first_conv(state),
            _prelu(state, "prelu1"),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            _conv(state, "conv2"),
            _prelu(state, "prelu2"),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            _conv(state, "conv3"),
            _prelu(state, "prelu3"),
            nn.MaxPool2d(2, 2, ceil_mode=True),
            _conv(state, "conv4"),
            _prelu(state, "prelu4"),
        )
        self.dense, self.prelu = _dense(state, "dense5", side=3), _prelu(state, "prelu5")
        self.head = _linear(*_joined(state, "dense6_1", ["dense6_2", "dense6_3"]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1)
        out: Tensor = self.head(self.prelu(self.dense(x)))
        return out


_NETWORKS: dict[str, Callable[[State], nn.Module]] = {"pnet": PNet, "rnet": RNet, "onet": ONet}


def create_network(name: str, state: State) -> nn.Module:
    """A network in evaluation mode.

    Args:
        name: ``pnet``, ``rnet`` or ``onet``.
        state: facenet-pytorch's weights of it.

    Raises:
        KeyError, RuntimeError: these are other weights.
    """
    return _NETWORKS[name](state).eval().requires_grad_(requires_grad=False)


def _first_conv(state: State) -> nn.Conv2d:
    """The first layer, for pixels as they are: facenet-pytorch's normalisation is part of it."""
    conv = _conv(state, "conv1")
    with torch.no_grad():
        conv.bias -= conv.weight.sum(dim=(1, 2, 3)) * (_MEAN / _STD)  # type: ignore[operator]
        conv.weight /= _STD
    return conv


def _conv(state: State, name: str) -> nn.Conv2d:
    weight = state[f"{name}.weight"]
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], (weight.shape[2], weight.shape[3]))
    _fill(conv, weight, state[f"{name}.bias"])
    return conv


def _prelu(state: State, name: str) -> nn.PReLU:
    weight = state[f"{name}.weight"]
    prelu = nn.PReLU(len(weight))
    with torch.no_grad():
        prelu.weight.copy_(weight)
    return prelu


def _dense(state: State, name: str, side: int) -> nn.Linear:
    """The layer that reads a feature map: facenet-pytorch flattens it as [W, H, C], here it is [H, W, C]."""
    weight = state[f"{name}.weight"]
    weight = weight.reshape(len(weight), side, side, -1).transpose(1, 2).reshape(len(weight), -1)
    return _linear(weight, state[f"{name}.bias"])


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    _fill(linear, weight, bias)
    return linear


def _joined(state: State, classes: str, others: list[str]) -> tuple[Tensor, Tensor]:
    """Weight and bias of one layer for several; of the two classes' logits it gives the difference, as the softmax of
    the two is the sigmoid of that."""
    weight, bias = state[f"{classes}.weight"], state[f"{classes}.bias"]
    weights, biases = [weight[1:] - weight[:1]], [bias[1:] - bias[:1]]
    weights += [state[f"{name}.weight"] for name in others]
    biases += [state[f"{name}.bias"] for name in others]
    return torch.cat(weights), torch.cat(biases)


def _fill(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(bias)
