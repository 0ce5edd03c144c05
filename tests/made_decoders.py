"""Random decoders of the real classes that read text: Karlo and Kandinsky 2.1, each drawing 64 × 64 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    KandinskyPipeline,
    PriorTransformer,
    UnCLIPPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, XLMRobertaTokenizer

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CROSS = {
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "cross_attention_dim": 48,
    "resnet_time_scale_shift": "scale_shift",
}


def karlo_parts(width: int) -> dict[str, Any]:
    """The parts of a Karlo for embeddings of ``width``: 32 × 32 pixels, then 64 × 64."""
    torch.manual_seed(0)
    letters = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "<|startoftext|>", "<|endoftext|>"]
    text = CLIPTextConfig(
        hidden_size=width, intermediate_size=32, num_attention_heads=4, num_hidden_layers=2, projection_dim=width,
        vocab_size=len(letters), bos_token_id=len(letters) - 2, eos_token_id=len(letters) - 1, pad_token_id=1,
    )  # fmt: skip
    small = UNet2DConditionModel(**_CROSS, sample_size=32, in_channels=3, out_channels=6, class_embed_type="identity")
    projection = UnCLIPTextProjModel(clip_embeddings_dim=width, time_embed_dim=128, cross_attention_dim=48)
    projection.learned_classifier_free_guidance_embeddings.data.normal_()
    first, last = (
        UNet2DModel(
            sample_size=64, in_channels=6, out_channels=3, layers_per_block=1, block_out_channels=(32, 64),
            down_block_types=("ResnetDownsampleBlock2D",) * 2, up_block_types=("ResnetUpsampleBlock2D",) * 2,
            add_attention=False,
        )
        for _ in range(2)
    )  # fmt: skip
    prior = PriorTransformer(2, 8, num_layers=1, embedding_dim=width)
    return {
        "prior": prior,
        "decoder": small,
        "text_encoder": CLIPTextModelWithProjection(text).eval(),
        "tokenizer": CLIPTokenizer(
            vocab={letter: number for number, letter in enumerate(letters)}, merges=[], model_max_length=77
        ),
        "text_proj": projection,
        "super_res_first": first,
        "super_res_last": last,
        "prior_scheduler": UnCLIPScheduler(prediction_type="sample", num_train_timesteps=1000, clip_sample_range=5.0),
        "decoder_scheduler": UnCLIPScheduler(variance_type="learned_range", num_train_timesteps=1000),
        "super_res_scheduler": UnCLIPScheduler(variance_type="fixed_small_log", num_train_timesteps=1000),
    }


def make_karlo(folder: Path, width: int) -> Path:
    """Write one to ``folder``."""
    UnCLIPPipeline(**karlo_parts(width)).save_pretrained(folder)
    return folder


def make_kandinsky21(folder: Path, width: int, **scheduler: Any) -> Path:
    """Write a Kandinsky 2.1 for embeddings of ``width`` to ``folder``: 16 × 16 × 4 latents."""
    torch.manual_seed(0)
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), ("<mask>", 0.0)]
    pieces += [(letter, -2.0) for letter in _LETTERS]
    text = MCLIPConfig(
        transformerDimSize=24, imageDimSize=width, hidden_size=24, intermediate_size=32, num_attention_heads=4,
        num_hidden_layers=2, vocab_size=len(pieces), max_position_embeddings=90,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        **_CROSS | {"cross_attention_dim": width}, sample_size=16, in_channels=4, out_channels=8, encoder_hid_dim=24,
        addition_embed_type="text_image", encoder_hid_dim_type="text_image_proj", addition_embed_type_num_heads=4,
    )  # fmt: skip
    movq = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 32, 64), layers_per_block=1, latent_channels=4, vq_embed_dim=4, num_vq_embeddings=8,
        norm_type="spatial", mid_block_add_attention=False, sample_size=64,
    )  # fmt: skip
    settings = {
        "beta_schedule": "linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False,
        "set_alpha_to_one": False, "steps_offset": 1, "prediction_type": "epsilon", "thresholding": False,
    }  # fmt: skip
    KandinskyPipeline(
        text_encoder=MultilingualCLIP(text).eval(), tokenizer=XLMRobertaTokenizer(vocab=pieces), unet=unet, movq=movq,
        scheduler=DDIMScheduler(**settings | scheduler),
    ).save_pretrained(folder)  # fmt: skip
    return folder
