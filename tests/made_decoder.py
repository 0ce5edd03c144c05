"""A random decoder of the real classes with Kandinsky's interfaces: 64 × 64 pixels, 16 × 16 × 4 latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, KandinskyV22Pipeline, UNet2DConditionModel, VQModel


def make_decoder(folder: Path, width: int, **scheduler: Any) -> Path:
    """Write one for embeddings of ``width`` to ``folder``; ``scheduler`` changes the noise schedule's settings."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=8, layers_per_block=1, block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "SimpleCrossAttnDownBlock2D"), mid_block_type=None,
        up_block_types=("SimpleCrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=32, cross_attention_dim=32,
        encoder_hid_dim=width, encoder_hid_dim_type="image_proj", addition_embed_type="image", norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    movq = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 32, 64), layers_per_block=1, latent_channels=4, vq_embed_dim=4, num_vq_embeddings=8,
        norm_type="spatial", mid_block_add_attention=False, sample_size=64,
    )  # fmt: skip
    settings = {
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "clip_sample": False,
        **scheduler,
    }
    KandinskyV22Pipeline(unet=unet, movq=movq, scheduler=DDPMScheduler(**settings)).save_pretrained(folder)
    return folder
