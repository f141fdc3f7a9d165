"""What every corpus reader shares: the items, the problems, paths that stay inside the corpus, groups.

A reader looks at a folder and says what is in it: one :class:`CorpusItem` for each video or image, and one
:class:`Problem` for everything that could not be used. It decodes nothing. Only a corpus without a single usable item
is an error. Names found in metadata are data, not instructions: none of them is followed out of the corpus' own
folder.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from deepscan.errors import MediaError
from deepscan.extract.file_kinds import is_media, suffix_of
from deepscan.text import encodable

Split = Literal["train", "val", "test"]
Position = tuple[Path, str | None]  # where an item's content is: its ``path`` and ``member``
SPLITS: tuple[Split, ...] = ("train", "val", "test")
REAL, FAKE = 0, 1
REAL_METHOD = "real"
UNKNOWN_METHOD = "fake"  # a fake whose corpus does not say how it was made

_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class CorpusItem:
    """One video or image of a corpus.

    Attributes:
        video_id: unique in the corpus, the same on every machine, safe as a relative path.
        path: the video, image or tar; the folder of the frames when there are ``frames``.
        label: 0 real, 1 fake.
        dataset: which corpus it is of.
        method: ``real``, or the name of the manipulation; ``fake`` where the corpus does not tell it.
        group: what must not be divided between splits; what that is, each reader says.
        split: the corpus' own ``train``, ``val`` or ``test``; None where it has none.
        member: name of the file inside ``path`` when that is a tar.
        frames: the images, in order, of a video that is kept as images.
        original: ``video_id`` of the item that this fake was made from, whose frames it shares. None for reals, and
            where the corpus does not tell it or it is not among the items. An original has none itself.
        origin: where the corpus has it from, if it is a collection of several; else empty.
        family: kind of manipulation that the method is one of (``swap``, ``lipsync``...); empty where it is not told.
        columns: whatever else the corpus says of it, by the name of the column in lower case.
    """

    video_id: str
    path: Path
    label: int
    dataset: str
    method: str
    group: str
    split: Split | None
    member: str | None = None
    frames: tuple[Path, ...] = ()
    original: str | None = None
    origin: str = ""
    family: str = ""
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.label not in (REAL, FAKE):
            raise ValueError(f"Invalid label ({self.label!r}). Supported are 0 (real) and 1 (fake).")
        if self.split is not None and self.split not in SPLITS:
            raise ValueError(f"Invalid split ({self.split!r}). Supported are {', '.join(SPLITS)} and None.")

    @property
    def file_type(self) -> str:
        """The ending of its file, spelled one way, without the dot."""
        return file_type(self.member or self.path)

    @property
    def further_columns(self) -> dict[str, str]:
        """What a manifest has beyond its own columns: origin (as ``source``), family and ``columns``."""
        columns = {"source": self.origin, "family": self.family, **self.columns}
        return {name: text for name, text in columns.items() if name and text}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of the corpus that could not be used, and why; ``message`` is one line.

    Reasons: ``missing_file`` (listed, not there), ``no_entry`` (there, not listed), ``broken_metadata``, ``bad_row``,
    ``bad_label``, ``bad_split``, ``bad_name``, ``duplicate``, ``conflict``, ``outside_root``, ``unreadable``.
    """

    path: Path
    reason: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", " ".join(self.message.split()))


class Problems(list[Problem]):
    """The problems met while a corpus is read."""

    def add(self, path: Path, reason: str, message: str) -> None:
        """Note one more."""
        self.append(Problem(path, reason, message))


@dataclass(frozen=True, slots=True)
class Corpus:
    """All that a reader found: items and problems, each sorted by path.

    ``passed_over`` counts the files in folders that are no videos or images by their name, by suffix in lower case.
    """

    name: str
    root: Path
    items: tuple[CorpusItem, ...]
    problems: tuple[Problem, ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)


class Reader(Protocol):
    """One layout. ``layout`` tells a person in a few words what the folder must look like."""

    name: str
    layout: str

    def matches(self, root: Path) -> bool:
        """Whether ``root`` (a folder, for some layouts a file) looks like this corpus. Raises nothing."""
        ...

    def read(self, root: Path) -> Corpus:
        """Everything in it.

        Raises:
            MediaError: not one item is usable.
        """
        ...


class Root:
    """A corpus' folder as a border: what resolves to somewhere outside it is refused, links included.

    Args:
        folder: of the corpus.
        follow_links: take what the user's own links on the disk lead to, wherever that is. None where metadata names
            files, so that this cannot be asked for.

    Attributes:
        passed_over: files that :meth:`media` found and that have none of the endings, by suffix in lower case.
    """

    def __init__(self, folder: Path, *, follow_links: bool | None = None) -> None:
        self.folder, self._follow = folder, follow_links
        self.passed_over: Counter[str] = Counter()
        self._real = folder.resolve()
        self._parents: dict[Path, Path] = {}

    def holds(self, path: Path) -> bool:
        """Whether ``path`` lies inside, after every link on the way is followed."""
        try:
            if path.is_symlink() or path.name in ("", ".", ".."):
                return path.resolve().is_relative_to(self._real)
            parent = self._parents.get(path.parent)
            if parent is None:
                parent = self._parents[path.parent] = path.parent.resolve()
        except (OSError, ValueError, RuntimeError):  # a NUL in the name, a circle of links
            return False
        return (parent / path.name).is_relative_to(self._real)

    def admits(self, path: Path, problems: Problems) -> bool:
        """Whether ``path`` lies inside; a problem is added where it is a link that leads out."""
        if self.holds(path):
            return True
        problems.append(self._outside(path))
        return False

    def find(self, name: str) -> Path | Problem:
        """The file that a metadata file calls ``name``, relative to the folder.

        An absolute name will do when it is inside. Composed and decomposed spellings of one accent are the same name.
        """
        listed_path = self.folder / writable(name)
        missing = Problem(listed_path, "missing_file", f"{name!r:.200} is listed but is not there")
        if "\0" in name:
            return Problem(listed_path, "outside_root", f"{name!r:.200} is no path")
        if any(len(part) > _LONGEST_NAME for part in Path(name).parts):
            return missing
        for spelling in dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))):
            tidy = os.path.normpath(spelling)
            path = self.folder / tidy
            if not self.holds(path) or (tidy != spelling and not self.holds(self.folder / spelling)):
                return Problem(listed_path, "outside_root", f"{name!r:.200} points outside the corpus")
            try:
                if name and path.is_file():
                    return self._within_root(path) if Path(name).is_absolute() else path
            except OSError:
                return missing
        return missing

    def media(self, folder: Path, suffixes: frozenset[str], problems: Problems) -> list[Path]:
        """The files below ``folder`` with one of these endings, sorted, hidden ones left out.

        Links that lead out are problems, or followed if that was asked for.
        """
        if not self._takes(folder):
            problems.append(self._outside(folder))
            return []
        paths = []
        real_paths: set[str] = set()

        def failed(error: OSError) -> None:
            problems.add(Path(error.filename or folder), "unreadable", error.strerror or str(error))

        for current, folders, files in os.walk(folder, onerror=failed, followlinks=self._follow is True):
            here = Path(current)
            if self._follow:  # each folder once: links may lead in a circle
                real = os.path.realpath(current)
                if real in real_paths:
                    folders.clear()
                    continue
                real_paths.add(real)
            linked = [here / name for name in folders if (here / name).is_symlink() and not name.startswith(".")]
            problems.extend(self._outside(link) for link in linked if not self._takes(link))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for path in (here / name for name in files if not name.startswith(".")):
                if not is_media(str(path), suffixes):
                    self.passed_over[suffix_of(path.name)] += 1
                    continue
                if self._takes(path):
                    paths.append(path)
                else:
                    problems.append(self._outside(path))
        return sorted(paths)

    def _takes(self, path: Path) -> bool:
        return self._follow is True or self.holds(path)

    def _outside(self, link: Path) -> Problem:
        cause = f"{link.name!r} is a link that leads outside the corpus"
        hint = "copy it into the corpus" if self._follow is None else "--follow-links takes it all the same"
        return Problem(link, "outside_root", f"{cause}; {hint}")

    def _within_root(self, path: Path) -> Path:
        """An absolute name from a metadata file, below the folder as the user wrote it."""
        return self.folder / (path.parent.resolve() / path.name).relative_to(self._real)

    def relative(self, path: Path) -> str:
        """``path`` as seen from the corpus' folder, with forward slashes."""
        return Path(os.path.relpath(path, self.folder)).as_posix()


class Groups:
    """Names that belong together: a union-find whose groups are called by their first member."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def join(self, *names: str) -> None:
        """Put these names into one group; one name alone makes a group of its own."""
        first = self.of(names[0])
        for name in names[1:]:
            other = self.of(name)
            first, other = min(first, other, key=natural), max(first, other, key=natural)
            self._parent[other] = first

    def of(self, name: str) -> str:
        """The first member, in natural order, of the group that ``name`` is in."""
        parent = self._parent.setdefault(name, name)
        while parent != self._parent[parent]:
            self._parent[parent] = self._parent[self._parent[parent]]
            parent = self._parent[parent]
        self._parent[name] = parent
        return parent


def natural(name: str) -> tuple[int, str]:
    """Sort key by which ``id2`` comes before ``id10``."""
    return len(name), name


def method_of(label: int, method: str = UNKNOWN_METHOD) -> str:
    """``real`` for a real, else the manipulation."""
    return REAL_METHOD if label == REAL else method


def writable(name: str) -> str:
    """A name from metadata as a table takes it: no NUL and no half of a character."""
    return encodable(name.replace("\0", "?"))


def is_safe(name: str) -> bool:
    """Whether a name from metadata or from a tar stays where it is put when it is used as a relative path."""
    parts = PurePosixPath(name).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and "\0" not in name and "\\" not in name


def without_suffix(name: str) -> str:
    """A relative path without the ending of its file."""
    path = PurePosixPath(name)
    return name if path.name in ("", "..") else str(path.with_suffix(""))


def file_type(path: str | Path) -> str:
    """The ending of a file, spelled one way; empty for a tar, which says nothing of what is in it."""
    ending = Path(path).suffix.lower().removeprefix(".")
    return {"jpeg": "jpg", "tar": ""}.get(ending, ending)


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``, hidden ones left out, sorted; none when it cannot be listed."""
    return _listed(folder, Path.is_dir)


def files_in(folder: Path, suffix: str) -> list[Path]:
    """The files directly in ``folder`` with this ending, hidden ones left out, sorted."""
    return _listed(folder, lambda path: path.suffix.lower() == suffix and path.is_file())


def finish(
    reader: Reader,
    root: Path,
    items: Iterable[CorpusItem],
    problems: Iterable[Problem],
    originals: Mapping[Position, Position] | None = None,
    passed_over: Mapping[str, int] | None = None,
) -> Corpus:
    """Sort, tell apart the items whose names differ by their ending only, and refuse an empty corpus.

    Args:
        reader: whose corpus it is.
        root: its folder or file.
        items: without their ``original``, which is set here, as only here the names are final.
        problems: met on the way.
        originals: what each fake was made from, as far as the corpus tells. Of a chain the first that is an item
            counts; a circle tells nothing. What is no item, or not of a fake, is passed over.
        passed_over: for the corpus'.

    Raises:
        MediaError: there is no item; the first problem is given as the cause.
    """
    ordered = sorted(items, key=lambda item: (item.path.as_posix(), item.member or ""))
    met = sorted(problems, key=lambda problem: (problem.path.as_posix(), problem.reason, problem.message))
    if not ordered:
        cause = f"{met[0].message} ({len(met)} problems in all)" if met else "no video or image with a label was found"
        raise MediaError(
            f"{root} holds nothing that can be read as a {reader.name} corpus",
            cause,
            f"Expected: {reader.layout}.",
            reason="empty_corpus",
        )
    counts = Counter(item.video_id for item in ordered)
    unique = tuple(
        replace(item, video_id=f"{item.video_id}{Path(item.member or item.path).suffix}")
        if counts[item.video_id] > 1
        else item
        for item in ordered
    )
    return Corpus(reader.name, root, _with_originals(unique, originals or {}), tuple(met), dict(passed_over or {}))


def position_of(item: CorpusItem) -> Position:
    """Where an item's content is."""
    return item.path, item.member


def _with_originals(items: tuple[CorpusItem, ...], originals: Mapping[Position, Position]) -> tuple[CorpusItem, ...]:
    names = {position_of(item): item.video_id for item in items}
    links = {position_of(item): originals.get(position_of(item)) for item in items if item.label == FAKE}

    def first(fake: Position) -> str | None:
        here, met = fake, {fake}
        while (before := links.get(here)) is not None and before in names:
            if before in met:
                return None
            met.add(before)
            here = before
        return names[here] if here != fake else None

    return tuple(replace(item, original=first(position_of(item))) for item in items)


def _listed(folder: Path, matches: Callable[[Path], bool]) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and matches(path))
    except OSError:
        return []
