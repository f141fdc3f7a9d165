"""``deepscan models``: what is there, and detectors on the Hugging Face Hub."""

from __future__ import annotations

from typing import Annotated

import typer

from deepscan.commands.terminal import fail_with


def models() -> None:
    """List the detectors that can judge and the backbones that can be trained.

    Those of the Hugging Face Hub are fetched with pull and shared with push.
    """
    from deepscan.report.overview import print_models

    print_models()


def pull(
    address: Annotated[str, typer.Argument(metavar="USER/NAME[@REVISION]", help="A repository of the Hub.")],
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is in the cache.")] = False,
) -> None:
    """Fetch a detector from the Hugging Face Hub, check it, and print its folder.

    Example: deepscan models pull user/name@v1
    """
    from deepscan.errors import DeepscanError

    try:
        from deepscan.models.checkpoint import DETECTOR_FILES
        from deepscan.models.ensemble import open_detector
        from deepscan.models.hub import HubAddress, download

        folder = download(HubAddress.parse(address), DETECTOR_FILES, force=force)
        open_detector(folder)
    except DeepscanError as error:
        fail_with(error)
    typer.echo(folder)


def push(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A name of `deepscan models`, or a folder.")],
    address: Annotated[str, typer.Argument(metavar="USER/NAME[@BRANCH]", help="A repository of yours.")],
    licence: Annotated[
        str | None, typer.Option("--license", help="Of the weights: mit, cc-by-4.0, ...", show_default="not said")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A repository that is made is for you only.")] = False,
) -> None:
    """Put a detector on the Hugging Face Hub: weights, card, list of training groups, and a README made from the card.

    The list names the clips that it was trained on. A README that is there is replaced.

    Example: deepscan models push runs/mine user/name
    """
    from deepscan.errors import DeepscanError

    try:
        from deepscan.models.checkpoint import DETECTOR_FILES, resolve_detector
        from deepscan.models.ensemble import open_detector
        from deepscan.models.hub import HubAddress, upload
        from deepscan.report.hub_readme import hub_readme

        where = HubAddress.parse(address)
        folder = resolve_detector(run)
        card = open_detector(folder).card
        readme = hub_readme(card, where.repository, licence)
        url = upload(folder, where, DETECTOR_FILES, readme, f"{card.name} {card.version}", private=private)
    except DeepscanError as error:
        fail_with(error)
    typer.echo(url)
