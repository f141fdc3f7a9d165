"""``predict --html`` and ``explain``: what they write for a video, two people, an image, and nobody."""

from __future__ import annotations

import csv
import json
import math
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from readpage import Page

from deepscan import cli

QUICK = ("--frames", "4", "--no-tta")


@pytest.fixture
def run(monkeypatch, capfd):
    """The entry point with arguments, in this process: exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["deepscan", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return stop.value.code or 0, out, err

    return run


@pytest.fixture
def inputs(face_clip, two_people_clip, no_face_clip, portrait_image):
    return [face_clip, two_people_clip, no_face_clip, portrait_image]


def read(path):
    return Page(Path(path).read_bytes())


def test_a_page_for_every_kind_of_input(run, inputs, tmp_path):
    code, out, err = run("predict", *inputs, *QUICK, "--no-heat", "--html", tmp_path / "r.html")
    assert code == 0
    assert inputs[0].name in out  # the table too
    assert str(tmp_path / "r.html") in err
    page = read(tmp_path / "r.html")
    results = json.loads((tmp_path / "r.json").read_bytes())["results"]
    assert [Path(result["path"]).name for result in results] == [path.name for path in inputs]
    for result in results:
        assert f"{result['sha256']}" in page.text
    assert "Heat maps were not asked for." in page.text
    assert sum(len(result["tracks"]) for result in results) == 4
    assert page.text.count("Nothing to judge") >= 1
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert len(page.all("img")) >= 4 + 2 * 4 + 1


def test_heat_maps_come_by_themselves_for_a_few_files(run, face_clip, tmp_path):
    code, _, _ = run("predict", face_clip, *QUICK, "--html", tmp_path / "r.html")
    assert code == 0
    assert "where the detector sees signs of" in read(tmp_path / "r.html").text


def test_a_file_that_fails_costs_no_page(run, face_clip, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    code, _, _ = run("predict", tmp_path / "bad.mp4", face_clip, *QUICK, "--no-heat", "--html", tmp_path / "r.html")
    assert code == 3
    assert "Could not be judged" in read(tmp_path / "r.html").text


@pytest.mark.parametrize(
    ("name", "told"), [("r.txt", "a report page is an .html file"), ("none/r.html", "there is no folder")]
)
def test_a_page_that_cannot_be_written_is_told_at_once(run, face_clip, tmp_path, monkeypatch, name, told):
    monkeypatch.setattr("deepscan.detector.load_detector", lambda *_: pytest.fail("was judged"))
    code, _, err = run("predict", face_clip, "--html", tmp_path / name)
    assert code == 3
    assert told in err


def test_the_page_and_the_json_need_two_names(run, face_clip, tmp_path):
    code, _, err = run("predict", face_clip, "--html", tmp_path / "r.html", "--json", tmp_path / "r.json")
    assert code == 2
    assert "both want" in err


def test_explain_writes_everything(run, inputs, tmp_path):
    out = tmp_path / "evidence"
    code, shown, err = run("explain", *inputs, *QUICK, "--out", out)
    assert code == 0
    assert "report.html is the page to open" in err
    assert inputs[0].name in shown
    assert "where the detector sees signs of" in read(out / "report.html").text
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert [name[:3] for name in folders] == ["001", "002", "003", "004"]
    face, two, nobody, image = (out / name for name in folders)
    assert (face / "annotated.mp4").stat().st_size > 1000
    assert (image / "annotated.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in nobody.iterdir()) == ["annotated.mp4"]
    assert {path.name for path in two.iterdir()} >= {"person-1", "person-2", "timeline.csv", "frames"}
    rows = list(csv.DictReader((two / "timeline.csv").read_text().splitlines()))
    assert [row["person"] for row in rows] == ["1"] * 4 + ["2"] * 4
    pictures = sorted(path.name for path in (face / "person-1").iterdir())
    assert len(pictures) == 8
    assert pictures[1] == pictures[0].replace("-heat", "")


def test_explain_goes_on_after_a_bad_file(run, face_clip, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    more = ("--no-video", "--error-level", "--full", "--out", tmp_path / "out")
    code, _, _ = run("explain", tmp_path / "bad.mp4", face_clip, *QUICK, *more)
    assert code == 3
    levels = tmp_path / "out" / f"002-{face_clip.stem}" / "error-level"
    assert sorted(path.name for path in levels.iterdir()) == ["face.png", "frame.png"]
    page = read(tmp_path / "out" / "report.html")
    assert page.all("details")
    assert all("open" in details for details in page.all("details"))
    assert "Error level of the face" in {image["alt"].split(" at ")[0] for image in page.all("img")}
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == [f"002-{face_clip.stem}"]
    assert not (tmp_path / "out" / f"002-{face_clip.stem}" / "annotated.mp4").exists()


def test_short_stretches_take_more_frames(run, face_clip, tmp_path):
    code, out, _ = run("predict", face_clip, "--frames", "2", "--no-tta", "--min-segment", "200ms", "--json", "-")
    assert code == 0
    (result,) = json.loads(out)["results"]
    assert result["frames_sampled"] == math.ceil(2 * result["duration_s"] / 0.2)
    times = [frame["time_s"] for frame in result["tracks"][0]["frames"]]
    assert max(later - earlier for earlier, later in pairwise(times)) <= 0.15


@pytest.mark.parametrize("wrong", ["0", "-1s", "two", "1d", "", "nan"])
def test_a_length_of_time_is_checked(run, face_clip, wrong):
    code, _, err = run("predict", face_clip, f"--min-segment={wrong}")
    assert code == 2
    assert "no length of time" in err


def test_explain_needs_grad_cam(run, face_clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = run("explain", face_clip, "--out", tmp_path / "out")
    assert code != 0
    assert "pip install 'deepscan-video[explain]'" in err
    assert not (tmp_path / "out").exists()
