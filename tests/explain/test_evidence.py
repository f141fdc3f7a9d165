"""From a path to its evidence: what is shown, on which scale, and inputs without anybody."""

from __future__ import annotations

import numpy as np
import pytest
from tinynets import CALIBRATED, detector, spread

from deepscan.config import PredictSettings
from deepscan.detector import Detector
from deepscan.explain.evidence import N_SHOWN, Explanation
from deepscan.explain.evidence import explain as explain_analysis
from deepscan.explain.overlay import overlay_crop
from deepscan.explain.timeline import telling_frames
from deepscan.extract.pictures import FRAME_SIDE_PX, KeepPictures
from deepscan.models.ensemble import Networks

pytest.importorskip("pytorch_grad_cam")


@pytest.fixture(scope="module")
def judge():
    network, card = detector("custom_cnn", 64, calibration=CALIBRATED)
    return Detector(Networks.of(spread(network).eval(), card), PredictSettings(frames=5, device="cpu"))


def explain(judge, path):
    return explain_analysis(judge, judge.analyze(path, keep=KeepPictures(frames=True)))


def test_two_people_are_explained_on_one_scale(judge, two_people_clip):
    found = explain(judge, two_people_clip)
    assert tuple(person.result for person in found.people) == judge.predict(two_people_clip).tracks
    assert len(found.people) == 2
    assert len({person.heat.scale for person in found.people}) == 1
    assert max(person.heat.heat.max() for person in found.people) == pytest.approx(1)
    for person in found.people:
        frames = person.result.frames
        assert person.shown == tuple(sorted(telling_frames([frame.probability for frame in frames], N_SHOWN)))
        assert person.times_s == tuple(frames[i].time_s for i in person.shown)
        assert person.crops.shape == person.overlays.shape == (N_SHOWN, 64, 64, 3)
        assert np.array_equal(person.overlays[2], overlay_crop(person.crops[2], person.heat.heat[2]))
        assert len(person.importance.importance) == len(frames)
        probability = 1 / (1 + np.exp(-person.importance.logit))
        assert person.result.probability == pytest.approx(probability, abs=0.02)  # scored in another precision


def test_whole_frames_are_the_ones_that_look_most_like_a_fake(judge, two_people_clip):
    found = explain(judge, two_people_clip)
    assert sorted(number for frame in found.frames for number in frame.people) == [1, 2]
    assert [frame.time_s for frame in found.frames] == sorted({frame.time_s for frame in found.frames})
    for frame in found.frames:
        assert frame.overlay.shape == (240, 480, 3)
        for number in frame.people:
            person = next(p for p in found.people if p.result.id == number)
            best = max(person.result.frames, key=lambda seen: seen.probability)
            assert frame.time_s == best.time_s
    # Away from the faces a frame is plain grey; on the hottest face it is not.
    coloured = [np.ptp(frame.overlay.astype(int), axis=2) > 8 for frame in found.frames]
    assert not any(picture[200:].any() for picture in coloured)
    assert any(picture[:200].any() for picture in coloured)


def test_an_image_is_a_track_of_one(judge, portrait_image):
    found = explain(judge, portrait_image)
    (person,) = found.people
    assert person.importance.importance.tolist() == [person.importance.logit]
    assert person.shown == (0,)
    assert max(found.frames[0].overlay.shape) <= FRAME_SIDE_PX


def test_without_a_face_there_is_nothing_to_show(judge, no_face_clip):
    assert explain(judge, no_face_clip) == Explanation()


def test_whole_frames_are_shown_only_where_they_were_kept(judge, two_people_clip):
    found = explain_analysis(judge, judge.analyze(two_people_clip))
    assert len(found.people) == 2
    assert found.frames == ()
