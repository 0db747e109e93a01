"""Hierarchies of vectors: exact trees while their distances fit in memory, trees of micro-clusters beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from specufex_dask.blocks import one_blas_thread, run_tasks
from specufex_dask.kernels import linkage
from specufex_dask.kmeans import nearest

if TYPE_CHECKING:
    from specufex_dask.vectors import Vectors

Array = np.ndarray[Any, np.dtype[Any]]

EXACT = 30_000
"""Up to so many records a tree is of the records themselves."""

_IN_DOUBLE = 16_384
_MICRO = 3_000
_MICRO_A_CLUSTER = 4
_SAMPLE_A_MICRO = 15
_ROUNDS = 10
_ROWS = 256


@dataclass(frozen=True)
class Hierarchy:
    """The leaf of each record (record,), the leaves' centres and sizes, and their tree (merge, 4), as SciPy has it."""

    leaf: Array
    centres: Array
    sizes: Array
    tree: Array

    def cut(self, n_clusters: int) -> tuple[Array, Array]:
        """The cluster of each record and the centroids (cluster, entry) when `n_clusters` are left."""
        of_leaf = linkage.cut(self.tree, n_clusters)
        total = np.zeros((n_clusters, self.centres.shape[1]))
        np.add.at(total, of_leaf, self.centres * self.sizes[:, None])
        return of_leaf[self.leaf], total / np.bincount(of_leaf, self.sizes, n_clusters)[:, None]


def hierarchy(vectors: Vectors, method: str, *, seed: int, most_clusters: int, exact: int = EXACT) -> Hierarchy:
    """The hierarchy of `vectors` by `method` (``"ward"`` or ``"single"``), to be cut at up to `most_clusters`.

    Up to `exact` records the tree is exact; it takes 4 n² bytes, half of that beyond 16,384 records.
    Beyond, k-means makes 3,000 micro-clusters, or four times `most_clusters`, and the tree is of
    their centres: for Ward each of the weight of its records, so that merging them costs what
    merging their records would.
    """
    if len(vectors) <= exact:
        leaves = vectors.rows(np.arange(len(vectors))).astype(np.float64)
        leaf, sizes = np.arange(len(vectors)), np.ones(len(vectors))
    else:
        n_micro = min(EXACT, len(vectors) // 2, max(_MICRO, _MICRO_A_CLUSTER * most_clusters))
        leaf, leaves, sizes = micro_clusters(vectors, n_micro, seed)
    if len(sizes) < most_clusters:
        msg = (
            f"got {len(sizes)} micro-clusters of records that differ, expected at least the {most_clusters} of "
            f"n_clusters: try fewer clusters."
        )
        raise ValueError(msg)
    return Hierarchy(leaf, leaves, sizes, tree(leaves, sizes, method))


def tree(points: Array, weights: Array, method: str) -> Array:
    """The tree (merge, 4) of `points` (point, entry) that stand for `weights` (point,) records each."""
    n = len(points)
    condensed = np.empty(n * (n - 1) // 2, dtype=np.float64 if n <= _IN_DOUBLE else np.float32)
    run_tasks([(linkage.fill_squares, points, condensed, i, min(i + _ROWS, n)) for i in range(0, n, _ROWS)])
    merges: Array = linkage.ward(condensed, weights) if method == "ward" else linkage.single(condensed, n)
    return merges


def micro_clusters(vectors: Vectors, n_micro: int, seed: int) -> tuple[Array, Array, Array]:
    """The micro-cluster of each record, and the centroids and sizes of about `n_micro` of them.

    The centres are found on a sample, and then all records go to the nearest.
    """
    from sklearn.cluster import KMeans

    rng = np.random.default_rng([seed, 3])
    sampled = np.sort(rng.choice(len(vectors), min(len(vectors), _SAMPLE_A_MICRO * n_micro), replace=False))
    shown = vectors.rows(sampled)
    n_different = len(np.unique(shown, axis=0))
    with threadpool_limits(limits=1, user_api="openmp"), one_blas_thread():
        found = KMeans(min(n_micro, n_different), n_init=1, max_iter=_ROUNDS, tol=0, random_state=seed).fit(shown)
    labels = nearest(vectors, [found.cluster_centers_])[0][0]
    used, leaf = np.unique(labels, return_inverse=True)
    return leaf, means(vectors, leaf, len(used)), np.bincount(leaf).astype(np.float64)


def means(vectors: Vectors, labels: Array, n_clusters: int) -> Array:
    """Mean vectors (cluster, entry) of the clusters 0 to `n_clusters`; a label below 0 is of none."""
    total = np.zeros((n_clusters, vectors.array.shape[1]))
    for _, found in vectors.map(_sums, labels, shared=n_clusters):
        total += found
    mean: Array = total / np.maximum(np.bincount(labels[labels >= 0], minlength=n_clusters), 1)[:, None]
    return mean


def _sums(block: Array, labels: Array, n_clusters: int) -> Array:
    total = np.zeros((n_clusters, block.shape[1]))
    np.add.at(total, labels[labels >= 0], block[labels >= 0])
    return total
