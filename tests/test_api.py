"""What ``import deepscan`` gives: inputs in memory, lists, results and reports as files. docs/python.md runs."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import clips
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

import deepscan
from deepscan.errors import ConfigError, MediaError, OutputError
from deepscan.extract.in_memory import read_source
from deepscan.extract.video.frames import sample_frames
from deepscan.report.table import schema
from deepscan.types import Result, VerdictLabel

ROOT = Path(__file__).parent.parent
TAKES = r"a path, a PIL image, an RGB array \(uint8 \[height, width, 3\]\), an iterable of \(time_s, RGB array\) pairs"


@pytest.fixture(scope="module")
def detector():
    return deepscan.load_detector(frames=6, device="cpu")


def scores(result):
    return result.verdict, result.probability, [[f.probability for f in track.frames] for track in result.tracks]


def test_settings_beside_settings(detector):
    assert (detector.settings.frames, detector.settings.device) == (6, "cpu")
    for wrong in ({"frames": 0}, {"device": "tpu"}):
        with pytest.raises(ConfigError):
            deepscan.load_detector(**wrong)


def test_a_picture_is_judged_alike_from_its_file_and_from_memory(detector, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    turned = Image.fromarray(np.rot90(clips.portrait()))
    turned.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        assert image.size == turned.size
        file, picture = detector.predict(tmp_path / "turned.png"), detector.predict(image)
    array = detector.predict(np.ascontiguousarray(clips.portrait()))
    assert scores(file)[2] != []
    assert scores(picture) == scores(file) == scores(array)
    assert (picture.path, picture.kind, picture.sha256, array.path) == ("<image>", "image", None, "<array>")
    assert detector.predict(np.rot90(clips.portrait())).turned in (90, 270)


def test_frames_are_judged_as_the_file_that_they_are_from(detector, face_clip):
    frames = [(frame.time_s, frame.image) for frame in sample_frames(face_clip, 6)]
    file = detector.predict(face_clip)
    for source in (frames, tuple(frames), iter(frames)):
        result = detector.predict(source)
        assert scores(result) == scores(file)
        assert [f.time_s for f in result.tracks[0].frames] == [time_s for time_s, _ in frames]
    assert (result.path, result.kind, result.frames_sampled, result.sampling) == ("<frames>", "video", 6, "sequential")
    assert result.duration_s == pytest.approx(frames[-1][0] - frames[0][0])


def test_of_many_frames_some_are_taken_evenly_and_few_are_held():
    """A generator that fills one array again and again, as capture libraries do."""

    def frames():
        image = np.zeros((8, 8, 3), np.uint8)
        for number in range(250):
            image[:] = number
            yield number / 25, image

    read = read_source(frames(), "", 6)
    taken = [int(frame.image[0, 0, 0]) for frame in read.frames]
    assert len(taken) == 6
    assert [round(25 * frame.time_s) for frame in read.frames] == taken
    assert set(np.diff(taken)) <= {32, 64}
    assert taken[0] <= 32
    assert taken[-1] >= 224
    assert read.media.duration_s == 249 / 25
    assert len(read_source(frames(), "", 6, min_segment_s=0.5).frames) == 40


def test_a_list_gives_a_result_for_each(detector, face_clip, portrait_image, tmp_path):
    array = clips.portrait()
    (tmp_path / "cut.jpg").write_bytes(portrait_image.read_bytes()[:2000])
    with Image.open(portrait_image) as whole, Image.open(tmp_path / "cut.jpg") as broken:
        results = detector.predict([str(face_clip), array, whole, "missing.mp4", broken])
    assert [r.path for r in results] == [str(face_clip), "<array 1>", "<image 2>", "missing.mp4", "<image 4>"]
    assert [r.reason for r in results[3:]] == ["not_found", "unreadable"]
    assert scores(results[0]) == scores(detector.predict(face_clip))
    assert detector.predict([]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        3,
        None,
        b"clip.mp4",
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((4, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        [np.zeros((8, 8, 3), np.uint8), 3],
        iter(["clip.mp4"]),
        iter([np.zeros((8, 8, 3), np.uint8)]),
        [(0.0, np.zeros((8, 8), np.uint8))],
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_what_is_not_taken(detector, wrong):
    with pytest.raises(TypeError, match=TAKES):
        detector.predict(wrong)


def test_frames_that_are_no_video(detector):
    image = np.zeros((8, 8, 3), np.uint8)
    for pairs in ([(1.0, image), (1.0, image)], [(float("nan"), image)], [(0.0, image), (1.0, image[:4])]):
        with pytest.raises(ValueError, match="have to"):
            detector.predict(pairs)
    with pytest.raises(MediaError) as raised:
        detector.predict(iter([]))
    assert raised.value.reason == "no_frames"


STRANGE = Result("<b>.mp4", None, "video", VerdictLabel.FAKE, None, "a & b", 0.91234)


def test_a_result_as_text_json_and_table(detector):
    assert repr(STRANGE) == "Result('<b>.mp4', verdict='fake', probability=0.9123, people=0)"
    assert json.loads(STRANGE.to_json()) == STRANGE.to_dict() == detector.report([STRANGE]).to_dict()["results"][0]
    assert STRANGE._repr_html_().count("<tr>") == 2
    assert "<td>&lt;b&gt;.mp4</td><td>fake</td><td>0.912</td><td>0</td><td>a &amp; b</td>" in STRANGE._repr_html_()
    report = detector.report([STRANGE, STRANGE])
    assert repr(report) == f"Report(2 results of model default {detector.card.version}: fake: 2)"
    assert report._repr_html_().count("<tr>") == 3
    assert repr(detector).startswith(f"Detector(default {detector.card.version}: ")


def test_a_report_is_saved(detector, face_clip, tmp_path):
    report = detector.report(detector.predict([face_clip, clips.portrait(), "missing.mp4"]))
    for _ in range(2):  # an earlier one is replaced
        report.save_csv(tmp_path / "a.csv")
        report.save_json(tmp_path / "a.json")
        report.save_html(tmp_path / "b.html")
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["verdict"] for row in rows] == [str(r.verdict) for r in report.results]
    content = json.loads((tmp_path / "a.json").read_text())
    Draft202012Validator(schema()).validate(content)
    assert content == json.loads((tmp_path / "b.json").read_text()) == report.to_dict()
    page = (tmp_path / "b.html").read_text()
    assert page.count("data:image/jpeg") > 0  # faces of the file
    assert "&lt;array 1&gt;" in page
    assert "<array 1>" not in page
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(OutputError):
        report.save_csv(tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "mine"


def test_the_page_of_the_docs_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec("\n".join(blocks), names)  # noqa: S102
    assert [r.verdict for r in names["results"]][2] == "error"
    assert names["whole"].kind == "video"
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"data", "results.csv", "results.json", "evidence.html", "evidence.json"}
