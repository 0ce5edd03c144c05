import numpy as np
import pytest

from eclipse.errors import DataError
from eclipse.evaluate.summary import collect
from eclipse.report.sheets import TRUTH, Cell, Sheet, draw_sheet, make_sheet, page_cells, read_images, true_pictures


def test_rows_are_truth_then_table_order_and_columns_the_same_prompts(paths):
    rows = collect(paths["evaluations"], count=100)
    sheet = make_sheet(rows, paths["details"], paths["dataset"], "test_held_out", columns=4)
    assert [name for name, _ in sheet.rows][:3] == [TRUTH, "ceiling: true z_x", "floor: z_y in place of z_x"]
    assert sheet.ids == tuple(f"test_held_out-{i:06d}" for i in range(4))
    truth = true_pictures(paths["dataset"], "test_held_out", sheet.ids)
    assert np.array_equal(sheet.rows[0][1][3].image, truth[sheet.ids[3]])
    assert {cell.right for cell in sheet.rows[2][1]} <= {True, False}
    assert draw_sheet(sheet).width > 4 * 96


def test_fewer_kept_pictures_make_fewer_columns_and_none_no_sheet(paths, tmp_path):
    rows = collect(paths["evaluations"], count=100)
    assert len(make_sheet(rows, paths["details"], paths["dataset"], "test_seen", columns=99).ids) == 6
    assert make_sheet(rows, tmp_path, paths["dataset"], "test_seen", columns=4) is None


def test_foreign_pictures_and_ids_are_refused(paths, tmp_path):
    (tmp_path / "text-0" / "images").mkdir(parents=True)
    np.save(tmp_path / "text-0" / "images" / "test_seen.npy", np.zeros((2, 4, 4, 3), np.float32))
    with pytest.raises(DataError, match="float32"):
        read_images(tmp_path, "text", 0, "test_seen")
    with pytest.raises(DataError, match="lacks elsewhere"):
        true_pictures(paths["dataset"], "test_seen", ["elsewhere"])


def test_the_page_gets_pictures_with_verdicts_and_none_where_none_was_decoded():
    picture = np.zeros((4, 4, 3), np.uint8)
    rows = ((TRUTH, (Cell(picture, None), Cell(picture, None))), ("floor", (Cell(picture, False), Cell(None, True))))
    found = page_cells(Sheet("test_seen", ("a", "b"), ("one", "two"), rows), "Seen captions")
    assert (found["title"], found["captions"]) == ("Seen captions", ("one", "two"))
    assert [row["name"] for row in found["rows"]] == [TRUTH, "floor"]
    first, second = found["rows"][1]["cells"]
    assert first["right"] is False and first["uri"].startswith("data:image/png;base64,")
    assert second == {"uri": None, "right": True}
