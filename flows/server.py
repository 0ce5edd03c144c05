"""Whether there is a Prefect server to talk to."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient

from flows.errors import BadInputError


def check_server(client: SyncPrefectClient) -> None:
    """Fail in one line where no server answers."""
    error = client.api_healthcheck()
    if error:
        raise BadInputError(
            f"{client.api_url}: no Prefect server answers ({type(error).__name__}); `prefect server start`, or set "
            "PREFECT_API_URL"
        )
