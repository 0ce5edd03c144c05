"""The ECLIPSE prior (arXiv 2312.04655, §3): one pass from a caption's CLIP text states to a CLIP image embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from eclipse.errors import DataError
from eclipse.models.packing import BlockPass, attention_kernels, check_batch, pack, pass_block, run_packed

_MASKED = -10000.0


class EclipsePrior(ModelMixin, ConfigMixin):
    """f_θ(ε, z_y, y) → ẑ_x: diffusers' PriorTransformer without time, with the published state-dict names.

    Sequence of a sample: text states | control (λ-ECLIPSE only) | pooled text | noise | learned read token. With 3
    ``additional_embeddings`` there is no control token, with 4 there is. ``embedding_dim`` is the width P of pooled
    text, noise, control and output; ``state_dim`` the width D of text states (None = P).

    ``clip_mean`` and ``clip_std`` belong to the published files and to the published parameter counts, but nothing
    applies them: they take no gradient, so that DDP does not wait for one.
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
        if additional_embeddings not in (3, 4):
            raise DataError(f"additional_embeddings: {additional_embeddings}; 3 (ECLIPSE) or 4 (with control) exist")
        width = num_attention_heads * attention_head_dim
        self.proj_in = nn.Linear(embedding_dim, width)
        self.embedding_proj = nn.Linear(embedding_dim, width)
        self.encoder_hidden_states_proj = nn.Linear(state_dim or embedding_dim, width)
        self.embedding_control = nn.Linear(embedding_dim, width) if additional_embeddings == 4 else None
        # diffusers starts these two at zero, where all positions look alike; Kandinsky's training starts them at 0.01.
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(1, num_embeddings + additional_embeddings, width))
        self.prd_embedding = nn.Parameter(0.01 * torch.randn(1, 1, width))
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(
                width, num_attention_heads, attention_head_dim, activation_fn="gelu", attention_bias=True
            )
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(width)
        self.proj_to_clip_embeddings = nn.Linear(width, embedding_dim)
        self._block_pass: BlockPass | None = None
        self.clip_mean = nn.Parameter(torch.zeros(1, embedding_dim), requires_grad=False)
        self.clip_std = nn.Parameter(torch.ones(1, embedding_dim), requires_grad=False)

    def compile_blocks(self, backend: str = "inductor") -> None:
        """Run packed rows through a compiled block from now on; the number of rows may change without compiling again.

        Packing itself and the last block, whose shapes change with every batch, stay as they are.
        """
        self._block_pass = torch.compile(pass_block, dynamic=True, backend=backend)

    def forward(
        self,
        noise: Tensor,
        prompt_embeds: Tensor,
        text_states: Tensor,
        lengths: Tensor,
        *,
        control_embeds: Tensor | None = None,
        row_tokens: int = 128,
    ) -> Tensor:
        """Predict image embeddings [B, P] from noise ε [B, P], pooled text z_y [B, P] and packed text states [ΣL, D].

        ``lengths`` int64 [B] counts each caption's real tokens (BOS to EOS); keep it on the CPU to spare a device
        synchronisation. ``control_embeds`` [B, P] is needed exactly when the prior has a control token. Equal to
        :meth:`forward_padded` up to rounding, but only real tokens are computed. Shapes that do not fit are a
        :class:`~eclipse.errors.DataError`.
        """
        extras = self._extras(noise, prompt_embeds, control_embeds)
        width = self.encoder_hidden_states_proj.in_features
        check_batch(text_states, lengths, width=width, context=self.config.num_embeddings)
        packing = pack(lengths, extras.shape[1], row_tokens, text_states.device)
        text = self.encoder_hidden_states_proj(text_states)
        positions = self.positional_embedding[0].to(text.dtype)
        text = text + positions.index_select(0, packing.text_positions)
        extras = extras + positions[self.config.num_embeddings :]
        heads = self.config.num_attention_heads
        read = run_packed(self.transformer_blocks, text, extras, packing, heads, self._block_pass)
        return self.proj_to_clip_embeddings(self.norm_out(read))

    def forward_padded(
        self,
        noise: Tensor,
        prompt_embeds: Tensor,
        text_states: Tensor,
        mask: Tensor,
        control_embeds: Tensor | None = None,
    ) -> Tensor:
        """The published form: text states [B, 77, D] with mask bool [B, 77], through diffusers' own blocks → [B, P]."""
        context = self.config.num_embeddings
        if text_states.shape[1] != context:
            raise DataError(f"text_states: {text_states.shape[1]} padded positions, but the prior has {context}")
        extras = self._extras(noise, prompt_embeds, control_embeds)
        hidden = torch.cat([self.encoder_hidden_states_proj(text_states), extras], dim=1)
        hidden = hidden + self.positional_embedding.to(hidden.dtype)
        total = hidden.shape[1]
        bias = F.pad((1 - mask.to(hidden.dtype)) * _MASKED, (0, extras.shape[1]))[:, None, :]
        bias = bias + torch.full((total, total), _MASKED, dtype=hidden.dtype, device=hidden.device).triu(1)
        bias = bias.repeat_interleave(self.config.num_attention_heads, dim=0)
        with attention_kernels(hidden):
            for block in self.transformer_blocks:
                hidden = block(hidden, attention_mask=bias)
        return self.proj_to_clip_embeddings(self.norm_out(hidden)[:, -1])

    def _extras(self, noise: Tensor, prompt_embeds: Tensor, control_embeds: Tensor | None) -> Tensor:
        """The tokens behind the text, [B, 3 or 4, C]."""
        wanted = (len(noise), self.config.embedding_dim)
        for name, value in (("noise", noise), ("prompt_embeds", prompt_embeds), ("control_embeds", control_embeds)):
            if value is not None and tuple(value.shape) != wanted:
                raise DataError(f"{name}: shape {tuple(value.shape)}, but this prior takes {wanted}")
        if (control_embeds is None) != (self.embedding_control is None):
            raise DataError(
                "control_embeds: this prior has no control token (additional_embeddings=3); leave it out"
                if self.embedding_control is None
                else "control_embeds: this prior has a control token; for no control give the embedding of zero pixels"
            )
        pooled = self.embedding_proj(prompt_embeds)
        parts = [pooled, self.proj_in(noise), self.prd_embedding[0].to(pooled.dtype).expand(len(noise), -1)]
        if self.embedding_control is not None:
            parts.insert(0, self.embedding_control(control_embeds))
        return torch.stack(parts, dim=1)


def seeded_noise(seeds: Tensor | Sequence[int], dim: int) -> Tensor:
    """One N(0, I) vector a seed, float32 [B, dim] on the CPU; a sample's noise depends on its own seed alone."""
    return torch.stack([torch.randn(dim, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])
