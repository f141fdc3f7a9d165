"""``deepscan export``: a detector as files that run without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deepscan.commands.options import Model, Tta
from deepscan.commands.terminal import fail, fail_with

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from deepscan.models.card import Calibration, Card
    from deepscan.types import Score

_EXIT_DIFFERS = 1


def export(
    to: Annotated[Literal["openvino", "onnx"], typer.Option(help="What the files are for.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new or empty folder.")],
    model: Model = "default",
    tta: Tta = None,
    sample: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A video or image whose faces are compared, too, beside made ones. Repeatable.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a detector's networks for OpenVINO or ONNX, and how far they are off.

    Example: deepscan export --model default --to onnx --out exported/

    Exit code 1: a probability differs by more than 0.01, and nothing was written.
    """
    from deepscan.errors import DeepscanError

    try:
        from deepscan.models.checkpoint import resolve_detector
        from deepscan.models.ensemble import open_detector
        from deepscan.models.export import export_detector

        networks = open_detector(resolve_detector(model))
        people = [crops for path in sample or [] for crops in _people(Path(path), networks.card)]
        parity = export_detector(
            networks,
            to,
            out,
            verdict=verdict_by(networks.card.calibration),
            tta=tta is not False,
            samples=people,
        )
    except DeepscanError as error:
        if error.reason == "parity":
            fail(str(error), _EXIT_DIFFERS)
        fail_with(error)
    typer.echo(
        f"{out}: {to}; probabilities differ by at most {parity.max_difference:.1e} from torch's, "
        f"{parity.same_verdicts} of {parity.sequences} verdicts are the same ({parity.runtime})"
    )


def _people(path: Path, card: Card) -> list[NDArray[np.uint8]]:
    """The crops of everybody in a file, as a prediction sees them."""
    from deepscan.config import DEFAULT_LIMITS, PredictSettings
    from deepscan.extract.faces.detect import FaceFinder
    from deepscan.extract.people import clear_people, search_people

    settings = PredictSettings()
    finder = FaceFinder(settings.face)
    extraction = search_people(path, settings.frames, finder, card.crop, settings.track, DEFAULT_LIMITS).run()
    return [person.crops for person in clear_people(extraction)]


def verdict_by(calibration: Calibration) -> Callable[[Score], str]:
    """What the detector says of a score, as the only person of a file."""
    import numpy as np

    from deepscan.types import Face, Sighting, Track
    from deepscan.verdict import decide

    face = Face((0.0, 0.0, 100.0, 100.0), 1.0, np.zeros((5, 2), np.float32))

    def verdict(score: Score) -> str:
        sightings = tuple(Sighting(index, float(index), face) for index in range(len(score.frame_logits)))
        return decide([Track(0, sightings)], [score], calibration).label.value

    return verdict
