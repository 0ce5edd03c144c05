"""Trains the mini decoder UNet: diffusers' ``UNet2DConditionModel`` conditioned on CLIP image embeddings alone.

The saved folder is what the unmodified ``KandinskyV22Pipeline.from_pretrained`` loads. As in Kandinsky 2.2 the image
embedding enters twice: added to the time embedding, and as a few tokens for cross-attention.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, KandinskyV22Pipeline, UNet2DConditionModel, VQModel
from torch import Tensor, nn

from eclipse.files import atomic_folder
from eclipse.pretrain.fit import FitSettings, fit

UNET_CONFIG: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 8,  # as Kandinsky's: noise and a variance that its pipeline splits off
    "down_block_types": ("DownBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": None,
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (64, 128),
    "layers_per_block": 1,
    "attention_head_dim": 32,
    "cross_attention_dim": 64,
    "encoder_hid_dim_type": "image_proj",
    "addition_embed_type": "image",
    "resnet_time_scale_shift": "scale_shift",
    "norm_num_groups": 16,
}
# v-prediction on a cosine schedule with zero terminal SNR: at 16 × 16 latents the linear schedule spends most of its
# steps on pure noise, and the first step must be able to set a whole picture's brightness.
SCHEDULER_CONFIG: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
}
CONDITION_DROP = 0.1


def build_unet(image_embeds: Tensor, seed: int) -> UNet2DConditionModel:
    """A fresh UNet whose two projections of z_x start as whitening maps of ``image_embeds`` (float32 (N, P)).

    CLIP spreads shape and texture over directions of small variance; an ordinary initialisation sees mostly the
    modality's mean and the strongest attributes, and learns the rest much later.
    """
    torch.manual_seed(seed)
    dim = image_embeds.shape[1]
    unet = UNet2DConditionModel(**UNET_CONFIG, encoder_hid_dim=dim)
    _whiten(unet.encoder_hid_proj.image_embeds, image_embeds)
    _whiten(unet.add_embedding.image_proj, image_embeds)
    return unet


@torch.no_grad()
def _whiten(linear: nn.Linear, points: Tensor) -> None:
    mean = points.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((points - mean).T))
    floor = 1e-3 * values.max()
    white = vectors * (values.clamp(min=floor) ** -0.5)
    mix = torch.randn(linear.out_features, points.shape[1]) / points.shape[1] ** 0.5
    linear.weight.copy_(mix @ white.T)
    linear.bias.copy_(-linear.weight @ mean)


def train_decoder(
    latents: Tensor, image_embeds: Tensor, negative: Tensor, settings: FitSettings, checkpoint: Path
) -> UNet2DConditionModel:
    """Fit the UNet on ``latents`` (N, 4, 16, 16) given ``image_embeds`` (N, P); ``negative`` (P,) is "nothing"."""
    unet = build_unet(image_embeds, settings.seed)
    alphas = DDPMScheduler(**SCHEDULER_CONFIG).alphas_cumprod

    def loss_at(step: int, rng: np.random.Generator) -> Tensor:
        index = torch.from_numpy(rng.choice(len(latents), settings.batch_size, replace=False))
        x0, z = latents[index].float(), image_embeds[index]
        z = torch.where(torch.rand(len(z), 1) < CONDITION_DROP, negative, z)
        t = torch.randint(0, len(alphas), (len(x0),))
        a = alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(x0)
        noisy, velocity = a.sqrt() * x0 + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x0
        with torch.autocast("cpu", torch.bfloat16):
            out = unet(noisy, t, encoder_hidden_states=None, added_cond_kwargs={"image_embeds": z}).sample
        return F.mse_loss(out[:, :4].float(), velocity)

    trained = fit(unet, loss_at, settings, checkpoint, name="decoder")
    return trained.eval()


def save_decoder(unet: UNet2DConditionModel, movq: VQModel, folder: Path) -> None:
    """Write the folder that ``KandinskyV22Pipeline.from_pretrained`` loads; fp16 safetensors."""
    pipeline = KandinskyV22Pipeline(unet=unet, movq=movq, scheduler=DDPMScheduler(**SCHEDULER_CONFIG))
    with atomic_folder(folder) as beside:
        pipeline.to(torch.float16).save_pretrained(beside, safe_serialization=True)
        for path in beside.rglob("*.json"):  # no path of the machine that trained it
            config = json.loads(path.read_text())
            config.pop("_name_or_path", None)
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    pipeline.to(torch.float32)
