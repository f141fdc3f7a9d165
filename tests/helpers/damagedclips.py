"""Clips as transport, cards and recorders leave them: parts lost, cut off, joined, beside other pictures."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import clips

TS_PACKET_BYTES = 188


def repack(source: Path, target: Path, change: Callable[[int, bytes], bytes | None]) -> Path:
    """Copy a video without decoding it; ``change`` gives each packet's new content, None to drop it."""
    with av.open(str(source)) as before, av.open(str(target), "w") as after:
        stream = before.streams.video[0]
        copy = after.add_stream_from_template(stream)
        for i, packet in enumerate(p for p in before.demux(stream) if p.size):
            data = change(i, bytes(packet))
            if data is None:
                continue
            new = av.Packet(data)
            new.pts, new.dts, new.duration, new.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
            new.is_keyframe, new.stream = packet.is_keyframe, copy
            after.mux(new)
    return target


def halved(*hits: int) -> Callable[[int, bytes], bytes | None]:
    """For :func:`repack`: these packets lose their second half."""
    return lambda i, data: data[: len(data) // 2] if i in hits else data


def lose_transport_packets(source: Path, target: Path, share: float, seed: int = 1) -> Path:
    """An MPEG transport stream as it comes over a bad network; its tables arrive."""
    dice = random.Random(seed)
    data = source.read_bytes()
    whole = [data[at : at + TS_PACKET_BYTES] for at in range(0, len(data), TS_PACKET_BYTES)]
    target.write_bytes(b"".join(p for i, p in enumerate(whole) if i < 20 or dice.random() >= share))
    return target


def cut(path: Path, keep: float) -> Path:
    data = path.read_bytes()
    target = path.with_name(f"cut{path.suffix}")
    target.write_bytes(data[: int(len(data) * keep)])
    return target


def combine(
    target: Path, sources: list[Path], default: int | None = None, options: dict[str, str] | None = None
) -> Path:
    """The pictures of several files side by side in one, without decoding them; one of them is the default."""
    with av.open(str(target), "w", options=options or {}) as out:
        inputs = [av.open(str(source)) for source in sources]
        copies: list[Any] = [out.add_stream_from_template(one.streams.video[0]) for one in inputs]
        if default is not None:
            for i, copy in enumerate(copies):
                copy.disposition = av.stream.Disposition.default if i == default else 0
        for one, copy in zip(inputs, copies, strict=True):
            for packet in one.demux(one.streams.video[0]):
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
            one.close()
    return target


def with_sound(source: Path, target: Path, seconds: float) -> Path:
    """A video with a track of silence of another length, without encoding the video again."""
    with av.open(str(source)) as before, av.open(str(target), "w") as out:
        stream = before.streams.video[0]
        copy, sound = out.add_stream_from_template(stream), out.add_stream("aac", rate=16000, layout="mono")
        for packet in before.demux(stream):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
        clips.write_silence(out, sound, seconds)
    return target
