import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eclipse.errors import DataError
from eclipse.evaluate.bootstrap import estimate
from eclipse.evaluate.summary import collect, format_table, has_edges, lam, order, takes_subjects
from eclipse.files import write_json

RNG = np.random.default_rng(0)


def write(folder, point, seed, scores, prior_seconds=0.002, details=None):
    """One evaluation with ``scores[split][metric]`` per prompt."""
    splits = {
        s: {m: estimate(np.array(v), count=500).to_dict() for m, v in metrics.items()} for s, metrics in scores.items()
    }
    record = {"point": point, "seed": seed, "splits": splits, "seconds": {"prior_per_caption": prior_seconds}}
    write_json(folder / f"{point}-{seed}.json", record)
    if details is not None:
        names = {m for metrics in scores.values() for m in metrics}
        columns = {"split": [], "id": [], "caption": [], **{m: [] for m in names}}
        for split, metrics in scores.items():
            n = len(next(iter(metrics.values())))
            columns["split"] += [split] * n
            columns["id"] += [f"{split}{i}" for i in range(n)]
            columns["caption"] += ["c"] * n
            for m in names:
                columns[m] += list(metrics.get(m, [np.nan] * n))
        target = details / f"{point}-{seed}" / "per_prompt.parquet"
        target.parent.mkdir(parents=True)
        pq.write_table(pa.table(columns), target)


def test_seeds_are_averaged_and_points_come_in_table_order(tmp_path):
    for point in ("eclipse-1.0", "projection", "truth", "eclipse-0.2", "text", "diffusion"):
        for seed, value in ((0, 0.2), (1, 0.4)):
            write(tmp_path, point, seed, {"test_seen": {"composition": [value, value], "cosine": [0.5, 0.7]}})
    rows = collect(tmp_path)
    assert [row.point for row in rows] == ["truth", "text", "diffusion", "projection", "eclipse-0.2", "eclipse-1.0"]
    assert rows[3].seeds == (0, 1)
    assert rows[3].value("test_seen", "composition") == pytest.approx(0.3)
    assert rows[3].value("test_seen", "cosine") == pytest.approx(0.6)
    assert rows[3].value("test_held_out", "cosine") is None


def test_lambda_eclipse_stands_behind_eclipse_by_lambda_then_edges():
    points = ["lambda-0.2-edges", "eclipse-0.5", "lambda-0.5", "truth", "lambda-0.2", "lambda-0", "eclipse-0.2"]
    ordered = ["truth", "eclipse-0.2", "eclipse-0.5", "lambda-0", "lambda-0.2", "lambda-0.2-edges", "lambda-0.5"]
    assert sorted(points, key=order) == ordered
    assert [lam(point) for point in ordered] == [None, 0.2, 0.5, 0.0, 0.2, 0.2, 0.5]
    assert [takes_subjects(point) for point in ordered] == [False] * 3 + [True] * 4
    assert [has_edges(point) for point in ordered] == [False] * 5 + [True, False]


def test_prompts_are_resampled_with_their_seed_means(tmp_path):
    a, b = RNG.random(60), RNG.random(60)
    for seed, scores in ((0, a), (1, b)):
        write(tmp_path / "m", "projection", seed, {"test_seen": {"cosine": scores}}, details=tmp_path / "d")
    found = collect(tmp_path / "m", tmp_path / "d", count=500)[0].splits["test_seen"]["cosine"]
    joint = estimate((a + b) / 2, count=500)
    assert (found.low, found.high) == (joint.low, joint.high)
    apart = collect(tmp_path / "m", count=500)[0].splits["test_seen"]["cosine"]
    assert apart.high - apart.low > found.high - found.low  # averaging over seeds removes seed noise
    assert apart.value == pytest.approx(found.value)


def test_the_table_shows_both_splits_with_intervals_and_dashes_for_what_is_not_there(tmp_path):
    scores = {"composition": RNG.random(30), "cosine": np.full(30, 0.912)}
    write(tmp_path, "eclipse-0.2", 0, {"test_seen": scores, "val_seen": scores})
    write(tmp_path, "truth", 0, {"test_seen": scores, "test_held_out": scores}, prior_seconds=0.0)
    text = format_table(collect(tmp_path), {"eclipse-0.2": 123.4})
    lines = text.splitlines()
    assert "composition, seen" in lines[0] and "composition, held-out" in lines[0]
    assert lines[2].startswith("ceiling") and lines[3].startswith("eclipse")
    mean = scores["composition"].mean()
    assert f"{mean:.3f} [" in lines[3] and "0.912" in lines[3] and "123" in lines[3] and "2.00" in lines[3]
    assert lines[3].count("–") == 2  # held-out composition and cosine
    assert "2.00" not in lines[2]


def test_without_an_oracle_the_table_shows_retrieval(tmp_path):
    write(tmp_path, "projection", 0, {"test_seen": {"r1_all": [1.0, 0.0], "cosine": [0.5, 0.5]}})
    assert "R@1 (all images), seen" in format_table(collect(tmp_path))


def test_damaged_or_misplaced_files_are_named(tmp_path):
    with pytest.raises(DataError, match="no evaluation"):
        collect(tmp_path)
    write(tmp_path, "projection", 0, {"test_seen": {"cosine": [0.5]}})
    (tmp_path / "projection-0.json").rename(tmp_path / "projection-7.json")
    with pytest.raises(DataError, match="projection-7.json: holds projection-0"):
        collect(tmp_path)
    write_json(tmp_path / "projection-7.json", {"point": "projection", "seed": 7})
    with pytest.raises(DataError, match="splits"):
        collect(tmp_path)


def test_missing_details_are_named(tmp_path):
    write(tmp_path / "m", "projection", 0, {"test_seen": {"cosine": [0.5]}})
    with pytest.raises(DataError, match="per_prompt.parquet"):
        collect(tmp_path / "m", tmp_path / "d")


def test_files_that_are_not_named_are_not_even_read_but_references_always_are(tmp_path):
    scores = {"test_seen": {"cosine": [0.5, 0.7]}}
    for point in ("truth", "text", "subject", "mean", "diffusion", "eclipse-0.2"):
        write(tmp_path, point, 0, scores)
    write(tmp_path, "eclipse-0.2", 1, {"test_seen": {"cosine": [0.1, 0.1]}})
    (tmp_path / "diffusion-1.json").write_text("{ cut off")
    rows = collect(tmp_path, names=["diffusion-0", "eclipse-0.2-0", "eclipse-0.5-0"], count=100)
    assert {row.point: row.seeds for row in rows} == dict.fromkeys(
        ["truth", "text", "subject", "mean", "diffusion", "eclipse-0.2"], (0,)
    )
    assert rows[-1].value("test_seen", "cosine") == pytest.approx(0.6)
    both = collect(tmp_path, names=["eclipse-0.2-0", "eclipse-0.2-1"], count=100)
    assert (both[-1].point, both[-1].seeds) == ("eclipse-0.2", (0, 1)) and "diffusion" not in {r.point for r in both}
    with pytest.raises(DataError, match=r"diffusion-1\.json: not valid JSON"):
        collect(tmp_path, names=["diffusion-0", "diffusion-1"])
    with pytest.raises(DataError, match=r"diffusion-1\.json: not valid JSON"):
        collect(tmp_path)
