"""Stage ``fingerprints``: an evaluation set's pictures as hashes, to check training data against without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eclipse.config.params import Params
from eclipse.data.benchmarks import load_benchmarks, save_benchmarks


def run(params: Params, of: Path, *, out: Path) -> dict[str, Any]:
    """Write the fingerprint file ``out`` (.parquet) of the folder or tar shard ``of``, for data.web.benchmarks."""
    found = load_benchmarks([of])
    save_benchmarks(found, out)
    return {"pictures": len(found.names), "prompts": len(found.prompts)}
