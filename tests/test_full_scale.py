"""The profiles of the papers' sizes: what they promise; and one whole in miniature, from URLs to a served picture.

The miniature is the profile ``kandinsky`` with sizes overridden: random CLIP and decoder of the published classes, in
the published forms, and pictures from a web server on loopback. Every step is the command that a person types.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import made_clips
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from fastapi.testclient import TestClient
from made_cache import REVISION, put
from made_checkout import ROOT, commit, make_checkout, merged
from made_decoder import make_decoder
from made_web import COMMAND, serving

from eclipse.cli import main
from eclipse.config import parse_params
from eclipse.config.profile import compose_profile
from eclipse.files import read_json
from eclipse.models.prior import EclipsePrior
from eclipse.serve.app import create_app
from eclipse.serve.load import load

PUBLISHED = {
    "karlo": (768, 3, 33_143_040),
    "kandinsky": (1280, 3, 34_193_152),
    "lambda-kandinsky": (1280, 4, 34_849_536),
}
PICTURES = 72
COLUMNS = {"url": "URL", "caption": "TEXT", "width": "WIDTH", "height": "HEIGHT", "license": "LICENSE"}
SUBSET = {"list": {"format": "parquet", "columns": COLUMNS}, "fetch": {"image_size": 48, "shard_size": 24}}
DECODER = "example/decoder"
MINIATURE = {
    "data": {"path": "data/mini", "shard_size": 16, "dedupe_distance": 0, "evaluation_share": 0.5},
    "frozen": {"hub": {"encoder": {"revision": None}, "decoder": {"repo": DECODER, "revision": REVISION}}},
    "store": {"batch_size": 16, "compile": False},
    "prior": {"layers": 1, "heads": 2, "head_dim": 16},
    "train": {"steps": 12, "batch_size": 8, "cycle": 6, "compile": False, "checkpoint_every": 5, "probe_every": 4},
    "sweep": {"points": ["projection", "eclipse-0.2"]},
    "evaluate": {"images": 3, "bootstrap": 100, "decode": {"steps": 2, "batch_size": 2}},
    "promote": {"images": 3, "bootstrap": 1000, "sheet_prompts": 2},
    "serve": {"steps": 2, "sizes": []},
}  # fmt: skip
SIZE_FREE = {"min_side": 48, "max_unsafe": None, "max_watermark": None, "min_similarity": None, "subset": PICTURES - 8}


@pytest.mark.parametrize(("profile", "published"), PUBLISHED.items())
def test_priors_of_the_profiles_have_the_published_sizes(profile, published):
    width, extras, count = published
    size = parse_params(compose_profile(ROOT, profile)).prior
    with torch.device("meta"):
        prior = EclipsePrior(
            width,
            num_layers=size.layers,
            num_attention_heads=size.heads,
            attention_head_dim=size.head_dim,
            additional_embeddings=extras,
        )
    assert sum(p.numel() for p in prior.parameters()) == count


@pytest.mark.parametrize("profile", PUBLISHED)
def test_profiles_hold_the_papers_hyperparameters(profile):
    params = parse_params(compose_profile(ROOT, profile))
    assert (params.train.lr, params.train.batch_size, params.train.steps) == (5e-5, 1024, 60_000)
    assert params.train.cycle is not None and params.train.temperature is None
    assert {"projection", "diffusion", "eclipse-0.2"} >= set(params.sweep.points) >= {"eclipse-0.2"}
    assert (params.evaluate.diffusion_steps, params.evaluate.diffusion_guidance) == (25, 4.0)
    if profile == "lambda-kandinsky":
        assert (params.train.subject_batch_size, params.train.subject_steps) == (1024, 100_000)
        assert params.train.control_drop == 0.01 and "lambda-0.2-edges" in params.subjects.points


def _stage(*words: str) -> None:
    assert main([*words, "--quiet"]) == 0, words


def _listed(folder: Path, address: str) -> Path:
    """A list of URLs as LAION publishes it: good pictures, a missing one, and one too small."""
    good = [f"{address}/good/{number}.jpg" for number in range(PICTURES - 8)]
    urls = [
        *good,
        *(f"{address}/gone/{number}" for number in range(4)),
        *(f"{address}/good/{900 + i}.jpg" for i in range(4)),
    ]
    columns = {
        "URL": urls,
        "TEXT": [f"a smooth picture with the number {number}" for number in range(len(urls))],
        "WIDTH": [96] * (len(urls) - 4) + [20] * 4,
        "HEIGHT": [64] * (len(urls) - 4) + [20] * 4,
        "LICENSE": ["CC-BY"] * len(urls),
    }
    pq.write_table(pa.table(columns), folder / "list.parquet")
    return folder / "list.parquet"


def _offline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that is only what lies in ``folder``/hub, and BentoML's home beside it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("BENTOML_HOME", str(folder / "bentoml"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.slow
@pytest.mark.skipif(not COMMAND.is_file(), reason="img2dataset is not installed: make web")
def test_kandinsky_in_miniature_from_urls_to_a_served_picture(tmp_path, monkeypatch):
    root = make_checkout(tmp_path / "checkout")
    shutil.copy(ROOT / "requirements.lock", root)
    clip = made_clips.random_model(text={"hidden_size": 20, "num_attention_heads": 2})
    put(tmp_path / "hub", DECODER, make_decoder(tmp_path / "decoder", 20))
    _offline(tmp_path, monkeypatch)
    # MLflow keeps a connection for each address: a relative one may be another test's.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    monkeypatch.chdir(root)
    params = merged(compose_profile(ROOT, "kandinsky"), MINIATURE)
    params["frozen"]["hub"]["encoder"]["repo"] = str(made_clips.as_transformers(clip, tmp_path / "clip"))
    params["data"]["web"] |= SIZE_FREE
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    Path("conf/subset/mini.yaml").write_text(yaml.safe_dump(SUBSET))
    commit(root, "kandinsky in miniature")

    with serving() as (address, _):
        words = ["--from", str(_listed(tmp_path, address)), "--subset", "mini", "--out", "data/mini"]
        _stage("ingest", *words, "--img2dataset", str(COMMAND), "--private-addresses")
    fetched = read_json(Path("data/mini/ingest.json"))["fetched"]
    assert fetched["outcomes"]["success"] >= PICTURES - 12

    _stage("dataset", "--out", "artifacts/dataset", "--metrics", "metrics/dataset.json")
    frozen = ["--dataset", "artifacts/dataset", "--frozen", "artifacts/frozen"]
    words = ["--dataset", "artifacts/dataset", "--out", "artifacts/frozen", "--metrics", "metrics/frozen.json"]
    _stage("frozen", *words, "--checkpoints", "artifacts/checkpoints")
    assert not Path("artifacts/frozen/decoder").exists() and Path("artifacts/frozen/decoder.json").is_file()
    _stage("embed", *frozen, "--out", "artifacts/store", "--metrics", "metrics/store.json")
    assert read_json(Path("artifacts/store/header.json"))["precision"] == "bf16"
    for point in ("projection", "eclipse-0.2", "truth", "text"):
        words = ["--point", point, "--seed", "0", "--store", "artifacts/store"]
        if point in ("projection", "eclipse-0.2"):
            made = ["--out", f"artifacts/priors/{point}-0", "--metrics", f"metrics/train/{point}-0.json"]
            _stage("train", *words, *made, "--checkpoints", "artifacts/checkpoints")
            words += ["--prior", f"artifacts/priors/{point}-0"]
        made = ["--out", f"artifacts/evaluate/{point}-0", "--metrics", f"metrics/evaluate/{point}-0.json"]
        _stage("evaluate", *words, *frozen, *made)
    words = ["--evaluations", "metrics/evaluate", "--priors", "artifacts/priors", "--out", "artifacts/selected"]
    _stage("select", *words, "--metrics", "metrics/select.json")
    words = ["--evaluations", "metrics/evaluate", "--details", "artifacts/evaluate", "--priors", "artifacts/priors"]
    words += ["--selected", "artifacts/selected", "--dataset", "artifacts/dataset", "--out", "artifacts/report"]
    _stage("report", *words)
    _stage("track")
    _stage("register")
    _stage("review")
    _stage("sign", "--version", "1", "--reviewer", "Ada")
    _stage("promote", "--version", "1", "--override", "--reason", "a miniature")

    (bento,) = (path for path in (tmp_path / "bentoml/bentos/eclipse-kandinsky-2-2").iterdir() if path.is_dir())
    serving_ = load(bento / "src")
    try:
        client = TestClient(create_app(serving_))
        asked = {"prompt": "a smooth picture", "size": "64x64", "seed": 7}
        answer = client.post("/v1/images/generations", json=asked)
        assert answer.status_code in (200, 500), answer.text
        assert answer.status_code == 200 or answer.json()["error"]["code"] == "degenerate_image", answer.text
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [
            "eclipse-prior-eclipse-kandinsky-2-2"
        ]
    finally:
        serving_.engine.close(0)
