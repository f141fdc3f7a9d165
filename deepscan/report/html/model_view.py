"""Extract of the model card for the page: what it is, how good it was, what it must not be used for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deepscan.models.card import FIGURE_TITLES, Card
from deepscan.report.html.figures import BETWEEN
from deepscan.report.html.view_models import settings_sha256
from deepscan.report.html.views import ModelView, Row
from deepscan.text import answer_rule
from deepscan.types import ModelInfo

_MOST_FIGURES, _MOST_SETTINGS = 14, 60
_FEWEST_FILES = 20  # a figure of fewer says next to nothing: it stays in the card
_EXPLAINED = {
    "auc": "how well it ranks fakes above reals (1 is perfect, 0.5 is chance)",
    "accuracy": "right at the threshold, had it to answer always",
    "balanced_accuracy": "the same, reals and fakes counting alike",
}
_LIMITS = (
    "This report is a lead, not a proof. Do not decide about a person by it alone.",
    "“Real” means that no sign of a manipulation was found that this detector knows. A new kind may look real to it.",
    "“Fake” can be wrong: strong compression, filters, make-up, small or blurred faces can look like a manipulation.",
    "File facts and tags are easily changed, and are lost on most platforms. None of them proves anything.",
)


def model_view(model: ModelInfo, card: Card | None, version: str, json_name: str, json_sha256: str) -> ModelView:
    """The model and the run.

    Args:
        model: of the report.
        card: of the model; None where it is not at hand, then only what the report says is shown.
        version: of deepscan.
        json_name, json_sha256: of the report beside the page.
    """
    figures_of, figures = _figures(card)
    return ModelView(
        name=f"{model.name} {model.version}",
        trained=model.trained,
        about=tuple(_about(model, card)),
        figures=figures,
        figures_of=figures_of,
        data=tuple(
            (row.get("name", ""), row.get("use", ""), row.get("terms", "")) for row in (card.data if card else ())
        ),
        limits=(*_LIMITS, *(card.limits if card else ())),
        settings=tuple(_flat(model.settings))[:_MOST_SETTINGS],
        hashes=(
            ("Model weights, sha256", model.sha256 or "none: random weights"),
            ("Settings, sha256", settings_sha256(model)),
            (f"{json_name}, sha256", json_sha256),
            ("deepscan", version),
        ),
    )


def _about(model: ModelInfo, card: Card | None) -> Iterator[Row]:
    yield "Detector", f"{model.name} {model.version}"
    yield "Network", f"{model.backbone} + {model.head}"
    if card is not None:
        yield "Made", card.created or "not said"
        yield "Looks at", f"faces of {card.crop.size_px} x {card.crop.size_px} px, cut with margin {card.crop.margin:g}"
    low, high = model.uncertain_band
    rule = answer_rule(model.threshold, model.uncertain_band, BETWEEN)
    yield "Answers", rule if high > low else f"{rule}: a threshold chosen by the user"
    yield "Trained", "yes" if model.trained else "no: random weights, its scores say nothing"


def _figures(card: Card | None) -> tuple[str, tuple[tuple[str, str, str], ...]]:
    """What was measured: the last evaluation, as it is of data that calibration never saw, else the plain figures."""
    if card is None:
        return "", ()
    if card.evaluations:
        last = card.evaluations[-1]
        figures: Mapping[str, Any] = last.get("figures") or {}
        rows = (
            (_title(name), v.get("value"), v.get("low"), v.get("high"), v.get("n"))
            for name, v in figures.items()
            if _enough(v.get("n"))
        )
        return str(last.get("part", "")), tuple(_row(*row) for row in rows)[:_MOST_FIGURES]
    plain = ((name, m.value, m.low, m.high, m.n) for name, m in card.metrics.items() if _enough(m.n))
    return "", tuple(_row(*row) for row in plain)[:_MOST_FIGURES]


def _enough(n: int | None) -> bool:
    return n is None or n >= _FEWEST_FILES


def _title(name: str) -> str:
    title = FIGURE_TITLES.get(name, name)
    return f"{title}: {_EXPLAINED[name]}" if name in _EXPLAINED else title


def _row(name: str, value: Any, low: Any, high: Any, n: Any) -> tuple[str, str, str]:
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return name, "" if value is None else f"{value:.3f}{interval}", "" if n is None else f"{n:,}"


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[Row]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
