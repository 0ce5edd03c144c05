"""One resize for all: what a worker fits is bit for bit what the encoder would have made of the picture."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.model import CLIP

from eclipse.models.clip import FrozenClip, save_clip
from eclipse.models.fitting import Fit

CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module", params=["shortest-bicubic", "squash-bilinear"])
def clip(request, tmp_path_factory):
    mode, interpolation = request.param.split("-")
    folder = tmp_path_factory.mktemp("clip")
    save_clip(CLIP(**CONFIG), CONFIG, folder, preprocess={"resize_mode": mode, "interpolation": interpolation})
    return FrozenClip.load(folder, device="cpu")


@settings(max_examples=40)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 3), st.integers(0, 99))
def test_fitted_apart_is_fitted_by_the_encoder(clip, height, width, count, seed):
    images = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)
    images.flags.writeable = False
    fitted = np.stack([clip.fit.picture(image) for image in images])
    assert fitted.shape == (count, 32, 32, 3) and fitted.dtype == np.uint8
    assert torch.equal(clip.preprocess(fitted), clip.preprocess(images))


def test_shortest_cuts_the_middle_and_squash_keeps_everything():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 200
    middle = Fit(10, squash=False, interpolation="bicubic").picture(image)
    assert (middle == 200).all(), "the aspect is kept, so nothing is scaled"
    squashed = Fit(10, squash=True, interpolation="bilinear").picture(image)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = F.interpolate(x, (10, 10), mode="bilinear", antialias=True)[0].round().permute(1, 2, 0)
    assert squashed.tolist() == expected.tolist()
    assert squashed[:, 0].max() == 0 and squashed[:, 5].min() == 200
