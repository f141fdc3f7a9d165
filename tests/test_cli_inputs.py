"""`deepscan predict` of what is no file: web addresses and stdin."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner
from webserver import serving, write_certificate

from deepscan.cli import app
from deepscan.files import file_sha256
from deepscan.report.table import schema

CLIP = Path(__file__).parent.parent / "data" / "samples" / "real.mp4"
QUICK = ("--frames", "2", "--no-tta", "--json", "-")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, which has to be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert [path for path in folder.iterdir() if path.name.startswith("deepscan-")] == []


def results(run):
    report = json.loads(run.stdout)
    Draft202012Validator(schema()).validate(report)
    return report["results"]


def test_an_address_is_judged_where_it_may_be_fetched(tmp_path, temporary, monkeypatch):
    pem = write_certificate(tmp_path / "own.pem", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    page = tmp_path / "page.html"
    with serving(pem) as server:
        address = server.put("/clip.mp4", CLIP.read_bytes())
        refused = CliRunner().invoke(app, ["predict", address, *QUICK])
        assert (refused.exit_code, server.asked) == (3, [])
        assert [(one["path"], one["reason"]) for one in results(refused)] == [(address, "private_address")]
        run = CliRunner().invoke(
            app, ["predict", address, str(CLIP), "--allow-private-addresses", "--html", str(page), "--no-heat", *QUICK]
        )
    fetched, file = results(run)
    assert (run.exit_code, fetched["path"], fetched["sha256"]) == (0, address, file_sha256(CLIP))
    assert {name: fetched[name] for name in ("verdict", "probability", "tracks")} == {
        name: file[name] for name in ("verdict", "probability", "tracks")
    }
    text = page.read_text()
    assert address in text
    assert str(temporary) not in text + run.output


def test_stdin_is_judged():
    with CLIP.open("rb") as file:
        run = subprocess.run(
            [sys.executable, "-m", "deepscan", "predict", "-", *QUICK], stdin=file, capture_output=True, check=False
        )
    (result,) = results(run)
    assert (run.returncode, result["path"], result["kind"], result["sha256"]) == (0, "-", "video", file_sha256(CLIP))


def test_a_clip_and_a_list_cannot_both_come_through_stdin():
    assert CliRunner().invoke(app, ["predict", "-", "--from-file", "-"]).exit_code == 2
