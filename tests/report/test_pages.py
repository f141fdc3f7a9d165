"""The evidence report: what it says of every kind of input, and that nothing in a file can harm it."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import madereports as made
import numpy as np
import pytest
from readpage import Page, check

from deepscan.errors import MediaError, OutputError
from deepscan.explain.error_level import MEANING, ErrorLevel
from deepscan.extract.file_facts.metadata import Fact, FileFacts, Tag
from deepscan.extract.file_facts.provenance import Provenance
from deepscan.extract.traces import MESSAGES as TRACES
from deepscan.report.html import check_target, write, write_pages
from deepscan.report.table import schema, to_json
from deepscan.types import MediaInfo, Note, SightingResult, Trace, UnjudgedTrack, VerdictLabel
from deepscan.verdict import notes_on

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KINDS = [made.one_face, made.two_people, made.image, made.no_face, made.error, made.uncertain]
MEDIA = MediaInfo(Path("face.jpg"), "image", 640, 480, None, 1)


def pages(folder, *results, name="report.html", card=None, **options):
    """The page of these results, checked by the rules for all."""
    options = {"material": made.material, "card": card or made.card(), "made": NOW, **options}
    model = options.pop("model", made.MODEL)
    written = write_pages(made.report(*results, model=model), folder / name, **options)
    return check(Page(written.page.read_bytes()))


def facts(text="isom"):
    one = Fact(text, text, text, noticed=True)
    told = Provenance("valid", text, ((text, text),), (text,))
    return FileFacts("video", (one,), (one,), (Tag(text, text, text),), 3, told)


# What is on it


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_every_kind_of_input_alone_and_among_others(tmp_path, kind):
    result = kind()
    alone = pages(tmp_path, result)
    assert alone.headings[0] == (1, result.path)
    assert not alone.script
    assert len(alone.all("article")) == len(result.tracks)
    titles = ["What to do next", "What this cannot see", "What the file says of itself, and its hash"]
    titles += ["People (1)"] * (len(result.tracks) == 1)
    assert set(titles) <= set(alone.outline())
    among = pages(tmp_path, result, made.one_face("other.mp4"), name="two.html")
    assert among.headings[0] == (1, "Deepfake report")
    assert f"1 {result.path}" in among.outline()
    if result.message:
        assert result.message in alone.text


def test_a_fake_is_told_in_words(tmp_path):
    shown = pages(tmp_path, made.one_face())
    assert shown.title == "clip.mp4: fake"
    assert "fake Looks manipulated P(fake) 95 %" in shown.text
    assert shown.text.index("real up to 27 % uncertain fake from 73 %") < shown.text.index("What to do next")
    assert "Frames look manipulated at 0.5 s to 1.5 s (person 1)." in shown.text
    assert "Of 100 clips with a score like this, about 92 were fake on the validation data: 50 files" in shown.text
    assert "half of val that calibration did not see" in shown.text
    assert "The 95 % interval is 90 to 100 of 100." in shown.text
    assert "In that data 47 % of all files were fake." in shown.text
    assert "8 frames were looked at, one every 0.25 s: what is shorter than 0.5 s can lie between them." in shown.text
    assert "In 1 of the 8 frames no face was found" in shown.text
    assert "Faces of less than 40 pixels" in shown.text
    chart = next(svg["aria-label"] for svg in shown.all("svg") if svg.get("class") == "chart")
    assert "looks manipulated from 0.5 s to 1.5 s" in chart


def test_who_or_what_was_not_judged_is_told(tmp_path):
    seen = (SightingResult(0.5, (1.0, 2.0, 30.0, 40.0), 0.94),)
    left_out = tuple(UnjudgedTrack(n, "doubtful_face", 0.5, 1.0, seen) for n in range(2, 7))
    shown = pages(tmp_path, replace(made.one_face(), unjudged=left_out))
    assert shown.text.count("Not judged, at 0.5 s to 1.0 s: not surely a face.") == 3
    assert "2 more were not judged." in shown.text
    assert len(shown.all("article")) == 1


def test_what_was_not_examined_is_told(tmp_path):
    note = Note("damaged", "0.5 of 2.0 s were examined (75 % left out): 1.5 s are damaged.")
    shown = pages(tmp_path, replace(made.one_face(), examined_s=0.5, left_out=0.75, notes=(note,)))
    assert note.text in shown.text
    assert "1.5 of 2.0 s were not looked at" in shown.text


def test_people_are_ordered_by_suspicion_with_their_gaps(tmp_path):
    shown = pages(tmp_path, made.two_people())
    outline = [title for title in shown.outline() if title.startswith("Person ")]
    assert [title.split()[1] for title in outline] == ["1:", "2:"]
    assert "2 people were judged; the most suspicious, person 1, decides." in shown.text
    labels = [svg["aria-label"] for svg in shown.all("svg") if svg.get("class") == "chart"]
    # Of the first screen: the one who decides, and who is seen when; folded: one each, with what its frames do.
    assert len(labels) == 4
    assert "not seen from 0.4 s to 1.6 s" in labels[3]
    assert "Somebody was out of sight for a while once" in shown.text


def test_nothing_is_promised_where_nothing_was_judged(tmp_path):
    shown = pages(tmp_path, made.no_face())
    assert "This is neither “real” nor “fake”." in shown.text
    assert "whether anything in this file was manipulated was not examined" in shown.text
    assert "Of 100" not in shown.text
    assert "P(fake) 5" not in shown.text
    failed = pages(tmp_path, made.error())
    assert "this file may hold anything" in failed.text
    assert "none: it could not be read to its end" in failed.text


def test_random_weights_are_no_evidence(tmp_path):
    shown = pages(tmp_path, made.one_face(), model=replace(made.MODEL, trained=False, sha256=None))
    assert "Random weights were used: nothing here says anything about the files." in shown.text
    assert "Of 100" not in shown.text
    assert not [svg for svg in shown.all("svg") if svg.get("class") == "gauge"]


def test_a_card_without_a_curve_says_so(tmp_path):
    shown = pages(tmp_path, made.one_face(), card=made.card(bins=[]))
    assert "was not recorded for this detector: its card has no calibration curve" in shown.text
    assert "was not recorded" in check(Page(write_pages(
        made.report(made.one_face()), tmp_path / "bare.html", made=NOW).page.read_bytes())).text  # fmt: skip


def test_without_explanations_there_are_thumbnails_and_it_says_why(tmp_path):
    with_heat = pages(tmp_path, made.one_face())
    heat = [img["alt"] for img in with_heat.all("img") if img["alt"].startswith("Heat map")]
    assert len(heat) == 5  # four faces and the whole frame
    assert "Bars:" in with_heat.text
    without = pages(tmp_path, made.one_face(), material=lambda r: made.material(r, explained=False))
    assert [img["alt"] for img in without.all("img")][:2] == [
        "Frame with person 1 in a box",
        "Face of person 1 at 0.1 s",
    ]
    assert len(without.all("img")) == 5
    assert "Heat maps were not made." in without.text
    assert "Bars:" not in without.text


def test_the_error_level_is_folded_and_says_what_it_can_show(tmp_path):
    plain = np.zeros((48, 64, 3), np.uint8)
    level = ErrorLevel(plain, plain, 0.5, 12.0)
    shown = pages(tmp_path, made.one_face(), material=lambda r: replace(made.material(r), error_level=level))
    alts = [image["alt"] for image in shown.all("img")]
    assert alts[-2:] == ["Error level of the frame at 0.5 s", "Error level of the face at 0.5 s"]
    assert MEANING in shown.text
    assert not [details for details in shown.all("details") if "open" in details]
    assert "Error level" not in pages(tmp_path, made.one_face()).outline()


def test_hashes_of_input_model_settings_and_json(tmp_path):
    shown = pages(tmp_path, made.one_face())
    data = (tmp_path / "report.json").read_bytes()
    for digest in ("cd" * 32, made.MODEL.sha256, hashlib.sha256(data).hexdigest()):
        assert digest in shown.text
    other = pages(tmp_path, made.one_face(), model=replace(made.MODEL, settings={**made.MODEL.settings, "tta": False}))
    own, changed = (re.search(r"Settings, sha256 (\w{64})", page.text)[1] for page in (shown, other))
    assert own != changed


def test_a_probability_near_a_limit_agrees_with_the_rule_wherever_it_stands(tmp_path):
    model = replace(made.MODEL, uncertain_band=(0.1188, 0.9093))
    near = replace(
        made.one_face("near.mp4"),
        verdict=VerdictLabel.UNCERTAIN,
        probability=0.1189,
        tracks=(made.track(verdict=VerdictLabel.UNCERTAIN, probability=0.1189, values=[0.5] * 8),),
    )
    alone = pages(tmp_path, near, model=model)
    assert alone.text.count("12.0 %") >= 3  # headline, gauge and people
    assert "12 %" not in alone.text.replace("12.0 %", "")
    assert "fake from 90.9 %, real up to 11.9 %, uncertain between" in alone.text
    assert "12.0 %" in pages(tmp_path, near, made.one_face("other.mp4"), model=model, name="two.html").text


def test_the_model_card_and_limits(tmp_path):
    shown = pages(tmp_path, made.one_face())
    assert "Only face swaps were trained on." in shown.text
    assert "This report is a lead, not a proof." in shown.text
    assert "0.931 (0.900 to 0.950) 500" in shown.text
    assert "fake from 73 %, real up to 27 %, uncertain between" in shown.text


def test_file_facts_and_content_credentials(tmp_path):
    shown = pages(tmp_path, made.one_face(), material=lambda r: made.material(r, facts=facts("told")))
    assert "Noticed: told" in shown.text
    assert "Present and valid, signer not known. told" in shown.text
    assert "All metadata tags (4)" in shown.text
    assert "3 more are left out." in shown.text


def test_traces_of_processing_stand_among_the_facts_and_in_a_sentence(tmp_path):
    traces = (Trace("double_jpeg", 40.0, present=True), Trace("scaled_up", 0.1, present=False))
    result = replace(made.image(), traces=traces, notes=notes_on(MEDIA, None, traces))
    shown = pages(tmp_path, result, material=lambda r: made.material(r, facts=facts()))
    assert "Noticed: seen" in shown.text
    assert shown.text.count("not seen") == 1
    assert TRACES["double_jpeg"] in shown.text
    assert TRACES["scaled_up"] not in shown.text


def test_the_json_beside_it_is_the_report(tmp_path):
    report = made.report(made.one_face(), made.error())
    written = write_pages(report, tmp_path / "a.html", made=NOW)
    text = written.json.read_text(encoding="utf-8")
    assert written.json == tmp_path / "a.json"
    assert text == to_json(report)
    jsonschema.validate(json.loads(text), schema())


def test_the_same_run_gives_the_same_bytes(tmp_path):
    given = made.one_face(), made.two_people(), made.error()
    first = pages(tmp_path, *given).source
    assert pages(tmp_path, *given).source == first
    later = pages(tmp_path, *given, made=NOW + timedelta(days=1)).source
    assert later == first.replace("2026-01-02", "2026-01-03")


# Several inputs


def test_the_index_is_in_order_of_urgency_and_sortable(tmp_path):
    shown = pages(tmp_path, *(kind() for kind in reversed(KINDS)))
    table = shown.source.split('class="sortable"')[1].split("</table>")[0]
    names = re.findall(r"<bdi>([\w.]+)</bdi></a>", table)
    assert names == ["two.mp4", "clip.mp4", "odd.mp4", "gone.mp4", "empty.mp4", "face.jpg"]
    keys = re.findall(r'<td class="n" data-key="([^"]*)">', table)
    assert keys[:2] == ["5", "0.95"]
    # The files themselves stand in the same order.
    assert [int(title.split()[0]) for level, title in shown.headings if level == 2 and title[0].isdigit()] == [
        5,
        6,
        1,
        2,
        3,
        4,
    ]
    assert "Files 6 fake 2 real 1 uncertain 1 no answer 1 error 1" in shown.text
    assert "aria-sort" in shown.script
    assert "innerHTML" not in shown.script


def test_many_inputs_get_pages_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MOST_TOGETHER", 3)
    results = [kind(f"{n}/{kind.__name__}.mp4") for n, kind in enumerate(KINDS)]
    index = pages(tmp_path, *results)
    folder = tmp_path / "report_files"
    links = [a["href"] for a in index.all("a") if a["href"].startswith("report_files/")]
    assert sorted(links) == sorted(f"report_files/{path.name}" for path in folder.iterdir())
    assert len(links) == 6
    for path in folder.iterdir():
        page = check(Page(path.read_bytes()))
        assert page.all("a")[1]["href"] == "../report.html"
        assert {"href": "../report.json"} in page.all("a")
        assert not page.script
    (folder / "notes.html").write_text("mine")
    pages(tmp_path, *results[:4])
    assert len(list(folder.iterdir())) == 5
    assert (folder / "notes.html").read_text() == "mine"


def test_no_results(tmp_path):
    shown = pages(tmp_path)
    assert shown.headings[0] == (1, "Deepfake report")


def test_progress_and_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MOST_TOGETHER", 2)
    seen = []
    pages(
        tmp_path,
        *(made.one_face(f"{n}.mp4") for n in range(5)),
        on_progress=lambda done, all_: seen.append((done, all_)),
    )
    assert seen == [(n, 5) for n in range(1, 6)]


def test_pages_are_bounded(tmp_path):
    def noisy(result):
        return made.material(result, noise=True)

    crowd = replace(made.one_face(), tracks=tuple(made.track(n, probability=0.9) for n in range(1, 41)))
    alone = pages(tmp_path, crowd, material=noisy)
    assert len(alone.source) < 3_600_000
    assert "16 more people, all less suspicious, are in the JSON report." in alone.text
    assert "pictures were left out to keep this file small" in alone.text
    many = pages(tmp_path, *(replace(crowd, path=f"{n}.mp4") for n in range(12)), material=noisy)
    assert len(many.source) < 12 * 300_000


def test_long_videos_are_thinned(tmp_path):
    times = [0.1 * (n + 1) for n in range(10_000)]
    values = [0.99 if n == 5000 else 0.1 for n in range(10_000)]
    long = replace(
        made.one_face(), duration_s=1001.0, frames_sampled=10_000, tracks=(made.track(1, times=times, values=values),)
    )
    shown = pages(tmp_path, long, material=None)
    assert len(shown.source) < 100_000
    assert "highest at 8:20.1" in next(s["aria-label"] for s in shown.all("svg") if s.get("class") == "chart")


# Failing


def test_an_answer_stands_without_its_pictures(tmp_path, caplog):
    def fails(result):
        raise MediaError(f"{result.path}: not found", "", "Check the path.")

    shown = pages(tmp_path, made.one_face(), material=fails)
    assert "fake Looks manipulated" in shown.text
    assert "The file could not be read again, or was not, for this report." in shown.text
    assert [r.getMessage() for r in caplog.records] == [
        "clip.mp4: not found. Check the path.; its report has no pictures and no file facts"
    ]


def test_targets_that_are_refused(tmp_path):
    (tmp_path / "data.json").write_text('{"my": "data"}')
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "mine.html").write_text("<!DOCTYPE html>My page")
    for name in ("report.pdf", "data.html", "folder.html", "gone/report.html", "mine.html"):
        with pytest.raises(OutputError, match="cannot be written"):
            write_pages(made.report(made.one_face()), tmp_path / name, made=NOW)
    assert (tmp_path / "data.json").read_text() == '{"my": "data"}'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.json", "folder.html", "mine.html"]
    assert (tmp_path / "mine.html").read_text() == "<!DOCTYPE html>My page"
    pages(tmp_path, made.one_face())
    assert check_target(tmp_path / "report.html") == tmp_path / "report.json"  # our own are replaced


def test_a_failing_run_leaves_the_older_page(tmp_path, monkeypatch):
    pages(tmp_path, made.one_face())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        pages(tmp_path, made.error())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# Names from strangers


HOSTILE = [
    "<script>alert(1)<\\script>",
    "a\"><img src=x onerror='alert(1)'>",
    "&lt;b&gt; {{ 7 * 7 }} {% raw %}",
    "caf\udce9\udcff\ud800.mp4",
    "line\nend\x00\x1b[31m\x7f\x85\u2028",
    "\u202egpj.exe\u2066 \u200f",
    "<\\title><\\style><\\script>]]>-->",
    "x" * 100_000,
    "https://example.org",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_texts_of_files_stay_text(tmp_path, name):
    def build(text, folder):
        folder.mkdir()
        result = replace(made.one_face(text.replace("/", ":")), message=text)
        card = made.card().model_copy(update={"limits": [text], "data": [{"name": text, "use": text}]})
        results = (result, replace(result, path=result.path + "2"))
        # Bare pages without check(): a text may hold an address, an attribute that is followed may not.
        options = {"made": NOW, "card": card, "material": lambda r: made.material(r, facts=facts(text))}
        return Page(write_pages(made.report(*results), folder / "r.html", **options).page.read_bytes())

    harmless, shown = build("name", tmp_path / "a"), build(name, tmp_path / "b")
    assert [tag for tag, _ in shown.tags] == [tag for tag, _ in harmless.tags]
    assert [sorted(attributes) for _, attributes in shown.tags] == [sorted(a) for _, a in harmless.tags]
    for (_, own), (_, other) in zip(shown.tags, harmless.tags, strict=True):
        for followed in {"href", "src"} & set(own):
            assert own[followed] == other[followed]
    assert not [c for c in shown.source if c != "\n" and unicodedata.category(c) in ("Cc", "Cs")]
    assert not re.search("[\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]", shown.source)
    assert len(shown.source) < len(harmless.source) + 50_000


def test_a_page_may_have_any_name(tmp_path):
    shown = pages(tmp_path, made.one_face(), name="a b#<i>?.html")
    assert "a%20b%23%3Ci%3E%3F.json" in {a["href"] for a in shown.all("a")}


# Colours


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_texts_stand_out_from_what_they_are_on(tmp_path, scheme):
    style = pages(tmp_path, made.one_face()).style
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{6});", block))
    assert len(colours) == 15
    for back in ("page", "card"):
        for text in ("text", "muted", "link", "fake", "uncertain", "curve"):
            assert contrast(colours[text], colours[back]) >= 4.5, (text, back)
    for kind in ("fake", "real", "uncertain", "other"):
        assert contrast(colours[kind], colours[f"{kind}-back"]) >= 4.5, kind
    assert contrast(colours["muted"], colours["uncertain-back"]) >= 4.5  # words in the band
    assert contrast(colours["curve"], colours["fake-back"]) >= 4.5  # the line over a segment


def contrast(one, other):
    """As WCAG 2 defines it."""

    def luminance(colour):
        levels = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
