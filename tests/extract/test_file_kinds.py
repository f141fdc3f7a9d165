"""One list of what is read: what it holds is read, is looked for in folders, and stands in the documents."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import av
import clips
import numpy as np
import pytest

from deepscan.extract.file_kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_media, passed_over_text
from deepscan.extract.inputs import expand_inputs
from deepscan.extract.video.frames import probe, sample_frames

DOCUMENT = Path(__file__).parents[2] / "docs" / "report.md"
# What a file of each ending is made with, and with which muxer where FFmpeg does not know the ending.
MADE = {
    "mp4 m4v f4v mkv ts m2ts mts": ("libx264", None),
    "mk3d": ("libx264", "matroska"),
    "mov 3gp 3g2": ("mpeg4", None),
    "qt": ("mpeg4", "mov"),
    "webm": ("libvpx", None),
    "ogv": ("libvpx", "ogg"),
    "avi": ("mjpeg", None),
    "divx": ("mpeg4", "avi"),
    "gif": ("gif", None),
    "flv": ("flv1", None),
    "wmv": ("wmv2", None),
    "asf": ("msmpeg4", None),
    "mpg": ("mpeg1video", None),
    "mpeg vob": ("mpeg2video", None),
    "m2p mod": ("mpeg2video", "vob"),
    "m2t tod": ("mpeg2video", "mpegts"),
    "mxf": ("mpeg2video", None),
    "dv": ("dvvideo", None),
    "dif": ("dvvideo", "dv"),
    "ivf": ("libvpx", None),
    "nut": ("mpeg4", None),
    "rm": ("rv10", None),
    "rmvb": ("rv10", "rm"),
    "y4m": ("rawvideo", None),
    "m2v": ("mpeg2video", None),
    "m1v": ("mpeg1video", None),
    "h264 264": ("libx264", "h264"),
    "h265 265 hevc": ("libx265", "hevc"),
}
WRITERS = {f".{ending}": writer for endings, writer in MADE.items() for ending in endings.split()}
SIZES = {"dvvideo": (720, 576), "rv10": (176, 144)}


def made(path):
    """Twelve frames of texture."""
    codec, muxer = WRITERS[path.suffix]
    width, height = SIZES.get(codec, (96, 64))
    pixels = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    with av.open(str(path), "w", format=muxer) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if codec == "libx265":
            stream.codec_context.options = {"x265-params": "log-level=none"}
        for image in clips.texture_frames(12, (width, height)):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        out.mux(stream.encode())
    return path


def test_every_ending_can_be_made_here():
    assert set(WRITERS) == VIDEO_SUFFIXES


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES))
def test_every_video_of_the_list_is_found_and_read(tmp_path, suffix):
    path = made(tmp_path / f"clip{suffix}")
    assert list(expand_inputs([tmp_path])) == [(path, None)]
    assert len(list(sample_frames(path, 4))) == 4
    assert probe(path).kind == "video"


def test_source_code_is_no_video(tmp_path):
    """A folder of a web project, beside a camera's."""
    (tmp_path / "main.ts").write_text("export const answer: number = 42;\n" * 100)
    (tmp_path / "go.mod").write_text("module example.org/x\n")
    made(tmp_path / "clip.ts")
    passed_over = Counter()
    assert [path.name for path, _ in expand_inputs([tmp_path], passed_over)] == ["clip.ts"]
    assert passed_over == {".ts": 1, ".mod": 1}
    assert not is_media(str(tmp_path / "main.ts"), VIDEO_SUFFIXES)
    assert is_media(str(tmp_path / "gone.ts"), VIDEO_SUFFIXES)  # whoever reads it tells


def test_what_is_passed_over_is_one_line_by_ending():
    assert passed_over_text({".txt": 1}) == "1 file (1 .txt)"
    assert passed_over_text({".txt": 2, "": 1, ".docx": 1200}) == (
        "1,203 files (1,200 .docx, 2 .txt, 1 without ending)"
    )
    assert passed_over_text({f".{n}": 1 for n in range(20)}).endswith("1 .7, 12 of 12 other endings)")


def test_the_documents_have_the_same_list():
    section = re.search(r"<!-- endings -->(.*?)<!-- /endings -->", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert section is not None
    listed = {f".{ending}" for ending in re.findall(r"`(\w+)`", section[1])}
    assert VIDEO_SUFFIXES | IMAGE_SUFFIXES <= listed <= set(WRITERS) | IMAGE_SUFFIXES
