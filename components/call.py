"""One stage of the graph, called in a component: artifacts become paths, and the command line is that of dvc.yaml."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kfp.dsl import Artifact

from components.artifacts import Given, contents, describe, lay_out
from components.cache import Cache, content, key_of
from components.record import ROOT, recorded
from components.runs import FANNED_OUT, SHARED
from eclipse.config import Params, parse_params
from eclipse.errors import EclipseError
from eclipse.files import write_json
from eclipse.stages import registry


@dataclass(frozen=True)
class _Call:
    """A stage with all that it is given; ``values`` are the flags that name no path."""

    stage: str
    params: Params
    text: str
    inputs: Mapping[str, Given]
    outputs: Mapping[str, Path]
    values: Mapping[str, str]
    inside: str

    def key(self, given: Mapping[str, Any]) -> str:
        """SHA-256 of all that shapes the result: code, parameters, flags, and the contents ``given`` of the inputs."""
        sections = self.params.model_dump(mode="json")
        record = recorded(self.stage, sections)
        facts = {
            "stage": self.stage,
            "values": dict(self.values),
            "params": {name: sections[name] for name in record.sections},
            "files": {os.path.relpath(path, ROOT): content(path) for path in record.files},
            "inputs": dict(given),
        }
        return key_of(facts)

    def run(self) -> None:
        """Run the stage; raises ``CalledProcessError`` where it fails."""
        with tempfile.TemporaryDirectory() as folder:
            command = self._command(Path(folder))
            subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "TQDM_DISABLE": "1"})

    def _command(self, folder: Path) -> list[str]:
        params = folder / "params.yaml"
        params.write_text(self.text, encoding="utf-8")
        flags: dict[str, Path | str] = {flag: lay_out(value, folder / flag) for flag, value in self.inputs.items()}
        flags |= {name: path / self.inside if name == "out" else path for name, path in self.outputs.items()}
        if any(flag.name == "checkpoints" for flag in registry.describe(self.stage).flags):
            flags["checkpoints"] = (_shared() or folder) / "checkpoints"
        words = [f"--{flag.replace('_', '-')}={value}" for flag, value in {**flags, **self.values}.items()]
        return [*self._python(), self.stage, *words, f"--params={params}"]

    def _python(self) -> list[str]:
        processes = self.params.cluster.processes
        if self.stage != "train" or processes == 1:
            return [sys.executable, "-m", "eclipse"]
        torchrun = [sys.executable, "-m", "components.jobs.torchrun", "--standalone", f"--nproc-per-node={processes}"]
        return [*torchrun, "-m", "eclipse"]


def call(
    stage: str,
    params: str,
    run: str,
    inputs: Mapping[str, Given],
    *,
    out: Artifact | None = None,
    metrics: Artifact | None = None,
    inside: str = "",
    **values: str,
) -> None:
    """Run ``python -m eclipse STAGE`` on ``inputs`` (flag → artifact), or take its result where it is remembered.

    ``params`` is the text of a params.yaml, ``run`` the id of the pipeline run. ``out`` and ``metrics`` are what the
    stage writes; a stage without them writes to a server and always runs. ``inside`` names the file in the folder
    ``out`` where the stage wants a file. ``values`` are its other flags.

    A stage that fails ends the process with its exit status; bad input with 2 and one line.
    """
    began, told = time.monotonic(), {"stage": stage, "outcome": "failed", **values}
    try:
        paths = {name: Path(a.path) for name, a in (("out", out), ("metrics", metrics)) if a is not None}
        parsed = parse_params(yaml.safe_load(params) or {})
        told["outcome"] = _result(_Call(stage, parsed, params, inputs, paths, values, inside))
        name = "-".join(values[word] for word in FANNED_OUT if word in values).replace("/", "-of-")
        told |= describe(out, metrics, name)
    except (EclipseError, OSError, yaml.YAMLError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(error.returncode) from None
    finally:
        _note(run, {**told, "seconds": round(time.monotonic() - began, 2)})


def _result(asked: _Call) -> str:
    """Have the outputs made or restored; which of the two it was."""
    given = {flag: contents(value) for flag, value in asked.inputs.items()}
    folder = _shared()
    if folder is None or not asked.outputs:
        asked.run()
        return "made"
    cache, key = Cache(folder / "cache"), asked.key(given)
    missing = cache.restore(key, asked.outputs)
    if missing is None:
        print(f"{asked.stage}: nothing has changed, result {key[:12]} is taken", flush=True)
        return "remembered"
    print(f"{asked.stage}: runs for result {key[:12]}: {missing}", flush=True)
    asked.run()
    cache.remember(key, asked.outputs)
    return "made"


def _shared() -> Path | None:
    return Path(os.environ[SHARED]) if os.environ.get(SHARED) else None


def _note(run: str, told: dict[str, Any]) -> None:
    """Leave a line for the report of the run."""
    folder = _shared()
    if folder is not None:
        write_json(folder / "runs" / run / f"{uuid.uuid4().hex}.json", {**told, "at": time.time()})
