"""The repository as a whole: what is tracked, how large it is, and that it builds and installs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".json", ".lock", ".txt", ".cfg", ".csv", ".j2", ".html", ""}

# Put together from pieces, so that this file does not hold what it looks for.
MACHINE = re.compile("/(" + "|".join(("wo" + "rk", "fa" + "rm", "ro" + "ot", "ho" + "me/[a-z]+")) + ")/")
HOSTS = re.compile(
    "|".join(("py" + r"pi\.org", "python" + r"hosted\.org", "registry\\.np" + r"mjs\.org", r"np" + r"mjs\.com"))
)


def _tracked() -> list[Path]:
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("needle", [MACHINE, HOSTS], ids=["paths of a machine", "hosts of a registry"])
def test_no_tracked_file_names(needle):
    found = []
    for path in _tracked():
        if path.suffix in TEXT and (hit := needle.search(path.read_text(encoding="utf-8", errors="ignore"))):
            found.append(f"{path.relative_to(ROOT)}: {hit[0]}")
    assert not found


def test_needles_find_what_they_are_for():
    assert MACHINE.search("in /wo" + "rk/here")
    assert HOSTS.search("https://py" + "pi.org/simple")


def test_what_is_shipped_stays_small():
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in _tracked()}
    shipped = sum(size for name, size in sizes.items() if name.startswith(("models/", "tests/", "study/")))
    assert shipped < 25e6
    assert sum(sizes.values()) < 40e6


def test_every_locked_package_has_a_hash():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = [at for at, line in enumerate(lines) if re.match(r"^[\w.\[\]-]+==", line)]
    assert len(pinned) > 100
    assert all("--hash=sha256:" in lines[at + 1] for at in pinned)


def test_direct_pins_are_those_of_the_lock():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text().lower().replace("_", "-")
    named = [re.sub(r"\[.*\]", "", item) for item in project["dependencies"]]  # the lock names no extras
    exact = [item.lower().replace("_", "-") for item in named if "==" in item]
    assert exact
    assert all(re.search(rf"^{re.escape(item)} ", lock, re.MULTILINE) for item in exact)


def test_packages_say_what_they_are():
    for init in (ROOT / "eclipse").rglob("__init__.py"):
        assert init.read_text().startswith('"""'), init


@pytest.mark.parametrize("path", ["prefect.yaml", "k8s/base/demo.yaml", ".dvc/config", "LICENSE", "CONTRIBUTING.md"])
def test_top_level_is_whole(path):
    assert (ROOT / path).stat().st_size > 0


def test_the_job_is_restricted():
    pod = yaml.safe_load((ROOT / "k8s/base/demo.yaml").read_text())["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(container["resources"])


def test_ci_runs_the_tests_last():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make test"


@pytest.mark.slow
def test_wheel_holds_the_package_and_its_console_script(tmp_path):
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (entry,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "eclipse = eclipse.cli:main" in file.read(entry).decode()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "eclipse").rglob("*.py")}
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "eclipse").rglob("*.j2")}
    assert modules | templates <= names
    assert not {name for name in names if name.startswith(("tests", "flows", "components"))}
