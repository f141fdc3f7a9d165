"""The version of this installation, for reports and cards."""

__version__ = "0.1.0"
