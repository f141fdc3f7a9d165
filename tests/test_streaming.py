"""The flow of files: what is scored together, in which order files come out, and what a failure costs."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from deepscan.errors import ConfigError, MediaError
from deepscan.extract.people import Extraction
from deepscan.streaming import search_and_score
from deepscan.types import MediaInfo


class Search:
    """Gives crops, each filled with a number of its own; one in a frame."""

    def __init__(self, path: Path, values: list[int], error: Exception | None = None) -> None:
        self.path, self.values, self.error = path, values, error

    def look(self):
        for index, value in enumerate(self.values):
            yield {(index, (0.0, 0.0, 9.0, 9.0)): np.full((2, 2, 3), value, np.uint8)}
        if self.error is not None:
            raise self.error

    def finish(self) -> Extraction:
        media = MediaInfo(self.path, "video", 9, 9, 1.0, len(self.values))
        return Extraction(media, (), len(self.values), 0, 0, 0.0, 0.0, {})


class Scorer:
    """Remembers its batches; a crop's features are its number. Fails at the number 13."""

    crops_per_batch = 4

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def features(self, crops):
        values = crops[:, 0, 0, 0].tolist()
        self.batches.append(values)
        if 13 in values:
            raise RuntimeError("out of luck")
        return values

    def judge(self, features):
        raise NotImplementedError

    def score(self, sequences):
        raise NotImplementedError


def run(files, scorer=None, errors=None):
    """Files are lists of numbers by name; ``errors`` what some of them raise at their end."""
    scorer = scorer or Scorer()
    made = {Path(name): Search(Path(name), values, (errors or {}).get(name)) for name, values in files.items()}
    return scorer, search_and_score(((path, None) for path in made), made.__getitem__, lambda path: path.name, scorer)


def summary(searched):
    return [(file.path.name, sorted(file.features.values()), file.error) for file in searched]


def test_pictures_share_batches():
    scorer, files = run({name: [number] for number, name in enumerate("abcdef")})
    assert summary(files) == [(name, [number], None) for number, name in enumerate("abcdef")]
    assert scorer.batches == [[0, 1, 2, 3], [4, 5]]


def test_a_video_is_done_by_its_own_end():
    scorer, files = run({"picture": [0], "video": [1, 2, 3, 4, 5], "later": [6]})
    assert [name for name, *_ in summary(islice(files, 2))] == ["picture", "video"]
    assert scorer.batches == [[0, 1, 2, 3], [4, 5]]
    assert summary(files) == [("later", [6], None)]


def test_what_has_no_face_does_not_wait():
    scorer, files = run({"nobody": [], "picture": [1], "nobody again": []})
    first = next(files)
    assert (first.path.name, scorer.batches) == ("nobody", [])
    assert [name for name, *_ in summary(files)] == ["picture", "nobody again"]  # in order


def test_a_file_that_fails_costs_no_other():
    damaged = MediaError("b: cannot be read")
    _, files = run({"a": [1], "b": [2, 3], "c": [4]}, errors={"b": damaged})
    searched = list(files)
    assert [(file.path.name, file.error) for file in searched] == [("a", None), ("b", damaged), ("c", None)]
    assert [file.extraction is None for file in searched] == [False, True, False]
    assert [file.sha256 for file in searched] == ["a", None, "c"]


def test_a_file_is_hashed_while_it_is_searched():
    is_hashed = threading.Event()

    def sha256(path):
        is_hashed.set()
        return path.name

    class Waiting(Search):
        def look(self):
            assert is_hashed.wait(10), "it is hashed first when it was searched"
            return super().look()

    (file,) = search_and_score([(Path("a"), None)], lambda path: Waiting(path, [1]), sha256, Scorer())
    assert (file.error, file.sha256) == (None, "a")


def test_what_cannot_be_hashed_is_the_files_error():
    def sha256(path):
        raise MediaError(f"{path.name}: cannot be read")

    (file,) = search_and_score([(Path("a"), None)], lambda path: Search(path, [1]), sha256, Scorer())
    assert (str(file.error), file.extraction) == ("a: cannot be read", None)


def test_a_batch_that_fails_costs_its_files_only():
    _, files = run({"a": [1, 2, 3, 4], "b": [13], "c": [5, 6, 7], "d": [8]})
    assert [file.error is None for file in files] == [True, False, False, True]


def test_what_is_wrong_already_is_passed_on():
    wrong = MediaError("x: not found")
    inputs = [(Path("a"), None), (Path("x"), wrong), (Path("b"), None)]
    search = {Path(name): Search(Path(name), [number]) for number, name in enumerate("ab")}
    files = list(search_and_score(inputs, search.__getitem__, str, Scorer()))
    assert [(str(file.path), file.error) for file in files] == [("a", None), ("x", wrong), ("b", None)]


def test_inputs_that_end_in_an_error():
    def inputs():
        yield Path("a"), None
        raise ConfigError("The list cannot be read on")

    files = search_and_score(inputs(), lambda path: Search(path, [1]), str, Scorer())
    assert [file.features for file in islice(files, 1)] == [{(0, (0.0, 0.0, 9.0, 9.0)): 1}]
    with pytest.raises(ConfigError, match="cannot be read on"):
        next(files)


def test_who_stops_early_leaves_no_thread():
    before = set(threading.enumerate())
    _, files = run({f"{number:03}": [1, 2, 3, 4] for number in range(200)})
    next(files)
    files.close()
    assert set(threading.enumerate()) <= before


def test_the_same_files_give_the_same_batches():
    names = {f"{number:03}": list(range(number % 7)) for number in range(60)}
    seen = []
    for _ in range(3):
        scorer, files = run(names)
        list(files)
        seen.append(scorer.batches)
    assert seen[0] == seen[1] == seen[2]
