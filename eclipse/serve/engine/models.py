"""Priors as the engine holds them: loaded, and known to fit the CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eclipse.errors import CheckpointError
from eclipse.models.checkpoint import Prior, kind_of, load_prior
from eclipse.models.clip import FrozenClip
from eclipse.releases import Served, ServedPrior
from eclipse.serve.types import PriorName, Variant

_VARIANTS: dict[str, Variant] = {"eclipse": "eclipse", "lambda-eclipse": "lambda-eclipse"}


@dataclass(frozen=True)
class LoadedPrior:
    """A prior in eval mode, and what requests and records call it."""

    name: PriorName
    prior: Prior


def load_priors(
    served: Served, clip: FrozenClip, loaded: Mapping[str, LoadedPrior] | None = None
) -> dict[str, LoadedPrior]:
    """The priors of ``served`` by their model names, on the device of ``clip``.

    Weights that are in memory already, in ``loaded`` or under another name, are not read again. A prior of another CLIP
    (its hash or its widths) is a :class:`CheckpointError` that names its folder.
    """
    known = {item.name.prior_hash: item.prior for item in (loaded or {}).values()}
    result = {}
    for entry in served.priors:
        prior = known.get(entry.prior_hash) or load_prior(entry.folder, device=clip.device)
        known[entry.prior_hash] = prior
        _check(prior, entry, clip)
        name = PriorName(entry.model, _VARIANTS[entry.variant], entry.prior_hash, entry.version)
        result[entry.model] = LoadedPrior(name, prior)
    return result


def _check(prior: Prior, entry: ServedPrior, clip: FrozenClip) -> None:
    kind = kind_of(prior)
    if entry.variant not in _VARIANTS or kind not in (entry.variant, "diffusion"):
        raise CheckpointError(f"{entry.folder}: holds a prior of kind {kind}, but is served as {entry.variant}")
    widths = (prior.config.embedding_dim, prior.encoder_hidden_states_proj.in_features)
    if widths != (clip.projection_dim, clip.state_dim):
        raise CheckpointError(
            f"{entry.folder}: made for embeddings {widths[0]} and text states {widths[1]} wide, but {clip.name} has "
            f"{clip.projection_dim} and {clip.state_dim}; serve it with the CLIP that it was trained on"
        )
    trained_on = entry.lineage.get("encoder_hash")
    if trained_on not in (None, clip.weights_hash):
        raise CheckpointError(
            f"{entry.folder}: trained on the CLIP {str(trained_on)[:12]}, but {clip.name} is {clip.weights_hash[:12]}; "
            "serve it with the CLIP that it was trained on"
        )
