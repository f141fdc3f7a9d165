"""Detectors on the Hugging Face Hub: a repository there is a detector's folder as it is.

Only cards, weights and lists of groups are fetched, into the Hub's own cache, and loading checks them as any folder's.
The token, the cache, the address of the Hub and the offline mode are those of huggingface_hub (``HF_TOKEN``,
``HF_HOME``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``). Nothing goes there unless a name begins with ``hf:``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from deepscan.errors import ModelError, import_extra
from deepscan.version import __version__

PREFIX = "hf:"
_ADDRESS = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([^\s@]+))?")


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A repository of the Hub, as ``hf:user/name`` or ``hf:user/name@revision`` names it.

    Attributes:
        repository: ``user/name``.
        revision: a branch, a tag or a commit; None is the newest.
    """

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From what was typed; ``hf:`` may be left out.

        Raises:
            ModelError: it is none.
        """
        match = _ADDRESS.fullmatch(PREFIX + text.removeprefix(PREFIX))
        if match is None:
            hint = "Write hf:user/name or hf:user/name@revision."
            raise ModelError(
                f"Unknown model '{text}'", "it names no repository of the Hub", hint, reason="unknown_model"
            )
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def download(address: HubAddress, names: Sequence[str], *, force: bool = False) -> Path:
    """The folder with a repository's files, fetched where they are not in the cache.

    Without a connection the files of the cache are taken. A commit is looked up once and never again.

    Args:
        address: what to fetch.
        names: of the files that are wanted, in the repository and in its folders; all others are left there.
        force: fetch what is in the cache once more.

    Raises:
        ModelError: with reason ``hub``: it is not there, access is refused, or the Hub cannot be reached.
        DeepscanError: huggingface_hub is not installed.
    """
    hub = _hub(f"{address} cannot be fetched")
    patterns = [pattern for name in names for pattern in (name, f"*/{name}")]
    with _one_line(f"{address} cannot be fetched"):
        folder = hub.snapshot_download(
            address.repository,
            revision=address.revision,
            allow_patterns=patterns,
            force_download=force,
            library_name="deepscan",
            library_version=__version__,
        )
    return Path(folder)


def upload(folder: Path, address: HubAddress, names: Sequence[str], readme: str, message: str, *, private: bool) -> str:
    """Put a folder's files and a README into a repository, in one commit; the repository is made if missing.

    Args:
        folder: of a detector, with its members' if it is an ensemble.
        address: the repository; its revision is a branch that is there already.
        names: of the files that are taken, in the folder and in those below it.
        readme: Markdown that becomes README.md.
        message: of the commit.
        private: whether a repository that is made is for its owner only.

    Returns:
        The address of the commit.

    Raises:
        ModelError: with reason ``hub``, as :func:`download`.
        DeepscanError: huggingface_hub is not installed.
    """
    failure = f"{folder} cannot be pushed to {address}"
    hub = _hub(failure)
    files = sorted(file for name in names for file in folder.rglob(name) if file.is_file())
    with _one_line(failure):
        api = hub.HfApi(library_name="deepscan", library_version=__version__)
        api.create_repo(address.repository, repo_type="model", private=private, exist_ok=True)
        additions = [hub.CommitOperationAdd(file.relative_to(folder).as_posix(), str(file)) for file in files]
        additions.append(hub.CommitOperationAdd("README.md", readme.encode()))
        commit = api.create_commit(
            address.repository, additions, commit_message=message, repo_type="model", revision=address.revision
        )
    return str(commit.commit_url)


def _hub(failure: str) -> Any:
    hub = import_extra("huggingface_hub", failure, "huggingface_hub", extra="hub")
    if not sys.stderr.isatty():
        import_module("huggingface_hub.utils").disable_progress_bars()
    return hub


@contextmanager
def _one_line(failure: str) -> Iterator[None]:
    """Everything that the Hub or the way there refuses, in one line."""
    from huggingface_hub import errors

    def refused(cause: str, hint: str = "") -> ModelError:
        return ModelError(failure, cause, hint, reason="hub")

    sign_in = "Give a token of an account that may: HF_TOKEN, or hf auth login."
    try:
        yield
    except errors.GatedRepoError as error:
        raise refused("its owner wants to be asked first", f"Ask on its page. {sign_in}") from error
    except errors.RepositoryNotFoundError as error:
        raise refused("there is no such repository, or it is private", f"See its name. {sign_in}") from error
    except errors.RevisionNotFoundError as error:
        raise refused("it has no such revision") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        cause = "the Hub cannot be reached, or must not be (HF_HUB_OFFLINE), and it is not in the cache"
        raise refused(cause, "Fetch it with a connection first: deepscan models pull.") from error
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, RuntimeError, ValueError) as error:
        raise refused(str(error.__cause__ or error).strip().split("\n")[0]) from error
    except Exception as error:
        # Of the HTTP library below, whose name changes with releases.
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "requests"):
            raise
        raise refused(
            f"the connection failed ({type(error).__name__})", "Try again: files that are whole stay."
        ) from error
