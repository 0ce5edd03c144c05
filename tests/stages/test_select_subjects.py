import pytest

from eclipse.config.load import parse_params
from eclipse.errors import ConfigError, DataError
from eclipse.files import read_json, write_json
from eclipse.stages import select

POINTS = ("eclipse-0.2", "lambda-0", "lambda-0.2", "lambda-0.2-edges", "lambda-0.5-edges")


def params(points=POINTS, **rule):
    return parse_params(
        {
            "data": {}, "frozen": {}, "store": {}, "prior": {}, "train": {"steps": 9, "batch_size": 2},
            "sweep": {}, "evaluate": {}, "select": rule, "tracking": {}, "annotate": {"by": ["world"]},
            "subjects": {"points": list(points), "seeds": [0, 1], "text_only": "eclipse-0.2"},
        }
    )  # fmt: skip


@pytest.fixture
def sweep(tmp_path):
    """Writes evaluations (``both`` on val_held_out, cosine on val_seen) and priors; returns a function that selects."""

    def write(point, both, cosine, metric="both"):
        for seed, value in enumerate((both, both + 0.002)):
            entry = {"low": 0.0, "high": 1.0, "n": 10}
            splits = {
                "val_held_out": {metric: {"value": value, **entry}, "cosine": {"value": value, **entry}},
                "val_seen": {"cosine": {"value": cosine, **entry}},
                "test_held_out": {"both": {"value": 1 - both, **entry}},
            }
            record = {"point": point, "seed": seed, "splits": splits, "seconds": {}}
            write_json(tmp_path / "m" / f"{point}-{seed}.json", record)
            folder = tmp_path / "priors" / f"{point}-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.json").write_text("{}")
            (folder / "diffusion_pytorch_model.safetensors").write_bytes(f"{point}-{seed}".encode())
            lineage = {"point": point, "seed": seed, "prior_hash": "h", "train_params": {"steps": 77}}
            write_json(folder / "training.json", lineage)

    def run(points=POINTS, **rule):
        return select.subjects(
            params(points, **rule), evaluations=tmp_path / "m", priors=tmp_path / "priors", out=tmp_path / "out",
            metrics=tmp_path / "select.json",
        )  # fmt: skip

    run.write, run.path = write, tmp_path
    write("eclipse-0.2", 0.95, 0.99)
    write("lambda-0", 0.695, 0.90)
    write("lambda-0.2", 0.70, 0.90)
    write("lambda-0.2-edges", 0.60, 0.89)
    write("lambda-0.5-edges", 0.99, 0.80)
    return run


def verdicts(selection):
    return {c["point"]: c["verdict"] for c in selection["candidates"]}


def test_the_text_only_baseline_is_a_yardstick_and_the_rule_is_the_main_ones(sweep):
    found = sweep()
    assert (found["point"], found["seed"], found["metric"], found["split"]) == ("lambda-0", 1, "both", "val_held_out")
    assert verdicts(found) == {
        "eclipse-0.2": "baseline, not selectable",
        "lambda-0": "chosen",
        "lambda-0.2": "tie, but λ above 0",
        "lambda-0.2-edges": "both below 0.6910",
        "lambda-0.5-edges": "out: cosine below 0.8800",
    }
    assert sweep(tie=0.001)["point"] == "lambda-0.2"


def test_ties_go_to_a_prior_that_takes_edges_even_at_a_larger_lambda(sweep):
    sweep.write("lambda-0.2-edges", 0.693, 0.89)
    found = sweep()
    assert found["point"] == "lambda-0.2-edges"
    assert verdicts(found)["lambda-0"] == verdicts(found)["lambda-0.2"] == "tie, but takes no edges"
    sweep.write("lambda-0.5-edges", 0.70, 0.89)
    assert verdicts(sweep())["lambda-0.5-edges"] == "tie, but λ above 0.2"


def test_what_is_written_says_what_it_is(sweep):
    found = sweep()
    out = sweep.path / "out"
    assert (out / "diffusion_pytorch_model.safetensors").read_bytes() == b"lambda-0-1"
    assert read_json(out / "selection.json") == found == read_json(sweep.path / "select.json")
    assert "takes edges wins" in found["rule"] and "text-only baseline" in found["rule"]
    card = (out / "README.md").read_text()
    for piece in ("# lambda-0-1", "lambda-eclipse", "λ-ECLIPSE", "trained without edge maps", "| steps | 77 |"):
        assert piece in card
    assert found["rule"] in card and "test_held_out" not in card


def test_without_an_oracle_the_image_cosine_decides_and_the_rule_says_so(sweep):
    for point in POINTS:
        sweep.write(point, 0.5 + 0.1 * POINTS.index(point), 0.9, metric="clip_t")
    found = sweep()
    assert (found["point"], found["metric"]) == ("lambda-0.5-edges", "cosine")
    assert found["rule"].startswith("Maximise cosine on val_held_out")


def test_half_a_sweep_or_one_without_subjects_is_refused(sweep):
    with pytest.raises(ConfigError, match=r"subjects\.points: nothing to select from"):
        sweep(points=["eclipse-0.2"])
    (sweep.path / "m" / "lambda-0.2-1.json").unlink()
    with pytest.raises(DataError, match=r"lambda-0\.2-1\.json"):
        sweep()
    assert not (sweep.path / "out").exists()
