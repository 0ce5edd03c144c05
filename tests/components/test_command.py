"""``python -m components.pipeline``: what it is given and what it says."""

from __future__ import annotations

import pytest
import yaml

from closure import ROOT
from components import here
from components.command import main
from components.parameters import read_params
from eclipse.config import load_params


def test_a_profile_is_composed_and_overridden():
    params = read_params(ROOT, ROOT / "none.yaml", "mini", ["cluster.parallel=9", "train.steps=7"])
    assert (params.profile, params.cluster.parallel, params.train.steps) == ("mini", 9, 7)
    recorded = load_params(ROOT / "params.yaml", ["cluster.parallel=9", "train.steps=7"])
    assert params.sweep == recorded.sweep and params.data == recorded.data


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--profile", "minni"],
            r"profile 'minni': no conf/profile/minni.yaml; there are kandinsky, karlo",
        ),
        (["--set", "cluster.parralel=2"], "cluster.parralel: unknown parameter; did you mean parallel?"),
        (["--params", "none.yaml"], "none.yaml: no such file"),
        (["--set", "cluster.nodes=2"], "cluster.nodes: a pipeline's task is one pod (got 2)"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, words, said):
    assert main([str(tmp_path / "p.yaml"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and said in line
    assert not (tmp_path / "p.yaml").exists()


def test_it_compiles_to_the_file_that_is_named(tmp_path, capsys):
    file = tmp_path / "new/p.yaml"
    assert main([str(file), "--set", "subjects.points=[]", "--set", "sweep.points=[projection]"]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    ir, platforms = yaml.load_all(file.read_text(), yaml.CSafeLoader)
    assert ir["pipelineInfo"]["name"] == "eclipse-priors" and "kubernetes" in platforms["platforms"]


def test_local_and_submit_exclude_each_other(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--local", "--submit"])
    assert left.value.code == 2


@pytest.mark.parametrize(
    ("threads", "cores", "tasks"), [(None, 8, 1), ("1", 8, 8), ("3", 8, 2), ("16", 8, 1), ("", 2, 1)]
)
def test_tasks_at_once_are_those_that_the_cores_can_hold(monkeypatch, threads, cores, tasks):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert here._at_once() == tasks
