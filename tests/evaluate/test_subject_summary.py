import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eclipse.evaluate.bootstrap import estimate
from eclipse.evaluate.subject_groups import groups_of
from eclipse.evaluate.subject_summary import collect_subjects, format_subject_table
from eclipse.files import write_json

SPLIT = np.array(["val_seen"] * 4 + ["test_held_out"] * 30 + ["test_held_out:edges"] * 30)
COUNT = np.array([1, 2, 3, 4] + 2 * ([1, 2, 3] * 10))
POINTS = ("lambda-0.5", "mean", "lambda-0.2-edges", "eclipse-0.2", "truth", "lambda-0.2", "subject")


def write(root, point, seed, scores):
    """One evaluation of per-prompt ``scores`` over the rows of ``SPLIT``, as the stage writes it."""
    groups = groups_of(SPLIT, COUNT)
    splits = {
        g: {m: estimate(v[rows], count=300).to_dict() for m, v in scores.items() if not np.isnan(v[rows]).all()}
        for g, rows in groups.items()
    }
    write_json(
        root / "m" / f"{point}-{seed}.json",
        {"point": point, "seed": seed, "splits": splits, "seconds": {"prior_per_caption": 0.001}},
    )
    target = root / "d" / f"{point}-{seed}" / "per_prompt.parquet"
    target.parent.mkdir(parents=True)
    ids = [f"{i}" for i in range(len(SPLIT))]
    pq.write_table(pa.table({"split": SPLIT, "id": ids, "caption": ids, "n_subjects": COUNT, **scores}), target)


def test_groups_are_the_splits_and_the_held_out_prompts_by_number_of_subjects():
    groups = groups_of(SPLIT, COUNT)
    assert list(groups) == [
        "val_seen", "test_held_out", "test_held_out:edges", "test_held_out:1", "test_held_out:2", "test_held_out:3",
    ]  # fmt: skip
    assert np.flatnonzero(groups["test_held_out:2"]).tolist() == list(range(5, 34, 3))
    assert groups["test_held_out:edges"].sum() == 30
    assert list(groups_of(SPLIT, None)) == ["val_seen", "test_held_out", "test_held_out:edges"]


def test_a_groups_interval_resamples_its_own_prompts_with_their_seed_means(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.random(len(SPLIT)), rng.random(len(SPLIT))
    for seed, values in ((0, a), (1, b)):
        write(tmp_path, "lambda-0.2", seed, {"concept": values})
    (row,) = collect_subjects(tmp_path / "m", tmp_path / "d", count=300)
    for group, rows in groups_of(SPLIT, COUNT).items():
        joint = estimate(((a + b) / 2)[rows], count=300)
        found = row.splits[group]["concept"]
        assert (found.low, found.high, found.n) == (joint.low, joint.high, joint.n)
        assert found.value == pytest.approx(joint.value)
    assert row.splits["test_held_out:1"]["concept"].n == 10


def test_points_come_in_table_order_and_files_of_others_are_left_out(tmp_path):
    for point in (*POINTS, "lambda-0.9"):
        write(tmp_path, point, 0, {"concept": np.full(len(SPLIT), 0.5)})
    (tmp_path / "m" / "lambda-0.2-1.json").write_text("{ cut off, and of another sweep")
    rows = collect_subjects(tmp_path / "m", names=[f"{p}-0" for p in POINTS if "-" in p])
    assert [row.point for row in rows] == [
        "truth", "subject", "mean", "eclipse-0.2", "lambda-0.2", "lambda-0.2-edges", "lambda-0.5",
    ]  # fmt: skip


def test_the_table_shows_held_out_prompts_and_edges_only_where_they_were_given(tmp_path):
    def scores(value, edges=np.nan):
        held_out = np.where(SPLIT == "test_held_out", value, 0.99)
        names = ("concept", "rest", "both", "clip_i", "clip_t", "ccd_concept", "ccd_composition")
        table = {name: np.clip(held_out + 0.01 * i, 0, 1) for i, name in enumerate(names)}
        return {**table, "edge_f1": np.where(SPLIT == "test_held_out:edges", edges, 0.11)}

    write(tmp_path, "lambda-0.2-edges", 0, scores(0.6, edges=0.87))
    write(tmp_path, "eclipse-0.2", 0, {k: v for k, v in scores(0.2).items() if not k.startswith("ccd")})
    head, _, text_only, ours, note = format_subject_table(collect_subjects(tmp_path / "m")).splitlines()
    assert head.split("  ")[0] == "method" and "edge F1" in head and "CLIP-T" in head
    cells = [cell for cell in ours.split("  ") if cell]
    assert [cell.strip() for cell in cells] == [
        "λ-ECLIPSE", "0.2", "yes", "0.600 [0.600, 0.600]", "0.610", "0.620", "0.630", "0.640", "0.650 / 0.660", "0.870",
    ]  # fmt: skip
    assert text_only.startswith("ECLIPSE, text only") and text_only.rstrip().endswith("–") and "– / –" in text_only
    assert "seeds: 0" in note
