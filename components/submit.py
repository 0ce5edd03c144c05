"""Starts a run of the compiled pipeline on a Kubeflow Pipelines server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.pipeline import NAME
from eclipse.errors import ConfigError, EclipseError

_SECONDS = 7 * 24 * 3600


def submit(file: Path, *, host: str | None, namespace: str, service_account: str | None, wait: bool) -> bool:
    """Start a run of ``file`` on the server ``host`` and print its id; False if it was waited for and failed.

    A server for several users runs it in ``namespace``, another one in its own. ``service_account`` is the pods', None
    the server's default. With ``wait`` it returns once the run has ended. Raises :class:`EclipseError` where the server
    does not answer or refuses.
    """
    if not host:
        raise ConfigError("--host: no server of Kubeflow Pipelines is named; give --host URL or set KFP_ENDPOINT")
    import kfp

    with _one_line_errors(host):
        client = kfp.Client(host=host)
        several = client.get_kfp_healthz().multi_user
        run = client.create_run_from_pipeline_package(
            str(file),
            arguments={},
            experiment_name=NAME,
            namespace=namespace if several else None,
            enable_caching=False,
            service_account=service_account,
        )
        print(f"run {run.run_id} started on {host}", flush=True)
        if wait:
            return _succeeded(client.wait_for_run_completion(run.run_id, timeout=_SECONDS))
        return True


@contextmanager
def _one_line_errors(host: str) -> Iterator[None]:
    """What KFP's client raises, in one line that names ``host``."""
    try:
        yield
    except Exception as error:
        room = type(error).__module__.partition(".")[0]
        first = (str(error).splitlines() or [type(error).__name__])[0]
        if room == "kfp_server_api":
            raise EclipseError(f"{host}: the server refused ({first}); check the namespace and your rights") from None
        if room == "urllib3" or isinstance(error, OSError):
            raise EclipseError(f"{host}: no answer ({first}); is it the address of KFP's API?") from None
        raise


def _succeeded(run: Any) -> bool:
    told = "" if run.state == "SUCCEEDED" else "; its task report-run says what failed"
    print(f"run {run.run_id}: {run.state}{told}")
    return bool(run.state == "SUCCEEDED")
