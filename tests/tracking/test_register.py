import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_selected import CLIP, make_selected

import made_sweep
from eclipse.errors import CheckpointError, DataError, EclipseError
from eclipse.files import tree_digest, write_json
from eclipse.lineage import SweepFiles
from eclipse.models.api import predict
from eclipse.models.checkpoint import load_prior, prior_hash, save_prior
from eclipse.models.clip import FrozenClip
from eclipse.tracking import PARENT, log_sweep
from eclipse.tracking.register import REGISTERS, SWEEP, SWEEP_POINT, register

NAME = "eclipse-prior-eclipse-mini"
LAMBDA = "eclipse-prior-lambda-eclipse-mini"
GIVEN = {"decoder": "mini", "experiment": "sweep", "params": {"train": {"lr": 0.001}}}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    return {**make_selected(tmp_path), "lock": tmp_path / "dvc.lock", **GIVEN}


def _held(registry):
    """What the store holds: active runs, logged models, and versions with their aliases."""
    client = registry.client
    found = client.get_experiment_by_name("sweep")
    number = [found.experiment_id] if found else []
    runs = client.search_runs(number) if found else []
    models = client.search_logged_models(number) if found else []
    versions = [(v.name, v.version, v.aliases) for name in registry.names() for v in registry.versions(name)]
    return [run.info.status for run in runs], [str(model.status) for model in models], versions


def _embeds(selected: Path, prompt: str, seed: int) -> np.ndarray:
    clip = FrozenClip.load(CLIP, device="cpu")
    control = clip.encode_nothing() if "lambda" in (selected / "training.json").read_text() else None
    captions = clip.encode_text(clip.tokenize([prompt]))
    return predict(load_prior(selected), captions, seeds=[seed], control_embeds=control).numpy()[0]


@pytest.mark.slow
def test_a_version_tells_all_and_a_second_time_adds_nothing(registry, files, tmp_path):
    version, new = register(registry, **files)
    assert new and version.aliases == ("candidate",) and (version.name, version.version) == (NAME, "1")
    record = json.loads((files["selected"] / "training.json").read_text())
    wanted = {"eclipse.prior_hash": prior_hash(files["selected"]), "eclipse.encoder_hash": record["encoder_hash"],
              "eclipse.store_hash": "a" * 64, "eclipse.dataset": "d" * 64, "eclipse.point": "eclipse-0.2",
              "eclipse.seed": "0", "eclipse.lam": "0.2", "eclipse.variant": "eclipse"}  # fmt: skip
    assert version.tags.items() >= wanted.items() and len(version.tags["eclipse.dvc_lock"]) == 64

    client = registry.client
    run, stored = client.get_run(version.run_id), client.get_model_version(NAME, "1")
    figures = {"test_held_out/composition": 0.4, "test_held_out/composition.low": 0.3,
               "val_held_out/composition.high": 0.7}  # fmt: skip
    assert run.data.metrics.items() >= figures.items() and run.data.params["train.lr"] == "0.001"
    logged = client.get_logged_model(stored.source.removeprefix("models:/"))
    assert {m.key: m.value for m in logged.metrics}.items() >= figures.items() and logged.params["lam"] == "0.2"
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": "1"}]
    assert (
        stored.description == "# eclipse-0.2-0\n\nA prior."
        and "candidate" in client.get_registered_model(NAME).description
    )
    assert registry.artifact(version, "evaluation/eclipse-0.2-0.json", tmp_path / "back").is_file()

    before = _held(registry)
    assert before == (["FINISHED"], ["READY"], [(NAME, "1", ("candidate",))])
    assert register(registry, **files) == (version, False) and _held(registry) == before

    got = registry.download(version, tmp_path / "got")
    assert tree_digest(got) == tree_digest(files["selected"])


@pytest.mark.slow
def test_mlflow_predicts_what_the_prior_predicts(registry, tmp_path, monkeypatch):
    import mlflow
    import pandas as pd

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    given = {**make_selected(tmp_path, point="lambda-0.2"), **GIVEN}
    version, _ = register(registry, **given)
    assert version.name == LAMBDA
    model = mlflow.pyfunc.load_model(f"models:/{LAMBDA}@candidate")
    table = pd.DataFrame({"prompt": ["a red star", "a blue heart", "a red star"], "seed": [3, 0, 4]})
    embeds = model.predict(table)
    assert embeds.dtype == np.float32 and not np.array_equal(embeds[0], embeds[2])
    for row, (prompt, seed) in zip(embeds, table.itertuples(index=False), strict=True):
        assert np.array_equal(row, _embeds(given["selected"], prompt, seed))
    assert np.array_equal(model.predict(table[["prompt"]])[1], embeds[1])
    assert model.predict(table[:0]).shape == (0, embeds.shape[1])
    assert model.metadata.get_output_schema().inputs[0].shape == (-1, embeds.shape[1])
    assert model.predict(model.input_example).shape == (2, embeds.shape[1])
    with pytest.raises(DataError, match=r"prompt: ' ' is no text"):
        model.predict(pd.DataFrame({"prompt": [" "]}))

    root = Path(registry.client.get_logged_model(model.metadata.model_id).artifact_location)
    assert {path.suffix for path in root.rglob("*")}.isdisjoint({".pkl", ".pickle", ".pt", ".bin", ".pyc"})


@pytest.mark.slow
def test_a_version_runs_by_its_own_code_elsewhere(registry, files, tmp_path):
    version, _ = register(registry, **files)
    said = (
        f"import mlflow, pandas; m = mlflow.pyfunc.load_model('models:/{version.name}/{version.version}');"
        "print(m.predict(pandas.DataFrame({'prompt': ['a red star'], 'seed': [7]}))[0, 0]);"
        "import eclipse; print(eclipse.__file__)"
    )
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run([sys.executable, "-c", said], cwd=tmp_path / "elsewhere", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, where = done.stdout.split()
    assert float(first) == pytest.approx(float(_embeds(files["selected"], "a red star", 7)[0]), abs=1e-5)
    assert Path(where).parent.parent.name == "code" and tmp_path in Path(where).parents


class _CutOffError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    ["create_logged_model", "log_model_artifacts", "finalize_logged_model", "log_batch", "create_model_version",
     "set_logged_model_tags", "set_registered_model_alias", "set_terminated"],
)  # fmt: skip
def test_a_registration_that_was_cut_off_leaves_one_version_in_the_end(registry, files, step):
    def cut(*_, **__):
        raise _CutOffError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry.client, step, cut)
        with pytest.raises(_CutOffError):
            register(registry, **files)
    version, new = register(registry, **files)
    assert new and version.version == "1"
    assert _held(registry) == (["FINISHED"], ["READY"], [(NAME, "1", ("candidate",))])
    assert register(registry, **files) == (version, False)


@pytest.mark.slow
def test_another_prior_is_the_next_candidate_and_the_champion_stays(registry, files, tmp_path):
    first, _ = register(registry, **files)
    registry.set_alias(NAME, "champion", first.version)
    second, new = register(registry, **{**files, **make_selected(tmp_path, weights=1)})
    assert new and second.version == "2" and second.aliases == ("candidate",)
    assert registry.by_alias(NAME, "champion").version == "1"
    make_selected(tmp_path)
    assert register(registry, **files)[0].version == "1" and registry.by_alias(NAME, "candidate").version == "2"


@pytest.mark.slow
def test_the_version_leads_to_the_sweep_that_it_was_selected_from(registry, tmp_path):
    paths = made_sweep.make_sweep(
        tmp_path, prompts=3, kept=1, seeds=(0,), points=("truth", "eclipse-0.2", "eclipse-1.0")
    )
    given = {**make_selected(tmp_path), **GIVEN, "evaluations": paths["evaluations"]}
    training = paths["priors"] / "eclipse-0.2-0" / "training.json"
    write_json(training, json.loads(training.read_text()) | {"prior_hash": prior_hash(given["selected"])})
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").write_text("<html>")
    sweep = SweepFiles(
        paths["evaluations"], tmp_path / "metrics/train", paths["priors"], tmp_path / "report", given["selected"]
    )
    logged = log_sweep("sweep", {}, sweep)

    version, _ = register(registry, **given)
    point = registry.client.get_run(version.tags[SWEEP_POINT])
    assert version.tags[SWEEP] == logged.run_id and point.info.run_name == "eclipse-0.2-0"
    run = registry.client.get_run(version.run_id)
    assert run.data.tags[PARENT] == logged.run_id and run.data.tags[REGISTERS] == NAME
    description = registry.client.get_model_version(NAME, "1").description
    assert description.startswith(
        f"Selected from [this sweep](#/experiments/{run.info.experiment_id}/runs/{logged.run_id})."
    )
    again = log_sweep("sweep", {}, sweep)
    assert again.run_id == logged.run_id and not again.added


@pytest.mark.slow
def test_a_large_clip_is_named_on_loading(registry, files, tmp_path, monkeypatch):
    import mlflow
    import pandas as pd

    version, _ = register(registry, **files, clip_inside=1_000_000)
    uri, table = f"models:/{version.name}/1", pd.DataFrame({"prompt": ["a red star"]})
    root = registry.client.get_logged_model(
        registry.client.get_model_version(NAME, "1").source.removeprefix("models:/")
    )
    assert not (Path(root.artifact_location) / "artifacts" / "clip").exists()
    monkeypatch.delenv("ECLIPSE_CLIP", raising=False)
    with pytest.raises(CheckpointError, match="ECLIPSE_CLIP: not set"):
        mlflow.pyfunc.load_model(uri)
    named = mlflow.pyfunc.load_model(uri, model_config={"clip": str(CLIP)}).predict(table)
    monkeypatch.setenv("ECLIPSE_CLIP", str(CLIP))
    assert np.array_equal(mlflow.pyfunc.load_model(uri).predict(table), named)

    other = tmp_path / "other"
    other.mkdir()
    for path in CLIP.iterdir():
        text = path.read_bytes()
        (other / path.name).write_bytes(text.replace(b"0.48145466", b"0.5") if path.suffix == ".json" else text)
    monkeypatch.setenv("ECLIPSE_CLIP", str(other))
    with pytest.raises(CheckpointError, match=r"other: is the CLIP .* but the prior was trained with"):
        mlflow.pyfunc.load_model(uri)


def test_what_was_changed_on_the_server_is_not_handed_out(registry, files, tmp_path):
    version, _ = register(registry, **files)
    (weights,) = (tmp_path / "mlruns").rglob("prior/diffusion_pytorch_model.safetensors")
    prior = load_prior(files["selected"])
    prior.prd_embedding.data += 1
    save_prior(prior, tmp_path / "changed")
    weights.write_bytes((tmp_path / "changed" / weights.name).read_bytes())
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "kept").write_text("kept")
    with pytest.raises(
        CheckpointError, match=rf"version 1: what was fetched .* but {prior_hash(files['selected'])[:12]}"
    ):
        registry.download(version, tmp_path / "got")
    assert [path.name for path in (tmp_path / "got").iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "selection.json").unlink(), r"selection\.json: no such file; run the select stage"),
        (lambda f: (f / "README.md").unlink(), r"README\.md: no such file"),
        (
            lambda f: write_json(f / "training.json", {"lam": 0}),
            r"training\.json: encoder_hash, store_hash, .* missing",
        ),
        (
            lambda f: write_json(f / "selection.json", {"point": "p", "seed": 0, "prior_hash": "0" * 64}),
            r"selection\.json: prior_hash 000000000000 was chosen, but the weights beside it are",
        ),
        (
            lambda f: write_json(
                f / "training.json", {**json.loads((f / "training.json").read_text()), "encoder_hash": "0" * 64}
            ),
            r"clip: is the CLIP .* but the prior was trained with 000000000000",
        ),
        (lambda f: (f.parent / "evaluate" / "eclipse-0.2-0.json").unlink(), r"eclipse-0\.2-0\.json: no such file"),
        (lambda f: write_json(f.parent / "evaluate" / "eclipse-0.2-0.json", {}), r"not an evaluation \(KeyError"),
    ],
)
def test_what_does_not_belong_together_is_one_line_and_makes_no_version(registry, files, spoil, message):
    spoil(files["selected"])
    with pytest.raises(EclipseError, match=message) as caught:
        register(registry, **files)
    assert "\n" not in str(caught.value) and _held(registry) == ([], [], [])


def test_folders_that_are_not_there_are_named(registry, files, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder; run the select stage"):
        register(registry, **{**files, "selected": tmp_path / "nowhere"})
    with pytest.raises(DataError, match=r"nowhere: no such folder; give the frozen models"):
        register(registry, **{**files, "clip": tmp_path / "nowhere"})
