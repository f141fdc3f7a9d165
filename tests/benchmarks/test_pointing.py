"""The pointing game: its arithmetic on maps that are known, and a short run."""

from __future__ import annotations

import io
import json
import tarfile
from itertools import islice

import numpy as np
import pointing
import pytest
from PIL import Image
from scipy.stats import binomtest
from tinynets import Brightness, detector

from deepscan.config import PredictSettings
from deepscan.detector import Detector
from deepscan.errors import MediaError
from deepscan.models.checkpoint import save_detector
from deepscan.models.ensemble import Networks

pytest.importorskip("pytorch_grad_cam")


def pair(real, blended, mask):
    def crop(grey):
        return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)

    return pointing.Pair(crop(real), crop(blended), mask)


def test_a_map_that_follows_the_change_is_told_from_one_that_sits_in_the_middle():
    network, card = detector(Brightness())
    judge = Detector(Networks.of(network, card), PredictSettings(device="cpu"))
    mask = np.zeros((32, 32), bool)
    mask[4:20, 4:20] = True
    plain, changed = np.full((32, 32), 40), np.full((32, 32), 40)
    plain[28, 28] = 250
    changed[10, 10], changed[28, 28] = 200, 250
    figures = pointing.measure([pair(plain, changed, mask)] * 4, judge)
    assert (figures.pointing.hits, figures.rise.hits, figures.unblended.hits, figures.centre.hits) == (0, 4, 0, 4)
    assert figures.chance == pytest.approx(0.25)
    assert figures.called_fake.hits == 4
    assert 0.25 < figures.heat_inside < 0.3
    with pytest.raises(MediaError, match="No face was found"):
        pointing.measure([], judge)


def test_the_hottest_place_of_a_plateau_is_its_middle():
    heat = np.zeros((9, 9), np.float32)
    heat[0:3, 2:7] = 0.7
    assert pointing.hottest(heat) == (1, 4)
    masks = np.zeros((2, 9, 9), bool)
    masks[0, 1, 4] = True
    assert pointing.pointing(np.stack([heat, heat]), masks).tolist() == [True, False]
    assert pointing.pointing(np.zeros((1, 9, 9), np.float32), np.ones((1, 9, 9), bool)).tolist() == [False]


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (50, 50), (29, 50)])
def test_intervals_are_wilsons(hits, n):
    found = pointing.hits(np.arange(n) < hits)
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert (found.hits, found.n, found.share) == (hits, n, hits / n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_faces_come_from_images_folders_and_tars(portrait_image, tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for name, value in (("b.png", 20), ("a.png", 10)):
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    with tarfile.open(tmp_path / "faces.tar", "w") as archive:
        for file in sorted(folder.iterdir()):
            data = file.read_bytes()
            entry = tarfile.TarInfo(file.name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    assert [int(image[0, 0, 0]) for image in pointing.images([folder, tmp_path / "faces.tar"])] == [10, 20, 10, 20]
    assert next(pointing.images([portrait_image])).shape == (512, 512, 3)


def test_made_faces_differ_and_come_again():
    first = list(islice(pointing.made_faces(3), 3))
    again = list(islice(pointing.made_faces(3), 3))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])


def test_a_run_prints_and_writes_its_figures(tmp_path, capsys):
    network, card = detector("custom_cnn", 64)
    save_detector(tmp_path / "model", network, card)
    code = pointing.main(
        ["--model", str(tmp_path / "model"), "--n", "3", "--device", "cpu", "--json", str(tmp_path / "f.json")]
    )
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["schema"] == pointing.SCHEMA
    assert figures["pointing"]["n"] == 3
    assert 0 < figures["chance"] < 1
    assert code == (0 if min(figures["pointing"]["low"], figures["rise"]["low"]) > figures["chance"] else 1)
    printed = capsys.readouterr().out
    assert "model tiny, 3 self-blended faces" in printed
    assert "chance: share of the area" in printed


def test_what_is_not_there_is_told_in_one_line(tmp_path, capsys):
    assert pointing.main([str(tmp_path / "gone")]) == 3
    assert "not found" in capsys.readouterr().err
    assert pointing.main(["--model", "gone"]) == 3
    assert "Unknown model 'gone'" in capsys.readouterr().err
