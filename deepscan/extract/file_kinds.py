"""Which kinds of files are read, by name: the one list for folders, the web page, ``preprocess`` and the documents.

A file that is named is read whatever it is called, by its content. The list only says which files of a folder are
worth opening. What is no file at all (an address, stdin, a camera, a pipe) gets an error that says what to do instead.
"""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from deepscan.errors import MediaError

# Those of the containers that deepscan.extract.video.container opens.
_VIDEO_ENDINGS = """
    mp4 m4v mov qt 3gp 3g2 f4v mkv mk3d webm avi divx gif flv wmv asf mpg mpeg m2p vob mod ts m2ts mts m2t tod
    ogv mxf dv dif ivf nut rm rmvb y4m m2v m1v h264 264 h265 265 hevc
"""
_IMAGE_ENDINGS = "jpg jpeg jpe jfif mpo png apng webp bmp heic heif hif avif tif tiff jp2"
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _VIDEO_ENDINGS.split())
IMAGE_SUFFIXES = frozenset(f".{ending}" for ending in _IMAGE_ENDINGS.split())

# Endings that other files have, too, and what the first KiB of a video shows: source code in TypeScript, say.
_SHARED: dict[str, Callable[[bytes], bool]] = {
    ".ts": lambda head: b"\0" in head,
    ".mod": lambda head: head.startswith(b"\0\0\1\xba"),
}
_MOST_NAMED = 8
_WEB = ("http", "https", "ftp", "ftps")
_STREAMS = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt", "mms", "hls")
_STORAGE = ("s3", "gs", "az", "abfs", "hdfs", "sftp", "scp", "smb", "nfs", "dav", "davs")
# pathlib makes one slash of two.
_SCHEMES = "|".join((*_WEB, *_STREAMS, *_STORAGE))
_ADDRESS = re.compile(rf"(?:([a-z][a-z0-9+.-]+)://|({_SCHEMES}):/|(www)\.)", re.IGNORECASE)
_CAMERA = re.compile(r"(?:[0-9]{1,2}|(?:web)?cam(?:era)?[0-9]*|/dev/video[0-9]*)", re.IGNORECASE)


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


class NoFileError(MediaError):
    """Something that is no file was given; ``text`` is what, letter for letter: pathlib would change an address."""

    text = ""


def no_file(text: str) -> NoFileError | None:
    """The error for what is not there, if it is known what was meant."""
    if text == "-":
        return _no_file(
            text,
            "it stands for stdin, and a video has to be read back and forth",
            "deepscan predict keeps what comes; elsewhere save it first, such as with: cat > clip.mp4",
            "stdin",
        )
    if _CAMERA.fullmatch(text):
        return _camera(text)
    match = _ADDRESS.match(text)
    if match is None or match[1] == "file":
        return None
    scheme = (match[1] or match[2] or match[3]).lower()
    if scheme in _STREAMS:
        hint = f"deepscan predict --live {text} judges it as it runs; or record a part of it: ffmpeg -i {text} -t 60"
    elif scheme in (*_WEB, "www"):
        hint = "Download it first, with a browser, curl or yt-dlp, or have deepscan predict fetch it."
    else:
        hint = "Copy it to this machine first, with the tool of that storage, and give the file."
    return _no_file(text, "it is an address, and only files are judged here", hint, "url")


def no_regular_file(path: str, mode: int) -> MediaError:
    """The error for what is there and is no file, by its ``st_mode``."""
    if stat.S_ISDIR(mode):
        return _not_a_file(path, "it is a folder", "Give a video or an image.")
    if stat.S_ISCHR(mode) and _CAMERA.fullmatch(path):
        return _camera(path)
    if stat.S_ISFIFO(mode):
        cause = "it is a pipe, and a video has to be read back and forth"
        return _not_a_file(path, cause, "Save what comes through it to a file first.")
    return _not_a_file(path, "it is a device or socket", "Give a video or an image.")


def _camera(text: str) -> NoFileError:
    hint = "Record a clip first, and give the file, or judge it as it runs: deepscan predict --live 0"
    return _no_file(text, "it stands for a camera, and only files are judged", hint, "camera")


def _no_file(text: str, cause: str, hint: str, reason: str) -> NoFileError:
    error = NoFileError(f"{text}: is no file", cause, hint, reason=reason)
    error.text = text
    return error


def _not_a_file(path: str, cause: str, hint: str) -> MediaError:
    name = path.rpartition("/")[2] or path
    return MediaError(f"{name}: is not a file", cause, hint, reason="not_a_file")
