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
    from deepscan.api import LoadedDetector
    from deepscan.config import PredictSettings

__all__ = ["__version__", "load_detector"]


def load_detector(
    model: str | Path = "default",
    settings: PredictSettings | None = None,
    *,
    device: str | None = None,
    frames: int | None = None,
    isolate: bool = True,
) -> LoadedDetector:
    """Load a detector, once, for any number of files.

    Args:
        model: the name of one that came with the package (see ``deepscan models``), the folder of a trained one, or
            ``hf:user/name[@revision]``, which is fetched from the Hugging Face Hub.
        settings: of every prediction; the defaults are those of the command line.
        device, frames: ``auto``, ``cpu``, ``cuda`` or ``mps``, and how many frames of a video are looked at; None
            takes those of ``settings``.
        isolate: decode in a process of its own, whose crash costs a file and not the program. It changes no score.

    Returns:
        A detector: ``.predict(path)`` gives a :class:`deepscan.types.Result`, ``.predict_many(paths)`` one for each;
        ``.report(results)`` is saved as HTML, CSV or JSON.

    Raises:
        deepscan.errors.ModelError: no such model, or its files are damaged.
        deepscan.errors.ConfigError: no such device, or a number that cannot be.
    """
    from deepscan.api import load

    changes = {name: value for name, value in (("device", device), ("frames", frames)) if value is not None}
    return load(model, settings, changes, isolate=isolate)
