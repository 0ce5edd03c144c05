import json
from pathlib import Path

import numpy as np
import pytest
import torch
from made_offload import Moves, offload_layers
from PIL import Image

from eclipse.config.load import parse_params
from eclipse.data.images import encode_png
from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.files import sha256, write_json
from eclipse.models.checkpoint import prior_hash, save_prior
from eclipse.models.clip import FrozenClip
from eclipse.models.prior import EclipsePrior
from eclipse.personalize.corners import read_corners
from eclipse.personalize.generate import generate, load_clip, load_tools
from eclipse.personalize.ways import Way, figures, image_way, pixel_way, text_way
from eclipse.stages import interpolate
from eclipse.stages.registry import describe

MINI = Path(__file__).resolve().parents[2] / "models/mini"
SUBJECT = "subjects: {circle: circle.png}"
SAME_LENGTH = f"""
- {{prompt: a circle on a red background, {SUBJECT}}}
- {{prompt: a star on a blue background, canny: circle.png}}
"""
OTHER_LENGTH = f"[{{prompt: a circle, {SUBJECT}}}, {{prompt: a star on a blue background}}]"
PARAMS = parse_params(
    {
        "data": {}, "frozen": {}, "store": {}, "prior": {}, "train": {"steps": 1, "batch_size": 2}, "sweep": {},
        "select": {}, "tracking": {}, "evaluate": {"decode": {"steps": 2}},
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An untrained λ-ECLIPSE prior for the shipped CLIP, a subject's picture, and two files of corners."""
    root = tmp_path_factory.mktemp("interpolate")
    clip = FrozenClip.load(MINI / "clip")
    torch.manual_seed(0)
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "additional_embeddings": 4}
    prior = EclipsePrior(clip.projection_dim, clip.state_dim, **sizes)
    with torch.no_grad():
        prior.proj_to_clip_embeddings.weight.mul_(20)  # as far apart as trained predictions are
    save_prior(prior, root / "prior")
    write_json(root / "prior" / "training.json", {"encoder_hash": clip.weights_hash})
    disc = np.hypot(*(np.indices((48, 48)) - 23.5)) < 18
    (root / "circle.png").write_bytes(encode_png(np.where(disc[..., None], (200, 30, 30), 255).astype(np.uint8)))
    (root / "same.yaml").write_text(SAME_LENGTH)
    (root / "other.yaml").write_text(OTHER_LENGTH)
    return root


@pytest.fixture(scope="module")
def tools(made):
    return load_tools(prior=made / "prior", clip=load_clip(MINI), decoder=MINI / "decoder")


def requests(made, tools, name="same.yaml", seed=0):
    return [corner.request(tools.clip.image_size, seed) for corner in read_corners(made / name, limit=4)]


def run(made, out, name="same.yaml", **changes):
    flags = {"grid": made / name, "steps": 3, "prior": made / "prior", "frozen": MINI, "out": out, **changes}
    return interpolate.run(PARAMS, **flags)


def test_the_command_line_takes_what_it_needs():
    flags = {flag.name: flag for flag in describe("interpolate").flags}
    assert [name for name, flag in flags.items() if flag.required] == ["grid"]
    assert flags["out"].is_output and flags["steps"].default == 7


def test_writes_picture_and_figures_the_same_each_time(made, tmp_path):
    record = run(made, tmp_path / "grid.png", seed=3)
    run(made, tmp_path / "again.png", seed=3)
    run(made, tmp_path / "other.png", seed=4)
    once, again, other = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("grid", "again", "other"))
    assert once == again == record
    assert (tmp_path / "grid.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert once["picture_sha256"] == sha256(tmp_path / "grid.png") != other["picture_sha256"]
    assert (once["steps"], once["mode"], once["seed"]) == (3, "linear", 3)
    assert once["prior_hash"] == prior_hash(made / "prior")
    circle, star = once["corners"]
    assert circle["subjects"]["circle"]["sha256"] == star["canny"]["sha256"] == sha256(made / "circle.png")
    for way in ("image", "pixels", "text"):
        entry = once["smoothness"][way]
        assert 1 <= entry["ratio"] <= 2 and entry["length"] > 0 and entry["paths"] == 1 and entry["reason"] is None
    assert Image.open(tmp_path / "grid.png").width == 3 * (96 + 6) + 6
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.{kind}" for name in ("grid", "again", "other") for kind in ("png", "json")
    )


def test_corner_pictures_are_what_generate_draws(made, tools):
    corners = requests(made, tools, seed=7)
    for mode in ("linear", "slerp"):
        cells = image_way(tools, corners, PARAMS.evaluate, steps=2, mode=mode).cells
        for cell, corner in zip(cells[0], corners, strict=True):
            assert np.array_equal(cell, generate(tools, corner, PARAMS.evaluate)[0])
    text = text_way(tools, corners, PARAMS.evaluate, steps=2).cells
    assert np.array_equal(text, cells)


def test_the_ways_differ_between_the_corners(made, tools):
    corners = requests(made, tools)
    image = image_way(tools, corners, PARAMS.evaluate, steps=3, mode="linear")
    text = text_way(tools, corners, PARAMS.evaluate, steps=3)
    fade = pixel_way(image, steps=3)
    assert np.array_equal(fade.cells[0, [0, 2]], image.cells[0, [0, 2]])
    middles = [way.cells[0, 1].astype(int) for way in (image, text, fade)]
    assert all(np.abs(a - b).max() > 0 for a, b in zip(middles, middles[1:] + middles[:1], strict=True))


def test_text_of_different_lengths_is_reported_as_unmeasured(made, tools):
    way = text_way(tools, requests(made, tools, "other.yaml"), PARAMS.evaluate, steps=3)
    entry = figures(tools, way)
    assert entry["ratio"] is entry["length"] is None and "4, 8 tokens" in entry["reason"]


def test_equal_corners_have_no_ratio_but_say_so(made, tools):
    corners = requests(made, tools)[:1] * 2
    entry = figures(tools, image_way(tools, corners, PARAMS.evaluate, steps=2, mode="slerp"))
    assert entry == {"ratio": None, "length": 0, "paths": 1, "reason": "no picture differs from the next"}


def test_four_corners_make_a_square(made, tools):
    corners = requests(made, tools) + requests(made, tools, "other.yaml")
    cells = image_way(tools, corners, PARAMS.evaluate, steps=2, mode="linear").cells
    assert cells.shape[:2] == (2, 2)
    for cell, corner in zip(cells.reshape(4, *cells.shape[2:]), corners, strict=True):
        assert np.array_equal(cell, generate(tools, corner, PARAMS.evaluate)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 1}, "--steps 1"),
        ({"seed": -1}, "--seed -1"),
        ({"mode": "cubic"}, "--mode cubic: choose linear or slerp"),
        ({"out": Path("grid.jpg")}, r"grid.jpg: .*\.png"),
    ],
)
def test_bad_flags(made, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(made, **{"out": tmp_path / "grid.png", **changes})


def test_without_a_prior_the_selected_ones_are_looked_for(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="^artifacts/subjects/selected: no such folder.*dvc repro"):
        run(made, tmp_path / "grid.png", prior=None)
    (tmp_path / "text.yaml").write_text("[{prompt: a}, {prompt: b}]")
    with pytest.raises(CheckpointError, match="^artifacts/selected: no such folder"):
        run(tmp_path, tmp_path / "grid.png", "text.yaml", prior=None)


def test_a_failure_leaves_what_was_there(made, tmp_path):
    (tmp_path / "grid.png").write_bytes(b"before")
    (tmp_path / "long.yaml").write_text(f"[{{prompt: a}}, {{prompt: {'word ' * 90}}}]")
    with pytest.raises(DataError, match="tokens do not fit"):
        run(made, tmp_path / "grid.png", tmp_path / "long.yaml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.png", "long.yaml"]
    assert (tmp_path / "grid.png").read_bytes() == b"before"


@pytest.fixture
def moved(made):
    return load_tools(prior=made / "prior", clip=load_clip(MINI), decoder=MINI / "decoder")


def way():
    return Way(np.random.default_rng(0).integers(0, 256, (1, 2, 64, 64, 3), np.uint8))


def test_figures_are_the_same_where_layers_are_moved_for_their_work(tools, moved):
    offload_layers(moved.decoder)
    assert moved.decoder.movq.device.type == "meta"
    assert figures(moved, way()) == figures(tools, way())


def test_figures_leave_room_for_what_is_drawn_next(tools, moved, monkeypatch):
    moves = Moves(moved.decoder, monkeypatch)
    for _ in range(2):
        assert figures(moved, way()) == figures(tools, way())
        moved.decoder.decode(torch.zeros(1, 96), seeds=[0], steps=1)
    assert moves.called == {"unet", "movq"} and all(len(there) == 1 for there in moves.seen)
