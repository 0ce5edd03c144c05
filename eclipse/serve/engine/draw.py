"""One picture as a running engine makes it, here and now: for who wants to make it again and compare the bits."""

from __future__ import annotations

import torch

from eclipse.config.serve import ServeParams
from eclipse.models.clip import FrozenClip
from eclipse.models.decoder import Decoder
from eclipse.serve.engine.embed import Embedder, Need
from eclipse.serve.engine.models import LoadedPrior
from eclipse.serve.engine.stepper import Stepper
from eclipse.serve.types import Drawing, Drawn, Wanted, text_of


@torch.no_grad()
def draw(
    clip: FrozenClip, decoder: Decoder, prior: LoadedPrior, params: ServeParams, wanted: Wanted, drawing: Drawing
) -> Drawn:
    """``wanted`` drawn alone, with the shapes that ``params`` give an engine.

    With ``params.exact`` it has the bits of the engine's picture on the same machine with as many torch threads. What
    cannot be drawn is an :class:`~eclipse.errors.EclipseError`.
    """
    decoder.check(drawing)
    embedder = Embedder(clip, decoder, exact=params.exact, observe=lambda phase, seconds: None)
    embeds = embedder.embed([Need(0, wanted, prior, drawing)])[0]
    if isinstance(embeds, Exception):
        raise embeds
    stepper = Stepper(decoder, 2 * params.slots, exact=params.exact)
    picture = decoder.begin(drawing, wanted.seed, embeds.image, embeds.negative, text_of(wanted.source))
    while not picture.finished:
        for error in stepper.step([picture]).values():
            raise error
    image, finite = picture.pixels()
    decoder.release()
    return Drawn(0, image, embeds.image.cpu(), prior.name, finite, embeds.seconds)
