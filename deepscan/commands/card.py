"""``deepscan card``: what a detector is and what was measured of it, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepscan.commands.terminal import fail_with


def card(
    model: Annotated[str, typer.Argument(help="A detector's name or folder.")] = "default",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it there.", show_default="print it")] = None,
) -> None:
    """Print a detector's model card as Markdown: data, recipe, figures with intervals, limits.

    Example: deepscan card default --out model-card.md
    """
    from deepscan.errors import DeepscanError

    try:
        from deepscan.files import write_atomically
        from deepscan.modelcard import model_card_markdown
        from deepscan.models.checkpoint import load_card, resolve_detector

        page = model_card_markdown(load_card(resolve_detector(model)))
        if out is None:
            typer.echo(page, nl=False)
        else:
            write_atomically(out, page.encode())
    except DeepscanError as error:
        fail_with(error)
