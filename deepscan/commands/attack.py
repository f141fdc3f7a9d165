"""``deepscan attack``: a detector is attacked, and what that does to its answers is measured."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepscan.commands.evaluate import preparation_of, progress_of
from deepscan.commands.options import Cache, Device, PrepareJobs, Resamples, Split, settings_of
from deepscan.commands.terminal import EXIT_INTERRUPTED, DeviceName, fail_with

if TYPE_CHECKING:
    from deepscan.datasets.dataset import SampleSet
    from deepscan.evaluate.robustness.attacks import Attack

JSON_FILE, TABLE_FILE, CURVES_FILE = "attack.json", "attack.md", "attack.png"
_ATTACKS, _KNOWS = ("fgsm", "pgd"), ("network", "tta", "check")

log = logging.getLogger(__name__)


def _names(known: tuple[str, ...], text: str) -> list[str]:
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise typer.BadParameter(f"{text!r} is no list of {', '.join(known)}.")
    return names


def _budgets(text: str) -> list[int]:
    try:
        budgets = sorted({int(part) for part in text.split(",")})
    except ValueError:
        budgets = []
    if not budgets or budgets[0] < 1 or budgets[-1] > 64:
        raise typer.BadParameter(f"{text!r} is no list of whole grey levels from 1 to 64, such as 1,2,4,8.")
    return budgets


def attack(
    data: Annotated[
        list[Path],
        typer.Option(metavar="PATH", help="What deepscan evaluate takes. Repeatable."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="Folder for figures, table and curves.")],
    model: Annotated[str, typer.Option(help="A detector's name or folder.")] = "default",
    split: Split = None,
    unseen_half: Annotated[
        bool,
        typer.Option(
            "--unseen-half",
            help="Of a validation split the half that calibration, and the check, were not fitted on.",
        ),
    ] = False,
    attacks: Annotated[str, typer.Option(metavar="NAMES", help="Of fgsm and pgd, with commas.")] = "fgsm,pgd",
    budgets: Annotated[
        str, typer.Option(metavar="LEVELS", help="Grey levels that a value may change by, with commas.")
    ] = "1,2,4,8",
    knows: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="What the attacker knows, with commas: the network, also the views of tta, also the check.",
        ),
    ] = "network",
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Of pgd.")] = 10,
    transfer_from: Annotated[
        str | None,
        typer.Option(
            "--transfer-from", metavar="M", help="Attack this detector too, and judge the crops with --model."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="People at most, of groups that are drawn.")] = 400,
    frames: Annotated[int, typer.Option(min=1, max=512, help="Crops of each person at most.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
    resamples: Resamples = 1000,
    device: Device = DeviceName.AUTO,
    jobs: PrepareJobs = None,
    cache: Cache = None,
) -> None:
    """Attack a detector with FGSM and PGD: clean against attacked figures, with and without defences.

    Example: deepscan attack --data data/dfdc-faces --split val --budgets 1,2,4,8 --out attacks/
    """
    from deepscan.errors import DeepscanError

    kinds, levels, known = _names(_ATTACKS, attacks), _budgets(budgets), _names(_KNOWS, knows)
    try:
        from deepscan.datasets.data import open_data
        from deepscan.detector import load_detector
        from deepscan.evaluate.evaluation_plots import check_folder
        from deepscan.evaluate.robustness.attack_evaluation import SCHEMA_ID, AttackMeasure
        from deepscan.evaluate.robustness.attack_tables import draw_curves, to_markdown
        from deepscan.files import check_folder as check_files
        from deepscan.files import json_of, write_atomically

        check_files(out, JSON_FILE, json_of(SCHEMA_ID), (TABLE_FILE, CURVES_FILE))
        check_folder(out)
        # What is attacked is a network in torch, and the same is to judge.
        settings = settings_of(device=device.value, runtime="torch")
        detector = load_detector(model, settings)
        other = None if transfer_from is None else load_detector(transfer_from, settings)
        interrupted = False
        with progress_of() as report:
            preparation = preparation_of(cache, jobs, report)
            wanted: Any = split.value if split else None
            samples = open_data(data, detector.card.crop, settings, split=wanted, preparation=preparation)
            if unseen_half:
                samples = _unseen(samples)
            measure = AttackMeasure(
                detector,
                samples,
                _attacks(kinds, levels, known, steps),
                transfer_from=other,
                frames=frames,
                limit=limit,
                seed=seed,
            )
            try:
                report("attack", 0, measure.n_people)
                for done in measure.run():
                    report("attack", done, measure.n_people)
            except KeyboardInterrupt:
                interrupted = True
        found = measure.evaluation([path.as_posix() for path in data], wanted, resamples)
        if found.people:
            write_atomically(out / JSON_FILE, (json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n").encode())
            write_atomically(out / TABLE_FILE, to_markdown(found).encode())
            draw_curves(found, out / CURVES_FILE)
            typer.echo(to_markdown(found), nl=False)
    except DeepscanError as error:
        fail_with(error)
    if interrupted:
        log.warning("Interrupted: the figures are of %d of %d people.", found.people, found.planned)
        raise typer.Exit(EXIT_INTERRUPTED)


def _unseen(samples: SampleSet) -> SampleSet:
    from deepscan.errors import ConfigError
    from deepscan.train.finalize import halved

    halves = halved(samples)
    if halves.same:
        raise ConfigError("--unseen-half is of no use here", "with so few groups calibration used all of the split")
    return halves.measure


def _attacks(kinds: list[str], levels: list[int], known: list[str], steps: int) -> list[Attack]:
    from deepscan.evaluate.robustness.attacks import Attack

    return [
        Attack.model_validate({"name": name, "budget": budget, "steps": steps, "knows": knowledge})
        for knowledge in known
        for name in kinds
        for budget in levels
    ]
