"""Whether the web page's packages are there. Nothing of them is imported here, unlike in the modules beside it."""

from __future__ import annotations

import os
from importlib.util import find_spec

from deepscan.errors import ConfigError
from deepscan.version import install_command

_PACKAGES = ("fastapi", "gradio", "starlette", "uvicorn")
_HINT = f"Install it: {install_command('web')}."


def require_web() -> None:
    """See that the optional part is there, and keep it from reporting its use.

    Raises:
        ConfigError: it is not installed.
    """
    # Read when it is imported: what it would otherwise send home.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Gradio makes a folder for its files as it is imported, and must be told first where.
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError("The web page cannot be served", f"{missing[0]} is not installed", _HINT)
