"""What a browser makes of a page, and the rules that every page keeps."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise

EMPTY = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
EMPTY |= {"line", "path", "rect", "circle"}  # of an SVG, closed in themselves
INLINE = {"b", "bdi", "i", "span", "code"}


class Page(HTMLParser):
    """Tags with their attributes, headings and texts; a tag that is not closed, or not open, fails."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.source = data.decode("utf-8")
        self.open, self.tags, self.headings, self.texts = [], [], [], []
        self.script = self.style = self.title = ""
        self.feed(self.source)
        self.close()
        assert not self.open, self.open
        self.text = " ".join("".join(self.texts).replace("\u00a0", " ").split())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute twice in {self.get_starttag_text()!r:.200}"
        self.tags.append((tag, attributes))
        if tag not in INLINE:
            self.texts.append(" ")
        if tag not in EMPTY:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if inside in ("style", "script", "title"):
            setattr(self, inside, data)
            return
        if any(re.fullmatch("h[1-6]", tag) for tag in self.open):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)
        self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def outline(self):
        return [" ".join(text.split()) for _, text in self.headings]


def check(page):
    """What holds for every page: it loads nothing, runs nothing of others, and can be read aloud."""
    assert page.source.startswith("<!DOCTYPE html>\n")
    assert page.all("html") == [{"lang": "en"}]
    assert page.title.strip()
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    if page.script:
        digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
        assert rules["script-src"] == f"'sha256-{digest}'"
    else:
        assert "script-src" not in rules
    assert len(page.all("script")) == bool(page.script)
    forbidden = {"iframe", "object", "embed", "form", "base", "video", "audio", "use", "foreignobject"}
    assert not forbidden & {tag for tag, _ in page.tags}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert "style" not in attributes
        for name, value in attributes.items():
            assert not re.search(r"(https?:|//)", value) or value.startswith("data:image/jpeg;base64,"), (tag, name)
        for name in {"src", "srcset", "xlink:href", "action"} & set(attributes):
            assert attributes[name].startswith("data:image/jpeg;base64,")
        if tag == "a" and attributes["href"].startswith("#"):
            assert attributes["href"][1:] in ids
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name, ids[0]) in ids
    assert set(re.findall(r"url\((.*?)\)", page.source)) <= {"#hatch", "#dots"}
    assert "@import" not in page.source
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(text.strip() for _, text in page.headings)
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
    assert all("alt" in attributes for attributes in page.all("img"))
    for attributes in page.all("svg"):
        assert attributes.get("aria-hidden") == "true" or (attributes["role"] == "img" and attributes["aria-label"])
    for attributes in page.all("div"):
        if "wide" in attributes.get("class", "").split():
            assert attributes["tabindex"] == "0"
            assert attributes.get("aria-label") or attributes.get("aria-labelledby")
    return page
