"""Packed against padded: one training step of the 34M prior, bf16 autocast, both forms in one process.

    OMP_NUM_THREADS=1 python benchmarks/packed_step.py

The padded form runs diffusers' own blocks over 80 positions a caption; the packed form computes real tokens only. Both
take the same weights, captions and attention kernels, in alternating repetitions, timed in CPU seconds where the device
is a CPU (other load then matters less). Caption lengths are synthetic web captions: an inverse cumulative distribution,
linear in log length between (0, 3), (.5, 13), (.9, 27), (.99, 63) and (1, 77) tokens with BOS and EOS, read at evenly
spaced ranks; mean 15.6. Exits with 1 when the ratio is below ``--require`` or the outputs differ by more than bf16
rounding.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from eclipse.models.device import pick
from eclipse.models.packing import pack, pad
from eclipse.models.prior import EclipsePrior

_RANKS, _LENGTHS = (0, 0.5, 0.9, 0.99, 1), (3, 13, 27, 63, 77)
_ROUNDING = 0.05


def web_lengths(count: int, seed: int) -> Tensor:
    """Token counts of ``count`` web captions, int64 [count], in random order."""
    ranks = (np.arange(count) + 0.5) / count
    lengths = np.exp(np.interp(ranks, _RANKS, np.log(_LENGTHS))).round().astype(np.int64)
    return torch.from_numpy(np.random.default_rng(seed).permutation(lengths))


def clock(device: torch.device) -> float:
    """CPU seconds of this process, or wall seconds once the GPU has finished."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def train_step(prior: EclipsePrior, forward: Callable[[], Tensor], target: Tensor) -> Tensor:
    """Forward under bf16 autocast and backward of the squared error; gradients are discarded."""
    with torch.autocast(target.device.type, dtype=torch.bfloat16):
        predicted = forward()
    (predicted.float() - target).square().mean().backward()
    prior.zero_grad(set_to_none=True)
    return predicted.detach().float()


def measure(options: argparse.Namespace) -> tuple[float, float, float]:
    """Best seconds of a padded and of a packed step, and the largest difference of outputs relative to their scale."""
    device = pick()
    torch.manual_seed(options.seed)
    prior = EclipsePrior(options.width).to(device)
    lengths = web_lengths(options.batch, options.seed)
    states = torch.randn(int(lengths.sum()), options.width, device=device)
    noise, pooled, target = (torch.randn(options.batch, options.width, device=device) for _ in range(3))
    padded_states, mask = pad(states, lengths)
    packing = pack(lengths, 3, options.row_tokens)
    print(f"{sum(p.numel() for p in prior.parameters()):,} parameters, {device}, {torch.get_num_threads()} thread(s)")
    print(
        f"{options.batch} captions: mean {lengths.float().mean():.1f}, median {int(lengths.median())} tokens; "
        f"{options.batch * 80} padded positions, {packing.rows} packed rows of {packing.length}"
    )
    forms = {
        "padded": lambda: prior.forward_padded(noise, pooled, padded_states, mask),
        "packed": lambda: prior(noise, pooled, states, lengths, row_tokens=options.row_tokens),
    }
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    outputs = {name: train_step(prior, form, target) for name, form in forms.items()}
    for repetition in range(options.repetitions):
        for name, form in forms.items():
            began = clock(device)
            train_step(prior, form, target)
            seconds[name].append(clock(device) - began)
        print(f"repetition {repetition + 1}: " + ", ".join(f"{name} {s[-1]:.3f} s" for name, s in seconds.items()))
    difference = float((outputs["packed"] - outputs["padded"]).abs().max() / outputs["padded"].abs().max())
    return min(seconds["padded"]), min(seconds["packed"]), difference


def main() -> int:
    """Measure, print one line, and say by the exit code whether the requirement holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="captions in a step (default 64)")
    parser.add_argument("--width", type=int, default=1280, help="embedding width (default 1280: 34M parameters)")
    parser.add_argument("--row-tokens", type=int, default=128, help="length of a packed row (default 128)")
    parser.add_argument("--repetitions", type=int, default=4, help="alternating repetitions; the best of each counts")
    parser.add_argument("--require", type=float, default=3.5, help="least ratio (default 3.5)")
    parser.add_argument("--seed", type=int, default=0, help="weights and inputs")
    options = parser.parse_args()
    padded, packed, difference = measure(options)
    print(f"padded {padded:.3f} s, packed {packed:.3f} s: {padded / packed:.2f}x, largest difference {difference:.1e}")
    return 0 if padded / packed >= options.require and difference <= _ROUNDING else 1


if __name__ == "__main__":
    sys.exit(main())
