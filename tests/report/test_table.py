"""The report as JSON, CSV and a table."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from rich.console import Console

from deepscan.config import PredictSettings
from deepscan.models.card import Calibration
from deepscan.report.table import (
    CSV_COLUMNS,
    EXPLANATIONS,
    FAKE_NEXT,
    REAL_LIMITS,
    UNJUDGED,
    print_table,
    schema,
    to_csv,
    to_dict,
    to_json,
)
from deepscan.types import (
    Face,
    ModelInfo,
    Note,
    Report,
    Result,
    Score,
    Sighting,
    SightingResult,
    Track,
    UnjudgedTrack,
    Verdict,
    VerdictLabel,
)
from deepscan.verdict import HIDDEN, MESSAGES, decide

SHA = "0123456789abcdef" * 4
VALIDATOR = Draft202012Validator(schema())
MODEL = ModelInfo(
    name="default",
    sha256=SHA,
    threshold=0.5,
    uncertain_band=(0.4, 0.6),
    trained=True,
    backbone="resnet18",
    head="lstm",
    version="1",
    settings=PredictSettings().model_dump(mode="json"),
)


def judged(*people, calibration=None, trained=True):
    """Verdict on people given as ``(logit, frame logits)``."""
    face = Face((10.04, 20.0, 60.06, 90.0), 0.98765, np.zeros((5, 2), np.float32))
    tracks = [
        Track(n, tuple(Sighting(i, i / 3, face) for i in range(len(frames)))) for n, (_, frames) in enumerate(people, 1)
    ]
    scores = [Score(x, np.array(frames, np.float64)) for x, frames in people]
    calibration = calibration or Calibration(uncertain_low=0.4, uncertain_high=0.6)
    return decide(tracks, scores, calibration, trained=trained)


def make_result(verdict, path="clips/a.mp4", **changes):
    result = Result(
        path=path,
        sha256=SHA,
        kind="video",
        verdict=verdict.label,
        reason=verdict.reason,
        message=verdict.message,
        probability=verdict.probability,
        duration_s=12.3456,
        frames_sampled=8,
        frames_with_face=7,
        tracks=verdict.tracks,
        segments=verdict.segments,
        timing_s={"decode": 0.12345, "total": 1.5},
    )
    return replace(result, **changes)


RESULTS = {
    "fake": make_result(judged((3.0, [2.0, 3.0, -1.0]))),
    "real": make_result(judged((-3.0, [-2.0, -3.0]))),
    "uncertain": make_result(judged((0.1, [0.1]))),
    "conflicting": make_result(judged((-3.0, [2.0] * 4))),
    "untrained": make_result(judged((9.0, [9.0]), trained=False)),
    "two people": make_result(judged((3.0, [2.0, 3.0]), (-3.0, [-2.0, 1.0]))),
    "doubtful": make_result(
        judged((-3.0, [-2.0, -3.0])),
        turned=90,
        unjudged=(
            UnjudgedTrack(2, "doubtful_face", 0.5, 1.5, (SightingResult(0.5, (1.0, 2.0, 30.04, 40.0), 0.94),) * 2),
        ),
    ),
    "image": make_result(judged((3.0, [2.0])), "face.jpg", kind="image", duration_s=None),
    "not applicable": make_result(Verdict(VerdictLabel.NOT_APPLICABLE, None, "no_face", "No face was found.")),
    "error": Result("gone.mp4", None, None, VerdictLabel.ERROR, "not_found", "gone.mp4 is not there"),
}
EVERYTHING = Report("0.1.0", MODEL, tuple(RESULTS.values()))


def report_of(*results, **model):
    return Report("0.1.0", replace(MODEL, **model), results)


def shown(report, width=160):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_table(report, console)
    return console.file.getvalue()


# JSON


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(schema())
    assert schema()["$id"] == "deepscan.report/1" == to_dict(EVERYTHING)["schema"]


@pytest.mark.parametrize("name", RESULTS)
def test_every_kind_of_result_fits_the_schema(name):
    VALIDATOR.validate(to_dict(report_of(RESULTS[name])))


def test_whole_reports_fit_the_schema():
    VALIDATOR.validate(to_dict(EVERYTHING))
    VALIDATOR.validate(to_dict(report_of()))
    VALIDATOR.validate(to_dict(report_of(RESULTS["untrained"], sha256=None, trained=False)))


logits = st.floats(-1e6, 1e6)
people = st.lists(st.tuples(logits, st.lists(logits, min_size=1, max_size=6)), min_size=1, max_size=3)


@given(people=people, band=st.tuples(st.floats(0, 0.5), st.floats(0.5, 1)), trained=st.booleans())
def test_whatever_is_decided_fits_the_schema(people, band, trained):
    calibration = Calibration(uncertain_low=band[0], uncertain_high=band[1])
    result = make_result(judged(*people, calibration=calibration, trained=trained))
    report = report_of(result, uncertain_band=band, trained=trained)
    VALIDATOR.validate(to_dict(report))
    assert json.loads(to_json(report)) == to_dict(report)


def broken(name, **changes):
    data = to_dict(report_of(RESULTS[name]))
    data["results"][0].update(changes)
    return data


@pytest.mark.parametrize(
    "data",
    [
        broken("not applicable", probability=0.5),
        broken("error", probability=0.5),
        broken("not applicable", reason=None),
        broken("error", message=None),
        broken("fake", probability=None),
        broken("real", probability=None),
        broken("uncertain", probability=None),
        broken("fake", probability=1.2),
        broken("fake", probability="0.9"),
        broken("fake", tracks=[]),
        broken("real", sha256=None),
        broken("real", sha256="abc"),
        broken("real", verdict="true"),
        broken("real", kind="audio"),
        broken("real", score=0.1),
        broken("real", frames_sampled=-1),
        broken("real", duration_s=-0.1),
        broken("error", reason="Not found!"),
    ],
    ids=lambda data: " ".join(f"{k}" for k in ("verdict", "reason", "probability", "kind") if data["results"][0][k]),
)
def test_broken_results_do_not_fit(data):
    assert not VALIDATOR.is_valid(data)


ADDED_LATER = {"examined_s", "left_out", "notes", "sampling_shift_s", "traces"}


@pytest.mark.parametrize("key", list(to_dict(EVERYTHING)["results"][0]))
def test_every_key_of_a_result_is_required_but_those_added_later(key):
    data = to_dict(EVERYTHING)
    del data["results"][0][key]
    assert VALIDATOR.is_valid(data) == (key in ADDED_LATER)


def test_what_was_not_examined_stands_in_every_output(capsys):
    note = Note("damaged", "1.2 of 10.0 s were examined.")
    result = replace(EVERYTHING.results[0], duration_s=10.0, examined_s=1.2, left_out=0.88, notes=(note,))
    report = replace(EVERYTHING, results=(result,))
    told = to_dict(report)["results"][0]
    assert VALIDATOR.is_valid(to_dict(report))
    assert (told["examined_s"], told["left_out"], told["notes"]) == (
        1.2,
        0.88,
        [{"code": "damaged", "text": note.text}],
    )
    (row,) = csv.DictReader(io.StringIO(to_csv(report)))
    assert (row["examined_s"], row["left_out"], row["notes"]) == ("1.2", "0.88", note.text)
    out = io.StringIO()
    print_table(report, Console(file=out, width=300))
    assert note.text in out.getvalue()


@pytest.mark.parametrize("where", ["report", "result", "track", "frame", "segment"])
def test_unknown_keys_do_not_fit(where):
    data = to_dict(EVERYTHING)
    result = data["results"][0]
    place = {
        "report": data,
        "result": result,
        "track": result["tracks"][0],
        "frame": result["tracks"][0]["frames"][0],
        "segment": result["segments"][0],
    }[where]
    assert VALIDATOR.is_valid(data)
    place["surprise"] = 1
    assert not VALIDATOR.is_valid(data)


def test_another_schema_does_not_fit():
    assert not VALIDATOR.is_valid(to_dict(EVERYTHING) | {"schema": "deepscan.report/2"})


def test_json_text():
    text = to_json(report_of(make_result(judged((3.0, [2.0])), "clips/é 日本.mp4")))
    assert text.endswith("}\n")
    assert "é 日本.mp4" in text
    assert json.loads(text)["results"][0]["path"] == "clips/é 日本.mp4"


def test_a_file_name_that_is_not_utf8_does_not_cost_the_report():
    # os.fsdecode(b"caf\xe9.mp4"): a name from another system, valid on Linux.
    report = report_of(replace(RESULTS["error"], path="caf\udce9.mp4"), RESULTS["real"])
    for render in (to_json, to_csv):
        assert b"caf" in render(report).encode()


def test_figures_are_rounded_to_what_is_meaningful():
    (result,) = to_dict(report_of(make_result(judged((1.0, [0.5, 1.0])))))["results"]
    assert result["probability"] == 0.7311
    assert result["duration_s"] == 12.346
    assert result["timing_s"] == {"decode": 0.123, "total": 1.5}
    frame = result["tracks"][0]["frames"][1]
    assert frame == {
        "time_s": 0.333,
        "box": [10.0, 20.0, 60.1, 90.0],
        "confidence": 0.9877,
        "probability": 0.7311,
    }
    assert result["segments"] == [{"track": 1, "start_s": 0.0, "end_s": 0.333, "probability": 0.6768}]


def test_the_model_is_in_the_report():
    model = to_dict(EVERYTHING)["model"]
    assert (model["name"], model["sha256"], model["trained"]) == ("default", SHA, True)
    assert model["uncertain_band"] == [0.4, 0.6]
    assert model["settings"]["frames"] == 32


def test_exit_code():
    assert report_of(RESULTS["fake"], RESULTS["not applicable"]).exit_code == 0
    assert report_of(RESULTS["fake"], RESULTS["error"]).exit_code == 3
    assert report_of().exit_code == 0


# CSV


def rows(report):
    return list(csv.DictReader(io.StringIO(to_csv(report))))


def test_csv_parses_back():
    parsed = rows(EVERYTHING)
    assert tuple(parsed[0]) == CSV_COLUMNS
    assert len(parsed) == len(RESULTS)
    for row, entry in zip(parsed, to_dict(EVERYTHING)["results"], strict=True):
        for name in ("path", "verdict", "probability", "reason", "message", "kind", "duration_s", "sha256"):
            assert row[name] == ("" if entry[name] is None else str(entry[name]))
        assert row["people"] == str(sum(track["verdict"] != "not_applicable" for track in entry["tracks"]))
        assert row["model"] == "default"
        assert row["model_sha256"] == SHA
    assert parsed[0]["segments"] == "0.0-0.3"
    assert parsed[-1]["probability"] == ""


@pytest.mark.parametrize("path", ["a,b.mp4", 'say "hi".mp4', "two\nlines.mp4", " spaces .mp4", "é.mp4"])
def test_csv_quotes_what_needs_it(path):
    (row,) = rows(report_of(replace(RESULTS["error"], path=path, message=f"{path}: gone")))
    assert row["path"] == path
    assert row["message"] == f"{path}: gone"


# Table


def lines_of(report, width=80):
    """The lines of the files, split into verdict, probability, name and what was found."""
    lines = [line.strip() for line in shown(report, width).splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith("Verdict")) + 1
    return [re.split(r"  +", line) for line in lines[start : start + len(report.results)]]


def test_a_folder_of_24_clips_fits_a_screen():
    reasons = ["low_confidence"] * 3 + ["conflicting"] * 2 + ["among_many"]
    uncertain = [replace(RESULTS["uncertain"], reason=reason) for reason in reasons]
    results = [*[RESULTS["real"]] * 12, *uncertain, RESULTS["not applicable"], *[RESULTS["fake"]] * 5]
    results = [replace(result, path=f"clips/{'a long name ' * 4}{n:02}.mp4") for n, result in enumerate(results)]
    report = report_of(*results)
    lines = shown(report, 80).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert [row[0] for row in lines_of(report)] == [
        *["FAKE"] * 5, *["uncertain"] * 6, "no answer", *["real"] * 12,
    ]  # fmt: skip
    assert lines_of(report)[0][1] == "95 %"
    assert lines_of(report)[0][2].endswith("19.mp4")
    assert lines_of(report)[0][3] == "person 1, 0.0-0.3 s"
    assert [row[3] for row in lines_of(report)[5:12]] == [*reasons, "no_face"]
    assert "24 files: 5 fake, 12 real, 6 uncertain, 1 no answer" in lines
    starts = Counter(line.split(":")[0] for line in lines if ": " in line)
    assert all(starts[code] == 1 for code in {*reasons, "no_face", "real"})


def test_urgent_files_come_first():
    words = [row[0] for row in lines_of(EVERYTHING)]
    assert list(dict.fromkeys(words)) == ["FAKE", "uncertain", "error", "no answer", "real"]


def test_every_reason_says_what_to_do():
    notes = {"other_pictures", "turned", "unjudged", "double_jpeg", "scaled_up", "screen"}
    assert set(EXPLANATIONS) == set(MESSAGES) | notes
    for code, text in EXPLANATIONS.items():
        assert len(f"{code}: {text}") <= (160 if code in {"low_confidence", "possible_attack"} else 80)
    assert len(f"fake: {FAKE_NEXT}") <= 80


def test_only_a_real_says_what_it_cannot_see():
    assert REAL_LIMITS in shown(report_of(RESULTS["real"], RESULTS["fake"]), 300)
    assert REAL_LIMITS not in shown(report_of(RESULTS["fake"], RESULTS["uncertain"]), 300)


def test_a_fake_says_what_to_do_next():
    for verdicts in (("fake",), ("fake", "real")):
        assert shown(report_of(*(RESULTS[name] for name in verdicts)), 300).count(FAKE_NEXT) == 1
    assert FAKE_NEXT not in shown(report_of(RESULTS["real"], RESULTS["uncertain"]), 300)


def test_table_tells_every_kind():
    text = shown(EVERYTHING)
    for word in ("FAKE", "real", "uncertain", "no answer", "error", "gone.mp4 is not there", "no_face"):
        assert word in text
    assert "95 %" in text
    assert "face.jpg" in text
    assert "fake from 60 %, real up to 40 %, uncertain between" in text
    assert "Model default 1" in text
    assert not text.startswith("Random weights")


def test_table_points_at_people_and_times():
    text = shown(report_of(RESULTS["two people"]))
    assert "person 1, seen 0.0-0.3 s: FAKE (95 %); frames look manipulated at 0.0-0.3 s" in text
    assert "person 2, seen 0.0-0.3 s: real (5 %)" in text
    assert "person 1" not in shown(report_of(RESULTS["real"]))
    assert lines_of(report_of(RESULTS["two people"], RESULTS["real"]))[0][3] == "person 1, 0.0-0.3 s"


def test_an_image_has_no_seconds():
    people = replace(RESULTS["two people"], kind="image", duration_s=None, segments=())
    for results in ([RESULTS["image"]], [people], [people, RESULTS["image"]]):
        assert "0.0" not in shown(report_of(*results))
        assert lines_of(report_of(*results))[0][3] == "person 1"


def test_table_without_a_band_or_results():
    text = shown(report_of(uncertain_band=(0.5, 0.5)))
    assert "uncertain between" not in text


def test_random_weights_are_said_first():
    assert shown(report_of(RESULTS["untrained"], trained=False)).startswith("Random weights")


@pytest.mark.parametrize("reason", ["doubtful_face", *HIDDEN.values()])
def test_every_reason_not_to_judge_somebody_is_told(reason):
    (left_out,) = RESULTS["doubtful"].unjudged
    report = report_of(replace(RESULTS["doubtful"], unjudged=(replace(left_out, reason=reason),)))
    VALIDATOR.validate(to_dict(report))
    assert UNJUDGED[reason] in shown(report)


def test_what_was_not_judged_is_told_everywhere():
    result = RESULTS["doubtful"]
    text = shown(report_of(result))
    assert "not judged" in text
    assert UNJUDGED["doubtful_face"] in text
    (row,) = csv.DictReader(io.StringIO(to_csv(report_of(result))))
    assert (row["people"], row["unjudged"], row["turned"]) == ("1", "1", "90")
    (told,) = to_dict(report_of(result))["results"]
    assert told["turned"] == 90
    judged_one, left_out = told["tracks"]
    assert (judged_one["verdict"], "reason" in judged_one) == ("real", False)
    assert (left_out["id"], left_out["verdict"], left_out["reason"]) == (2, "not_applicable", "doubtful_face")
    assert (left_out["probability"], left_out["frames"][0]["probability"]) == (None, None)
    assert left_out["frames"][0]["box"] == [1.0, 2.0, 30.0, 40.0]


@pytest.mark.parametrize(
    "name",
    [
        "[red]x[/].mp4",
        "[/].mp4",
        "[bold",
        "a[0].mp4",
        "\\[x].mp4",
        "dir\\",
        "clip:dog:.mp4",
        "[link=http://x]y",
    ],
)
@pytest.mark.parametrize("kind", ["error", "two people"])
def test_file_names_are_shown_as_they_are(name, kind):
    assert lines_of(report_of(replace(RESULTS[kind], path=name)))[0][2] == name


@pytest.mark.parametrize("text", ["[red]x[/]", "[/]", "10 [s] :dog:"])
def test_messages_are_shown_as_they_are(text):
    assert text in shown(report_of(replace(RESULTS["error"], message=text)))


@pytest.mark.parametrize("name", ["[red]x[/]", "[/]", "my[1]"])
def test_model_names_are_shown_as_they_are(name):
    assert f"Model {name} 1" in shown(report_of(RESULTS["real"], name=name))


@given(st.floats(0, 1))
def test_percent_is_never_0_or_100(probability):
    result = replace(RESULTS["real"], probability=probability)
    ((_, cell, *_),) = lines_of(report_of(result))
    assert 0.1 <= float(cell.removesuffix(" %")) <= 99.9
    assert abs(float(cell.removesuffix(" %")) - probability * 100) <= 1


def test_a_probability_near_a_limit_agrees_with_the_legend():
    result = replace(RESULTS["uncertain"], probability=0.1192)
    text = shown(report_of(result, uncertain_band=(0.1188, 0.9093)))
    assert "12.0 %" in text
    assert "fake from 90.9 %, real up to 11.9 %, uncertain between" in text
