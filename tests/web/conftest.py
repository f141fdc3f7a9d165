"""What Gradio leaves behind is swept up where it was made."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

# Gradio opens event loops for its locks and never closes them: each becomes a warning when it is collected.
_GRADIO = "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in ("test_web_page.py", "test_web_in_chromium.py"):
            for text in _GRADIO:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(autouse=True)
def swept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Not in a later test, which would be blamed for it."""
    yield
    if request.node.path.name == "test_web_page.py":
        gc.collect()
