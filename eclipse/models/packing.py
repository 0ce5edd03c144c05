"""Rows without padding: a batch of ragged samples in few fixed-length rows, and the transformer run over them.

A padded prior computes 77 text positions for a caption of 15. The text mask and the causal mask keep padded positions
out of the read token, so dropping them is exact — provided the extra tokens keep their own positional rows (77, 78, …).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from eclipse.errors import DataError


@dataclass(frozen=True)
class Packing:
    """Where each token of a batch lies. Samples are whole and consecutive inside one row.

    ``slots`` int64 [ΣL + B·k]: place (row · length + column) of every text token, in order, then of every sample's k
    extra tokens. ``text_positions`` int64 [ΣL]: positional rows of the text tokens. ``mask`` bool [R, 1, T, T]: who may
    attend to whom. ``read_slots`` int64 [B]: place of each sample's last token; ``read_queries`` int64 [R, S]: columns
    of the read tokens of each row, filled up with column 0; ``read_index`` int64 [B]: place in those R · S queries.
    """

    rows: int
    length: int
    slots: Tensor
    text_positions: Tensor
    mask: Tensor
    read_slots: Tensor
    read_queries: Tensor
    read_index: Tensor


def best_fit_decreasing(sizes: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Give each item the fullest bin it still fits into, largest items first; ties keep their order.

    ``sizes`` int64 [N], each in 1..capacity. Returns bin and offset inside the bin of every item, int64 [N] each.
    """
    bins, offsets = np.empty(len(sizes), np.int64), np.empty(len(sizes), np.int64)
    free: list[tuple[int, int]] = []
    count = 0
    for item in np.argsort(-sizes, kind="stable"):
        size = int(sizes[item])
        at = bisect_left(free, (size, -1))
        if at < len(free):
            room, chosen = free.pop(at)
        else:
            room, chosen, count = capacity, count, count + 1
        bins[item], offsets[item] = chosen, capacity - room
        insort(free, (room - size, chosen))
    return bins, offsets


def pack(lengths: Tensor | np.ndarray, extras: int, row_tokens: int, device: torch.device | str = "cpu") -> Packing:
    """Lay out samples of ``lengths`` [B] text tokens and ``extras`` further ones in rows of at most ``row_tokens``.

    A longer sample makes all rows as long as itself. Rows are cut to the fullest one, so a small batch stays small.
    """
    text = lengths.cpu().numpy() if isinstance(lengths, Tensor) else np.asarray(lengths)
    text = text.astype(np.int64)
    sizes = text + extras
    bins, offsets = best_fit_decreasing(sizes, max(row_tokens, int(sizes.max())))
    rows, length = int(bins.max()) + 1, int((offsets + sizes).max())
    start = bins * length + offsets
    within = np.arange(text.sum()) - np.repeat(np.cumsum(text) - text, text)
    text_slots = np.repeat(start, text) + within
    extra_slots = (start + text)[:, None] + np.arange(extras)
    owner = np.full(rows * length, -1, np.int64)
    owner[text_slots] = np.repeat(np.arange(len(text)), text)
    owner[extra_slots] = np.arange(len(text))[:, None]
    queries, index = _read_queries(bins, offsets + sizes - 1, rows)

    def move(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    return Packing(
        rows=rows,
        length=length,
        slots=move(np.concatenate([text_slots, extra_slots.reshape(-1)])),
        text_positions=move(within),
        mask=_block_causal(move(owner).view(rows, length)),
        read_slots=move(start + sizes - 1),
        read_queries=move(queries),
        read_index=move(index),
    )


def _read_queries(bins: np.ndarray, columns: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the read tokens by row, [R, S], and each sample's place in them, [B]."""
    order = np.argsort(bins, kind="stable")
    counts = np.bincount(bins, minlength=rows)
    rank = np.empty(len(bins), np.int64)
    rank[order] = np.arange(len(bins)) - np.repeat(np.cumsum(counts) - counts, counts)
    queries = np.zeros((rows, int(counts.max())), np.int64)
    queries[bins, rank] = columns
    return queries, bins * queries.shape[1] + rank


def _block_causal(owner: Tensor) -> Tensor:
    """Mask bool [R, 1, T, T]: earlier tokens of the same sample, and oneself (an empty slot needs somebody too)."""
    length = owner.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=owner.device).tril()
    same = (owner[:, :, None] == owner[:, None, :]) & (owner[:, :, None] >= 0)
    return ((same & causal) | torch.eye(length, dtype=torch.bool, device=owner.device))[:, None]


def check_batch(text_states: Tensor, lengths: Tensor, *, width: int, context: int) -> None:
    """Refuse packed text states [ΣL, D] that do not fit ``lengths`` [B], the model's width or its context."""
    if text_states.ndim != 2 or text_states.shape[1] != width:
        raise DataError(
            f"text_states: shape {tuple(text_states.shape)}, but the prior takes packed states [tokens, {width}]; "
            "use the store and the prior of the same encoder"
        )
    if len(lengths) == 0 or int(lengths.sum()) != len(text_states):
        raise DataError(f"lengths: sum to {int(lengths.sum())}, but there are {len(text_states)} text states")
    if int(lengths.min()) < 1 or int(lengths.max()) > context:
        raise DataError(
            f"lengths: between {int(lengths.min())} and {int(lengths.max())} tokens, but the prior takes 1 to {context}"
        )


def pad(text_states: Tensor, lengths: Tensor, context: int = 77) -> tuple[Tensor, Tensor]:
    """Packed states [ΣL, D] and lengths [B] → padded states [B, context, D] (zeros) and mask bool [B, context]."""
    mask = torch.arange(context, device=text_states.device) < lengths.to(text_states.device)[:, None]
    padded = text_states.new_zeros(len(lengths), context, text_states.shape[1])
    padded[mask] = text_states
    return padded, mask


def attention_kernels(hidden: Tensor) -> AbstractContextManager[Any]:
    """Attention kernels for a pass over ``hidden``: torch's own choice, except for 16-bit training on a CPU.

    There the backward of the flash kernel is slow (up to 15 times on some machines), so the plain one is taken. Scoped:
    what runs outside the context keeps its kernels.
    """
    slow = hidden.device.type == "cpu" and hidden.dtype in (torch.bfloat16, torch.float16) and torch.is_grad_enabled()
    return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()


BlockPass: TypeAlias = "Callable[[BasicTransformerBlock, Tensor, Tensor, int], Tensor]"
"""One block over packed rows [R, T, C] under a mask bool [R, 1, T, T]."""


def run_packed(
    blocks: Sequence[BasicTransformerBlock] | nn.ModuleList,
    text: Tensor,
    extras: Tensor,
    packing: Packing,
    heads: int,
    block_pass: BlockPass | None = None,
) -> Tensor:
    """Run diffusers' blocks over packed rows and return each sample's last token, [B, C].

    ``text`` [ΣL, C] and ``extras`` [B, k, C] carry their positional rows already. The last block computes queries,
    output projection and feed-forward for the read tokens only: nothing else of its output is used. ``block_pass``
    stands in for :func:`pass_block`, compiled.
    """
    one = pass_block if block_pass is None else block_pass
    width = text.shape[1]
    flat = torch.cat([text, extras.reshape(-1, width)])
    slots = packing.rows * packing.length
    rows = flat.new_zeros(slots, width).index_copy(0, packing.slots, flat).view(packing.rows, packing.length, width)
    with attention_kernels(rows):
        for block in list(blocks)[:-1]:
            rows = one(block, rows, packing.mask, heads)
        return _last_block(blocks[-1], rows, packing, heads)


def pass_block(block: BasicTransformerBlock, rows: Tensor, mask: Tensor, heads: int) -> Tensor:
    """One block over packed rows [R, T, C]."""
    attention = block.attn1
    normed = block.norm1(rows)
    attended = _attend(attention.to_q(normed), attention.to_k(normed), attention.to_v(normed), mask, heads)
    rows = rows + attention.to_out[0](attended)
    return rows + block.ff(block.norm3(rows))


def _last_block(block: BasicTransformerBlock, rows: Tensor, packing: Packing, heads: int) -> Tensor:
    attention = block.attn1
    normed = block.norm1(rows)
    row = torch.arange(packing.rows, device=rows.device)[:, None]
    q = attention.to_q(normed[row, packing.read_queries])
    mask = packing.mask[row, 0, packing.read_queries][:, None]
    attended = _attend(q, attention.to_k(normed), attention.to_v(normed), mask, heads)
    attended = attended.flatten(0, 1).index_select(0, packing.read_index)
    read = rows.flatten(0, 1).index_select(0, packing.read_slots) + attention.to_out[0](attended)
    return read + block.ff(block.norm3(read))


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Masked attention; q [R, S, C], k and v [R, T, C], mask bool [R, 1, S, T] → [R, S, C]."""

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    attended = F.scaled_dot_product_attention(split(q), split(k), split(v), attn_mask=mask)
    return attended.transpose(1, 2).flatten(2)
