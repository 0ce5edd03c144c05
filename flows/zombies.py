"""Flow runs that are "Running" while their process is gone: found and closed, and on request started again.

    python -m flows.zombies              # closes those of this machine
    python -m flows.zombies --restart    # and schedules them again; what they had finished is not done again

For processes on other machines Prefect's heartbeats decide: flows/automations/zombies.yaml.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import AwaitingRetry, Cancelled, Crashed

from flows.alive import process_of
from flows.errors import BadInputError
from flows.server import check_server

_PAGE = 200
_ALIVE = [StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]


@dataclass(frozen=True)
class Zombie:
    """A flow run whose process is gone; ``state`` is the name of the state that it was left in."""

    id: UUID
    name: str
    state: str
    deployed: bool


def find(client: SyncPrefectClient) -> list[Zombie]:
    """The runs that say they are alive, and whose process was on this machine and is no more."""
    found = []
    for run in _pages(client):
        process = process_of(run.tags)
        if process and process.is_here and not process.lives:
            state = run.state.name if run.state else "Running"
            found.append(Zombie(run.id, run.name, state or "Running", run.deployment_id is not None))
    return found


def close(client: SyncPrefectClient, zombies: list[Zombie], *, restart: bool) -> None:
    """Set each to Crashed (to Cancelled, if that was under way), and with ``restart`` schedule it again.

    Only runs of deployments can be started again; a worker picks them up, and the workspace is as they left it.
    """
    for zombie in zombies:
        if zombie.state == "Cancelling":
            client.set_flow_run_state(zombie.id, Cancelled(message="its process is gone"), force=True)
            continue
        client.set_flow_run_state(
            zombie.id, Crashed(message="its process is gone; closed by flows.zombies"), force=True
        )
        if restart and zombie.deployed:
            client.set_flow_run_state(zombie.id, AwaitingRetry(message="started again by flows.zombies"), force=True)


@flow(name="close-zombies", log_prints=True)
def close_zombies(restart: bool = False) -> int:
    """Close the zombies of this machine; ``restart`` schedules those of deployments again. Returns how many."""
    with get_client(sync_client=True) as client:
        zombies = find(client)
        close(client, zombies, restart=restart)
    for zombie in zombies:
        print(f"{zombie.name}: was {zombie.state}, its process is gone")
    return len(zombies)


def _pages(client: SyncPrefectClient) -> list:
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ALIVE)))
    runs: list = []
    while True:
        page = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=len(runs))
        runs += page
        if len(page) < _PAGE:
            return runs


def main() -> int:
    """The command. Exit status 2 where no server answers."""
    parser = argparse.ArgumentParser(prog="python -m flows.zombies", description=__doc__.splitlines()[0])
    parser.add_argument("--restart", action="store_true", help="schedule runs of deployments again")
    restart = parser.parse_args().restart
    with get_client(sync_client=True) as client:
        try:
            check_server(client)
        except BadInputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        zombies = find(client)
        close(client, zombies, restart=restart)
    print("\n".join(f"{zombie.name}: was {zombie.state}, closed" for zombie in zombies) or "no zombies")
    return 0


if __name__ == "__main__":
    sys.exit(main())
