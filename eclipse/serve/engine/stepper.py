"""One decoder step over the pictures in the slots: one call of a network for all that wait for the same one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from eclipse.models.decoder import Call, Decoder, Sketch


class Stepper:
    """A decoder's networks over ``rows`` rows: a picture with guidance takes two of them, one without takes one.

    With ``exact`` all rows are always computed, empty ones with zeros. A CPU kernel is chosen by the shape of its
    input, and inside one shape computes each row alike, so a picture's bits depend on its own rows only. Networks that
    the decoder says are to work on one picture at a time do.
    """

    def __init__(self, decoder: Decoder, rows: int, *, exact: bool) -> None:
        self._decoder = decoder
        self.rows = rows
        self._exact = exact

    def step(self, pictures: Sequence[Sketch]) -> dict[Sketch, Exception]:
        """Take each of ``pictures``, of one size and at most :attr:`rows` rows, one step on; what failed, and how.

        Where a call as a whole fails, each of its pictures is tried alone, in the same shape.
        """
        groups: dict[str, list[tuple[Sketch, Call]]] = defaultdict(list)
        for picture in pictures:
            call = picture.call()
            groups[call.network].append((picture, call))
        return {picture: error for group in groups.values() for picture, error in self._step(group).items()}

    def rows_agree(self, picture: Sketch) -> bool:
        """Whether each row of a full batch gives the same bits for the same input, here and now."""
        network, inputs = picture.call()
        output = self._decoder.call(network, *(part[-1:].repeat(self.rows, *(1,) * (part.ndim - 1)) for part in inputs))
        return bool((output == output[:1]).all())

    def _step(self, group: Sequence[tuple[Sketch, Call]]) -> dict[Sketch, Exception]:
        try:
            outputs = self._outputs([call for _, call in group])
        except Exception as error:
            if len(group) == 1:
                return {group[0][0]: error}
            return {picture: failed for one in group for picture, failed in self._step([one]).items()}
        failures: dict[Sketch, Exception] = {}
        for (picture, _), output in zip(group, outputs, strict=True):
            try:
                picture.advance(output)
            except Exception as error:
                failures[picture] = error
        return failures

    def _outputs(self, calls: Sequence[Call]) -> Sequence[Tensor]:
        network = calls[0].network
        if self._exact and network in self._decoder.single:
            return [self._decoder.call(network, *call.inputs) for call in calls]
        counts = [len(call.inputs[0]) for call in calls]
        parts = [torch.cat(part) for part in zip(*(call.inputs for call in calls), strict=True)]
        empty = self.rows - sum(counts) if self._exact else 0
        if empty:
            parts = [torch.cat([part, part.new_zeros(empty, *part.shape[1:])]) for part in parts]
            counts = [*counts, empty]
        return self._decoder.call(network, *parts).split(counts)[: len(calls)]
