"""The real model classes in the smallest configurations that still have all their parts, with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    BertConfig,
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
    SwinConfig,
    T5Config,
)

WORDS = ["dog", "cat", "hat", "fire", "hydrant", "a", "the", "red", "on", "and", "with", "of", "grass", "two"]


def scramble(model: torch.nn.Module, std: float, seed: int = 0) -> None:
    """Weights large enough for the output to depend on the input; fresh models are nearly constant."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, std, generator=generator)


def save_captioner(folder: Path, language: str) -> Path:
    torch.manual_seed(0)
    names = ["<pad>", "</s>", "<unk>", "<s>", *WORDS]
    core = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    marker = ("<s>", 3) if language == "opt" else ("</s>", 1)
    single = f"{marker[0]} $A" if language == "opt" else f"$A {marker[0]}"
    core.post_processor = processors.TemplateProcessing(single=single, special_tokens=[marker])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", bos_token="<s>"
    )
    text: PreTrainedConfig
    common = {"vocab_size": len(names) + 1, "pad_token_id": 0, "eos_token_id": 1}
    if language == "opt":
        text = OPTConfig(
            hidden_size=16,
            word_embed_proj_dim=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            ffn_dim=16,
            max_position_embeddings=80,
            bos_token_id=3,
            **common,
        )
    else:
        text = T5Config(
            d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0, bos_token_id=1, **common
        )
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config={**size, "image_size": 32, "patch_size": 16},
        qformer_config={**size, "vocab_size": 20, "cross_attention_frequency": 1},
        text_config=text.to_dict(),
        num_query_tokens=3,
        image_token_index=len(names),
    )
    model = Blip2ForConditionalGeneration(config)
    scramble(model, 0.8)
    model.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    Blip2Processor(images, tokenizer, num_query_tokens=3).save_pretrained(folder)
    return folder


def save_detector(folder: Path) -> Path:
    torch.manual_seed(0)
    names = [f"[unused{i}]" for i in range(1100)]
    for i, name in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}.items():
        names[i] = name  # Grounding DINO knows these by their number
    names[1040 : 1040 + len(WORDS) + 1] = [*WORDS, "##board"]
    tokenizer = BertTokenizer(vocab={name: i for i, name in enumerate(names)})
    size = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_indices=[2, 3, 4],
        ),
        text_config=BertConfig(vocab_size=len(names), hidden_size=16, max_position_embeddings=64, **size),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,  # the heads of all but the first are tied to it
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=7,
        max_text_len=24,
    )
    model = GroundingDinoForObjectDetection(config)
    scramble(model, 0.15)
    model.save_pretrained(folder)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 96, "longest_edge": 144})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def save_segmenter(folder: Path) -> Path:
    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
            "window_size": 2,
            "global_attn_indexes": [0],
            "num_pos_feats": 8,
            "mlp_dim": 16,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 16,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    model = SamModel(config)
    scramble(model, 0.5)
    model.save_pretrained(folder)
    images = SamImageProcessor(
        size={"longest_edge": 64},
        pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 16},
        mask_pad_size={"height": 16, "width": 16},
    )
    SamProcessor(images).save_pretrained(folder)
    return folder
