"""A decoder that runs a test's code before it serves; started in place of the real one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from deepscan.extract.isolation import decoder_process, decoder_worker

CODE_VARIABLE = "DEEPSCAN_TEST_DECODER"
TARGET = "odd_decoder:main"


def use(monkeypatch: Any, code: str) -> None:
    """Processes that are started from now on run ``code`` first."""
    monkeypatch.setenv(CODE_VARIABLE, code)
    monkeypatch.setattr(decoder_process, "TARGET", TARGET)


def main(settings: Mapping[str, Any]) -> None:
    exec(os.environ[CODE_VARIABLE], {"decoder_worker": decoder_worker})  # noqa: S102 - a test's own
    decoder_worker.main(settings)
