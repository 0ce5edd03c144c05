"""The real img2dataset against a real server on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made_web import COMMAND, ROOT, nobody_listens, picture, serving

from eclipse.config import load_params
from eclipse.data.web.fetch import find_command
from eclipse.errors import ConfigError, DataError
from eclipse.files import tree_digest
from eclipse.stages.ingest import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not COMMAND.is_file(), reason="img2dataset is not installed: make web"),
]


def _params(*overrides: str):
    return load_params(ROOT / "params.yaml", list(overrides))


def _subset(path: Path, web: str = "{}", **fetch: object) -> str:
    limits = {"shard_size": 8, "timeout": 2, "deadline": 4, "max_bytes": 100_000, "processes": 1, "threads": 8, **fetch}
    path.write_text(f"list: {{format: tsv, header: [caption, url]}}\nweb: {web}\nfetch: {json.dumps(limits)}\n")
    return str(path)


def _list(path: Path, urls: list[str]) -> Path:
    path.write_text("".join(f"caption {i}\t{url}\n" for i, url in enumerate(urls)))
    return path


def _pictures(out: Path) -> dict[str, bytes]:
    """URL → bytes of all fetched pictures; one that is there twice fails."""
    found: dict[str, bytes] = {}
    for path in sorted((out / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json") and not member.name.endswith(".removed.json"):
                    url = json.load(tar.extractfile(member))["url"]
                    assert url not in found
                    found[url] = tar.extractfile(member.name.replace(".json", ".jpg")).read()
    return found


def test_every_kind_of_answer(tmp_path):
    with serving() as (base, _):
        paths = [
            *(f"good/{i}" for i in range(5)),
            "png/7",
            "moved/11",
            "small/8",
            "slow/1",
            "drip/1",
            "short/9",
            "cut/10",
        ]
        paths += ["loop/1", "far/1", "file/1", "huge/1", "endless/1", "page/1", "unwanted/12", "nothing/1"]
        urls = [*(f"{base}/{path}" for path in paths), nobody_listens()]
        subset = _subset(tmp_path / "s.yaml", "{min_side: 32}")
        arguments = {"from_": _list(tmp_path / "l.tsv", urls), "subset": subset, "img2dataset": str(COMMAND)}
        summary = run(_params(), **arguments, out=tmp_path / "out", private_addresses=True)
        assert summary["fetched"]["outcomes"] == {"failed_to_download": 12, "failed_to_resize": 2, "success": 7}
        assert summary["fetched"]["reasons"] == {
            "http_404": 1,
            "no_connection": 1,
            "not_an_image": 1,
            "not_http": 1,
            "not_wanted_by_site": 1,
            "redirect_loop": 2,
            "timeout": 2,
            "too_large": 2,
            "too_small": 1,
            "truncated": 2,
        }
        pictures = _pictures(tmp_path / "out")
        assert {url.removeprefix(f"{base}/") for url in pictures} == {*paths[:7]}
        assert all(pictures[f"{base}/good/{i}"] == picture(i) for i in range(5))
        assert pictures[f"{base}/moved/11"] == picture(11)
        before = tree_digest(tmp_path / "out/shards")
        run(_params(), **arguments, out=tmp_path / "out", private_addresses=True)
        assert tree_digest(tmp_path / "out/shards") == before
        with pytest.raises(DataError, match="was made of another list, subset or seed"):
            run(_params("data.seed=5"), **arguments, out=tmp_path / "out", private_addresses=True)


def test_takedown_removes_what_was_fetched(tmp_path):
    with serving() as (base, server):
        urls = _list(tmp_path / "l.tsv", [f"{base}/good/{i}" for i in range(6)])
        arguments = {"from_": urls, "subset": _subset(tmp_path / "s.yaml"), "img2dataset": str(COMMAND)}
        run(_params(), **arguments, out=tmp_path / "out", private_addresses=True)
        rows = pq.read_table(tmp_path / "out/shards/00000.parquet").to_pylist()
        takedown = tmp_path / "takedown.txt"
        takedown.write_text(f"{base}/good/3\n{rows[0]['sha256']}\n")
        gone = {f"{base}/good/3", rows[0]["url"]}
        summary = run(
            _params(f"data.web.takedown={takedown}"), **arguments, out=tmp_path / "out", private_addresses=True
        )
        assert summary["takedown"]["removed"] == len(gone)
        assert set(_pictures(tmp_path / "out")) == {f"{base}/good/{i}" for i in range(6)} - gone
        assert summary["fetched"]["outcomes"] == {"success": 6 - len(gone), "taken_down": len(gone)}
        assert summary["fetched"]["reasons"] == {"taken_down": len(gone)}
        assert summary["fetched"]["unknown"] == {}
        assert f"{base}/good/3" not in pq.read_table(tmp_path / "out/list/00000.parquet")["url"].to_pylist()
        assert sum(server.asked.values()) == 6


def test_killed_in_the_middle_it_goes_on_and_ends_the_same(tmp_path):
    with serving() as (base, server):
        urls = _list(tmp_path / "l.tsv", [f"{base}/good/{i}" for i in range(40)])
        subset = _subset(tmp_path / "s.yaml", threads=2)
        command = [sys.executable, "-m", "eclipse", "ingest", "--from", str(urls), "--subset", subset, "--quiet"]
        command += ["--out", str(tmp_path / "out"), "--img2dataset", str(COMMAND), "--private-addresses"]
        server.delay = 0.3
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ)
        stats = tmp_path / "out/shards/00000_stats.json"
        end = time.monotonic() + 90
        while not stats.is_file() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        finished = {path.name.partition("_")[0] for path in stats.parent.glob("*_stats.json")}
        assert stats.is_file()
        assert len(finished) < 5
        kept = {name: (stats.parent / f"{name}.tar").stat() for name in finished}
        server.delay = 0.0
        subprocess.run(command, cwd=ROOT, check=True, timeout=120)
        assert _pictures(tmp_path / "out") == {f"{base}/good/{i}": picture(i) for i in range(40)}
        for name, before in kept.items():
            assert (stats.parent / f"{name}.tar").stat().st_mtime_ns == before.st_mtime_ns
        rows = [row for path in sorted(stats.parent.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
        assert len(rows) == len({row["id"] for row in rows}) == 40


def test_a_missing_command_is_told_with_its_remedy(tmp_path):
    with pytest.raises(ConfigError, match=r"no-such-thing: no such command; `make web` installs it"):
        find_command("no-such-thing")
