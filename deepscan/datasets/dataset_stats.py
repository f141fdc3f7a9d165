"""What a manifest says of a corpus: how many videos of which kind, what was lost, and what to be warned of."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from deepscan.datasets.readers.base import FAKE, REAL, SPLITS
from deepscan.datasets.store.manifest import ManifestRow

LABEL_NAMES = {REAL: "real", FAKE: "fake"}

_IMBALANCE = 0.65
_MANY_LOST = 0.1
_LOST_GAP = 0.1
_FEW = 20


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of videos, and of people in them.

    Attributes:
        videos: all.
        ok, skipped, failed: by status.
        people: tracks in those that are ok.
    """

    videos: int = 0
    ok: int = 0
    skipped: int = 0
    failed: int = 0
    people: int = 0


@dataclass(frozen=True, slots=True)
class CorpusCounts:
    """The counts of a manifest.

    Attributes:
        total: of all rows.
        kinds: by (dataset, method, label, split), sorted; label is a name, split empty where none was assigned.
        usable: by split and label, the videos that are ok; splits without any are left out.
    """

    total: Counts
    kinds: tuple[tuple[tuple[str, str, str, str], Counts], ...]
    usable: tuple[tuple[str, dict[str, int]], ...]

    @property
    def datasets(self) -> list[str]:
        """Names of the corpora."""
        return sorted({kind[0] for kind, _ in self.kinds})

    @property
    def labels(self) -> dict[str, int]:
        """Videos that are ok, by label."""
        return {name: sum(found[name] for _, found in self.usable) for name in LABEL_NAMES.values()}


def count_rows(rows: Sequence[ManifestRow]) -> CorpusCounts:
    """Count what is in a manifest."""
    kinds: dict[tuple[str, str, str, str], list[ManifestRow]] = defaultdict(list)
    for row in rows:
        kinds[row.dataset, row.method, LABEL_NAMES[row.label], row.split or ""].append(row)
    splits: tuple[str, ...] = (*SPLITS, "")
    ordered = sorted(kinds.items(), key=lambda kind: (*kind[0][:3], splits.index(kind[0][3])))
    usable: Counter[tuple[str, int]] = Counter((row.split or "", row.label) for row in rows if row.status == "ok")
    return CorpusCounts(
        _counts(rows),
        tuple((kind, _counts(found)) for kind, found in ordered),
        tuple(
            (split, {name: usable[split, label] for label, name in LABEL_NAMES.items()})
            for split in splits
            if any(usable[split, label] for label in LABEL_NAMES)
        ),
    )


def _counts(rows: Sequence[ManifestRow]) -> Counts:
    status = Counter(row.status for row in rows)
    people = sum(row.n_tracks for row in rows)
    return Counts(len(rows), status["ok"], status["skipped"], status["failed"], people)


def label_warnings(rows: Sequence[ManifestRow]) -> Iterator[tuple[str, str]]:
    """What training would suffer from: what is the case, and what it means."""
    usable = [row for row in rows if row.status == "ok"]
    if not usable:
        yield "There is nothing to train on.", "No video has a usable face."
        return
    everywhere = Counter(row.label for row in usable)
    if len(everywhere) == 1:
        yield f"All usable videos are {LABEL_NAMES[usable[0].label]}.", "A detector needs both labels to learn from."
        return
    imbalance = _imbalance(everywhere)
    if imbalance:
        yield (
            f"{imbalance} of the usable videos are {LABEL_NAMES[everywhere.most_common(1)[0][0]]}.",
            "A detector that always says so is right that often: balance or weigh the labels in training, and go by "
            "AUC or balanced accuracy.",
        )
    splits = {split: Counter(row.label for row in usable if row.split == split) for split in SPLITS}
    for split, found in splits.items():
        missing = [name for each, name in LABEL_NAMES.items() if not found[each]]
        if len(missing) == 1:
            yield f"There is no usable {missing[0]} video in {split}.", "Each split needs both labels."
        elif not imbalance and (share := _imbalance(found)):
            yield (
                f"{share} of the usable videos in {split} are {LABEL_NAMES[found.most_common(1)[0][0]]}.",
                ("All videos together are balanced, so the splits were not divided alike."),
            )
    if any(splits["train"].values()) and not any(splits["val"].values()):
        yield "There is no usable video in val.", "Training needs some to choose the best epoch by."


def loss_warnings(rows: Sequence[ManifestRow]) -> Iterator[tuple[str, str]]:
    """What was lost on the way, where it is much or takes one label more than the other; as :func:`label_warnings`."""
    status = Counter(row.status for row in rows)
    if status["skipped"] > _MANY_LOST * len(rows):
        told = f"{percent(status['skipped'], len(rows))} of the videos have no usable face."
        yield told, "See the reasons below; the settings can let in smaller and less certain faces."
    if status["failed"] > _MANY_LOST * len(rows):
        yield f"{percent(status['failed'], len(rows))} of the videos could not be read.", "See the reasons below."
    lost = {label: [row.status != "ok" for row in rows if row.label == label] for label in LABEL_NAMES}
    shares = [sum(each) / len(each) for each in lost.values() if len(each) >= _FEW]
    if len(shares) == len(LABEL_NAMES) and abs(shares[0] - shares[1]) > _LOST_GAP:
        real, fake = (percent(sum(each), len(each)) for each in lost.values())
        yield f"{real} of the real videos were lost, and {fake} of the fake.", "What is left is a biased choice."


def _imbalance(count: Counter[int]) -> str | None:
    """The share of the more frequent label, where it is too large."""
    most = max(count.values(), default=0)
    return percent(most, count.total()) if most > _IMBALANCE * count.total() else None


def by_reason(lost: Iterable[tuple[str, str, str]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sort (reason, name, message) into (reason, all of its names and messages), the most frequent reason first."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for reason, name, message in lost:
        found[reason].append((name, message))
    return sorted(found.items(), key=lambda each: (-len(each[1]), each[0]))


def percent(part: float, whole: float) -> str:
    """A share that is not rounded to none or all."""
    share = part / whole if whole else 0.0
    shown = min(max(share, 0.001), 0.999) if 0 < share < 1 else share
    return f"{100 * shown:.1f}\u00a0%"
