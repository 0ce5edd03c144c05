import json
import math

import pytest
from PIL import Image

from eclipse.errors import DataError
from eclipse.report.sources import read_curves, read_studies, read_study, read_trainings


def test_an_empty_cell_is_missing_and_a_word_is_an_error(tmp_path):
    path = tmp_path / "curves.csv"
    path.write_text("step,mse\n1,\n2,0.5\n")
    columns = read_curves(path)
    assert math.isnan(columns["mse"][0]) and columns["step"] == [1.0, 2.0]
    path.write_text("step,mse\n1,much\n")
    with pytest.raises(DataError, match=r"curves\.csv: not a table of numbers"):
        read_curves(path)


def test_trainings_come_in_table_order(paths):
    assert [(t.point, t.seed) for t in read_trainings(paths["priors"])][:3] == [
        ("diffusion", 0),
        ("diffusion", 1),
        ("projection", 0),
    ]


def test_a_study_that_was_not_run_is_none_and_a_malformed_one_named(tmp_path):
    assert read_study(tmp_path) is None
    (tmp_path / "results.json").write_text(json.dumps({"rows": 3}))
    with pytest.raises(DataError, match="field rows"):
        read_study(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"columns": ["n", "gain"], "rows": [[400, 0.03125]]}))
    assert read_study(tmp_path).rows == (("400", "0.03125"),)


def test_studies_are_found_in_the_folder_and_directly_below_it(tmp_path):
    assert read_studies(tmp_path / "nowhere") == []
    deep = {"b-encoders": {"title": "What if?", "decides": "nothing", "rows": []}, "a-drop": [{"drop": 0.5}]}
    for name, value in deep.items():
        (tmp_path / name / "figures").mkdir(parents=True)
        (tmp_path / name / "results.json").write_text(json.dumps(value))
    Image.new("RGB", (2, 2)).save(tmp_path / "b-encoders" / "figures" / "by_way.png")
    (tmp_path / "not-run").mkdir()
    (tmp_path / "a-drop" / "deeper").mkdir()
    (tmp_path / "a-drop" / "deeper" / "results.json").write_text("[]")
    drop, encoders = read_studies(tmp_path)
    assert (drop.columns, drop.rows, drop.figures) == (("drop",), (("0.5",),), ())
    assert (encoders.title, encoders.remarks) == ("What if?", (("decides", "nothing"),))
    assert [name for name, _ in encoders.figures] == ["by way"]
    (tmp_path / "results.json").write_text(json.dumps({"finding": "λ matters", "rows": []}))
    first, *others = read_studies(tmp_path)
    assert first.title == "λ, the amount of data and caption noise" and others == [drop, encoders]
