"""From params.yaml to a prior in the checkout: what is written, refused, submitted, evicted and brought back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from listening import listening
from made_checkout import ROOT

from components.jobs import run_cache
from components.jobs.__main__ import main
from components.jobs.manifest import checked
from tests.components.jobs.api_server import ApiServer, Fate, made_pod, write_kubeconfig
from tests.components.jobs.small import POINT, dvc, small_checkout

PRIOR = "artifacts/priors/eclipse-0.2-0"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    root = small_checkout(
        tmp_path / "checkout", tmp_path / "remote", train={"steps": 200, "checkpoint_every": 20}, sweep={"seeds": [0]}
    )
    monkeypatch.chdir(root)
    return root


def test_written_manifests_need_no_cluster_and_are_whole(checkout, tmp_path, capsys):
    with run_cache.opened(checkout) as repo:
        repo.reproduce("embed")
    assert main(["submit", "--out", str(tmp_path / "out")]) == 0
    assert "1 jobs in" in capsys.readouterr().out
    (path,) = (tmp_path / "out").iterdir()
    made = checked(yaml.safe_load(path.read_text()))
    assert path.stem == made["metadata"]["name"]
    words = [
        "submit",
        POINT,
        "embed",
        "--dry-run",
        "--set",
        "cluster.queue=null",
        "--set",
        "cluster.extraction_parts=2",
    ]
    assert main(words) == 0
    trained, embedded = yaml.safe_load_all(capsys.readouterr().out)
    assert (trained["kind"], embedded["kind"]) == ("TrainJob", "Job")
    assert trained["metadata"]["name"] == path.stem, "the queue changes nothing of the result, so nothing of the name"
    assert "kueue.x-k8s.io/queue-name" not in trained["metadata"]["labels"]
    assert embedded["spec"]["completions"] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "trian: does not run as a job; give train, train-subjects, embed"),
        ([], "dvc.lock: knows no embed; `dvc repro --pull embed` makes it"),
        (["--set", "cluster.processes=3"], "which does not divide the batch of 8 of train"),
        (["--set", "cluster.nods=2"], "cluster.nods: unknown parameter; did you mean nodes"),
        (["--set", "train.lr=1"], r"--set train.lr=1: only cluster.… can be set here"),
        (["embed", "--set", "cluster.runtime=other"], "cluster.runtime other: no ClusterTrainingRuntime of that name"),
        (["--poll", "0"], "--poll: give a number of seconds above 0"),
    ],
)
def test_bad_input_is_one_line_and_status_2(checkout, capsys, words, told):
    assert main(["submit", "--dry-run", *words]) == 2
    said = capsys.readouterr().err
    assert re.search(told, said) and said.count("\n") == 1


class LocalTrainer(ApiServer):
    """Does with a TrainJob what Trainer and Kubernetes do: sets nodes and processes, runs it, obeys exit codes.

    The first pod is evicted as soon as there is a checkpoint.
    """

    def __init__(self, folder: Path, repository: Path) -> None:
        super().__init__(lambda manifest: Fate(("",)))
        self.folder, self.repository = folder, repository
        self.process: subprocess.Popen | None = None
        self.ends: list[int] = []
        self.evicted = False
        (folder / "dvc").mkdir(parents=True)
        remote = (repository / ".dvc/config").read_text()
        (folder / "dvc/config").write_text(f"{remote}[cache]\n    dir = {folder / 'cache'}\n")

    def step(self, job) -> None:
        """Start the pod, evict it, or look how it ended."""
        if self.process is None:
            self._start(job.manifest["spec"]["trainer"])
        elif self.process.poll() is not None:
            self.ends.append(self.process.returncode)
            self.process = None
            job.fate = Fate(("" if self.ends[-1] == 75 else "Complete" if self.ends[-1] == 0 else "Failed",))
        elif not self.evicted and list(self.folder.glob("workspaces/checkpoints/*/*/state.pt")):
            self.process.terminate()
            self.evicted = True
        log = (self.folder / "log").read_text()
        job.fate = Fate(job.fate.conditions, log)
        job.pods = [made_pod(f"{job.manifest['metadata']['name']}-{len(self.ends)}", 0, None)] if log else []

    def _start(self, trainer) -> None:
        env = {each["name"]: each["value"].replace("$$", "$") for each in trainer["env"]}
        env |= {"PET_NNODES": str(trainer["numNodes"]), "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"])}
        env |= {"PET_NODE_RANK": "0", "PYTHONPATH": str(ROOT), "ECLIPSE_REPOSITORY": str(self.repository)}
        env |= {
            "ECLIPSE_WORKSPACES": str(self.folder / "workspaces"),
            "DVC_GLOBAL_CONFIG_DIR": str(self.folder / "dvc"),
        }
        words = [sys.executable, *trainer["command"][1:]]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(words, cwd="/", env={**os.environ, **env}, stdout=log, stderr=log)

    async def _get(self, request):
        if request.path_params["name"] in self.living:
            self.step(self.living[request.path_params["name"]])
        return await super()._get(request)


@pytest.mark.slow
def test_two_ranks_evicted_resumed_and_found_by_repro(checkout, tmp_path, monkeypatch, capsys):
    api = LocalTrainer(tmp_path / "node", checkout)
    with listening(api.app) as port:
        config = str(write_kubeconfig(tmp_path / "config", port))
        monkeypatch.setenv("KUBECONFIG", config)
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", config)
        words = ["submit", "train", "--poll", "0.1", "--set", "cluster.processes=2"]
        assert main(words) == 0, (tmp_path / "node/log").read_text()
        said = capsys.readouterr().out
        assert api.ends == [75, 0], "stopped with a checkpoint, then to the end"
        assert f"{POINT}: its result is here" in said
        log = (tmp_path / "node/log").read_text()
        assert "stopped; the same command goes on from here" in log
        assert f"{POINT} [0] {POINT}: sent to the DVC remote, with its entry in the run cache" in said
        assert main(words) == 0
        assert "its result is in the run cache; no job" in capsys.readouterr().out
    assert len(api.posted) == 1

    made = json.loads((checkout / PRIOR / "training.json").read_text())
    assert made["world_size"] == 2
    repro = dvc(checkout, "repro", POINT)
    assert f"Stage '{POINT}' is cached - skipping run" in repro and "Running stage" not in repro
    assert not list((tmp_path / "node/workspaces").glob("train-*")), "the pods' checkouts fill the volume"

    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "eclipse",
        "train",
    ]
    words += ["--point", "eclipse-0.2", "--seed", "0", "--store", "artifacts/store", "--quiet"]
    words += ["--out", str(tmp_path / "prior"), "--metrics", str(tmp_path / "m.json"), "--checkpoints", str(tmp_path)]
    subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=300)
    alone = json.loads((tmp_path / "prior/training.json").read_text())
    assert made["prior_hash"] == alone["prior_hash"], "an eviction left its mark"
