"""A run's own clone of the checkout, with the checkout's DVC cache: runs don't collide, and share what is computed.

A workspace is named by what it computes, so a run that was killed is continued by the next one with the same
parameters: DVC's lock file, finished outputs and training checkpoints are still there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.commands import ask
from flows.errors import BadInputError, FlowError

FOLDER = "workspaces"
"""Below the checkout, ignored by git and DVC; ``ECLIPSE_WORKSPACES`` names another place."""
_AUTHOR = ("-c", "user.name=eclipse flows", "-c", "user.email=flows@localhost")
_BASE, _PUBLISHED = "eclipse-base", "eclipse-published.json"


@dataclass(frozen=True)
class Workspace:
    """A clone in ``folder`` of ``checkout`` at the commit ``base``; ``fresh`` if it stood elsewhere before.

    ``lock`` is the descriptor of the lock that the run holds; commands in the workspace hold it too.
    """

    name: str
    folder: Path
    checkout: Path
    base: str
    fresh: bool
    lock: int

    @property
    def branch(self) -> str:
        """The branch of the checkout that gets the results."""
        return f"runs/{self.name}"

    @property
    def head(self) -> str:
        """The commit that the workspace stands at: ``base``, or the results on top of it."""
        return ask(["git", "rev-parse", "HEAD"], cwd=self.folder)

    @property
    def published(self) -> dict[str, Any]:
        """What :meth:`publish` last recorded; empty if it never did."""
        path = self.folder / ".git" / _PUBLISHED
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return found

    def publish(self, record: dict[str, Any]) -> None:
        """Record where these results were logged, registered and pushed, so that an equal run need not do it again."""
        (self.folder / ".git" / _PUBLISHED).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def commit(self, message: str) -> str:
        """Commit what the run changed (dvc.lock, metrics, params.yaml); push it to :attr:`branch` and a tag of its own.

        Returns the commit whose dvc.lock names the results: a new one, or the present one where nothing changed.
        """
        # An index without file times, so that contents are compared: git takes a file of equal size that was changed in
        # the second of its checkout for unchanged once DVC has written the index after that.
        ask(["git", "read-tree", "HEAD"], cwd=self.folder)
        ask(["git", "add", "--all"], cwd=self.folder)
        if ask(["git", "status", "--porcelain"], cwd=self.folder):
            ask(["git", *_AUTHOR, "commit", "--quiet", "--no-verify", "--message", message], cwd=self.folder)
        head = self.head
        if head != self.base:
            # The branch is the newest result of these parameters. The tag keeps this one: MLflow names its commit, and
            # `dvc gc` removes what no commit names.
            refs = [f"+HEAD:refs/heads/{self.branch}", f"HEAD:refs/tags/{self.branch}-{head[:12]}"]
            ask(["git", "push", "--quiet", "origin", *refs], cwd=self.folder)
        return head


@contextmanager
def open_workspace(checkout: Path, name: str, commit: str, say: Callable[[str], None]) -> Iterator[Workspace]:
    """Hold the workspace ``name``, standing at ``commit`` or at the results that were made from it.

    A second run with the same name waits here until the first is done, and then finds its results.
    """
    folder = workspaces(checkout) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f"{name}.lock"), say) as lock:
        if not (folder / ".git" / _BASE).is_file():
            _clone(checkout, folder)
        fresh = _base(folder) != commit
        if fresh:
            ask(["git", "fetch", "--quiet", "origin", "+refs/heads/*:refs/remotes/origin/*", commit], cwd=folder)
            ask(["git", "reset", "--quiet", "--hard", commit], cwd=folder)
            (folder / ".git" / _BASE).write_text(commit, encoding="utf-8")
        _share_cache(checkout, folder)
        yield Workspace(name, folder, checkout, commit, fresh, lock)


def workspaces(checkout: Path) -> Path:
    """Where the workspaces of ``checkout`` lie."""
    return Path(os.environ.get("ECLIPSE_WORKSPACES") or checkout / FOLDER)


def name_of(flow: str, parameters: dict[str, Any]) -> str:
    """A name for the workspace of a run: equal parameters, equal name."""
    text = json.dumps(parameters, sort_keys=True, default=str)
    return f"{flow}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def committed(checkout: Path, *, allow_dirty: bool) -> str:
    """The checkout's commit. Uncommitted changes are refused, for a run computes and records what is committed."""
    try:
        commit = ask(["git", "rev-parse", "HEAD"], cwd=checkout)
    except FlowError as error:
        raise BadInputError(f"{checkout}: no git checkout with a commit ({error}); start in the repository") from None
    changed = [line.split(maxsplit=1)[1] for line in ask(["git", "status", "--porcelain"], cwd=checkout).splitlines()]
    if changed and not allow_dirty:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise BadInputError(
            f"uncommitted changes in {', '.join(changed[:3])}{more}: a run computes what is committed; `git commit` or "
            "`git stash` them, or start with -p allow_dirty=true to run the last commit without them"
            + (". dvc.lock is among them: it disagrees with the commit" if "dvc.lock" in changed else "")
        )
    return commit


def commit_of(checkout: Path, revision: str) -> str:
    """The commit that ``revision`` names in the checkout."""
    try:
        return ask(["git", "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"], cwd=checkout)
    except FlowError:
        raise BadInputError(
            f"revision {revision!r}: names no commit here; `git fetch`, or see `git branch -a`"
        ) from None


@contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[int]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run works in {path.stem}; this one waits for it, and then reuses what it made")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


@contextmanager
def try_lock(folder: Path) -> Iterator[bool]:
    """Hold the workspace in ``folder`` if no run does; whether that worked."""
    with folder.with_name(f"{folder.name}.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _clone(checkout: Path, folder: Path) -> None:
    """A clone whose objects are hard links to the checkout's: no space, and safe from its garbage collection."""
    if folder.exists():
        raise BadInputError(f"{folder}: in the way of a workspace and none itself; move it away")
    beside = folder.with_name(f".{folder.name}.part")
    if beside.exists():
        ask(["rm", "-r", "-f", str(beside)], cwd=checkout)
    ask(["git", "clone", "--quiet", "--no-checkout", str(checkout), str(beside)], cwd=checkout)
    ask(["git", "checkout", "--quiet", "--detach"], cwd=beside)
    (beside / ".git" / _BASE).write_text("", encoding="utf-8")
    beside.rename(folder)


def _base(folder: Path) -> str:
    return (folder / ".git" / _BASE).read_text(encoding="utf-8").strip()


def _share_cache(checkout: Path, folder: Path) -> None:
    """Give the workspace the checkout's cache and remotes, whose paths would mean something else from elsewhere."""
    from dvc.config import Config

    configured = Config(dvc_dir=str(checkout / ".dvc"))
    cache = configured["cache"].get("dir") or str(checkout / ".dvc" / "cache")
    with Config(dvc_dir=str(folder / ".dvc")).edit("local") as local:
        local["cache"] = {**local.get("cache", {}), "dir": cache}
        local["remote"] = {name: dict(remote) for name, remote in configured["remote"].items()}
        if configured["core"].get("remote"):
            local["core"] = {**local.get("core", {}), "remote": configured["core"]["remote"]}
