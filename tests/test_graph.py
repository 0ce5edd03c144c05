"""The graph of record against the code: dependencies, flags, parameters; and what DVC really reruns."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import closure
from eclipse.config import Params, load_params
from eclipse.stages.registry import STAGES, describe

ROOT = closure.ROOT
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NAMES = list(GRAPH)

# Sections read in a stage's import closure by a function that the stage never calls: measuring what is shipped.
# And the two selections share a module.
NOT_REACHED = {"frozen": {"evaluate"}, "select": {"subjects"}, "select-subjects": {"sweep"}}

# Outputs that no flag names, because they are written beside one that a flag does name.
BESIDE = {"interpolate": {"artifacts/subjects/interpolation/grid.json"}}

STUB = """
import pathlib, sys
flags = dict(zip(sys.argv[2::2], sys.argv[3::2]))
for name in ("--out", "--metrics"):
    if name in flags:
        path = pathlib.Path(flags[name])
        whole = name == "--out" and not path.suffix
        (path if whole else path.parent).mkdir(parents=True, exist_ok=True)
        for made in [path / "made.json"] if whole else {path, path.with_suffix(".json")}:
            made.write_text('{"x": 1}')
for name in sys.argv[2::2]:
    if name not in ("--out", "--metrics", "--checkpoints", "--point", "--seed", "--steps"):
        assert pathlib.Path(flags[name]).exists(), (name, flags)
if "--out" in flags and sys.argv[1] == "report":
    (pathlib.Path(flags["--out"]) / "plots").mkdir()
pathlib.Path("ran.txt").open("a").write(" ".join(sys.argv[1:]) + "\\n")
"""


def _command(stage: str) -> tuple[str, dict[str, str]]:
    words = GRAPH[stage]["cmd"].split()
    assert words[:3] == ["python", "-m", "eclipse"]
    return words[3], dict(zip(words[4::2], words[5::2], strict=True))


def _names(items: list) -> list[str]:
    return [next(iter(item)) if isinstance(item, dict) else item for item in items]


def _sections_read(path: Path) -> set[str]:
    """Sections that the functions of a module take from a ``Params``; dumping it reads all but what it excludes."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef):
            continue
        arguments = [*node.args.args, *node.args.kwonlyargs]
        names = {item.arg for item in arguments if item.annotation and ast.unparse(item.annotation) == "Params"}
        for inner in ast.walk(node):
            if isinstance(inner, ast.Attribute) and ast.unparse(inner.value) in names:
                found.add(inner.attr)
            if isinstance(inner, ast.Call) and ast.unparse(inner.func) in {f"{name}.model_dump" for name in names}:
                left_out = [ast.literal_eval(word.value) for word in inner.keywords if word.arg == "exclude"]
                found |= set(Params.model_fields).difference(*left_out)
    return found & set(Params.model_fields)


class TestClosure:
    def _tree(self, root: Path, files: dict[str, str]) -> None:
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

    def test_follows_every_kind_of_runtime_import(self, tmp_path):
        self._tree(
            tmp_path,
            {
                "eclipse/__init__.py": "",
                "eclipse/a/__init__.py": "from eclipse.z import value",
                "eclipse/z.py": "value = 1",
                "eclipse/a/start.py": "import eclipse.b\nfrom . import near\ndef f():\n    from eclipse.c import late",
                "eclipse/a/near.py": "",
                "eclipse/b.py": "",
                "eclipse/c.py": "import torch",
                "eclipse/unused.py": "",
            },
        )
        names = {path.as_posix() for path in closure.closure("eclipse.a.start", tmp_path)}
        assert names == {
            f"eclipse/{name}.py" for name in ("__init__", "a/__init__", "z", "a/start", "a/near", "b", "c")
        }

    def test_leaves_out_imports_for_type_checkers(self, tmp_path):
        text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import eclipse.b\nelse:\n    import eclipse.c"
        self._tree(tmp_path, {"eclipse/a.py": text, "eclipse/b.py": "", "eclipse/c.py": ""})
        assert [path.name for path in closure.closure("eclipse.a", tmp_path)] == ["a.py", "c.py"]

    def test_survives_a_cycle(self, tmp_path):
        self._tree(tmp_path, {"eclipse/a.py": "import eclipse.b", "eclipse/b.py": "import eclipse.a"})
        assert len(closure.closure("eclipse.a", tmp_path)) == 2

    def test_writes_only_between_the_markers(self, tmp_path):
        self._tree(
            tmp_path, {"eclipse/a.py": "", "sub/dvc.yaml": "x\n  # code of eclipse.a\n  - old\n  # end of code\ny\n"}
        )
        text = closure.with_code(tmp_path / "sub/dvc.yaml", tmp_path)
        assert text == "x\n  # code of eclipse.a\n  - eclipse/a.py\n  # end of code\ny\n"


class TestAgainstTheCode:
    @pytest.mark.parametrize("graph", [name for name in closure.GRAPHS if (ROOT / name).is_file()])
    def test_dependencies_are_the_import_closure(self, graph):
        assert closure.with_code(ROOT / graph) == (ROOT / graph).read_text(), "run `make deps`"

    @pytest.mark.parametrize("name", NAMES)
    def test_every_stage_has_a_code_block_of_its_own_module(self, name):
        stage, _ = _command(name)
        module = STAGES[stage].partition(":")[0]
        code = {path.as_posix() for path in closure.closure(module)}
        assert code
        assert code <= set(GRAPH[name]["deps"])

    @pytest.mark.parametrize("name", NAMES)
    def test_flags_are_those_of_the_function(self, name):
        stage, given = _command(name)
        flags = {f"--{flag.name.replace('_', '-')}": flag for flag in describe(stage).flags}
        assert set(given) <= set(flags)
        assert {flag for flag, what in flags.items() if what.required} <= set(given)

    @pytest.mark.parametrize("name", NAMES)
    def test_inputs_are_dependencies_and_outputs_are_outputs(self, name):
        stage, given = _command(name)
        flags = {f"--{flag.name.replace('_', '-')}": flag for flag in describe(stage).flags}
        inputs = {path for flag, path in given.items() if flags[flag].is_input}
        outputs = {path for flag, path in given.items() if flags[flag].is_output and flag != "--checkpoints"}
        assert inputs <= set(GRAPH[name]["deps"])
        assert outputs | BESIDE.get(name, set()) == set(
            _names(GRAPH[name]["outs"]) + _names(GRAPH[name].get("metrics", []))
        )

    @pytest.mark.parametrize("name", NAMES)
    def test_parameters_are_the_sections_that_the_stage_reads(self, name):
        stage, _ = _command(name)
        code = closure.closure(STAGES[stage].partition(":")[0])
        used = set().union(*(_sections_read(ROOT / path) for path in code if path.suffix == ".py"))
        assert used - NOT_REACHED.get(name, set()) == set(GRAPH[name]["params"])

    def test_metrics_are_kept_by_git(self):
        for stage in GRAPH.values():
            for metric in stage.get("metrics", []):
                ((_, options),) = metric.items()
                assert options["cache"] is False

    def test_sweep_comes_from_the_parameters(self):
        matrix = {"point": "${sweep.points}", "seed": "${sweep.seeds}"}
        assert GRAPH["train"]["matrix"] == matrix == GRAPH["evaluate"]["matrix"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A git repository with the graph and the code, in which every stage only leaves a mark."""
    root = tmp_path_factory.mktemp("graph")
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, root)
    for name in ("eclipse", "conf", "docs/examples"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", root / ".dvc")
    (root / "eclipse/__main__.py").write_text(STUB)
    (root / "models/mini").mkdir(parents=True)
    (root / "models/mini/weights").write_text("w")
    (root / "study/results").mkdir(parents=True)
    (root / "study/results/results.json").write_text("[]")
    _run(root, "git", "init", "-q")
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["sweep"] = {"points": ["projection", "eclipse-0.1"], "seeds": [0]}
    params["annotate"]["by"] = []
    params["subjects"] |= {"points": [], "results": "metrics/subjects"}
    (root / "metrics/subjects/evaluate").mkdir(parents=True)
    (root / "metrics/subjects/evaluate/kept").write_text("git keeps no empty folder")
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    _commit(root)
    return root


def _run(root: Path, *words: str) -> str:
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = subprocess.run(words, cwd=root, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _commit(root: Path) -> None:
    _run(root, "git", "add", "-A")
    _run(root, "git", "commit", "-qm", "state")


def _dvc(root: Path, *words: str) -> list[str]:
    """Run DVC; returns the stages that ran: the words of their command lines up to the first path."""
    (root / "ran.txt").unlink(missing_ok=True)
    _run(root, sys.executable, "-m", "dvc", *words)
    if not (root / "ran.txt").exists():
        return []
    lines = [line.split() for line in (root / "ran.txt").read_text().splitlines()]
    return sorted(f"{line[0]}@{line[line.index('--point') + 1]}" if "--point" in line else line[0] for line in lines)


@pytest.mark.slow
class TestWithDvc:
    def test_runs_whole_then_only_what_is_new(self, copy):
        first = _dvc(copy, "repro", "-q")
        each = [f"{stage}@{point}" for stage in ("evaluate", "train") for point in ("projection", "eclipse-0.1")]
        rest = ["dataset", "frozen", "embed", "evaluate@text", "evaluate@truth", "select", "report"]
        assert first == sorted(each + rest)
        assert _dvc(copy, "repro", "-q") == []

        params = yaml.safe_load((copy / "params.yaml").read_text())
        params["sweep"]["points"].append("eclipse-0.3")
        (copy / "params.yaml").write_text(yaml.safe_dump(params))
        assert _dvc(copy, "repro", "-q") == ["evaluate@eclipse-0.3", "report", "select", "train@eclipse-0.3"]

    def test_subjects_add_their_half_and_a_new_point_reruns_only_what_is_new(self, copy):
        _dvc(copy, "repro", "-q")
        before = (copy / "params.yaml").read_text()
        params = yaml.safe_load(before)
        params["annotate"]["by"] = ["world"]
        params["subjects"] |= {"points": ["eclipse-0.2", "lambda-0.2"], "results": "artifacts/subjects"}
        (copy / "params.yaml").write_text(yaml.safe_dump(params))
        each = [
            f"{stage}@{point}" for stage in ("evaluate-subjects", "train") for point in params["subjects"]["points"]
        ]
        references = [f"evaluate-subjects@{point}" for point in ("truth", "subject", "mean")]
        rest = ["annotate", "embed", "select-subjects", "interpolate", "report"]
        assert _dvc(copy, "repro", "-q") == sorted(each + references + rest)

        params["subjects"]["points"].append("lambda-0.5-edges")
        (copy / "params.yaml").write_text(yaml.safe_dump(params))
        new = ["evaluate-subjects@lambda-0.5-edges", "report", "select-subjects", "train@lambda-0.5-edges"]
        assert _dvc(copy, "repro", "-q") == new  # the same prior is selected, so nothing is interpolated again
        (copy / "params.yaml").write_text(before)

    def test_a_parameter_reruns_only_its_readers(self, copy):
        _dvc(copy, "repro", "-q")
        params = yaml.safe_load((copy / "params.yaml").read_text())
        params["select"]["tie"] = 0.02
        (copy / "params.yaml").write_text(yaml.safe_dump(params))
        assert _dvc(copy, "repro", "-q") == ["report", "select"]  # the report prints every parameter

    def test_an_experiment_composes_the_parameters(self, copy):
        _dvc(copy, "repro", "-q")
        _commit(copy)
        _dvc(copy, "exp", "run", "-q", "-n", "short", "-S", "train.steps=7", "-S", "sweep.seeds=[3]", "train")
        params = load_params(copy / "params.yaml")
        assert (params.train.steps, params.sweep.seeds) == (7, (3,))
        assert params.train.batch_size == load_params(ROOT / "params.yaml").train.batch_size
