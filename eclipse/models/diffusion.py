"""The Diffusion-Baseline (ECLIPSE paper, Eq. 1): diffusers' own PriorTransformer of the same size, in packed rows.

Conventions, all needed to compare figures:

- Targets are normalised per channel, x = (z_x − clip_mean) / clip_std, with statistics of the training split, because
  the schedule assumes unit variance. Sampled embeddings are mapped back with the model's own ``post_process_latents``.
- The model predicts x itself ("sample"); β is linear from 1e-4 to 0.02; sampling is ancestral DDPM with trailing steps
  (it starts at the noisiest one) and x̂ clipped to ±5, as published unCLIP priors do.
- The empty condition of guidance, and of a dropped caption in training: pooled text zero, and one zero text state at
  the BOS position with all other text positions masked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.transformers.prior_transformer import PriorTransformer
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from eclipse.errors import CheckpointError, DataError
from eclipse.models.packing import check_batch, pack, run_packed

_CLIP_RANGE = 5.0
_EXTRAS = 4


def build_diffusion(
    embedding_dim: int,
    state_dim: int | None = None,
    *,
    num_layers: int = 10,
    num_attention_heads: int = 16,
    attention_head_dim: int = 32,
    num_embeddings: int = 77,
    train_steps: int = 1000,
) -> PriorTransformer:
    """A fresh ``PriorTransformer`` over P = ``embedding_dim``; its config remembers ``train_steps`` of its schedule.

    The class has one width for text states and pooled vectors, so ``state_dim`` may only repeat it (DataError).
    """
    if state_dim not in (None, embedding_dim):
        raise DataError(
            f"state_dim: {state_dim}, but diffusers' PriorTransformer takes text states as wide as its embeddings "
            f"({embedding_dim}); leave the diffusion point out of sweep.points or use an encoder with equal widths"
        )
    prior = PriorTransformer(
        num_attention_heads=num_attention_heads,
        attention_head_dim=attention_head_dim,
        num_layers=num_layers,
        embedding_dim=embedding_dim,
        num_embeddings=num_embeddings,
        additional_embeddings=_EXTRAS,
    )
    prior.register_to_config(num_train_timesteps=train_steps)
    torch.nn.init.normal_(prior.positional_embedding, std=0.01)
    torch.nn.init.normal_(prior.prd_embedding, std=0.01)
    torch.nn.init.ones_(prior.clip_std)
    return freeze_statistics(prior)


def freeze_statistics(prior: PriorTransformer) -> PriorTransformer:
    """Take gradients off ``clip_mean`` and ``clip_std``, which no forward pass uses: DDP would wait for them."""
    prior.clip_mean.requires_grad_(False)
    prior.clip_std.requires_grad_(False)
    return prior


def fit_normalisation(prior: PriorTransformer, image_embeds: Tensor) -> None:
    """Set ``clip_mean`` and ``clip_std`` from the training split's image embeddings [N, P], per channel."""
    if image_embeds.ndim != 2 or image_embeds.shape[1] != prior.clip_mean.shape[1] or len(image_embeds) < 2:
        raise DataError(
            f"image_embeds: shape {tuple(image_embeds.shape)}; at least 2 of width {prior.clip_mean.shape[1]} needed"
        )
    std, mean = torch.std_mean(image_embeds.double(), dim=0, keepdim=True)
    if not (torch.isfinite(mean).all() and torch.isfinite(std).all()):
        raise DataError("image_embeds: not all finite; check the store (embed stage)")
    with torch.no_grad():
        prior.clip_mean.copy_(mean)
        prior.clip_std.copy_(std.clamp_min(1e-6))


def normalise(prior: PriorTransformer, image_embeds: Tensor) -> Tensor:
    """z_x [B, P] → x = (z_x − clip_mean) / clip_std, the space of Eq. 1."""
    return (image_embeds - prior.clip_mean) / prior.clip_std


def schedule(prior: PriorTransformer) -> DDPMScheduler:
    """The prior's linear schedule; ``add_noise(x, noise, timesteps)`` gives z_t of Eq. 1."""
    return DDPMScheduler(
        num_train_timesteps=prior.config.get("num_train_timesteps", 1000),
        beta_schedule="linear",
        prediction_type="sample",
        clip_sample=True,
        clip_sample_range=_CLIP_RANGE,
        timestep_spacing="trailing",
    )


def denoise(
    prior: PriorTransformer,
    noisy: Tensor,
    timesteps: Tensor,
    prompt_embeds: Tensor,
    text_states: Tensor,
    lengths: Tensor,
    *,
    row_tokens: int = 128,
) -> Tensor:
    """f(z_t, t, y) of Eq. 1 in packed rows: x̂ [B, P] from z_t [B, P], t int64 [B], z_y [B, P], packed states [ΣL, D].

    Equal up to rounding to ``prior(noisy, t, prompt_embeds, padded states, attention_mask=mask)``. The mask matters
    there: without one diffusers drops the causal mask as well.
    """
    width, context = prior.encoder_hidden_states_proj.in_features, prior.config.num_embeddings
    check_batch(text_states, lengths, width=width, context=context)
    packing = pack(lengths, _EXTRAS, row_tokens, text_states.device)
    text = prior.encoder_hidden_states_proj(text_states)
    positions = prior.positional_embedding[0].to(text.dtype)
    time = prior.time_embedding(prior.time_proj(timesteps.to(noisy.device)).to(noisy.dtype))
    pooled, noise = prior.embedding_proj(prompt_embeds), prior.proj_in(noisy)
    read = prior.prd_embedding[0].to(pooled.dtype).expand(len(noisy), -1)
    extras = torch.stack([pooled, time, noise, read], dim=1) + positions[context:]
    text = text + positions.index_select(0, packing.text_positions)
    out = run_packed(prior.transformer_blocks, text, extras, packing, prior.config.num_attention_heads)
    return prior.proj_to_clip_embeddings(prior.norm_out(out))


def drop_condition(
    prompt_embeds: Tensor, text_states: Tensor, lengths: Tensor, drop: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Replace the condition of the samples where ``drop`` (bool [B]) by the empty one (see the module's docstring)."""
    drop, lengths = drop.cpu(), lengths.cpu()
    start = torch.cumsum(lengths, 0) - lengths
    owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    is_bos = torch.zeros(len(owner), dtype=torch.bool).index_fill(0, start, True)
    keep = (~drop[owner] | is_bos).to(text_states.device)
    empty = (drop[owner] & is_bos).to(text_states.device)
    states = text_states.masked_fill(empty[:, None], 0)[keep]
    pooled = prompt_embeds.masked_fill(drop[:, None].to(prompt_embeds.device), 0)
    return pooled, states, torch.where(drop, 1, lengths)


@torch.no_grad()
def sample(
    prior: PriorTransformer,
    prompt_embeds: Tensor,
    text_states: Tensor,
    lengths: Tensor,
    *,
    seeds: Tensor | Sequence[int],
    steps: int = 25,
    guidance: float = 4.0,
    row_tokens: int = 128,
) -> Tensor:
    """Sample image embeddings [B, P] (unnormalised, like z_x) for packed captions; ``seeds`` int64 [B], one a sample.

    x̂ = x̂(∅) + guidance · (x̂(y) − x̂(∅)) at each of ``steps`` DDPM steps. All of a sample's noise comes from its own CPU
    generator, so its result does not depend on what else is in the batch.
    """
    if not bool((prior.clip_std > 0).all()):
        raise CheckpointError("clip_std: zero, as in a fresh diffusers model; fit_normalisation was never called")
    device, count = prompt_embeds.device, len(prompt_embeds)
    scheduler = schedule(prior)
    scheduler.set_timesteps(steps)
    pooled, states, lengths = prompt_embeds, text_states, lengths.cpu()
    guided = guidance != 1.0
    if guided:
        nothing = drop_condition(pooled, states, lengths, torch.ones(count, dtype=torch.bool))
        pooled, states = torch.cat([pooled, nothing[0]]), torch.cat([states, nothing[1]])
        lengths = torch.cat([lengths, nothing[2]])
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    width = prior.config.embedding_dim
    noisy = torch.stack([torch.randn(width, generator=generator) for generator in generators])
    for timestep in scheduler.timesteps:
        inputs = noisy.to(device).repeat(2 if guided else 1, 1)
        times = torch.full((len(inputs),), int(timestep), dtype=torch.long)
        predicted = denoise(prior, inputs, times, pooled, states, lengths, row_tokens=row_tokens).float().cpu()
        if guided:
            conditional, empty = predicted.chunk(2)
            predicted = empty + guidance * (conditional - empty)
        # Given a list of generators, the scheduler draws row by row: rows do not see their neighbours' noise.
        noisy = scheduler.step(predicted, int(timestep), noisy, generator=generators).prev_sample
    return prior.post_process_latents(noisy.to(device))
