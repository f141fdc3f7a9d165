"""Write the README's transcript and figures anew, from a run over the samples and from the default detector's card.

python scripts/update_readme.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from deepscan.models.card import Card
from deepscan.models.checkpoint import DEFAULT_DETECTOR, SHIPPED_ROOT, load_card
from deepscan.text import limit_percent

README = Path(__file__).parent.parent / "README.md"
FEW = 20  # files: fewer say nothing
MOST_ROWS = 6
TITLES = {
    "dfdc: half": "DFDC faces, the half of validation that calibration did not see",
    "forgeries: half": "Stills of generators that were trained on, the same half",
    "forgeries: test": "Stills of sources and generators held out",
    "forgery_clips: test": "Clips of generators held out",
}
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
    """The parts of the held-out data that have fakes in at most six rows, its reals in a sentence."""
    low, high = card.calibration.band
    rows = [row for evaluation in card.evaluations if (row := part_row(evaluation))]
    return "\n".join(
        [
            f"`{card.name}` {card.version} ({card.backbone}, {card.head}), on data held out of training, 95 % "
            f'intervals by group. It answers "real" up to {limit_percent(low)}, "fake" from {limit_percent(high)}.',
            "",
            "| Held out | n | AUC | Answered | Answered reals called fake | Answered fakes called real |",
            "|---|---|---|---|---|---|",
            *rows[:MOST_ROWS],
            "",
            real_sources(card),
        ]
    )


def part_row(evaluation: dict[str, Any]) -> str | None:
    """A row for one part; None for one that pools sources, or has too few files to say anything."""
    measured = evaluation["figures"]
    title = next((title for start, title in TITLES.items() if evaluation["part"].startswith(start)), None)
    if title is None or measured["auc"]["n"] < FEW:
        return None
    cells = [title, str(measured["auc"]["n"])]
    for name in ("auc", "coverage", "error_answered_real", "error_answered_fake"):
        value = measured[name]
        cells.append(f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})")
    return f"| {' | '.join(cells)} |"


def real_sources(card: Card) -> str:
    """How many reals of each held-out source were called fake, small sources together."""
    (test,) = (evaluation for evaluation in card.evaluations if evaluation["part"] == "test")
    counts: dict[str, list[int]] = {}
    for row in test["answers"]:
        if row["label"] == 0:
            source = row["source"]
            name = source.rpartition("/")[2] if source.startswith("forgeries/") else source.partition("/")[0]
            sums = counts.setdefault(name.replace("_", " "), [0, 0])
            sums[0], sums[1] = sums[0] + row["fake"], sums[1] + row["n"]
    sources = ", ".join(f"{name} {fake} of {n}" for name, (fake, n) in counts.items())
    return f"Genuine pictures and clips that trained nothing, called fake: {sources}."


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
