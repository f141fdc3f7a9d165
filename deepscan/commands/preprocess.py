"""``deepscan preprocess``: a corpus becomes a store of face crops."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepscan.commands.options import Address, Limits, WorkEngine, limits_of
from deepscan.commands.terminal import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    EngineChoice,
    fail,
    fail_with,
    progress_bar,
    stderr,
)
from deepscan.text import printable

if TYPE_CHECKING:
    from deepscan.config import MediaLimits
    from deepscan.datasets.preprocess import Progress, Summary
    from deepscan.datasets.readers import CorpusItem, Problem
    from deepscan.datasets.store.shards import Share
    from deepscan.datasets.store.store import StoreSettings
    from deepscan.processes import Engine

log = logging.getLogger(__name__)


class ImageName(StrEnum):
    """How crops are kept."""

    JPEG = "jpeg"
    PNG = "png"


class LayoutName(StrEnum):
    """Other tools' forms of a store."""

    DEEPFAKEBENCH = "deepfakebench"


def preprocess(
    root: Annotated[
        Path | None, typer.Argument(help="The corpus: its folder, a CSV or an index.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the store.", show_default="data/CORPUS-faces", file_okay=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Read ROOT as this corpus.", show_default="detected from the layout")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, max=10_000, help="Frames sampled evenly from every video.")] = 32,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Side of the crops in pixels.")] = 224,
    margin: Annotated[
        float, typer.Option(min=-0.5, max=2, help="Of the crops: side = the face box's longer side x (1 + margin).")
    ] = -0.15,
    image: Annotated[ImageName, typer.Option(help="How crops are kept: JPEG at quality 95, or without loss.")] = (
        ImageName.JPEG
    ),
    val: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the groups for validation.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the groups for the test.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Another seed divides the groups otherwise.")] = 0,
    reuse_boxes: Annotated[
        bool, typer.Option("--reuse-boxes", help="Cut fakes at the boxes of their originals: no second detection.")
    ] = False,
    follow_links: Annotated[
        bool,
        typer.Option("--follow-links", help="Take what links in real/ and fake/ lead to also outside the corpus."),
    ] = False,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Processes.", show_default="cores")] = None,
    engine: WorkEngine = EngineChoice.LOCAL,
    address: Address = None,
    time_limit: Annotated[
        float, typer.Option(min=1, help="Seconds after which a video is given up as a failure.")
    ] = 600.0,
    limits: Limits = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Do only this part of the videos: one job of an array.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Join the manifests of an array's jobs; no video is touched.")
    ] = False,
    shards: Annotated[
        int | None, typer.Option(min=1, help="Then write this many WebDataset archives for each split.")
    ] = None,
    layout: Annotated[
        LayoutName | None, typer.Option(help="Then write crops and index as this tool reads them.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Then write report.html: random crops and distributions, to look at.")
    ] = False,
) -> None:
    """Cut the faces out of a corpus: detects the layout, resumes, survives bad files.

    Example: deepscan preprocess dfdc/ --report
    """
    from deepscan.errors import DeepscanError

    try:
        from deepscan.config import CropSettings
        from deepscan.datasets.store.shards import Share
        from deepscan.datasets.store.store import StoreSettings
        from deepscan.processes import create_engine

        share = Share.parse(shard) if shard is not None else Share()
        if merge and share.count > 1:
            fail("--merge joins the manifests of all jobs; leave --shard out.", EXIT_USAGE)
        if root is None and (out is None or not merge):
            fail("Give the corpus: deepscan preprocess ROOT (or --merge --out FOLDER).", EXIT_USAGE)
        if share.count > 1 and (shards or layout or report):
            fail("--shards, --layout and --report need all the videos: give them with --merge.", EXIT_USAGE)
        folder = out or _default_folder(root, dataset)
        summary: Summary | None = None
        if merge:
            _merge(folder)
        elif root is not None:
            settings = StoreSettings(
                frames=frames,
                crop=CropSettings(size_px=size, margin=margin),
                image=image.value,
                boxes="original" if reuse_boxes else "own",
            )
            most = limits_of(limits)
            items, problems = _read(root, dataset, val, test, seed, follow_links)
            with create_engine(engine.value, jobs=jobs, time_limit_s=time_limit, address=address) as workers:
                summary = _run(items, problems, folder, settings, share, workers, most)
        if summary is None or not summary.n_open:
            _after(folder, shards, layout, report)
    except DeepscanError as error:
        fail_with(error)
    if summary is not None:
        if summary.n_open:
            raise typer.Exit(EXIT_INTERRUPTED)
        if not any(row.status == "ok" for row in summary.rows):
            fail("Not one video gave a face; see failures.csv and manifest.csv.", EXIT_FAILED)


def _default_folder(root: Path | None, dataset: str | None) -> Path:
    from deepscan.datasets.readers import corpus_name

    if root is None:
        raise ValueError("There is no corpus to name the folder after.")
    return Path("data") / f"{corpus_name(root, dataset)}-faces"


def _read(
    root: Path, dataset: str | None, val: float, test: float, seed: int, follow_links: bool
) -> tuple[Sequence[CorpusItem], Sequence[Problem]]:
    """The corpus with its splits; what was found is told, problems too."""
    from deepscan.datasets.readers import read_corpus
    from deepscan.datasets.splits import assign_splits
    from deepscan.extract.file_kinds import passed_over_text

    console = stderr()
    with console.status(f"Reading {root}"):
        corpus = read_corpus(root, dataset, follow_links=follow_links)
        items = assign_splits(corpus.items, val, test, seed)
    n_fake = sum(item.label for item in items)
    log.info("%s: %s corpus, %d real, %d fake", root, corpus.name, len(items) - n_fake, n_fake)
    if corpus.passed_over:
        log.warning("%s: %s passed over", root, passed_over_text(corpus.passed_over))
    for reason, count in Counter(problem.reason for problem in corpus.problems).most_common():
        first = next(problem for problem in corpus.problems if problem.reason == reason)
        log.warning("%s: %d x %s, first: %s", root, count, reason, first.message)
    return items, corpus.problems


def _run(
    items: Sequence[CorpusItem],
    problems: Sequence[Problem],
    folder: Path,
    settings: StoreSettings,
    share: Share,
    engine: Engine,
    limits: MediaLimits,
) -> Summary:
    """Preprocess with a bar for whoever watches; the summary goes to stdout."""
    from deepscan.datasets.preprocess import preprocess as run
    from deepscan.datasets.summary import print_summary

    start = time.monotonic()
    with progress_bar() as bar:
        task = bar.add_task("", total=None, rate="", failed=0)

        def show(at: Progress) -> None:
            fresh = at.done - at.recalled
            rate = fresh / max(1e-6, time.monotonic() - start)
            text = f"{rate:.2f}/s" if rate < 10 else f"{rate:.0f}/s"
            name = printable(at.name[-30:])
            bar.update(task, total=at.total, completed=at.done, description=name, rate=text, failed=at.failed)

        summary = run(items, folder, settings, engine, problems=problems, share=share, limits=limits, on_progress=show)
    print_summary(summary, folder, share)
    return summary


def _merge(folder: Path) -> None:
    from deepscan.datasets.store.shards import merge_manifests

    rows = merge_manifests(folder)
    typer.echo(f"{folder / 'manifest.csv'}: {len(rows)} videos")


def _after(folder: Path, shards: int | None, layout: LayoutName | None, report: bool) -> None:
    """What is made from the finished store."""
    if not (shards or layout or report):
        return
    from deepscan.datasets.store.manifest import read_failures, read_manifest

    rows = read_manifest(folder / "manifest.csv")
    if shards:
        from deepscan.datasets.store.shards import write_shards

        written = write_shards(folder, rows, shards)
        typer.echo(f"{folder / 'shards'}: {len(written)} archives, {sum(s.crops for s in written)} crops")
    if layout is LayoutName.DEEPFAKEBENCH:
        from deepscan.datasets.interchange import write_deepfakebench

        for path in write_deepfakebench(folder, rows):
            typer.echo(f"{path}: index for DeepfakeBench")
    if report:
        from deepscan.datasets.contact_sheet import write_contact_sheet

        failures = folder / "failures.csv"
        path = write_contact_sheet(folder, rows, read_failures(failures) if failures.exists() else [])
        typer.echo(f"{path}: look at the crops")
