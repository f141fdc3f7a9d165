"""Detectors on the Hugging Face Hub, against a stand-in that answers huggingface_hub's own calls."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import deepscan
from deepscan.cli import app
from deepscan.errors import DeepscanError, ModelError
from deepscan.files import file_sha256
from deepscan.models.checkpoint import (
    CARD_FILE,
    DETECTOR_FILES,
    SHIPPED_ROOT,
    WEIGHTS_FILE,
    load_card,
    resolve_detector,
)
from deepscan.models.ensemble import open_detector
from deepscan.models.hub import HubAddress, download

constants = pytest.importorskip("huggingface_hub.constants", reason="deepscan-video[hub] is not installed")
from hubserver import TOKEN, hub_server  # noqa: E402
from madedetectors import save  # noqa: E402

# What huggingface_hub 2.4 gives to its HTTP library when it uploads.
pytestmark = pytest.mark.filterwarnings("default:Use 'content=:DeprecationWarning")
DEFAULT, REPOSITORY = SHIPPED_ROOT / "default", "somebody/detector"
PULLED = {f"{method} {call}" for method, call in (
    ("GET", "/api/models/{repo}/revision/{revision}"),
    ("GET", "/api/models/{repo}/tree/{revision}"),
    ("HEAD", "/{repo}/resolve/{revision}/{file}, regular"),
    ("HEAD", "/{repo}/resolve/{revision}/{file}, LFS"),
    ("GET", "/{repo}/resolve/{revision}/{file}, regular"),
    ("GET", "of the large file"),
)}  # fmt: skip
PUSHED = {f"{method} {call}" for method, call in (
    ("POST", "/api/repos/create"),
    ("POST", "/api/validate-yaml"),
    ("POST", "/api/models/{repo}/preupload/{revision}"),
    ("POST", "/{repo}.git/info/lfs/objects/batch"),
    ("PUT", "of the large file"),
    ("POST", "to verify the large file"),
    ("POST", "/api/models/{repo}/commit/{revision}"),
)}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub of one's own, an empty cache, and no token."""
    with hub_server() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        # The Hub's other protocol has servers of its own, which nothing here stands in for.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield served


@pytest.fixture
def published(hub):
    hub.commits[REPOSITORY] = [{name: (DEFAULT / name).read_bytes() for name in DETECTOR_FILES}]
    hub.commits[REPOSITORY][0] |= {"README.md": b"# hello", "setup.py": b"raise SystemExit('code ran')"}
    return hub


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def digests(folder):
    return {name: file_sha256(folder / name) for name in DETECTOR_FILES}


def test_push_and_pull_give_the_default_detector_byte_for_byte(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    pushed = run("models", "push", "default", REPOSITORY, "--license", "cc-by-4.0")
    assert pushed.exit_code == 0, pushed.stderr
    assert (pushed.exit_code, pushed.stdout.strip()) == (0, f"{hub.url}/{REPOSITORY}/commit/{hub.sha(REPOSITORY)}")
    assert set(hub.calls) == PUSHED
    hub.calls.clear()
    pulled = run("models", "pull", REPOSITORY)
    assert pulled.exit_code == 0
    assert digests(Path(pulled.stdout.strip())) == digests(DEFAULT)
    assert set(hub.calls) <= PULLED
    assert {call for call in hub.calls if call.startswith("GET")} == {call for call in PULLED if call.startswith("GET")}
    assert resolve_detector(f"hf:{REPOSITORY}") == Path(pulled.stdout.strip())


def test_the_readme_is_the_card_below_what_the_hub_reads(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    run("models", "push", "default", REPOSITORY, "--license", "cc-by-4.0")
    readme = hub.commits[REPOSITORY][-1]["README.md"].decode()
    front = yaml.safe_load(readme.split("---\n")[1])
    card = load_card(DEFAULT)
    assert (front["license"], front["pipeline_tag"], front["library_name"]) == (
        "cc-by-4.0",
        "video-classification",
        "deepscan",
    )
    assert "dfdc" in front["datasets"]
    results = front["model-index"][0]["results"]
    values = {(one["dataset"]["name"], metric["type"]): metric["value"] for one in results for metric in one["metrics"]}
    for evaluation in card.evaluations:
        assert values[evaluation["part"], "auc"] == evaluation["figures"]["auc"]["value"]
    assert f"--model hf:{REPOSITORY}" in readme
    assert card.weights_sha256 in readme


def test_only_what_a_detector_is_made_of_is_fetched(published):
    folder = download(HubAddress.parse(f"hf:{REPOSITORY}"), DETECTOR_FILES)
    assert sorted(file.name for file in folder.iterdir()) == sorted(DETECTOR_FILES)


def test_a_download_that_breaks_off_goes_on_where_it_was(published, monkeypatch):
    size = (DEFAULT / WEIGHTS_FILE).stat().st_size
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1_000_000)  # in these steps the library goes on
    published.cut_at = size // 2
    folder = download(HubAddress(REPOSITORY), DETECTOR_FILES)
    assert digests(folder) == digests(DEFAULT)
    (wanted,) = published.ranges
    assert 0 < int(wanted.removeprefix("bytes=").rstrip("-")) <= size // 2


def test_a_tampered_file_is_refused(published):
    changed = bytearray(published.commits[REPOSITORY][0][WEIGHTS_FILE])
    changed[-1] ^= 1
    published.commits[REPOSITORY][0][WEIGHTS_FILE] = bytes(changed)
    done = run("models", "pull", REPOSITORY)
    assert done.exit_code == 3
    assert "damaged or was exchanged" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(ModelError, match="damaged or was exchanged"):
        deepscan.load_detector(f"hf:{REPOSITORY}")


def test_forced_it_is_fetched_again(published):
    """A file that was damaged in the cache."""
    folder = download(HubAddress(REPOSITORY), DETECTOR_FILES)
    (folder / WEIGHTS_FILE).resolve().write_bytes(b"damaged")
    assert run("models", "pull", REPOSITORY).exit_code == 3
    assert run("models", "pull", REPOSITORY, "--force").exit_code == 0
    assert digests(folder) == digests(DEFAULT)


def test_a_revision_stays_what_it_was(published):
    first = published.sha(REPOSITORY)
    published.commits[REPOSITORY].append({CARD_FILE: b"{}"})
    folder = download(HubAddress.parse(f"hf:{REPOSITORY}@{first}"), DETECTOR_FILES)
    assert digests(folder) == digests(DEFAULT)
    published.calls.clear()
    assert download(HubAddress(REPOSITORY, first), DETECTOR_FILES) == folder
    assert not published.calls, "a commit that is in the cache needs no connection"


def test_without_a_connection_the_cache_answers(published, monkeypatch):
    folder = download(HubAddress(REPOSITORY), DETECTOR_FILES)
    published.calls.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download(HubAddress(REPOSITORY), DETECTOR_FILES) == folder
    assert not published.calls
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE.*deepscan models pull") as caught:
        download(HubAddress("somebody/else"), DETECTOR_FILES)
    assert caught.value.reason == "hub"


def test_gated_missing_and_unknown_are_one_line(published, monkeypatch):
    published.gated.add(REPOSITORY)
    for address, cause in (
        (REPOSITORY, "its owner wants to be asked first"),
        ("nobody/nothing", "there is no such repository, or it is private"),
    ):
        done = run("models", "pull", address)
        assert (done.exit_code, len(done.stderr.splitlines())) == (3, 1)
        assert cause in done.stderr
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert run("models", "pull", REPOSITORY).exit_code == 0
    assert published.calls["GET of the large file"] == 1
    assert published.tokens_at_store == 0, "the token is for the Hub alone"
    with pytest.raises(ModelError, match="no such revision"):
        download(HubAddress(REPOSITORY, "v9"), DETECTOR_FILES)
    monkeypatch.delenv("HF_TOKEN")
    done = run("models", "push", "default", "nobody/nothing")
    assert (done.exit_code, len(done.stderr.splitlines())) == (3, 1)


def test_a_server_that_is_not_there(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        download(HubAddress(REPOSITORY), DETECTOR_FILES)
    assert caught.value.reason == "hub"


@pytest.mark.parametrize("text", ["hf:", "hf:name", "hf:a/b/c", "hf:a/b@", "hf:../x@y z", "hf:a b/c"])
def test_what_is_no_address(text):
    with pytest.raises(ModelError, match="hf:user/name") as caught:
        resolve_detector(text)
    assert caught.value.reason == "unknown_model"


def test_the_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DeepscanError, match=r"pip install 'deepscan-video\[hub\]'") as caught:
        resolve_detector("hf:a/b")
    assert caught.value.reason == "missing_package"


def test_an_ensemble_is_pulled_with_its_members(hub, tmp_path):
    for seed in (1, 2):
        save(tmp_path / str(seed), seed=seed)
    source = tmp_path / "both"
    made = run("ensemble", str(tmp_path / "1"), str(tmp_path / "2"), "--out", str(source), "--equal")
    assert made.exit_code == 0, made.output
    files = [file for name in DETECTOR_FILES for file in source.rglob(name)]
    hub.commits[REPOSITORY] = [{file.relative_to(source).as_posix(): file.read_bytes() for file in files}]
    folder = download(HubAddress(REPOSITORY), DETECTOR_FILES)
    assert len(open_detector(folder).parts) == 2


@pytest.mark.slow
def test_predict_takes_a_model_of_the_hub(published, tmp_path):
    samples = Path(__file__).parent.parent.parent / "data" / "samples"
    environment = os.environ | {
        "HF_ENDPOINT": published.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    command = [sys.executable, "-m", "deepscan", "predict", str(samples), "--model", f"hf:{REPOSITORY}", "--csv"]
    rows = []
    for model in (f"hf:{REPOSITORY}", "default"):
        command[-2] = model
        done = subprocess.run(
            [*command, "-"], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        rows.append(done.stdout)
    assert rows[0] == rows[1]
    shutil.rmtree(tmp_path / "home")
