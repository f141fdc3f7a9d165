"""What strangers send stays data: no file runs code, no text becomes markup, no path leads out.

The parts have tests of their own beside them (weights in test_checkpoint, corpora in test_corpora, names in test_pages
and test_contactsheet, uploads in test_web_api); here are the rules that hold for all of the code, and whole runs.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import av
import pytest

import deepscan
from deepscan.errors import ConfigError, ModelError
from deepscan.models.checkpoint import load_card
from deepscan.models.ensemble import open_detector
from deepscan.train.recipe import load_recipe

PACKAGE = Path(deepscan.__file__).parent
ROOT = Path(__file__).parent.parent
SCRIPT = "<script>document.title='run'</script>"

# --- no code from files, no shell ----------------------------------------------------------------------------

# Of these the last part of a called name is enough to look twice.
FORBIDDEN = {
    "eval": "runs text",
    "exec": "runs text",
    "compile": "makes code of text",
    "system": "a shell",
    "popen": "a shell",
    "getoutput": "a shell",
    "getstatusoutput": "a shell",
    "extractall": "writes where an archive says",
    "unpack_archive": "writes where an archive says",
    "unsafe_load": "YAML that makes objects",
    "full_load": "YAML that makes objects",
    "Unpickler": "pickle",
    "read_pickle": "pickle",
    "hub_load": "code from the network",
    "from_pretrained": "weights from the network",
    "load_state_dict_from_url": "weights from the network",
    "urlopen": "the network",
    "urlretrieve": "the network",
}
# Messages between our own processes; see the module's head.
PICKLES_ITS_OWN = {"processes/guard.py", "processes/worker.py"}
# A pattern, and the name of the operating system.
HARMLESS = {"re.compile", "platform.system"}


def offences(source: str, name: str = "x.py") -> Iterator[str]:
    """What a module calls that it must not."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        owner, _, last = called.rpartition(".")
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        where = f"{name}:{node.lineno} {called}"
        if options.get("shell", "False") != "False":
            yield f"{where}: a shell"
        if last in ("load", "loads") and owner in ("pickle", "marshal", "dill", "joblib", "cloudpickle"):
            if name not in PICKLES_ITS_OWN:
                yield f"{where}: pickle"
        elif called in ("yaml.load", "shelve.open"):
            yield f"{where}: makes objects"
        elif called in ("torch.load", "trainer.fit", "load_from_checkpoint") and options.get("weights_only") != "True":
            yield f"{where}: without weights_only=True"
        elif called == "np.load" and options.get("allow_pickle") != "False":
            yield f"{where}: without allow_pickle=False"
        # Without an argument it puts a network into evaluation mode.
        elif last in FORBIDDEN and called not in HARMLESS and not (last == "eval" and not node.args):
            yield f"{where}: {FORBIDDEN[last]}"


@pytest.mark.parametrize(
    "source",
    [
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "eval(text)",
        "builtins.exec(text)",
        "pickle.loads(data)",
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "yaml.load(text, Loader=yaml.Loader)",
        "np.load(file)",
        "tar.extractall(folder)",
        "trainer.fit(module, ckpt_path=last)",
        "torch.hub.load_state_dict_from_url(address)",
    ],
)
def test_what_is_forbidden_is_seen(source: str) -> None:
    assert len(list(offences(source))) == 1


def test_nothing_runs_code_from_a_file_or_text_in_a_shell() -> None:
    modules = sorted(PACKAGE.rglob("*.py"))
    assert len(modules) > 100
    offending = [
        offence
        for path in modules
        for offence in offences(path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).as_posix())
    ]
    assert offending == []


def test_one_module_alone_holds_a_library_that_fetches() -> None:
    libraries = {"urllib", "urllib3", "httpx", "httpx2", "requests", "aiohttp", "http", "ftplib", "yt_dlp"}
    holders = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.partition(".")[0] for name in names if name != "urllib.parse"} & libraries:
                holders.add(path.relative_to(PACKAGE).as_posix())
    assert holders == {"extract/fetch.py"}


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    marker, file = tmp_path / "marker", tmp_path / "recipe.yaml"
    file.write_text(
        f"name: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{marker}']]\n"
    )
    with pytest.raises(ConfigError, match=r"recipe\.yaml"):
        load_recipe(file)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("", b"[" * 200_000, "recursion limit"),
        ("", b'{"a":' * 200_000, "recursion limit"),
        ("mean", [float("nan")] * 3, "finite"),
        ("std", [0.0, 1.0, 1.0], "greater than 0"),
        ("calibration.scale", -1.0, "greater than 0"),
        ("crop.size_px", 10**6, "less than or equal to 1024"),
        ("network.head.hidden", 10**9, "less than or equal"),
        ("network.head.bidirectional_layers", 10**6, "less than or equal"),
        ("network.head.hidden", 2**15, "more than the file holds"),
        ("network.backbone", "timm:hf-hub:somebody/model", "Unknown timm model"),
        ("network.backbone", "../../etc", "Unknown backbone"),
        ("unknown", 1, "Extra inputs"),
        ("weights_sha256", "0" * 64, "damaged or was exchanged"),
    ],
)
def test_cards_are_checked_before_anything_is_made_of_them(tmp_path: Path, field: str, value: object, why: str) -> None:
    shipped = PACKAGE / "weights" / "default"
    (tmp_path / "model.safetensors").symlink_to(shipped / "model.safetensors")
    card = json.loads((shipped / "card.json").read_text(encoding="utf-8"))
    if field:
        *parents, last = field.split(".")
        at = card
        for parent in parents:
            at = at[parent]
        at[last] = value
    (tmp_path / "card.json").write_bytes(value if isinstance(value, bytes) else json.dumps(card).encode())
    with pytest.raises(ModelError, match=why):
        open_detector(tmp_path).load()


def test_a_card_of_any_length_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "card.json").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(ModelError, match="68 MB"):
        load_card(tmp_path)


# --- texts from files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile_pages(tmp_path_factory: pytest.TempPathFactory, face_clip: Path) -> list[Path]:
    """Pages of a clip whose name and tags are markup: the report of `predict`, and that of `serve`'s service."""
    folder = tmp_path_factory.mktemp("hostile")
    path = folder / f"{SCRIPT.replace('/', '')}<img src=x onerror=document.title='run'>.mkv"
    with av.open(str(face_clip)) as source, av.open(str(path), "w", format="matroska") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for name in ("title", "comment", "encoder", "artist"):
            target.metadata[name] = f"</script></td>{SCRIPT}<img src=x onerror=\"document.title='run'\">"
        copy.metadata["handler_name"] = SCRIPT
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    out = folder / "r.html"
    command = [sys.executable, "-m", "deepscan", "predict", str(path), "--frames", "4", "--no-heat", "--html", str(out)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT, timeout=300)
    return [out]


class Tags(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_names_and_tags_are_text_in_the_page(hostile_pages: list[Path]) -> None:
    for page in hostile_pages:
        source = page.read_text(encoding="utf-8")
        assert "&lt;script&gt;document.title" in source  # it is shown, as text
        shown = Tags(source)
        assert shown.tags.count("script") <= 1  # the page's own
        assert shown.handlers == []
        assert SCRIPT not in source


def test_nothing_runs_in_a_browser(hostile_pages: list[Path]) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        for page in hostile_pages:
            asked: list[str] = []
            view = browser.new_page()
            view.on("request", lambda request, asked=asked: asked.append(request.url))
            view.goto(page.resolve().as_uri(), wait_until="load")
            assert view.evaluate("document.title") != "run"
            assert [url for url in asked[1:] if not url.startswith("data:")] == []
        browser.close()
