import re
import shutil

import pyarrow.parquet as pq
import pytest
from PIL import Image

import made_sweep
from eclipse.config import load_params
from eclipse.errors import DataError
from eclipse.evaluate.bootstrap import Estimate
from eclipse.files import read_json, write_json
from eclipse.report.build import Sources, read_subjects
from eclipse.report.results import subject_label
from eclipse.report.subjects import subject_section

CCD = ("ccd_concept", "ccd_composition")


@pytest.fixture(scope="module")
def section(params, subject_paths):
    return subject_section(params, subject_paths["subject_evaluations"], subject_paths["subjects"])


@pytest.fixture
def copied(subject_paths, tmp_path):
    """The sweep's folders, to be changed."""
    shutil.copytree(subject_paths["subjects"], tmp_path / "subjects")
    shutil.copytree(subject_paths["subject_evaluations"], tmp_path / "evaluations")
    return tmp_path / "evaluations", tmp_path / "subjects"


def mean(subject_paths, point, group, metric, number=None):
    """A metric's mean over the prompts of a group, from the scores of each prompt."""
    table = pq.read_table(subject_paths["subjects"] / "evaluate" / f"{point}-0" / "per_prompt.parquet").to_pandas()
    rows = table[table.split == group]
    return rows[metric][rows.n_subjects == number].mean() if number else rows[metric].mean()


def column(table, head):
    """Value by row of the column with ``head``."""
    at = table["heads"].index(head)
    return {row["label"]: row["cells"][at] for row in table["rows"]}


def between(text, start, end):
    return text[text.index(start) :].split(end)[0]


class TestPage:
    def test_has_the_section_only_where_there_are_subjects(self, made, made_with_subjects):
        without, text = (made[1] / "report.html").read_text(), made_with_subjects[0]
        for piece in ('<section id="subjects">', 'href="#subjects"', "λ-ECLIPSE"):
            assert text.count(piece) >= 1
        assert '<section id="subjects">' not in without and 'href="#subjects"' not in without
        assert "ablation" not in without

    def test_is_whole_and_needs_nothing_from_outside(self, made_with_subjects):
        text = made_with_subjects[0]
        assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
        assert not re.search(r"url\((?!#)|<script|<link", text)
        ids = re.findall(r'\sid="([^"]+)"', text)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
        images = re.findall(r"<img[^>]*>", text)
        assert images and all(re.search(r'alt="[^"]+"', image) for image in images)

    def test_captions_are_escaped(self, made_with_subjects):
        text = between(made_with_subjects[0], '<section id="subjects">', "</section>")
        assert made_sweep.MARKUP not in text and text.count("&lt;b&gt;&amp; more&lt;/b&gt;") > 2

    def test_the_subjects_picture_stands_above_the_true_one_and_that_above_what_is_made(self, made_with_subjects):
        text = made_with_subjects[0]
        for n, names in ((1, ["subject"]), (3, ["subject 1", "subject 2", "subject 3"])):
            sheet = between(text, f'aria-label="Contact sheet, {n} subject', "</table>")
            heads = re.findall(r'<th scope="row">([^<]+)</th>', sheet)
            assert heads[: n + 2] == [*names, "true picture", "ceiling: true z_x"]
            assert heads[-1] == "λ-ECLIPSE, λ = 0.5"

    def test_verdicts_are_the_oracles_on_subject_and_rest(self, made_with_subjects, subject_paths):
        sheet = between(made_with_subjects[0], 'aria-label="Contact sheet, 2 subjects', "</table>")
        for point in ("lambda-0.2", "eclipse-0.2", "truth"):
            row = between(sheet, f'<th scope="row">{subject_label(point)}</th>', "</tr>")
            path = subject_paths["subjects"] / "evaluate" / f"{point}-0" / "per_prompt.parquet"
            table = pq.read_table(path).to_pandas()
            right = table[(table.split == "test_held_out") & (table.n_subjects == 2)].both.dropna().tolist()
            found = [verdict == "all right" for verdict in re.findall("all right|✗ wrong", row)]
            assert found == [value == 1 for value in right] and len(found) == 2
        assert "verdict" not in between(sheet, '<th scope="row">true picture</th>', "</tr>")

    def test_the_ablation_shows_the_papers_rows_as_the_papers(self, made_with_subjects, subject_paths):
        table = between(made_with_subjects[0], 'aria-label="Ablation"', "</table>")
        assert table.count("paper's</th>") + table.count("paper&#39;s</th>") == 2 and table.count(", here</th>") == 2
        rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in table.split("<tr>")[2:]]
        papers = {
            "λ-ECLIPSE, λ = 0": ["+0.394", "+0.008"],
            "λ-ECLIPSE, λ = 0.5": ["+0.435", "-0.043"],
            "λ-ECLIPSE, λ = 0.2": ["+0.402", "-0.026"],
            "λ-ECLIPSE, λ = 0.2, edges": ["+0.362", "-0.020"],
        }
        assert {row[0]: row[3:] for row in rows} == papers
        for row, point in zip(rows, ("lambda-0", "lambda-0.5", "lambda-0.2", "lambda-0.2-edges"), strict=True):
            group = "test_held_out:edges" if point.endswith("-edges") else "test_held_out"
            values = [f"{mean(subject_paths, point, group, name):.3f}" for name in CCD]
            assert [cell.split("<small>")[0] for cell in row[1:3]] == values

    def test_sheets_are_written_as_pictures(self, made_with_subjects):
        names = {path.name for path in (made_with_subjects[1] / "sheets").iterdir()}
        assert names == {
            "test_seen.png", "test_held_out.png", "subjects-1.png", "subjects-2.png", "subjects-3.png", "edges.png",
        }  # fmt: skip
        one, three = (Image.open(made_with_subjects[1] / "sheets" / f"subjects-{n}.png") for n in (1, 3))
        assert one.width == three.width and three.height - one.height > 150  # two subjects' pictures more

    def test_same_files_give_the_same_bytes(self, params, paths, subject_paths, made_with_subjects, tmp_path):
        from eclipse.stages import report

        report.run(params, **paths, **subject_paths, out=tmp_path / "again")
        again = tmp_path / "again"
        assert (again / "report.html").read_text() == made_with_subjects[0]
        for name in ("subjects-2.png", "edges.png"):
            assert (again / "sheets" / name).read_bytes() == (made_with_subjects[1] / "sheets" / name).read_bytes()


class TestSection:
    def test_there_is_none_without_points_or_folders(self, params, subject_paths):
        nowhere = subject_paths["subjects"] / "nowhere"
        main = (nowhere,) * 5
        assert read_subjects(params, Sources(*main)) is None
        assert read_subjects(params, Sources(*main, subjects=subject_paths["subjects"])) is None
        without = load_params(made_sweep.ROOT / "params.yaml", ["subjects.points=[]"])
        assert read_subjects(without, Sources(*main, None, *subject_paths.values())) is None
        assert read_subjects(params, Sources(*main, None, *subject_paths.values())) is not None

    def test_the_main_table_is_about_held_out_subjects_without_edges(self, section, subject_paths):
        table = section.context["main"]
        assert [row["label"] for row in table["rows"]] == [
            "ceiling: true z_x", "subjects' own embeddings", "mean of these and text only",
            "ECLIPSE, text only, λ = 0.2",
            "λ-ECLIPSE, λ = 0", "λ-ECLIPSE, λ = 0.2", "λ-ECLIPSE, λ = 0.2, edges", "λ-ECLIPSE, λ = 0.5",
        ]  # fmt: skip
        assert [row["reference"] for row in table["rows"]] == [True] * 3 + [False] * 5
        assert [row["label"] for row in table["rows"] if row["selected"]] == ["λ-ECLIPSE, λ = 0.2"]
        for point in ("truth", "lambda-0.2", "lambda-0.2-edges"):
            for head, metric in (("concept: subject right ↑", "concept"), ("CCD, concept ↓", "ccd_concept")):
                value = mean(subject_paths, point, "test_held_out", metric)
                assert column(table, head)[subject_label(point)]["value"] == f"{value:.3f}"
        assert not any("background" in head for head in table["heads"])  # nobody measured it

    def test_the_best_are_trained_priors_and_less_is_better_where_it_is(self, section):
        table = section.context["main"]
        for head in ("CCD, concept ↓", "CLIP-I ↑", "copy-paste ↓"):
            cells = {name: cell for name, cell in column(table, head).items() if name.startswith(("λ", "ECLIPSE"))}
            values = {name: float(cell["value"]) for name, cell in cells.items()}
            level = (min if head.endswith("↓") else max)(values.values())
            assert {name for name, cell in cells.items() if cell["best"]} <= {n for n in values if values[n] == level}
            assert any(cell["best"] for cell in cells.values())

    def test_numbers_of_subjects_are_told_apart(self, section, subject_paths):
        table = section.context["counts"]
        assert len(table["heads"]) == 6 and table["heads"][0] == "1 subject, concept: subject right ↑"
        for n in (1, 2, 3):
            cells = column(table, f"{n} subject{'s' if n > 1 else ''}, composition: rest right ↑")
            for point in ("lambda-0", "eclipse-0.2"):
                value = mean(subject_paths, point, "test_held_out", "rest", n)
                assert (cells[subject_label(point)]["value"], cells[subject_label(point)]["n"]) == (f"{value:.3f}", 2)

    def test_every_number_of_subjects_that_was_measured_has_its_columns(self, params, copied):
        evaluations, folder = copied
        path = evaluations / "lambda-0-0.json"
        found = read_json(path)
        found["splits"]["test_held_out:4"] = {"concept": Estimate(0.25, 0.0, 0.5, 4).to_dict()}
        write_json(path, found)
        cells = column(
            subject_section(params, evaluations, folder).context["counts"], "4 subjects, concept: subject right ↑"
        )
        assert cells["λ-ECLIPSE, λ = 0"]["value"] == "0.250" and cells["λ-ECLIPSE, λ = 0.5"] is None

    def test_edges_are_compared_on_the_points_that_take_them(self, section, subject_paths):
        table = section.context["edges"]
        assert [row["label"] for row in table["rows"]] == ["λ-ECLIPSE, λ = 0.2, edges"]
        for words, group in (("without", "test_held_out"), ("with", "test_held_out:edges")):
            for head, metric in (("edge F1", "edge_f1"), ("composition: rest right", "rest")):
                (cell,) = column(table, f"{words}: {head} ↑").values()
                assert cell["value"] == f"{mean(subject_paths, 'lambda-0.2-edges', group, metric):.3f}"

    def test_the_interpolation_shows_what_has_a_figure(self, section, params, copied):
        found = section.context["interpolation"]
        assert found["figures"] == [("image", "1.25"), ("pixels", "2.50")]
        assert found["uri"].startswith("data:image/png;base64,")
        (copied[1] / "interpolation" / "grid.png").unlink()
        assert subject_section(params, *copied).context["interpolation"] is None

    def test_files_of_another_sweep_are_ignored_even_if_damaged(self, section, params, copied):
        evaluations, folder = copied
        (evaluations / "lambda-0.2-1.json").write_text("{ cut off")
        shutil.copy(evaluations / "lambda-0-0.json", evaluations / "lambda-0.9-0.json")
        assert subject_section(params, evaluations, folder).context["main"] == section.context["main"]

    def test_a_damaged_file_of_this_sweep_is_named(self, params, copied):
        (copied[0] / "lambda-0.2-0.json").write_text("{ cut off")
        with pytest.raises(DataError, match=r"lambda-0\.2-0\.json: not valid JSON"):
            subject_section(params, *copied)

    def test_without_an_oracle_or_pictures_what_needs_them_is_left_out(self, params, tmp_path):
        points = ("truth", "subject", "mean", "eclipse-0.2", "lambda-0.2")
        given = made_sweep.make_subject_sweep(tmp_path, prompts=3, kept=0, points=points, oracle=False)
        found = subject_section(params, given["subject_evaluations"], given["subjects"])
        assert found.context["main"]["heads"] == ["image cosine ↑"] and not found.context["counts"]["heads"]
        assert found.context["pareto"] is None and found.context["edges"] is None
        assert found.context["sheets"] == [] and found.sheets == ()
        assert [line["cells"][:2] for line in found.context["ablation"]] == [[None, None]] * 4

    def test_points_that_were_not_trained_stand_in_the_ablation_with_the_papers_figures_alone(self, params, copied):
        (copied[0] / "lambda-0.5-0.json").unlink()
        lines = {line["label"]: line["cells"] for line in subject_section(params, *copied).context["ablation"]}
        assert lines["λ-ECLIPSE, λ = 0.5"] == [None, None, "+0.435", "-0.043"]
        assert all(lines["λ-ECLIPSE, λ = 0.2, edges"])
