"""From a path to its evidence: what is shown, on which scale, and inputs without anybody."""

from __future__ import annotations

import numpy as np
import pytest
from tinynets import CALIBRATED, detector, spread

from deepscan.config import PredictSettings
from deepscan.detector import Detector
from deepscan.explain.evidence import N_SHOWN, Explanation, positions_to_show
from deepscan.explain.evidence import explain as explain_analysis
from deepscan.explain.occlusion import explain_track
from deepscan.explain.overlay import overlay_crop
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
        assert person.shown == tuple(range(5))
        assert person.times_s == tuple(frame.time_s for frame in person.result.frames)
        assert person.crops.shape == person.overlays.shape == (5, 64, 64, 3)
        assert np.array_equal(person.overlays[2], overlay_crop(person.crops[2], person.heat.heat[2]))
        own = explain_track(judge.networks, person.crops)
        np.testing.assert_allclose(person.importance.importance, own.importance, atol=1e-5)
        probability = 1 / (1 + np.exp(-person.importance.logit))
        assert person.result.probability == pytest.approx(probability, abs=0.02)  # scored in another precision
        side = 1 if person.counts_as_fake else -1
        assert all(side * person.importance.importance[i] > 0 for i in person.by_importance.supporting)
        assert all(side * person.importance.frame_logits[i] < 0 for i in person.by_frame.opposing)


def test_whole_frames_are_the_ones_that_count_most(judge, two_people_clip):
    found = explain(judge, two_people_clip)
    assert sorted(number for frame in found.frames for number in frame.people) == [1, 2]
    assert [frame.time_s for frame in found.frames] == sorted({frame.time_s for frame in found.frames})
    for frame in found.frames:
        assert frame.overlay.shape == (240, 480, 3)
        for number in frame.people:
            person = next(p for p in found.people if p.result.id == number)
            best = (*person.by_importance.supporting, *person.by_frame.supporting, *person.shown)[0]
            assert frame.time_s == person.result.frames[best].time_s
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


@pytest.mark.parametrize("n", [1, 3, N_SHOWN, N_SHOWN + 1, 40])
def test_what_is_shown_holds_the_top_frames_and_fits(n):
    tops = ((n - 1,), (), (0, n // 2), (n // 3,))
    shown = positions_to_show(n, tops)
    assert list(shown) == sorted(set(shown))
    assert len(shown) == min(n, N_SHOWN)
    assert {position for top in tops for position in top} <= set(shown)
