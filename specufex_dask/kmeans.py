"""k-means of vectors: by scikit-learn in memory, by dask-ml from block to block."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import dask.config
import numpy as np
from dask.system import CPU_COUNT
from threadpoolctl import threadpool_limits

from specufex_dask.blocks import one_blas_thread, run_tasks

if TYPE_CHECKING:
    from specufex_dask.vectors import Vectors

Array = np.ndarray[Any, np.dtype[Any]]

SAMPLE = 20_000
"""Records that the centres for dask-ml are found on."""

_SAMPLE_FOR_STARTS = 4_000
_MOST_REPAIRS = 10
_DISTANCES_AT_ONCE = 4_000_000
_LEAST_TOLERANCE = np.float64(np.finfo(np.float64).smallest_subnormal)


def in_memory(vectors: Array, tried: list[int], seed: int, n_init: int) -> list[Array]:
    """Centres (cluster, entry) of `vectors` (record, entry) by scikit-learn, for each number of clusters.

    They are the fixed points of Lloyd's iterations from k-means++ starts, the best of `n_init`.
    """
    from sklearn.cluster import KMeans

    _require_different(vectors, max(tried))
    shown = vectors
    if len(vectors) > _SAMPLE_FOR_STARTS and max(tried) < _SAMPLE_FOR_STARTS:
        # The best of many starts shows on a sample; all records are then gone through once.
        shown = vectors[np.random.default_rng([seed, 2]).choice(len(vectors), _SAMPLE_FOR_STARTS, replace=False)]

    def centres(k: int) -> Array:
        # Threads of OpenMP add up centres in the order in which they finish: one thread keeps the bits.
        with threadpool_limits(limits=1, user_api="openmp"), one_blas_thread():
            fitted = KMeans(k, n_init=n_init, random_state=seed).fit(shown)
            if shown is not vectors:
                fitted = KMeans(k, n_init=1, init=fitted.cluster_centers_).fit(vectors)
        found: Array = fitted.cluster_centers_
        return found

    return run_tasks([(centres, k) for k in tried])


def _require_different(vectors: Array, n_clusters: int) -> None:
    """Raise ``ValueError`` unless there are `n_clusters` different ones among `vectors` (record, entry)."""
    # A few records show it, but where most are alike.
    for shown in (vectors[:1000], vectors):
        n_different = len(np.unique(shown, axis=0))
        if n_different >= n_clusters:
            return
    msg = (
        f"got {len(vectors)} usable fingerprints of which {n_different} differ, expected at least the {n_clusters} of "
        f"n_clusters: try fewer clusters."
    )
    raise ValueError(msg)


def streamed(vectors: Vectors, starts: list[Array], *, tol: float) -> tuple[Array, Array, list[Array]]:
    """Labels and distances (start, record) of lazy `vectors` by dask-ml from each of `starts`, and the centres.

    Iterations end when the squared shift of all centres together is below `tol`, or for 0 when no
    centre moves. dask-ml leaves a cluster without records at the origin: it is put on the record
    farthest from its own centre, and the iterations go on.
    """
    centres = [_lloyd(vectors, start, tol) for start in starts]
    labels, distance = nearest(vectors, centres)
    for _ in range(_MOST_REPAIRS):
        empty = [
            np.flatnonzero(np.bincount(number, minlength=len(c)) == 0)
            for number, c in zip(labels, centres, strict=True)
        ]
        again = [i for i, missing in enumerate(empty) if len(missing)]
        if not again:
            break
        for i in again:
            farthest = np.argsort(-distance[i], kind="stable")[: len(empty[i])]
            centres[i][empty[i]] = vectors.rows(np.sort(farthest))
            centres[i] = _lloyd(vectors, centres[i], tol)
        labels[again], distance[again] = nearest(vectors, [centres[i] for i in again])
    return labels, distance, centres


def _lloyd(vectors: Vectors, start: Array, tol: float) -> Array:
    from dask_ml.cluster.k_means import k_means

    # In float64: sums of many float32 lose the digits that tell whether a centre has moved.
    records = vectors.array.astype(np.float64)
    with ThreadPoolExecutor(CPU_COUNT, initializer=_without_openmp) as pool, dask.config.set(pool=pool):
        found: Array = k_means(records, len(start), init=start.astype(np.float64), tol=max(tol, _LEAST_TOLERANCE))[1]
    return found


def _without_openmp() -> None:
    """Let the calling thread compute alone: each core has a task of its own, and idle teams spin."""
    threadpool_limits(limits=1, user_api="openmp")


def nearest(vectors: Vectors, centres: list[Array]) -> tuple[Array, Array]:
    """The nearest of each of several sets of `centres` (set, record), and the Euclidean distance to it."""
    labels = np.empty((len(centres), len(vectors)), dtype=np.int32)
    distance = np.empty((len(centres), len(vectors)), dtype=np.float32)
    for rows, found in vectors.map(_nearest, shared=centres):
        labels[:, rows], distance[:, rows] = found
    return labels, distance


def _nearest(block: Array, centres: list[Array]) -> tuple[Array, Array]:
    found = [nearest_of(block, each) for each in centres]
    return np.stack([label for label, _ in found]), np.stack([distance for _, distance in found])


def nearest_of(vectors: Array, centres: Array) -> tuple[Array, Array]:
    """The nearest of `centres` (cluster, entry) to each of `vectors` (record, entry), and the distance (record,)."""
    labels, distance = np.empty(len(vectors), dtype=np.int32), np.empty(len(vectors))
    squares = np.einsum("ij,ij->i", centres, centres, dtype=np.float64)
    n_rows = max(1, _DISTANCES_AT_ONCE // len(centres))
    for first in range(0, len(vectors), n_rows):
        rows = slice(first, first + n_rows)
        block = vectors[rows].astype(np.float64)
        labels[rows] = (squares - 2 * (block @ centres.T)).argmin(axis=1)
        distance[rows] = np.linalg.norm(block - centres[labels[rows]], axis=1)
    return labels, distance
