"""Clusters of fingerprints: k-means, the number of clusters by the mean silhouette."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from specufex_dask import places, schema, store
from specufex_dask.blocks import one_blas_thread, record_chunked, run_tasks
from specufex_dask.kernels.silhouette import silhouettes
from specufex_dask.recipe import recipe, stamp
from specufex_dask.sample import read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

_STARTS = 10
_SAMPLE = 20_000
_SAMPLE_FOR_STARTS = 4_000
_Partitions = tuple[Array, Array, list[Array]]
"""Labels (n_clusters, record), silhouettes (n_clusters, record) and the centroids of each number of clusters tried."""


def cluster_fingerprints(
    fingerprints: xr.Dataset,
    *,
    n_clusters: int | Iterable[int] = range(2, 11),
    seed: int,
    n_init: int = _STARTS,
    memory_limit: float = 1e9,
    checkpoint: str | Path | None = None,
    storage_options: Mapping[str, Any] | None = None,
    group: str | None = None,
) -> xr.Dataset:
    """Cluster the fingerprints of all usable records by k-means.

    Of several numbers of clusters the one with the largest mean silhouette (Rousseeuw 1987) is
    chosen. Clusters are numbered by size, the largest 0 (equal sizes by their centroid).
    Fingerprints larger than `memory_limit` are clustered by dask-ml, from k-means++ centres of a
    sample, and their silhouettes are those of a sample.

    Parameters
    ----------
    fingerprints
        What `compute_fingerprints` returns: fingerprint (record, state, next_state).
    n_clusters
        Number of clusters, or the numbers to try.
    seed
        Seed of the starts and samples.
    n_init
        Starts of k-means, of which the best is kept.
    memory_limit
        Bytes of fingerprints to keep in memory.
    checkpoint, storage_options, group
        A store, what fsspec opens it with, and a group in it: where it holds the clusters of this very
        recipe, they are returned.

    Returns
    -------
    xarray.Dataset
        Stage ``clusters``: cluster (record,), -1 where a record is not usable, distance to the
        centroid and silhouette (record,), NaN there; the centroids; labels and mean silhouette
        of each number tried (n_clusters,).

    Raises
    ------
    ValueError
        If there are fewer different usable fingerprints than clusters, or a number is below 1.

    Examples
    --------
    >>> import numpy as np, specufex_dask as sx
    >>> levels = np.random.default_rng(0).gamma(1.0, 5.0, (40, 12, 20))
    >>> spectrograms = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    >>> nmf = sx.fit_nmf(spectrograms, n_patterns=5, max_steps=20, seed=0)
    >>> hmm = sx.fit_hmm(sx.compute_activations(spectrograms, nmf), nmf, n_states=3, max_steps=20, seed=0)
    >>> fingerprints = sx.compute_fingerprints(spectrograms, nmf, hmm)
    >>> clusters = sx.cluster_fingerprints(fingerprints, n_clusters=range(2, 5), seed=0)
    >>> clusters.mean_silhouette.sizes["n_clusters"]
    3
    """
    schema.require(fingerprints, "fingerprints")
    tried = [int(k) for k in ([n_clusters] if isinstance(n_clusters, (int, np.integer)) else n_clusters)]
    parameters = {"n_clusters": tried, "seed": seed, "n_init": n_init, "memory_limit": memory_limit}
    planned = recipe("clusters", parameters, fingerprints=fingerprints)
    stored = store.find(places.optional(checkpoint, storage_options), "clusters", planned, group=group)
    if stored is not None:
        return stored
    usable = np.flatnonzero(fingerprints["quality"].values == 0)
    _check(tried, len(usable))
    n_entries = fingerprints.sizes["state"] * fingerprints.sizes["next_state"]
    lazy = record_chunked(fingerprints["fingerprint"]).reshape(-1, n_entries)
    if len(usable) * n_entries * lazy.dtype.itemsize <= memory_limit:
        vectors = read(lazy, usable, lazy.dtype)
        partitions = _in_memory(vectors, tried, seed, n_init)
        lazy, rows = da.from_array(vectors, chunks=(_SAMPLE, n_entries), name=False), np.arange(len(usable))
    else:
        partitions, rows = _out_of_memory(lazy, usable, tried, seed, n_init), usable
    labels, found, centroids = partitions
    chosen = int(np.nanargmax(_mean(found))) if len(tried) > 1 else 0
    distance = _distances(lazy, rows, labels[chosen], centroids[chosen])
    result = _dataset(fingerprints, usable, partitions, tried=tried, chosen=chosen, distance=distance)
    return stamp(result, "clusters", parameters, fingerprints=fingerprints)


def _check(tried: list[int], n_usable: int) -> None:
    if not tried or min(tried) < 1 or len(set(tried)) < len(tried):
        msg = f"got n_clusters={tried}, expected a whole number from 1, or different ones to choose from: correct it."
        raise ValueError(msg)
    if max(tried) > n_usable:
        msg = (
            f"got {n_usable} usable fingerprints, expected at least the {max(tried)} of n_clusters: try fewer clusters."
        )
        raise ValueError(msg)


def _in_memory(vectors: Array, tried: list[int], seed: int, n_init: int) -> _Partitions:
    """k-means of `vectors` (record, entry) by scikit-learn, for each number of clusters."""
    from sklearn.cluster import KMeans

    _require_different(vectors, max(tried))
    shown = vectors
    if len(vectors) > _SAMPLE_FOR_STARTS:
        # The best of many starts shows on a sample; all records are then gone through once.
        shown = vectors[np.random.default_rng([seed, 2]).choice(len(vectors), _SAMPLE_FOR_STARTS, replace=False)]

    def partition(k: int) -> tuple[Array, Array]:
        # Threads of OpenMP add up centres in the order in which they finish: one thread keeps the bits.
        with threadpool_limits(limits=1, user_api="openmp"), one_blas_thread():
            fitted = KMeans(k, n_init=n_init, random_state=seed).fit(shown)
            if shown is not vectors:
                fitted = KMeans(k, n_init=1, init=fitted.cluster_centers_).fit(vectors)
        return _canonical(fitted.labels_, fitted.cluster_centers_)

    labels, centroids = zip(*run_tasks([(partition, k) for k in tried]), strict=True)
    return np.stack(labels), _silhouettes(vectors, np.stack(labels), seed), list(centroids)


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


def _out_of_memory(lazy: da.Array, usable: Array, tried: list[int], seed: int, n_init: int) -> _Partitions:
    """k-means by dask-ml, started from the centres of a sample in memory."""
    from dask_ml.cluster import KMeans

    chosen = np.sort(np.random.default_rng([seed, 0]).choice(len(usable), min(_SAMPLE, len(usable)), replace=False))
    sampled = read(lazy, usable[chosen], lazy.dtype)
    vectors = lazy[usable]
    labels, centroids = [], []
    for start in _in_memory(sampled, tried, seed, n_init)[2]:
        fitted = KMeans(len(start), init=start.astype(lazy.dtype)).fit(vectors)
        number, centres = _canonical(fitted.labels_.compute(), np.asarray(fitted.cluster_centers_))
        labels.append(number)
        centroids.append(centres)
    scattered = np.full((len(tried), len(usable)), np.nan)
    scattered[:, chosen] = _silhouettes(sampled, np.stack(labels)[:, chosen], seed)
    return np.stack(labels), scattered, centroids


def _canonical(labels: Array, centroids: Array) -> tuple[Array, Array]:
    """Number the clusters by size, the largest 0; equal sizes by their centroid."""
    sizes = np.bincount(labels, minlength=len(centroids))
    order = np.lexsort([*centroids.T[::-1], -sizes])
    return np.argsort(order)[labels].astype("int32"), centroids[order]


def _silhouettes(vectors: Array, partitions: Array, seed: int) -> Array:
    """Silhouettes (n_clusters, record) of `partitions`; NaN beyond a seeded sample, or where there is one cluster."""
    result = np.full(partitions.shape, np.nan)
    chosen = np.arange(len(vectors))
    if len(vectors) > _SAMPLE:
        chosen = np.sort(np.random.default_rng([seed, 1]).choice(len(vectors), _SAMPLE, replace=False))
    several = np.flatnonzero(partitions[:, chosen].max(axis=1) > partitions[:, chosen].min(axis=1))
    with one_blas_thread():
        result[np.ix_(several, chosen)] = silhouettes(vectors[chosen], partitions[np.ix_(several, chosen)])
    return result


def _mean(silhouettes: Array) -> Array:
    """Mean silhouette of each row, NaN where none was taken."""
    known = ~np.isnan(silhouettes)
    total, number = np.where(known, silhouettes, 0).sum(axis=1), known.sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _distances(lazy: da.Array, rows: Array, labels: Array, centroids: Array) -> Array:
    """Euclidean distance of each of the `rows` of `lazy` to the centroid of its cluster (record,), chunk by chunk."""

    def block(vectors: Array, number: Array) -> Array:
        apart: Array = np.linalg.norm(vectors - centroids[np.maximum(number[:, 0], 0)], axis=1, keepdims=True)
        return apart

    number = np.full(len(lazy), -1, dtype=labels.dtype)
    number[rows] = labels
    numbers = da.from_array(number[:, None], chunks=(lazy.chunks[0], 1))
    apart = da.map_blocks(block, lazy, numbers, chunks=(lazy.chunks[0], 1), dtype=lazy.dtype)
    distances: Array = apart.compute()[rows, 0]
    return distances


def _dataset(
    fingerprints: xr.Dataset, usable: Array, partitions: _Partitions, *, tried: list[int], chosen: int, distance: Array
) -> xr.Dataset:
    labels, found, centroids = partitions
    n_records, n_states = fingerprints.sizes["record"], fingerprints.sizes["state"]

    def placed(values: Array, absent: float) -> Array:
        whole = np.full((*values.shape[:-1], n_records), absent, dtype=values.dtype)
        whole[..., usable] = values
        return whole

    return xr.Dataset(
        {
            "cluster": ("record", placed(labels[chosen], -1)),
            "distance": ("record", placed(distance, np.nan)),
            "silhouette": ("record", placed(found[chosen], np.nan)),
            "centroid": (("cluster_id", "state", "next_state"), centroids[chosen].reshape(-1, n_states, n_states)),
            "labels": (("n_clusters", "record"), placed(labels, -1)),
            "mean_silhouette": ("n_clusters", _mean(found)),
            "quality": fingerprints["quality"].compute(),
        },
        coords={"n_clusters": tried} | {n: fingerprints[n].compute() for n in ("event_id", "station_id", "start_time")},
        attrs={name: fingerprints.attrs[name] for name in ("nmf", "hmm") if name in fingerprints.attrs},
    )
