"""An ECLIPSE prior in the place of a diffusion prior in diffusers' Kandinsky pipelines.

This file is copied into exported pipelines, beside the weights: it needs torch and diffusers and nothing else. The
pipeline calls its prior once a step of its scheduler; here there is one step, and its result is the embedding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.prior_transformer import PriorTransformerOutput
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from torch import Tensor, nn

_MASKED = -10000.0


class OnePassPrior(ModelMixin, ConfigMixin):
    """A prior with ``PriorTransformer``'s call and an ECLIPSE prior's weights, under their published names.

    With 4 ``additional_embeddings`` (λ-ECLIPSE) ``no_control`` holds the embedding of no picture, which the control
    token gets; put an edge map's image embedding [1, P] there to steer by it.
    """

    @register_to_config
    def __init__(
        self,
        embedding_dim: int = 768,
        state_dim: int | None = None,
        num_layers: int = 10,
        num_attention_heads: int = 16,
        attention_head_dim: int = 32,
        num_embeddings: int = 77,
        additional_embeddings: int = 3,
    ) -> None:
        super().__init__()
        width = num_attention_heads * attention_head_dim
        self.proj_in = nn.Linear(embedding_dim, width)
        self.embedding_proj = nn.Linear(embedding_dim, width)
        self.encoder_hidden_states_proj = nn.Linear(state_dim or embedding_dim, width)
        self.embedding_control = None
        if additional_embeddings == 4:
            self.embedding_control = nn.Linear(embedding_dim, width)
            self.register_buffer("no_control", torch.zeros(1, embedding_dim))
        self.positional_embedding = nn.Parameter(torch.zeros(1, num_embeddings + additional_embeddings, width))
        self.prd_embedding = nn.Parameter(torch.zeros(1, 1, width))
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(
                width, num_attention_heads, attention_head_dim, activation_fn="gelu", attention_bias=True
            )
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(width)
        self.proj_to_clip_embeddings = nn.Linear(width, embedding_dim)
        self.clip_mean = nn.Parameter(torch.zeros(1, embedding_dim))
        self.clip_std = nn.Parameter(torch.ones(1, embedding_dim))

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Any = None,
        proj_embedding: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> PriorTransformerOutput | tuple[Tensor]:
        """The image embeddings [B, P] from noise [B, P], pooled text [B, P] and padded text states [B, 77, D].

        ``attention_mask`` bool [B, 77] is True at real tokens; ``timestep`` means nothing. ``ValueError`` under
        guidance, which would lead away from the embedding instead of to it.
        """
        if proj_embedding is None or encoder_hidden_states is None or attention_mask is None:
            raise ValueError("a one-pass prior needs proj_embedding, encoder_hidden_states and attention_mask")
        self._refuse_guidance(hidden_states)
        extras = [self.embedding_proj(proj_embedding), self.proj_in(hidden_states)]
        if self.embedding_control is not None:
            control = self.no_control.to(hidden_states.dtype).expand(len(hidden_states), -1)
            extras.insert(0, self.embedding_control(control))
        extras.append(self.prd_embedding[0].to(hidden_states.dtype).expand(len(hidden_states), -1))
        text = self.encoder_hidden_states_proj(encoder_hidden_states)
        hidden = torch.cat([text, torch.stack(extras, dim=1)], dim=1)
        hidden = hidden + self.positional_embedding.to(hidden.dtype)
        bias = self._bias(attention_mask, len(extras), hidden)
        for block in self.transformer_blocks:
            hidden = block(hidden, attention_mask=bias)
        embeds = self.proj_to_clip_embeddings(self.norm_out(hidden)[:, -1])
        return PriorTransformerOutput(predicted_image_embedding=embeds) if return_dict else (embeds,)

    def post_process_latents(self, prior_latents: Tensor) -> Tensor:
        """As it is: the published statistics belong to the files, but nothing applies them."""
        return prior_latents

    def _bias(self, mask: Tensor, extras: int, hidden: Tensor) -> Tensor:
        """Causal over the whole sequence, and closed at padding."""
        total = hidden.shape[1]
        padding = F.pad((1 - mask.to(hidden.dtype)) * _MASKED, (0, extras))[:, None, :]
        causal = torch.full((total, total), _MASKED, dtype=hidden.dtype, device=hidden.device).triu(1)
        return (padding + causal).repeat_interleave(self.config.num_attention_heads, dim=0)

    @staticmethod
    def _refuse_guidance(noise: Tensor) -> None:
        half, rest = divmod(len(noise), 2)
        # Under guidance the pipeline gives all noise twice: for the empty captions, then for the real ones.
        if half and not rest and torch.equal(noise[:half], noise[half:]):
            raise ValueError(
                "this prior has no guidance: give prior_guidance_scale=1.0 (guidance_scale=1.0 to the prior's own "
                "pipeline); where there was none, give each picture noise of its own"
            )


class OnePassScheduler(SchedulerMixin, ConfigMixin):
    """One step, whose result is what the prior gave; how many steps are asked for means nothing."""

    order = 1
    init_noise_sigma = 1.0

    @register_to_config
    def __init__(self) -> None:
        self.timesteps = torch.zeros(1, dtype=torch.int64)

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """One."""
        self.timesteps = torch.zeros(1, dtype=torch.int64, device=device)

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """``sample`` as it is."""
        return sample

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = True, **_: Any
    ) -> SchedulerOutput | tuple[Tensor]:
        """``model_output``."""
        return SchedulerOutput(prev_sample=model_output) if return_dict else (model_output,)
