"""How localisation is measured: overlaps in time, average precision, and one run over made clips."""

from __future__ import annotations

import json

import clips

# Scripts, no package: they find each other where they lie.
import localise
import pytest
from localise import LocalisedClip, average_precision, figures


def judged(name="a", stretch=(2.0, 4.0), *found, step_s=0.0):
    return LocalisedClip(name, "untouched" if stretch is None else "self-blended", stretch, found, step_s, 0.5)


@pytest.mark.parametrize(
    ("found", "step_s", "iou"),
    [
        ([(2.0, 4.0, 0.9)], 0.0, 1.0),
        ([(3.0, 5.0, 0.9)], 0.0, 1 / 3),
        ([(2.0, 3.0, 0.9), (3.5, 4.0, 0.9)], 0.0, 0.75),
        ([(2.5, 3.5, 0.9)], 1.0, 1.0),  # the frames at its ends stand for half a step more
        ([(0.0, 1.0, 0.9)], 0.0, 0.0),
        ([], 0.0, 0.0),
    ],
)
def test_iou(found, step_s, iou):
    assert judged("a", (2.0, 4.0), *found, step_s=step_s).iou == pytest.approx(iou)


def test_average_precision_by_hand():
    right, wrong = (2.0, 4.0), (8.0, 9.0)
    one = judged("a", right, (*right, 0.9), (*wrong, 0.8))  # a hit, then a miss
    two = judged("b", right, (2.1, 4.0, 0.7))  # a hit
    three = judged("c", right)  # nothing
    untouched = judged("d", None, (*right, 0.95))  # the surest of all is false
    assert average_precision([one, two, three]) == pytest.approx((1 + 2 / 3) / 3)
    # Ranked: false, hit, false, hit: precision at the hits is 1/2 and 2/4.
    assert average_precision([one, two, three, untouched]) == pytest.approx((1 / 2 + 1 / 2) / 3)
    assert average_precision([three]) == 0
    assert average_precision([untouched]) == 0


def test_a_stretch_is_found_once():
    twice = judged("a", (2.0, 4.0), (2.0, 4.0, 0.9), (2.0, 3.9, 0.8))
    assert average_precision([twice]) == 1.0
    assert average_precision([twice, judged("b", (2.0, 4.0), (2.0, 4.0, 0.7))]) == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(("start", "end", "within"), [(2.0, 4.0, True), (1.5, 4.5, True), (1.4, 4.0, False)])
def test_within_a_step(start, end, within):
    assert judged("a", (2.0, 4.0), (start, end, 0.9), step_s=0.5).within_a_step is within


def test_figures_count_clips():
    found = figures([judged("a", (2.0, 4.0), (2.0, 4.0, 0.9)), judged("a", None), judged("b", (2.0, 4.0))])
    assert (found["clips"], found["untouched"]) == (2, 1)
    assert (found["with_any_segment"], found["within_a_step"], found["untouched_with_a_segment"]) == (1, 1, 0)
    assert found["iou"] == 0.5
    assert found["iou_95"] == [0.0, 1.0]


@pytest.mark.slow
def test_a_run(tmp_path, capsys):
    """A clip and a pair, from the portrait: two changed clips and two untouched ones."""
    real = clips.write_video(tmp_path / "real.mp4", clips.moving_portrait(50), fps=25)
    fake = clips.write_video(tmp_path / "fake.mp4", clips.moving_portrait(50, image=clips.other_person()), fps=25)
    out = tmp_path / "out.json"
    assert localise.main([str(real), "--pair", str(real), str(fake), "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert [(one["kind"], one["name"]) for one in report["clips"]] == [
        ("self-blended", "real.mp4"),
        ("untouched", "real.mp4"),
        ("forgery", "real.mp4"),
        ("untouched", "real.mp4"),
    ]
    for one in report["clips"]:
        if one["stretch"] is not None:
            start, end = one["stretch"]
            assert 0 < start < end < 2.0
            assert 0.45 <= end - start <= 1.0
    assert "self-blended" in capsys.readouterr().out


def test_what_cannot_be_read_is_one_line(tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    assert localise.main([str(broken)]) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("localise: broken.mp4: cannot be read")
