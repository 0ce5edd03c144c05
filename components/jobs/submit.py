"""From params.yaml and the checkout's data versions to jobs on a cluster, and their results back into the checkout."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.jobs import run_cache
from components.jobs.checkout import WORKSPACES
from components.jobs.cluster import Cluster
from components.jobs.errors import JobError
from components.jobs.manifest import Work, as_yaml, checked, extraction_job, train_job
from components.jobs.process import DVC, Runner
from components.jobs.stage import EMBEDDED, TRAINED, extractions, stage_name, swept
from components.jobs.watch import Jobs, Say
from eclipse.config import load_params
from eclipse.config.params import Params
from eclipse.files import atomic_file

RUNTIMES = Path("k8s/components/trainer")
"""Where a checkout has the ClusterTrainingRuntimes."""


@dataclass(frozen=True)
class Request:
    """What to submit: stages of dvc.yaml (``train``, ``embed``, one point ``train@eclipse-0.2-0`` …) of a checkout."""

    root: Path
    stages: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    poll: float = 5.0


def submit(request: Request, runner: Runner, say: Say) -> None:
    """Run what the run cache does not have as jobs, and bring the results into the checkout.

    The inputs are brought up to date here first, and sent to the remote. Raises :class:`StoppedError` when asked to
    stop, the jobs cancelled; doing the same again goes on where their checkpoints are.
    """
    params = load_params(request.root / "params.yaml")
    names = chosen(params, request.stages)
    cluster = Cluster.connect(_settings(request).namespace)
    _prepare(request, names, runner)
    with run_cache.opened(request.root) as repo:
        run_cache.push(repo, run_cache.producers(repo, names))
        found = run_cache.restore(repo, names)
    for name in found:
        say(f"{name}: its result is in the run cache; no job")
    manifests = list(made(request, [name for name in names if name not in found]))

    def finished(name: str) -> bool:
        with run_cache.opened(request.root) as repo:
            return run_cache.restore(repo, [name]) == [name]

    settings = _settings(request)
    jobs = Jobs(cluster, manifests, parallel=settings.parallel, say=say, finished=finished, poll=request.poll)
    jobs.run(lambda: runner.stopping)
    say(f"{len(names)} results are here: {len(found)} found, {len(manifests)} computed by jobs")


def write_manifests(request: Request, out: Path | None) -> list[str]:
    """The jobs of all chosen stages as YAML, one file each in the folder ``out``; no cluster, nothing is computed.

    Inputs that are not in the workspace count as dvc.lock says. Returns the texts.
    """
    params = load_params(request.root / "params.yaml")
    texts = []
    for manifest in made(request, chosen(params, request.stages)):
        text = as_yaml(manifest)
        texts.append(text)
        if out is not None:
            with atomic_file(out / f"{manifest['metadata']['name']}.yaml") as beside:
                beside.write_text(text, encoding="utf-8")
    return texts


def chosen(params: Params, stages: Sequence[str]) -> list[str]:
    """The DVC names behind ``stages``: every point of a sweep, or the one that is named."""
    known = {stage: [stage_name(stage, *one) for one in swept(params, stage)] for stage in TRAINED}
    known |= {stage: extractions(params, stage) for stage in EMBEDDED}
    every = {name for names in known.values() for name in names}
    found: list[str] = []
    for stage in stages:
        if stage not in known and stage not in every:
            raise JobError(f"{stage}: does not run as a job; give {', '.join(known)}, or one point, STAGE@POINT-SEED")
        found += known.get(stage, [stage])
    return list(dict.fromkeys(found))


def made(request: Request, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The job of each of the stages ``names``."""
    settings = _settings(request)
    _check_batch(load_params(request.root / "params.yaml"), names, settings.nodes * settings.processes)
    text = (request.root / "params.yaml").read_text(encoding="utf-8")
    commit = _commit(request.root)
    with run_cache.opened(request.root) as repo:
        needed = {name: run_cache.producers(repo, [name]) for name in names}
        entries = run_cache.lock_entries(repo, sorted({each for one in needed.values() for each in one}))
        for name in names:
            lock = yaml.safe_dump({each: entries[each] for each in needed[name]}, sort_keys=False)
            work = Work(name, run_cache.key_of(repo, name), text, lock, commit, _repository(request.root))
            if name.partition("@")[0] in TRAINED:
                yield train_job(work, settings)
            else:
                yield extraction_job(work, settings, _runtime_pod(request.root, settings.runtime))


def _settings(request: Request) -> Any:
    """Section ``cluster``; overrides change it alone, for the pods get params.yaml as it stands."""
    others = [item for item in request.overrides if not item.startswith("cluster.")]
    if others:
        raise JobError(f"--set {others[0]}: only cluster.… can be set here; change params.yaml, the pods are sent that")
    return load_params(request.root / "params.yaml", list(request.overrides)).cluster


def _check_batch(params: Params, names: Sequence[str], ranks: int) -> None:
    sizes = {"train": params.train.batch_size}
    sizes["train-subjects"] = params.train.subject_batch_size or params.train.batch_size
    for stage in {name.partition("@")[0] for name in names} & sizes.keys():
        if sizes[stage] % ranks:
            raise JobError(
                f"cluster.nodes × cluster.processes is {ranks}, which does not divide the batch of {sizes[stage]} of "
                f"{stage}; every process needs an equal share"
            )


def _prepare(request: Request, names: Sequence[str], runner: Runner) -> None:
    """Bring the inputs of the stages ``names`` up to date, by DVC and its remote."""
    with run_cache.opened(request.root) as repo:
        run_cache.check_remote(repo)
        needed = run_cache.producers(repo, names)
    if needed:  # without targets DVC would run the whole graph
        runner.check([*DVC, "repro", "--pull", *needed], cwd=request.root)


def _commit(root: Path) -> str | None:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _repository(root: Path) -> str | None:
    """What pods clone: this checkout, where it lies on the volume of workspaces that they mount as well."""
    place = os.environ.get(WORKSPACES)
    shared = "KUBERNETES_SERVICE_HOST" in os.environ and place and root.is_relative_to(Path(place).absolute())
    return str(root) if shared else None


def _runtime_pod(root: Path, name: str) -> dict[str, Any]:
    """The pod template of the runtime ``name``, as the checkout's manifests have it."""
    for path in sorted((root / RUNTIMES).glob("*.yaml")):
        for found in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if found["kind"] == "ClusterTrainingRuntime" and found["metadata"]["name"] == name:
                (job,) = checked(found)["spec"]["template"]["spec"]["replicatedJobs"]
                template: dict[str, Any] = job["template"]["spec"]["template"]
                return template
    raise JobError(f"cluster.runtime {name}: no ClusterTrainingRuntime of that name in {root / RUNTIMES}")
