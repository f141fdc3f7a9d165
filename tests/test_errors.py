"""Tests of deepscan.errors."""

from __future__ import annotations

import pickle

import pytest

from deepscan.errors import ConfigError, DeepscanError, MediaError, ModelError, OutputError


@pytest.mark.parametrize("kind", [DeepscanError, MediaError, ModelError, ConfigError, OutputError])
@pytest.mark.parametrize("reason", [None, "disk_full"])
def test_errors_come_whole_through_a_pickle(kind, reason):
    error = kind("clip.mp4: cannot be read", "it is empty", "Look at it.", reason=reason)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    assert type(copy) is kind
    assert (copy.problem, copy.cause, copy.hint, copy.reason) == (error.problem, error.cause, error.hint, error.reason)
    assert str(copy) == str(error) == "clip.mp4: cannot be read: it is empty. Look at it."


def test_an_error_keeps_its_reason_on_one_line():
    assert str(DeepscanError("a\nb", "c")) == "a b: c"
    assert OutputError("a").reason == "output"
    assert OutputError("a", reason="disk_full").reason == "disk_full"
