"""The losses against cases computed by hand and against a slow, independent implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eclipse.train.losses import contrastive_loss, diffusion_loss, eclipse_loss, projection_loss


def slow_contrastive(predicted: np.ndarray, texts: np.ndarray, labels: list[int], temperature: float) -> float:
    """Eq. 4 term by term."""
    total = 0.0
    for i, label in enumerate(labels):
        cosines = [
            float(predicted[i] @ text) / math.sqrt(float(predicted[i] @ predicted[i]) * float(text @ text))
            for text in texts
        ]
        total -= math.log(
            math.exp(cosines[label] / temperature) / sum(math.exp(cosine / temperature) for cosine in cosines)
        )
    return total / len(labels)


def pair(seed: int, rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(rows, width))), torch.from_numpy(rng.normal(size=(rows, width)))


def test_projection_by_hand():
    predicted, target = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[4.0, 6.0], [1.0, 0.0]])
    assert projection_loss(predicted, target, reduction="sum").item() == pytest.approx((25 + 1) / 2)
    assert projection_loss(predicted, target, reduction="mean").item() == pytest.approx((25 + 1) / 4)
    assert diffusion_loss(predicted, target, reduction="sum").item() == pytest.approx(13)


def test_contrastive_by_hand():
    """Prediction along the first of two orthogonal texts: cosines 1 and 0."""
    loss = contrastive_loss(
        torch.tensor([[3.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]]), torch.tensor([0]), temperature=0.5
    )
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_contrastive_is_one_directional_softmax_over_texts():
    """Two predictions alike: a softmax over predictions would give log 2 for both; over texts each has its own."""
    predicted = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = contrastive_loss(predicted, texts, torch.tensor([0, 1]), temperature=1.0)
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    assert loss.item() == pytest.approx(expected)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(2, 9), st.sampled_from([0.05, 0.3, 1.0]))
def test_contrastive_equals_slow_implementation(seed: int, rows: int, width: int, temperature: float):
    predicted, texts = pair(seed, rows, width)
    labels = torch.from_numpy(np.random.default_rng(seed).permutation(rows))
    fast = contrastive_loss(predicted, texts, labels, temperature=temperature).item()
    assert fast == pytest.approx(
        slow_contrastive(predicted.numpy(), texts.numpy(), labels.tolist(), temperature), rel=1e-9
    )


def test_only_the_contrastive_term_normalises():
    predicted, target = pair(0, 4, 6)
    labels = torch.arange(4)
    once = contrastive_loss(predicted, target, labels, temperature=0.1)
    assert contrastive_loss(7 * predicted, 3 * target, labels, temperature=0.1).item() == pytest.approx(once.item())
    assert projection_loss(7 * predicted, 7 * target, reduction="sum").item() == pytest.approx(
        49 * projection_loss(predicted, target, reduction="sum").item()
    )


def test_sum_is_the_weighted_sum_and_carries_both_gradients():
    predicted, images = pair(1, 5, 6)
    texts, _ = pair(2, 5, 6)
    options = {"lam": 0.3, "temperature": 0.2, "reduction": "mean"}
    predicted.requires_grad_()
    losses = eclipse_loss(predicted, images, texts, torch.arange(5), **options)
    assert losses.total.item() == pytest.approx(losses.mse.item() + 0.3 * losses.contrastive.item())
    (whole,) = torch.autograd.grad(losses.total, predicted)
    (first,) = torch.autograd.grad(projection_loss(predicted, images, reduction="mean"), predicted)
    (second,) = torch.autograd.grad(contrastive_loss(predicted, texts, torch.arange(5), temperature=0.2), predicted)
    assert torch.allclose(whole, first + 0.3 * second, rtol=1e-12, atol=1e-14)
    assert not losses.mse.requires_grad and not losses.contrastive.requires_grad


def test_lambda_zero_reports_but_does_not_train_the_contrastive_term():
    predicted, images = pair(1, 5, 6)
    texts, _ = pair(2, 5, 6)
    predicted.requires_grad_()
    losses = eclipse_loss(predicted, images, texts, torch.arange(5), lam=0.0, temperature=0.2, reduction="sum")
    expected = contrastive_loss(predicted, texts, torch.arange(5), temperature=0.2)
    assert losses.contrastive.item() == pytest.approx(expected.item())
    (whole,) = torch.autograd.grad(losses.total, predicted)
    assert torch.equal(whole, torch.autograd.grad(projection_loss(predicted, images, reduction="sum"), predicted)[0])


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3, 4, 6, 8, 12]))
def test_shares_of_a_batch_add_up_to_its_gradient(seed: int, parts: int):
    """Ranks and micro-batches each see their rows and all texts; the mean of their gradients is the global one."""
    predicted, images = pair(seed, 24, 5)
    texts, _ = pair(seed + 1, 24, 5)
    options = {"lam": 0.5, "temperature": 0.1, "reduction": "mean"}
    predicted.requires_grad_()
    (whole,) = torch.autograd.grad(eclipse_loss(predicted, images, texts, torch.arange(24), **options).total, predicted)
    sums = torch.zeros_like(whole)
    for rows in torch.arange(24).chunk(parts):
        part = eclipse_loss(predicted[rows], images[rows], texts, rows, **options).total / parts
        sums += torch.autograd.grad(part, predicted)[0]
    assert torch.allclose(sums, whole, rtol=1e-11, atol=1e-13)
