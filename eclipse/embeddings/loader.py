"""The order in which training sees samples: a pure function of seed and step, so resuming needs only the step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from eclipse.errors import TrainingError


class BatchOrder:
    """Epoch after epoch of fresh permutations of ``size`` samples in whole batches; each epoch drops its remainder."""

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        if size < batch_size:
            raise TrainingError(
                f"{size} training samples cannot fill one batch of {batch_size}; lower train.batch_size or add data"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.per_epoch = size // batch_size
        self._epoch = -1
        self._permutation: NDArray[np.int64] = np.empty(0, np.int64)

    def at(self, step: int) -> NDArray[np.int64]:
        """Sample indices int64 [batch_size] of optimiser step ``step`` (from 0), the same however often asked."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._permutation = np.random.default_rng([self.seed, epoch]).permutation(self.size)
            self._epoch = epoch
        return self._permutation[position * self.batch_size : (position + 1) * self.batch_size]
