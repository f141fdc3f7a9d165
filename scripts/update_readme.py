"""Write the README's transcript and figures anew, from a run over the samples and from the default detector's card.

python scripts/update_readme.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from deepscan.models.card import FIGURE_TITLES, Card
from deepscan.models.checkpoint import DEFAULT_DETECTOR, SHIPPED_ROOT, load_card
from deepscan.text import limit_percent

README = Path(__file__).parent.parent / "README.md"
COMMAND = ["predict", "data/samples/"]


def transcript() -> str:
    """What the README's first command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "deepscan.cli", *COMMAND],
        cwd=README.parent,
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = "\n".join(line.rstrip() for line in done.stdout.splitlines())
    return f"```\n$ deepscan {' '.join(COMMAND)}\n{lines}\n```"


def figures(card: Card) -> str:
    """The card's figures as a table, its promise and its limits."""
    low, high = card.calibration.band
    rows = [
        f"| {name} | {m.value:.3f} | {m.low:.3f} to {m.high:.3f} | {m.n} |"
        for name, m in card.metrics.items()
        if m.low is not None and m.high is not None
    ]
    return "\n".join(
        [
            f"Model `{card.name}` {card.version}, {card.backbone} with {card.head}, measured on",
            "data held out of training; intervals are bootstrap 95 %, resampled by group. `val` is the half of the",
            "validation split on which neither the probabilities nor the uncertain band",
            f"({limit_percent(low)} to {limit_percent(high)}) were fitted. By source, face size, light and video: the",
            "[model card](docs/model-card.md).",
            "",
            "| Measured | Value | 95 % interval | n |",
            "|---|---|---|---|",
            *rows,
            "",
            "What it called faces that it had never seen, in numbers of people and pictures:",
            "",
            "| Source | It is | n | fake | real | uncertain |",
            "|---|---|---|---|---|---|",
            *answers(card),
            "",
            *error_rates(card),
            "",
            "What limits these figures:",
            "",
            *(f"- {limit}" for limit in card.limits),
        ]
    )


def answers(card: Card) -> list[str]:
    """Of the evaluations over all sources, a row for each source and label."""
    told: dict[tuple[str, str], str] = {}
    for evaluation in card.evaluations:
        for row in evaluation["answers"]:
            label = "fake" if row["label"] else "real"
            key = f"{row['source']}, {evaluation['part'].rpartition(': ')[2].partition(',')[0]}", label
            told[key] = f"| {' | '.join(key)} | {row['n']} | {row['fake']} | {row['real']} | {row['uncertain']} |"
    return list(told.values())


def error_rates(card: Card) -> list[str]:
    """Of the same evaluations, how often the answers that were given are wrong."""
    told = []
    for evaluation in card.evaluations:
        part = evaluation["part"]
        for name in ("error_answered_real", "error_answered_fake"):
            found = evaluation["figures"].get(name)
            if found and ": " not in part:
                interval = "" if found["low"] is None else f" ({found['low']:.3f} to {found['high']:.3f})"
                told.append(f"- {FIGURE_TITLES[name]}: {found['value']:.3f}{interval}, n = {found['n']}; {part}.")
    return told


def main() -> None:
    """Replace what stands between the markers."""
    text = README.read_text(encoding="utf-8")
    card = load_card(SHIPPED_ROOT / DEFAULT_DETECTOR)
    for start, end, body in (
        ("<!-- transcript: deepscan predict data/samples/ -->", "<!-- end of transcript -->", transcript()),
        ("<!-- figures -->", "<!-- end of figures -->", figures(card)),
    ):
        pattern = re.compile(re.escape(start) + r".*?" + re.escape(end), re.DOTALL)
        text = pattern.sub(lambda _, new=f"{start}\n{body}\n{end}": new, text)
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
