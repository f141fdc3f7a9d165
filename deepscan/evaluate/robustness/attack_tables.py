"""What a person reads of attacks: Markdown tables, and one picture of curves."""

from __future__ import annotations

from pathlib import Path

from deepscan.evaluate.metrics import MetricValue
from deepscan.evaluate.robustness.attack_evaluation import (
    DEFENCES,
    TITLES,
    AttackEvaluation,
    AttackRow,
    Condition,
    Defence,
)
from deepscan.evaluate.robustness.plots import Panel, plot_strengths
from deepscan.report.model_card import limits_text, markdown_table

_DEFENCE_TITLES: dict[Defence, str] = {"none": "one view", "tta": "TTA", "resize": "random resize"}
_SHARES = (
    "success", "fpr", "fnr", "coverage", "wrong", "wrong_unflagged", "flagged", "flagged_successes",
)  # fmt: skip


def to_markdown(found: AttackEvaluation) -> str:
    """Tables of all figures, GitHub-flavoured, ending with a line end."""
    where = ", ".join(found.data) + (f", split {found.split}" if found.split else "")
    head = [
        f"# {found.model['name']} {found.model['version']} under attack",
        f"{found.people:,} people of {found.groups:,} groups ({where}), at most {found.frames} crops each, "
        f"seed {found.seed}. Budgets are grey levels that a value may change by. In brackets: 95 % interval, "
        "bootstrapped by group.",
    ]
    if found.people < found.planned:
        head.append(f"Interrupted: {found.planned:,} people were planned.")
    parts = [*head, "## As deepscan answers: with test-time augmentation", _answers(found)]
    if found.check is not None:
        check = found.check
        parts.append(
            f"The check for attacked input fires from a change of the log-odds of {limits_text(check)}; it was fitted "
            f"for {100 * check.false_positive_rate:g} % of clean people."
        )
    else:
        parts.append("The detector has no check for attacked input.")
    return "\n\n".join([*parts, "## Defences side by side", _defences(found)]) + "\n"


def draw_curves(found: AttackEvaluation, path: Path) -> None:
    """AUC against the budget, one panel for each attack, one curve for each defence that was measured against it.

    Raises:
        OutputError: the file cannot be written.
        DeepscanError: matplotlib is not installed.
    """
    clean = {row.defence: row.figures["auc"] for row in found.rows if row.condition.attack is None}
    attacked: dict[str, dict[Defence, list[AttackRow]]] = {}
    for row in found.rows:
        attack, made_on = row.condition.attack, row.condition.made_on
        if attack is not None:
            name = str(attack).replace(f" {attack.budget}", "", 1) + (f", made on {made_on}" if made_on else "")
            attacked.setdefault(name, {}).setdefault(row.defence, []).append(row)
    panels = []
    for name, by_defence in attacked.items():
        longest = max(by_defence.values(), key=len)
        panels.append(
            Panel(
                name,
                "budget, grey levels of 255",
                ["none", *(str(row.condition.attack.budget) for row in longest if row.condition.attack is not None)],
                {
                    f"AUC, {_DEFENCE_TITLES[defence]}": [clean[defence], *(row.figures["auc"] for row in rows)]
                    for defence, rows in by_defence.items()
                    if len(rows) == len(longest)
                },
            )
        )
    plot_strengths(path, panels, floor=0.5, title=f"{found.model['name']} under attack")


def _answers(found: AttackEvaluation) -> str:
    rows = [row for row in found.rows if row.defence == "tta"]
    names = [name for name in ("auc", *_SHARES) if any(name in row.figures for row in rows)]
    return markdown_table(
        ("Crops", *(TITLES[name] for name in names)),
        [(str(row.condition), *(_cell(name, row.figures.get(name)) for name in names)) for row in rows],
    )


def _defences(found: AttackEvaluation) -> str:
    at: dict[tuple[Condition, Defence], AttackRow] = {(row.condition, row.defence): row for row in found.rows}
    names = ("auc", "success")
    header = [f"{TITLES[name]}, {_DEFENCE_TITLES[defence]}" for name in names for defence in DEFENCES]
    body = [
        (
            str(condition),
            *(_cell(name, at[condition, defence].figures.get(name)) for name in names for defence in DEFENCES),
        )
        for condition in dict.fromkeys(row.condition for row in found.rows)
    ]
    return markdown_table(("Crops", *header), body)


def _cell(name: str, value: MetricValue | None) -> str:
    if value is None or value.value is None:
        return "-"
    if name == "auc":
        interval = "" if value.low is None or value.high is None else f" ({value.low:.3f} to {value.high:.3f})"
        return f"{value.value:.3f}{interval}"
    interval = "" if value.low is None or value.high is None else f" ({100 * value.low:.0f} to {100 * value.high:.0f})"
    return f"{100 * value.value:.1f} %{interval}"
