"""A λ-ECLIPSE prior that starts from a trained ECLIPSE prior instead of from noise (an option; not in the paper).

All shared weights are copied. The control token comes in between text and pooled text, so the positional rows of the
text stay and those of pooled text, noise and read token move by one. The new token starts as a noise token of ε = 0
does (bias and positional row of ``proj_in``'s token), whatever picture it is given: its own weights are zero. So the
edges say nothing until training gives them a meaning, and the token is one that the blocks know. The prediction is
near that of the ECLIPSE prior, not equal: attention is shared with one token more, and no weights of a token can make
a softmax leave it out. With priors of the mini world they differ by 0.5 to 1 % (cosine 0.9999) before training.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from eclipse.errors import CheckpointError
from eclipse.models.checkpoint import kind_of, load_prior, prior_hash, prior_meta
from eclipse.models.prior import EclipsePrior

_SIZES = ("embedding_dim", "num_layers", "num_attention_heads", "attention_head_dim", "num_embeddings")
_SOURCES = {"eclipse": ("eclipse",), "lambda-eclipse": ("eclipse", "lambda-eclipse")}
_NOISE = 1
"""Place of the noise token among the tokens behind an ECLIPSE prior's text: pooled text, noise, read token."""


def warm_start(prior: EclipsePrior, folder: Path, *, encoder_hash: str | None = None) -> str:
    """Give ``prior`` the weights of the one in ``folder`` and return that one's hash.

    A prior of the same kind is copied whole; an ECLIPSE prior gives a λ-ECLIPSE prior all but its control token. Any
    other kind, other sizes, or a prior that records another encoder than ``encoder_hash`` are a
    :class:`~eclipse.errors.CheckpointError` that names what differs.
    """
    source = load_prior(folder, device=prior.device)
    if not isinstance(source, EclipsePrior) or kind_of(source) not in _SOURCES[kind_of(prior)]:
        raise CheckpointError(f"{folder}: a prior of kind {kind_of(prior)} cannot start from one of {kind_of(source)}")
    _check(prior, source, folder, encoder_hash)
    weights = source.state_dict()
    if kind_of(source) != kind_of(prior):
        weights = _with_control(weights, prior.config.num_embeddings)
    prior.load_state_dict(weights)
    return prior_hash(folder)


def _check(prior: EclipsePrior, source: EclipsePrior, folder: Path, encoder_hash: str | None) -> None:
    sizes = {name: (source.config[name], prior.config[name]) for name in _SIZES}
    states = (source.encoder_hidden_states_proj.in_features, prior.encoder_hidden_states_proj.in_features)
    differing = [
        f"{name} is {theirs}, not {ours}"
        for name, (theirs, ours) in {**sizes, "state_dim": states}.items()
        if theirs != ours
    ]
    if differing:
        raise CheckpointError(f"{folder}: {', '.join(differing)}; start from a prior of this training's size")
    recorded = prior_meta(folder).get("encoder_hash")
    if encoder_hash is not None and recorded not in (None, encoder_hash):
        raise CheckpointError(
            f"{folder}: trained on embeddings of another encoder ({recorded[:12]}, not {encoder_hash[:12]}); start "
            "from a prior of this store's encoder"
        )


def _with_control(weights: dict[str, Tensor], context: int) -> dict[str, Tensor]:
    """State dict of an ECLIPSE prior with ``context`` text positions → that of a λ-ECLIPSE prior."""
    positions = weights["positional_embedding"]
    text, extras = positions[:, :context], positions[:, context:]
    control = extras[:, _NOISE : _NOISE + 1]
    return {
        **weights,
        "positional_embedding": torch.cat([text, control, extras], dim=1),
        "embedding_control.weight": torch.zeros_like(weights["proj_in.weight"]),
        "embedding_control.bias": weights["proj_in.bias"].clone(),
    }
