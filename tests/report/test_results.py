import pytest

from eclipse.errors import DataError
from eclipse.evaluate.summary import collect
from eclipse.report.results import differences, heading, label, present, read_prompts, short_label


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
