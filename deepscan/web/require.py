"""Whether the web page's packages are there. Nothing of them is imported here, unlike in the modules beside it."""

from __future__ import annotations

from importlib.util import find_spec

from deepscan.errors import ConfigError
from deepscan.version import install_command

_PACKAGES = ("python_multipart", "starlette", "uvicorn")
_HINT = f"Install it: {install_command('web')}."


def require_web() -> None:
    """Raises ConfigError where the optional part is not installed."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError("The web page cannot be served", f"{missing[0]} is not installed", _HINT)
