"""Texts from strangers, names of files above all, on their way to a terminal or into a file."""

from __future__ import annotations

import logging


def printable(text: str) -> str:
    """The text with a mark for every character that shows nothing of its own: it must not steer the terminal, hide
    parts of itself, or turn the direction of writing round. Lone surrogates, of names that are no UTF-8, are such."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def encodable(text: str) -> str:
    """The text as UTF-8 takes it: names that are none carry lone surrogates, which become JSON's own escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class PrintableFormatter(logging.Formatter):
    """Formats records line by line as :func:`printable` text."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's text; only its own line ends stay."""
        return "\n".join(map(printable, super().format(record).split("\n")))
