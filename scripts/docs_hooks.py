"""Hooks of mkdocs: the pages that are made from the code, and links that lead out of ``docs/``.

``mkdocs build --strict`` needs ``pip install 'deepscan-video[docs]'``; nothing made here is committed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
_REPOSITORY = "https://github.com/deepscan/deepscan/blob/main/"
_OUTSIDE = re.compile(r"\]\(\.\./(?P<path>[\w./-]+)(?P<anchor>#[\w-]+)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for path, text in (("reference/cli.md", cli_page()), ("reference/schemas.md", schemas_page())):
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files of the repository that are no pages lead to the repository; one that leads nowhere is an error."""

    def outside(match: re.Match[str]) -> str:
        if not (ROOT / match["path"]).exists():
            raise FileNotFoundError(f"{match[0]}: there is no {match['path']}")
        return f"]({_REPOSITORY}{match['path']}{match['anchor'] or ''})"

    return markdown if "/" in page.file.src_uri else _OUTSIDE.sub(outside, markdown)


def cli_page() -> str:
    """Every command with its options, as the program itself says them."""
    import typer.main
    from typer.cli import get_docs_for_click

    from deepscan.cli import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="deepscan", title="The command line")
    # Square brackets of types and defaults are no links.
    return re.sub(r"(?m)^(\* .*)$", lambda line: line[0].replace("[", r"\["), text)


def schemas_page() -> str:
    """The JSON schemas that ship with the package, whole."""
    parts = [
        "# The JSON schemas",
        "They ship with the package (`deepscan/schema/`), and `GET /api/schema` answers with the report's. Keys may be "
        "added within a version, none is taken away: [what is a contract](../report.md).",
    ]
    for file in sorted((ROOT / "deepscan" / "schema").glob("*.json")):
        content = file.read_text(encoding="utf-8")
        about = json.loads(content)
        parts += [f"## `{about['$id']}`", f"{about['title'].capitalize()}.", f"```json\n{content.strip()}\n```"]
    return "\n\n".join(parts) + "\n"
