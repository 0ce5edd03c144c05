"""What a cluster says about itself, through ``kubectl get --raw``: no other client, and the person's own access."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from k8s.check.rendered import ManifestError, Object


@dataclass(frozen=True)
class Cluster:
    """The cluster of one of kubectl's contexts; None is the current one."""

    context: str | None = None

    def _kubectl(self, *words: str) -> subprocess.CompletedProcess[str]:
        named = ["--context", self.context] if self.context else []
        try:
            return subprocess.run(["kubectl", *named, *words], capture_output=True, text=True, timeout=120, check=False)
        except FileNotFoundError:
            raise ManifestError("kubectl: not found; install it and choose a context") from None
        except subprocess.TimeoutExpired:
            raise ManifestError(f"kubectl {words[0]}: no answer within 120 s; is the cluster reachable?") from None

    def get(self, path: str) -> Object | None:
        """The object or list at an API path, None where there is none.

        Raises :class:`ManifestError` where the cluster does not answer, or refuses.
        """
        done = self._kubectl("get", "--raw", path)
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
        said = " ".join(done.stderr.split())
        if "NotFound" in said or "could not find the requested resource" in said:
            return None
        raise ManifestError(f"kubectl get --raw {path}: {said[:300] or 'failed'}")

    def items(self, path: str) -> list[Object]:
        """The items of the list at an API path; none where the path is not there."""
        return list((self.get(path) or {}).get("items") or [])

    def dry_run(self, overlay: str) -> tuple[bool, list[str]]:
        """Apply an overlay on the server without keeping it. (It would be taken, lines of errors and warnings)."""
        done = self._kubectl(
            "apply", "-k", overlay, "--server-side", "--dry-run=server", "--field-manager=eclipse-preflight"
        )
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return done.returncode == 0, lines
