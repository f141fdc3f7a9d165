"""Where changes are done: to the frames of clips before faces are looked for, or to the crops of a store."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import av
import cv2
import numpy as np

from deepscan.analysis import Analysis
from deepscan.config import DEFAULT_LIMITS
from deepscan.datasets.dataset import Sample, SampleSet
from deepscan.datasets.item_frames import opened_item
from deepscan.datasets.readers import CorpusItem
from deepscan.datasets.store.archive import StoreError
from deepscan.datasets.store.tar_members import read_member
from deepscan.detector import Detector
from deepscan.errors import DeepscanError, MediaError, OutputError
from deepscan.evaluate.robustness.attack_corruptions import rescaled
from deepscan.evaluate.robustness.codecs import LOSSLESS, STILL_RATE, write_clip
from deepscan.evaluate.robustness.corruptions import Change, Encode, Pixels, Setting, Target, change_crops, run_steps
from deepscan.evaluate.robustness.sweep import NOT_POSSIBLE, Answer, Condition, Subject, subject_seed
from deepscan.evaluate.score_dataset import by_video, stored_people
from deepscan.extract.crops import brightness
from deepscan.extract.isolation.client import probe, sample_frames
from deepscan.extract.people import Person
from deepscan.extract.video.sampling import frames_for
from deepscan.models.card import AttackCheck
from deepscan.models.feature_squeezing import disagreements
from deepscan.models.scorer import torch_scorer
from deepscan.types import Box, Frame, MediaInfo, VerdictLabel

log = logging.getLogger(__name__)

_CROPS_AT_ONCE = 256
# Frames are asked for by their number: no video has more a second than this.
_MOST_RATE = 240
# A face is still where it was last seen for so long.
_BOX_HOLDS_S = 1.0

# Who is visible under a condition, None where it is not possible; and why nobody is.
_Waiting = tuple[Condition, tuple[Person, ...] | None, str | None]


@dataclass(frozen=True, slots=True)
class _Clip:
    """A file that is judged as it is, and changed."""

    path: Path
    media: MediaInfo

    @property
    def still(self) -> bool:
        return self.media.kind == "image"

    @property
    def rate(self) -> float:
        if self.media.n_frames and self.media.duration_s:
            return self.media.n_frames / self.media.duration_s
        return STILL_RATE

    @property
    def n_frames(self) -> int:
        """At least as many as there are."""
        return max(self.media.n_frames or 1, math.ceil((self.media.duration_s or 0) * _MOST_RATE))


class FrameBench:
    """Clips and pictures, changed before faces are looked for: a changed file is judged just as ``predict`` does.

    Codecs and dropped frames work on all frames; what changes each frame by itself only on those that are sampled,
    which are kept without loss.

    Args:
        detector: that judges.
        items: of corpora.
        seed: of everything random.
        seconds: of each clip only the middle, of this length; None takes all of it.
    """

    target: Target = "frames"

    def __init__(
        self, detector: Detector, items: Sequence[CorpusItem], *, seed: int = 0, seconds: float | None = None
    ) -> None:
        self._detector, self._seed, self._seconds = detector, seed, seconds
        self._items: dict[str, tuple[Subject, CorpusItem]] = {}
        for item in items:
            key = f"{item.dataset}/{item.video_id}"
            number = 2
            while key in self._items:
                key, number = f"{item.dataset}/{item.video_id}#{number}", number + 1
            subject = Subject(key, item.label, item.dataset, item.group, item.split)
            self._items[key] = subject, item

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """One for each item."""
        return tuple(subject for subject, _ in self._items.values())

    def judge(self, subject: Subject, conditions: Sequence[Condition]) -> Iterator[tuple[Condition, Answer]]:
        """The answers; see :class:`deepscan.evaluate.robustness.sweep.Bench`.

        Raises:
            OutputError: there is no room for the changed file.
        """
        with tempfile.TemporaryDirectory(prefix="deepscan-") as name:
            folder = Path(name)
            try:
                clip = self._clip(self._items[subject.key][1], folder)
            except DeepscanError as error:
                log.warning("%s: %s", subject.key, error)
                for condition in conditions:
                    yield condition, Answer(VerdictLabel.ERROR, None, error.reason)
                return
            unchanged = _Unchanged(self._detector, clip.path)
            for condition in conditions:
                change = condition.change
                if change is None:
                    yield condition, _answer(unchanged.analysis)
                elif clip.still and change.moving:
                    yield condition, NOT_POSSIBLE
                else:
                    yield (
                        condition,
                        self._changed(subject, change, condition.strength, clip, unchanged.boxes_at, folder),
                    )

    def _changed(
        self,
        subject: Subject,
        change: Change,
        strength: float,
        clip: _Clip,
        boxes: Callable[[float], list[Box]],
        folder: Path,
    ) -> Answer:
        setting = Setting(subject_seed(self._seed, subject.key), clip.rate, boxes)
        file = folder / ("changed.png" if clip.still else "changed.mp4")
        try:
            self._write(file, change, strength, clip, setting)
        except MediaError as error:
            log.warning("%s, %s %g: %s", subject.key, change.name, strength, error)
            return Answer(VerdictLabel.ERROR, None, error.reason)
        except (av.FFmpegError, cv2.error, ValueError) as error:
            log.warning("%s, %s %g cannot be made: %s", subject.key, change.name, strength, error)
            return Answer(VerdictLabel.ERROR, None, "change_failed")
        except OSError as error:
            raise OutputError(f"{file} cannot be written", error.strerror or str(error)) from error
        try:
            return _answer(self._detector.analyze(file))
        finally:
            file.unlink(missing_ok=True)

    def _write(self, file: Path, change: Change, strength: float, clip: _Clip, setting: Setting) -> None:
        assert change.steps is not None  # noqa: S101 - attacks are not picked for frames
        steps = change.steps(strength)
        if clip.still:
            (frame,) = run_steps(steps, sample_frames(clip.path, 1), setting)
            file.write_bytes(cv2.imencode(".png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))[1].tobytes())
            return
        n = clip.n_frames
        if all(isinstance(step, Pixels) for step in steps):
            settings = self._detector.settings
            n = frames_for(settings.frames, clip.media.duration_s, settings.min_segment_s)
        frames = sample_frames(clip.path, n)
        last = steps[-1]
        if isinstance(last, Encode):
            write_clip(file, run_steps(steps[:-1], frames, setting), last.coding, clip.rate)
        else:
            write_clip(file, run_steps(steps, frames, setting), LOSSLESS, clip.rate)

    def _clip(self, item: CorpusItem, folder: Path) -> _Clip:
        """The item as one file, cut to its middle where that is asked for.

        Raises:
            MediaError: it cannot be read.
        """
        path = item.path
        if item.frames:
            path = folder / "frames.mp4"
            with opened_item(item, len(item.frames), DEFAULT_LIMITS) as source:
                write_clip(path, source.frames, LOSSLESS, 1.0)
        elif item.member is not None:
            path = folder / Path(item.member).name
            try:
                path.write_bytes(read_member(item.path, item.member, DEFAULT_LIMITS.max_bytes))
            except OSError as error:
                raise MediaError(f"{item.path.name}: cannot be read", error.strerror or str(error)) from error
        clip = _Clip(path, probe(path))
        length_s = clip.media.duration_s
        if clip.still or self._seconds is None or length_s is None or length_s <= self._seconds:
            return clip
        start_s = (length_s - self._seconds) / 2
        middle = folder / "middle.mp4"
        write_clip(middle, _between(clip, start_s, start_s + self._seconds), LOSSLESS, clip.rate)
        return _Clip(middle, probe(middle))


class CropBench:
    """The crops of stores: nothing is looked for anew, so that no face is lost but to what cannot be seen.

    Args:
        detector: that judges.
        samples: cut by the detector's rule.
        frames: at most so many of each video; None takes all.
        seed: of everything random.
        random_resize: scale every crop by a random factor and back before it is judged, also unchanged ones: a defence.
        check: measure how far the check for attacked input sees scores move; None leaves it out.
    """

    target: Target = "crops"

    def __init__(
        self,
        detector: Detector,
        samples: SampleSet,
        *,
        frames: int | None = None,
        seed: int = 0,
        random_resize: bool = False,
        check: AttackCheck | None = None,
    ) -> None:
        self._detector, self._frames, self._seed, self._random_resize = detector, frames, seed, random_resize
        self._check, self._scorer = check, None
        if check is not None:
            tta = detector.settings.tta
            self._scorer = torch_scorer(detector.networks, device=detector.device, tta=tta)
        self._videos: dict[str, tuple[Subject, tuple[Sample, ...]]] = {}
        for people in by_video(samples):
            first = people[0]
            key = first.id.rsplit("#", 1)[0]
            self._videos[key] = Subject(key, first.label, first.dataset, first.group, first.split), people

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """One for each video of the stores."""
        return tuple(subject for subject, _ in self._videos.values())

    def judge(self, subject: Subject, conditions: Sequence[Condition]) -> Iterator[tuple[Condition, Answer]]:
        """The answers; see :class:`deepscan.evaluate.robustness.sweep.Bench`."""
        try:
            samples, settings = self._videos[subject.key][1], self._detector.settings
            size_px, max_tracks = self._detector.card.crop.size_px, settings.limits.max_tracks
            people, left_out = stored_people(samples, size_px, self._frames, max_tracks)
        except StoreError as error:
            log.warning("%s; its video is not scored", error)
            for condition in conditions:
                yield condition, Answer(VerdictLabel.ERROR, None, error.reason)
            return
        waiting: list[_Waiting] = []
        room = _CROPS_AT_ONCE
        for condition in conditions:
            changed = self._changed(subject, condition, people)
            if changed is None:
                waiting.append((condition, None, None))
            else:
                visible, hidden = self._detector.visible(changed)
                waiting.append((condition, visible, None if visible else hidden[0][1]))
            room -= sum(len(person.crops) for person in changed or ())
            if room <= 0:
                yield from self._answers(waiting, left_out)
                waiting, room = [], _CROPS_AT_ONCE
        yield from self._answers(waiting, left_out)

    def _changed(self, subject: Subject, condition: Condition, people: list[Person]) -> list[Person] | None:
        """The people as they are now; None where the change is not possible."""
        change = condition.change
        if change is None and not self._random_resize:
            return people
        if change is not None and change.moving and all(len(person.crops) < 2 for person in people):
            return None
        seed = subject_seed(self._seed, subject.key)
        changed = []
        for person in people:
            track = person.track
            out, kept = person.crops, tuple(range(len(person.crops)))
            if change is not None:
                out, kept = change_crops(
                    change, condition.strength, out, seed=seed + track.id, label=subject.label, detector=self._detector
                )
            if self._random_resize:
                out = rescaled(out, np.random.default_rng([seed, track.id]))
            seen = [replace(track.sightings[k], brightness=brightness(crop)) for k, crop in zip(kept, out, strict=True)]
            changed.append(Person(replace(track, sightings=tuple(seen)), out))
        return changed

    def _answers(self, waiting: list[_Waiting], left_out: int) -> Iterator[tuple[Condition, Answer]]:
        scores = iter(self._detector.score([person.crops for _, people, _ in waiting for person in people or ()]))
        for condition, people, hidden in waiting:
            if people is None:
                yield condition, NOT_POSSIBLE
            elif not people:
                yield condition, Answer(VerdictLabel.NOT_APPLICABLE, None, hidden)
            else:
                verdict = self._detector.answer(people, [next(scores) for _ in people], n_left_out=left_out)
                yield condition, Answer(verdict.label, verdict.probability, verdict.reason, self._moved(people))

    def _moved(self, people: Sequence[Person]) -> float | None:
        """How far the check sees the score of any of them move."""
        if self._check is None or self._scorer is None:
            return None
        calibration = self._detector.card.calibration
        return max(disagreements(self._scorer, [person.crops for person in people], calibration, self._check))


class _Unchanged:
    """A clip as it is; analysed once, when it is first asked for."""

    def __init__(self, detector: Detector, path: Path) -> None:
        self._detector, self._path = detector, path

    @cached_property
    def analysis(self) -> Analysis:
        """Its answer, and who is in it."""
        return self._detector.analyze(self._path)

    def boxes_at(self, time_s: float) -> list[Box]:
        """The box of everybody who is there about this time, where they are seen next to it."""
        boxes = []
        extraction = self.analysis.extraction
        for track in (person.track for person in (extraction.people if extraction else ())):
            nearest = min(track.sightings, key=lambda seen: abs(seen.time_s - time_s))
            if abs(nearest.time_s - time_s) <= _BOX_HOLDS_S or track.start_s <= time_s <= track.end_s:
                boxes.append(nearest.face.box)
        return boxes


def _between(clip: _Clip, start_s: float, end_s: float) -> Iterator[Frame]:
    """The frames of a stretch, their times from its first."""
    first: float | None = None
    for frame in sample_frames(clip.path, clip.n_frames):
        if start_s <= frame.time_s < end_s:
            first = frame.time_s if first is None else first
            yield Frame(frame.image, frame.time_s - first, frame.index)
        elif frame.time_s >= end_s:
            return


def _answer(analysis: Analysis) -> Answer:
    result = analysis.result
    return Answer(result.verdict, result.probability, result.reason)
