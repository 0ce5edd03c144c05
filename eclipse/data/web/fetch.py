"""Runs img2dataset, in an environment of its own, over the chosen list: resumable, one run at a time."""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm import tqdm

from eclipse.config.data import WebParams
from eclipse.data.images import MAX_PIXELS
from eclipse.data.web import guarded
from eclipse.data.web.choose import SAVED
from eclipse.data.web.subset import Subset
from eclipse.errors import ConfigError, DataError
from eclipse.files import write_json

LIST, SHARDS, LOG = "list", "shards", "img2dataset.log"
_JOB, _LOCK, _FETCHING = "job.json", ".lock", ".fetching"
_OWN = Path(".venv-web/bin/img2dataset")
_QUIET = {"WANDB_MODE": "disabled", "NO_ALBUMENTATIONS_UPDATE": "1", "DO_NOT_TRACK": "true"}
_LAST_WORDS = 12  # seconds that the processes of a killed run get to notice it
log = logging.getLogger(__name__)


def find_command(command: str | None) -> Path:
    """The interpreter that has img2dataset, from the name of its command; a :class:`ConfigError` says how to get it.

    ``command`` None is ``.venv-web/bin/img2dataset`` where that is, else the ``img2dataset`` on the PATH.
    """
    name = command or (str(_OWN) if _OWN.is_file() else "img2dataset")
    found = shutil.which(name)
    if found is None:
        raise ConfigError(f"--img2dataset {name}: no such command; `make web` installs it into .venv-web")
    beside = Path(found).parent / "python"
    first = Path(found).read_bytes()[:200].partition(b"\n")[0].decode(errors="replace")
    python = beside if beside.is_file() else Path(first[2:].strip().partition(" ")[0])
    if not (python.is_file() and (beside.is_file() or "python" in python.name)):
        raise ConfigError(
            f"--img2dataset {found}: no Python beside it; give the one of a virtual environment (make web)"
        )
    return python.absolute()


def fetch(python: Path, out: Path, subset: Subset, web: WebParams, *, private_addresses: bool) -> None:
    """Fetch what ``out``/list names to ``out``/shards; shards that are finished are not fetched again.

    Raises :class:`DataError` if another run works there, if img2dataset fails, or if shards are missing afterwards.
    """
    wanted = shard_names(out / LIST, subset.fetch.shard_size)
    _drop_unfinished(out / SHARDS)
    if not [name for name in wanted if not _stats(out, name).is_file()]:
        return
    write_json(out / _JOB, _job(out, subset, web, private_addresses=private_addresses))
    _wait_for_stragglers(out)
    environment = os.environ | _QUIET | {guarded.JOB: str(out / _JOB), guarded.PARENT: str(os.getpid())}
    environment["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(MAX_PIXELS)  # refused before it is unpacked
    with (out / LOG).open("ab") as said:
        process = subprocess.Popen(
            [str(python), str(Path(guarded.__file__).absolute())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            _follow(process, out, wanted)
        finally:
            process.kill()  # nothing, if it has ended; its own processes end with it
            process.wait()
    missing = [name for name in wanted if not _stats(out, name).is_file()]
    if process.returncode or missing:
        raise DataError(
            f"{out}: img2dataset ended with status {process.returncode}, {len(missing)} of {len(wanted)} shards are "
            f"missing; see {out / LOG}, and run the same command again"
        )


def shard_names(folder: Path, shard_size: int) -> list[str]:
    """The names that img2dataset gives the shards of a folder of lists."""
    rows = [pq.ParquetFile(file).metadata.num_rows for file in sorted(folder.glob("*.parquet"))]
    return [f"{number:05d}" for number in range(sum(math.ceil(count / shard_size) for count in rows))]


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the folder against other runs; a second one is a :class:`DataError`. A dead one holds nothing."""
    with (out / _LOCK).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{out}: another ingest works here; wait for it, or give another --out") from None
        yield


def _job(out: Path, subset: Subset, web: WebParams, *, private_addresses: bool) -> dict[str, Any]:
    fetch = subset.fetch
    kept = [name for name in pq.read_schema(next((out / LIST).glob("*.parquet"))).names if name.startswith("list_")]
    options = {
        "url_list": str(out / LIST),
        "input_format": "parquet",
        "url_col": "url",
        "caption_col": "caption",
        "save_additional_columns": list(dict.fromkeys((*SAVED, *kept))),
        "output_folder": str(out / SHARDS),
        "output_format": "webdataset",
        "number_sample_per_shard": fetch.shard_size,
        "processes_count": fetch.processes or os.cpu_count() or 1,
        "thread_count": fetch.threads,
        "timeout": fetch.timeout,
        "retries": fetch.retries,
        "image_size": fetch.image_size or 1,
        "resize_mode": "no" if fetch.image_size is None else "keep_ratio",
        "resize_only_if_bigger": True,
        "skip_reencode": True,
        "encode_quality": fetch.quality,
        "min_image_size": web.min_side or 0,
        "max_image_area": MAX_PIXELS,
        "extract_exif": False,  # it tells where people were
        "compute_hash": "sha256",
        "user_agent_token": "img2dataset",  # what sites that want no part in this name in X-Robots-Tag
    }
    if web.max_aspect is not None:
        options["max_aspect_ratio"] = web.max_aspect
    guard = fetch.model_dump(include={"timeout", "deadline", "max_bytes", "max_redirects"})
    return {
        "options": options,
        "guard": {**guard, "private_addresses": private_addresses},
        "lock": str((out / _FETCHING).absolute()),
    }


def _stats(out: Path, name: str) -> Path:
    return out / SHARDS / f"{name}_stats.json"


def _drop_unfinished(shards: Path) -> None:
    """A shard counts as finished by its stats file, which is written last, but not in one piece."""
    for path in shards.glob("*_stats.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            log.warning("%s: cut off; its shard is fetched again", path)
            path.unlink()


def _wait_for_stragglers(out: Path) -> None:
    """Until no process of an earlier run is left, which might still write; they end by themselves."""
    with (out / _FETCHING).open("ab") as file:
        end = time.monotonic() + _LAST_WORDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    raise DataError(f"{out}: img2dataset of an earlier run still works here; end it first") from None
                time.sleep(0.1)


def _follow(process: subprocess.Popen[bytes], out: Path, wanted: list[str]) -> None:
    with tqdm(total=len(wanted), desc="fetch", unit=" shards", mininterval=1.0) as bar:
        while True:
            done = sum(_stats(out, name).is_file() for name in wanted)
            bar.update(done - bar.n)
            try:
                process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                continue
            bar.update(sum(_stats(out, name).is_file() for name in wanted) - bar.n)
            return
