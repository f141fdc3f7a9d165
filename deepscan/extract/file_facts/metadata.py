"""Tags of files: shortened, counted, without places, and what the known ones say of programs and cameras."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deepscan.extract.file_facts.provenance import Provenance
from deepscan.types import Kind

MOST_TAGS, LONGEST_NAME, LONGEST_VALUE = 60, 60, 300
Groups = Sequence[tuple[str, Mapping[str, str]]]

# Where somebody lives is nobody's business who is sent a report.
_PLACES = re.compile(r"location|gps|latitude|longitude|\bxyz\b|©xyz", re.IGNORECASE)
_HIDDEN = "a place is given; not shown, as reports are passed on"
_CAMERA_NAMES = re.compile(r"(^|[.\s:_-])(make|model|manufacturer)$", re.IGNORECASE)
# Tags that name the program which wrote a file.
_NAMING = re.compile(r"encod|software|handler|tool|writ|vendor|generator|producer|app", re.IGNORECASE)
# Named by what they do, the most telling first.
_PROGRAMS = (
    (r"algorithmicmedia|stable.?diffusion|comfyui|midjourney|dall.?e|firefly|\bflux\b|runway|\bsora\b|\bveo\b|deepfacelab|faceswap|"
     r"roop|facefusion|heygen|synthesia",
     "a program that makes or changes pictures or faces with a neural network; the tag says so itself"),
    (r"premiere|after.?effects|media encoder|final cut|imovie|davinci|resolve|kdenlive|shotcut|vegas pro|filmora|avid|"
     r"capcut|inshot|kinemaster|openshot|blender",
     "a program that edits videos; people cut and caption honest ones with it every day"),
    (r"photoshop|lightroom|gimp|snapseed|affinity|picsart|facetune|meitu|pixelmator|canva|imagemagick",
     "a program that edits pictures; cropping or brightening leaves the same trace as a forgery"),
    (r"handbrake|lavf|lavc|x264|x265|ffmpeg|mencoder|libvpx",
     "a program that encodes videos, used by countless sites, apps and editors; nearly no camera writes it: the file "
     "was written again after it was recorded"),
    (r"google|youtube|facebook|whatsapp|telegram|tiktok|twitter|instagram|vimeo|snapchat",
     "a platform; it writes every upload again and so wipes out traces"),
    (r"\bobs\b|bandicam|camtasia|screenflow|zoom|webex",
     "a program that records screens or calls"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """Something a file says, for a person.

    Attributes:
        name: of the fact.
        value: texts of the file are in it, shortened.
        meaning: what it says, and what it does not.
        noticed: it may come from editing; the meaning then has the innocent explanations.
    """

    name: str
    value: str
    meaning: str
    noticed: bool = False


@dataclass(frozen=True, slots=True)
class Tag:
    """One entry of a file's metadata: where it stands, its name and its value, shortened."""

    source: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Everything a file says of itself.

    Attributes:
        kind: video or image.
        facts: plain ones.
        signs: those that editing can leave, whether noticed or not.
        tags: at most :data:`MOST_TAGS`, in the file's order.
        tags_left_out: how many more there are.
        provenance: Content Credentials.
    """

    kind: Kind
    facts: tuple[Fact, ...]
    signs: tuple[Fact, ...]
    tags: tuple[Tag, ...]
    tags_left_out: int
    provenance: Provenance


def tags_of(groups: Groups) -> tuple[tuple[Tag, ...], int]:
    """The first tags of all groups, shortened and without places, and how many are left out."""
    every = [Tag(source, shortened(name, LONGEST_NAME), _shown(name, value)) for source, tags in groups
             for name, value in tags.items()]  # fmt: skip
    return tuple(every[:MOST_TAGS]), max(0, len(every) - MOST_TAGS)


def software_sign(groups: Groups, signature: str = "") -> Fact:
    """What is known of the programs that wrote a file.

    Args:
        groups: tags by where they stand.
        signature: that an encoder left in the stream itself.
    """
    texts = list(dict.fromkeys([*_texts(groups), *([signature] if signature else [])]))
    for pattern, maker in _PROGRAMS:
        matches = [text for text in texts if re.search(pattern, text, re.IGNORECASE)]
        if matches:
            value = ", ".join(shortened(text, 80) for text in matches[:4])
            return Fact(
                "Programs", value, f"A trace of {maker}. It can be changed or removed by anybody.", noticed=True
            )
    return Fact(
        "Programs", "no known one", "No tag names an encoder or editor that is known here. Tags are easily removed."
    )


def camera_sign(groups: Groups) -> Fact:
    """Make and model of the camera, or that there is none."""
    matches = [value.strip() for _, tags in groups for name, value in tags.items() if _CAMERA_NAMES.search(name)]
    if named := [shortened(value, 60) for value in dict.fromkeys(matches) if value]:
        meaning = "What the file says; any program can write it. It does not show that nothing was changed since."
        return Fact("Camera", " ".join(named[:3]), meaning)
    meaning = (
        "Cameras and phones write their make and model; it is lost when a file is edited, and just so when it is sent "
        "through a messenger or downloaded from a platform."
    )
    return Fact("Camera", "no make or model", meaning, noticed=True)


def shortened(text: str, longest: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def size_text(n_bytes: int) -> str:
    """A size for people."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{max(n_bytes, 1) / 1e3:,.1f} kB"


def duration_text(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min {rest:02} s" if hours else f"{minutes} min {rest:02} s"


def _shown(name: str, value: str) -> str:
    return _HIDDEN if _PLACES.search(name) else shortened(value, LONGEST_VALUE)


def _texts(groups: Groups) -> Iterator[str]:
    """Values that name programs: of tags that are there for it, and names of tags that only generators write."""
    for _, tags in groups:
        for name, value in tags.items():
            if _NAMING.search(name) or "algorithmicmedia" in value.lower():
                yield value
            elif name.lower() in ("parameters", "prompt", "workflow", "sd-metadata"):
                yield f"Stable Diffusion or ComfyUI settings (tag {name})"
