import csv

import made_sweep
from eclipse.config import load_params
from eclipse.stages import report


def test_the_stage_writes_page_plots_and_sheets_and_replaces_the_old(tmp_path):
    points = ("truth", "projection", "eclipse-0.2")
    paths = made_sweep.make_sweep(tmp_path, prompts=4, kept=4, seeds=(0,), points=points)
    out = tmp_path / "out"
    (out / "stale").mkdir(parents=True)
    params = load_params(made_sweep.ROOT / "params.yaml", ["evaluate.bootstrap=100"])
    result = report.run(params, **paths, out=out)
    assert result["selected"] == "eclipse-0.2" and set(result["test"]) == set(points)
    assert not (out / "stale").exists()
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == {
        "report.html", "plots/lambda.csv", "plots/pareto.csv", "plots/curves.csv",
        "sheets/test_seen.png", "sheets/test_held_out.png",
    }  # fmt: skip
    with (out / "plots" / "lambda.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["metric"] == "composition" and r["split"] == "test_seen"]
    assert [r["lambda"] for r in rows] == ["0", "0.2"] and float(rows[0]["low"]) <= float(rows[0]["value"])
    with (out / "plots" / "pareto.csv").open() as file:
        assert {r["point"] for r in csv.DictReader(file)} == {"projection", "eclipse-0.2"}
