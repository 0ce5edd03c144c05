import numpy as np
import pyarrow.parquet as pq
import pytest
from made_subjects import COUNT, make_data, make_frozen, tiny_params, write_dataset

from eclipse.data.records import SPLITS
from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.evaluate.subject_summary import collect_subjects, format_subject_table
from eclipse.files import read_json, write_json
from eclipse.models.checkpoint import save_prior
from eclipse.models.prior import EclipsePrior
from eclipse.stages import evaluate_subjects

KINDS = {"lambda-0.2": 4, "lambda-0.2-edges": 4, "eclipse-0.2": 3}


def save(root, point, seed=0, width=16, tokens=None):
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8}
    folder = root / "priors" / f"{point}-{seed}"
    save_prior(EclipsePrior(width, 16, additional_embeddings=tokens or KINDS[point], **sizes), folder)
    write_json(folder / "training.json", {"point": point, "seed": seed})
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Random frozen models, an annotated small world and its store, and an untrained prior of each kind."""
    root = tmp_path_factory.mktemp("subjects")
    make_frozen(root / "frozen")
    make_data(root, root / "frozen", COUNT)
    for point in KINDS:
        save(root, point)
    return root


def run(root, point, *, seed=0, to=None, settings=None, **paths):
    to = to or root
    trained = {"mean": "eclipse-0.2", "truth": None, "subject": None}.get(point, point)
    given = {"store": root / "store", "frozen": root / "frozen", "dataset": root / "dataset",
             "prior": root / "priors" / f"{trained}-{seed}" if trained else None, **paths}  # fmt: skip
    return evaluate_subjects.run(
        settings or tiny_params(), **given, out=to / "d" / f"{point}-{seed}", metrics=to / "m" / f"{point}-{seed}.json",
        point=point, seed=seed,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(made):
    return {point: run(made, point) for point in ("truth", "subject", "mean", *KINDS)}


def test_every_point_has_its_groups_and_metrics(made, found):
    splits = {"val_seen", "val_held_out", "test_seen", "test_held_out"}
    always = {"cosine", "clip_i", "clip_t", "edge_f1", "concept", "rest", "both", "ccd_concept", "ccd_composition"}
    for point, summary in found.items():
        groups = set(summary["splits"])
        assert splits <= groups and ("test_held_out:edges" in groups) == (point == "lambda-0.2-edges")
        numbers = [g for g in groups if g.removeprefix("test_held_out:").isdigit()]
        assert len(numbers) > 1
        assert sum(summary["splits"][g]["cosine"]["n"] for g in numbers) == COUNT["test_held_out"]
        held_out = summary["splits"]["test_held_out"]
        assert always <= set(held_out)
        assert (held_out["cosine"]["n"], held_out["both"]["n"]) == (7, 5)
        assert set(summary["splits"]["val_seen"]) == set(summary["splits"]["test_seen"]) == {"cosine"}
        assert read_json(made / "m" / f"{point}-0.json") == summary
    assert found["truth"]["splits"]["test_held_out"]["cosine"]["value"] == pytest.approx(1)
    assert found["lambda-0.2"]["seconds"]["prior_per_caption"] > 0 == found["subject"]["seconds"]["prior_per_caption"]


def test_what_is_written_fits_together(made, found):
    folder = made / "d" / "lambda-0.2-edges-0"
    table = pq.read_table(folder / "per_prompt.parquet").to_pandas()
    assert sorted(set(table.split)) == sorted([*COUNT.keys() - {"train"}, "test_held_out:edges"])
    for group in ("val_held_out", "test_held_out", "test_held_out:edges"):
        rows = table[table.split == group]
        images = np.load(folder / "images" / f"{group.replace(':', '_')}.npy")
        assert images.shape == (min(5, len(rows)), 64, 64, 3) and images.dtype == np.uint8
        assert rows.both.notna().sum() == len(images)
        figure = found["lambda-0.2-edges"]["splits"][group]["concept"]
        assert rows.concept.mean() == pytest.approx(figure["value"])
    assert not (folder / "images" / "test_seen.npy").exists()
    plain, edges = (table[table.split == g] for g in ("test_held_out", "test_held_out:edges"))
    assert plain.id.tolist() == edges.id.tolist() and (plain.cosine.values != edges.cosine.values).all()
    first = found["lambda-0.2-edges"]["splits"]["test_held_out:1"]["cosine"]
    assert plain[plain.n_subjects == 1].cosine.mean() == pytest.approx(first["value"])
    text = format_subject_table(collect_subjects(made / "m", made / "d", count=100))
    assert text.count("λ-ECLIPSE") == 2 and "subjects' own" in text


def test_run_again_it_says_the_same(made, found, tmp_path):
    again = run(made, "lambda-0.2", to=tmp_path)
    assert again["splits"] == found["lambda-0.2"]["splits"]
    for name in ("images/test_held_out.npy", "per_prompt.parquet"):
        assert (tmp_path / "d/lambda-0.2-0" / name).read_bytes() == (made / "d/lambda-0.2-0" / name).read_bytes()


def test_references_do_not_read_a_prior_that_is_given(made, found, tmp_path):
    assert run(made, "subject", to=tmp_path, prior=tmp_path / "nothing")["splits"] == found["subject"]["splits"]


def test_unknown_worlds_are_judged_by_clip_and_seen_splits_are_decoded_where_nothing_is_held_out(made, tmp_path):
    count = {**COUNT, "val_held_out": 0, "test_held_out": 0, "train": 2}
    make_data(tmp_path, made / "frozen", count, known=False)
    paths = {"store": tmp_path / "store", "dataset": tmp_path / "dataset"}
    summary = run(made, "lambda-0.2", to=tmp_path, **paths)
    assert {g: set(metrics) for g, metrics in summary["splits"].items()} == {
        g: {"cosine", "clip_i", "clip_t", "edge_f1"} for g in ("val_seen", "test_seen")
    }
    only = run(made, "lambda-0.2", to=tmp_path / "none", settings=tiny_params({"subject_images": 0}), **paths)
    assert set(only["splits"]["val_seen"]) == {"cosine"}
    assert not list((tmp_path / "none/d/lambda-0.2-0/images").iterdir())


def test_mistakes_are_refused_before_anything_is_written(made, tmp_path):
    with pytest.raises(ConfigError, match="point mean needs the text-only baseline"):
        run(made, "mean", to=tmp_path, prior=None)
    with pytest.raises(ConfigError, match=r"point lambda-0.2 needs a trained prior"):
        run(made, "lambda-0.2", to=tmp_path, prior=None)
    with pytest.raises(CheckpointError, match=r"holds lambda-0.2-0, not eclipse-0.2-0"):
        run(made, "eclipse-0.2", to=tmp_path, prior=made / "priors" / "lambda-0.2-0")
    with pytest.raises(CheckpointError, match="kind lambda-eclipse; point mean needs one of kind eclipse"):
        run(made, "mean", to=tmp_path, prior=made / "priors" / "lambda-0.2-0")
    wrong = save(tmp_path, "lambda-0.2", tokens=3)
    with pytest.raises(CheckpointError, match="kind eclipse; point lambda-0.2 needs one of kind lambda-eclipse"):
        run(made, "lambda-0.2", to=tmp_path, prior=wrong)
    other = tmp_path / "other"
    other.mkdir()
    write_dataset(other, {**dict.fromkeys(SPLITS, 0), "val_held_out": 3, "test_held_out": 7}, shift=1)
    with pytest.raises(DataError, match="other records than the store"):
        run(made, "truth", to=tmp_path, dataset=other)
    assert not (tmp_path / "d").exists() and not (tmp_path / "m").exists()
