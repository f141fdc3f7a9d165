"""The worker's function with faults, by the name of the video; importable by name from a worker process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from deepscan.datasets.preprocess import Task, process


def process_with_faults(task: Task):
    name = Path(task.item.video_id).name
    if name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hangs":
        time.sleep(600)
    if name == "breaks":
        raise RuntimeError("a defect\nover two lines")
    return process(task)
