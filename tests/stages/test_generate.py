"""The command ``generate`` from end to end, and every input that it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eclipse import cli
from eclipse.config import load_params
from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.models.checkpoint import prior_hash, save_prior
from eclipse.models.clip import FrozenClip
from eclipse.models.prior import EclipsePrior
from eclipse.stages.generate import run

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "models" / "mini"
PROMPT = "a circle left of a red striped heart on a grey background"


@pytest.fixture(scope="module")
def params():
    return load_params(ROOT / "params.yaml", ["evaluate.decode.steps=2", "evaluate.decode.guidance=1"])


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    torch.manual_seed(0)
    size = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}
    folder = tmp_path_factory.mktemp("prior") / "lambda"
    save_prior(EclipsePrior(96, None, additional_embeddings=4, **size), folder)
    record = {"encoder_hash": FrozenClip.load(MINI / "clip").weights_hash}
    (folder / "training.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def files(tmp_path, monkeypatch):
    """circle.png with alpha, heart.jpg on blue, pose.png; the test runs where they lie."""
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:90, :120]
    disc = (x - 60) ** 2 + (y - 45) ** 2 < 900
    rgba = np.zeros((90, 120, 4), np.uint8)
    rgba[disc] = (40, 200, 60, 255)
    Image.fromarray(rgba).save("circle.png")
    Image.fromarray(np.where(disc[..., None], (220, 30, 40), (20, 40, 190)).astype(np.uint8)).save("heart.jpg")
    Image.fromarray(np.where(disc[..., None], 250, 30).astype(np.uint8).repeat(3, 2)).save("pose.png")
    return tmp_path


def call(params, prior, **changes):
    given = {"prompt": PROMPT, "subject": ("circle=circle.png",), "prior": prior, "frozen": MINI}
    return run(params, **{**given, **changes})


def shown(folder: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(folder / name))


class TestOutput:
    def test_holds_pictures_sheet_and_where_they_come_from(self, params, prior, files):
        record = call(
            params,
            prior,
            subject=("heart=heart.jpg", "circle=circle.png"),
            canny=Path("pose.png"),
            seed=7,
            n=2,
            segment=True,
            out=Path("made/here"),
        )
        out = files / "made" / "here"
        names = ["0001.png", "0002.png", "generation.json", "sheet.png"]
        assert sorted(path.name for path in out.iterdir()) == names
        assert json.loads((out / "generation.json").read_text()) == record
        assert record["seeds"] == [7, 8] and record["images"] == names[:2]
        assert [(s["noun"], s["word"], s["span"], s["masked"]) for s in record["subjects"]] == [
            ("heart", "heart", [31, 36], True),
            ("circle", "circle", [2, 8], True),
        ]
        assert record["prompt"] == PROMPT and record["control"]["edges"] == "canny"
        assert record["prior_hash"] == prior_hash(prior) and record["prior_kind"] == "lambda-eclipse"
        assert record["decode"]["steps"] == 2 and len(record["encoder_hash"]) == 64
        assert shown(out, "0001.png").shape == (64, 64, 3)
        assert shown(out, "sheet.png").shape[1] > 5 * 128

    def test_repeats_bit_for_bit_and_does_not_depend_on_how_many(self, params, prior, files):
        call(params, prior, seed=3, n=3, out=Path("a"))
        call(params, prior, seed=5, out=Path("b"))
        call(params, prior, seed=3, n=3, out=Path("c"))
        assert (files / "a/0003.png").read_bytes() == (files / "b/0001.png").read_bytes()
        for name in ("0001.png", "0002.png", "0003.png", "sheet.png", "generation.json"):
            assert (files / "a" / name).read_bytes() == (files / "c" / name).read_bytes()

    def test_its_own_folder_is_replaced_whole(self, params, prior, files):
        call(params, prior, n=2)
        call(params, prior, n=1)
        assert sorted(path.name for path in (files / "generated").iterdir()) == [
            "0001.png", "generation.json", "sheet.png",
        ]  # fmt: skip

    def test_other_folders_are_left_alone(self, params, prior, files):
        (files / "photos").mkdir()
        call(params, prior, out=Path("photos"))
        (files / "photos/0002.jpg").write_bytes(b"mine")
        (files / "numbered").mkdir()
        (files / "numbered/0001.png").write_bytes(b"mine")
        for name, found in (("photos", "0002.jpg"), ("numbered", "pictures without"), ("circle.png", "circle.png")):
            with pytest.raises(DataError, match=f"{name}: is not a folder .*{found}.*--out"):
                call(params, prior, out=Path(name))
        assert (files / "photos/0002.jpg").read_bytes() == b"mine"

    def test_nothing_is_left_of_a_failure(self, params, prior, files):
        with pytest.raises(DataError):
            call(params, prior, prompt=f"{PROMPT} " * 10 + "circles", subject=("circles=circle.png",))
        assert sorted(path.name for path in files.iterdir()) == ["circle.png", "heart.jpg", "pose.png"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"subject": ("dog=circle.png",)}, "could be a, circle, left"),
            ({"prompt": "a circle by a circle"}, "circle#1 or circle#2"),
            ({"subject": ("circle=none.png",)}, "none.png: No such file"),
            ({"subject": ("circle",)}, "write NOUN=FILE"),
            ({"subject": tuple(f"{w}=circle.png" for w in ("a", "left", "of", "red", "on"))}, "5 subjects.*up to 4"),
            ({"canny": Path("params.yaml")}, "params.yaml"),
            ({"prompt": " "}, "--prompt: is empty"),
            ({"prompt": "circle " + "dog " * 80}, "do not fit the context"),
        ],
    )
    def test_of_the_request(self, params, prior, files, changes, message):
        with pytest.raises(DataError, match=message):
            call(params, prior, **changes)

    def test_of_a_picture_name_its_file(self, params, prior, files):
        Image.new("RGB", (1, 1)).save("dot.png")
        Path("cut.jpg").write_bytes(Path("heart.jpg").read_bytes()[:900])
        small = np.zeros((64, 64, 4), np.uint8)
        small[30:33, 30:33] = 255
        Image.fromarray(small).save("speck.png")
        for name in ("dot.png", "cut.jpg", "speck.png"):
            with pytest.raises(DataError, match=f"^{name}: "):
                call(params, prior, subject=(f"circle={name}",))

    @pytest.mark.parametrize("changes", [{"n": 0}, {"seed": -1}, {"seed": 2**63 - 2, "n": 3}])
    def test_of_numbers(self, params, prior, files, changes):
        with pytest.raises(ConfigError, match="at least one picture and a seed"):
            call(params, prior, **changes)

    def test_of_missing_models_say_what_to_do(self, params, files):
        for given, default in (
            ({}, "artifacts/subjects/selected"),
            ({"subject": (), "canny": Path("pose.png")}, "artifacts/subjects/selected"),
            ({"subject": ()}, "artifacts/selected"),
        ):
            with pytest.raises(CheckpointError, match=f"^{default}: no such folder; run `dvc repro`, or give --prior"):
                call(params, None, **given)
        with pytest.raises(CheckpointError, match="--frozen"):
            call(params, files, frozen=Path("nowhere"))
        with pytest.raises(CheckpointError, match="--decoder"):
            call(params, files, decoder=Path("nowhere"))


def test_from_the_command_line_with_parameters_elsewhere(prior, files, capsys, caplog):
    elsewhere = files / "p" / "other.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text((ROOT / "params.yaml").read_text())
    words = ["generate", "--prompt", PROMPT, "--subject", "circle=circle.png", "--subject", "heart=heart.jpg"]
    words += ["--seed", "7", "-n", "2", "--prior", str(prior), "--frozen", str(MINI), "--params", str(elsewhere)]
    assert cli.main([*words, "--set", "evaluate.decode.steps=1"]) == 0
    record = json.loads((files / "generated/generation.json").read_text())
    assert record["seeds"] == [7, 8] and [s["masked"] for s in record["subjects"]] == [True, False]
    assert record["decode"]["steps"] == 1
    assert [r.getMessage().split(": ")[1] for r in caplog.records] == ["heart.jpg"]
    assert cli.main([*words, "--subject", "dog=circle.png"]) == 2
    assert "error: --subject dog: not in the prompt" in capsys.readouterr().err
