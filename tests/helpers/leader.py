"""A leading process for tests of its end: runs tasks that last until they are ended."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import engine_tasks

from deepscan.processes import create_engine


def main() -> None:
    folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    try:
        with create_engine(**options) as engine:
            for _ in engine.map(engine_tasks.note, [(folder, str(index), 600) for index in range(4)]):
                pass
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
