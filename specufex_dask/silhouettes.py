"""Silhouettes of partitions: of all records while that is affordable, then of a stratified sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.blocks import one_blas_thread, run_tasks
from specufex_dask.kernels import silhouette as kernel

if TYPE_CHECKING:
    from specufex_dask.vectors import Vectors

Array = np.ndarray[Any, np.dtype[Any]]

EXACT = 20_000
"""Up to so many records silhouettes are of all of them."""

_QUERIES = 512
_SAMPLED = 2_000


@dataclass(frozen=True)
class Silhouettes:
    """Silhouettes (partition, record), NaN where not taken, and their mean and its standard error (partition,)."""

    record: Array
    mean: Array
    error: Array


def silhouettes(
    vectors: Vectors, partitions: Array, *, seed: int, exact: int = EXACT, candidates: Array | None = None
) -> Silhouettes:
    """Silhouettes of `vectors` in each of `partitions` (partition, record); a label below 0 is of no cluster.

    Beyond `exact` records they are taken of 2,000 in each partition, at least two a cluster, drawn
    from each cluster in proportion to its size (from `candidates`, if given: sorted numbers of
    records drawn at random). Each of these is exact: its distances are to all records. The mean
    over clusters, weighted by their sizes, then estimates that of all records, with the standard
    error of a stratified sample (Cochran 1977, eq. 5.12). Both are NaN where there are less than
    two clusters.
    """
    several = np.flatnonzero(partitions.max(axis=1, initial=-1) > 0)
    record = np.full(partitions.shape, np.nan)
    whole = vectors.in_memory and len(vectors) <= exact
    if len(several):
        record[several] = (
            _exact(vectors.array, partitions[several])
            if whole
            else _sampled(
                vectors, partitions[several], seed, np.arange(len(vectors)) if candidates is None else candidates
            )
        )
    means, errors = np.full(len(partitions), np.nan), np.full(len(partitions), np.nan)
    for i in several:
        means[i], errors[i] = _estimate(record[i], partitions[i])
    return Silhouettes(record, means, errors)


def by_cluster(record: Array, labels: Array, n_clusters: int) -> Array:
    """Mean silhouette (cluster,) of the records taken of each cluster, NaN without any."""
    known = ~np.isnan(record)
    number = np.bincount(labels[known], minlength=n_clusters)
    total = np.bincount(labels[known], record[known], n_clusters)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _exact(vectors: Array, partitions: Array) -> Array:
    calls = [(_block, vectors, partitions, slice(i, i + _QUERIES)) for i in range(0, len(vectors), _QUERIES)]
    return np.concatenate(run_tasks(calls), axis=1)


def _block(vectors: Array, partitions: Array, queries: slice) -> Array:
    with one_blas_thread():
        return kernel.of_queries(vectors, partitions, queries)


def _sampled(vectors: Vectors, partitions: Array, seed: int, candidates: Array) -> Array:
    chosen = [
        _stratified(labels, candidates, np.random.default_rng([seed, 1, i])) for i, labels in enumerate(partitions)
    ]
    every, place = np.unique(np.concatenate(chosen), return_inverse=True)
    read = vectors.rows(every)
    ends = np.cumsum([len(each) for each in chosen])[:-1]
    queries = [read[each] for each in np.split(place, ends)]
    sizes = [np.bincount(labels[labels >= 0]) for labels in partitions]
    sums = partial(_sums, [len(size) for size in sizes])
    totals: list[Array] = []
    for _, found in vectors.map(sums, partitions.T, shared=queries):
        totals = [total + more for total, more in zip(totals, found, strict=True)] if totals else found
    record = np.full(partitions.shape, np.nan)
    for i, (rows, total, size) in enumerate(zip(chosen, totals, sizes, strict=True)):
        record[i, rows] = kernel.from_sums(total, partitions[i, rows], size)
    return record


def _sums(n_clusters: list[int], block: Array, labels: Array, queries: list[Array]) -> list[Array]:
    return kernel.distance_sums(block, labels.T, queries, n_clusters)


def _stratified(labels: Array, candidates: Array, rng: np.random.Generator) -> Array:
    """Some of `candidates` (sorted), from each cluster in proportion to its size, two at least."""
    size = np.bincount(labels[labels >= 0])
    wanted = np.maximum(2, np.ceil(_SAMPLED * size / size.sum()))
    shuffled = rng.permutation(candidates[labels[candidates] >= 0])
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    number = labels[ordered]
    place = np.arange(len(ordered)) - np.searchsorted(number, number)
    return np.sort(ordered[place < wanted[number]])


def _estimate(record: Array, labels: Array) -> tuple[float, float]:
    """The mean silhouette of all records of a cluster, from those taken, and its standard error."""
    size = np.bincount(labels[labels >= 0])
    taken = ~np.isnan(record)
    values, stratum = record[taken], labels[taken]
    number = np.bincount(stratum, minlength=len(size))
    mean = by_cluster(record, labels, len(size))
    deviation = np.bincount(stratum, (values - mean[stratum]) ** 2, len(size))
    # A cluster of which one record was drawn has the scatter of the others.
    pooled = deviation.sum() / max(1, len(values) - np.count_nonzero(number))
    variance = np.where(number > 1, deviation / np.maximum(number - 1, 1), pooled)
    seen = number > 0
    share = size[seen] / size[seen].sum()
    unseen = 1 - number[seen] / size[seen]
    return float(share @ mean[seen]), float(np.sqrt((share**2 * variance[seen] / number[seen] * unseen).sum()))
