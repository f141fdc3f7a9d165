"""What is published says the truth: the name, the version, the workflows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from deepscan.version import DISTRIBUTION, __version__, install_command

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEXTS = {".py", ".md", ".toml", ".yml", ".yaml", ".cff", ".sh", ".j2", ".ipynb", ""}
# What would fetch another project of that name: "deepscan[web]", "pip install deepscan", "deepscan==0.1".
OLD_NAME = re.compile(
    r"(?<![\w/-])deepscan(?:\[[a-z]|\s*[=~><]=\s*[\d'\"])|(?:pip3?|uv|pipx|uvx)\s+install\s+(?:-\S+\s+)*['\"]?deepscan(?![\w/-])"
)


def published_texts() -> list[Path]:
    """Every text of the repository; of an unpacked archive, too, which git knows nothing of."""
    git = shutil.which("git")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout if git else b""
    names = [ROOT / name for name in listed.decode().split("\0") if name]
    found = names or [p for p in ROOT.rglob("*") if ".git" not in p.parts]
    return [p for p in found if p.is_file() and p.suffix in TEXTS and p != Path(__file__)]


def test_the_project_has_the_name_that_the_hints_give():
    assert PROJECT["name"] == DISTRIBUTION == "deepscan-video"
    assert install_command("web") == "pip install 'deepscan-video[web]'"


@pytest.mark.parametrize(
    "text", ["pip install 'deepscan[web]'", "pip install deepscan", '"deepscan[test]",', "deepscan>=0.1"]
)
def test_the_old_form_is_seen(text):
    assert OLD_NAME.search(text)


def test_no_text_names_the_old_distribution():
    texts = published_texts()
    assert len(texts) > 300
    named = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in texts
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if OLD_NAME.search(line)
    ]
    assert named == []


def test_every_extra_that_is_named_is_there():
    named = set()
    for path in published_texts():
        named.update(re.findall(r"deepscan-video\[([a-z0-9]+)\]", path.read_text(encoding="utf-8", errors="replace")))
        named.update(
            re.findall(r"install_command\(['\"](\w+)['\"]\)", path.read_text(encoding="utf-8", errors="replace"))
        )
    assert "web" in named
    assert named <= PROJECT["optional-dependencies"].keys()


def test_the_version_stands_in_one_place():
    assert "version" in PROJECT["dynamic"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_ask_for_no_more_than_they_need(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job.get("permissions", {}).get("contents", "read") == "read"
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert "secrets." not in str(step)


def test_a_release_is_published_only_after_it_was_tried():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))["jobs"]
    assert [jobs[name]["needs"] for name in ("smoke", "attest", "publish")] == ["build", "smoke", "attest"]
    assert "twine check --strict" in str(jobs["build"]["steps"])
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert len(jobs["smoke"]["strategy"]["matrix"]["os"]) == 3


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_paths_that_workflows_name_are_there(path):
    text = re.sub(r"\.\./|source/", "", path.read_text(encoding="utf-8"))
    for name in re.findall(r"(?<![\w./-])((?:tests|data|docs|deepscan)/[\w./-]*\w)", text):
        assert (ROOT / name).exists() or name.startswith("deepscan/deepscan"), name


@pytest.mark.slow
def test_wheel_and_archive_are_whole(tmp_path):
    """Built by hatchling without a network; the wheel has the weights and schemas, the archive what its tests need."""
    code = (
        "import sys; from hatchling.build import build_sdist, build_wheel;"
        "print(build_wheel(sys.argv[1])); print(build_sdist(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    names = done.stdout.split()
    assert names == [f"deepscan_video-{__version__}-py3-none-any.whl", f"deepscan_video-{__version__}.tar.gz"]
    import tarfile
    import zipfile

    wheel = zipfile.ZipFile(tmp_path / names[0]).namelist()
    assert {"deepscan/weights/default/model.safetensors", "deepscan/py.typed"} <= set(wheel)
    assert not [
        name for name in wheel if name.split("/")[0] not in ("deepscan", f"deepscan_video-{__version__}.dist-info")
    ]
    with tarfile.open(tmp_path / names[1]) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"SECURITY.md", "CITATION.cff", "tests/conftest.py", "docs/security.md"} <= inside


WITHOUT_TORCH = (
    "import sys; sys.modules.update(dict.fromkeys(('torch', 'torchvision', 'timm')));"
    "from deepscan.cli import main; main()"
)


@pytest.mark.parametrize("arguments", [["models"], ["info"]])
def test_what_needs_torch_says_so_in_one_line(arguments):
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("deepscan: torch is not installed")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_without_torch_the_answers_are_the_same(tmp_path):
    """As in the container: another process has converted the networks."""
    environment = os.environ | {"DEEPSCAN_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    rows = []
    for start in (["-m", "deepscan"], ["-c", WITHOUT_TORCH]):
        command = [sys.executable, *start, "predict", "data/samples/real.mp4", "--csv", "-", "--runtime", "openvino"]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        rows.append(done.stdout)
    assert rows[0] == rows[1]
    assert ",real,0." in rows[0]


def test_the_container_leaves_torch_out_and_nothing_else():
    script = ROOT / "scripts" / "slim_requirements.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=True)
    slim = done.stdout.splitlines()
    everything = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["web"]]
    left_out = {re.split(r"[\[<>=]", one)[0] for one in set(everything) - set(slim)}
    assert left_out == {"torch", "torchvision", "timm", "facenet-pytorch", "deepscan-video"}
    assert "openvino" in done.stdout


def test_the_container_gets_no_rights():
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["deepscan"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["ports"] == ["127.0.0.1:7860:7860"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "USER 10001" in dockerfile.split("AS final")[1]
    for name in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        assert all((ROOT / one).exists() for one in name.split())
    compile(service["healthcheck"]["test"][3], "health check", "exec")
