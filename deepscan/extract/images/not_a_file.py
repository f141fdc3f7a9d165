"""What people give that is no file: addresses, stdin, cameras, pipes; and what to do instead."""

from __future__ import annotations

import re
import stat

from deepscan.errors import MediaError

_WEB = ("http", "https", "ftp", "ftps")
_STREAMS = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt", "mms", "hls")
_STORAGE = ("s3", "gs", "az", "abfs", "hdfs", "sftp", "scp", "smb", "nfs", "dav", "davs")
# pathlib makes one slash of two.
_KNOWN = "|".join((*_WEB, *_STREAMS, *_STORAGE))
_ADDRESS = re.compile(rf"(?:([a-z][a-z0-9+.-]+)://|({_KNOWN}):/|(www)\.)", re.IGNORECASE)
_CAMERA = re.compile(r"(?:[0-9]{1,2}|(?:web)?cam(?:era)?[0-9]*|/dev/video[0-9]*)", re.IGNORECASE)


class NoFileError(MediaError):
    """Something that is no file was given; ``given`` is what, letter for letter: pathlib would change an address."""

    given = ""


def no_file(given: str) -> NoFileError | None:
    """The error for what is not there, if it is known what was meant."""
    if given == "-":
        return _no_file(
            given,
            "it stands for stdin, and a video has to be read back and forth",
            "Save it to a file first, such as with: cat > clip.mp4",
            "stdin",
        )
    if _CAMERA.fullmatch(given):
        return _camera(given)
    match = _ADDRESS.match(given)
    if match is None or match[1] == "file":
        return None
    scheme = (match[1] or match[2] or match[3]).lower()
    if scheme in _STREAMS:
        hint = f"Record a part of it first, such as with: ffmpeg -i {given} -t 60 -c copy clip.mkv"
    elif scheme in (*_WEB, "www"):
        hint = "Download it first, with a browser, curl or yt-dlp, and give the file."
    else:
        hint = "Copy it to this machine first, with the tool of that storage, and give the file."
    return _no_file(given, "it is an address, and nothing is fetched from the network", hint, "url")


def no_regular_file(path: str, mode: int) -> MediaError:
    """The error for what is there and is no file, by its ``st_mode``."""
    if stat.S_ISDIR(mode):
        return _not_a_file(path, "it is a folder", "Give a video or an image.")
    if stat.S_ISCHR(mode) and _CAMERA.fullmatch(path):
        return _camera(path)
    if stat.S_ISFIFO(mode):
        why = "it is a pipe, and a video has to be read back and forth"
        return _not_a_file(path, why, "Save what comes through it to a file first.")
    return _not_a_file(path, "it is a device or socket", "Give a video or an image.")


def _camera(given: str) -> NoFileError:
    hint = "Record a clip first, with a camera program or ffmpeg, and give the file."
    return _no_file(given, "it stands for a camera, and only files are judged", hint, "camera")


def _no_file(given: str, why: str, hint: str, reason: str) -> NoFileError:
    error = NoFileError(f"{given}: is no file", why, hint, reason=reason)
    error.given = given
    return error


def _not_a_file(path: str, why: str, hint: str) -> MediaError:
    name = path.rpartition("/")[2] or path
    return MediaError(f"{name}: is not a file", why, hint, reason="not_a_file")
