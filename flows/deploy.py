"""``make deployments``: pools, limits, deployments and automations on the server, as the files here say.

    python -m flows.deploy                                  # a process pool: runs are processes of `prefect worker`
    python -m flows.deploy --pool cluster --repository URL  # a Kubernetes pool: runs are Jobs that clone URL

Doing it again changes nothing. What it adds once and then leaves alone: the limit ``gpu``, and a local folder
as DVC remote where none is configured.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from flows import versions
from flows.commands import DVC, ask, stream
from flows.errors import FlowError
from flows.server import check_server
from flows.workspace import workspaces

PROCESS_POOL = "local"
GPU_LIMIT = "gpu"
_HERE = Path(__file__).parent
_PREFECT = (sys.executable, "-m", "prefect", "--no-prompt")
_CHECKOUT = "/results/checkout"
_PULL = "/srv/eclipse/flows/pools/pull.sh"  # where the image has this repository
_NOTIFY_BLOCK = "eclipse-failures"


def deploy(root: Path, pool: str, repository: str | None, gpus: int) -> None:
    """Bring the server to the state of the files in ``root``; Kubernetes Jobs clone ``repository``, with ``gpus``."""
    with get_client(sync_client=True) as client:
        check_server(client)
        add_limit(client, max(gpus, 1))
        add_remote(root)
        add_pool(root, pool, None if repository is None else gpus)
        add_deployments(root, pool, repository, GPU_LIMIT if gpus else None)
        for name in add_automations(client, notify_block()):
            print(f"automation {name!r}")


def add_limit(client: SyncPrefectClient, slots: int) -> None:
    """The global concurrency limit ``gpu``, unless there is one; `prefect gcl update gpu --limit N` changes it."""
    try:
        client.read_global_concurrency_limit_by_name(GPU_LIMIT)
    except ObjectNotFound:
        ask([*_PREFECT, "gcl", "create", GPU_LIMIT, "--limit", str(slots)], cwd=_HERE)


def add_remote(root: Path) -> None:
    """A folder as default DVC remote of this checkout only, where none is configured."""
    if versions.default_remote(root) is None:
        folder = workspaces(root) / "remote"
        folder.mkdir(parents=True, exist_ok=True)
        ask([*DVC, "remote", "add", "--local", "--default", "storage", str(folder)], cwd=root)
        print(f"DVC remote storage → {folder}")


def add_pool(root: Path, name: str, gpus: int | None) -> None:
    """The work pool, of Kubernetes where ``gpus`` is a number; an existing one gets the settings of the file."""
    words = [*_PREFECT, "work-pool", "create", name, "--overwrite"]
    if gpus is None:
        stream([*words, "--type", "process"], cwd=root, say=_ignore)
    else:
        template = json.loads((_HERE / "pools" / "kubernetes.json").read_text(encoding="utf-8"))
        template["variables"]["properties"]["gpus"]["default"] = gpus
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(template, file)
            file.flush()
            stream([*words, "--type", "kubernetes", "--base-job-template", file.name], cwd=root, say=_ignore)
    print(f"work pool {name}")


def add_deployments(root: Path, pool: str, repository: str | None, limit: str | None) -> None:
    """Every deployment of prefect.yaml, into ``pool``; training holds a slot of ``limit``."""
    described = yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))
    for one in described["deployments"]:
        one["work_pool"] = {"name": pool}
        if limit and one["entrypoint"].endswith(":train_prior"):
            one["parameters"] = {**one.get("parameters", {}), "limit": limit}
    if repository is not None:
        described["pull"] = pull_steps(repository)
    described.pop("definitions", None)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=root, prefix=".prefect-") as file:
        yaml.safe_dump(described, file, sort_keys=False)
        file.flush()
        stream([*_PREFECT, "deploy", "--all", "--prefect-file", Path(file.name).name], cwd=root, say=_ignore)
    for one in described["deployments"]:
        print(f"deployment {one['entrypoint'].partition(':')[2].replace('_', '-')}/{one['name']}")


def pull_steps(repository: str) -> list[dict[str, Any]]:
    """What a Job does before the flow: bring the checkout on the volume to ``repository``'s default branch.

    The checkout stays there when the pod is gone, for the commits of results are branches of it.
    """
    words = f"bash {_PULL} {shlex.quote(repository)} {_CHECKOUT}"
    return [
        {"prefect.deployments.steps.run_shell_script": {"script": words, "stream_output": True}},
        {"prefect.deployments.steps.set_working_directory": {"directory": _CHECKOUT}},
    ]


def add_automations(client: SyncPrefectClient, notify: str | None) -> list[str]:
    """Every file in flows/automations, replacing the automation of that name; their names.

    ``notify`` is the id of the block that is told of failures; files that need it are left out without it.
    """
    added = []
    for path in sorted((_HERE / "automations").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if '"{{ notify }}"' in text and notify is None:
            print(f"{path.name}: left out; set ECLIPSE_NOTIFY_URL to a webhook that is to be told")
            continue
        automation = AutomationCore.model_validate(yaml.safe_load(text.replace("{{ notify }}", notify or "")))
        found = client.read_automations_by_name(automation.name)
        if found:
            client.update_automation(found[0].id, automation)
        else:
            client.create_automation(automation)
        added.append(automation.name)
    return added


def notify_block() -> str | None:
    """The id of a block that POSTs JSON to ECLIPSE_NOTIFY_URL; None where that is not set."""
    url = os.environ.get("ECLIPSE_NOTIFY_URL")
    if not url:
        return None
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    body = {"subject": "{{subject}}", "text": "{{body}}"}
    block = CustomWebhookNotificationBlock(name=_NOTIFY_BLOCK, url=url, json_data=body)
    return str(block.save(_NOTIFY_BLOCK, overwrite=True))


def _ignore(line: str) -> None:
    """Prefect's advice on what to do next; of a failure its last lines are in the error."""


def main() -> int:
    """The command. Exit status 2 for what a person can mend."""
    parser = argparse.ArgumentParser(prog="python -m flows.deploy", description=__doc__.splitlines()[0])
    parser.add_argument("--pool", default=PROCESS_POOL, help=f"default: {PROCESS_POOL}")
    parser.add_argument("--repository", help="git URL that Jobs clone; makes the pool one of Kubernetes")
    told = "slots of the limit gpu, which training then holds, and GPUs of a Job; default: 0"
    parser.add_argument("--gpus", type=int, default=0, help=told)
    args = parser.parse_args()
    try:
        deploy(versions.checkout(), args.pool, args.repository, args.gpus)
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
