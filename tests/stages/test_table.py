import pytest

from eclipse.config.load import parse_params
from eclipse.errors import DataError
from eclipse.files import write_json
from eclipse.stages import table


def test_prints_each_point_with_its_training_time_and_where_the_report_is(tmp_path, capsys):
    params = parse_params(
        {"data": {}, "frozen": {}, "store": {}, "prior": {}, "train": {"steps": 1, "batch_size": 2}, "sweep": {},
         "evaluate": {}, "select": {}, "tracking": {}}
    )  # fmt: skip
    paths = {"evaluations": tmp_path / "m", "training": tmp_path / "t", "report": tmp_path / "report.html"}
    with pytest.raises(DataError, match="no evaluation"):
        table.run(params, **paths)
    entry = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    for point, seconds in (("truth", []), ("eclipse-0.5", [100.0, 140.0])):
        for seed in (0, 1):
            splits = {"test_seen": {"composition": entry, "cosine": entry}}
            record = {"point": point, "seed": seed, "splits": splits, "seconds": {"prior_per_caption": 0.0}}
            write_json(tmp_path / "m" / f"{point}-{seed}.json", record)
            if seconds:
                write_json(tmp_path / "t" / f"{point}-{seed}.json", {"seconds": seconds[seed]})
    assert table.run(params, **paths) == {"points": ["truth", "eclipse-0.5"]}
    lines = capsys.readouterr().out.splitlines()
    assert "0.500 [0.400, 0.600]" in lines[3] and "120" in lines[3]
    assert lines[-1] == f"report: {tmp_path / 'report.html'}"
