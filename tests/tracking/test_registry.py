import os
from dataclasses import replace

import pytest

from eclipse.errors import DataError, EclipseError
from eclipse.tracking.registry import Registry, model_name

NAME = "eclipse-prior-eclipse-mini"


@pytest.fixture
def make(registry):
    """Registers models of no files, each of a run of its own."""
    number = registry.client.create_experiment("eclipse")

    def version(name=NAME):
        run = registry.client.create_run(number).info.run_id
        model = registry.client.create_logged_model(number, source_run_id=run)
        return registry.add(name, model.model_id, run_id=run, tags={"eclipse.seed": "0"}, description="card")

    return version


def test_names_are_those_of_variant_and_decoder():
    assert model_name("eclipse", "mini") == NAME
    assert model_name("lambda-eclipse", "kandinsky-2-2") == "eclipse-prior-lambda-eclipse-kandinsky-2-2"


def test_only_priors_are_listed(registry, make):
    assert registry.names() == [] and registry.versions(NAME) == []
    registry.client.create_registered_model("another-model")
    for name in (NAME, "eclipse-prior-lambda-eclipse-mini"):
        make(name)
    assert registry.names() == [NAME, "eclipse-prior-lambda-eclipse-mini"]


def test_versions_stand_in_the_order_of_their_numbers_over_all_pages(registry, make, monkeypatch):
    for _ in range(11):
        make()
    whole, sizes = registry.client.search_model_versions, []

    def in_pages(query, page_token=None):
        page = whole(query, max_results=4, page_token=page_token)
        sizes.append(len(page))
        return page

    monkeypatch.setattr(registry.client, "search_model_versions", in_pages)
    assert [version.version for version in registry.versions(NAME)] == [str(i) for i in range(1, 12)]
    assert sizes == [4, 4, 3]


def test_an_alias_names_one_version_and_moves(registry, make):
    first, second = make(), make()
    assert registry.by_alias(NAME, "champion") is None and first.tags == {"eclipse.seed": "0"}
    registry.set_alias(NAME, "candidate", first.version)
    registry.set_alias(NAME, "champion", first.version)
    registry.set_alias(NAME, "champion", second.version)
    assert registry.by_alias(NAME, "champion").version == "2"
    assert [version.aliases for version in registry.versions(NAME)] == [("candidate",), ("champion",)]
    registry.delete_alias(NAME, "champion")
    assert registry.by_alias(NAME, "champion") is None
    for name in (NAME, "eclipse-prior-eclipse-none"):
        registry.delete_alias(name, "champion")


def test_a_tag_is_set_and_replaced(registry, make):
    version = make()
    for value in ("one", "two"):
        registry.tag(version, "eclipse.review.by", value)
    assert registry.get(NAME, "1").tags == {"eclipse.seed": "0", "eclipse.review.by": "two"}


def test_what_is_not_there_is_told_with_what_is(registry, make):
    with pytest.raises(EclipseError, match=r"no such registered model at sqlite.*\(there: none\); run `.* register`"):
        registry.get(NAME, "1")
    make(), make()
    with pytest.raises(EclipseError, match=r"mini: no version 3; there are 1, 2$"):
        registry.get(NAME, "3")
    with pytest.raises(EclipseError, match=rf"lambda: no such registered model.*\(there: {NAME}\)"):
        registry.get("eclipse-prior-lambda", "1")


def test_a_file_beside_a_version_comes_back_and_is_replaced(registry, make, tmp_path):
    first, second = make(), make()
    sheet = tmp_path / "sheet.html"
    for text in ("old", "new"):
        sheet.write_text(text)
        registry.add_artifact(first, sheet, "review")
    back = registry.artifact(first, "review/sheet.html", tmp_path / "back")
    assert back == tmp_path / "back" / "sheet.html" and back.read_text() == "new"
    for version, path in ((second, "review/sheet.html"), (first, "review/other.html"), (first, "review")):
        assert registry.artifact(version, path, tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_files_that_cannot_be_put_beside_a_version_are_told(registry, make, tmp_path):
    with pytest.raises(DataError, match=r"no\.html: no such file; it cannot be put beside eclipse-prior-.* version 1"):
        registry.add_artifact(make(), tmp_path / "no.html", "review")
    (tmp_path / "sheet.html").write_text("x")
    with pytest.raises(EclipseError, match=r"version 2: has no run"):
        registry.add_artifact(replace(make(), run_id=""), tmp_path / "sheet.html", "review")


def test_the_store_need_not_be_the_one_of_the_environment(registry, make, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert make().version == "1" and "MLFLOW_TRACKING_URI" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert make().version == "2" and os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:9"


def test_refusals_and_silence_are_one_line(registry):
    with pytest.raises(EclipseError, match=r"^sqlite:.*: MLflow refused \(.*not found") as caught:
        registry.set_alias(NAME, "champion", "1")
    assert "\n" not in str(caught.value)
    with pytest.raises(EclipseError, match=r"127\.0\.0\.1:9: no MLflow server answers"):
        Registry("http://127.0.0.1:9")
