"""``deepscan robustness``: a detector is measured on inputs that are compressed, scaled, darkened, covered..."""

from __future__ import annotations

import json
import logging
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscan.commands.evaluate import preparation_of, progress_of, train_groups_of
from deepscan.commands.options import (
    AllowUntrained,
    AttackCheck,
    Cache,
    Device,
    FramesOfData,
    PrepareJobs,
    Resamples,
    Split,
    Threshold,
    Tta,
    seconds,
    settings_of,
)
from deepscan.commands.terminal import EXIT_INTERRUPTED, EXIT_USAGE, DeviceName, fail, fail_with

if TYPE_CHECKING:
    from deepscan.datasets.data import Preparation
    from deepscan.detector import Detector
    from deepscan.evaluate.robustness.corruptions import Place
    from deepscan.evaluate.robustness.report import Robustness
    from deepscan.evaluate.robustness.sweep import Bench

log = logging.getLogger(__name__)

_JOURNAL = "answers.jsonl"


class PlaceName(StrEnum):
    """What changes are done to."""

    AUTO = "auto"
    FRAMES = "frames"
    CROPS = "crops"


def _print_changes(wanted: bool) -> None:
    if not wanted:
        return
    from deepscan.evaluate.robustness.attack_corruptions import ATTACKS
    from deepscan.evaluate.robustness.corruptions import CHANGES

    for change in (*CHANGES.values(), *ATTACKS.values()):
        usual = ", ".join(f"{value:g}" for value in change.strengths)
        where = " (crops, when named)" if change.attack else ""
        typer.echo(f"{change.name:12} {change.title}{where}; {change.unit}: {usual}")
    raise typer.Exit


def robustness(
    data: Annotated[
        list[Path],
        typer.Option(
            metavar="PATH",
            help="A store of deepscan preprocess, or real/ and fake/ folders, or any corpus that it reads. Repeatable.",
        ),
    ],
    model: Annotated[
        str, typer.Option(metavar="M", help="A detector's name or folder.", show_default="the shipped one")
    ] = "default",
    split: Split = None,
    on: Annotated[
        PlaceName,
        typer.Option(
            help="frames: before faces are looked for; crops: after. auto is crops for stores, frames for all else."
        ),
    ] = PlaceName.AUTO,
    changes: Annotated[
        str | None, typer.Option(metavar="A,B", help="Which changes, see --list.", show_default="all but attacks")
    ] = None,
    strengths: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A=V,V", help="Strengths of a change, such as jpeg=80,40. Repeatable.", show_default="usual"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most so many inputs, as many real as fake, from as many groups as can be.",
            show_default="all",
        ),
    ] = None,
    floor: Annotated[float, typer.Option(min=0, max=1, help="AUC that it must be better than.")] = 0.6,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            help="Write report.json, table.md, table.csv and curves.png; with it an interrupted run goes on.",
        ),
    ] = None,
    clip_seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            parser=seconds,
            metavar="SECONDS",
            help="Of each clip only the middle.",
            show_default="all of it",
        ),
    ] = None,
    frames: FramesOfData = None,
    tta: Tta = None,
    attack_check: AttackCheck = None,
    device: Device = DeviceName.AUTO,
    threshold: Threshold = None,
    jobs: PrepareJobs = None,
    cache: Cache = None,
    resamples: Resamples = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice, of noise, and of the bootstrap.")] = 0,
    allow_untrained: AllowUntrained = False,
    list_changes: Annotated[
        bool,
        typer.Option(
            "--list",
            help="Print the changes with their usual strengths.",
            callback=_print_changes,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Measure a detector under graded changes: AUC, FPR and coverage against strength, and where it breaks.

    Example: deepscan robustness --data data/mine --changes jpeg,h264-crf,social --limit 200 --out robust/
    """
    from deepscan.errors import DeepscanError

    del list_changes  # has been answered before this runs
    given = {
        "frames": frames,
        "tta": tta,
        "attack_check": attack_check,
        "threshold": threshold,
        "allow_untrained": allow_untrained or None,
    }
    wanted = {"split": split.value if split else None, "limit": limit, "seconds": clip_seconds, "frames": frames}
    names = None if changes is None else [name.strip() for name in changes.split(",") if name.strip()]
    try:
        if out is not None:
            from deepscan.evaluate.evaluation_plots import check_folder
            from deepscan.evaluate.robustness.report import SCHEMA_ID
            from deepscan.files import check_folder as check_files
            from deepscan.files import json_of

            check_files(out, "report.json", json_of(SCHEMA_ID), ("table.md", "table.csv", "curves.png"))
            check_folder(out, "--out")
        told = _strengths(strengths or [])
        place = _place(on, data)
        if place == "crops" and clip_seconds is not None:
            fail("--seconds is for clips; crops are taken as they are, see --frames.", EXIT_USAGE)
        settings = settings_of(device=device.value, **given)
        with progress_of() as bar:
            preparation = preparation_of(cache, jobs, bar)
            report = _measured(
                model, settings, data, place, names, told, wanted, preparation, out, floor, resamples, seed, bar
            )
        if report.n_judged:
            _write(report, out)
    except DeepscanError as error:
        fail_with(error)
    if report.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


def _measured(
    model: str,
    settings: Any,
    data: list[Path],
    place: Place,
    names: list[str] | None,
    strengths: dict[str, list[float]],
    wanted: dict[str, Any],
    preparation: Preparation,
    out: Path | None,
    floor: float,
    resamples: int,
    seed: int,
    bar: Any,
) -> Robustness:
    from deepscan.detector import load_detector
    from deepscan.evaluate.evaluation import model_to_dict
    from deepscan.evaluate.robustness.attack_corruptions import ATTACKS
    from deepscan.evaluate.robustness.corruptions import CHANGES, REVISION, pick_changes
    from deepscan.evaluate.robustness.report import summarise
    from deepscan.evaluate.robustness.sweep import Journal, choose_subjects, conditions_of, judge_all

    known = CHANGES if names is None else CHANGES | ATTACKS
    conditions = conditions_of(pick_changes(names, strengths, place, known))
    detector = load_detector(model, settings)
    bench, without = _bench(detector, data, place, wanted, preparation, seed)
    subjects = choose_subjects(bench.subjects, wanted["limit"], seed)
    recipe = {
        "model": model_to_dict(detector.info),
        # What is in a store is known by its content, wherever it lies.
        "data": [path.as_posix() for path in data] if place == "frames" else None,
        "on": place,
        "seed": seed,
        "seconds": wanted["seconds"],
        "frames": wanted["frames"],
        "changes": REVISION,
    }
    with Journal(out / _JOURNAL if out else None, recipe) as journal:
        judged = judge_all(
            bench, subjects, conditions, journal, lambda done, total: bar(detector.card.name[:30], done, total)
        )
    return summarise(
        judged,
        detector.info,
        data=[path.as_posix() for path in data],
        place=place,
        seed=seed,
        floor=floor,
        resamples=resamples,
        without=without,
        train_groups=train_groups_of(model, settings),
        **wanted,
    )


def _bench(
    detector: Detector, data: list[Path], place: Place, wanted: dict[str, Any], preparation: Preparation, seed: int
) -> tuple[Bench, int]:
    """What is judged, and how many videos of the stores hold nobody."""
    from deepscan.datasets.data import items_of, open_data
    from deepscan.datasets.readers import read_corpus
    from deepscan.evaluate.robustness.subjects import CropBench, FrameBench

    if place == "crops":
        samples = open_data(data, detector.card.crop, detector.settings, split=wanted["split"], preparation=preparation)
        return CropBench(detector, samples, frames=wanted["frames"], seed=seed), sum(samples.without.values())
    items = []
    for path in dict.fromkeys(data):
        corpus = read_corpus(path)
        for problem in corpus.problems:
            log.info("%s: %s", problem.path, problem.message)
        items += items_of(corpus, wanted["split"])
    return FrameBench(detector, items, seed=seed, seconds=wanted["seconds"]), 0


def _place(on: PlaceName, data: list[Path]) -> Place:
    from deepscan.datasets.dataset import is_store
    from deepscan.errors import ConfigError

    stores = [is_store(path) for path in data]
    if on is PlaceName.CROPS or (on is PlaceName.AUTO and all(stores)):
        return "crops"
    if any(stores):
        which = data[stores.index(True)]
        raise ConfigError(f"{which} holds crops and no frames", "it is a store", "Give the videos, or add --on crops.")
    return "frames"


def _strengths(given: list[str]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for text in given:
        name, _, values = text.partition("=")
        try:
            found[name.strip()] = [float(value) for value in values.split(",")]
        except ValueError:
            fail(f"--strengths {text}: give a change and its strengths, such as jpeg=80,40.", EXIT_USAGE)
    return found


def _write(report: Robustness, out: Path | None) -> None:
    from rich.console import Console

    from deepscan.evaluate.robustness.plots import draw_robustness
    from deepscan.evaluate.robustness.tables import print_report, to_csv, to_markdown
    from deepscan.files import write_atomically

    print_report(report, Console(highlight=False))
    if out is None:
        return
    write_atomically(out / "report.json", (json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n").encode())
    write_atomically(out / "table.md", to_markdown(report).encode())
    write_atomically(out / "table.csv", to_csv(report).encode())
    draw_robustness(report, out / "curves.png")
