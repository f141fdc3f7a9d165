"""Content Credentials (C2PA): whether a file carries a signed statement of where it comes from, and whether it fits.

The reader is the optional package ``c2pa-python`` (extra ``c2pa``). It is told to fetch nothing: a manifest that lies
on a server is named, not read. A manifest is a claim of whoever signed it, never a proof; its absence means nothing.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deepscan.version import install_command

log = logging.getLogger(__name__)

State = Literal["not_looked_for", "absent", "unreadable", "elsewhere", "present", "valid", "trusted"]

_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}, "core": {"allowed_network_hosts": []}}
_MOST_ITEMS, _LONGEST_TEXT = 12, 200
_MEANINGS: dict[State, str] = {
    "not_looked_for": (
        "Whether the file carries Content Credentials (C2PA) was not looked for: the optional reader is not installed. "
        f"It comes with {install_command('c2pa')}."
    ),
    "absent": (
        "No manifest was found. That says nothing for or against the file: most cameras and programs write none, and "
        "most platforms remove it."
    ),
    "unreadable": (
        "The reader could not look into this file, which is damaged or of a kind that it does not know. Whether there "
        "is a manifest is not known."
    ),
    "elsewhere": (
        "The file only names a manifest that lies on a server. It was not fetched: deepscan sends nothing anywhere."
    ),
    "present": (
        "There is a manifest, but it does not check out: the file was changed after it was signed, or the signature is "
        "broken. Platforms that compress a file again do this, too; it is no proof of a forgery."
    ),
    "valid": (
        "There is a manifest, and it fits the file: nothing was changed since it was signed. Who signed is not on the "
        "reader's list of known signers, and anybody can sign. It is a claim, no proof."
    ),
    "trusted": (
        "There is a manifest, it fits the file, and the signer is on the reader's list of known signers. It tells what "
        "the signer claims, not that what is seen is true. It is no proof."
    ),
}


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the reader found.

    Attributes:
        state: ``not_looked_for`` (no reader), ``absent``, ``unreadable`` (the reader failed), ``elsewhere`` (named in
            the file, kept on a server), ``present`` (does not check out), ``valid`` (fits the file) or ``trusted``
            (and the signer is known).
        meaning: the same in words, with what it does not say.
        claims: name and value of what the manifest says of itself, bounded; texts are the signer's.
        problems: the reader's codes of what does not check out, bounded.
    """

    state: State
    meaning: str
    claims: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()


def read_provenance(path: Path) -> Provenance:
    """Look for a C2PA manifest in a file; whatever goes wrong in doing so is a state, never an error."""
    try:
        c2pa = importlib.import_module("c2pa")
    except ImportError:
        return _of("not_looked_for")
    try:
        return _read(c2pa, path)
    except Exception as error:  # noqa: BLE001 - the reader is native code on a hostile file; its errors are of any kind
        message = _text(error)
        if type(error).__name__.endswith(("NotSupported", "ManifestNotFound")):
            return _of("absent")
        if "remote manifest" in message.lower() or type(error).__name__.endswith("RemoteManifest"):
            links = tuple(("Kept at", link) for link in re.findall(r"https?://\S+", message)[:1])
            return Provenance("elsewhere", _MEANINGS["elsewhere"], links)
        log.debug("%s: its C2PA manifest cannot be read: %s", path.name, message)
        return Provenance("unreadable", _MEANINGS["unreadable"], problems=(message,))


def _read(c2pa: Any, path: Path) -> Provenance:
    with path.open("rb") as file:
        reader = c2pa.Reader.try_create(file, context=c2pa.Context.from_dict(_OFFLINE))
        if reader is None:
            return _of("absent")
        with reader:
            report = json.loads(reader.json())
    if not isinstance(report, dict):
        return _of("unreadable")
    state: State = {"Valid": "valid", "Trusted": "trusted"}.get(str(report.get("validation_state")), "present")  # type: ignore[assignment]
    problems = tuple(_text(code) for code in _problems(report))[:_MOST_ITEMS]
    return Provenance(state, _MEANINGS[state], tuple(_claims(report))[:_MOST_ITEMS], problems)


def _of(state: State) -> Provenance:
    return Provenance(state, _MEANINGS[state])


def _claims(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    manifests = _mapping(report.get("manifests"))
    active = _mapping(manifests.get(str(report.get("active_manifest"))))
    signature = _mapping(active.get("signature_info"))
    generators = active.get("claim_generator_info")
    generator = _mapping(generators[0]) if isinstance(generators, list) and generators else {}
    named = " ".join(str(part) for part in (generator.get("name"), generator.get("version")) if part)
    rows = (
        ("Title", active.get("title")),
        ("Written by", named or active.get("claim_generator")),
        ("Signed by", signature.get("common_name") or signature.get("issuer")),
        ("Certificate of", signature.get("issuer")),
        ("Signed at", signature.get("time")),
        ("Made from", f"{len(active['ingredients'])} other files" if active.get("ingredients") else None),
    )
    yield from ((name, _text(value)) for name, value in rows if value)
    for action in _actions(active):
        source = str(action.get("digitalSourceType") or "").rsplit("/", 1)[-1]
        yield "Action", _text(f"{action.get('action', 'not said')}{f' ({source})' if source else ''}")


def _actions(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    assertions = manifest.get("assertions")
    for assertion in assertions if isinstance(assertions, list) else ():
        fields = _mapping(assertion)
        actions = _mapping(fields.get("data")).get("actions")
        if str(fields.get("label", "")).startswith("c2pa.actions") and isinstance(actions, list):
            yield from (_mapping(action) for action in actions)


def _problems(report: Mapping[str, Any]) -> Iterator[str]:
    """Codes of failures; that a signer is not on the list is told by the state."""
    statuses = report.get("validation_status")
    for status in statuses if isinstance(statuses, list) else ():
        code = _mapping(status).get("code")
        if code and code != "signingCredential.untrusted":
            yield str(code)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
