"""What files with pictures are called: the one list for folders, the web page, ``preprocess`` and the documents.

A file that is named is read whatever it is called, by its content. The list only says which files of a folder are
worth opening.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

# By FFmpeg's name of the format, as in deepscan.extract.video.container; what is read there is looked for in folders.
VIDEO_ENDINGS = {
    "mov": "mp4 m4v mov qt 3gp 3g2 f4v",
    "matroska": "mkv mk3d webm",
    "avi": "avi divx",
    "gif": "gif",
    "flv": "flv",
    "asf": "wmv asf",
    "mpeg": "mpg mpeg m2p vob mod",
    "mpegts": "ts m2ts mts m2t tod",
    "ogg": "ogv",
    "mxf": "mxf",
    "dv": "dv dif",
    "ivf": "ivf",
    "nut": "nut",
    "rm": "rm rmvb",
    "yuv4mpegpipe": "y4m",
    "mpegvideo": "m2v m1v",
    "h264": "h264 264",
    "hevc": "h265 265 hevc",
}

# Endings that other files have, too, and what the first KiB of a video shows: source code in TypeScript, say.
_SHARED: dict[str, Callable[[bytes], bool]] = {
    ".ts": lambda head: b"\0" in head,
    ".mod": lambda head: head.startswith(b"\0\0\1\xba"),
}
_MOST_NAMED = 8


def suffixes_of(formats: str) -> frozenset[str]:
    """Suffixes (``.mp4``) of videos in these formats, FFmpeg's names with commas."""
    return frozenset(f".{ending}" for name in formats.split(",") for ending in VIDEO_ENDINGS.get(name, "").split())


def is_media(path: str, suffixes: frozenset[str]) -> bool:
    """Whether a file found in a folder has one of these suffixes, in any case, and is not known for something else."""
    suffix = suffix_of(path)
    if suffix not in suffixes:
        return False
    if suffix not in _SHARED:
        return True
    try:
        with Path(path).open("rb") as file:
            return _SHARED[suffix](file.read(1024))
    except OSError:  # it is told when it is read
        return True


def suffix_of(path: str) -> str:
    """The suffix in lower case, with its dot; empty if there is none."""
    return Path(path).suffix.lower()


def passed_over_text(passed_over: Mapping[str, int]) -> str:
    """How many files of folders were not opened, by suffix, as part of a sentence: ``3 files (2 .txt, 1 .docx)``."""
    n_files = sum(passed_over.values())
    most = Counter(passed_over).most_common()
    named = [f"{count:,} {suffix or 'without ending'}" for suffix, count in most[:_MOST_NAMED]]
    rest = sum(count for _, count in most[_MOST_NAMED:])
    if rest:
        named.append(f"{rest:,} of {len(most) - _MOST_NAMED} other endings")
    return f"{n_files:,} file{'s' * (n_files != 1)} ({', '.join(named)})"
