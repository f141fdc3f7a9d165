"""``deepscan explain``: videos and images are judged, and it is shown what the answers rest on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepscan.commands.options import Full, JudgeOptions
from deepscan.commands.terminal import EXIT_FAILED, EXIT_INTERRUPTED, fail_with, progress_bar
from deepscan.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deepscan.analysis import Analysis
    from deepscan.detector import Detector
    from deepscan.errors import DeepscanError
    from deepscan.report.html import Material
    from deepscan.types import Report, Result

PAGE = "report.html"


Paths = Annotated[
    list[str], typer.Argument(metavar="PATH...", help="Videos, images, folders or patterns.", show_default=False)
]
Out = Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="Folder for everything.")]
Video = Annotated[
    bool, typer.Option("--video/--no-video", help="Also copies with boxes and running probabilities drawn in.")
]
ErrorLevelOption = Annotated[
    bool, typer.Option("--error-level", help="Also what one more JPEG changes in a frame (ELA), as pictures.")
]


def explain(
    options: JudgeOptions,
    paths: Paths,
    out: Out = Path("evidence"),
    video: Video = True,
    error_level: ErrorLevelOption = False,
    full: Full = False,
) -> None:
    """Show what the answers rest on: heat maps, timelines, an annotated copy, a page.

    Example: deepscan explain clip.mp4 --out evidence/
    """
    from deepscan.errors import DeepscanError

    try:
        report, failures = _explain(paths, out, options, video=video, error_level=error_level, full=full)
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
    paths: list[str], out: Path, options: JudgeOptions, *, video: bool, error_level: bool, full: bool
) -> tuple[Report, list[DeepscanError]]:
    """Judge, then write the pages; what fails for one input does not cost the others."""
    from datetime import datetime

    from deepscan.detector import load_detector
    from deepscan.errors import OutputError
    from deepscan.explain.gradcam import require_gradcam
    from deepscan.extract.inputs import expand_inputs
    from deepscan.report.html import check_target, write_pages

    require_gradcam()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be made", error.strerror or str(error)) from error
    check_target(out / PAGE)
    explainer = _Explainer(load_detector(options.model, options.settings), out, video=video, error_level=error_level)
    with progress_bar() as bar:
        task = bar.add_task("explaining", total=None, rate="", failed=0)
        results = []
        for result in explainer.run(expand_inputs(paths)):
            results.append(result)
            bar.update(task, completed=len(results), description=printable(Path(result.path).name[-30:]))
        report = explainer.detector.report(results)
        bar.update(task, total=len(results), completed=0)
        write_pages(
            report,
            out / PAGE,
            made=datetime.now().astimezone(),
            card=explainer.detector.card,
            material=explainer.material,
            full=full,
            on_progress=lambda n, _: bar.update(task, completed=n, description="report page"),
        )
    return report, explainer.failures


class _Explainer:
    """Judges inputs and writes the files of one after the other; what the page shows of the first ones is kept."""

    def __init__(self, detector: Detector, out: Path, *, video: bool, error_level: bool) -> None:
        from deepscan.report.html import pictures_to_keep

        self.detector, self._out, self._video, self._error_level = detector, out, video, error_level
        self._keep = pictures_to_keep()
        self._materials: dict[str, Material | None] = {}
        self.failures: list[DeepscanError] = []

    def run(self, inputs: Iterable[tuple[Path, DeepscanError | None]]) -> Iterator[Result]:
        """The results, once their files are written."""
        from deepscan.batch import MOST_MATERIALS
        from deepscan.errors import DeepscanError

        for number, analysis in enumerate(self.detector.analyze_many(inputs, keep=self._keep), 1):
            material = None
            if analysis.extraction is not None:
                try:
                    material = self._write(number, analysis)
                except DeepscanError as error:
                    self.failures.append(error)
            if number <= MOST_MATERIALS:
                self._materials[analysis.result.path] = material
            yield analysis.result

    def material(self, result: Result) -> Material | None:
        """For the page."""
        from deepscan.report.html import make_material

        if result.path in self._materials:
            return self._materials[result.path]
        return make_material(self.detector, self.detector.analyze(Path(result.path), keep=self._keep), heat=True)

    def _write(self, number: int, analysis: Analysis) -> Material | None:
        from deepscan.explain.annotate import annotate, default_suffix
        from deepscan.explain.evidence import explain as explained
        from deepscan.explain.folder import folder_name, write_error_level, write_evidence
        from deepscan.report.html import make_material

        path, limits = Path(analysis.result.path), self.detector.settings.limits
        folder = self._out / folder_name(number, path)
        explanation = explained(self.detector, analysis)
        write_evidence(explanation, folder)
        if self._video:
            folder.mkdir(parents=True, exist_ok=True)
            copy = folder / f"annotated{default_suffix(analysis.result)}"
            annotate(path, analysis.result, copy, band=self.detector.info.uncertain_band, limits=limits)
        material = make_material(self.detector, analysis, heat=True, explanation=explanation)
        if self._error_level and material is not None and material.error_level is not None:
            write_error_level(material.error_level, folder)
        return material
