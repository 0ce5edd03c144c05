"""Concept folders: what is read, what is refused, and which picture comes up when."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from made_decoder import make_decoder
from PIL import Image

from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.models.decoder import load_decoder
from eclipse.personalize.finetune_data import Concept, batch_indices, load_concept, make_material, parse_concepts


class MeanClip:
    """z_x = the picture's mean colour and its size."""

    projection_dim = 4

    def encode_image(self, images):
        means = torch.from_numpy(images).float().mean((1, 2))
        return torch.cat([means, torch.full((len(means), 1), float(images.shape[1]))], 1)


def picture(path, size=(40, 30), colour=(200, 10, 10)):
    Image.new("RGB", size, colour).save(path)


def test_concepts_are_name_and_folder():
    parsed = parse_concepts(["my-toy=photos/", "other = a=b/c"])
    assert {name: str(path) for name, path in parsed.items()} == {"my-toy": "photos", "other": "a=b/c"}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["photos/"], "write NAME=FOLDER"),
        (["=photos/"], "write NAME=FOLDER"),
        (["toy="], "write NAME=FOLDER"),
        (["toy=a", "toy=b"], "'toy' is given twice"),
        ([], "--concept is missing"),
    ],
)
def test_bad_syntax_is_refused(texts, message):
    with pytest.raises(ConfigError, match=message):
        parse_concepts(texts)


def test_a_folder_is_read_in_order_and_cut_square_about_the_middle(tmp_path, caplog):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    Image.fromarray(wide).save(tmp_path / "b.png")
    picture(tmp_path / "a.jpg", (30, 30))
    picture(tmp_path / ".hidden.png")
    (tmp_path / "notes.heif-x").write_text("no picture")
    (tmp_path / "deeper").mkdir()
    concept = load_concept("toy", tmp_path)
    assert list(concept.sources) == ["a.jpg", "b.png"]
    assert [image.shape for image in concept.images] == [(30, 30, 3), (20, 20, 3)]
    assert (concept.images[1] == 255).all()
    assert "notes.heif-x" in caplog.text


def test_one_picture_may_stand_for_a_folder(tmp_path):
    picture(tmp_path / "toy.png")
    assert list(load_concept("toy", tmp_path / "toy.png").sources) == ["toy.png"]


def test_missing_empty_and_damaged_name_the_place(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        load_concept("toy", tmp_path / "nowhere")
    with pytest.raises(DataError, match=f"{tmp_path.name}: holds no pictures for concept 'toy'"):
        load_concept("toy", tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    with pytest.raises(DataError, match="broken.png"):
        load_concept("toy", tmp_path)


def test_material_has_unscaled_latents_of_the_fitted_and_embeddings_of_the_whole_picture(tmp_path, caplog):
    decoder = load_decoder(make_decoder(tmp_path / "d", 4), device="cpu")
    rng = np.random.default_rng(0)
    large, small = rng.integers(0, 255, (128, 128, 3), np.uint8), np.full((16, 16, 3), 90, np.uint8)
    material = make_material(
        [Concept("a", (large,), {"x.png": "0"}), Concept("b", (small,), {"y.png": "1"})], MeanClip(), decoder
    )
    assert material.counts == (1, 1) and material.names == ("a/x.png", "b/y.png")
    assert material.image_embeds[:, 3].tolist() == [128, 16]
    halved = large.reshape(64, 2, 64, 2, 3).mean((1, 3))  # halving by area is the mean of each 2 × 2
    with torch.no_grad():
        pixels = torch.from_numpy(np.rint(halved)).permute(2, 0, 1)[None].float() / 127.5 - 1
        expected = decoder.pipeline.movq.encode(pixels).latents
    assert material.latents.shape == (2, 4, 16, 16)
    assert torch.allclose(material.latents[:1], expected, atol=0.02)
    assert "b/y.png: 16 pixels wide" in caplog.text and "a/x.png" not in caplog.text


def test_material_refuses_a_clip_of_another_width(tmp_path):
    decoder = load_decoder(make_decoder(tmp_path / "d", 12), device="cpu")
    with pytest.raises(CheckpointError, match="4 dimensions, the decoder takes 12"):
        make_material([Concept("a", (np.zeros((64, 64, 3), np.uint8),), {"x": "0"})], MeanClip(), decoder)


def test_concepts_come_up_equally_often_and_pictures_in_turn():
    counts = (5, 2, 1)
    drawn = [int(i) for step in range(30) for i in batch_indices(counts, 3, step, 4)]
    per_concept = Counter(0 if i < 5 else 1 if i < 7 else 2 for i in drawn)
    assert per_concept == {0: 40, 1: 40, 2: 40}
    first = [i for i in drawn if i < 5]
    assert all(sorted(first[k : k + 5]) == [0, 1, 2, 3, 4] for k in range(0, 40, 5))


def test_batches_depend_on_seed_and_step_alone_not_on_their_size():
    small = [int(i) for step in range(6) for i in batch_indices((5, 3), 0, step, 2)]
    large = [int(i) for step in range(2) for i in batch_indices((5, 3), 0, step, 6)]
    assert small == large
    assert small != [int(i) for step in range(6) for i in batch_indices((5, 3), 1, step, 2)]
