"""Reading and overriding parameters: each violation is one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from eclipse.config import load_params, parse_params
from eclipse.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def raw():
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def test_overrides_take_yaml_values():
    params = load_params(ROOT / "params.yaml", ["train.steps=7", "sweep.seeds=[4, 5]", "train.temperature=0.07"])
    assert (params.train.steps, params.sweep.seeds, params.train.temperature) == (7, (4, 5), 0.07)


def test_a_misspelt_key_is_named_with_the_right_one(raw):
    raw["train"]["batchsize"] = 3
    with pytest.raises(ConfigError, match=r"train\.batchsize: unknown parameter; did you mean batch_size\?"):
        parse_params(raw)


def test_a_misspelt_section_of_an_override_is_named():
    with pytest.raises(ConfigError, match=r"trian: unknown parameter; did you mean train\?"):
        load_params(ROOT / "params.yaml", ["trian.steps=7"])


def test_all_violations_are_told_at_once(raw):
    raw["train"]["lr"] = -1
    raw["store"]["tokens"] = "int4"
    with pytest.raises(ConfigError) as error:
        parse_params(raw)
    assert "train.lr" in str(error.value)
    assert "store.tokens" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("item", ["train.steps", "train.steps.deep=1"])
def test_an_override_that_is_no_assignment_is_refused(item):
    with pytest.raises(ConfigError, match="--set"):
        load_params(ROOT / "params.yaml", [item])


def test_an_override_fills_a_section_that_is_null(tmp_path, raw):
    raw["frozen"]["hub"] = None
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw))
    items = ["frozen.hub.encoder.repo=a/b", "frozen.hub.decoder.repo=c/d", f"frozen.hub.encoder.revision={'0a' * 20}"]
    hub = load_params(path, items).frozen.hub
    assert hub is not None and (hub.encoder.repo, hub.decoder.repo) == ("a/b", "c/d")
    assert hub.encoder.revision == "0a" * 20
    with pytest.raises(ConfigError, match=r"frozen\.hub\.decoder: "):
        load_params(path, items[:1])


def test_a_missing_section_is_named(raw):
    del raw["prior"]
    with pytest.raises(ConfigError, match="prior"):
        parse_params(raw)


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2", "\tx: 1"])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        load_params(path)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="--params"):
        load_params(tmp_path / "params.yaml")


def test_own_data_needs_a_path(raw):
    raw["data"] |= {"source": "folder", "path": None}
    with pytest.raises(ConfigError, match=r"data\.path is needed"):
        parse_params(raw)


@pytest.mark.parametrize("points", [["eclipse"], ["eclipse-x"], ["projection", "projection"], ["lambda-0.1"]])
def test_sweep_points_are_checked(raw, points):
    raw["sweep"]["points"] = points
    with pytest.raises(ConfigError, match=r"sweep\.points"):
        parse_params(raw)


def test_parameters_do_not_change(raw):
    with pytest.raises(ValueError, match="frozen"):
        parse_params(raw).train.steps = 3


@pytest.mark.parametrize("section", ["sweep", "subjects"])
def test_names_are_every_point_with_every_seed(raw, section):
    raw[section] |= {"points": ["eclipse-0.2", "eclipse-0.5"], "seeds": [0, 3]}
    names = ("eclipse-0.2-0", "eclipse-0.2-3", "eclipse-0.5-0", "eclipse-0.5-3")
    assert getattr(parse_params(raw), section).names == names
    raw["subjects"]["points"] = []
    assert parse_params(raw).subjects.names == ()


@pytest.mark.parametrize("point", ["lambda-0", "lambda-0.25", "lambda-1.0-edges", "eclipse-0.7"])
def test_points_with_subjects(raw, point):
    raw["subjects"] |= {"points": [point], "text_only": point}
    assert parse_params(raw).subjects.points == (point,)


@pytest.mark.parametrize(
    "point", ["projection", "diffusion", "lambda", "lambda-x", "lambda-0.2-edge", "eclipse-0.2-edges"]
)
def test_other_points_with_subjects_are_refused_by_name(raw, point):
    raw["subjects"]["points"] = ["eclipse-0.2", point]
    with pytest.raises(ConfigError, match=rf"subjects: '{point}' is no point; write lambda-λ"):
        parse_params(raw)


def test_points_with_subjects_are_distinct_and_hold_the_text_only_baseline(raw):
    raw["subjects"]["points"] = ["eclipse-0.2", "lambda-0", "lambda-0"]
    with pytest.raises(ConfigError, match="subjects: a point is listed twice"):
        parse_params(raw)
    raw["subjects"]["points"] = ["lambda-0"]
    with pytest.raises(ConfigError, match=r"subjects: text_only: 'eclipse-0\.2' is not among points; add it"):
        parse_params(raw)
    raw["subjects"]["points"] = []
    assert parse_params(raw).subjects.text_only == "eclipse-0.2"


def test_points_with_subjects_need_somebody_who_annotates(raw):
    raw["annotate"]["by"] = []
    with pytest.raises(ConfigError, match=r"params: subjects\.points need subjects: say in annotate\.by") as error:
        parse_params(raw)
    assert len(str(error.value)) < 200  # not the whole file
    raw["subjects"]["points"] = []
    assert parse_params(raw).annotate.by == ()


@pytest.mark.parametrize("by", [["nobody"], ["world", "models"]])
def test_annotators_are_known_and_one_at_most(raw, by):
    raw["annotate"]["by"] = by
    with pytest.raises(ConfigError, match=r"annotate\.by"):
        parse_params(raw)


def test_a_value_out_of_bounds_is_told_with_what_was_given(raw):
    raw["train"]["subject_batch_size"] = 1
    with pytest.raises(ConfigError, match=r"train\.subject_batch_size: .*greater than or equal to 2 \(got 1\)"):
        parse_params(raw)
