"""``deepscan robustness``: a detector is measured on inputs that are compressed, scaled, darkened, attacked..."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscan.commands.measuring import Measuring, MeasuringAnswers, Progress, check_plots, progress_of, train_groups_of
from deepscan.commands.options import Model, seconds
from deepscan.commands.terminal import EXIT_INTERRUPTED, EXIT_USAGE, fail, fail_with

if TYPE_CHECKING:
    from deepscan.datasets.dataset import SampleSet
    from deepscan.detector import Detector
    from deepscan.evaluate.robustness.corruptions import Change, Target
    from deepscan.evaluate.robustness.report import Robustness, RobustnessSettings
    from deepscan.evaluate.robustness.sweep import Bench

log = logging.getLogger(__name__)

_JOURNAL = "answers.jsonl"


class TargetName(StrEnum):
    """What changes are done to."""

    AUTO = "auto"
    FRAMES = "frames"
    CROPS = "crops"


class KnowsName(StrEnum):
    """What an attacker knows of the detector."""

    NETWORK = "network"
    TTA = "tta"
    CHECK = "check"


def _print_changes(wanted: bool) -> None:
    if not wanted:
        return
    from deepscan.evaluate.robustness.attack_corruptions import attack_changes
    from deepscan.evaluate.robustness.corruptions import CHANGES

    for change in (*CHANGES.values(), *attack_changes().values()):
        usual = ", ".join(f"{value:g}" for value in change.strengths)
        where = " (crops, when named)" if change.attack else ""
        typer.echo(f"{change.name:12} {change.title}{where}; {change.unit}: {usual}")
    raise typer.Exit


On = Annotated[
    TargetName,
    typer.Option(
        help="frames: before faces are looked for; crops: after. auto is crops for stores, frames for all else."
    ),
]
Changes = Annotated[
    str | None, typer.Option(metavar="A,B", help="Which changes, see --list.", show_default="all but attacks")
]
Strengths = Annotated[
    list[str] | None,
    typer.Option(metavar="A=V,V", help="Strengths of a change, such as jpeg=80,40. Repeatable.", show_default="usual"),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="At most so many inputs, as many real as fake, from as many groups as can be.",
        show_default="all",
    ),
]
Floor = Annotated[float, typer.Option(min=0, max=1, help="AUC that it must be better than.")]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        file_okay=False,
        help="Write report.json, table.md, table.csv and curves.png; with it an interrupted run goes on.",
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        "--seconds", parser=seconds, metavar="SECONDS", help="Of each clip only the middle.", show_default="all of it"
    ),
]
UnseenHalf = Annotated[
    bool,
    typer.Option(
        "--unseen-half", help="Of a validation split the half that calibration, and the check, were not fitted on."
    ),
]
Knows = Annotated[
    KnowsName,
    typer.Option(help="What the attacker knows: the network, also the views of tta, also the check for attacks."),
]
Steps = Annotated[int, typer.Option(min=1, max=1000, help="Of the attack pgd.")]
TransferFrom = Annotated[
    str | None, typer.Option("--transfer-from", metavar="M", help="Make the attacks on this detector instead.")
]
RandomResize = Annotated[
    bool, typer.Option("--random-resize", help="A defence: scale crops by a random factor and back before judging.")
]
ListChanges = Annotated[
    bool,
    typer.Option(
        "--list", help="Print the changes with their usual strengths.", callback=_print_changes, is_eager=True
    ),
]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which changes at which strengths, on which people, and how attacks are made."""

    names: list[str] | None
    strengths: dict[str, list[float]]
    unseen_half: bool
    knows: Any
    steps: int
    transfer_from: str | None

    def check(self, settings: RobustnessSettings) -> None:
        """Usage that makes no sense ends the command."""
        if settings.target == "crops" and settings.seconds is not None:
            fail("--seconds is for clips; crops are taken as they are, see --frames.", EXIT_USAGE)
        if settings.target == "frames" and (self.unseen_half or settings.random_resize):
            fail("--unseen-half and --random-resize are for crops: give a store, or --on crops.", EXIT_USAGE)


def robustness(
    options: MeasuringAnswers,
    model: Model = "default",
    on: On = TargetName.AUTO,
    changes: Changes = None,
    strengths: Strengths = None,
    limit: Limit = None,
    floor: Floor = 0.6,
    out: Out = None,
    clip_seconds: Seconds = None,
    unseen_half: UnseenHalf = False,
    knows: Knows = KnowsName.NETWORK,
    steps: Steps = 10,
    transfer_from: TransferFrom = None,
    random_resize: RandomResize = False,
    list_changes: ListChanges = False,
) -> None:
    """Measure a detector under graded changes and attacks: where it breaks.

    Example: deepscan robustness --data data/mine --changes jpeg,h264-crf,social --limit 200 --out robust/
    """
    from deepscan.errors import DeepscanError
    from deepscan.evaluate.robustness.report import RobustnessSettings

    del list_changes  # has been answered before this runs
    try:
        _check_out(out)
        settings = RobustnessSettings(
            tuple(options.data_names), _target(on, options.data), options.split_name, limit, clip_seconds,
            options.frames, floor, options.resamples, options.seed, random_resize=random_resize,
        )  # fmt: skip
        wanted = _Wanted(
            None if changes is None else [name.strip() for name in changes.split(",") if name.strip()],
            _strengths(strengths or []), unseen_half, knows.value, steps, transfer_from,
        )  # fmt: skip
        wanted.check(settings)
        report = _measured(model, options, settings, wanted, out)
        if report.n_judged:
            _write(report, out)
    except DeepscanError as error:
        fail_with(error)
    if report.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


def _check_out(out: Path | None) -> None:
    """Fail before the work where its results have no place."""
    if out is None:
        return
    from deepscan.evaluate.robustness.report import SCHEMA_ID
    from deepscan.files import check_folder, json_of

    check_folder(out, "report.json", json_of(SCHEMA_ID), ("table.md", "table.csv", "curves.png"))
    check_plots(out, "--out")


def _measured(
    model: str, options: Measuring, settings: RobustnessSettings, wanted: _Wanted, out: Path | None
) -> Robustness:
    from deepscan.detector import load_detector
    from deepscan.evaluate.evaluation import model_to_dict
    from deepscan.evaluate.robustness.corruptions import REVISION
    from deepscan.evaluate.robustness.report import summarise
    from deepscan.evaluate.robustness.sweep import AnswerLog, choose_subjects, conditions_of, judge_all

    detector = load_detector(model, options.settings)
    picked, settings = _picked(detector, options, settings, wanted)
    recipe = {
        "model": model_to_dict(detector.info),
        # What is in a store is known by its content, wherever it lies.
        "data": options.data_names if settings.target == "frames" else None,
        "on": settings.target,
        "seed": settings.seed,
        "seconds": settings.seconds,
        "frames": settings.frames,
        "changes": REVISION,
        "attack": settings.to_dict()["attack"],
        "random_resize": settings.random_resize,
    }
    with progress_of() as progress:
        bench, without = _bench(detector, options, settings, wanted.unseen_half, progress)
        subjects = choose_subjects(bench.subjects, settings.limit, settings.seed)

        def on_progress(done: int, total: int) -> None:
            progress(detector.card.name[:30], done, total)

        with AnswerLog(out / _JOURNAL if out else None, recipe) as journal:
            answers = judge_all(bench, subjects, conditions_of(picked), journal, on_progress)
    groups = train_groups_of(model, options.settings)
    return summarise(answers, detector.info, settings, without=without, train_groups=groups)


def _picked(
    detector: Detector, options: Measuring, settings: RobustnessSettings, wanted: _Wanted
) -> tuple[list[tuple[Change, tuple[float, ...]]], RobustnessSettings]:
    """The changes with their strengths, and the settings with what attacks need."""
    from deepscan.detector import load_detector
    from deepscan.evaluate.robustness.attack_corruptions import AttackSetup, attack_changes, check_attackable
    from deepscan.evaluate.robustness.corruptions import CHANGES, pick_changes

    source = None if wanted.transfer_from is None else load_detector(wanted.transfer_from, options.settings)
    setup = AttackSetup(wanted.knows, wanted.steps, source)
    known = CHANGES if wanted.names is None else CHANGES | attack_changes(setup)
    picked = pick_changes(wanted.names, wanted.strengths, settings.target, known)
    if any(change.attack for change, _ in picked):
        check_attackable(detector, setup)
        settings = replace(settings, attack=setup, check=detector.card.attack_check)
    return picked, settings


def _bench(
    detector: Detector, options: Measuring, settings: RobustnessSettings, unseen_half: bool, progress: Progress
) -> tuple[Bench, int]:
    """What is judged, and how many videos of the stores hold nobody."""
    from deepscan.evaluate.robustness.subjects import CropBench, FrameBench

    if settings.target == "crops":
        samples = options.open(detector.card.crop, progress, detector.card.training)
        if unseen_half:
            samples = _unseen(samples)
        bench = CropBench(
            detector, samples, frames=settings.frames, seed=settings.seed, random_resize=settings.random_resize,
            check=settings.check,
        )  # fmt: skip
        return bench, sum(samples.without.values())
    items = [item for _, item in options.items()]
    return FrameBench(detector, items, seed=settings.seed, seconds=settings.seconds), 0


def _unseen(samples: SampleSet) -> SampleSet:
    from deepscan.errors import ConfigError
    from deepscan.evaluate.calibration.refit import halved

    halves = halved(samples)
    if halves.same:
        raise ConfigError("--unseen-half is of no use here", "with so few groups calibration used all of the split")
    return halves.measure


def _target(on: TargetName, data: list[Path]) -> Target:
    from deepscan.datasets.dataset import is_store
    from deepscan.errors import ConfigError

    stores = [is_store(path) for path in data]
    if on is TargetName.CROPS or (on is TargetName.AUTO and all(stores)):
        return "crops"
    if any(stores):
        which = data[stores.index(True)]
        raise ConfigError(f"{which} holds crops and no frames", "it is a store", "Give the videos, or add --on crops.")
    return "frames"


def _strengths(given: list[str]) -> dict[str, list[float]]:
    strengths: dict[str, list[float]] = {}
    for text in given:
        name, _, values = text.partition("=")
        try:
            strengths[name.strip()] = [float(value) for value in values.split(",")]
        except ValueError:
            fail(f"--strengths {text}: give a change and its strengths, such as jpeg=80,40.", EXIT_USAGE)
    return strengths


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
