"""The unit of record of a run: the git commit, the lock file that names every byte, and where these bytes are kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eclipse.files import sha256
from flows.errors import BadInputError

Variant = Literal["eclipse", "lambda-eclipse"]


@dataclass(frozen=True)
class Remote:
    """A DVC remote of the checkout."""

    name: str
    url: str


@dataclass(frozen=True)
class DataVersion:
    """``commit`` holds the dvc.lock with the SHA-256 ``lock``; ``base`` is the commit that the run started from.

    ``pushed`` is the URL that holds the bytes, None where they are in the local cache only.
    """

    base: str
    commit: str
    lock: str
    pushed: str | None

    @property
    def tags(self) -> list[str]:
        """Tags of a flow run, short enough to read in the UI."""
        return [f"commit:{self.commit[:12]}", f"dvc.lock:{self.lock[:12]}", f"pushed:{self.pushed or 'no'}"]

    def rows(self) -> list[dict[str, str]]:
        """Rows for a table."""
        return [
            {"what": "started from commit", "value": self.base},
            {"what": "results in commit", "value": self.commit},
            {"what": "dvc.lock (sha256)", "value": self.lock},
            {"what": "bytes pushed to", "value": self.pushed or "nowhere: local cache only"},
        ]


def default_remote(folder: Path) -> Remote | None:
    """The default DVC remote of the checkout in ``folder``, if one is configured."""
    from dvc.config import Config

    configured = Config(dvc_dir=str(folder / ".dvc"))
    name = configured["core"].get("remote")
    if not name:
        return None
    if name not in configured["remote"]:
        raise BadInputError(f"DVC remote {name!r} is the default but has no URL; `dvc remote add -d {name} URL`")
    return Remote(name, str(configured["remote"][name]["url"]))


def check_remote(remote: Remote | None) -> Remote:
    """Refuse to push nowhere; a URL of S3 and the like is checked by the push itself."""
    if remote is None:
        raise BadInputError(
            "no DVC remote to push to; `dvc remote add --local -d storage PATH_OR_S3_URL` (`make deployments` adds a "
            "local folder), or start with -p push=false"
        )
    return remote


def lock_digest(folder: Path) -> str:
    """SHA-256 of ``folder``/dvc.lock; empty where there is none yet."""
    path = folder / "dvc.lock"
    return sha256(path) if path.is_file() else ""


def tracking_uri(folder: Path) -> str:
    """Where runs log to: MLFLOW_TRACKING_URI, else the checkout's own mlflow.db (not the workspace's)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"


def ledger(folder: Path) -> dict[str, str]:
    """Environment in which commands of a workspace write to MLflow and releases of ``folder``, its checkout."""
    return {
        "MLFLOW_TRACKING_URI": tracking_uri(folder),
        # What MLflow itself sets in processes of its server; else artifacts of an SQLite store go to the workspace.
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder / "mlruns"),
        "ECLIPSE_RELEASES": os.environ.get("ECLIPSE_RELEASES") or str(folder / "releases"),
    }


def variant_of(name: str) -> Variant:
    """Which kind of prior the registered model ``name`` (eclipse-prior-VARIANT-DECODER) is."""
    return "lambda-eclipse" if name.startswith("eclipse-prior-lambda-eclipse-") else "eclipse"


def checkout() -> Path:
    """The checkout that the flows work for: the one that this code is in."""
    return Path(__file__).resolve().parents[1]
