import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import VQModel

from eclipse.config.frozen import FitParams, FrozenParams
from eclipse.pretrain import movq
from eclipse.pretrain.clip import build_clip, encode_images, encode_text_short, open_gap, rescale, shift
from eclipse.pretrain.decoder import CONDITION_DROP, build_unet, save_decoder, train_decoder
from eclipse.pretrain.fit import FitSettings
from eclipse.pretrain.pairs import RecordPairs
from eclipse.world.pool import make_pool

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 4, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def clip():
    return build_clip(CLIP, 0).eval()


@pytest.fixture(scope="module")
def pool():
    return make_pool(48, seed=7, edges=0.2, crops=0.2)


def test_short_text_encoding_is_open_clips(clip):
    import open_clip

    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=77)(
        ["a red star", "a much longer caption of two blue hearts"]
    )
    with torch.no_grad():
        assert torch.allclose(encode_text_short(clip, tokens), clip.encode_text(tokens), atol=1e-5)


def test_rescale_gives_unit_variance_and_keeps_cosines(clip, pool):
    before = encode_images(clip, pool.images)
    rescale(clip, pool.images)
    after = encode_images(clip, pool.images)
    assert after.var(0).mean() == pytest.approx(1, rel=1e-3)
    assert torch.allclose(F.cosine_similarity(before[:1], before), F.cosine_similarity(after[:1], after), atol=1e-4)


def test_open_gap_moves_all_images_by_one_vector(clip, pool):
    before = encode_images(clip, pool.images)
    open_gap(clip, pool.images, seed=3)
    moved = encode_images(clip, pool.images) - before
    assert torch.allclose(moved, moved[:1].expand_as(moved), atol=1e-3)


def test_pool_twins_share_kind_and_differ_in_content(pool):
    for i in range(0, len(pool.images), 2):
        assert pool.kinds[i] == pool.kinds[i + 1]
        assert pool.scenes[i] != pool.scenes[i + 1]
    index = pool.draw(np.random.default_rng(0), 8)
    assert (index[4:] == index[:4] + 1).all() and (index[:4] % 2 == 0).all()


def test_pool_is_a_function_of_its_seed():
    first, second = make_pool(6, seed=5), make_pool(6, seed=5)
    assert (first.images == second.images).all() and first.scenes == second.scenes
    assert (make_pool(6, seed=6).images != first.images).any()


def test_edge_captions_name_no_colour(pool):
    rng = np.random.default_rng(0)
    for i, kind in enumerate(pool.kinds):
        if kind == "edges":
            assert not any(t.colour in pool.caption(i, rng) for t in pool.scenes[i].things)


def test_shift_stays_in_reach():
    images = np.zeros((1, 64, 64, 3), np.uint8)
    images[0, 30, 30] = 255
    y, x = np.argwhere(shift(images, np.random.default_rng(1))[0, ..., 0])[0]
    assert abs(y - 30) <= 2 and abs(x - 30) <= 2


def test_record_pairs_draw_families_without_repetition():
    families = tuple(np.arange(i, i + 3) for i in range(0, 30, 3))
    pairs = RecordPairs(np.zeros((40, 1, 1, 3), np.uint8), tuple(map(str, range(40))), families)
    index = pairs.draw(np.random.default_rng(0), 20)
    assert len(set(index.tolist())) == 20
    assert np.isin([i // 3 for i in index if i < 30], [i // 3 for i in index[:3]]).any()


def test_latents_are_normalised_without_changing_pictures(pool):
    torch.manual_seed(0)
    model = VQModel(**movq.MOVQ_CONFIG).eval()
    images = pool.images[:8]
    with torch.no_grad():
        before = model.decode(movq.encode(model, images), force_not_quantize=True).sample
        movq.normalise_latents(model, images)
        latents = movq.encode(model, images)
        after = model.decode(latents, force_not_quantize=True).sample
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3)
    assert torch.allclose(before, after, atol=1e-3)


def test_whitened_projections_see_all_directions_alike():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 16, generator=generator) * torch.logspace(0, -1, 16) + 5
    unet = build_unet(z, 0)
    seen = unet.add_embedding.image_proj(z)
    assert seen.mean(0).abs().max() < 0.1
    white = torch.linalg.lstsq(unet.add_embedding.image_proj.weight.T, torch.eye(16)).solution
    assert seen.var(0).max() < 10 * seen.var(0).mean() and torch.isfinite(white).all()


@pytest.mark.slow
def test_decoder_learns_its_condition_and_loads_as_the_kandinsky_pipeline(tmp_path):
    from diffusers import KandinskyV22Pipeline

    torch.manual_seed(0)
    z = torch.randn(32, 16)
    latents = z[:, :4, None, None].expand(32, 4, 16, 16).contiguous()
    settings = FitSettings(steps=30, batch_size=8, lr=2e-3, warmup=5, save_every=30)
    unet = train_decoder(latents, z, torch.zeros(16), settings, tmp_path / "state.pt")
    assert 0 < CONDITION_DROP < 1
    save_decoder(unet, VQModel(**movq.MOVQ_CONFIG), tmp_path / "decoder")
    pipeline = KandinskyV22Pipeline.from_pretrained(tmp_path / "decoder", local_files_only=True)
    assert pipeline.unet.config.encoder_hid_dim == 16
    for path in (tmp_path / "decoder").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_frozen_fit_parameters_are_checked():
    with pytest.raises(ValueError):
        FrozenParams(clip=FitParams(steps=0, batch_size=8, lr=1e-3))
    assert json.loads(FrozenParams().model_dump_json())["source"] == "shipped"
