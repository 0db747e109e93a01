"""Silhouettes (Rousseeuw 1987) of several partitions of the same vectors, from one pass over their distances."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

Array = np.ndarray[Any, np.dtype[Any]]

_ROWS = 2048
_QUERIES = 256


def silhouettes(vectors: Array, partitions: Array) -> Array:
    """Silhouette (partition, record) of `vectors` (record, entry) in each of `partitions` (partition, record).

    s = (b - a) / max(a, b), with a the mean Euclidean distance to the other records of the same
    cluster and b the least mean distance to those of another; 0 for a record alone in its
    cluster, NaN for one of a label below 0. The distances, which are what it costs, are computed
    once for all partitions.
    """
    starts = range(0, len(vectors), _QUERIES)
    return np.concatenate([of_queries(vectors, partitions, slice(i, i + _QUERIES)) for i in starts], axis=1)


def of_queries(vectors: Array, partitions: Array, queries: slice) -> Array:
    """Silhouettes (partition, query) of the records `queries` among all `vectors`."""
    sums = distance_sums(vectors, partitions, [vectors[queries]])
    taken = [
        from_sums(total, labels[queries], np.bincount(labels[labels >= 0], minlength=total.shape[1]))
        for total, labels in zip(sums, partitions, strict=True)
    ]
    return np.stack(taken)


def distance_sums(
    vectors: Array, partitions: Array, queries: list[Array], n_clusters: list[int] | None = None
) -> list[Array]:
    """Summed Euclidean distances (query, cluster) to the `vectors` of each cluster, for each partition.

    `queries` (query, entry) are one array for all `partitions` (partition, record), or one for each.
    """
    sizes = n_clusters or [int(labels.max(initial=0)) + 1 for labels in partitions]
    exact = [each.astype(np.float64) for each in queries]
    squares = [np.einsum("ij,ij->i", each, each) for each in exact]
    totals = [np.zeros((k, len(exact[i % len(exact)]))) for i, k in enumerate(sizes)]
    for first in range(0, len(vectors), _ROWS):
        rows = slice(first, first + _ROWS)
        block = vectors[rows].astype(np.float64)
        distance = np.empty((0, 0))
        for i, labels in enumerate(partitions[:, rows]):
            if i < len(exact):
                distance = _distances(block, exact[i], squares[i])
            totals[i] += _members(labels, sizes[i]) @ distance
    return [total.T for total in totals]


def _distances(block: Array, queries: Array, squares: Array) -> Array:
    """Distances (record, query)."""
    distance = np.einsum("ij,ij->i", block, block)[:, None] + squares - 2 * (block @ queries.T)
    found: Array = np.sqrt(np.maximum(distance, 0, out=distance), out=distance)
    return found


def _members(labels: Array, n_clusters: int) -> Any:  # noqa: ANN401 - a sparse array, which SciPy does not type
    """1 where a record (column) is in a cluster (row)."""
    inside = labels >= 0
    places = np.concatenate([[0], np.cumsum(inside)])
    return sparse.csc_array((np.ones(places[-1]), labels[inside], places), shape=(n_clusters, len(labels)))


def from_sums(total: Array, labels: Array, sizes: Array) -> Array:
    """Silhouettes (query,) from summed distances `total` (query, cluster) to clusters of `sizes` records."""
    own = np.arange(len(labels)), np.maximum(labels, 0)
    inside = total[own] / np.maximum(sizes[own[1]] - 1, 1)
    other = np.where(sizes > 0, total / np.maximum(sizes, 1), np.inf)
    other[own] = np.inf
    outside = other.min(axis=1)
    larger = np.maximum(inside, outside)
    defined = (sizes[own[1]] > 1) & (larger > 0) & np.isfinite(outside)
    silhouette = np.where(defined, (np.where(defined, outside, 0) - inside) / np.where(defined, larger, 1), 0.0)
    return np.where(labels < 0, np.nan, silhouette)
