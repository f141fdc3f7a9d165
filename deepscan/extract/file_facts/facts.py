"""What a file says of itself: container, streams, tags, and traces of editing, each with what it does not say.

Nothing is decoded: the facts of a video are in its headers and in the order of its packets. None of them can tell a
deepfake from an honest video. Tags are easily changed, most platforms write every upload again, and most traces have an
innocent explanation; :class:`Fact` therefore carries a sentence for a person beside its value.

All texts come from strangers: they are shortened here, and whoever shows them escapes them.
"""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Literal

import av

from deepscan.config import DEFAULT_LIMITS, MediaLimits
from deepscan.extract.file_facts.image_facts import image_facts
from deepscan.extract.file_facts.metadata import (
    Fact,
    FileFacts,
    Tag,
    camera_sign,
    duration_text,
    size_text,
    software_sign,
    tags_of,
)
from deepscan.extract.file_facts.provenance import read_provenance
from deepscan.extract.images.stills import is_animated_webp
from deepscan.extract.video.container import checked_kind, demuxed, is_avi, opened, quiet_ffmpeg

GopKind = Literal["none", "single", "every", "fixed", "varied", "mixed"]

# So many equal distances in a row are a rhythm; two rhythms in one video are what joining leaves.
_RHYTHM = 3
_JUMP = 3.0  # times the usual distance between two frames
_SOUND_SLACK_S = 0.5
# Encoders leave their name and settings in the first packet of a stream.
_SIGNATURES = (b"x264 - core", b"x265 (build", b"Lavc")
_SIGNATURE_BYTES, _SIGNATURE_LENGTH = 4096, 60

_GOP_MEANINGS: dict[GopKind, str] = {
    "none": "No keyframe is marked, which is usual for damaged files and raw streams.",
    "single": "All in one group: too short to see a rhythm.",
    "every": "Every frame is a keyframe, as editing formats and motion JPEG have it: joins leave no trace here.",
    "fixed": "One rhythm all through. A video that was written again as a whole after a cut has it, too.",
    "varied": "Keyframes come as the picture demands it, the usual way of many encoders. It tells nothing.",
    "mixed": (
        "The rhythm changes: parts may come from different recordings or encoders that were joined without encoding "
        "them again. Live streams, calls, screen recorders and cameras that change their mode do the same."
    ),
}


@dataclass(frozen=True, slots=True)
class Gops:
    """Groups of pictures: how many packets from one keyframe to the next, in the order of the file.

    Attributes:
        kind: ``fixed`` where all but the last are equally long, ``mixed`` where at least two rhythms of three or more
            equal groups follow each other, ``varied`` otherwise.
        lengths: of all groups.
    """

    kind: GopKind
    lengths: tuple[int, ...]


def gops_of(keyframes: Sequence[bool]) -> Gops:
    """Groups of pictures of a stream's packets, of which each is told whether it is a keyframe."""
    starts = [index for index, key in enumerate(keyframes) if key]
    lengths = tuple(b - a for a, b in pairwise([*starts, len(keyframes)]))
    if not lengths:
        return Gops("none", ())
    complete = lengths[:-1]  # the last one is cut by the end
    if not complete:
        return Gops("single", lengths)
    if set(complete) == {1}:
        return Gops("every", lengths)
    if len(set(complete)) == 1:
        return Gops("fixed", lengths)
    rhythms = [length for length, run in groupby(complete) if len(list(run)) >= _RHYTHM]
    return Gops("mixed" if len(set(rhythms)) > 1 else "varied", lengths)


def file_facts(path: Path, limits: MediaLimits = DEFAULT_LIMITS) -> FileFacts:
    """Facts of a video or image. The packets of a video are read to the end; no frame is decoded.

    Raises:
        MediaError: the file cannot be opened, with the reasons of :func:`deepscan.extract.video.frames.probe`.
    """
    kind = checked_kind(path, limits)
    size = Fact("Size", size_text(path.stat().st_size), "Of the whole file.")
    if kind == "image" or is_animated_webp(path):
        facts, signs, tags, left_out = image_facts(path, limits.max_pixels)
    else:
        facts, signs, tags, left_out = _video_facts(path, limits)
    return FileFacts(kind, (size, *facts), signs, tags, left_out, read_provenance(path))


@dataclass(frozen=True, slots=True)
class _Packets:
    """What the packets of the picture tell without being decoded; times in seconds."""

    gops: Gops
    n_frames: int
    times_s: tuple[float, ...]
    signature: str


def _video_facts(path: Path, limits: MediaLimits) -> tuple[tuple[Fact, ...], tuple[Fact, ...], tuple[Tag, ...], int]:
    with quiet_ffmpeg(), opened(path, limits) as (container, stream):
        groups = [("file", dict(container.metadata))]
        groups += [(f"{s.type} {s.index}", dict(s.metadata)) for s in container.streams]
        tags, left_out = tags_of(groups)
        facts = [
            Fact("Container", container.format.long_name, "The kind of file, told by its content, not by its name."),
            *_stream_facts(container, stream),
        ]
        packets = _packets(demuxed(path, container, stream, limits), stream, in_order=is_avi(container))
        facts += [*_rate_facts(stream, packets), _created(groups)]
    signs = (
        _gop_sign(packets.gops),
        software_sign(groups, packets.signature),
        camera_sign(groups),
        _timing_sign(packets.times_s),
    )
    return tuple(facts), signs, tags, left_out


def _stream_facts(container: Any, stream: Any) -> Iterator[Fact]:
    context = stream.codec_context
    profile = f", profile {stream.profile}" if stream.profile else ""
    yield Fact(
        "Codec", f"{context.codec.long_name}{profile}", "How the picture is compressed. Common ones tell nothing."
    )
    yield Fact(
        "Picture", f"{stream.width} x {stream.height} px, {context.pix_fmt or 'not said'}",
        "Size as stored, before any rotation, and the way colours are stored.",
    )  # fmt: skip
    if container.duration is not None:
        yield Fact("Duration", duration_text(container.duration / av.time_base), "By the header of the file.")
    rate = context.bit_rate or container.bit_rate
    if rate:
        yield Fact("Bit rate", f"{rate / 1000:,.0f} kbit/s", "The lower it is, the more of the traces is lost.")
    yield from _sound_facts(container, stream)
    others = [s.type for s in container.streams if s.type not in ("audio", "video")]
    if others:
        yield Fact("Other streams", ", ".join(sorted(set(others))), "Subtitles, chapters or data of the camera.")


def _sound_facts(container: Any, stream: Any) -> Iterator[Fact]:
    codecs = [s.codec_context.codec.long_name if s.codec_context else "unknown" for s in container.streams.audio]
    text = ", ".join(dict.fromkeys(codecs)) or "none"
    meaning = "Sound is not judged by deepscan."
    lengths = [_length_s(s) for s in (stream, *container.streams.audio[:1])]
    if len(lengths) == 2 and None not in lengths and abs(lengths[0] - lengths[1]) > _SOUND_SLACK_S:
        text += f"; {duration_text(lengths[1])} long, the picture {duration_text(lengths[0])}"
        meaning += " That it is not as long as the picture comes from editing as from recorders that stop unevenly."
    yield Fact("Sound", text, meaning)


def _length_s(stream: Any) -> Any:
    if stream.duration is None or stream.time_base is None:
        return None
    return float(stream.duration * stream.time_base)


def _packets(demuxed_packets: Iterable[Any], stream: Any, *, in_order: bool) -> _Packets:
    keys, ticks, signature = array("b"), array("q"), ""
    for packet in demuxed_packets:
        if not keys:
            signature = _signature(bytes(packet)[:_SIGNATURE_BYTES])
        keys.append(packet.is_keyframe)
        time = packet.dts if in_order or packet.pts is None else packet.pts
        if time is not None and not packet.is_discard:
            ticks.append(time)
    base = stream.time_base
    times = tuple(float(tick * base) for tick in sorted(set(ticks))) if base is not None else ()
    return _Packets(gops_of([bool(key) for key in keys]), len(keys), times, signature)


def _signature(data: bytes) -> str:
    for mark in _SIGNATURES:
        start = data.find(mark)
        if start >= 0:
            text = data[start : start + _SIGNATURE_LENGTH].decode("ascii", "replace")
            return "".join(c for c in text.split("\x00")[0] if c.isprintable() and c != "\ufffd").split(" - H.26")[0]
    return ""


def _rate_facts(stream: Any, packets: _Packets) -> Iterator[Fact]:
    declared = float(stream.average_rate) if stream.average_rate else None
    times = packets.times_s
    span = times[-1] - times[0] if times else 0.0
    measured = (len(times) - 1) / span if span > 0 else None
    rates = [
        f"{declared:.4g} frames/s declared" if declared else "",
        f"{measured:.4g} by the frames" if measured else "",
    ]
    yield Fact(
        "Frame rate", ", ".join(part for part in rates if part) or "not said",
        "The rate in the header, and the one that the times of the frames give. Many phones record unevenly.",
    )  # fmt: skip
    yield Fact("Frames", f"{packets.n_frames:,}", "Counted, not decoded.")


def _created(groups: Sequence[tuple[str, Mapping[str, str]]]) -> Fact:
    for _, tags in groups:
        for name, value in tags.items():
            if name.lower() in ("creation_time", "com.apple.quicktime.creationdate", "date"):
                return Fact("Created", value[:60], "What the file says; any program can write any date.")
    return Fact("Created", "not said", "Most platforms remove the date; its absence tells nothing.")


def _gop_sign(gops: Gops) -> Fact:
    complete = gops.lengths[:-1] or gops.lengths
    value = {"mixed": "mixed", "fixed": f"every {complete[0]} frames" if complete else "", "none": "none marked",
             "every": "every frame", "single": "a single group"}.get(gops.kind, "varied")  # fmt: skip
    if gops.kind in ("varied", "mixed"):
        value += f", {min(complete)} to {max(complete)} frames apart, {statistics.median(complete):g} in the middle"
    return Fact("Keyframes", value, _GOP_MEANINGS[gops.kind], noticed=gops.kind == "mixed")


def _timing_sign(times_s: Sequence[float]) -> Fact:
    steps = [b - a for a, b in pairwise(times_s)]
    usual = statistics.median(steps) if steps else 0.0
    longest, at = max(((step, -time) for step, time in zip(steps, times_s, strict=False)), default=(0.0, 0.0))
    if not usual or longest <= _JUMP * usual:
        meaning = "Frames follow each other without a break. A cut that was encoded again leaves no break either."
        return Fact("Frame times", "even" if steps else "too few frames", meaning)
    value = f"{longest:.2f} s without a frame at {-at:.1f} s; usual are {usual:.3f} s"
    meaning = "Frames are missing there, or were dropped. Slow phones, calls and still pictures leave such breaks, too."
    return Fact("Frame times", value, meaning, noticed=True)
