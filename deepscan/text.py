"""Texts on their way to a terminal or into a file: those of strangers, names of files above all, and probabilities."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from html import escape

_NEAR_PERCENT = 1.5  # of a limit: whole per cents further off, 1 and 99 for what is beyond, are on its right side


def printable(text: str) -> str:
    """The text with a mark for every character that shows nothing of its own: it must not steer the terminal, hide
    parts of itself, or turn the direction of writing round. Lone surrogates, of names that are no UTF-8, are such."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)


def encodable(text: str) -> str:
    """The text as UTF-8 takes it: names that are none carry lone surrogates, which become JSON's own escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def percent(probability: float, band: tuple[float, float] | None = None) -> str:
    """A probability for people, never 0 or 100 %, which no detector knows.

    Args:
        probability: in [0, 1].
        band: the limits of the answers, where the probability is one that an answer was made of. Near a limit it
            has one decimal and is rounded to its own side, so that it never contradicts its verdict.
    """
    value = 100 * probability
    if band is None or min(abs(value - 100 * limit) for limit in band) > _NEAR_PERCENT:
        return f"{min(max(value, 1), 99):.0f} %"
    low, high = map(_tenths, band)
    shown = _tenths(probability)
    if probability >= band[1]:
        shown = max(shown, high)
    elif probability > band[0]:
        shown = min(max(shown, low + 1), high - 1)
    else:
        shown = min(shown, low if band[0] < band[1] else high - 1)  # a threshold itself is fake
    return f"{shown / 10:.1f} %"


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table for a notebook; everything in it is escaped."""
    lines = [_html_row("th", columns), *(_html_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(printable(cell))}</{tag}>' for cell in cells)}</tr>"


def limit_percent(limit: float) -> str:
    """A limit of the answers, to one decimal where it has one."""
    return f"{_tenths(limit) / 10:.1f}".removesuffix(".0") + " %"


def answer_rule(threshold: float, band: tuple[float, float], between: str = "uncertain") -> str:
    """Which probabilities are called what.

    Args:
        threshold: of a detector without a band.
        band: the probabilities between which there is no answer.
        between: what they are called.
    """
    low, high = band
    if low <= 0 and high >= 1:
        return "no answer, whatever the probability"
    if low < high:
        return f"fake from {limit_percent(high)}, real up to {limit_percent(low)}, {between} between"
    return f"fake from {limit_percent(threshold)}, else real"


def _tenths(probability: float) -> int:
    """In tenths of a per cent, never 0 or 100 %."""
    return min(max(round(1000 * probability), 1), 999)


class PrintableFormatter(logging.Formatter):
    """Formats records line by line as :func:`printable` text."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's text; only its own line ends stay."""
        return "\n".join(map(printable, super().format(record).split("\n")))
