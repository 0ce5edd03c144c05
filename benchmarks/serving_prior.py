"""The prior phase of one prompt: a 34M ECLIPSE prior in one pass against a 1B diffusion prior in 25 guided steps.

    python benchmarks/serving_prior.py

Both have the shapes of Kandinsky 2.2 (text states and embeddings 1280 wide, 77 positions): the ECLIPSE prior 10 layers
of 16 × 32, the other diffusers' ``PriorTransformer`` 20 layers of 32 × 64, sampled as ``KandinskyV22PriorPipeline``
samples (25 steps of its UnCLIPScheduler, guidance 4: two rows a step). Text states are given, so no side pays for a
text encoder; weights are random, of one dtype on both sides, and the best run of each counts. ``packed`` is what the
service runs (real tokens only), ``padded`` the published form over 77 positions. Prints a table and a JSON line; exits
with 1 when packed is less than ``--require`` times as fast.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.transformers.prior_transformer import PriorTransformer
from diffusers.schedulers.scheduling_unclip import UnCLIPScheduler
from torch import Tensor, nn

from eclipse.models.device import pick
from eclipse.models.packing import pad
from eclipse.models.prior import EclipsePrior, seeded_noise

WIDTH, CONTEXT = 1280, 77
Phase = Callable[[], Tensor]


def cast(model: nn.Module, device: torch.device, dtype: torch.dtype) -> Any:
    """``model`` ready to compute; diffusers warns of any cast, so there is none to what it is already."""
    model = model.to(device).eval()
    return model if dtype == torch.float32 else model.to(dtype)


def eclipse_phases(
    options: argparse.Namespace, device: torch.device, dtype: torch.dtype
) -> tuple[int, dict[str, Phase]]:
    """Parameters of the ECLIPSE prior, and its two forms on one prompt."""
    prior = cast(EclipsePrior(WIDTH), device, dtype)
    states = torch.randn(options.tokens, WIDTH, device=device, dtype=dtype)
    pooled, lengths = torch.randn(1, WIDTH, device=device, dtype=dtype), torch.tensor([options.tokens])
    padded, mask = pad(states, lengths, CONTEXT)

    def noise() -> Tensor:
        return seeded_noise([0], WIDTH).to(device, dtype)

    forms: dict[str, Phase] = {
        "packed": lambda: prior(noise(), pooled, states, lengths),
        "padded": lambda: prior.forward_padded(noise(), pooled, padded, mask),
    }
    return sum(weight.numel() for weight in prior.parameters()), forms


def diffusion_phase(options: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> tuple[int, Phase]:
    """Parameters of the diffusion prior, and its sampling loop on one prompt."""
    prior = PriorTransformer(
        num_attention_heads=32, attention_head_dim=64, num_layers=20, embedding_dim=WIDTH, num_embeddings=CONTEXT
    )
    prior = cast(prior, device, dtype)
    states = torch.randn(2, CONTEXT, WIDTH, device=device, dtype=dtype)
    pooled = torch.randn(2, WIDTH, device=device, dtype=dtype)
    mask = torch.arange(CONTEXT, device=device)[None] < torch.tensor([[2], [options.tokens]], device=device)

    def sample() -> Tensor:
        scheduler = UnCLIPScheduler(
            variance_type="fixed_small_log",
            num_train_timesteps=1000,
            clip_sample=True,
            clip_sample_range=5.0,
            prediction_type="sample",
        )
        scheduler.set_timesteps(options.steps, device=device)
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(1, WIDTH, generator=generator).to(device, dtype)
        following = [*scheduler.timesteps[1:], None]
        for now, then in zip(scheduler.timesteps, following, strict=True):
            found = prior(
                latents.repeat(2, 1),
                timestep=now,
                proj_embedding=pooled,
                encoder_hidden_states=states,
                attention_mask=mask,
            ).predicted_image_embedding
            without, conditional = found.chunk(2)
            guided = without + 4.0 * (conditional - without)
            latents = scheduler.step(
                guided, timestep=now, sample=latents, generator=generator, prev_timestep=then
            ).prev_sample
        return prior.post_process_latents(latents)

    return sum(weight.numel() for weight in prior.parameters()), sample


def seconds_of(phase: Phase, device: torch.device) -> float:
    """Wall seconds of one run."""
    began = time.perf_counter()
    phase()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


@torch.no_grad()
def measure(options: argparse.Namespace) -> tuple[dict[str, int], dict[str, float]]:
    """Parameters and best seconds of each form."""
    device, dtype = pick(), getattr(torch, options.dtype)
    torch.manual_seed(options.seed)
    small, forms = eclipse_phases(options, device, dtype)
    large, diffusion = diffusion_phase(options, device, dtype)
    print(f"{device}, {options.dtype}, {torch.get_num_threads()} thread(s), {options.tokens} tokens", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in (*forms, "diffusion")}
    for form in forms.values():
        form()
    for repetition in range(options.repetitions):
        for _ in range(options.passes):
            for name, form in forms.items():
                seconds[name].append(seconds_of(form, device))
        seconds["diffusion"].append(seconds_of(diffusion, device))
        print(f"repetition {repetition + 1}: diffusion {seconds['diffusion'][-1]:.2f} s", flush=True)
    parameters = {"packed": small, "padded": small, "diffusion": large}
    return parameters, {name: min(values) for name, values in seconds.items()}


def main() -> int:
    """Measure, print, and say by the exit code whether the requirement holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16, help="tokens of the prompt with BOS and EOS (default 16)")
    parser.add_argument("--steps", type=int, default=25, help="steps of the diffusion prior (default 25)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of both (default float32)")
    parser.add_argument("--passes", type=int, default=20, help="ECLIPSE passes of each form in a repetition")
    parser.add_argument("--repetitions", type=int, default=2, help="repetitions of all (default 2)")
    parser.add_argument("--require", type=float, default=500, help="least ratio (default 500)")
    parser.add_argument("--seed", type=int, default=0, help="weights and inputs")
    options = parser.parse_args()
    parameters, seconds = measure(options)
    print("prior      parameters     seconds   ratio")
    for name, value in seconds.items():
        print(f"{name:9s} {parameters[name]:13,d} {value:11.4f} {seconds['diffusion'] / value:7.0f}")
    ratio = seconds["diffusion"] / seconds["packed"]
    record = {"dtype": options.dtype, "threads": torch.get_num_threads(), "tokens": options.tokens, "seconds": seconds}
    print(json.dumps({**record, "parameters": parameters, "ratio": ratio, "required": options.require}))
    return 0 if ratio >= options.require else 1


if __name__ == "__main__":
    sys.exit(main())
