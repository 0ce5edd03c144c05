"""A run's params.yaml."""

from __future__ import annotations

import shutil

import pytest
import yaml

from closure import ROOT
from eclipse.config import load_params
from flows.errors import BadInputError
from flows.parameters import compose


@pytest.fixture
def folder(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    return tmp_path


def test_nothing_asked_changes_nothing(folder):
    before = (folder / "params.yaml").read_bytes()
    assert compose(folder) is False
    assert (folder / "params.yaml").read_bytes() == before


def test_a_profile_is_what_dvc_composes(folder):
    assert compose(folder, profile="mini") is False, "params.yaml is the profile mini"
    assert compose(folder, profile="twemoji") is True
    params = load_params(folder / "params.yaml")
    assert (params.profile, params.data.source, params.select.metric) == ("twemoji", "folder", "r1")


def test_lam_replaces_the_sweeps_and_keeps_baselines_and_spelling(folder):
    compose(folder, lam=[0.3, 1.0, 0], seeds=[4])
    params = load_params(folder / "params.yaml")
    assert params.sweep.points == ("projection", "diffusion", "eclipse-0.3", "eclipse-1.0", "eclipse-0")
    assert params.subjects.points[0] == params.subjects.text_only
    swept = [f"lambda-{lam}{form}" for form in ("", "-edges") for lam in ("0.3", "1", "0")]
    assert list(params.subjects.points[1:]) == swept
    assert params.sweep.seeds == params.subjects.seeds == (4,)


def test_overrides_are_yaml_values_applied_last(folder):
    compose(folder, lam=[0.3], overrides=["train.steps=7", "sweep.points=[eclipse-0.9]", "train.limit=null"])
    params = load_params(folder / "params.yaml")
    assert (params.train.steps, params.sweep.points, params.train.limit) == (7, ("eclipse-0.9",), None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"profile": "moni"},
            "profile 'moni': no conf/profile/moni.yaml; there are kandinsky, karlo",
        ),
        ({"overrides": ["train.stops=1"]}, "train.stops: unknown parameter; did you mean steps?"),
        ({"overrides": ["train.steps=many"]}, "train.steps: .*'many'"),
        ({"overrides": ["profile.x=1"]}, "profile is a value, not a section"),
        ({"overrides": ["train.steps=[1"]}, "not a YAML value"),
    ],
)
def test_bad_input_names_the_key_and_leaves_the_file(folder, asked, message):
    before = yaml.safe_load((folder / "params.yaml").read_text())
    with pytest.raises(BadInputError, match=message):
        compose(folder, **asked)
    assert yaml.safe_load((folder / "params.yaml").read_text()) == before
