"""Per-prompt metrics on embeddings. docs/evaluation.md gives each one's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating[Any]]
_BLOCK = 8192  # gallery rows compared at once


@dataclass(frozen=True)
class Gallery:
    """Pictures to retrieve from: their embeddings [M, P] and, per row, the number of its distinct embedding."""

    image_embeds: Vectors
    label: NDArray[np.int64]

    @classmethod
    def of(cls, image_embeds: Vectors) -> Gallery:
        """Rows with bitwise equal embeddings are one picture stored twice and share a label."""
        rows = np.ascontiguousarray(image_embeds)
        keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
        return cls(rows, np.unique(keys, return_inverse=True)[1].reshape(-1))


def normalised(vectors: Vectors) -> NDArray[np.float64]:
    """Rows [N, P] scaled to unit length; a zero row stays zero."""
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)


def cosine(a: Vectors, b: Vectors) -> NDArray[np.float64]:
    """Cosine of row i of ``a`` [N, P] and row i of ``b`` [N, P]."""
    return np.einsum("np,np->n", normalised(a), normalised(b))


def ranks(queries: Vectors, gallery: Gallery, target: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many other pictures of ``gallery`` are at least as close (cosine) to query i as its own, row ``target[i]``.

    0 is a hit at 1. Ties count against the query, so a constant or zero prediction earns nothing; only copies of the
    query's own picture (equal label) are not competitors.
    """
    unit = normalised(queries)
    own = cosine(queries, gallery.image_embeds[target])
    beaten = np.zeros(len(unit), np.int64)
    for start in range(0, len(gallery.label), _BLOCK):
        part = slice(start, start + _BLOCK)
        # einsum and matmul round differently; the margin keeps true ties ties.
        closer = unit @ normalised(gallery.image_embeds[part]).T >= own[:, None] - 1e-12
        beaten += (closer & (gallery.label[part][None] != gallery.label[target][:, None])).sum(1)
    return beaten


def recall(rank: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """1.0 where the own picture is among the ``k`` closest, else 0.0; its mean is R@k."""
    return (rank < k).astype(np.float64)


def nearest_distance(queries: Vectors, reference: Vectors) -> NDArray[np.float64]:
    """Euclidean distance on the unit sphere from each query [N, P] to its nearest row of ``reference`` [M, P]."""
    unit = normalised(queries)
    best = np.full(len(unit), -1.0)
    for start in range(0, len(reference), _BLOCK):
        best = np.maximum(best, (unit @ normalised(reference[start : start + _BLOCK]).T).max(1))
    return np.sqrt(np.maximum(2 - 2 * best, 0.0))


def manifold(predicted: Vectors, real: Vectors, training: Vectors) -> NDArray[np.float64]:
    """Distance of each prediction to the nearest training picture, as a multiple of what is usual for real pictures.

    The unit is the mean distance of the split's own ``real`` embeddings [N, P] to their nearest ``training`` picture
    [M, P]: about 1 is as close to the vision manifold as an unseen real picture, more is off it.
    """
    usual = nearest_distance(real, training).mean()
    return nearest_distance(predicted, training) / max(float(usual), 1e-12)


def binding(predicted: Vectors, own: Vectors, mirrored: Vectors) -> NDArray[np.float64]:
    """1.0 where cos(ẑ_i, z_x,i) > cos(ẑ_i, z_x,j) for the mirror partner j; a tie is wrong. All [N, P]."""
    return (cosine(predicted, own) > cosine(predicted, mirrored)).astype(np.float64)
