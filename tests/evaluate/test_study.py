import numpy as np
import pandas as pd
import pytest

from eclipse.config.params import StudyParams
from eclipse.errors import DataError
from eclipse.evaluate.study import Cell, figure, read_cell, report, results


def rows(shift):
    """Scores of 60 prompts, 2 seeds: λ = 0.2 is better than λ = 0 by exactly ``shift``."""
    base = np.random.default_rng(0).uniform(0.2, 0.6, 60)
    parts = []
    for seed in (0, 1):
        for point, extra in (("projection", 0.0), ("eclipse-0.2", shift)):
            scores = dict.fromkeys(("attributes", "composition", "cosine", "r1"), base + extra + 0.01 * seed)
            parts.append(pd.DataFrame({"point": point, "seed": seed, "id": np.arange(60).astype(str), **scores}))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(("shift", "verdict"), [(0.1, "helps"), (-0.1, "hurts"), (0.0, "undecided")])
def test_differences_are_paired_over_prompts(shift, verdict):
    held = results([Cell(0.5, 400, rows(shift))], StudyParams(bootstrap=200))["comparisons"][0]
    assert held["difference"] == pytest.approx(shift, abs=1e-4) and held["verdict"] == verdict
    assert held["high"] - held["low"] < 1e-6  # unpaired, the spread between prompts would widen it


def test_noise_between_prompts_widens_the_interval():
    frame = rows(0.0)
    frame.loc[frame.point == "eclipse-0.2", "attributes"] += np.tile(np.where(np.arange(60) % 2, 0.3, -0.3), 2)
    held = results([Cell(0.0, 400, frame)], StudyParams(bootstrap=2000))["comparisons"][0]
    assert held["low"] == pytest.approx(-0.3 * 1.96 / 60**0.5, abs=0.02) and held["verdict"] == "undecided"


def test_report_and_figure_hold_every_cell(tmp_path):
    cells = [Cell(noise, size, rows(0.05)) for noise in (0.0, 0.5) for size in (400, 1500)]
    found = results(cells, StudyParams(bootstrap=200))
    text = report(found)
    assert text.count("| helps |") == 4 and "1,500" in text and len(found["rows"]) == 4
    figure(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_attributes_are_the_mean_of_colour_shape_and_texture(tmp_path):
    frame = pd.DataFrame(
        {"split": ["test_held_out", "val_seen"], "id": ["a", "b"], "colour": [1.0, 0], "shape": [0.5, 0]}
    )
    frame = frame.assign(texture=[0.0, 0], composition=0.0, cosine=0.9, r1=1.0)
    (tmp_path / "projection-0").mkdir()
    frame.to_parquet(tmp_path / "projection-0" / "per_prompt.parquet")
    cell = read_cell(tmp_path, [("projection", 0)])
    assert cell.attributes.tolist() == [0.5] and cell.id.tolist() == ["a"]


def test_a_foreign_file_among_the_cells_is_named(tmp_path):
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "notes.parquet")
    with pytest.raises(DataError, match=r"notes\.parquet"):
        Cell.read(tmp_path / "notes.parquet")
