"""A file is decoded once, whoever wants what of it; counted are the requests for its frames."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace

import pytest

from deepscan import cli
from deepscan.config import PredictSettings
from deepscan.detector import load_detector
from deepscan.extract.isolation.decoder_process import DecoderProcess
from deepscan.extract.people import crop_keys
from deepscan.extract.pictures import FACE_SIDE_PX, FRAME_SIDE_PX, KeepPictures
from deepscan.report.html import from_file, make_material, pictures_to_keep

QUICK = ("--frames", "4", "--no-tta")


@pytest.fixture
def decodes(monkeypatch):
    """How often the frames of each file were decoded."""
    counts: Counter[str] = Counter()
    run = DecoderProcess.run

    def counted(self, path, request, *rest):
        counts[path.name] += request["do"] == "sample"
        return run(self, path, request, *rest)

    monkeypatch.setattr(DecoderProcess, "run", counted)
    return counts


@pytest.fixture(scope="module")
def detector():
    return load_detector("default", PredictSettings(frames=4, tta=False))


@pytest.mark.parametrize(
    ("command", "most"),
    [
        (("predict",), 1),
        (("predict", "--no-heat", "--html", "report.html"), 1),
        (("predict", "--heat", "--html", "report.html"), 1),
        (("explain", "--out", "evidence"), 2),  # the annotated copy has every frame
        (("explain", "--no-video", "--out", "evidence"), 1),
    ],
)
def test_a_command_decodes_a_file_once(decodes, command, most, face_clip, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pytorch_grad_cam")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["deepscan", *command, *QUICK, str(face_clip)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert (stop.value.code or 0, dict(decodes)) == (0, {face_clip.name: most}), capsys.readouterr().err


def test_an_upload_is_decoded_once(decodes, detector, face_clip, tmp_path):
    pytest.importorskip("starlette")
    from deepscan.web.service import JudgeService

    service = JudgeService(detector, with_heat=False)
    answer = service.judge(face_clip, "clip.mp4", tmp_path)
    service.close()
    assert dict(decodes) == {face_clip.name: 1}
    assert len(answer.material.people[0].pictures) == 4


def test_an_analysis_is_what_prediction_says(detector, two_people_clip):
    analysis = detector.analyze(two_people_clip, keep=KeepPictures(frames=True, faces=True, largest=True))
    result = detector.predict(two_people_clip)
    assert replace(analysis.result, timing_s={}) == replace(result, timing_s={})
    assert [person.track.id for person in analysis.people] == [track.id for track in result.tracks]
    assert [len(of_person) for of_person in analysis.features] == [len(p.crops) for p in analysis.people]
    for person in analysis.people:
        for key, sighting in zip(crop_keys(person.track), person.track.sightings, strict=True):
            assert analysis.extraction.pictures.face(key).shape == (FACE_SIDE_PX, FACE_SIDE_PX, 3)
            image, shape, time_s = analysis.extraction.pictures.frame(sighting.frame_index)
            assert image.shape == shape == (240, 480, 3)
            assert time_s == sighting.time_s
    assert max(image.shape) <= FRAME_SIDE_PX
    largest = analysis.extraction.pictures.largest
    assert largest.image.shape == (240, 480, 3)
    shorter = [min(f.box[2] - f.box[0], f.box[3] - f.box[1]) for track in result.tracks for f in track.frames]
    assert min(largest.box[2] - largest.box[0], largest.box[3] - largest.box[1]) == max(shorter)


def test_nothing_is_kept_that_nobody_wants(detector, face_clip):
    assert detector.analyze(face_clip).extraction.pictures is None


def test_thumbnails_kept_are_those_of_the_file(detector, two_people_clip):
    analysis = detector.analyze(two_people_clip, keep=pictures_to_keep())
    kept = make_material(detector, analysis, heat=False)
    again = from_file(two_people_clip, analysis.result)
    assert (kept.facts, kept.not_explained) == (again.facts, again.not_explained)
    for person, other in zip(kept.people, again.people, strict=True):
        assert [p.time_s for p in person.pictures] == [p.time_s for p in other.pictures]
        for picture, same in zip(person.pictures, other.pictures, strict=True):
            assert abs(picture.image.astype(int) - same.image).mean() < 3  # it was kept as a JPEG
