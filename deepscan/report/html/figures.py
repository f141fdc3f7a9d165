"""Drawings for the page as inline SVG: no script, no colour that a word, shape or pattern does not repeat.

Numbers and our own words only: nothing from a file gets in here. Colours are classes of the page's style sheet, so that
they follow light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

from deepscan import text as texts
from deepscan.explain.timeline import PersonSeries, Timeline
from deepscan.types import VerdictLabel

# More would lie on top of each other; of every stretch the lowest and the highest value are kept.
MOST_POINTS = 400
MOST_SEGMENTS = 60
_WIDTH, _LEFT, _RIGHT = 720, 64, 708
_TOP, _BASE = 26, 132
_LANE_PX, _IMPORTANCE_PX = 26, 54
_MARK_PX = 3.5
_TICKS = (0.5, 1.0, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)

BETWEEN = "uncertain"
WORDS: dict[VerdictLabel, str] = {
    VerdictLabel.FAKE: "fake",
    VerdictLabel.REAL: "real",
    VerdictLabel.UNCERTAIN: "uncertain",
    VerdictLabel.NOT_APPLICABLE: "no answer",
    VerdictLabel.ERROR: "error",
}


def percent(probability: float, band: tuple[float, float] | None = None) -> str:
    """:func:`deepscan.text.percent`, on one line."""
    return texts.percent(probability, band).replace(" ", "\u00a0")


def clock(seconds: float, *, tenths: bool = True) -> str:
    """A time in a video: "3.2 s", "1:05.0", "2:03:04.0"."""
    if seconds < 60:
        return f"{seconds:.1f} s" if tenths else f"{seconds:g} s"
    shown = round(seconds, 1) if tenths else round(seconds)
    minutes, rest = divmod(shown, 60)
    hours, minutes = divmod(int(minutes), 60)
    last = f"{rest:04.1f}" if tenths else f"{int(rest):02}"
    return f"{hours}:{minutes:02}:{last}" if hours else f"{minutes}:{last}"


def gauge(probability: float, band: tuple[float, float], threshold: float) -> Markup:
    """A probability on the scale from real to fake, with the limits between which no answer is given."""
    low, high = band if band[0] < band[1] else (threshold, threshold)
    x, shown = _across(probability), percent(probability, band)
    zones = (("zone-real", 0.0, low), ("band", low, high), ("zone-fake", high, 1.0))
    parts = [_rect(kind, _across(a), 22, _across(b) - _across(a), 16) for kind, a, b in zones if b > a]
    if low > 0:
        parts.append(_text("tick", 0, 58, f"real up to {texts.limit_percent(low)}" if low < high else "real", "start"))
    if low < high:
        parts.append(_text("tick", _WIDTH / 2, 58, BETWEEN))
    if high < 1:
        parts.append(_text("tick", _WIDTH, 58, f"fake from {texts.limit_percent(high)}", "end"))
    parts += [
        f'<path class="mark" d="M{_n(x)} 40l-8 -17h16z"/>',
        _text("value", min(max(x, 30), _WIDTH - 30), 15, shown),
    ]
    rule = texts.answer_rule(threshold, band, BETWEEN)
    return _svg(64, f"P(fake) {shown} on a scale from real to fake; {rule}.", parts, "gauge")


def chart(series: PersonSeries, line: Timeline, importance: Sequence[tuple[float, float]] = (), *, name: str) -> Markup:
    """One person's probability over time, with gaps, segments and, where known, what each frame does to the answer.

    It has a scale of its own: the band of the answer was fitted to whole videos and says nothing about single frames.

    Args:
        series: of the person.
        line: of the whole input.
        importance: time in seconds and log-odds.
        name: of the person, for those who cannot see it.
    """
    end = line.duration_s or 1.0
    parts: list[str] = []
    labels = [_text("tick", _LEFT, _TOP - 10, "P(fake) of single frames, each on its own", "start")]
    for share in (0.0, 0.5, 1.0):
        y = _up(share)
        parts.append(_line("grid", _LEFT, y, _RIGHT, y))
        labels.append(_text("tick", _LEFT - 6, y + 4, f"{100 * share:.0f} %", "end"))
    for gap in series.gaps:
        x, width = _along(gap[0], end), _along(gap[1], end) - _along(gap[0], end)
        parts.append(_rect("gap", x, _TOP, width, _BASE - _TOP))
        if width > 110:
            labels.append(_text("tick", x + width / 2, _BASE - 6, "not seen"))
    for start_s, end_s in _seen_segments(series):
        x = _along(start_s, end)
        parts.append(_rect("segment", x, _TOP, max(2.0, _along(end_s, end) - x), _BASE - _TOP))
    for start, stop in series.pieces:
        points = _thinned(list(zip(series.times_s[start:stop], series.probabilities[start:stop], strict=True)))
        path = "".join(f"{'ML'[i > 0]}{_n(_along(t, end))} {_n(_up(p))}" for i, (t, p) in enumerate(points))
        parts.append(f'<path class="line" d="{path}"/>')
        if len(points) <= 64:
            parts += [f'<circle class="dot" cx="{_n(_along(t, end))}" cy="{_n(_up(p))}" r="2.5"/>' for t, p in points]
    parts += [*labels, *_time_axis(end, _BASE)]
    if importance:
        parts += _bars(importance, end, _BASE + 38)
    height = _BASE + 30 + (_IMPORTANCE_PX + 8 if importance else 0)
    return _svg(height, _chart_words(series, line, name, bool(importance)), parts, "chart", end_s=end)


def lanes(line: Timeline, *, name: str) -> Markup:
    """Who is seen when: a lane for each person, hatched where it looks manipulated."""
    end = line.duration_s or 1.0
    parts: list[str] = []
    descriptions = []
    for row, series in enumerate(line.people):
        y = 8 + row * _LANE_PX
        parts.append(_text("tick", _LEFT - 6, y + 13, f"{series.id}", "end"))
        for start, stop in series.pieces:
            x = _along(series.times_s[start], end)
            parts.append(_rect("seen", x, y, max(3.0, _along(series.times_s[stop - 1], end) - x), 16))
        for start_s, end_s in _seen_segments(series):
            x = _along(start_s, end)
            parts.append(_rect("segment", x, y, max(3.0, _along(end_s, end) - x), 16))
        spans = ", ".join(f"{clock(s.start_s)} to {clock(s.end_s)}" for s in series.segments[:6])
        span = f"{clock(series.times_s[0])} to {clock(series.times_s[-1])}"
        seen = f"person {series.id} from {span}, {WORDS[series.verdict]}"
        descriptions.append(seen + (f", looks manipulated {spans}" if spans else ""))
    base = 8 + len(line.people) * _LANE_PX
    parts += _time_axis(end, base)
    return _svg(base + 30, f"{name}: {'; '.join(descriptions[:24])}.", parts, "chart", end_s=end)


def histogram(
    groups: Sequence[tuple[str, Sequence[float]]], ticks: Sequence[tuple[float, str]], *, label: str
) -> Markup:
    """Groups of values over one axis, drawn on top of each other.

    Args:
        groups: name, which is the class of its outline, and the share of its values in each bin; all have the same
            number of bins.
        ticks: place along the axis in [0, 1], and what is written there.
        label: for those who cannot see it.
    """
    left, right, top, base = 36.0, 300.0, 8.0, 116.0
    most = max(share for _, shares in groups for share in shares)
    step = round_step(most / 2)
    parts = []
    for number in range(1, int(most / step + 1e-9) + 1):
        y = base - (base - top) * number * step / most
        parts += [_line("grid", left, y, right, y)]
        parts += [_text("tick", left - 5, y + 4, f"{round(100 * number * step, 3):g} %", "end")]
    for name, shares in groups:
        width = (right - left) / len(shares)
        steps = "".join(
            f"V{_n(base - (base - top) * share / most)}H{_n(left + (i + 1) * width)}" for i, share in enumerate(shares)
        )
        parts.append(f'<path class="bars {escape(name)}" d="M{_n(left)} {_n(base)}{steps}V{_n(base)}"/>')
    parts.append(_line("axis", left, base, right, base))
    for position, text in ticks:
        x = left + (right - left) * position
        parts += [_line("axis", x, base, x, base + 4), _text("tick", x, base + 17, text)]
    return _svg(140, label, parts, "histogram", width=320)


def round_step(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is at most ``most``."""
    power = 10.0 ** math.floor(math.log10(most) + 1e-9)
    return power * next((factor for factor in (5, 2) if factor * power <= most * (1 + 1e-9)), 1)


def _chart_words(series: PersonSeries, line: Timeline, name: str, importance: bool) -> str:
    low, high = min(series.probabilities), max(series.probabilities)
    at = series.times_s[series.probabilities.index(high)]
    words = [
        f"P(fake) of {name} over {clock(line.duration_s)}: {len(series.times_s)} frames between {percent(low)} and "
        f"{percent(high)}, highest at {clock(at)}"
    ]
    words += [f"looks manipulated from {clock(s.start_s)} to {clock(s.end_s)}" for s in series.segments[:6]]
    words += [f"not seen from {clock(a)} to {clock(b)}" for a, b in series.gaps[:6]]
    if importance:
        words.append("below it, bars show which frames speak for fake (up) and for real (down)")
    return "; ".join(words) + "."


def _seen_segments(series: PersonSeries) -> Iterator[tuple[float, float]]:
    """Start and end in seconds of what looks manipulated, cut to the stretches in which the face was seen."""
    for segment in series.segments[:MOST_SEGMENTS]:
        for start, stop in series.pieces:
            start_s = max(segment.start_s, series.times_s[start])
            end_s = min(segment.end_s, series.times_s[stop - 1])
            if start_s <= end_s:
                yield start_s, end_s


def _bars(importance: Sequence[tuple[float, float]], end: float, top: float) -> list[str]:
    values = [(t, v) for t, v in importance if math.isfinite(v)]
    most = max((abs(v) for _, v in values), default=0.0) or 1.0
    middle, half = top + _IMPORTANCE_PX / 2, _IMPORTANCE_PX / 2 - 4
    width = max(1.0, min(8.0, 0.6 * (_RIGHT - _LEFT) / max(1, len(values))))
    parts = [
        _line("grid", _LEFT, middle, _RIGHT, middle),
        _text("tick", _LEFT - 6, middle - half + 8, "fake", "end"),
        _text("tick", _LEFT - 6, middle + half + 3, "real", "end"),
    ]
    for kind, sign in (("for-fake", 1), ("for-real", -1)):
        sizes = [(_along(t, end) - width / 2, half * v / most) for t, v in _thinned(values) if v * sign > 0]
        path = "".join(f"M{_n(x)} {_n(middle)}v{_n(-size)}h{_n(width)}v{_n(size)}z" for x, size in sizes)
        parts.append(f'<path class="{kind}" d="{path}"/>' if path else "")
    return parts


def _time_axis(end: float, line_y: float) -> list[str]:
    step = next((tick for tick in _TICKS if end / tick <= 6), math.ceil(end / 36_000) * 3600.0)
    parts = [_line("axis", _LEFT, line_y, _RIGHT, line_y)]
    for number in range(int(end / step + 1e-9) + 1):
        x = _along(number * step, end)
        parts.append(_line("axis", x, line_y, x, line_y + 4))
        parts.append(_text("tick", min(x, _RIGHT - 8), line_y + 24, clock(number * step, tenths=False)))
    return parts


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most :data:`MOST_POINTS` points, of every stretch the lowest and the highest in their order."""
    if len(points) <= MOST_POINTS:
        return points
    kept = []
    size = -(-len(points) // (MOST_POINTS // 2))
    for start in range(0, len(points), size):
        part = points[start : start + size]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept


def _along(time_s: float, end: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * min(max(time_s / end, 0.0), 1.0)


def _across(probability: float) -> float:
    return _WIDTH * min(max(probability, 0.0), 1.0)


def _up(probability: float) -> float:
    return _BASE - (_BASE - _TOP) * min(max(probability, 0.0), 1.0)


def _n(value: float) -> str:
    return f"{round(value, 1):g}"


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0))}" height="{_n(max(height, 0))}"/>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def _text(kind: str, x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(
    height: float, label: str, parts: Sequence[str], kind: str, width: int = _WIDTH, end_s: float | None = None
) -> Markup:
    """With ``end_s`` the drawing says which part of its width, from 0 to 1, stands for the time up to it."""
    times = (
        f' data-end-s="{end_s:g}" data-left="{_LEFT / width:.4f}" data-right="{_RIGHT / width:.4f}"' if end_s else ""
    )
    return Markup(  # noqa: S704 - made of numbers and escaped words only
        f'<svg class="{kind}" viewBox="0 0 {width} {_n(height)}" role="img" aria-label="{escape(label)}"{times}>'
        + "".join(parts)
        + "</svg>"
    )
