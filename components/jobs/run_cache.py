"""DVC's run cache as the way that results travel: what a stage's inputs are, whether somebody ran it, and its result.

DVC 3.67's own ``dvc push --run-cache`` sends the entries of the run cache, but of the outputs they name only those
that DVC caches in the workspace too. A metrics file (``cache: false``) is left behind, and a ``dvc repro --pull``
elsewhere then runs the stage again. :func:`publish` sends all that an entry names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import yaml

from components.jobs.errors import FailedError, JobError


@contextmanager
def opened(folder: Path) -> Iterator[Any]:
    """The DVC repository in ``folder`` (a ``dvc.repo.Repo``), its lock held."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo

    try:
        # DVC resolves names of stages from the current folder.
        with chdir(folder), Repo() as repo, lock_repo(repo):
            yield repo
    except DvcException as error:
        raise FailedError(f"{folder}: {_one_line(error)}") from error


def stage_of(repo: Any, name: str) -> Any:
    """The stage ``name`` (``train@eclipse-0.2-0``) of dvc.yaml."""
    from dvc.stage.exceptions import StageNotFound

    try:
        return repo.stage.load_one(name=name)
    except StageNotFound:
        raise JobError(f"dvc.yaml: no stage {name}; `dvc stage list` shows those that params.yaml makes") from None


def producers(repo: Any, names: Iterable[str]) -> list[str]:
    """The stages whose outputs the stages ``names`` read, in the order of their names."""
    # Loading a stage resolves dvc.yaml anew; here those of the index do, for nothing changes them.
    known = {stage.addressing: stage for stage in repo.index.stages}
    made = {str(out.fs_path): stage.addressing for stage in known.values() for out in stage.outs}
    read = {str(dep.fs_path) for name in names for dep in (known.get(name) or stage_of(repo, name)).deps}
    return sorted({made[path] for path in read & made.keys()})


def key_of(repo: Any, name: str) -> str:
    """SHA-256 over command, inputs (code, data, parameters) and output paths of a stage: equal key, equal result.

    An input that is not in the workspace counts as dvc.lock says; a :class:`JobError` names one that nobody made.
    """
    from dvc.dependency.base import DependencyDoesNotExistError

    stage = stage_of(repo, name)
    locked = {str(out.fs_path): out.hash_info for out in repo.index.outs}
    parts = [stage.cmd, *sorted(out.def_path for out in stage.outs)]
    for dep in stage.deps:
        try:
            dep.save()
            found = dep.hash_info
        except DependencyDoesNotExistError:
            found = locked.get(str(dep.fs_path))
            if not found:
                remedy = "`dvc repro --pull` its stage first"
                raise JobError(f"{dep.def_path}: {name} reads it, and nobody made it; {remedy}") from None
        # Of parameters the value is a mapping of them all.
        parts.append(f"{dep.def_path} {json.dumps(found.value, sort_keys=True)}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check_key(repo: Any, name: str, expected: str | None) -> None:
    """Refuse inputs of the stage ``name`` that differ from those that ``expected`` was made from."""
    if expected and (found := key_of(repo, name)) != expected:
        raise JobError(
            f"{name}: code, data or parameters here (key {found[:10]}) are not those of the submitter (key "
            f"{expected[:10]}); build the image from its commit, or submit from a workspace on the shared volume"
        )


def pull_inputs(repo: Any, name: str) -> None:
    """Bring what the stage ``name`` reads from the remote, in the version that dvc.lock names."""
    check_remote(repo)
    for producer in producers(repo, [name]):
        repo.pull(producer)


def restore(repo: Any, names: Sequence[str]) -> list[str]:
    """Check out the results that the run cache, here or in the remote, has of the stages ``names``; those it had."""
    from dvc.stage.cache import RunCacheNotFoundError

    check_remote(repo)
    repo.stage_cache.pull(None)
    found = []
    for name in names:
        try:
            repo.stage_cache.restore(stage_of(repo, name), pull=True)
        except RunCacheNotFoundError:
            continue
        found.append(name)
    return found


def publish(repo: Any, names: Sequence[str]) -> None:
    """Note what the workspace holds as the result of the stages ``names``, and send it and their entries to the remote.

    Like ``dvc commit`` this believes that the outputs were made from the inputs as they are.
    """
    check_remote(repo)
    for name in names:
        repo.commit(name, force=True)
    push(repo, names)


def push(repo: Any, names: Sequence[str]) -> list[str]:
    """Send the run cache's entries of the stages ``names``, which are up to date, and every object that they name.

    Returns the names of those that the run cache can hold: not a stage that always runs.
    """
    check_remote(repo)
    sent = []
    for name in names:
        stage = stage_of(repo, name)
        stage.save_deps()
        entry = _entry(repo, stage)
        if entry is None:
            stage.save()  # pulled, not run here
            entry = _entry(repo, stage)
        if entry is None:
            continue
        for objects in repo.stage_cache._create_stage(entry, wdir=stage.wdir).get_used_objs().values():
            repo.cloud.push(objects)
        sent.append(name)
    # Objects first: an entry is only found where what it names is there.
    repo.stage_cache.push(None)
    return sent


def finished(repo: Any) -> list[str]:
    """The stages of dvc.yaml that are up to date."""
    stages = (stage for stage in repo.index.stages if stage.cmd and stage.path_in_repo == "dvc.yaml")
    return sorted(stage.addressing for stage in stages if not stage.changed())


def lock_entries(repo: Any, names: Sequence[str]) -> dict[str, Any]:
    """What dvc.lock says of the outputs of the stages ``names``: enough to pull them in the same version."""
    path = Path(repo.root_dir) / "dvc.lock"
    # The parser in C: dvc.lock has thousands of lines.
    stages = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)["stages"] if path.exists() else {}
    missing = [name for name in names if name not in stages]
    if missing:
        raise JobError(f"dvc.lock: knows no {missing[0]}; `dvc repro --pull {missing[0]}` makes it")
    return {name: {"cmd": stages[name]["cmd"], "outs": stages[name]["outs"]} for name in names}


def check_remote(repo: Any) -> None:
    """Refuse a repository without default remote: jobs and their submitter have no other way to meet."""
    if not repo.config["core"].get("remote"):
        raise JobError(
            "no default DVC remote, through which inputs and results of jobs travel; `dvc remote add --local -d "
            "storage URL`, in a pod the ConfigMap eclipse-dvc"
        )


def _entry(repo: Any, stage: Any) -> Any:
    from dvc.stage.cache import _can_hash

    return repo.stage_cache._load(stage) if _can_hash(stage) else None


def _one_line(error: BaseException) -> str:
    parts = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    return " ".join(": ".join(parts).split())
