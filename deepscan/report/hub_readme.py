"""The README.md of a detector's repository on the Hugging Face Hub: its card below what the Hub's search reads."""

from __future__ import annotations

import re

from deepscan.errors import import_extra
from deepscan.models.card import FIGURE_TITLES, Card
from deepscan.report.model_card import model_card_markdown
from deepscan.version import DISTRIBUTION

TASK = "video-classification"
_FIGURES = ("auc", "eer", "coverage", "error_answered_real", "error_answered_fake")


def hub_readme(card: Card, repository: str, licence: str | None = None) -> str:
    """Markdown that begins with the Hub's front matter.

    Args:
        card: of the detector; every figure in the front matter is one of its.
        repository: ``user/name``.
        licence: of the weights, as the Hub writes it (``mit``, ``cc-by-4.0``); the card does not say.

    Raises:
        DeepscanError: huggingface_hub is not installed.
    """
    hub = import_extra("huggingface_hub", "The README cannot be made", "huggingface_hub", extra="hub")
    figures = [
        hub.EvalResult(
            task_type=TASK,
            task_name="Deepfake detection",
            dataset_type=_slug(part),
            dataset_name=part,
            metric_type=name,
            metric_name=f"{FIGURE_TITLES.get(name, name)}{_interval(low, high)}, n = {n}",
            metric_value=value,
        )
        for part, name, value, low, high, n in _figures(card)
    ]
    front = hub.ModelCardData(
        model_name=f"{card.name} {card.version}",
        pipeline_tag=TASK,
        library_name="deepscan",
        license=licence,
        tags=["deepfake-detection", "video-forensics", "deepscan"],
        datasets=list(dict.fromkeys(_slug(source["name"]) for source in card.data if source.get("name"))) or None,
        metrics=list(dict.fromkeys(figure.metric_type for figure in figures)) or None,
        eval_results=figures or None,
    )
    use = f"    pip install '{DISTRIBUTION}[hub]'\n    deepscan predict --model hf:{repository} clip.mp4\n"
    return f"---\n{front.to_yaml()}\n---\n\n{use}\n{model_card_markdown(card)}"


def _figures(card: Card) -> list[tuple[str, str, float, float | None, float | None, int]]:
    found = []
    for evaluation in card.evaluations:
        for name in _FIGURES:
            figure = evaluation.get("figures", {}).get(name)
            if figure and figure.get("value") is not None:
                place = (figure.get("low"), figure.get("high"), figure["n"])
                found.append((str(evaluation.get("part", "")), name, figure["value"], *place))
    if not found:
        found = [(card.name, _slug(name), m.value, m.low, m.high, m.n) for name, m in card.metrics.items()]
    return found


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" (95 % interval {low:.3f} to {high:.3f})"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "unnamed"
