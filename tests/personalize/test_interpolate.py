import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eclipse.errors import DataError
from eclipse.personalize.interpolate import Condition, corners_of, grid, linear, pixel_blend, slerp, text_grid

VECTORS = arrays(np.float64, 5, elements=st.floats(-100, 100, width=32))


def unit(x):
    return x / x.norm()


class TestSlerp:
    def test_midpoint_of_orthogonal_vectors_by_hand(self):
        a, b = torch.tensor([2.0, 0, 0]), torch.tensor([0.0, 4, 0])
        half = slerp(a, b, 0.5)
        assert torch.allclose(half, torch.tensor([3 / math.sqrt(2), 3 / math.sqrt(2), 0]))
        assert half.dtype == torch.float32
        third = slerp(a, b, 1 / 3)  # 30° along, norm 2 + 2/3
        assert torch.allclose(third, (8 / 3) * torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6), 0]))

    @given(VECTORS, VECTORS, st.floats(0, 1))
    def test_norm_is_linear_and_the_direction_lies_between(self, a, b, t):
        a, b = torch.from_numpy(a), torch.from_numpy(b)
        point = slerp(a, b, t)
        if min(a.norm(), b.norm()) < 1e-3:
            return  # below, and for zero vectors in its own test
        norm = (1 - t) * a.norm() + t * b.norm()
        assert point.norm() == pytest.approx(float(norm), rel=1e-9)
        whole = torch.arccos((unit(a) @ unit(b)).clamp(-1, 1))
        part = torch.arccos((unit(a) @ unit(point)).clamp(-1, 1))
        assert float(part) == pytest.approx(t * float(whole), abs=1e-6)

    @given(VECTORS, VECTORS, st.floats(0.1, 0.9))
    def test_is_the_same_from_the_other_end(self, a, b, t):
        a, b = torch.from_numpy(a), torch.from_numpy(b)
        sine = (a[:, None] * b - b[:, None] * a).norm()
        if sine < 1e-3 * a.norm() * b.norm() or min(a.norm(), b.norm()) < 1e-3:
            return  # opposite vectors have many great circles
        assert torch.allclose(slerp(a, b, t), slerp(b, a, 1 - t), rtol=1e-7, atol=1e-7)

    def test_ends_are_the_corners_bit_for_bit(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(50):
            a, b = torch.randn(2, 7, generator=generator) * 13.7
            for between in (slerp, linear):
                assert torch.equal(between(a, b, 0.0), a) and torch.equal(between(a, b, 1.0), b)

    def test_parallel_vectors_stay_on_their_line(self):
        a = torch.tensor([1.0, 2, 3])
        assert torch.allclose(slerp(a, 3 * a, 0.25), 1.5 * a)
        nearly = slerp(a, a + torch.tensor([1e-7, 0, 0]), 0.5)
        assert torch.allclose(nearly, a, atol=1e-6)

    @pytest.mark.parametrize("nudge", [0.0, 1e-9, 1e-5, 1e-3])
    def test_opposite_vectors_turn_on_the_sphere(self, nudge):
        a = torch.tensor([3.0, 0.1, 4.0], dtype=torch.float64)
        b = -2 * a + torch.tensor([0.0, nudge, 0.0], dtype=torch.float64)
        points = [slerp(a, b, t) for t in (0.25, 0.5, 0.75)]
        assert torch.equal(points[1], slerp(a, b, 0.5))
        for point, t in zip(points, (0.25, 0.5, 0.75), strict=True):
            assert point.norm() == pytest.approx(float(a.norm()) * (1 + t), rel=1e-4)
            assert float(unit(point) @ unit(a)) == pytest.approx(math.cos(t * math.pi), abs=1e-3)

    def test_a_zero_vector_borrows_the_others_direction(self):
        a = torch.tensor([0.0, 3.0, 4.0])
        assert torch.allclose(slerp(torch.zeros(3), a, 0.2), 0.2 * a)
        assert torch.equal(slerp(torch.zeros(3), torch.zeros(3), 0.5), torch.zeros(3))


class TestGrid:
    def test_two_corners_make_an_even_row(self):
        corners = torch.tensor([[0.0, 1.0], [4.0, -1.0]])
        row = grid(corners, 5)
        assert row.shape == (1, 5, 2)
        assert torch.equal(row[0, :, 0], torch.tensor([0.0, 1, 2, 3, 4]))
        assert torch.equal(row[0, :, 1], torch.tensor([1.0, 0.5, 0, -0.5, -1]))

    def test_four_corners_bilinear_by_hand(self):
        corners = torch.tensor([[0.0], [4.0], [8.0], [20.0]])
        wanted = torch.tensor([[0.0, 2, 4], [4, 8, 12], [8, 14, 20]])
        assert torch.equal(grid(corners, 3)[..., 0], wanted)

    @pytest.mark.parametrize("mode", ["linear", "slerp"])
    def test_corners_come_out_bit_for_bit(self, mode):
        corners = torch.randn(4, 9, generator=torch.Generator().manual_seed(4)) * 11.3
        cells = grid(corners, 4, mode)
        assert cells.dtype == torch.float32
        for cell, corner in zip((cells[0, 0], cells[0, -1], cells[-1, 0], cells[-1, -1]), corners, strict=True):
            assert torch.equal(cell, corner)
        assert torch.equal(grid(corners[:2], 4, mode)[0], cells[0])

    def test_slerp_is_nested_rows_first(self):
        corners = torch.eye(4)
        centre = grid(corners, 3, "slerp")[1, 1]
        assert torch.allclose(centre, torch.full((4,), 0.5), atol=1e-6)  # on the unit sphere, alike to all four
        assert torch.allclose(grid(corners, 3)[1, 1], torch.full((4,), 0.25))

    def test_takes_tensors_of_any_shape_linearly(self):
        corners = torch.arange(24.0).reshape(2, 3, 4)
        assert torch.equal(grid(corners, 3)[0, 1], corners.mean(0))


class TestPixelBlend:
    def test_mean_of_two_pictures_rounded(self):
        pictures = np.stack([np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)])
        row = pixel_blend(pictures, 3)
        assert row.shape == (1, 3, 2, 2, 3) and row.dtype == np.uint8
        assert row[0, :, 0, 0, 0].tolist() == [0, 128, 255]  # 127.5 to even

    @pytest.mark.parametrize("count", [2, 4])
    def test_keeps_its_corners(self, count):
        pictures = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), np.uint8)
        assert np.array_equal(corners_of(pixel_blend(pictures, 4)), pictures)


class TestTextGrid:
    def condition(self, seed, tokens=3, control=True):
        states, pooled, edges = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(seed))
        return Condition(states[:tokens], torch.tensor([tokens]), pooled[:1], edges[:1] if control else None)

    @staticmethod
    def embed(point):
        return torch.cat([point.text_states[-1:], point.prompt_embeds, point.control], dim=1)

    def test_all_that_the_prior_reads_is_interpolated(self):
        corners = [self.condition(seed) for seed in range(4)]
        cells = text_grid(corners, 3, self.embed)
        ends = torch.cat([self.embed(corner) for corner in corners])
        assert torch.equal(torch.cat([cells[0, 0], cells[0, 2], cells[2, 0], cells[2, 2]]), ends.flatten())
        assert torch.allclose(cells[1, 1], ends.mean(0)) and torch.allclose(cells[0, 1], ends[:2].mean(0))

    def test_lengths_stay_and_a_prior_without_control_gets_none(self):
        seen = []
        text_grid(
            [self.condition(seed, control=False) for seed in (0, 1)], 2, lambda c: seen.append(c) or c.prompt_embeds
        )
        assert [(int(c.lengths), len(c.text_states), c.control) for c in seen] == [(3, 3, None)] * 2

    def test_prompts_of_different_lengths_have_nothing_between_them(self):
        with pytest.raises(DataError, match="2, 3 tokens"):
            text_grid([self.condition(0, tokens=2), self.condition(1)], 3, self.embed)
