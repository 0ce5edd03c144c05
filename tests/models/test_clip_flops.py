"""The arithmetic against torch's own count of the modules that really run, and against the published size."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import CLIP
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from eclipse.models.clip_flops import image_flops, text_flops

VIT = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 56, "layers": 3, "width": 64, "head_width": 32, "mlp_ratio": 4.9231, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2},
}
MINI = json.loads((Path(__file__).parents[2] / "models/mini/clip/open_clip_config.json").read_text())["model_cfg"]


def counted(run):
    # Plain attention, and gradients on, which keeps modules from fused kernels that torch does not count.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("config", [VIT, MINI])
def test_torch_counts_the_same(config):
    model = CLIP(**config).eval()
    size = config["vision_cfg"]["image_size"]
    image = counted(lambda: model.encode_image(torch.zeros(1, 3, size, size)))
    text = counted(lambda: model.encode_text(open_clip.tokenize(["a red star"])))
    assert image_flops(config) == pytest.approx(image, rel=0.02)
    assert text_flops(config, 77) == pytest.approx(text, rel=0.02)


def test_the_largest_clip_has_the_published_cost():
    config = open_clip.get_model_config("ViT-bigG-14")
    assert image_flops(config) == pytest.approx(968e9, rel=0.001)
    assert text_flops(config, 77) == pytest.approx(98e9, rel=0.003)
    assert text_flops(config, 16) / text_flops(config, 77) == pytest.approx(16 / 77, rel=0.02)
