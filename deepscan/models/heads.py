"""Temporal heads: a sequence of frame features becomes one vector.

All take features ``[B, T, D]`` and a boolean mask ``[B, T]`` (true where there is a face; None means everywhere) and
return ``[B, out_dim]``. Any T from 1 works, missing faces may lie anywhere, and padding changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from deepscan.config import HeadSettings


class Head(nn.Module):
    """Base of all heads."""

    out_dim: int

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define forward")


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``[B, T, D]`` over the true positions of ``[B, T]``; zeros where a row has none."""
    weight = mask.unsqueeze(-1).to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


class MeanHead(Head):
    """Mean over time: order does not matter."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.out_dim = feature_dim

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        return features.mean(dim=1) if mask is None else masked_mean(features, mask)


class AttentionHead(Head):
    """Gated attention pooling (Ilse et al., ICML 2018): the network weighs the frames, order does not matter."""

    def __init__(self, feature_dim: int, hidden: int) -> None:
        super().__init__()
        self.value = nn.Linear(feature_dim, hidden)
        self.gate = nn.Linear(feature_dim, hidden)
        self.score = nn.Linear(hidden, 1)
        self.out_dim = feature_dim

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        score = self.score(torch.tanh(self.value(features)) * torch.sigmoid(self.gate(features))).squeeze(-1)
        if mask is None:
            return (features * torch.softmax(score, dim=1).unsqueeze(-1)).sum(dim=1)
        # A row without any face keeps equal weights and is zeroed by its mask: no NaN.
        score = score.masked_fill(~mask, torch.finfo(score.dtype).min)
        weight = torch.softmax(score, dim=1) * mask.to(score.dtype)
        return (features * weight.unsqueeze(-1)).sum(dim=1)


class LSTMHead(Head):
    """Bidirectional, then unidirectional LSTM layers; the mean over time of the last layer's outputs.

    The mean, not the last output: a verdict must not hang on the last frame.
    """

    def __init__(self, feature_dim: int, settings: HeadSettings) -> None:
        super().__init__()
        directions = [True] * settings.bidirectional_layers + [False] * settings.unidirectional_layers
        if not directions:
            raise ValueError("An lstm head needs at least one layer.")
        layers, width = [], feature_dim
        for both in directions:
            layers.append(nn.LSTM(width, settings.hidden, batch_first=True, bidirectional=both))
            width = settings.hidden * (2 if both else 1)
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(settings.dropout)
        self.out_dim = width

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None or bool(mask.all()):
            return self._run(features).mean(dim=1)
        # Frames with a face move to the front, in order, so that gaps cost nothing and padding is never read.
        order = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)
        packed_features = torch.gather(features, 1, order.unsqueeze(-1).expand_as(features))
        lengths = mask.sum(dim=1)
        outputs = self._run(packed_features, lengths.clamp(min=1))
        valid = torch.arange(mask.shape[1], device=mask.device).unsqueeze(0) < lengths.unsqueeze(1)
        return masked_mean(outputs, valid)

    def _run(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        total = x.shape[1]
        for index, layer in enumerate(self.layers):
            if index:
                x = self.dropout(x)
            if lengths is None:
                x, _ = layer(x)
            else:
                packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
                x, _ = pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=total)
        return x


def create_head(settings: HeadSettings, feature_dim: int) -> Head:
    """The head that the settings name, for features of ``feature_dim``."""
    if settings.name == "mean":
        return MeanHead(feature_dim)
    if settings.name == "attention":
        return AttentionHead(feature_dim, settings.hidden)
    return LSTMHead(feature_dim, settings)
