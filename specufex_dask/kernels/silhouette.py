"""Silhouettes (Rousseeuw 1987) of several partitions of the same vectors, from one pass over their distances."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_ROWS = 1024


def silhouettes(vectors: Array, partitions: Array) -> Array:
    """Silhouette (partition, record) of `vectors` (record, entry) in each of `partitions` (partition, record).

    s = (b - a) / max(a, b), with a the mean Euclidean distance to the other records of the same
    cluster and b the least mean distance to those of another; 0 for a record alone in its
    cluster. The distances, which are what it costs, are computed once for all partitions.
    """
    members = [np.eye(labels.max() + 1)[labels] for labels in partitions]
    result = np.empty(partitions.shape)
    exact = vectors.astype(np.float64)
    squares = np.einsum("ij,ij->i", exact, exact)
    for first in range(0, len(exact), _ROWS):
        rows = slice(first, first + _ROWS)
        distance = squares[rows, None] + squares - 2 * (exact[rows] @ exact.T)
        np.sqrt(np.maximum(distance, 0, out=distance), out=distance)
        distance[np.arange(len(distance)), np.arange(first, first + len(distance))] = 0
        for i, (labels, member) in enumerate(zip(partitions, members, strict=True)):
            result[i, rows] = _rows(distance @ member, labels[rows], member.sum(axis=0))
    return result


def _rows(total: Array, labels: Array, sizes: Array) -> Array:
    """Silhouettes of some records from their summed distances `total` (record, cluster)."""
    own = np.arange(len(labels)), labels
    inside = total[own] / np.maximum(sizes[labels] - 1, 1)
    other = np.where(sizes > 0, total / np.maximum(sizes, 1), np.inf)
    other[own] = np.inf
    outside = other.min(axis=1)
    larger = np.maximum(inside, outside)
    defined = (sizes[labels] > 1) & (larger > 0) & np.isfinite(outside)
    return np.where(defined, (outside - inside) / np.where(defined, larger, 1), 0.0)
