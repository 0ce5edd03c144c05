import numpy as np
import pytest
import torch
from torch import nn

from eclipse.pretrain.fit import FitSettings, fit

X = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))


def train(folder, steps, *, horizon=12, stop=None):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def loss_at(step, rng):
        if stop is not None and step == stop:
            raise KeyboardInterrupt
        batch = X[rng.choice(64, 8, replace=False)]
        return (model(batch) - batch.sum(1, keepdim=True) + 0.1 * torch.randn(8, 1)).square().mean()

    settings = FitSettings(steps=steps, batch_size=8, lr=0.05, warmup=2, ema=0.9, save_every=4)
    return fit(model, loss_at, settings, folder / "state.pt", name="test")


def test_stopped_and_continued_is_bit_identical(tmp_path):
    whole = train(tmp_path / "a", 12)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", 12, stop=9)
    again = train(tmp_path / "b", 12)
    for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_average_differs_from_weights_and_learns(tmp_path):
    model = train(tmp_path, 200)
    model.eval()
    error = (model(X) - X.sum(1, keepdim=True)).square().mean()
    assert error < 0.5 * X.sum(1).var()


def test_a_loss_that_is_not_finite_stops_before_it_is_saved(tmp_path):
    model = nn.Linear(2, 1)
    settings = FitSettings(steps=4, batch_size=2, lr=0.1, save_every=2)
    with pytest.raises(FloatingPointError, match="lower lr"):
        fit(model, lambda step, rng: model(torch.full((1, 2), np.nan)).sum(), settings, tmp_path / "s.pt", name="nan")
    assert not (tmp_path / "s.pt").exists()
