"""Result lines: their contract, and which inputs a later run passes over."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from deepscan.config import PredictSettings
from deepscan.errors import OutputError
from deepscan.report import table
from deepscan.report.result_log import SCHEMA_ID, ResultLines, Stamp, schema
from deepscan.types import (
    FrameResult,
    ModelInfo,
    Report,
    Result,
    Segment,
    SightingResult,
    TrackResult,
    UnjudgedTrack,
    VerdictLabel,
)

VALIDATOR = Draft202012Validator(schema())
SHA = "ab" * 32
STAMP = Stamp(1234, 1_700_000_000_123_456_789)
MODEL = ModelInfo(
    "default", "cd" * 32, 0.5, (0.4, 0.6), True, "resnet18", "lstm", "1", PredictSettings().model_dump(mode="json")
)
FRAMES = tuple(FrameResult(i / 3, (10.04, 20.0, 60.06, 90.0), 0.98765, 0.9 + i / 100) for i in range(3))
FAKE = Result(
    path="clips/é 日本.mp4",
    sha256=SHA,
    kind="video",
    verdict=VerdictLabel.FAKE,
    probability=0.93456,
    duration_s=12.3456,
    frames_sampled=3,
    frames_with_face=3,
    tracks=(TrackResult(1, VerdictLabel.FAKE, 0.93456, 0.0, 2 / 3, FRAMES),),
    segments=(Segment(1, 0.0, 2 / 3, 0.91),),
    timing_s={"decode": 0.12345, "total": 1.5},
)
NOBODY = Result("a.mp4", SHA, "video", VerdictLabel.NOT_APPLICABLE, "no_face", "No face was found.")
ERROR = Result("gone.mp4", None, None, VerdictLabel.ERROR, "not_found", "gone.mp4: not found. Check the path.")
STILL = replace(FAKE, path="face.jpg", kind="image", duration_s=None, segments=())
LEFT_OUT = UnjudgedTrack(2, "doubtful_face", 0.0, 0.1, (SightingResult(0.0, (1.0, 2.0, 30.0, 40.0), 0.94),))
DOUBTFUL = replace(FAKE, path="wall.mp4", unjudged=(LEFT_OUT,), turned=270)
KINDS = {"doubtful": DOUBTFUL, "fake": FAKE, "nobody": NOBODY, "error": ERROR, "still": STILL}


def opened(path: Path, model: ModelInfo = MODEL) -> ResultLines:
    return ResultLines(path, "0.1.0", model)


def written(path: Path, *results: Result, model: ModelInfo = MODEL, stamp: Stamp | None = STAMP) -> list[dict]:
    with opened(path, model) as lines:
        for result in results:
            lines.append(result, stamp)
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def recalled(path: Path, result: Result, model: ModelInfo = MODEL, stamp: Stamp | None = STAMP) -> Result | None:
    with opened(path, model) as lines:
        return lines.recall(Path(result.path), stamp)


# The contract


def test_the_schema_is_that_of_the_report():
    Draft202012Validator.check_schema(schema())
    of_report = table.schema()
    assert schema()["$id"] == SCHEMA_ID
    assert schema()["$defs"] == of_report["$defs"]
    assert schema()["properties"]["model"] == of_report["properties"]["model"]


@pytest.mark.parametrize("name", KINDS)
def test_a_line_holds_a_result_of_the_report(tmp_path, name):
    (line,) = written(tmp_path / "r.jsonl", KINDS[name])
    VALIDATOR.validate(line)
    whole = table.to_dict(Report("0.1.0", MODEL, (KINDS[name],)))
    assert line == {
        "schema": SCHEMA_ID,
        "version": "0.1.0",
        "model": json.loads(json.dumps(whole["model"])),
        "input": {"size": STAMP.size, "mtime_ns": STAMP.mtime_ns},
        "result": whole["results"][0],
    }


def test_what_does_not_fit_the_schema(tmp_path):
    (line,) = written(tmp_path / "r.jsonl", FAKE)
    assert VALIDATOR.is_valid(line | {"input": None})
    for key in line:
        assert not VALIDATOR.is_valid({k: v for k, v in line.items() if k != key})
    for change in ({"surprise": 1}, {"input": {"size": 1}}, {"schema": "deepscan.report/1"}, {"result": None}):
        assert not VALIDATOR.is_valid(line | change)


@pytest.mark.parametrize(
    "name",
    [b"caf\xe9.mp4", b"two\nlines.mp4", b"\x85\xe2\x80\xa8.mp4", "\x85\u2028\u2029.mp4".encode(), b'"\\u0041.mp4'],
)
def test_any_name_is_one_line(tmp_path, name):
    result = replace(ERROR, path=os.fsdecode(name), message=f"{os.fsdecode(name)}: gone", sha256=SHA)
    path = tmp_path / "r.jsonl"
    (line,) = written(path, result)
    assert line["result"]["path"] == os.fsdecode(name)
    assert len(path.read_bytes().decode().splitlines()) == 1  # also to readers with other line ends
    assert recalled(path, result) == result


# What is passed over


@pytest.mark.parametrize("name", ["fake", "nobody", "still"])
def test_a_result_is_recalled_as_it_was_told(tmp_path, name):
    result = KINDS[name]
    path = tmp_path / "r.jsonl"
    written(path, result)
    again = recalled(path, result)
    assert again.to_dict() == result.to_dict()
    assert type(again.verdict) is VerdictLabel


@pytest.mark.parametrize(
    ("reason", "sha256", "stamp", "stands"),
    [
        ("unreadable", SHA, STAMP, True),  # damaged: it stays so
        ("no_video_stream", SHA, STAMP, True),
        ("empty_file", SHA, STAMP, True),
        ("unreadable", None, STAMP, False),  # no permission, or a disk that was away
        ("not_found", None, None, False),
        ("no_media", None, None, False),
        ("internal", SHA, STAMP, False),
        ("timeout", None, STAMP, False),
        ("worker_died", None, STAMP, False),
    ],
)
def test_which_errors_are_tried_again(tmp_path, reason, sha256, stamp, stands):
    path = tmp_path / "r.jsonl"
    result = replace(ERROR, reason=reason, sha256=sha256)
    written(path, result, stamp=stamp)
    assert (recalled(path, result) is not None) is stands


def test_only_the_same_input_is_passed_over(tmp_path):
    path = tmp_path / "r.jsonl"
    written(path, NOBODY)
    assert recalled(path, NOBODY) == NOBODY
    for stamp in (None, replace(STAMP, size=1), replace(STAMP, mtime_ns=STAMP.mtime_ns + 1)):
        assert recalled(path, NOBODY, stamp=stamp) is None
    assert recalled(path, replace(NOBODY, path="./b.mp4")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "ef" * 32},
        {"threshold": 0.7},
        {"name": "other"},
        {"settings": PredictSettings(frames=8).model_dump(mode="json")},
        {"settings": PredictSettings(tta=False).model_dump(mode="json")},
    ],
)
def test_only_the_same_model_and_settings_count(tmp_path, change):
    path = tmp_path / "r.jsonl"
    other = replace(MODEL, **change)
    written(path, NOBODY)
    assert recalled(path, NOBODY, model=other) is None
    changed = replace(NOBODY, reason="too_dark")
    assert len(written(path, changed, model=other)) == 2  # the first stays
    assert recalled(path, NOBODY) == NOBODY
    assert recalled(path, NOBODY, model=other) == changed


def test_the_last_line_of_a_path_counts(tmp_path):
    path = tmp_path / "r.jsonl"
    newer = replace(NOBODY, reason="too_dark")
    written(path, NOBODY, newer)
    assert recalled(path, NOBODY) == newer
    later = replace(STAMP, mtime_ns=STAMP.mtime_ns + 1)
    written(path, NOBODY, stamp=later)
    assert recalled(path, NOBODY, stamp=later) == NOBODY
    assert recalled(path, NOBODY) is None  # although an older line has this time
    written(path, replace(ERROR, path=NOBODY.path, reason="timeout"), stamp=later)
    assert recalled(path, NOBODY, stamp=later) is None


def test_stamps(tmp_path):
    path = tmp_path / "a.mp4"
    assert Stamp.of(path) is None
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, STAMP.mtime_ns))
    assert Stamp.of(path) == Stamp(5, STAMP.mtime_ns)
    assert Stamp.of(tmp_path) is None
    assert Stamp.of(Path("a\0b")) is None


# Damage


@pytest.mark.parametrize("n_bytes", [1, 40, -1])
def test_a_kill_in_the_middle_of_a_line(tmp_path, n_bytes):
    path = tmp_path / "r.jsonl"
    written(path, NOBODY, FAKE)
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for start, n_known in ((first, 1), (0, 0)):  # also of the very first line
        last = data[start:] if start else data[:first]
        path.write_bytes(data[:start] + last[:n_bytes])
        with opened(path) as lines:
            assert len(lines) == n_known
            lines.append(FAKE, STAMP)
        (*_, line) = map(json.loads, path.read_bytes().splitlines())
        assert line["result"]["path"] == FAKE.path
        assert len(path.read_bytes().splitlines()) == n_known + 1


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"null",
        b"\0" * 100,
        b"\xff\xfe",
        b'{"schema":"deepscan.result/1"}',
        b'{"schema":"deepscan.result/1","version":"1","model":{},"input":null,"result":{"path":"a.mp4"}}',
        b"[" * 100_000,
    ],
    ids=lambda damage: str(damage[:30]),
)
def test_damaged_lines_are_passed_over(tmp_path, caplog, monkeypatch, damage):
    monkeypatch.setattr(logging.getLogger("deepscan"), "propagate", True)
    path = tmp_path / "r.jsonl"
    written(path, NOBODY, FAKE)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage + b"\n" + second)
    with opened(path) as lines:
        assert len(lines) == 2
        lines.append(STILL, STAMP)
    assert "r.jsonl: 1 damaged lines passed over" in caplog.text
    assert path.read_bytes().startswith(first + damage + b"\n" + second)  # nothing is thrown away


def test_a_changed_value_is_damage(tmp_path):
    path = tmp_path / "r.jsonl"
    written(path, NOBODY, FAKE)
    path.write_bytes(path.read_bytes().replace(b'"verdict":"not_applicable"', b'"verdict":"maybe"'))
    assert recalled(path, NOBODY) is None


@pytest.mark.parametrize(
    "data", [b"Dear editor,\nplease find\n", b"Dear editor", b'{"schema": "deepscan.report/1"}\n', b"\n"]
)
def test_other_files_are_left_alone(tmp_path, data):
    path = tmp_path / "letter.txt"
    path.write_bytes(data)
    with pytest.raises(OutputError, match="holds something else than deepscan"):
        opened(path)
    assert path.read_bytes() == data


def test_a_line_changed_meanwhile_is_not_used(tmp_path):
    path = tmp_path / "r.jsonl"
    written(path, NOBODY)
    with opened(path) as lines:
        path.write_bytes(b"x" * path.stat().st_size)
        assert lines.recall(Path(NOBODY.path), STAMP) is None
