"""From a file to its people: sampled frames -> faces -> tracks, with one crop for every sighting.

Prediction and preprocessing both start here, so what is usable to the one is usable to the other. Frames are dropped
as soon as they have been looked at; what stays in memory are the crops.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepscan.config import CropSettings, MediaLimits, TrackSettings
from deepscan.extract.crops import brightness, crop_face
from deepscan.extract.faces.detect import FaceFinder
from deepscan.extract.faces.rotation import SpareFrames, TurnedFrames
from deepscan.extract.in_memory import InMemory
from deepscan.extract.isolation.client import DEFAULT_ISOLATION, IsolationLimits, probe, sample_frames
from deepscan.extract.pictures import CropKey, KeepPictures, Pictures
from deepscan.extract.traces import TraceMeter
from deepscan.extract.tracks import Tracker
from deepscan.extract.video.sampling import NEARBY_SHARE, frames_for
from deepscan.processes.prefetch import ahead
from deepscan.types import Coverage, Face, Frame, MediaInfo, RgbImage, Sampling, Trace, Track

# A face this dark (mean luma of 255) shows a network sensor noise, not skin.
TOO_DARK_LUMA = 16.0
# A crowd must not fill the memory: of each frame the largest faces are kept.
MAX_FACES_PER_FRAME = 16
# Frames no further apart are looked at in turn with the networks that find faces again, which takes a sixth of the
# time; every second one, and one in which not every face is there again, is looked at in full.
_FOLLOW_WITHIN_S = 0.35
_FRAMES_AHEAD = 2
# Frames that are looked at together have about so many pixels at most: eight of 1080p.
_MOST_PX_AT_ONCE = 2**24


@dataclass(frozen=True, slots=True)
class Person:
    """One track and its crops, RGB ``uint8 [T, S, S, 3]`` in the order of its sightings."""

    track: Track
    crops: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Extraction:
    """Everything found in one file.

    Attributes:
        media: what the container says.
        people: tracks with crops, in order of appearance.
        frames_sampled: frames looked at.
        frames_with_face: of these, frames with any detection.
        n_usable: detections large enough to be scored; the others were too small.
        largest_px: size of the largest detection.
        brightness: mean luma of the brightest sampled frame, in [0, 255].
        people_left_out: how many more there are, over the limit.
        doubtful: what was followed but is no person for sure.
        turned: degrees by which the picture was turned clockwise for its faces to be upright: so are the crops, boxes
            are in the picture as displayed. None where it was not.
        coverage: how much of a video the frames stand for; None for an image, and where it is not known.
        timing_s: seconds spent in ``decode`` and ``detect``, which may have overlapped.
        sampling: how the frames of a video were reached.
        sampling_shift_s: how far from its evenly spread time a frame of a video was taken at most.
        pictures: that were to be kept.
        traces: of processing, measured around the largest face of a few frames.
    """

    media: MediaInfo
    people: tuple[Person, ...]
    frames_sampled: int
    frames_with_face: int
    n_usable: int
    largest_px: float
    brightness: float
    timing_s: dict[str, float]
    sampling: Sampling | None = None
    people_left_out: int = 0
    doubtful: tuple[Track, ...] = ()
    turned: int | None = None
    coverage: Coverage | None = None
    pictures: Pictures | None = None
    sampling_shift_s: float | None = None
    traces: tuple[Trace, ...] = ()


class PeopleSearch:
    """Looks for the people of one file. Iterate over :meth:`look` to its end, then call
    :meth:`finish`; or call :meth:`run`.

    Args:
        media: what is known of the file.
        frames: in time order; each is dropped once looked at.
        finder: its settings say which faces are large enough.
        crop: the crop rule.
        track: how faces become people.
        close_up: look once more where a face fills the frame, as in crops and portraits.
        n_ahead: frames that are decoded ahead of the search, in a thread; 0 for none and no thread.
        max_tracks: people who are kept, those seen longest; None for all.
        again: the frames once more, for faces on their side or upside down; None looks for upright ones only.
        coverage: of the frames, filled in by the time that they end.
        keep: pictures that are kept; None for none.
    """

    def __init__(
        self,
        media: MediaInfo,
        frames: Iterator[Frame],
        finder: FaceFinder,
        crop: CropSettings,
        track: TrackSettings,
        *,
        close_up: bool = False,
        n_ahead: int = 0,
        max_tracks: int | None = None,
        again: Callable[[], Iterator[Frame]] | None = None,
        coverage: Sequence[Coverage] = (),
        keep: KeepPictures | None = None,
    ) -> None:
        self.media, self._finder, self._crop, self._close_up = media, finder, crop, close_up
        self._max_tracks, self._track, self._n_ahead = max_tracks, track, n_ahead
        self._again, self._spare, self._coverage = again, SpareFrames(), coverage
        self._turned: tuple[TurnedFrames, PeopleSearch] | None = None
        self._keep, self._pictures = keep, None if keep is None else Pictures(keep)
        self._decoded = _Decoded(frames)
        self._frames = ahead(lambda: self._decoded, n_ahead, "decode") if n_ahead else self._decoded
        self._tracker = Tracker(track)
        self._crops: dict[CropKey, RgbImage] = {}
        self._sampled = self._with_face = self._n_usable = 0
        self._largest = self._brightest = 0.0
        self._sought, self._shift_s = False, 0.0
        self._detect_s = 0.0
        self._traces = TraceMeter(media.jpeg_table)

    def look(self) -> Iterator[dict[CropKey, RgbImage]]:
        """Of each sampled frame the crops of its usable faces, as they are found.

        Raises:
            MediaError: what the frames raise.
        """
        settings = self._finder.settings
        for batch in _batches(self._frames, settings.batch_frames):
            start = time.perf_counter()
            cuts: list[dict[CropKey, RgbImage]] = []
            for frame, faces in zip(batch, self._faces(batch), strict=True):
                self._sampled += 1
                self._with_face += bool(faces)
                self._sought |= frame.sought
                self._shift_s = max(self._shift_s, abs(frame.shift_s))
                self._brightest = max(self._brightest, brightness(frame.image))
                self._largest = max([self._largest, *(f.size_px for f in faces)])
                usable = [f for f in faces if f.size_px >= settings.min_face_px][:MAX_FACES_PER_FRAME]
                self._n_usable += len(usable)
                if usable:
                    self._traces.add(frame.index, frame.image, usable[0].box)
                cut = [crop_face(frame.image, face, self._crop) for face in usable]
                self._tracker.add(frame, usable, [brightness(c) for c in cut])
                if self._pictures is not None:
                    self._pictures.add(frame, usable)
                cuts.append({(frame.index, face.box): c for face, c in zip(usable, cut, strict=True)})
                if self._again is not None:
                    self._spare.add(frame.image, faces)
            self._detect_s += time.perf_counter() - start
            for crops in cuts:
                self._crops.update(crops)
                yield crops
        yield from self._look_turned()

    def run(self) -> Extraction:
        """Look to the end, then finish; raises as :meth:`look`."""
        for _ in self.look():
            pass
        return self.finish()

    def finish(self) -> Extraction:
        """Everything that was found."""
        if self._turned is not None:
            frames, turned_search = self._turned
            extraction = turned_search.finish()
            if any(p.track.sureness == "sure" for p in extraction.people):
                return replace(
                    extraction,
                    media=self.media,
                    people=tuple(Person(frames.track(p.track), p.crops) for p in extraction.people),
                    doubtful=tuple(frames.track(t) for t in extraction.doubtful),
                    timing_s={name: s + self._timing_s()[name] for name, s in extraction.timing_s.items()},
                    turned=frames.degrees,
                    pictures=self._pictures,
                )
        followed = self._tracker.finish()
        tracks = [track for track in followed if track.sureness != "doubtful"]
        kept = seen_longest(tracks, self._max_tracks)
        people = tuple(Person(t, np.stack([self._crops[key] for key in crop_keys(t)])) for t in kept)
        sampling: Sampling | None = None
        if self.media.kind == "video":
            sampling = "seek" if self._sought else "sequential"
        return Extraction(
            self.media,
            people,
            self._sampled,
            self._with_face,
            self._n_usable,
            self._largest,
            self._brightest,
            self._timing_s(),
            sampling,
            len(tracks) - len(kept),
            tuple(seen_longest(followed[len(tracks) :], self._max_tracks)),
            coverage=self._coverage[-1] if self._coverage else None,
            pictures=self._pictures,
            sampling_shift_s=self._shift_s if self.media.kind == "video" else None,
            traces=self._traces.finish(),
        )

    def _timing_s(self) -> dict[str, float]:
        return {"decode": self._decoded.seconds, "detect": self._detect_s}

    def _look_turned(self) -> Iterator[dict[CropKey, RgbImage]]:
        """The same, in frames turned for their faces to be upright, where nobody was surely seen upright as it is."""
        if self._again is None or any(track.sureness == "sure" for track in self._tracker.finish()):
            return
        start = time.perf_counter()
        quarters = self._spare.quarters(self._finder)
        self._detect_s += time.perf_counter() - start
        if not quarters:
            return
        frames = TurnedFrames(self._again(), quarters)
        turned_search = PeopleSearch(
            replace(self.media, jpeg_table=None),  # its blocks are not turned
            frames,
            self._finder,
            self._crop,
            self._track,
            close_up=self._close_up,
            n_ahead=self._n_ahead,
            max_tracks=self._max_tracks,
            coverage=self._coverage,
            keep=self._keep and replace(self._keep, frames=False),  # whole frames are shown as they are
        )
        for crops in turned_search.look():
            yield {(index, frames.box(index, box)): crop for (index, box), crop in crops.items()}
        if self._pictures is not None and turned_search._pictures is not None:
            self._pictures.add_turned(turned_search._pictures, frames.box)
        self._turned = frames, turned_search

    def _faces(self, batch: Sequence[Frame]) -> list[list[Face]]:
        """The faces of each frame: looked for, or those of the frame before found again where that is safe.

        Of frames that could be followed every second one is: somebody may have come in the other.
        """
        cuts = self._tracker.cuts(batch)
        follows = [False] * len(batch)
        for i in range(1, len(batch)):
            follows[i] = not (follows[i - 1] or cuts[i]) and _is_soon_after(batch[i], batch[i - 1])
        faces_of: dict[int, list[Face]] = {}
        self._detect(batch, [i for i, follow in enumerate(follows) if not follow], faces_of)
        followed = [i for i, follow in enumerate(follows) if follow and faces_of[i - 1]]
        again = self._finder.follow([batch[i].image for i in followed], [faces_of[i - 1] for i in followed])
        faces_of.update({i: faces for i, faces in zip(followed, again, strict=True) if faces is not None})
        self._detect(batch, [i for i in range(len(batch)) if i not in faces_of], faces_of)
        return [faces_of[i] for i in range(len(batch))]

    def _detect(self, batch: Sequence[Frame], chosen: Sequence[int], faces_of: dict[int, list[Face]]) -> None:
        faces = self._finder.detect([batch[i].image for i in chosen], close_up=self._close_up)
        faces_of.update(zip(chosen, faces, strict=True))


def _batches(frames: Iterator[Frame], n: int) -> Iterator[list[Frame]]:
    """Up to ``n`` frames, fewer where they are large; that depends on nothing else."""
    batch: list[Frame] = []
    n_px = 0
    for frame in frames:
        batch.append(frame)
        n_px += frame.image.shape[0] * frame.image.shape[1]
        if len(batch) == n or n_px >= _MOST_PX_AT_ONCE:
            yield batch
            batch, n_px = [], 0
    if batch:
        yield batch


def seen_longest(tracks: list[Track], most: int | None) -> list[Track]:
    """The tracks with the most sightings, in their order; of equals the first."""
    if most is None or len(tracks) <= most:
        return tracks
    longest = sorted(range(len(tracks)), key=lambda i: -len(tracks[i].sightings))[:most]
    return [tracks[i] for i in sorted(longest)]


def _is_soon_after(frame: Frame, before: Frame) -> bool:
    return frame.time_s - before.time_s <= _FOLLOW_WITHIN_S and frame.image.shape == before.image.shape


class _Decoded:
    """Frames, and the seconds that decoding them took."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames, self.seconds = frames, 0.0

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        start = time.perf_counter()
        try:
            return next(self._frames)
        finally:
            self.seconds += time.perf_counter() - start

    def close(self) -> None:
        """Close the file that they come from."""
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()


def crop_keys(track: Track) -> list[CropKey]:
    """Of the crops of each sighting, as :meth:`PeopleSearch.look` gives them."""
    return [(s.frame_index, s.face.box) for s in track.sightings]


def search_people(
    path: Path | InMemory,
    n_frames: int,
    finder: FaceFinder,
    crop: CropSettings,
    track: TrackSettings,
    limits: MediaLimits,
    min_segment_s: float | None = None,
    isolation: IsolationLimits | None = DEFAULT_ISOLATION,
    keep: KeepPictures | None = None,
) -> PeopleSearch:
    """A search through a video or image, whose frames are decoded ahead of it in a thread.

    Args:
        path: of the file, or what is in memory.
        n_frames: sampled evenly over the whole duration.
        finder, crop, track: as for :class:`PeopleSearch`.
        limits: on the file.
        min_segment_s: see :func:`deepscan.extract.video.sampling.frames_for`.
        isolation: of the process that decodes; None decodes in this one.
        keep: as for :class:`PeopleSearch`.

    Raises:
        MediaError: the file cannot be read.
    """
    if isinstance(path, InMemory):
        pixels = path.frames
        return PeopleSearch(
            path.media,
            iter(pixels),
            finder,
            crop,
            track,
            close_up=path.kind == "image",
            max_tracks=limits.max_tracks,
            again=lambda: iter(pixels),
            keep=keep,
        )
    media = probe(path, limits, isolation)
    n_sampled = frames_for(n_frames, media.duration_s, min_segment_s)
    coverage: list[Coverage] = []

    def frames() -> Iterator[Frame]:
        # Stretches of a given length are found by frames at their times.
        share = NEARBY_SHARE if min_segment_s is None else 0.0
        return sample_frames(path, n_sampled, limits, isolation, nearby_share=share, examined=coverage.append)

    return PeopleSearch(
        media,
        frames(),
        finder,
        crop,
        track,
        close_up=media.kind == "image",
        n_ahead=_FRAMES_AHEAD,
        max_tracks=limits.max_tracks,
        again=frames,
        coverage=coverage,
        keep=keep,
    )


def is_too_dark(track: Track) -> bool:
    """Whether most of a track's crops are too dark to judge."""
    return float(np.median([s.brightness for s in track.sightings])) < TOO_DARK_LUMA


def clear_people(extraction: Extraction) -> tuple[Person, ...]:
    """The people who can be judged: those who are not too dark."""
    return tuple(person for person in extraction.people if not is_too_dark(person.track))


def nobody_reason(extraction: Extraction) -> str:
    """Why nobody in a file can be judged: ``no_face``, ``no_stable_face``, ``face_too_small`` or ``too_dark``."""
    if extraction.frames_with_face == 0:
        return "too_dark" if extraction.brightness < TOO_DARK_LUMA else "no_face"
    if extraction.n_usable == 0:
        return "face_too_small"
    return "too_dark" if extraction.people else "no_stable_face"
