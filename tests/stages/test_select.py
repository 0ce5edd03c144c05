import numpy as np
import pytest

from eclipse.config.load import parse_params
from eclipse.errors import ConfigError, DataError
from eclipse.files import read_json, write_json
from eclipse.stages import select

POINTS = ("projection", "diffusion", "eclipse-0.2", "eclipse-1.0")


def params(**rule):
    return parse_params(
        {
            "data": {}, "frozen": {}, "store": {}, "prior": {}, "train": {"steps": 1, "batch_size": 2},
            "sweep": {"points": list(POINTS), "seeds": [0, 1]}, "evaluate": {}, "select": rule, "tracking": {},
        }
    )  # fmt: skip


@pytest.fixture
def sweep(tmp_path):
    """Writes evaluations (both seeds: val metric, val_seen cosine) and priors; returns a function that selects."""

    def write(point, values, cosine, *, test=0.5, extra=None):
        for seed, value in enumerate(values):
            entry = {"low": 0.0, "high": 1.0, "n": 10}
            splits = {
                "val_held_out": {"composition": {"value": value, **entry}, "fid": {"value": 3.0, **entry}},
                "val_seen": {"composition": {"value": value, **entry}, "cosine": {"value": cosine, **entry}},
                "test_held_out": {"composition": {"value": test, **entry}, "cosine": {"value": test, **entry}},
            }
            write_json(
                tmp_path / "m" / f"{point}-{seed}.json", {"point": point, "seed": seed, "splits": splits, "seconds": {}}
            )
            folder = tmp_path / "priors" / f"{point}-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "config.json", {"layers": seed})
            (folder / "diffusion_pytorch_model.safetensors").write_bytes(f"{point}-{seed}".encode())
            write_json(
                folder / "training.json",
                {
                    "point": point,
                    "seed": seed,
                    "prior_hash": f"h-{point}-{seed}",
                    "store_hash": "S1",
                    "temperature": 0.01,
                },
            )

    def run(**rule):
        return select.run(
            params(**rule), evaluations=tmp_path / "m", priors=tmp_path / "priors", out=tmp_path / "out",
            metrics=tmp_path / "select.json",
        )  # fmt: skip

    run.write, run.path = write, tmp_path
    write("projection", (0.50, 0.52), 0.95)
    write("diffusion", (0.90, 0.90), 0.99)
    write("eclipse-0.2", (0.60, 0.58), 0.94)
    write("eclipse-1.0", (0.70, 0.70), 0.80)
    return run


def verdicts(selection):
    return {c["point"]: c["verdict"] for c in selection["candidates"]}


def test_best_metric_among_points_of_sound_cosine_wins_and_the_baseline_cannot(sweep):
    found = sweep()
    assert (found["point"], found["seed"]) == ("eclipse-0.2", 0)
    assert verdicts(found) == {
        "projection": "composition below 0.5800",
        "diffusion": "baseline, not selectable",
        "eclipse-0.2": "chosen",
        "eclipse-1.0": "out: cosine below 0.9300",
    }


def test_ties_go_to_the_smaller_lambda(sweep):
    assert sweep(tie=0.08)["point"] == "projection"
    assert sweep(tie=0.08, cosine_margin=0.2)["point"] == "eclipse-1.0"  # 0.70 leads by more than the tie
    assert sweep(tie=0.11, cosine_margin=0.2)["point"] == "eclipse-0.2"
    assert "tie, but λ above 0.2" in verdicts(sweep(tie=0.11, cosine_margin=0.2))["eclipse-1.0"]


def test_test_splits_have_no_say(sweep):
    before = sweep()
    for point in POINTS:
        for seed in (0, 1):
            path = sweep.path / "m" / f"{point}-{seed}.json"
            record = read_json(path)
            for split in [s for s in record["splits"] if s.startswith("test")]:
                record["splits"][split]["composition"]["value"] = float(np.random.default_rng(seed).random())
                record["splits"][split]["cosine"]["value"] = -1.0
            write_json(path, record)
    assert sweep() == before
    assert "test_" not in (sweep.path / "out" / "README.md").read_text()


def test_the_chosen_prior_is_copied_whole_with_its_card_and_lineage(sweep):
    found = sweep()
    out = sweep.path / "out"
    assert (out / "diffusion_pytorch_model.safetensors").read_bytes() == b"eclipse-0.2-0"
    assert read_json(out / "config.json") == {"layers": 0}
    assert read_json(out / "selection.json") == found == read_json(sweep.path / "select.json")
    card = (out / "README.md").read_text()
    for piece in ("license: apache-2.0", "# eclipse-0.2-0", found["rule"], "h-eclipse-0.2-0", "S1",
                  "temperature | 0.01", "0.600 [0.000, 1.000] (n = 10)", "out: cosine below"):  # fmt: skip
        assert piece in card


def test_equal_seeds_give_the_smaller(sweep):
    sweep.write("eclipse-0.2", (0.6, 0.6), 0.94)
    assert sweep()["seed"] == 0
    sweep.write("eclipse-0.2", (0.6, 0.61), 0.94)
    assert sweep()["seed"] == 1


def test_half_a_sweep_is_no_basis_for_a_choice(sweep):
    (sweep.path / "m" / "eclipse-1.0-1.json").unlink()
    with pytest.raises(DataError, match="eclipse-1.0-1.json"):
        sweep()
    assert not (sweep.path / "out").exists()


def test_points_outside_the_sweep_are_ignored(sweep):
    sweep.write("eclipse-0.9", (0.99, 0.99), 0.99)
    assert sweep()["point"] == "eclipse-0.2"


def test_a_metric_that_cannot_be_maximised_or_was_not_measured_is_refused(sweep):
    with pytest.raises(ConfigError, match="less is better"):
        sweep(metric="fid")
    with pytest.raises(ConfigError, match="r1: not on val_held_out.*composition"):
        sweep(metric="r1")


def test_data_that_holds_nothing_out_is_judged_on_seen_captions_and_says_so(sweep):
    for path in (sweep.path / "m").glob("*.json"):
        record = read_json(path)
        del record["splits"]["val_held_out"]
        write_json(path, record)
    found = sweep()
    assert found["split"] == "val_seen" and "holds nothing out" in found["rule"]


def test_a_missing_weight_file_is_named_and_nothing_is_left(sweep):
    (sweep.path / "priors" / "eclipse-0.2-0" / "config.json").unlink()
    with pytest.raises(DataError, match="config.json"):
        sweep()
    assert not (sweep.path / "out").exists() and not (sweep.path / "select.json").exists()
