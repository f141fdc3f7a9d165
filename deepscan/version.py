"""The version of this installation, for reports and cards, and the name that it is installed by."""

__version__ = "0.1.0"
DISTRIBUTION = "deepscan-video"  # on the package index "deepscan" is an astronomy tool


def install_command(extra: str) -> str:
    """What a person types to get an optional part."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
