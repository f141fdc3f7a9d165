"""The pipeline: a path goes in, a result comes out. The command line, Python and the web page all use this one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepscan.analysis import Analysis, failed_analysis
from deepscan.config import PredictSettings
from deepscan.errors import DeepscanError, MediaError, ModelError
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.in_memory import InMemory
from deepscan.extract.inputs import expand_inputs
from deepscan.extract.isolation.client import DEFAULT_ISOLATION, IsolationLimits, prepare
from deepscan.extract.people import (
    MAX_FACES_PER_FRAME,
    Extraction,
    PeopleSearch,
    Person,
    crop_keys,
    search_people,
)
from deepscan.extract.pictures import KeepPictures
from deepscan.files import file_sha256
from deepscan.models.card import Card
from deepscan.models.checkpoint import DEFAULT_DETECTOR, list_detectors, resolve_detector, untrained_detector
from deepscan.models.ensemble import Networks, open_detector
from deepscan.models.feature_squeezing import disagreements
from deepscan.models.runtime_scorer import device_of, foresee_runtime, make_scorer
from deepscan.models.scorer import Features
from deepscan.runtimes import RuntimeName
from deepscan.sliding import RememberingFinder, RememberingScorer
from deepscan.streaming import Searched, search_and_score
from deepscan.types import ModelInfo, Report, Result, Score, Track, Verdict, VerdictLabel
from deepscan.verdict import TURNED, Hidden, abstain, decide, limit, notes_on, unjudged, visible_people
from deepscan.version import __version__

log = logging.getLogger(__name__)


class Detector:
    """A loaded detector. Make one with :func:`load_detector` and use it for many files.

    Args:
        networks: of the detector; those on disk are loaded where the runtime needs that.
        settings: of every prediction.
        isolation: of the process that decodes; None decodes in this one. It changes no score.

    Attributes:
        card: what the detector is and what was measured of it.
        settings: of every prediction.
        device: the torch device it runs on.
        runtime: what runs it.
        isolation: of the process that decodes.
    """

    def __init__(
        self,
        networks: Networks,
        settings: PredictSettings | None = None,
        *,
        isolation: IsolationLimits | None = DEFAULT_ISOLATION,
    ) -> None:
        prepare(isolation)  # it gets ready while the networks do
        self.card, self._networks, self.isolation = networks.card, networks, isolation
        self.settings = settings or PredictSettings()
        self.device = device_of(self.settings)
        self._scorer, self.runtime = make_scorer(networks, self.settings)
        # The detector's networks are small and called often: nobody has seen them gain from Apple's GPUs.
        self._finder = FaceFinder(self.settings.face, "cpu" if self.device == "mps" else self.device, self.runtime)

    @property
    def networks(self) -> Networks:
        """The detector's networks in torch; loaded now if nothing has needed them so far."""
        if self._networks.on_disk:
            self._networks = self._networks.load()
        return self._networks

    @property
    def info(self) -> ModelInfo:
        """What the report says of the model."""
        return _model_info(self.card, self.settings, self.runtime)

    def predict(self, path: str | Path) -> Result:
        """Judge one video or image.

        Args:
            path: of a video (mp4, mov, mkv, avi, webm, gif...) or an image (jpg, png, heic, avif...).

        Returns:
            The result: ``verdict`` is fake, real, uncertain, or not_applicable when there is no face to judge.

        Raises:
            MediaError: the file cannot be read.
        """
        analysis = self.analyze(Path(path))
        if analysis.error is not None:
            raise analysis.error
        return analysis.result

    def predict_many(self, paths: Iterable[str | Path]) -> Iterator[Result]:
        """Judge files, folders and patterns; yields a result for each file, in their order.

        A file that fails is a result with the verdict ``error`` and its reason; the others still come. The next file
        is searched while one is scored, and pictures are scored in batches. Many files at a time, in processes that
        may die, are the matter of :class:`deepscan.batch.InputBatch`.
        """
        for analysis in self.analyze_many(expand_inputs(paths)):
            yield analysis.result

    def predict_files(self, paths: Iterable[Path]) -> Iterator[Result]:
        """:meth:`predict_many` of files alone.

        Args:
            paths: of files; they are taken, in another thread, somewhat before their results come.

        Raises:
            DeepscanError: ``paths`` raised it; the results of the files before have come.
        """
        for analysis in self.analyze_many((path, None) for path in paths):
            yield analysis.result

    def predict_or_error(self, path: Path) -> Result:
        """:meth:`predict`, with every failure turned into a result."""
        return self.analyze(path).result

    def analyze(self, path: Path, error: DeepscanError | None = None, *, keep: KeepPictures | None = None) -> Analysis:
        """Judge one file, and keep what the answer rests on; a failure is in the result.

        Args:
            path: of a video or image.
            error: one that is known already.
            keep: pictures of it.
        """
        return next(self.analyze_many([(path, error)], keep=keep))

    def analyze_many(
        self, inputs: Iterable[tuple[Path | InMemory, DeepscanError | None]], *, keep: KeepPictures | None = None
    ) -> Iterator[Analysis]:
        """:meth:`analyze` of files or what is in memory, or what is wrong with it already, as :meth:`predict_files`."""
        search = partial(self._search, keep=keep)
        for file in search_and_score(inputs, search, _content_sha256, self._scorer):
            yield self._analysis_or_error(file)

    def extract(self, path: Path) -> Extraction:
        """The people of a video or image, found and cut as :meth:`predict` does; raises MediaError as it does."""
        return self._search(path).run()

    def _search(self, path: Path | InMemory, keep: KeepPictures | None = None) -> PeopleSearch:
        settings = self.settings
        rules = self.card.crop, settings.track, settings.limits, settings.min_segment_s, self.isolation
        return search_people(path, settings.frames, self._finder, *rules, keep)

    def visible(self, people: Sequence[Person]) -> tuple[tuple[Person, ...], tuple[Hidden, ...]]:
        """Who of an input can be judged by this detector, and who cannot; see :func:`visible_people`."""
        return visible_people(people, self.card.visibility)

    def abstain(self, extraction: Extraction, hidden: Sequence[Hidden]) -> Verdict:
        """The answer for an input of which nobody is visible."""
        return abstain(extraction, self.settings.face.min_face_px, hidden, self.card.visibility)

    def score(self, sequences: Sequence[NDArray[np.uint8]]) -> list[Score]:
        """Score people: crops of each, RGB ``uint8 [T, S, S, 3]`` with S the card's crop size."""
        return self._scorer.score(sequences)

    def disagreements(
        self, crops: Sequence[NDArray[np.uint8]], features: Sequence[Sequence[Features]] | None = None
    ) -> list[float] | None:
        """How far the scores of people move when their crops are squeezed: a sign of an attack.

        Args:
            crops: of each person, RGB ``uint8 [T, S, S, 3]`` with S the card's crop size.
            features: of all these crops, where they are known.

        Returns:
            For :meth:`decide`; None where the settings leave the check out or the card has none.
        """
        check = self.card.attack_check
        if check is None or not self.settings.attack_check or not self.card.trained:
            return None
        return disagreements(self._scorer, crops, self.card.calibration, check, features)

    def decide(
        self,
        tracks: Sequence[Track],
        scores: Sequence[Score],
        disagreements: Sequence[float] | None = None,
        *,
        n_left_out: int = 0,
    ) -> Verdict:
        """The answer for an input with at least one person, by this detector's calibration and settings.

        Args:
            tracks: the people.
            scores: one for each.
            disagreements: of each, from :meth:`disagreements`; None leaves the check for attacks out.
            n_left_out: people over the limit, who are not judged.
        """
        return decide(
            tracks,
            scores,
            self.card.calibration,
            threshold=self.settings.threshold,
            trained=self.card.trained,
            n_left_out=n_left_out,
            disagreements=disagreements,
        )

    def answer(
        self,
        people: Sequence[Person],
        scores: Sequence[Score],
        features: Sequence[Sequence[Features]] | None = None,
        *,
        n_left_out: int = 0,
    ) -> Verdict:
        """:meth:`decide`, with the check for attacks of those who would get an answer: others have none to lose.

        Args:
            people: at least one.
            scores: of each.
            features: of all their crops, where they are known.
            n_left_out: people over the limit, who are not judged.
        """
        tracks = [person.track for person in people]
        verdict = self.decide(tracks, scores, n_left_out=n_left_out)
        judgeable = [i for i, t in enumerate(verdict.tracks) if t.verdict in (VerdictLabel.FAKE, VerdictLabel.REAL)]
        known_features = None if features is None else [features[i] for i in judgeable]
        moves = self.disagreements([people[i].crops for i in judgeable], known_features) if judgeable else None
        if moves is None:
            return verdict
        disagreements = [0.0] * len(people)
        for i, move in zip(judgeable, moves, strict=True):
            disagreements[i] = move
        return self.decide(tracks, scores, disagreements, n_left_out=n_left_out)

    def remembering(self) -> Detector:
        """This detector, which looks at each picture of a window that slides over a stream once.

        :meth:`analyze_many` of what is in memory then finds the faces of new pictures only; one window at a time.
        """
        other = copy(self)
        n_frames = self.settings.frames
        other._finder = RememberingFinder(self._finder, n_frames)
        other._scorer = RememberingScorer(self._scorer, n_frames * MAX_FACES_PER_FRAME)
        return other

    def report(self, results: Iterable[Result]) -> Report:
        """A report of this detector over results."""
        return Report(__version__, self.info, tuple(results))

    def _analysis_or_error(self, file: Searched) -> Analysis:
        error = file.error
        if error is None:
            try:
                return self._analysis(file)
            except Exception as failure:  # noqa: BLE001 - it is the file's result
                error = failure
        return failed_analysis(file.path, error)

    def _analysis(self, file: Searched) -> Analysis:
        """The answer for a file that was looked through."""
        extraction, start = file.extraction, time.perf_counter()
        assert extraction is not None  # noqa: S101 - where there is nothing, there is an error
        people, hidden = self.visible(extraction.people)
        features = [[file.features[key] for key in crop_keys(p.track)] for p in people]
        scores = [self._scorer.judge(of_person) for of_person in features]
        if people:
            verdict = self.answer(people, scores, features, n_left_out=extraction.people_left_out)
        else:
            verdict = self.abstain(extraction, hidden)
        coverage = extraction.coverage
        verdict = limit(verdict, coverage, extraction.frames_sampled)
        duration_s = extraction.media.duration_s if coverage is None else coverage.duration_s
        messages = [text for text in (verdict.message, TURNED.get(extraction.turned or 0)) if text]
        end = time.perf_counter()
        result = Result(
            path=str(file.path),
            sha256=file.sha256,
            kind=extraction.media.kind,
            verdict=verdict.label,
            reason=verdict.reason,
            message=" ".join(messages) or None,
            probability=verdict.probability,
            duration_s=duration_s,
            examined_s=duration_s if coverage is None else coverage.examined_s,
            left_out=None if duration_s is None else coverage.left_out if coverage else 0.0,
            notes=notes_on(extraction.media, coverage, extraction.traces),
            traces=extraction.traces,
            frames_sampled=extraction.frames_sampled,
            frames_with_face=extraction.frames_with_face,
            tracks=verdict.tracks,
            segments=verdict.segments,
            timing_s={**extraction.timing_s, "score": file.score_s + end - start, "total": end - file.start},
            sampling=extraction.sampling,
            sampling_shift_s=extraction.sampling_shift_s,
            unjudged=unjudged(extraction, hidden),
            turned=extraction.turned,
        )
        return Analysis(result, extraction, people, features, tuple(scores))


def load_detector(
    model: str | Path = DEFAULT_DETECTOR,
    settings: PredictSettings | None = None,
    *,
    isolation: IsolationLimits | None = DEFAULT_ISOLATION,
) -> Detector:
    """Load a detector by name or folder; see :func:`deepscan.load_detector`, and :class:`Detector` for ``isolation``.

    With ``settings.allow_untrained`` the name of a backbone gives that network with random weights; every verdict is
    then "uncertain" and the report says so.
    """
    settings = settings or PredictSettings()
    return Detector(open_networks(model, settings), settings, isolation=isolation)


def open_networks(model: str | Path, settings: PredictSettings) -> Networks:
    """The networks of a detector, for :class:`Detector`; raises ModelError as :func:`deepscan.load_detector`."""
    if _is_untrained(str(model), settings):
        return Networks.of(*untrained_detector(str(model)))
    networks = open_detector(resolve_detector(model))
    _refuse_untrained(str(model), networks.card, settings)
    return networks


def describe_detector(model: str | Path, settings: PredictSettings) -> tuple[str, ModelInfo]:
    """What :func:`load_detector` would load, without its networks: for a process that only leads others.

    Networks that have to be converted for this machine are converted here, once, and not in every process that is led.

    Returns:
        The model's name as it is understood in any folder and process, and what the report says of it.

    Raises:
        ModelError: no such model, or it is damaged.
    """
    name = str(model)
    if _is_untrained(name, settings):
        detector = load_detector(model, settings)
        return name, detector.info
    folder = resolve_detector(model)
    networks = open_detector(folder)
    _refuse_untrained(name, networks.card, settings)
    runtime = foresee_runtime(networks, settings)
    if runtime == "openvino":
        FaceFinder(settings.face, "cpu", runtime)  # for its conversion
    return name if name in list_detectors() else str(folder.absolute()), _model_info(networks.card, settings, runtime)


def _model_info(card: Card, settings: PredictSettings, runtime: RuntimeName) -> ModelInfo:
    calibration, threshold = card.calibration, settings.threshold
    band = (calibration.uncertain_low, calibration.uncertain_high)
    return ModelInfo(
        name=card.name,
        sha256=card.weights_sha256 or None,
        threshold=calibration.threshold if threshold is None else threshold,
        uncertain_band=band if threshold is None else (threshold, threshold),
        trained=card.trained,
        backbone=card.backbone,
        head=card.head,
        version=card.version,
        settings={**settings.model_dump(mode="json", exclude={"threshold", "allow_untrained"}), "runtime": runtime},
    )


def _is_untrained(name: str, settings: PredictSettings) -> bool:
    if not settings.allow_untrained:
        return False
    from deepscan.models.backbones.registry import list_backbones

    return name in list_backbones() or name.startswith("timm:")


def _refuse_untrained(name: str, card: Card, settings: PredictSettings) -> None:
    if not card.trained and not settings.allow_untrained:
        raise ModelError(
            f"Model '{name}' has random weights",
            "its card says it was never trained",
            "Its scores would say nothing; add --allow-untrained to see them all the same.",
            reason="untrained_model",
        )


def _content_sha256(path: Path | InMemory) -> str | None:
    if isinstance(path, InMemory):
        return None
    try:
        return file_sha256(path)
    except OSError as error:
        cause = error.strerror or "the disk reports an error"
        raise MediaError(f"{path.name}: cannot be read", cause, "Copy it to another disk.") from error
