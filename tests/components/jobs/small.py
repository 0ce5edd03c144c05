"""A checkout whose sweep trains on a made-up store: no dataset, no CLIP, seconds for all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from made_checkout import REDUCED, ROOT, commit, merged, run
from made_store import made_store

POINT = "train@eclipse-0.2-0"
EMBED = {"cmd": "mkdir -p artifacts && cp -R made artifacts/store", "deps": ["made"], "outs": ["artifacts/store"]}


def small_checkout(root: Path, remote: Path | None, **params: Any) -> Path:
    """Its ``embed`` copies a store, its ``train`` is the one of dvc.yaml without dependencies on code."""
    root.mkdir(parents=True)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    train = {**stages["train"], "deps": ["artifacts/store"]}
    subjects = {**stages["train-subjects"], "deps": ["artifacts/store"]}
    described = {"stages": {"embed": EMBED, "train": train, "train-subjects": subjects}}
    (root / "dvc.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    mini = yaml.safe_load((ROOT / "conf/profile/mini.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(merged(merged(mini, REDUCED), params), sort_keys=False))
    (root / ".gitignore").write_text("/artifacts/\n/workspaces/\n__pycache__/\n")
    (root / "k8s/components").mkdir(parents=True)
    (root / "k8s/components/trainer").symlink_to(ROOT / "k8s/components/trainer")
    made_store(root / "made", {"train": [40, 24]})
    run(root, "git", "init", "-q", "-b", "main")
    (root / ".dvc").mkdir()
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    text = "[core]\n    analytics = false\n    check_update = false\n    autostage = true\n"
    if remote is not None:
        text += f'    remote = storage\n[remote "storage"]\n    url = {remote}\n'
    (root / ".dvc/config").write_text(text)
    commit(root, "small")
    return root


def clone(source: Path, folder: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(source), str(folder)], check=True)
    return folder


def dvc(root: Path, *words: str) -> str:
    return run(root, sys.executable, "-m", "dvc", *words)
