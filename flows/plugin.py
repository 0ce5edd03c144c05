"""``prefect deployment run train-prior``: a flow's name alone stands for its default deployment.

Prefect's commands take FLOW/DEPLOYMENT only. This start-up hook (entry point group ``prefect.plugins``, switched on by
prefect.toml) lets its client look up a name without a slash: the deployment tagged ``default``, or the only one. Names
with a slash, and everything where the hook is not installed or not enabled, stay as they were.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from prefect.plugins import register_hook

DEFAULT_TAG = "default"


@register_hook
def setup_environment(*, ctx: Any) -> None:
    """Prefect's hook, called when its library starts."""
    from prefect.client.orchestration import PrefectClient

    accept_bare_names(PrefectClient)


def accept_bare_names(client: type[Any]) -> None:
    """Let ``client.read_deployment_by_name`` take a flow's name; twice is as good as once."""
    original = client.read_deployment_by_name
    if hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    async def read_deployment_by_name(self: Any, name: str) -> Any:
        return await original(self, name if "/" in name else await _default_of(self, name))

    client.read_deployment_by_name = read_deployment_by_name


async def _default_of(client: Any, flow: str) -> str:
    """FLOW/DEPLOYMENT of the flow's default; the bare name where it has none: Prefect then says what it always says."""
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName

    found = await client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))
    chosen = [one for one in found if DEFAULT_TAG in one.tags] or found
    if len(chosen) > 1:
        names = ", ".join(sorted(f"{flow}/{one.name}" for one in chosen))
        raise ValueError(f"{flow}: several deployments and not one tagged {DEFAULT_TAG!r}; name one of {names}")
    return f"{flow}/{chosen[0].name}" if chosen else flow
