"""Published files: one file of a Hugging Face repository at a full commit, or of a local folder of the same layout.

``HF_HOME``, ``HF_HUB_OFFLINE`` and the progress bars are huggingface_hub's own. A token is taken from the environment
(``HF_TOKEN``) and from nowhere else: not from the file that ``hf auth login`` leaves. It is never shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from eclipse.errors import CheckpointError

_REVISION = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

T = TypeVar("T")


def fetch(repo: str, revision: str | None, name: str) -> Path:
    """The file ``name`` of ``repo`` (``OWNER/NAME``) at ``revision``, from the local cache or fetched into it.

    Where ``repo`` is a folder that exists, the file in it; ``revision`` has to be None then. :class:`CheckpointError`
    names repository, revision and file where it cannot be had, where it was looked for and what to run; also for a
    revision that may move.
    """
    _check_name(repo, name)
    if is_local(repo, revision):
        path = Path(repo) / name
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file; give a whole folder of a published model")
        return path
    from huggingface_hub import hf_hub_download

    return Path(
        _asked(repo, str(revision), name, lambda: hf_hub_download(repo, name, revision=revision, token=token()))
    )


def listing(repo: str, revision: str | None) -> list[str]:
    """Paths of all files of ``repo`` at ``revision``, sorted: of a local folder, or as the hub lists them.

    Offline, those of them that lie in the cache, which may be fewer. Raises what :func:`fetch` raises.
    """
    if is_local(repo, revision):
        return _below(Path(repo))
    from huggingface_hub import HfApi, constants, snapshot_download

    hub = HfApi(endpoint=constants.ENDPOINT, token=token())
    try:
        files = _asked(repo, str(revision), "its list of files", lambda: hub.list_repo_files(repo, revision=revision))
        return sorted(files)
    except CheckpointError:
        try:
            found = snapshot_download(repo, revision=revision, local_files_only=True, token=token())
            return _below(Path(found))
        except (OSError, ValueError):
            pass
        raise


def is_local(repo: str, revision: str | None, *, again: str = "") -> bool:
    """Whether ``repo`` is a folder; :class:`CheckpointError` where it is neither that nor a repository at a commit.

    ``again`` is the command that the error tells to run; the commit is what it ends with.
    """
    if repo and Path(repo).is_dir():
        if revision is not None:
            raise CheckpointError(f"{repo}: is a local folder, which has no revision; leave {revision} out")
        return True
    if not _REPO.fullmatch(repo):
        raise CheckpointError(f"source {repo!r}: is neither a folder nor a repository; write a path or OWNER/NAME")
    if revision is None or not _REVISION.fullmatch(revision):
        what = "without a revision its files" if revision is None else f"revision {revision!r}"
        told = f": {again}COMMIT" if again else ""
        raise CheckpointError(
            f"{repo}: {what} may move; write the full commit of {repo}, 40 hexadecimal digits, as {commits_page(repo)} "
            f"shows it{told}"
        )
    return False


def commits_page(repo: str) -> str:
    """Where the commits of ``repo`` are shown."""
    return f"https://huggingface.co/{repo}/commits/main"


def token() -> str | Literal[False]:
    """The environment's token; False, which sends none, where there is none or implicit tokens are switched off."""
    from huggingface_hub import constants

    return False if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else next(_environment(), False)


def _environment() -> Iterator[str]:
    """Tokens in the environment, as huggingface_hub cleans them."""
    return filter(None, (os.environ.get(name, "").strip() for name in _TOKENS))


def _asked(repo: str, revision: str, what: str, ask: Callable[[], T]) -> T:
    """What ``ask`` returns; what huggingface_hub raises becomes one line."""
    from huggingface_hub import constants, errors

    try:
        return ask()
    except errors.GatedRepoError:
        reason = "its owners want their terms accepted: do so on its page and set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        reason = "there is no such repository, or it is not public: check its name, or set HF_TOKEN"
    except errors.RevisionNotFoundError:
        reason = "the repository has no such commit: check the revision"
    except errors.RemoteEntryNotFoundError:
        reason = "the repository has no such file at this commit: check the revision"
    except (errors.HTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    file = "" if " " in what else f" {what}"
    raise CheckpointError(
        f"{repo}@{revision}: {what} is not in {constants.HF_HUB_CACHE} and cannot be fetched ({_hidden(reason)}); on a "
        f"machine with a network run `hf download {repo}{file} --revision {revision}` and copy HF_HOME"
    ) from None


def _hidden(text: str) -> str:
    for token in _environment():
        text = text.replace(token, "…")
    return text


def _check_name(repo: str, name: str) -> None:
    path = PurePosixPath(name)
    if not path.name or str(path) != name or path.is_absolute() or ".." in path.parts:
        raise CheckpointError(f"{repo}: {name!r} is no path in a repository")


def _below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
