import pytest

from eclipse.errors import DataError
from eclipse.evaluate.bootstrap import Estimate
from eclipse.evaluate.summary import Row, collect
from eclipse.report.results import (
    REFERENCES,
    best,
    cell,
    differences,
    heading,
    label,
    present,
    read_prompts,
    short_label,
)


def test_labels_and_headings_are_words_for_people():
    assert label("eclipse-0.20") == "ECLIPSE, λ = 0.2" and label("projection") == "Projection (λ = 0)"
    assert label("lambda-0.2") == "λ-ECLIPSE, λ = 0.2" and label("lambda-0") == "λ-ECLIPSE, λ = 0"
    assert label("lambda-0.2-edges") == "λ-ECLIPSE, λ = 0.2, edges"
    assert [short_label(p) for p in ("eclipse-0.2", "lambda-0.2-edges")] == ["λ = 0.2", "λ-ECLIPSE 0.2, edges"]
    assert heading("r1").text == "R@1" and heading("new_one").text == "new one" and heading("fid").lower


def test_known_metrics_come_in_table_order(paths):
    rows = collect(paths["evaluations"], count=100)
    names = present(rows, "test_seen")
    assert names[0] == "composition" and names[-1] == "fid" and names.index("cosine") < names.index("r1")


def test_differences_are_paired_and_leave_out_references_and_baseline(paths):
    rows = collect(paths["evaluations"], count=100)
    kwargs = {"count": 100, "seed": 0}
    found = differences(rows, paths["details"], "projection", "test_held_out", ["cosine", "fid"], **kwargs)
    assert set(found) == {"diffusion", "eclipse-0.2", "eclipse-1.0"} and set(found["diffusion"]) == {"cosine"}
    by_point = {row.point: row.splits["test_held_out"]["cosine"].value for row in rows}
    assert found["eclipse-1.0"]["cosine"].value == pytest.approx(by_point["eclipse-1.0"] - by_point["projection"])
    assert found["eclipse-1.0"]["cosine"].high < 0
    assert differences(rows, paths["details"], "eclipse-7", "test_held_out", ["cosine"], **kwargs) == {}


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "diffusion-0").mkdir()
    (tmp_path / "diffusion-0" / "per_prompt.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="diffusion-0/per_prompt.parquet: unreadable"):
        read_prompts(tmp_path, "diffusion", 0, "test_seen")
    with pytest.raises(DataError, match="diffusion-1/per_prompt.parquet: no such file"):
        read_prompts(tmp_path, "diffusion", 1, "test_seen")


def _row(point, **metrics):
    values = {name: Estimate(value, value - 0.1, value + 0.1, 7) for name, value in metrics.items()}
    return Row(point, (0,), {"s": values}, 0.0)


def test_references_have_names_of_their_own():
    assert label("subject") == "subjects' own embeddings" and label("mean") == "mean of these and text only"
    names = [short_label(point) for point in REFERENCES]
    assert len(set(names)) == len(REFERENCES) and not any("λ" in name for name in names)


def test_the_best_is_that_of_trained_priors_in_the_metrics_own_direction():
    rows = [_row("truth", rest=0.99, ccd_concept=-0.5), _row("subject", rest=0.98), _row("lambda-0", ccd_concept=0.3),
            _row("lambda-0.2", rest=0.4, ccd_concept=0.2), _row("eclipse-0.2", rest=0.7, ccd_concept=0.6)]  # fmt: skip
    assert (best(rows, "s", "rest"), best(rows, "s", "ccd_concept")) == (0.7, 0.2)
    assert best(rows, "s", "fid") is None and best(rows, "elsewhere", "rest") is None


def test_a_cell_has_the_metrics_digits_and_knows_the_best():
    entry = Estimate(2.34567, 2.0, 3.14159, 12)
    assert cell(entry, "fid", 2.34567) == {"value": "2.35", "low": "2.00", "high": "3.14", "n": 12, "best": True}
    assert cell(entry, "rest", None) == {"value": "2.346", "low": "2.000", "high": "3.142", "n": 12, "best": False}
    assert cell(None, "rest", 0.5) is None
