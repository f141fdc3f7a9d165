"""Corpora of real clips for evaluation, and preprocessing in this process."""

from __future__ import annotations

import shutil

import deepscan.processes
from deepscan.processes import Lost


class InProcess:
    """The engine's contract without processes; notes what was done, can be interrupted or told to lose tasks."""

    n_workers = 1

    def __init__(self, interrupt_after=None, lose=None):
        self.done = []
        self.lose = lose or {}
        self.jobs = []
        self.interrupt_after = interrupt_after

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def map(self, function, tasks):
        for task in tasks:
            if len(self.done) == self.interrupt_after:
                raise KeyboardInterrupt
            self.done += [item.video_id for item in getattr(task, "items", None) or [task.item]]
            lost = self.lose.get(self.done[-1])
            yield task, Lost(lost, f"{lost} while it was looked at") if lost else function(task)

    def install(self, monkeypatch):
        """Let whoever asks for an engine have this one."""

        def create(name, *, jobs=None, **_):
            self.jobs.append(jobs)
            return self

        monkeypatch.setattr(deepscan.processes, "create_engine", create)
        return self


def labelled(root, face, none=None, splits=("",)):
    """``real/`` and ``fake/`` with one clip each in every split; a clip without a face if given."""
    for split in splits:
        for label in ("real", "fake"):
            target = root / split / label / f"{split or 'clip'}.mp4"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(face, target)
    if none is not None:
        shutil.copyfile(none, root / splits[0] / "real" / "nobody.mp4")
    return root
