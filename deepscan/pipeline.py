"""The pipeline: a path goes in, a result comes out. The command line, Python and the web page all use this one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from deepscan import __version__
from deepscan.config import PredictSettings
from deepscan.errors import DeepscanError, ModelError
from deepscan.extract.container import DEFAULT_LIMITS
from deepscan.extract.faces import FaceFinder
from deepscan.extract.inputs import expand_inputs
from deepscan.extract.people import Extraction, extract_people
from deepscan.files import file_sha256
from deepscan.models.checkpoint import (
    DEFAULT_DETECTOR,
    DetectorCard,
    load_detector_network,
    resolve_detector,
    untrained_detector,
)
from deepscan.models.network import DetectorNetwork
from deepscan.models.registry import list_backbones
from deepscan.models.scorer import TorchScorer, pick_device
from deepscan.records import ModelInfo, Report, Result, Verdict, VerdictLabel
from deepscan.verdict import abstain, decide, is_too_dark

log = logging.getLogger(__name__)


class Detector:
    """A loaded detector. Make one with :func:`load_detector` and use it for many files.

    Attributes:
        card: what the detector is and what was measured of it.
        settings: of every prediction.
        device: the torch device it runs on.
    """

    def __init__(self, network: DetectorNetwork, card: DetectorCard, settings: PredictSettings | None = None) -> None:
        self.card = card
        self.settings = settings or PredictSettings()
        self.device = pick_device(self.settings.device)
        # MTCNN's float64 box arithmetic does not run on Apple's GPUs.
        self._finder = FaceFinder(self.settings.face, "cpu" if self.device == "mps" else self.device)
        self._scorer = TorchScorer(network, card, device=self.device, tta=self.settings.tta)

    @property
    def info(self) -> ModelInfo:
        """What the report says of the model."""
        calibration, threshold = self.card.calibration, self.settings.threshold
        band = (calibration.uncertain_low, calibration.uncertain_high)
        return ModelInfo(
            name=self.card.name,
            sha256=self.card.weights_sha256 or None,
            threshold=calibration.threshold if threshold is None else threshold,
            uncertain_band=band if threshold is None else (threshold, threshold),
            trained=self.card.trained,
            backbone=self.card.network.backbone,
            head=self.card.network.head.name,
            version=self.card.version,
            settings=self.settings.model_dump(mode="json", exclude={"threshold", "allow_untrained"}),
        )

    def predict(self, path: str | Path) -> Result:
        """Judge one video or image.

        Args:
            path: of a video (mp4, mov, mkv, avi, webm, gif...) or an image (jpg, png, webp, bmp).

        Returns:
            The result: ``verdict`` is fake, real, uncertain, or not_applicable when there is no face to judge.

        Raises:
            MediaError: the file cannot be read.
        """
        start = time.perf_counter()
        path, settings = Path(path), self.settings
        found = extract_people(path, settings.frames, self._finder, self.card.crop, settings.track, DEFAULT_LIMITS)
        scoring = time.perf_counter()
        verdict = self._judge(found)
        score_s = time.perf_counter() - scoring
        digest = file_sha256(path)
        timing = {**found.timing_s, "score": score_s, "total": time.perf_counter() - start}
        return Result(
            path=str(path),
            sha256=digest,
            kind=found.media.kind,
            verdict=verdict.label,
            reason=verdict.reason,
            message=verdict.message,
            probability=verdict.probability,
            duration_s=found.media.duration_s,
            frames_sampled=found.frames_sampled,
            frames_with_face=found.frames_with_face,
            tracks=verdict.tracks,
            segments=verdict.segments,
            timing_s=timing,
        )

    def predict_many(self, paths: Iterable[str | Path]) -> Iterator[Result]:
        """Judge files, folders and patterns one after the other; yields a result for each file as it is done.

        A file that fails is a result with the verdict ``error`` and its reason; the others still come.
        """
        for path, error in expand_inputs(paths):
            yield self.predict_or_error(path, error)

    def predict_or_error(self, path: Path, error: DeepscanError | None = None) -> Result:
        """:meth:`predict`, with every failure turned into a result. ``error`` is one that is known already."""
        if error is not None:
            return _error_result(path, error.reason, str(error))
        try:
            return self.predict(path)
        except DeepscanError as failure:
            return _error_result(path, failure.reason, str(failure))
        except Exception as failure:
            # A defect of ours, or of a library on a hostile file, must not cost the results of the other files.
            log.debug("%s: unexpected failure", path, exc_info=True)
            text = f"{path.name} could not be judged: unexpected {type(failure).__name__}: {failure}"
            return _error_result(
                path, "internal", f"{' '.join(text.split())[:300]}. Run again with --verbose for details."
            )

    def report(self, results: Iterable[Result]) -> Report:
        """A report of this detector over results."""
        return Report(__version__, self.info, tuple(results))

    def _judge(self, found: Extraction) -> Verdict:
        clear = [p for p in found.people if not is_too_dark(p.track)]
        if not clear:
            return abstain(found, self.settings.face.min_face_px)
        return decide(
            [p.track for p in clear],
            self._scorer.score([p.crops for p in clear]),
            self.card.calibration,
            threshold=self.settings.threshold,
            trained=self.card.trained,
        )


def load_detector(model: str | Path = DEFAULT_DETECTOR, settings: PredictSettings | None = None) -> Detector:
    """Load a detector by name or folder; see :func:`deepscan.load_detector`.

    With ``settings.allow_untrained`` the name of a backbone gives that network with random weights; every verdict is
    then "uncertain" and the report says so.
    """
    settings = settings or PredictSettings()
    name = str(model)
    if settings.allow_untrained and (name in list_backbones() or name.startswith("timm:")):
        return Detector(*untrained_detector(name), settings)
    network, card = load_detector_network(resolve_detector(model))
    if not card.trained and not settings.allow_untrained:
        raise ModelError(
            f"Model '{name}' has random weights",
            "its card says it was never trained",
            "Its scores would say nothing; add --allow-untrained to see them all the same.",
            reason="untrained_model",
        )
    return Detector(network, card, settings)


def _error_result(path: Path, reason: str, message: str) -> Result:
    return Result(str(path), None, None, VerdictLabel.ERROR, reason, message)
