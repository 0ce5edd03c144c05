import pytest

import made_sweep
from eclipse.config.load import parse_params
from eclipse.errors import DataError
from eclipse.files import write_json
from eclipse.stages import table

ENTRY = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}


def params(**sections):
    return parse_params(
        {"data": {}, "frozen": {}, "store": {}, "prior": {}, "train": {"steps": 1, "batch_size": 2}, "sweep": {},
         "evaluate": {"bootstrap": 100}, "select": {}, "tracking": {}, **sections}
    )  # fmt: skip


def evaluation(folder, point, seed, entry=ENTRY):
    splits = {"test_seen": {"composition": entry, "cosine": entry}}
    record = {"point": point, "seed": seed, "splits": splits, "seconds": {"prior_per_caption": 0.0}}
    write_json(folder / f"{point}-{seed}.json", record)


def test_prints_each_point_with_its_training_time_and_where_the_report_is(tmp_path, capsys):
    paths = {"evaluations": tmp_path / "m", "training": tmp_path / "t", "report": tmp_path / "report.html"}
    with pytest.raises(DataError, match="no evaluation"):
        table.run(params(), **paths)
    for point, seconds in (("truth", []), ("eclipse-0.5", [100.0, 140.0])):
        for seed in (0, 1):
            evaluation(tmp_path / "m", point, seed)
            if seconds:
                write_json(tmp_path / "t" / f"{point}-{seed}.json", {"seconds": seconds[seed]})
    assert table.run(params(), **paths) == {"points": ["truth", "eclipse-0.5"]}
    lines = capsys.readouterr().out.splitlines()
    assert "0.500 [0.400, 0.600]" in lines[3] and "120" in lines[3]
    assert lines[-1] == f"report: {tmp_path / 'report.html'}"


def test_files_of_another_sweep_are_ignored_even_if_damaged(tmp_path, capsys):
    evaluation(tmp_path, "diffusion", 0)
    evaluation(tmp_path, "eclipse-0.7", 0)
    (tmp_path / "diffusion-1.json").write_text("{ cut off")
    given = params(sweep={"points": ["diffusion"], "seeds": [0]})
    assert table.run(given, evaluations=tmp_path, training=tmp_path / "t") == {"points": ["diffusion"]}
    assert "seeds: 0\n" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"diffusion-1\.json"):
        table.run(params(sweep={"seeds": [0, 1]}), evaluations=tmp_path, training=tmp_path / "t")


def test_subjects_have_a_table_of_their_own_where_there_are_any(tmp_path, capsys):
    evaluation(tmp_path / "m", "truth", 0)
    given = made_sweep.make_subject_sweep(tmp_path, prompts=3, kept=3, points=("truth", "eclipse-0.2", "lambda-0.2"))
    (given["subject_evaluations"] / "lambda-0.2-1.json").write_text("{ of another sweep")
    paths = {"evaluations": tmp_path / "m", "training": tmp_path, "subject_evaluations": given["subject_evaluations"]}
    assert table.run(params(), **paths) == {"points": ["truth"]}
    assert "λ-ECLIPSE" not in capsys.readouterr().out
    subjects = {"points": ["eclipse-0.2", "lambda-0.2"], "seeds": [0]}
    found = table.run(params(subjects=subjects, annotate={"by": ["world"]}), **paths)
    assert found == {"points": ["truth", "truth", "eclipse-0.2", "lambda-0.2"]}
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("λ-ECLIPSE")
    assert lines[start + 1].startswith("method") and "concept" in lines[start + 1]
    assert [line.split("  ")[0] for line in lines[start + 3 : start + 6]] == [
        "ceiling (true z_x)", "ECLIPSE, text only", "λ-ECLIPSE",
    ]  # fmt: skip
    assert lines[-1].startswith("report: ")
