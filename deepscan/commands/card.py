"""``deepscan card``: what a detector is and what was measured of it, as a page."""

from __future__ import annotations

from typing import Annotated

import typer

from deepscan.commands.options import Model
from deepscan.commands.outputs import CARD_MARKDOWN, Output, check_outputs, write_outputs
from deepscan.commands.terminal import fail_with


def card(
    detector: Annotated[str | None, typer.Argument(help="The same as --model.", hidden=True)] = None,
    model: Model = "default",
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there.", show_default="print it")
    ] = None,
) -> None:
    """Print a detector's model card: data, recipe, figures with intervals, limits.

    Example: deepscan card --model default --out model-card.md
    """
    from deepscan.errors import DeepscanError

    try:
        from deepscan.models.checkpoint import load_card, resolve_detector
        from deepscan.report.model_card import model_card_markdown

        check_outputs([Output("--out", out, CARD_MARKDOWN)])
        page = model_card_markdown(load_card(resolve_detector(detector or model)))
        write_outputs([("-" if out is None else out, lambda: page)])
    except DeepscanError as error:
        fail_with(error)
