"""deepscan: a deepfake detector for video.

    import deepscan
    result = deepscan.load_detector().predict("clip.mp4")
    print(result.verdict, result.probability)

Importing this does nothing but define names; torch is loaded when a detector is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deepscan.version import __version__

if TYPE_CHECKING:
    from deepscan.config import PredictSettings
    from deepscan.detector import Detector

__all__ = ["__version__", "load_detector"]


def load_detector(
    model: str | Path = "default", settings: PredictSettings | None = None, *, isolate: bool = True
) -> Detector:
    """Load a detector, once, for any number of files.

    Args:
        model: the name of one that came with the package (see ``deepscan models``) or the folder of a trained one.
        settings: of every prediction; the defaults are those of the command line.
        isolate: decode in a process of its own, whose crash costs a file and not the program. It changes no score.

    Returns:
        A detector: ``.predict(path)`` gives a :class:`deepscan.types.Result`, ``.predict_many(paths)`` one for each.

    Raises:
        deepscan.errors.ModelError: no such model, or its files are damaged.
    """
    from deepscan.detector import load_detector as load
    from deepscan.extract.isolation.client import DEFAULT_ISOLATION

    return load(model, settings, isolation=DEFAULT_ISOLATION if isolate else None)
