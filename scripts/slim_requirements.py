"""What predict and serve import where networks are converted already: the requirements without torch."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

# torch and what exists on top of it. facenet-pytorch is there for its weights, and comes without what it asks for.
_LEFT_OUT = ("torch", "torchvision", "timm", "facenet-pytorch", "deepscan-video")
ROOT = Path(__file__).resolve().parent.parent


def slim_requirements() -> list[str]:
    """Requirements of the package and of its web page, without the network library and what needs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["web"]]
    return [one for one in wanted if re.split(r"[\[<>=~; ]", one)[0] not in _LEFT_OUT]


if __name__ == "__main__":
    print(*slim_requirements(), sep="\n")
