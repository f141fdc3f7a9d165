"""``deepscan preprocess``: a corpus becomes a store of face crops."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
    from rich.console import Console

    from deepscan.datasets.array_jobs import Share
    from deepscan.datasets.preprocess import PreprocessSettings, Progress, Summary
    from deepscan.datasets.readers import Corpus

log = logging.getLogger(__name__)


class ImageName(StrEnum):
    """How crops are kept."""

    JPEG = "jpeg"
    PNG = "png"


@dataclass(frozen=True, kw_only=True)
class PreprocessOptions:
    """What is cut, how, and where it goes."""

    root: Annotated[
        Path | None, typer.Argument(help="The corpus: its folder, a CSV or an index.", show_default=False)
    ] = None
    out: Annotated[
        Path | None, typer.Option(help="Folder of the store.", show_default="data/CORPUS-faces", file_okay=False)
    ] = None
    dataset: Annotated[
        str | None, typer.Option(help="Read ROOT as this corpus.", show_default="detected from the layout")
    ] = None
    frames: Annotated[int, typer.Option(min=1, max=10_000, help="Frames sampled evenly from every video.")] = 32
    size: Annotated[int, typer.Option(min=32, max=1024, help="Side of the crops in pixels.")] = 224
    margin: Annotated[
        float | None,
        typer.Option(
            min=-0.5,
            max=2,
            show_default="the default detector's",
            help="Of the crops: side = the face box's longer side x (1 + margin).",
        ),
    ] = None
    image: Annotated[ImageName, typer.Option(help="How crops are kept: JPEG at quality 95, or without loss.")] = (
        ImageName.JPEG
    )
    val: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the groups for validation.")] = 0.1
    test: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the groups for the test.")] = 0.1
    seed: Annotated[int, typer.Option(help="Another seed divides the groups otherwise.")] = 0
    reuse_boxes: Annotated[
        bool, typer.Option("--reuse-boxes", help="Cut fakes at the boxes of their originals: no second detection.")
    ] = False
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Take what links in real/ and fake/ lead to also outside the corpus.")
    ] = False
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Processes.", show_default="cores")] = None
    engine: WorkEngine = EngineChoice.LOCAL
    address: Address = None
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds after which a video is given up as a failure.")] = (
        600.0
    )
    limits: Limits = None
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Do only this part of the videos: one job of an array.")
    ] = None
    merge: Annotated[
        bool, typer.Option("--merge", help="Join the manifests of an array's jobs; no video is touched.")
    ] = False
    report: Annotated[
        bool, typer.Option("--report", help="Then write report.html: random crops and distributions, to look at.")
    ] = False

    @property
    def share(self) -> Share:
        """Of the videos, this job's.

        Raises:
            ConfigError: there is no such share.
        """
        from deepscan.datasets.array_jobs import Share

        return Share() if self.shard is None else Share.parse(self.shard)

    @property
    def settings(self) -> PreprocessSettings:
        """As the library has them."""
        from deepscan.config import CropSettings
        from deepscan.datasets.preprocess import PreprocessSettings
        from deepscan.datasets.store.store import StoreSettings

        crop = {"size_px": self.size} | ({} if self.margin is None else {"margin": self.margin})
        store = StoreSettings(
            frames=self.frames,
            crop=CropSettings.model_validate(crop),
            image=self.image.value,
            boxes="original" if self.reuse_boxes else "own",
        )
        return PreprocessSettings(store, self.share, limits_of(self.limits))


def preprocess(options: PreprocessOptions) -> None:
    """Cut the faces out of a corpus: detects the layout, resumes, survives bad files.

    Example: deepscan preprocess dfdc/ --report
    """
    from deepscan.errors import DeepscanError

    if options.root is None and (options.out is None or not options.merge):
        fail("Give the corpus: deepscan preprocess ROOT (or --merge --out FOLDER).", EXIT_USAGE)
    summary: Summary | None = None
    try:
        share = options.share
        if options.merge and share.count > 1:
            fail("--merge joins the manifests of all jobs; leave --shard out.", EXIT_USAGE)
        if share.count > 1 and options.report:
            fail("--report needs all the videos: give it with --merge.", EXIT_USAGE)
        folder = options.out or _default_folder(options.root, options.dataset)
        if options.merge:
            _merge(folder)
        elif options.root is not None:
            summary = _run(options.root, folder, options)
            print_summary(summary, folder, share)
        if options.report and (summary is None or not summary.n_open):
            _write_report(folder)
    except DeepscanError as error:
        fail_with(error)
    if summary is not None:
        _exit(summary)


def _exit(summary: Summary) -> None:
    if summary.n_open:
        raise typer.Exit(EXIT_INTERRUPTED)
    if not any(row.status == "ok" for row in summary.rows):
        fail("Not one video gave a face; see failures.csv and manifest.csv.", EXIT_FAILED)


def _default_folder(root: Path | None, dataset: str | None) -> Path:
    from deepscan.datasets.readers import corpus_name

    if root is None:
        raise ValueError("There is no corpus to name the folder after.")
    return Path("data") / f"{corpus_name(root, dataset)}-faces"


def _read(root: Path, options: PreprocessOptions) -> Corpus:
    """The corpus with its splits; what was found is logged, problems too."""
    from deepscan.datasets.readers import log_problems, read_corpus
    from deepscan.datasets.splits import assign_splits
    from deepscan.extract.file_kinds import passed_over_text

    with stderr().status(f"Reading {root}"):
        corpus = read_corpus(root, options.dataset, follow_links=options.follow_links)
        items = assign_splits(corpus.items, options.val, options.test, options.seed)
    n_fake = sum(item.label for item in items)
    log.info("%s: %s corpus, %d real, %d fake", root, corpus.name, len(items) - n_fake, n_fake)
    if corpus.passed_over:
        log.warning("%s: %s passed over", root, passed_over_text(corpus.passed_over))
    log_problems(corpus)
    return replace(corpus, items=tuple(items))


def _run(root: Path, folder: Path, options: PreprocessOptions) -> Summary:
    """Preprocess with a bar for whoever watches."""
    from deepscan.datasets.preprocess import preprocess as run
    from deepscan.processes import create_engine

    settings = options.settings
    corpus = _read(root, options)
    start = time.monotonic()
    workers = create_engine(
        options.engine.value, jobs=options.jobs, time_limit_s=options.time_limit, address=options.address
    )
    with workers as engine, progress_bar() as bar:
        task = bar.add_task("", total=None, rate="", failed=0)

        def show(at: Progress) -> None:
            rate = (at.done - at.recalled) / max(1e-6, time.monotonic() - start)
            text = f"{rate:.2f}/s" if rate < 10 else f"{rate:.0f}/s"
            name = printable(at.name[-30:])
            bar.update(task, total=at.total, completed=at.done, description=name, rate=text, failed=at.failed)

        return run(corpus, folder, settings, engine, on_progress=show)


def _merge(folder: Path) -> None:
    from deepscan.datasets.array_jobs import merge_manifests

    rows = merge_manifests(folder)
    typer.echo(f"{folder / 'manifest.csv'}: {len(rows)} videos")


def _write_report(folder: Path) -> None:
    from deepscan.datasets.contact_sheet import write_contact_sheet
    from deepscan.datasets.store.manifest import read_failures, read_manifest

    failures = folder / "failures.csv"
    path = write_contact_sheet(
        folder, read_manifest(folder / "manifest.csv"), read_failures(failures) if failures.exists() else []
    )
    typer.echo(f"{path}: look at the crops")


def print_summary(summary: Summary, folder: Path, share: Share, console: Console | None = None) -> None:
    """Print videos, faces, label balance, people per video, failures by reason and throughput to stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for name, text in _summary_lines(summary):
        table.add_row(name, text)
    table.add_row("Written to", f"{folder}/manifest{share.suffix}.csv, failures{share.suffix}.csv, store/")
    (console or Console(highlight=False)).print(table)


def _summary_lines(summary: Summary) -> Iterator[tuple[str, str]]:
    rows = summary.rows
    usable = [row for row in rows if row.status == "ok"]
    status = Counter[str](row.status for row in rows)
    split = Counter[str](row.split or "none" for row in usable)
    people = Counter(min(row.n_tracks, 3) for row in usable)
    label = Counter(row.label for row in usable)
    names = (f"{label[each]} {('real', 'fake')[each]} ({label[each] / len(usable):.0%})" for each in sorted(label))
    by_status = f": {_counted(status, ('ok', 'skipped', 'failed'))}" if rows else ""
    yield "Videos", f"{len(rows)}{by_status}"
    if summary.n_open:
        yield "Not reached", f"{summary.n_open}; run the same command again to go on"
    yield "Face crops", f"{summary.n_crops:,}"
    yield "Labels", ", ".join(names) or "-"
    yield "Splits", _counted(split, ("train", "val", "test", "none"))
    yield "People a video", ", ".join(f"{n}{'+' if n == 3 else ''}: {people[n]}" for n in sorted(people)) or "-"
    reasons = {each: Counter(str(row.reason) for row in rows if row.status == each) for each in ("skipped", "failed")}
    reasons["metadata"] = Counter(failure.reason for failure in summary.failures if not failure.video_id)
    for name, counts in reasons.items():
        if counts:
            yield name.capitalize(), ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
    fresh = len(rows) - summary.n_recalled
    rate = f", {fresh / summary.wall_s:.2f} videos/s" if fresh and summary.wall_s else ""
    yield "Time", f"{summary.wall_s:.1f} s for {fresh} videos{rate}; {summary.n_recalled} were done before"


def _counted(counts: Counter[str], names: Sequence[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in names if counts[name])
