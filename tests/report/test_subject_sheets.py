import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

import made_sweep
from eclipse.data.control import canny
from eclipse.data.images import decode_png
from eclipse.data.manifest import open_split
from eclipse.data.subjects import subjects_of
from eclipse.errors import DataError
from eclipse.evaluate.summary import collect
from eclipse.report import subject_sheets
from eclipse.report.results import subject_label
from eclipse.report.sheets import TRUTH, draw_sheet, page_cells
from eclipse.report.subject_sheets import make_sheets

KEPT = 6


@pytest.fixture(scope="module")
def folder(subject_paths):
    return subject_paths["subjects"]


@pytest.fixture(scope="module")
def sheets(subject_rows, folder):
    return make_sheets(subject_rows, folder)


@pytest.fixture(scope="module")
def records(folder):
    return list(open_split(folder / "dataset", "test_held_out"))


def kept(folder, point, group="test_held_out"):
    return np.load(folder / "evaluate" / f"{point}-0" / "images" / f"{group}.npy")


def verdicts(folder, point, group="test_held_out"):
    table = pq.read_table(folder / "evaluate" / f"{point}-0" / "per_prompt.parquet").to_pandas()
    return (table[table.split == group].both == 1).tolist()


def test_one_sheet_for_each_number_of_subjects_and_one_with_edges(sheets):
    assert [title for title, _ in sheets] == [
        "1 subject", "2 subjects", "3 subjects", "Edges of the true picture as control",
    ]  # fmt: skip
    assert [sheet.name for _, sheet in sheets] == ["subjects-1", "subjects-2", "subjects-3", "edges"]


def test_columns_are_the_splits_first_prompts_with_so_many_subjects(sheets, records):
    for n, (_, sheet) in enumerate(sheets[:3], start=1):
        expected = [record for record in records[:KEPT] if len(subjects_of(record)) == n]
        assert sheet.ids == tuple(record.id for record in expected) and len(expected) == 2
        assert sheet.captions == tuple(record.caption for record in expected)
        assert all(len(cells) == 2 for _, cells in sheet.rows)


def test_rows_are_the_subjects_then_the_truth_then_each_method(sheets, records, folder):
    for n, (_, sheet) in enumerate(sheets[:3], start=1):
        rows, places = dict(sheet.rows), [i for i in range(KEPT) if len(subjects_of(records[i])) == n]
        names = [f"subject {k}" for k in range(1, n + 1)] if n > 1 else ["subject"]
        assert list(rows) == [*names, TRUTH, *map(subject_label, made_sweep.SUBJECT_POINTS)]
        for at, i in enumerate(places):
            for k, name in enumerate(names):
                assert np.array_equal(rows[name][at].image, decode_png(records[i].extras[f"subject{k}.png"]))
            assert np.array_equal(rows[TRUTH][at].image, decode_png(records[i].image))
            for point in ("subject", "lambda-0.5"):
                cell = rows[subject_label(point)][at]
                assert np.array_equal(cell.image, kept(folder, point)[i])
                assert cell.right is verdicts(folder, point)[i]
        assert {cell.right for name in (*names, TRUTH) for cell in rows[name]} == {None}


def test_edges_come_first_then_the_picture_without_and_with_them(sheets, records, folder):
    sheet, point = sheets[3][1], "lambda-0.2-edges"
    assert [name for name, _ in sheet.rows] == [
        "edges",
        TRUTH,
        subject_label(point),
        f"{subject_label(point)} given",
    ]
    assert sheet.ids == tuple(record.id for record in records[:KEPT])
    rows = [cells for _, cells in sheet.rows]
    for i in range(KEPT):
        assert np.array_equal(rows[0][i].image, canny(decode_png(records[i].image))) and rows[0][i].image.any()
        for row, group in ((rows[2], "test_held_out"), (rows[3], "test_held_out_edges")):
            assert np.array_equal(row[i].image, kept(folder, point, group)[i])
            assert row[i].right is verdicts(folder, point, group.replace("_edges", ":edges"))[i]


def test_a_sheet_has_so_many_columns_and_no_more(subject_rows, folder, sheets, monkeypatch):
    monkeypatch.setattr(subject_sheets, "COLUMNS", 1)
    narrow = make_sheets(subject_rows, folder)
    assert [sheet.ids for _, sheet in narrow] == [sheet.ids[:1] for _, sheet in sheets]
    assert draw_sheet(narrow[0][1]).width < draw_sheet(sheets[0][1]).width


def test_without_points_that_take_edges_there_is_no_sheet_of_them(subject_rows, folder):
    rows = [row for row in subject_rows if not row.point.endswith("-edges")]
    assert [sheet.name for _, sheet in make_sheets(rows, folder)] == ["subjects-1", "subjects-2", "subjects-3"]


def test_prompts_are_those_of_which_every_point_kept_its_picture(subject_rows, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "sweep")
    images = tmp_path / "sweep" / "evaluate" / "lambda-0-0" / "images" / "test_held_out.npy"
    np.save(images, kept(folder, "lambda-0")[:2])
    found = make_sheets(subject_rows, tmp_path / "sweep")
    assert [(sheet.name, len(sheet.ids)) for _, sheet in found] == [("subjects-1", 1), ("subjects-2", 1), ("edges", 2)]
    images.unlink()
    found = make_sheets(subject_rows, tmp_path / "sweep")
    assert subject_label("lambda-0") not in dict(found[0][1].rows) and len(found) == 4
    (tmp_path / "sweep" / "evaluate" / "lambda-0.2-edges-0" / "images" / "test_held_out_edges.npy").unlink()
    assert [sheet.name for _, sheet in make_sheets(subject_rows, tmp_path / "sweep")][-1] == "subjects-3"


def test_without_an_oracle_there_are_pictures_and_no_verdicts(tmp_path):
    given = made_sweep.make_subject_sweep(tmp_path, prompts=2, kept=2, points=("truth", "lambda-0.2"), oracle=False)
    found = make_sheets(collect(given["subject_evaluations"], count=100), given["subjects"])
    assert [sheet.name for _, sheet in found] == ["subjects-1", "subjects-2"]
    assert {cell.right for _, cells in found[0][1].rows for cell in cells} == {None}


def test_pictures_of_other_prompts_are_refused(subject_rows, folder, tmp_path):
    shutil.copytree(folder / "evaluate", tmp_path / "sweep" / "evaluate")
    shutil.copytree(folder / "dataset", tmp_path / "sweep" / "dataset")
    path = tmp_path / "sweep" / "evaluate" / "lambda-0.5-0" / "per_prompt.parquet"
    table = pq.read_table(path).to_pandas()
    table["id"] = [f"other-{name}" for name in table["id"]]
    table.to_parquet(path)
    with pytest.raises(DataError, match=r"evaluate/lambda-0\.5-\*: other prompts of test_held_out than the dataset"):
        make_sheets(subject_rows, tmp_path / "sweep")


def test_the_page_gets_every_cell_with_its_verdict(sheets):
    title, sheet = sheets[0]
    found = page_cells(sheet, title)
    assert (found["title"], found["captions"]) == ("1 subject", sheet.captions)
    assert [row["name"] for row in found["rows"]] == [name for name, _ in sheet.rows]
    for row, (_, cells) in zip(found["rows"], sheet.rows, strict=True):
        assert [cell["right"] for cell in row["cells"]] == [cell.right for cell in cells]
        assert all(cell["uri"].startswith("data:image/png;base64,") for cell in row["cells"])
