import numpy as np
import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from accelerate.hooks import CpuOffload
from diffusers import VQModel

from eclipse.personalize.smoothness import (
    grid_smoothness,
    movq_features,
    neighbour_distances,
    perceptual_distance,
    rows_and_columns,
    smoothness,
)

CPU = torch.device("cpu")


def make_movq():
    torch.manual_seed(0)
    return VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 32), layers_per_block=1, latent_channels=4, vq_embed_dim=4, num_vq_embeddings=8,
        norm_type="spatial", mid_block_add_attention=False, sample_size=32,
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def movq():
    return make_movq()


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)


class TestSmoothness:
    def test_an_even_path_has_ratio_one(self):
        even = smoothness([[0.5, 0.5, 0.5]])
        assert (even.ratio, even.length, even.paths) == (1, 1.5, 1)

    def test_one_jump_takes_it_all(self):
        assert smoothness([[0, 0, 3.0, 0]]).ratio == 4
        assert smoothness([[1.0, 2.0]]).ratio == pytest.approx(2 / 1.5)

    def test_averages_over_paths(self):
        both = smoothness([[1.0, 1.0], [0.0, 4.0]])
        assert (both.ratio, both.length, both.paths) == (1.5, 3, 2)

    def test_a_path_that_stands_still_has_no_ratio(self):
        assert smoothness([[0.0, 0.0]]).ratio is None
        some = smoothness([[0.0, 0.0], [1.0, 1.0]])
        assert (some.ratio, some.length) == (1, 1)


class TestDistance:
    def test_of_hand_made_features(self):
        a = (torch.tensor([1.0, 0]).reshape(1, 2, 1, 1), torch.tensor([[1.0, 1], [0, 0]]).reshape(1, 2, 1, 2))
        b = (torch.tensor([0.0, 1]).reshape(1, 2, 1, 1), torch.tensor([[1.0, -1], [0, 0]]).reshape(1, 2, 1, 2))
        # first layer |(1, -1)|² = 2; second: positions 0 and |2|² = 4, mean 2
        assert perceptual_distance(a, b) == 2
        assert perceptual_distance(a, (a[0], b[1])) == 1

    def test_features_have_unit_length_at_each_position_and_depth(self, movq):
        features = movq_features(movq, picture(0), CPU)
        assert [tuple(x.shape) for x in features] == [(1, 32, 16, 16), (1, 32, 16, 16), (1, 32, 16, 16)]
        for layer in features:
            assert torch.allclose(layer.norm(dim=1), torch.ones(1, 16, 16), atol=1e-5)

    def test_features_are_those_of_the_encoder_on_signed_pixels(self, movq):
        image = picture(1)
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            x = movq.encoder.conv_in(x)
            for block, found in zip(movq.encoder.down_blocks, movq_features(movq, image, CPU), strict=False):
                x = block(x)
                assert torch.allclose(found, x / x.norm(dim=1, keepdim=True), atol=1e-5)

    def test_leaves_the_model_as_it_was(self, movq):
        before = movq.encode(torch.zeros(1, 3, 32, 32)).latents
        movq_features(movq, picture(0), CPU)
        assert not any(module._forward_hooks for module in movq.modules())
        assert torch.equal(before, movq.encode(torch.zeros(1, 3, 32, 32)).latents)

    def test_weights_that_are_moved_layer_by_layer_give_the_same(self, movq):
        """Their own device is "meta" then, as nothing of them stays where they work."""
        moved = cpu_offload(make_movq(), CPU)
        assert moved.device.type == "meta"
        for a, b in zip(movq_features(movq, picture(2), CPU), movq_features(moved, picture(2), CPU), strict=True):
            assert torch.equal(a, b)

    def test_weights_that_are_moved_as_a_whole_come_before_they_work(self, movq, monkeypatch):
        came, real = [], CpuOffload.pre_forward
        monkeypatch.setattr(
            CpuOffload, "pre_forward", lambda hook, module, *given: came.append(module) or real(hook, module, *given)
        )
        moved, _ = cpu_offload_with_hook(make_movq(), CPU)
        found = movq_features(moved, picture(2), CPU)
        assert came == [moved]
        assert all(torch.equal(a, b) for a, b in zip(found, movq_features(movq, picture(2), CPU), strict=True))

    def test_is_zero_for_equals_symmetric_and_grows(self, movq):
        near = np.clip(picture(0).astype(int) + 4, 0, 255).astype(np.uint8)
        a, b, c = (movq_features(movq, image, CPU) for image in (picture(0), near, picture(1)))
        assert perceptual_distance(a, a) == 0
        assert perceptual_distance(a, c) == pytest.approx(perceptual_distance(c, a))
        assert 0 < perceptual_distance(a, b) < perceptual_distance(a, c) < 4


class TestPaths:
    def test_a_moving_stripe_is_even_and_a_cut_is_not(self, movq):
        moving = np.zeros((8, 32, 32, 3), np.uint8)
        for i, frame in enumerate(moving):
            frame[:, 4 + 2 * i : 8 + 2 * i] = 255
        cut = np.stack([moving[0]] * 4 + [moving[-1]] * 4)
        even, jump = (grid_smoothness(movq, frames[None], CPU) for frames in (moving, cut))
        assert even.ratio < 1.5
        assert jump.ratio == pytest.approx(7)
        assert even.paths == jump.paths == 1

    def test_distances_are_one_less_and_between_neighbours(self):
        pictures = np.arange(4, dtype=np.uint8).repeat(3).reshape(4, 1, 1, 3) ** 2

        def one_number(image):
            return (torch.tensor(float(image[0, 0, 0])).reshape(1, 1, 1, 1),)

        assert neighbour_distances(pictures, one_number) == [1, 9, 25]

    def test_a_grid_is_walked_along_rows_and_columns(self):
        cells = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1, 1).repeat(3, axis=-1)
        walked = [path[:, 0, 0, 0].tolist() for path in rows_and_columns(cells)]
        assert walked == [[0, 1, 2], [3, 4, 5], [0, 3], [1, 4], [2, 5]]
        assert [path[:, 0, 0, 0].tolist() for path in rows_and_columns(cells[:1])] == [[0, 1, 2]]
