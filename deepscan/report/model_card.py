"""The page of a detector: ``card.json`` as Markdown for a person. It states what the card states, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from deepscan.models.card import ATTACK_CHECK_FIRED, FIGURE_TITLES, AttackCheck, Card, DetectorCard
from deepscan.text import answer_rule, limit_percent, percent

_VERDICTS = ("fake", "real", "uncertain", "not_applicable", "error")
_LABELS = {0: "real", 1: "fake"}


def model_card_markdown(card: Card) -> str:
    """The page, GitHub-flavoured Markdown that ends with a line end.

    Args:
        card: of a detector or an ensemble.
    """
    parts = [
        f"# Model card: {card.name} {card.version}",
        "Made from the detector's `card.json` by `deepscan card`. All figures were measured; intervals are 95 %.",
        *_what(card),
        "## What it must not be used for, and known failures",
        _bullets(card.limits),
        *_answers_mean(card),
        "## Data",
        _data(card.data),
    ]
    for evaluation in card.evaluations:
        parts += _evaluation(evaluation, card.calibration.band)
    if not card.evaluations and card.metrics:
        rows = [(name, _number(m.value), _interval(m.low, m.high), str(m.n)) for name, m in card.metrics.items()]
        parts += ["## Measured", markdown_table(("Figure", "Value", "95 % interval", "n"), rows)]
    parts += _recipe(card.training)
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(card: Card) -> list[str]:
    rows = [
        ("Made", card.created or "not said"),
        ("Network", f"{getattr(card, 'backbone', '')} + {getattr(card, 'head', '')}"),
        ("Input", f"{card.crop.size_px} px crops, margin {card.crop.margin:g}, aligned: {card.crop.align}"),
        ("Weights, sha256", f"`{card.weights_sha256}`"),
        ("Trained", "yes" if card.trained else "no: random weights, its scores say nothing"),
    ]
    if isinstance(card, DetectorCard):
        rows.insert(3, ("Normalisation", f"mean {_triple(card.mean)}, deviation {_triple(card.std)} of RGB in 0 to 1"))
    return ["## What it is", markdown_table(("", ""), rows)]


def _answers_mean(card: Card) -> list[str]:
    c = card.calibration
    lines = [
        f"P(fake) = 1 / (1 + exp(-({c.scale:.4g} x logit {_signed(c.bias)}))) for a person, and "
        f"1 / (1 + exp(-({c.frame_scale:.4g} x logit {_signed(c.frame_bias)}))) for a single frame.",
        f"Answers: {answer_rule(c.threshold, c.band)}. Accuracy, FPR and FNR force an answer on everything: "
        f"fake from {limit_percent(c.threshold)}. A file without a usable face is `not_applicable`.",
        _must_see(card),
    ]
    notes = card.training.get("calibration_notes") or []
    return ["## What its answers mean", "\n".join(lines), _bullets(str(note) for note in notes), *_attacks(card)]


def _must_see(card: Card) -> str:
    """Below what a face is not judged."""
    limits = card.visibility
    if limits is None:
        return "Of the faces that are found only nearly black ones are not judged."
    return (
        f"A face is not judged below a luma of {limits.luma:.1f} of 255 (`too_dark`), a sharpness of "
        f"{limits.sharpness:.3f} (`too_blurred`), a detail of {limits.detail:.3f} (`too_compressed`) or "
        f"{limits.face_px:.0f} px (`face_too_small`), fitted on validation crops that were made worse."
    )


def _attacks(card: Card) -> list[str]:
    """The check for attacked input, and how often it was seen to fire."""
    check = card.attack_check
    if check is None:
        return ["There is no check for attacked input."]
    text = (
        "Check for attacked input (`--attack-check`, off by default): where a person's log-odds move by "
        f"{limits_text(check)}, measured on up to {check.crops} of their crops, the answer is `uncertain`, reason "
        f"`possible_attack`. It was fitted for {100 * check.false_positive_rate:g} % of clean people."
    )
    rows = [
        (name.removeprefix(ATTACK_CHECK_FIRED).strip(", "), _number(m.value), _interval(m.low, m.high), str(m.n))
        for name, m in card.metrics.items()
        if name.startswith(ATTACK_CHECK_FIRED)
    ]
    return [text, markdown_table(("It fired on", "Share", "95 % interval", "n"), rows)] if rows else [text]


def _data(rows: Sequence[Mapping[str, str]]) -> str:
    held = any("held_out" in row for row in rows)
    header = ("Source", "What it is", "Faces", *(("Groups of the test split",) if held else ()), "Terms")
    body = [
        (
            row.get("name", ""),
            row.get("about", ""),
            row.get("use", ""),
            *((row.get("held_out", ""),) if held else ()),
            row.get("terms", ""),
        )
        for row in rows
    ]
    return markdown_table(header, body)


def _evaluation(evaluation: Mapping[str, Any], band: tuple[float, float]) -> list[str]:
    figures = [
        (FIGURE_TITLES.get(name, name), _number(v["value"]), _interval(v.get("low"), v.get("high")), str(v["n"]))
        for name, v in evaluation["figures"].items()
    ]
    parts = [f"## Measured: {evaluation['part']}", markdown_table(("Figure", "Value", "95 % interval", "n"), figures)]
    answers = [
        (row["source"], _LABELS[row["label"]], str(row["n"]), *(str(row.get(v, 0)) for v in _VERDICTS))
        for row in evaluation["answers"]
    ]
    parts += [
        "### Answers",
        markdown_table(("Source", "Label", "n", *(v.replace("_", " ") for v in _VERDICTS)), answers),
    ]
    rows: list[tuple[str, ...]]
    header: tuple[str, ...]
    if evaluation.get("shortcuts"):
        rows = [
            (f"{row['one']} above {row['other']}", _number(row["auc"]), f"{row['n_one']} and {row['n_other']}")
            for row in evaluation["shortcuts"]
        ]
        parts += [
            "### Real sources that the score tells apart most (0.5 is not at all)",
            markdown_table(("Reals of", "AUC", "n"), rows),
        ]
    parts += _groups(evaluation["tables"], evaluation.get("differences", ()))
    if evaluation["reliability"]:
        rows = [
            (_number(b["probability"]), _number(b["share"]), _interval(b["low"], b["high"]), str(b["n"]))
            for b in evaluation["reliability"]
        ]
        header = ("Mean P(fake)", "Share that is fake", "95 % interval", "n")
        parts += ["### Calibration curve", markdown_table(header, rows)]
    if evaluation["videos"]:
        rows = [
            (v["source"], v["video"], _LABELS[v["label"]] + (f" ({v['method']})" if v["label"] else ""),
             percent(v["probability"], band), v["verdict"])
            for v in evaluation["videos"]
        ]  # fmt: skip
        header = ("Source", "Video", "It is", "P(fake)", "Answer")
        parts += ["### Small sources, video by video, most suspicious first", markdown_table(header, rows)]
    if evaluation["warnings"]:
        parts += ["### Mind", _bullets(evaluation["warnings"])]
    return parts


def _groups(rows: Sequence[Mapping[str, Any]], differences: Sequence[str]) -> list[str]:
    """The parts of the data by what it was cut by, the worst first, and what their difference says."""
    if not rows:
        return []
    parts = ["### Where it fails, the worst first"]
    if any(row["by"] in ("method", "family") for row in rows):
        parts.append(
            "Reals beside a method or family are those of the same sources: its fakes are ranked against them."
        )
    names = ("coverage", "error_answered_real", "error_answered_fake", "real_called_fake", "auc")
    header = ("Part", "Reals", "Fakes", "Answered", "Answered reals called fake", "Answered fakes called real",
              "Of all reals called fake", "AUC")  # fmt: skip
    for by in dict.fromkeys(row["by"] for row in rows):
        of_column = [row for row in rows if row["by"] == by]
        cells, small = [], []
        for row in of_column:
            coverage = row.get("coverage") or {}
            if coverage.get("value") is None:
                small.append((row["name"], coverage.get("n", row["n_real"] + row["n_fake"])))
            else:
                counts = str(row["n_real"]), str(row["n_fake"])
                cells.append((row["name"], *counts, *(_with_interval(row.get(name)) for name in names)))
        parts.append(f"By {by}:")
        parts += [markdown_table(header, cells)] if cells else []
        parts += [too_small(small)] if small else []
    return [*parts, _bullets(differences)]


def too_small(parts: Sequence[tuple[str, int]], most: int = 12) -> str:
    """The parts of which nothing is said, with their counts, the largest first; empty without any."""
    named = [f"{name} ({n})" for name, n in sorted(parts, key=lambda part: (-part[1], part[0]))]
    rest = [f"{len(named) - most} more"] if len(named) > most else []
    return f"Too few to tell: {', '.join([*named[:most], *rest])}." if named else ""


def _recipe(training: Mapping[str, Any]) -> list[str]:
    plain = {key: value for key, value in training.items() if key not in ("recipe", "calibration_notes")}
    parts = ["## How it was trained"]
    if plain:
        parts.append(_bullets(f"{key.replace('_', ' ')}: {value}" for key, value in plain.items()))
    recipe = training.get("recipe")
    if isinstance(recipe, Mapping):
        parts.append("```yaml\n" + yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True).rstrip() + "\n```")
    elif recipe:
        parts.append(str(recipe))
    return parts if len(parts) > 1 else []


def limits_text(check: AttackCheck) -> str:
    """The limits of a check for attacked input, in words."""
    names = {
        "bits": f"colours of {check.bits} bits",
        "median": f"a median of {check.median_px} px",
        "denoise": f"non-local means of strength {check.denoise:g}",
    }
    return " or ".join(f"{limit:.3g} under {names[name]}" for name, limit in check.limits.items())


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A GitHub-flavoured table; texts of any kind stay in their cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _with_interval(value: Mapping[str, Any] | None) -> str:
    if value is None or value.get("value") is None:
        return "-"
    interval = _interval(value.get("low"), value.get("high"))
    return _number(value["value"]) + ("" if interval == "-" else f" ({interval})")


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'} {abs(value):.4g}"


def _triple(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
