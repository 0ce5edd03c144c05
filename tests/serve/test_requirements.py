import subprocess
import sys

import pytest
from made_selected import ROOT

from eclipse.errors import DataError
from eclipse.serve.requirements import NOT_SERVED, served_requirements

LOCK = """\
# made by hand
Able-Lib==1.0 \\
    --hash=sha256:aa
    # via project (pyproject.toml)
baker==2.0 ; sys_platform == 'linux' \\
    --hash=sha256:bb \\
    --hash=sha256:bc
    # via
    #   able-lib
    #   mlflow
charlie==3.0 \\
    --hash=sha256:cc
    # via mlflow
dog==4.0 \\
    --hash=sha256:dd
    # via baker
mlflow==5.0 \\
    --hash=sha256:ee
    # via project (pyproject.toml)
"""


def files(folder, dependencies):
    listed = ", ".join(f'"{item}"' for item in dependencies)
    (folder / "pyproject.toml").write_text(f"[project]\ndependencies = [{listed}]\n")
    (folder / "requirements.lock").write_text(LOCK)
    return folder / "pyproject.toml", folder / "requirements.lock"


def test_what_the_served_dependencies_lead_to_is_kept_with_its_hashes(tmp_path):
    text = served_requirements(*files(tmp_path, ["able_lib>=1", "mlflow==5.0"]))
    kept = [line for line in text.splitlines() if not line.startswith(" ")]
    assert kept == ["Able-Lib==1.0 \\", "baker==2.0 ; sys_platform == 'linux' \\", "dog==4.0 \\"]
    assert "    --hash=sha256:bc\n" in text and "#" not in text


def test_a_dependency_that_is_not_locked_is_told(tmp_path):
    with pytest.raises(DataError, match="has no zebra.*make lock"):
        served_requirements(*files(tmp_path, ["able-lib", "zebra"]))


def test_outside_a_repository_it_is_told(tmp_path):
    with pytest.raises(DataError, match=r"requirements\.lock"):
        served_requirements(ROOT / "pyproject.toml", tmp_path / "requirements.lock")


@pytest.mark.slow
def test_the_service_imports_nothing_that_the_bundle_leaves_out(tmp_path):
    blocked = {name.replace("-", "_") for name in NOT_SERVED} | {"schemathesis", "openai", "playwright", "spacy"}
    script = (
        f"import sys, pkgutil, importlib\nfor name in {sorted(blocked)!r}: sys.modules[name] = None\n"
        "import eclipse.serve\n"
        "for module in pkgutil.walk_packages(eclipse.serve.__path__, 'eclipse.serve.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
