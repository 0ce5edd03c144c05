import re
from html.parser import HTMLParser

import pytest

import made_sweep
from eclipse.config import load_params
from eclipse.errors import DataError
from eclipse.report.build import headline
from eclipse.stages import report


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images, self.ids, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])


def test_the_page_needs_nothing_from_outside(made):
    text = (made[1] / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    assert not re.search(r"url\((?!#)|@import|<script|<link", text)


def test_every_picture_has_a_text_and_every_link_a_target(made):
    page = _Page((made[1] / "report.html").read_text())
    assert len(page.images) > 80 and all(image.get("alt") for image in page.images)
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_ceiling_floor_and_methods_stand_in_one_table_with_intervals(made):
    text = (made[1] / "report.html").read_text()
    table = text[text.index("Result table, Held-out captions") :].split("</table>")[0]
    for name in ("ceiling: true z_x", "floor: z_y", "Diffusion baseline", "Projection (λ = 0)", "ECLIPSE, λ = 0.2"):
        assert name in table
    assert re.search(r"\[0\.\d{3}, [01]\.\d{3}\]", table) and "composition" in table and "FID-like ↓" in table
    assert table.count("selected</span>") == 1


def test_same_files_give_the_same_bytes(made, params, paths, tmp_path):
    report.run(params, **paths, study=made[1].parent / "study", out=tmp_path / "again")
    assert (tmp_path / "again" / "report.html").read_bytes() == (made[1] / "report.html").read_bytes()
    for file in ("plots/lambda.csv", "plots/pareto.csv", "plots/curves.csv", "sheets/test_held_out.png"):
        assert (tmp_path / "again" / file).read_bytes() == (made[1] / file).read_bytes()


def test_captions_are_escaped_and_the_study_is_shown(made):
    text = (made[1] / "report.html").read_text()
    assert "λ matters &lt; 1k pairs" in text and "0.310 [0.250, 0.360]" in text


def test_without_an_oracle_its_columns_are_absent(params, tmp_path):
    points = ("truth", "text", "projection", "eclipse-0.2")
    paths = made_sweep.make_sweep(tmp_path, prompts=6, kept=0, seeds=(0,), points=points, oracle=False)
    result = report.run(params, **paths, out=tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert result["metric"] == "r1" and "R@1 ↑" in text
    assert "composition ↑" not in text and "Contact sheets" not in text


def test_a_missing_selection_names_the_file_and_leaves_nothing(params, paths, tmp_path):
    with pytest.raises(DataError, match=r"selection\.json"):
        report.run(params, **{**paths, "selected": tmp_path}, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_headline_falls_back_to_what_was_measured():
    assert headline([], "composition") == "cosine"


def test_files_of_another_sweep_are_ignored_even_if_damaged(tmp_path):
    points = ("truth", "projection", "diffusion")
    paths = made_sweep.make_sweep(tmp_path, prompts=4, kept=0, seeds=(0, 1), points=points)
    for name in ("diffusion-1", "projection-1"):
        (paths["evaluations"] / f"{name}.json").write_text("{ cut off")
    settings = ["evaluate.bootstrap=100", "sweep.seeds=[0]", "sweep.points=[projection,diffusion]"]
    params = load_params(made_sweep.ROOT / "params.yaml", settings)
    assert set(report.run(params, **paths, out=tmp_path / "out")["test"]) == set(points)
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<summary>diffusion-0</summary>" in text and "diffusion-1" not in text and "×2" not in text
    assert "diffusion,1," not in (tmp_path / "out" / "plots" / "curves.csv").read_text()
