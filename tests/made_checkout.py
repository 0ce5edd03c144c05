"""A git and DVC repository made from this one, in which the whole graph takes seconds: few captions, few steps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
FILES = (".dvcignore", ".gitignore", "dvc.yaml", "params.yaml", "prefect.toml", "prefect.yaml", "pyproject.toml")
FOLDERS = ("components", "conf", "docs/examples", "eclipse", "flows", "k8s", "models/mini")
PROFILE = "tiny"
REDUCED = {
    "profile": PROFILE,
    "data": {"world": {"train": 64, "evaluation": 16}, "shard_size": 40},
    "prior": {"layers": 1, "heads": 2, "head_dim": 16},
    "train": {"steps": 40, "batch_size": 8, "warmup": 2, "checkpoint_every": 2, "probe_every": 20},
    "sweep": {"points": ["eclipse-0.2"], "seeds": [0]},
    "evaluate": {"images": 4, "bootstrap": 100, "decode": {"steps": 2, "batch_size": 4}},
    "annotate": {"by": []},
    "subjects": {"points": [], "results": "metrics/subjects"},
    "tracking": {"experiment": "tiny"},
    "promote": {"images": 4, "bootstrap": 1000, "sheet_prompts": 2},
}


def make_checkout(root: Path) -> Path:
    """Write the repository to ``root`` and commit it; its params.yaml is the profile ``tiny``, composed."""
    root.mkdir(parents=True)
    for name in FILES:
        shutil.copy(ROOT / name, root / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, root / ".dvc" / name)
    (root / "study/results").mkdir(parents=True)
    (root / "study/results/results.json").write_text("[]")
    (root / "metrics/subjects/evaluate").mkdir(parents=True)
    (root / "metrics/subjects/evaluate/kept").write_text("git keeps no empty folder")
    with (root / ".gitignore").open("a") as ignored:
        ignored.write("/workspaces/\n/releases/\n")
    _without_schedules(root / "prefect.yaml")
    profile = {"defaults": ["mini", "_self_"], **REDUCED}
    (root / f"conf/profile/{PROFILE}.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(profile)}")
    params = yaml.safe_load((root / "conf/profile/mini.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(merged(params, REDUCED), sort_keys=False))
    run(root, "git", "init", "-q", "-b", "main")
    commit(root, "tiny")
    return root


def _without_schedules(path: Path) -> None:
    """Only runs that a test asks for."""
    described = yaml.safe_load(path.read_text())
    for one in described["deployments"]:
        one.pop("schedules", None)
    path.write_text(yaml.safe_dump(described))


def merged(below: dict, above: dict) -> dict:
    """``below`` with the values of ``above``, section by section."""
    both = dict(below)
    for key, value in above.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) else value
    return both


def commit(root: Path, message: str) -> str:
    run(root, "git", "add", "-A")
    run(root, "git", "commit", "-qm", message)
    return run(root, "git", "rev-parse", "HEAD").strip()


def run(root: Path, *words: str) -> str:
    who = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **who, "PATH": path, "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
