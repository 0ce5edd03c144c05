"""Stage ``finetune`` with the mini CLIP and a tiny decoder; the study in its smallest form."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_decoder import make_decoder
from PIL import Image

from eclipse.config import load_params
from eclipse.errors import ConfigError, DataError
from eclipse.models.decoder import load_decoder
from eclipse.stages import finetune

ROOT = Path(__file__).parents[2]
MINI = ROOT / "models" / "mini"


@pytest.fixture(scope="module")
def frozen(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    for name in ("clip", "oracle"):
        shutil.copytree(MINI / name, folder / name)
    make_decoder(folder / "decoder", 96)
    return folder


def tiny(*changes: str):
    return load_params(ROOT / "params.yaml", ["finetune.batch_size=2", *changes])


@pytest.fixture
def photos(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    for i in range(2):
        picture = np.random.default_rng(i).integers(0, 255, (48, 80, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def test_writes_a_decoder_of_all_concepts(frozen, photos, tmp_path):
    out = tmp_path / "out"
    finetune.run(
        tiny(), concept=(f"toy={photos}", f"one={photos / '1.png'}"), steps=2, out=out, frozen=frozen,
        checkpoints=tmp_path / "states", seed=4,
    )  # fmt: skip
    record = json.loads((out / "finetune.json").read_text())
    assert {name: sorted(found) for name, found in record["concepts"].items()} == {
        "toy": ["0.png", "1.png"],
        "one": ["1.png"],
    }
    assert (record["steps"], record["seed"]) == (2, 4)
    assert load_decoder(out, device="cpu").embedding_dim == 96


@pytest.mark.parametrize(
    ("concept", "steps", "error", "message"),
    [
        (("photos",), 1, ConfigError, "write NAME=FOLDER"),
        (("toy=missing-folder",), 1, DataError, "missing-folder: no such folder"),
        (("toy=photos",), 0, ConfigError, "--steps 0"),
    ],
)
def test_refusals_come_before_any_model_is_loaded(tmp_path, concept, steps, error, message):
    with pytest.raises(error, match=message):
        finetune.run(tiny(), concept=concept, steps=steps, out=tmp_path / "o", frozen=tmp_path / "none")


def test_a_folder_that_holds_something_else_is_refused_at_once(tmp_path, photos):
    with pytest.raises(ConfigError, match="exists and is no finetuned decoder"):
        finetune.run(tiny(), concept=(f"toy={photos}",), out=photos, frozen=tmp_path / "none")


@pytest.mark.slow
def test_study_reports_gain_and_forgetting_for_both_settings(frozen, tmp_path):
    small = [f"finetune.study.{k}" for k in ("steps=1", "stronger_steps=1", "pictures=2", "others=2", "scenes=4")]
    params = tiny(*small, "finetune.study.bootstrap=100", "evaluate.decode.steps=1", "evaluate.decode.guidance=1")
    out = tmp_path / "study"
    finetune.study(params, frozen=frozen, out=out, checkpoints=tmp_path / "states")
    found = json.loads((out / "results.json").read_text())
    keys = [(row["setting"], row["concepts"], row["of"], row["metric"]) for row in found["rows"]]
    assert len(keys) == len(set(keys)) == 2 * 2 * 12
    for row in found["rows"]:
        assert row["difference"]["n"] == (4 if row["of"] == "scenes" else 3)
        assert row["difference"]["value"] == pytest.approx(row["after"]["value"] - row["before"]["value"])
    text = (out / "README.md").read_text()
    assert "lr 1e-05, 1 steps" in text and text.count("| stronger | together |") == 12
    assert Image.open(out / "figures" / "before_after.png").width > 300
    assert not (tmp_path / "states" / "finetune-study").exists()
