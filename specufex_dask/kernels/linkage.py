"""Trees of clusters (Ward, single linkage) of weighted points, and partitions cut from them."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_SUMMED_IN_LANES = {"contract", "reassoc", "nsz"}
_jit = numba.njit(nogil=True, cache=True, error_model="numpy")


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=_SUMMED_IN_LANES)
def fill_squares(vectors: Array, condensed: Array, first: int, last: int) -> None:
    """Write the squared Euclidean distances of the rows `first` to `last` of `vectors` to all later rows.

    `condensed` holds the pairs i < j row by row, as SciPy has them. Differences, not products, so
    that the distance of equal vectors is exactly 0.
    """
    n = len(vectors)
    for i in range(first, last):
        place = n * i - i * (i + 1) // 2
        for j in range(i + 1, n):
            total = 0.0
            for k in range(vectors.shape[1]):
                difference = vectors[i, k] - vectors[j, k]
                total += difference * difference
            condensed[place] = total
            place += 1


@_jit
def _place(n: int, i: int, j: int) -> int:
    """Where a condensed array has the pair i, j."""
    if i > j:
        i, j = j, i
    return n * i - i * (i + 1) // 2 + j - i - 1


@_jit
def ward(condensed: Array, weight: Array) -> Array:
    """Merges (merge, 4) of Ward's method on points of `weight` records each, in SciPy's form.

    `condensed` are squared distances and is overwritten. The height of a merge is SciPy's,
    sqrt(2 |A| |B| / (|A| + |B|)) times the distance of the centroids, with |A| the sum of weights: a
    point of weight w stands for w equal records. Nearest-neighbour chain (Murtagh 1983) with the
    update of Lance and Williams 1967.
    """
    n = len(weight)
    size = weight.astype(np.float64)
    for i in range(n):
        for j in range(i + 1, n):
            condensed[_place(n, i, j)] *= 2 * size[i] * size[j] / (size[i] + size[j])
    merges, chain, length = np.empty((n - 1, 3)), np.empty(n, np.int64), 0
    for step in range(n - 1):
        if length == 0:
            chain[0], length = np.argmax(size > 0), 1
        length = _grow(condensed, size, chain, length)
        one, other = chain[length - 2], chain[length - 1]
        length -= 2
        apart = condensed[_place(n, one, other)]
        merges[step, 0], merges[step, 1], merges[step, 2] = one, other, np.sqrt(apart)
        _update(condensed, size, one, other, apart)
    return _tree(merges)


@_jit
def _grow(condensed: Array, size: Array, chain: Array, length: int) -> int:
    """Extend the chain, each the nearest to the one before, until two are nearest to each other."""
    n = len(size)
    while True:
        tip, best, least = chain[length - 1], -1, np.inf
        if length > 1:
            best = chain[length - 2]
            least = condensed[_place(n, tip, best)]
        for k in range(n):
            if size[k] > 0 and k != tip:
                apart = condensed[_place(n, tip, k)]
                if apart < least:
                    best, least = k, apart
        if length > 1 and best == chain[length - 2]:
            return length
        chain[length] = best
        length += 1


@_jit
def _update(condensed: Array, size: Array, one: int, other: int, apart: float) -> None:
    """Put the union of two clusters in the place of `other`."""
    n = len(size)
    for k in range(n):
        if size[k] > 0 and k not in (one, other):
            place = _place(n, other, k)
            with_one, with_other = condensed[_place(n, one, k)], condensed[place]
            total = (size[one] + size[k]) * with_one + (size[other] + size[k]) * with_other - size[k] * apart
            condensed[place] = total / (size[one] + size[other] + size[k])
    size[other] += size[one]
    size[one] = 0


@_jit
def single(condensed: Array, n: int) -> Array:
    """Merges (merge, 4) of single linkage on `n` points: the minimum spanning tree by Prim's algorithm.

    `condensed` are squared distances; heights are distances.
    """
    merges = np.empty((n - 1, 3))
    least, source, waiting = np.full(n, np.inf), np.zeros(n, np.int64), np.ones(n, np.bool_)
    now = 0
    for step in range(n - 1):
        waiting[now] = False
        best = -1
        for k in range(n):
            if waiting[k]:
                apart = condensed[_place(n, now, k)]
                if apart < least[k]:
                    least[k], source[k] = apart, now
                if best < 0 or least[k] < least[best]:
                    best = k
        merges[step, 0], merges[step, 1], merges[step, 2] = source[best], best, np.sqrt(least[best])
        now = best
    return _tree(merges)


@_jit
def _tree(merges: Array) -> Array:
    """`merges` (merge, 3) of members, sorted by height, as SciPy's: children are numbered in the order of merges."""
    n = len(merges) + 1
    parent, count = np.arange(2 * n - 1), np.ones(2 * n - 1)
    tree = np.empty((n - 1, 4))
    order = np.argsort(merges[:, 2], kind="mergesort")
    for step in range(n - 1):
        one, other, height = merges[order[step]]
        left, right = _root(parent, int(one)), _root(parent, int(other))
        parent[left] = parent[right] = n + step
        count[n + step] = count[left] + count[right]
        tree[step, 0], tree[step, 1], tree[step, 2] = min(left, right), max(left, right), height
        tree[step, 3] = count[n + step]
    return tree


@_jit
def _root(parent: Array, node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@_jit
def cut(tree: Array, n_clusters: int) -> Array:
    """Number of the cluster (leaf,) of each leaf when `n_clusters` are left of `tree` (merge, 4)."""
    n = len(tree) + 1
    label = np.full(2 * n - 1, -1)
    number = 0
    for node in range(2 * n - 2, -1, -1):
        # From the root down: the merges that are left out part the tree, the others pass their number on.
        undone = node >= 2 * n - n_clusters
        if label[node] < 0 and not undone:
            label[node] = number
            number += 1
        if node >= n and not undone:
            label[int(tree[node - n, 0])] = label[node]
            label[int(tree[node - n, 1])] = label[node]
    return label[:n]
