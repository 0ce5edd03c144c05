import inspect
from pathlib import Path

import pytest
from made_reviews import FROZEN, make_version
from made_subjects import make_data, tiny_params

from eclipse.errors import ConfigError, DataError, EclipseError
from eclipse.files import read_json, sha256
from eclipse.promotion.sign import check_signature
from eclipse.stages import review, sign
from eclipse.tracking.registry import Registry, model_name

COUNT = {"train": 4, "val_seen": 0, "val_held_out": 0, "test_seen": 3, "test_held_out": 3}
PARAMS = tiny_params(promote={"images": 3, "bootstrap": 1000, "sheet_prompts": 4})
VARIANTS = {"eclipse": "eclipse-0.2", "lambda-eclipse": "lambda-0.2"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """What ``dvc repro`` and ``register`` leave behind, at the places where they leave it."""
    root = tmp_path_factory.mktemp("repository")
    artifacts = root / "artifacts"
    make_data(artifacts, FROZEN, COUNT)
    (artifacts / "frozen").symlink_to(FROZEN)
    (artifacts / "subjects" / "priors").mkdir(parents=True)
    for name in ("store", "dataset"):
        (artifacts / "subjects" / name).symlink_to(artifacts / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        registry = Registry(f"sqlite:///{root}/mlflow.db")
        for point in VARIANTS.values():
            make_version(registry, root / point, 0, point)
    (artifacts / "subjects" / "priors" / "eclipse-0.2-0").symlink_to(root / "eclipse-0.2" / "selected")
    return root


@pytest.fixture
def there(repository, monkeypatch):
    monkeypatch.chdir(repository)
    # MLflow keeps connections by address: a relative one might be another test's.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{repository}/mlflow.db")
    monkeypatch.delenv("ECLIPSE_RELEASES", raising=False)
    return repository


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "reference"), [("eclipse", "text"), ("lambda-eclipse", "mean")])
def test_a_candidate_is_reviewed_and_signed(there, capsys, variant, reference):
    record = review.run(PARAMS, variant=variant)
    out = Path("artifacts/review") / variant
    assert record == read_json(out / "review.json") and record["champion"] == {"reference": reference}
    assert "sheet.html" in capsys.readouterr().out and (out / "sheet.png").stat().st_size > 1000
    done = sign.run(PARAMS, version="1", reviewer="Ada", variant=variant)
    assert done["tags"] == {"eclipse.review.by": "Ada", "eclipse.review.signed": sha256(out / "sheet.html")}
    registry = Registry()
    version = registry.get(model_name(variant, "mini"), "1")
    assert check_signature(registry, version, champion_hash=None, params=PARAMS) == record
    assert len(list(Path("artifacts/review/measured").iterdir())) >= 2


def test_places_have_the_defaults_that_the_graph_writes():
    defaults = {n: p.default for n, p in inspect.signature(review.run).parameters.items() if n != "params"}
    assert defaults["frozen"] == Path("artifacts/frozen") and defaults["variant"] == "eclipse"
    assert {defaults[name] for name in ("version", "store", "dataset", "baseline", "out")} == {None}


def test_mistakes_are_one_line(there, tmp_path):
    for run in (review.run, lambda params, **given: sign.run(params, version="1", reviewer="Ada", **given)):
        with pytest.raises(ConfigError, match="--variant lambda: choose eclipse or lambda-eclipse"):
            run(PARAMS, variant="lambda")
    with pytest.raises(DataError, match=r"none: no such folder; run `dvc repro`"):
        review.run(PARAMS, store=tmp_path / "none")
    with pytest.raises(EclipseError, match="no version 7; there are 1"):
        sign.run(PARAMS, version="7", reviewer="Ada")
