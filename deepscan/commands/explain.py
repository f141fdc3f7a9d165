"""``deepscan explain``: videos and images are judged, and it is shown what the answers rest on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepscan.commands.options import (
    AttackCheck,
    Device,
    Frames,
    Limits,
    MinSegment,
    Threshold,
    Tta,
    limits_of,
    settings_of,
)
from deepscan.commands.terminal import EXIT_FAILED, EXIT_INTERRUPTED, DeviceName, fail_with, progress_bar
from deepscan.text import printable

if TYPE_CHECKING:
    from deepscan.config import PredictSettings
    from deepscan.detector import Detector
    from deepscan.errors import DeepscanError
    from deepscan.report.html import Material
    from deepscan.types import Report, Result

PAGE = "report.html"


def explain(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Videos, images, folders or patterns.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="Folder for everything.")] = Path(
        "evidence"
    ),
    video: Annotated[
        bool, typer.Option("--video/--no-video", help="Also copies with boxes and running probabilities drawn in.")
    ] = True,
    frames: Frames = None,
    min_segment: MinSegment = None,
    tta: Tta = None,
    attack_check: AttackCheck = None,
    model: Annotated[str, typer.Option(help="A detector's name or folder; see `deepscan models`.")] = "default",
    device: Device = DeviceName.AUTO,
    threshold: Threshold = None,
    limits: Limits = None,
) -> None:
    """Show what the answers rest on: heat maps, timelines, an annotated copy, and a report page with all of it.

    Example: deepscan explain clip.mp4 --out evidence/
    """
    from deepscan.errors import DeepscanError

    try:
        report, failures = _explain(
            paths,
            out,
            model=model,
            video=video,
            settings=settings_of(
                frames=frames,
                min_segment_s=min_segment,
                tta=tta,
                attack_check=attack_check,
                threshold=threshold,
                device=device.value,
                limits=limits_of(limits),
            ),
        )
    except DeepscanError as error:
        fail_with(error)
    except KeyboardInterrupt:
        typer.echo("deepscan: Interrupted; what is written is whole.", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    from rich.console import Console

    from deepscan.report.table import print_table

    print_table(report, Console())
    for failure in failures:
        typer.echo(f"deepscan: {failure}", err=True)
    typer.echo(f"deepscan: {out / PAGE} is the page to open.", err=True)
    if failures or report.exit_code:
        raise typer.Exit(EXIT_FAILED)


def _explain(
    paths: list[str], out: Path, *, model: str, video: bool, settings: PredictSettings
) -> tuple[Report, list[DeepscanError]]:
    """Judge, then write the pages; what fails for one input does not cost the others."""
    from datetime import datetime

    from deepscan.detector import load_detector
    from deepscan.errors import OutputError
    from deepscan.explain.gradcam import require_gradcam
    from deepscan.report.html import check_target, write_pages

    require_gradcam()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be made", error.strerror or str(error)) from error
    check_target(out / PAGE)
    detector = load_detector(model, settings)
    with progress_bar() as bar:
        task = bar.add_task("judging", total=None, rate="", failed=0)
        results = []
        for result in detector.predict_many(paths):
            results.append(result)
            bar.update(task, completed=len(results), description=printable(Path(result.path).name[-30:]))
        bar.update(task, total=len(results), completed=0)
        writer = _Writer(detector, out, video=video)
        report = detector.report(results)
        write_pages(
            report,
            out / PAGE,
            made=datetime.now().astimezone(),
            card=detector.card,
            material=writer.material,
            on_progress=lambda n, _: bar.update(task, completed=n, description="explaining"),
        )
    return report, writer.failures


class _Writer:
    """Writes the files of one input after the other."""

    def __init__(self, detector: Detector, out: Path, *, video: bool) -> None:
        self._detector, self._out, self._video = detector, out, video
        self._number = 0
        self.failures: list[DeepscanError] = []

    def material(self, result: Result) -> Material | None:
        """For the page; the files are written on the way."""
        from deepscan.errors import DeepscanError
        from deepscan.explain.annotate import annotate, default_suffix
        from deepscan.explain.evidence import explain as explained
        from deepscan.explain.folder import folder_name, write_evidence
        from deepscan.extract.isolation.client import file_facts
        from deepscan.report.html import from_explanation
        from deepscan.types import VerdictLabel

        self._number += 1
        path, limits = Path(result.path), self._detector.settings.limits
        if result.verdict is VerdictLabel.ERROR:
            return None
        folder = self._out / folder_name(self._number, path)
        try:
            explanation = explained(self._detector, path)
            write_evidence(explanation, folder)
            if self._video:
                folder.mkdir(parents=True, exist_ok=True)
                copy = folder / f"annotated{default_suffix(result)}"
                annotate(path, result, copy, band=self._detector.info.uncertain_band, limits=limits)
            return from_explanation(explanation, file_facts(path, limits))
        except DeepscanError as error:
            self.failures.append(error)
            return None
