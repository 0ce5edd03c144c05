import json

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22Pipeline, UNet2DConditionModel
from made_decoder import make_decoder

from eclipse.errors import CheckpointError, ConfigError, DataError
from eclipse.models.decoder import KandinskyV22Decoder, load_decoder
from eclipse.models.decoder.samplers import SCHEDULERS

P = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_decoder(tmp_path_factory.mktemp("decoder") / "tiny", P)


@pytest.fixture(scope="module")
def decoder(folder):
    return load_decoder(folder, device="cpu")


@pytest.fixture(scope="module")
def embeds():
    return torch.randn(3, P, generator=torch.Generator().manual_seed(1))


def far(a, b):
    return np.abs(a.astype(int) - b.astype(int)).max()


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_a_picture_depends_on_its_own_embedding_and_seed_alone(decoder, embeds, scheduler):
    together = decoder.decode(embeds, seeds=[5, 6, 7], steps=3, scheduler=scheduler)
    assert together.shape == (3, 64, 64, 3) and together.dtype == np.uint8
    split = decoder.decode(embeds, seeds=[5, 6, 7], steps=3, scheduler=scheduler, batch_size=2)
    alone = decoder.decode(embeds[[2]], seeds=[7], steps=3, scheduler=scheduler)
    assert far(together, split) <= 1 and far(together[2:], alone) <= 1  # rounding of the last bit may differ
    other_seed = decoder.decode(embeds[[2]], seeds=[8], steps=3, scheduler=scheduler)
    other_embed = decoder.decode(embeds[[1]], seeds=[7], steps=3, scheduler=scheduler)
    assert far(alone, other_seed) > 5 and far(alone, other_embed) > 0


def test_repeats_bit_for_bit_whatever_the_global_random_state(decoder, embeds):
    first = decoder.decode(embeds[:1], seeds=[3], steps=2, scheduler="ddpm")
    torch.rand(5)
    assert np.array_equal(first, decoder.decode(embeds[:1], seeds=[3], steps=2, scheduler="ddpm"))


def test_equals_the_unmodified_pipeline(folder, decoder, embeds):
    pipeline = KandinskyV22Pipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        embeds, None, height=64, width=64, num_inference_steps=2, guidance_scale=1.0, output_type="np",
        generator=[torch.Generator().manual_seed(s) for s in (1, 2, 3)],
    ).images  # fmt: skip
    assert far(np.rint(images * 255), decoder.decode(embeds, seeds=[1, 2, 3], steps=2, scheduler="ddpm")) <= 1


def test_guidance_above_one_needs_the_negative_and_changes_the_picture(decoder, embeds):
    with pytest.raises(ConfigError, match="all-zero pixel"):
        decoder.decode(embeds, seeds=[0, 1, 2], steps=1, guidance=2.0)
    one = decoder.decode(embeds[:2], seeds=[0, 1], steps=2)
    same = decoder.decode(embeds[:2], seeds=[0, 1], steps=2, guidance=0.5)
    more = decoder.decode(
        embeds[:2], seeds=[0, 1], steps=2, guidance=6.0, negative_embeds=np.full((1, P), 3, np.float32)
    )
    assert np.array_equal(one, same) and far(one, more) > 1


def test_every_scheduler_keeps_the_decoders_own_noise_schedule(decoder):
    for name in SCHEDULERS:
        config = decoder._scheduler(name).config
        assert (config.prediction_type, config.beta_schedule) == ("v_prediction", "squaredcos_cap_v2")
        assert config.rescale_betas_zero_snr is True


def test_a_learned_variance_does_not_break_the_deterministic_solvers(tmp_path, embeds):
    settings = {"variance_type": "learned_range", "prediction_type": "epsilon", "rescale_betas_zero_snr": False}
    learned = load_decoder(make_decoder(tmp_path / "learned", P, **settings), device="cpu")
    for name in SCHEDULERS:
        assert learned.decode(embeds[:1], seeds=[0], steps=2, scheduler=name).shape == (1, 64, 64, 3)


def test_no_embeddings_give_no_pictures(decoder):
    assert decoder.decode(np.zeros((0, P), np.float32), seeds=[], steps=2).shape == (0, 64, 64, 3)


def test_refusals_say_what_to_do(decoder, embeds, tmp_path):
    with pytest.raises(ConfigError, match="euler.*dpm\\+\\+, ddim, ddpm"):
        decoder.decode(embeds, seeds=[0, 1, 2], steps=1, scheduler="euler")
    with pytest.raises(DataError, match="2 decoder seeds for 3"):
        decoder.decode(embeds, seeds=[0, 1], steps=1)
    with pytest.raises(DataError, match=rf"\[N, {P}\]"):
        decoder.decode(torch.zeros(2, P + 1), seeds=[0, 1], steps=1)
    with pytest.raises(DataError, match="not finite"):
        decoder.decode(torch.full((1, P), torch.nan), seeds=[0], steps=1)
    with pytest.raises(CheckpointError, match="model_index.json"):
        load_decoder(tmp_path, device="cpu")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyV22Pipeline"}))
    with pytest.raises(CheckpointError, match="does not load"):
        load_decoder(tmp_path, device="cpu")


def test_a_unet_without_variance_channels_is_refused(decoder):
    pipeline = decoder.pipeline
    narrow = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(32,), norm_num_groups=16,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), mid_block_type=None,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="out_channels 4"):
        KandinskyV22Decoder(KandinskyV22Pipeline(unet=narrow, movq=pipeline.movq, scheduler=pipeline.scheduler))
