"""What happens inside pods: a checkout of the submitter's state, exit statuses, parts that become one store."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
import yaml
from made_checkout import ROOT, commit

from components.jobs import checkout, extract, run_cache
from components.jobs.errors import FailedError, JobError, StoppedError, status_of
from components.jobs.torchrun import status_of as status_of_ranks
from tests.components.jobs.small import small_checkout

# An embedding stage of a few lines: two shards of one letter, a part is its share, parts are joined.
EMBED = """
import argparse, json, pathlib
flags = argparse.ArgumentParser()
[flags.add_argument(f"--{name}") for name in ("out", "metrics", "part", "parts")]
args = flags.parse_args()
out = pathlib.Path(args.out)
out.mkdir(parents=True, exist_ok=True)
shards = ["a", "b", "c", "d"]
if args.part:
    i, n = map(int, args.part.split("/"))
    shards = shards[i * 4 // n : (i + 1) * 4 // n]
if args.parts:
    shards = sorted(path.name for path in pathlib.Path(args.parts).glob("*/*"))
for shard in shards:
    (out / shard).write_text(shard)
pathlib.Path(args.metrics).write_text(json.dumps({"shards": len(shards)}))
"""


@pytest.fixture
def workspaces(tmp_path, monkeypatch):
    monkeypatch.setenv(checkout.WORKSPACES, str(tmp_path / "workspaces"))
    return tmp_path / "workspaces"


def test_a_checkout_is_the_commit_with_what_was_sent(tmp_path, workspaces, monkeypatch):
    source = small_checkout(tmp_path / "source", None)
    first = commit(source, "again") if (source / "more").write_text("1") else ""
    (source / "more").write_text("2")
    commit(source, "later")
    monkeypatch.setenv(checkout.REPOSITORY, str(source))
    monkeypatch.setenv(checkout.PARAMS, "sent: true\n")
    monkeypatch.setenv(checkout.LOCK, yaml.safe_dump({"embed": {"cmd": "c", "outs": []}}))
    folder = checkout.make_checkout("job-node-0", first)
    assert (folder / "more").read_text() == "1"
    assert (folder / "params.yaml").read_text() == "sent: true\n"
    assert yaml.safe_load((folder / "dvc.lock").read_text())["stages"] == {"embed": {"cmd": "c", "outs": []}}
    (folder / "artifacts/checkpoints/state").write_text("step 7")
    other = checkout.make_checkout("job-node-1", first)
    assert (other / "artifacts/checkpoints/state").read_text() == "step 7", "every node needs the same checkpoint"
    (folder / "left").touch()
    assert (checkout.make_checkout("job-node-0", first) / "left").exists(), "a killed pod's checkout is used again"


def test_without_a_repository_the_code_itself_is_copied(workspaces, monkeypatch):
    for name in (checkout.REPOSITORY, checkout.PARAMS, checkout.LOCK):
        monkeypatch.delenv(name, raising=False)
    folder = checkout.make_checkout("job-node-0", "c" * 40)
    assert (folder / "eclipse/releases/store.py").read_bytes() == (ROOT / "eclipse/releases/store.py").read_bytes()
    assert not {".git", ".venv"} & {path.name for path in folder.iterdir()}
    assert sorted(path.name for path in (folder / "artifacts").iterdir()) == ["checkpoints"]
    with run_cache.opened(folder) as repo:  # works without git
        assert run_cache.stage_of(repo, "embed").cmd.startswith("python -m eclipse embed")


def test_a_commit_that_is_not_there_is_told_in_a_line(tmp_path, workspaces, monkeypatch):
    monkeypatch.setenv(checkout.REPOSITORY, str(small_checkout(tmp_path / "source", None)))
    with pytest.raises(FailedError, match="git checkout: .*f{40}"):
        checkout.make_checkout("job-node-0", "f" * 40)
    assert not (workspaces / "job-node-0").exists()


def test_statuses_say_what_kubernetes_must_do(capsys):
    def raises(error):
        def command():
            raise error

        return command

    assert status_of(lambda: None) == 0
    assert status_of(raises(StoppedError())) == 75
    assert status_of(raises(JobError("train.lr: too\n high"))) == 2
    assert status_of(raises(FailedError("ended"))) == 1
    assert status_of(raises(PermissionError(13, "denied", "/results"))) == 1
    assert "error: train.lr: too high\n" in capsys.readouterr().err


@pytest.mark.parametrize(("codes", "status"), [([75, -15], 75), ([1, 75], 75), ([2, 1], 2), ([-9], 1), ([1, 1], 1)])
def test_torchrun_s_status_is_the_training_s(codes, status):
    assert status_of_ranks(codes) == status


def test_a_request_to_stop_reaches_the_command_and_starts_no_other(tmp_path):
    words = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(75)); open('ready', 'w'); time.sleep(60)"
    code = (
        "import sys; from pathlib import Path; from components.jobs.process import Runner\n"
        "from components.jobs.errors import StoppedError\n"
        "with Runner() as runner:\n"
        f"    print(runner.run([sys.executable, '-c', {words!r}], cwd=Path({str(tmp_path)!r})), flush=True)\n"
        "    try: runner.run(['true'], cwd=Path('.'))\n"
        "    except StoppedError: print('no other')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 30
    while not (tmp_path / "ready").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0].split("\n")[:2] == ["75", "no other"]


def test_parts_become_one_store_whoever_finishes_last(tmp_path, workspaces, monkeypatch):
    remote = tmp_path / "remote"
    source = small_checkout(tmp_path / "source", remote)
    described = yaml.safe_load((source / "dvc.yaml").read_text())
    described["stages"]["embed"] = {
        "cmd": "python -m embed --out artifacts/store --metrics metrics/store.json",
        "deps": ["embed.py"],
        "outs": ["artifacts/store"],
        "metrics": [{"metrics/store.json": {"cache": False}}],
    }
    (source / "dvc.yaml").write_text(yaml.safe_dump(described))
    (source / "embed.py").write_text(EMBED)
    (source / "metrics").mkdir()
    (source / "metrics/kept").touch()
    commit(source, "embedding")
    monkeypatch.setenv(checkout.REPOSITORY, str(source))
    for index in ("1", "0"):
        assert not list(remote.rglob("*.dir"))
        monkeypatch.setenv(extract.INDEX, index)
        assert extract.main(["--stage", "embed", "--parts", "2"]) == 0
    with run_cache.opened(source) as repo:
        assert run_cache.restore(repo, ["embed"]) == ["embed"]
    assert sorted(path.name for path in (source / "artifacts/store").iterdir()) == ["a", "b", "c", "d"]
    assert (source / "metrics/store.json").read_text() == '{"shards": 4}'
    assert not list(workspaces.glob("embed-*")) and not list((workspaces / "parts").glob("*/*")), "the volume fills up"
    monkeypatch.setenv(extract.INDEX, "2")
    assert extract.main(["--stage", "embed", "--parts", "2"]) == 2


def test_flags_are_replaced_or_missed():
    words = ["-m", "embed", "--out", "a", "--metrics", "b"]
    assert extract.replaced(words, {"--out": "c"}) == ["-m", "embed", "--out", "c", "--metrics", "b"]
    with pytest.raises(JobError, match="no flag --into"):
        extract.replaced(words, {"--into": "c"})
