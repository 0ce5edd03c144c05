import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from made_selected import ROOT, make_selected

from eclipse.errors import CheckpointError, EclipseError
from eclipse.files import read_json, tree_digest
from eclipse.releases import Entry, Model, Releases, resolve
from eclipse.serve.bundle import bento_folder, build_bento, containerfile, describe

NAME = "eclipse-prior-eclipse-mini"
TEXTS = ("params.yaml", "pyproject.toml", "requirements.lock", "dvc.lock")


def promoted(folder: Path) -> Releases:
    """Releases whose champion is version 1, and with a candidate and a previous one beside it."""
    releases, entries = Releases(folder / "releases"), []
    for number in range(3):
        prior = make_selected(folder, weights=number)["selected"]
        registered = {"name": NAME, "version": str(number), "variant": "eclipse", "tags": {"eclipse.point": "a"}}
        entries.append(Entry(str(number), releases.add_prior(prior, registered), "2026-11-21T00:00:00+00:00"))
    digest = releases.add_frozen(ROOT / "models/mini")
    releases.write_state(releases.state().following(NAME, Model("eclipse", *entries), frozen=digest))
    return releases


@pytest.fixture(scope="module")
def bento(tmp_path_factory):
    """A folder with a repository's files, releases, BentoML's home, and the Bento of these releases in it."""
    folder = tmp_path_factory.mktemp("bundle")
    for name in TEXTS:
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / "eclipse", folder / "package", ignore=shutil.ignore_patterns("__pycache__"))
    releases = promoted(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(folder / "bentoml"))
        patch.setattr("eclipse.serve.bundle.PACKAGE", folder / "package")
        tag = build_bento(releases, releases.state(), root=folder, decoder="mini")
        yield folder, releases, tag


def source(tag: str) -> Path:
    return bento_folder(tag) / "src"


def test_a_bento_is_named_after_its_decoder_and_release(bento):
    folder, _, tag = bento
    assert tag == "eclipse-mini:sequence-1"
    assert (folder / "bentoml/bentos/eclipse-mini/latest").read_text() == "sequence-1"
    assert list((folder / "bentoml/tmp").iterdir()) == []


def test_it_holds_the_champion_alone_and_all_code(bento):
    folder, releases, tag = bento
    state = read_json(source(tag) / "releases/state.json")
    champion = releases.state().champions[NAME]
    assert state["models"][NAME]["champion"]["prior_hash"] == champion.prior_hash
    assert state["models"][NAME]["previous"] is None and state["models"][NAME]["candidate"] is None
    assert [path.name for path in (source(tag) / "releases/priors").iterdir()] == [champion.prior_hash]
    frozen = source(tag) / "releases/frozen" / releases.state().frozen
    assert sorted(path.name for path in frozen.iterdir()) == ["clip", "decoder"]
    assert tree_digest(source(tag) / "eclipse") == tree_digest(folder / "package")


def test_its_manifest_tells_where_everything_comes_from(bento):
    folder, releases, tag = bento
    told = describe(tag)
    champion = releases.state().champions[NAME]
    assert told["release"] == "sequence-1" and told["frozen"] == releases.state().frozen
    assert told["models"][NAME]["prior_hash"] == champion.prior_hash
    assert told["models"][NAME]["dataset_digest"] == "d" * 64 and told["models"][NAME]["version"] == "0"
    assert len(told["dvc_lock"]) == 64
    files = read_json(source(tag) / "bundle.json")["files"]
    there = {path.relative_to(source(tag)).as_posix() for path in source(tag).rglob("*") if path.is_file()}
    assert there - set(files) == {"bundle.json", "bentofile.yaml"}
    assert str(folder) not in (source(tag) / "bundle.json").read_text()


def test_the_same_release_is_one_bento_and_other_contents_are_another(bento):
    folder, releases, tag = bento
    before = bento_folder(tag).stat().st_mtime_ns
    assert build_bento(releases, releases.state(), root=folder, decoder="mini") == tag
    assert bento_folder(tag).stat().st_mtime_ns == before
    params = folder / "params.yaml"
    kept = params.read_text()
    params.write_text(kept.replace("steps: 15", "steps: 16"))
    try:
        other = build_bento(releases, releases.state(), root=folder, decoder="mini")
    finally:
        params.write_text(kept)
    assert other.startswith("eclipse-mini:sequence-1-") and bento_folder(tag) != bento_folder(other)
    assert (folder / "bentoml/bentos/eclipse-mini/latest").read_text() == other.partition(":")[2]
    shutil.rmtree(bento_folder(other))
    assert build_bento(releases, releases.state(), root=folder, decoder="mini") == tag


@pytest.mark.parametrize(
    "pattern",
    ["eclipse/cli.py", "params.yaml", "releases/priors/*/config.json", "releases/frozen/*/clip/*.safetensors"],
)
def test_a_bento_that_was_changed_is_refused_by_who_loads_it(bento, pattern, tmp_path, monkeypatch):
    whole = source(bento[2])
    shutil.copytree(whole, tmp_path / "src")
    (file,) = (tmp_path / "src").glob(pattern)
    file.write_bytes(file.read_bytes() + b"\n")
    monkeypatch.setenv("ECLIPSE_RELEASES", str(bento[0] / "releases"))  # a bundle serves its own files or none
    with pytest.raises(CheckpointError, match=f"{file}: not the file that was bundled"):
        resolve(tmp_path / "src")


def test_a_changed_bento_is_not_taken_for_the_release(bento):
    folder, releases, tag = bento
    file = source(tag) / "params.yaml"
    kept = file.read_text()
    file.write_text(kept + "\n")
    try:
        with pytest.raises(CheckpointError, match="params.yaml: not the file that was bundled"):
            build_bento(releases, releases.state(), root=folder, decoder="mini")
    finally:
        file.write_text(kept)


def test_without_a_champion_there_is_nothing_to_bundle(bento, tmp_path):
    releases = Releases(tmp_path)
    with pytest.raises(EclipseError, match="names no champion; promote one"):
        build_bento(releases, releases.state(), root=bento[0], decoder="mini")


def test_a_damaged_prior_is_not_bundled(bento, tmp_path):
    releases = promoted(tmp_path)
    champion = releases.state().champions[NAME]
    (releases.folder / "priors" / champion.prior_hash / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=champion.prior_hash):
        build_bento(releases, replace(releases.state(), sequence=7), root=bento[0], decoder="mini")
    assert not (bento[0] / "bentoml/bentos/eclipse-mini/sequence-7").exists()


def test_what_bentoml_says_is_told_in_one_line(bento, monkeypatch):
    monkeypatch.setattr("eclipse.serve.bundle.SERVICE", "eclipse.serve.service:NoSuchService")
    folder, releases, _ = bento
    with pytest.raises(EclipseError, match=r"eclipse-mini:sequence-8: BentoML did not build it \(.+\)") as error:
        build_bento(releases, replace(releases.state(), sequence=8), root=folder, decoder="mini")
    assert "\n" not in str(error.value)
    assert not (folder / "bentoml/bentos/eclipse-mini/sequence-8").exists()


def test_the_dockerfile_is_fit_to_be_built(bento, tmp_path):
    file = containerfile(bento[2], tmp_path / "image")
    assert file == tmp_path / "image/Dockerfile" and (tmp_path / "image/src/bundle.json").is_file()
    text = file.read_text()
    lines = text.splitlines()
    assert next(line for line in lines if line.startswith("FROM")).startswith("FROM python:3.11")
    assert next(line for line in lines if line.startswith(("USER", "ENTRYPOINT"))) == "USER bentoml"
    for setting in ("BENTOML_DO_NOT_TRACK=True", "DO_NOT_TRACK=true", "BENTOML_HOST=0.0.0.0", "UV_REQUIRE_HASHES=1"):
        name = setting.partition("=")[0]
        assert f"ARG {setting}" in lines and f"ENV {name}=${name}" in lines
    copied = [line.split()[2] for line in lines if line.startswith("COPY")]
    assert copied and all((tmp_path / "image" / name).exists() for name in copied)
    assert str(bento[0]) not in text and "127.0.0.1" not in text


def test_what_the_image_installs_is_locked_with_hashes(bento):
    text = (bento_folder(bento[2]) / "env/python/requirements.txt").read_text()
    assert text == (source(bento[2]) / "requirements.txt").read_text()
    entries = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert all("==" in line and line.endswith("\\") for line in entries)
    assert sum(line.startswith("bentoml==") for line in entries) == 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_bentoml_serves_the_tag_from_its_own_files(bento, tmp_path):
    _, releases, tag = bento
    port = free_port()
    environment = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", "ECLIPSE_RELEASES": str(tmp_path / "nowhere")}
    command = [sys.executable, "-m", "bentoml", "serve", tag, "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True) as server:
        try:
            models = answer(server, f"http://127.0.0.1:{port}/v1/models")
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)
    (model,) = models["data"]
    assert model["id"] == NAME and model["prior_hash"] == releases.state().champions[NAME].prior_hash


def answer(server: subprocess.Popen, url: str, seconds: float = 240) -> dict:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=10) as got:
                return json.load(got)
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"no answer (exit status {server.poll()})")


def test_a_champion_of_another_clip_is_not_bundled(bento, monkeypatch):
    folder, releases, _ = bento
    state = releases.state()
    prior = releases.prior(state.champions[NAME].prior_hash)
    monkeypatch.setattr("eclipse.serve.bundle.read_json", lambda path: _of_another_clip(path, prior))
    with pytest.raises(CheckpointError, match=r"was trained on the CLIP eeeeeeeeeeee, the released one is"):
        build_bento(releases, state, root=folder, decoder="mini")


def _of_another_clip(path: Path, prior: Path) -> dict:
    found = read_json(path)
    return found | {"encoder_hash": "e" * 64} if path.parent == prior else found
