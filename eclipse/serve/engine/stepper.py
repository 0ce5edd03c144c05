"""One decoder step over the pictures in the slots: one UNet call for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eclipse.models.decoder import Decoder
from eclipse.serve.engine.picture import Picture


class Stepper:
    """The UNet over ``rows`` rows: a picture with guidance takes two of them, one without takes one.

    With ``exact`` all rows are always computed, empty ones with zeros. A CPU kernel is chosen by the shape of its
    input, and inside one shape computes each row alike, so a picture's bits depend on its own rows only.
    """

    def __init__(self, decoder: Decoder, rows: int, *, exact: bool) -> None:
        self._unet = decoder.pipeline.unet
        self._width = decoder.embedding_dim
        self.rows = rows
        self._exact = exact

    def step(self, pictures: Sequence[Picture]) -> dict[Picture, Exception]:
        """Take each of ``pictures``, of one size and at most :attr:`rows` rows, one step on; what failed, and how.

        Where the call as a whole fails, each picture is tried alone, in the same shape.
        """
        try:
            outputs = self._outputs(pictures)
        except Exception as error:
            if len(pictures) == 1:
                return {pictures[0]: error}
            return {picture: failed for one in pictures for picture, failed in self.step([one]).items()}
        failures: dict[Picture, Exception] = {}
        for picture, output in zip(pictures, outputs, strict=True):
            try:
                picture.advance(output)
            except Exception as error:
                failures[picture] = error
        return failures

    def rows_agree(self, picture: Picture) -> bool:
        """Whether each row of a full batch gives the same bits for the same input, here and now."""
        latents, timesteps, embeds = (part[-1:] for part in picture.inputs())
        output = self._call(
            latents.repeat(self.rows, 1, 1, 1), timesteps.repeat(self.rows), embeds.repeat(self.rows, 1)
        )
        return bool((output == output[:1]).all())

    def _outputs(self, pictures: Sequence[Picture]) -> tuple[Tensor, ...]:
        counts = [picture.rows for picture in pictures]
        parts = [torch.cat(part) for part in zip(*(picture.inputs() for picture in pictures), strict=True)]
        empty = self.rows - sum(counts) if self._exact else 0
        if empty:
            parts = [torch.cat([part, part.new_zeros(empty, *part.shape[1:])]) for part in parts]
            counts = [*counts, empty]
        return self._call(*parts).split(counts)[: len(pictures)]

    def _call(self, latents: Tensor, timesteps: Tensor, embeds: Tensor) -> Tensor:
        output: Tensor = self._unet(
            sample=latents,
            timestep=timesteps,
            encoder_hidden_states=None,
            added_cond_kwargs={"image_embeds": embeds},
            return_dict=False,
        )[0]
        return output
