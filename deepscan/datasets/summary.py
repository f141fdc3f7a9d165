"""What a person is told at the end of a preprocessing run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deepscan.datasets.preprocess import Summary
from deepscan.datasets.store.shards import Share

_NAMES = {0: "real", 1: "fake"}


def print_summary(summary: Summary, folder: Path, share: Share, console: Console | None = None) -> None:
    """Print videos, faces, label balance, people per video, failures by reason and throughput to stdout."""
    console = console or Console(highlight=False)
    rows = summary.rows
    ok = [row for row in rows if row.status == "ok"]
    table = Table(show_edge=False, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()

    def line(name: str, text: str) -> None:
        table.add_row(name, text)

    counts = Counter(row.status for row in rows)
    told = ", ".join(f"{counts[status]} {status}" for status in ("ok", "skipped", "failed") if counts[status])
    line("Videos", f"{len(rows)}: {told}" if rows else "0")
    if summary.n_open:
        line("Not reached", f"{summary.n_open}; run the same command again to go on")
    line("Face crops", f"{summary.n_crops:,}")
    labels = Counter(row.label for row in ok)
    balance = ", ".join(f"{labels[label]} {_NAMES[label]} ({labels[label] / len(ok):.0%})" for label in sorted(labels))
    line("Labels", balance or "-")
    splits = Counter(row.split or "none" for row in ok)
    line("Splits", ", ".join(f"{name} {splits[name]}" for name in ("train", "val", "test", "none") if splits[name]))
    people = Counter(min(row.n_tracks, 3) for row in ok)
    line("People a video", ", ".join(f"{n}{'+' if n == 3 else ''}: {people[n]}" for n in sorted(people)) or "-")
    for status in ("skipped", "failed"):
        reasons = Counter(str(row.reason) for row in rows if row.status == status)
        if reasons:
            line(status.capitalize(), ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()))
    listed = Counter(failure.reason for failure in summary.failures if not failure.video_id)
    if listed:
        line("Metadata", ", ".join(f"{reason} {count}" for reason, count in listed.most_common()))
    fresh = len(rows) - summary.n_recalled
    rate = f", {fresh / summary.wall_s:.2f} videos/s" if fresh and summary.wall_s else ""
    line("Time", f"{summary.wall_s:.1f} s for {fresh} videos{rate}; {summary.n_recalled} were done before")
    line("Written to", f"{folder}/manifest{share.suffix}.csv, failures{share.suffix}.csv, store/")
    console.print(table)
