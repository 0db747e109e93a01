"""Clusters of fingerprints: k-means, hierarchies, any clusterer of scikit-learn; the number by the mean silhouette."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from specufex_dask import places, projection, schema, silhouettes, store
from specufex_dask.blocks import run_tasks
from specufex_dask.partitions import Partitions, described, partitions
from specufex_dask.recipe import recipe, stamp
from specufex_dask.vectors import Vectors, kept, of_fingerprints

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from specufex_dask.silhouettes import Silhouettes

Array = np.ndarray[Any, np.dtype[Any]]


def cluster_fingerprints(
    fingerprints: xr.Dataset,
    *,
    n_clusters: int | Iterable[int] = range(2, 11),
    seed: int,
    method: Literal["kmeans", "ward", "single"] | object = "kmeans",
    project: Literal["pca", "svd"] | None = None,
    n_components: int = 20,
    n_init: int = 10,
    memory_limit: float = 256e6,
    checkpoint: str | Path | None = None,
    storage_options: Mapping[str, Any] | None = None,
    group: str | None = None,
) -> xr.Dataset:
    """Cluster the fingerprints of all usable records.

    Of several numbers of clusters the one with the largest mean silhouette (Rousseeuw 1987) is
    chosen. Clusters are numbered by size, the largest 0 (equal sizes by their centroid).
    Silhouettes are those of all records up to 20,000, and beyond of a stratified sample of about
    2,000, which tells its standard error.

    k-means is scikit-learn's; fingerprints larger than `memory_limit` are clustered block by block by
    dask-ml, from k-means++ centres of a sample. The hierarchies are exact up to
    30,000 records (1.8 GB), and beyond those of k-means micro-clusters, for Ward weighted by their
    sizes; one tree gives the partitions of all numbers tried.

    Parameters
    ----------
    fingerprints
        What `compute_fingerprints` returns: fingerprint (record, state, next_state).
    n_clusters
        Number of clusters, or the numbers to try; not used with a clusterer of your own.
    seed
        Seed of the starts and samples.
    method
        ``"kmeans"``, the hierarchies ``"ward"`` and ``"single"``, or an instance of a clusterer of
        scikit-learn, such as ``DBSCAN(eps=0.1)``, which gets all fingerprints in memory.
    project
        ``"pca"`` or ``"svd"`` to cluster projections on `n_components` axes, with their mean or
        without; None clusters the fingerprints as they are.
    n_components
        Number of these axes.
    n_init
        Starts of k-means, of which the best is kept.
    memory_limit
        Bytes of fingerprints to keep in memory as one array; k-means takes as much again for each
        core. Of larger ones up to four times as much is kept in blocks, or what a third of the
        memory of the active Client's workers holds, and more than that is read anew at each pass.
    checkpoint, storage_options, group
        A store, what fsspec opens it with, and a group in it: where it holds the clusters of this very
        recipe, they are returned.

    Returns
    -------
    xarray.Dataset
        Stage ``clusters``: cluster (record,), -1 where a record is not usable or a clusterer calls
        it noise, distance to the centroid and silhouette (record,), NaN there; the centroids (of
        the projections) and mean silhouettes (cluster_id,); labels, mean silhouette and its
        standard error of each number tried (n_clusters,). Of a hierarchy also its tree, linkage
        (merge, link) as ``scipy.cluster.hierarchy.dendrogram`` draws it, and the leaf (record,).

    Raises
    ------
    ValueError
        If there are fewer different usable fingerprints than clusters, a number is below 1, or the
        fingerprints are too large for the clusterer.

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
    >>> sx.cluster_fingerprints(fingerprints, n_clusters=5, method="ward", seed=0).linkage.sizes["merge"]
    39
    """
    schema.require(fingerprints, "fingerprints")
    tried = [int(k) for k in ([n_clusters] if isinstance(n_clusters, (int, np.integer)) else n_clusters)]
    parameters = {
        "n_clusters": tried if isinstance(method, str) else None, "seed": seed, "method": described(method),
        "project": project, "n_components": n_components if project else None, "n_init": n_init,
        "memory_limit": memory_limit,
    }  # fmt: skip
    planned = recipe("clusters", parameters, fingerprints=fingerprints)
    stored = store.find(places.optional(checkpoint, storage_options), "clusters", planned, group=group)
    if stored is not None:
        return stored
    known = fingerprints[["quality"]].compute()  # with the coordinates of the records, in one pass
    usable = np.flatnonzero(known["quality"].values == 0)
    _check(tried if isinstance(method, str) else [1], len(usable))
    vectors = kept(of_fingerprints(fingerprints, usable, memory_limit), memory_limit)
    space = projection.fit(vectors, project, n_components) if project else None
    points = vectors if space is None else space.onto(vectors, memory_limit)
    found = partitions(points, method, tried, seed=seed, n_init=n_init)
    seen = silhouettes.silhouettes(points, found.labels, seed=seed, candidates=found.sampled)
    if space is not None:
        found = found.moved(space.back)
    chosen = int(np.nanargmax(seen.mean)) if len(seen.mean) > 1 else 0
    if found.distance is None:
        distance = _distances(vectors, found.labels[chosen], found.centroids[chosen])
    else:
        distance = found.distance[chosen]
    result = _clustered(known, usable, found, seen, chosen=chosen, distance=distance)
    return stamp(result, "clusters", parameters, fingerprints=fingerprints)


def cluster_stations(
    fingerprints: xr.Dataset | dict[str, xr.Dataset] | Sequence[xr.Dataset],
    **parameters: Any,  # noqa: ANN401 - those of cluster_fingerprints
) -> dict[str, xr.Dataset]:
    """Cluster the fingerprints of each station by itself, several stations at a time.

    Parameters
    ----------
    fingerprints
        Those of a model of all stations, which are parted by station_id, or the Datasets of models
        of one station each.
    **parameters
        Those of `cluster_fingerprints`; `checkpoint` is looked for in the group of the station_id.

    Returns
    -------
    dict of str to xarray.Dataset
        Stage ``clusters`` of each station_id, in the order of their first records. Save each with
        ``save(clusters, store, group=station_id)``.

    Raises
    ------
    ValueError
        As `cluster_fingerprints` does, and if two of several Datasets hold records of one station.

    Examples
    --------
    >>> import numpy as np, specufex_dask as sx
    >>> levels = np.random.default_rng(0).gamma(1.0, 5.0, (40, 12, 20))
    >>> spectrograms = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    >>> names = np.array(["X.A..Z", "X.B..Z"] * 20, dtype=object)
    >>> spectrograms = spectrograms.assign_coords(station_id=("record", names))
    >>> nmf = sx.fit_nmf(spectrograms, n_patterns=5, max_steps=20, seed=0)
    >>> hmm = sx.fit_hmm(sx.compute_activations(spectrograms, nmf), nmf, n_states=3, max_steps=20, seed=0)
    >>> fingerprints = sx.compute_fingerprints(spectrograms, nmf, hmm)
    >>> {name: c.sizes["record"] for name, c in sx.cluster_stations(fingerprints, n_clusters=3, seed=0).items()}
    {'X.A..Z': 20, 'X.B..Z': 20}
    """
    stations = _by_station(fingerprints)
    if parameters.get("group") is not None:
        msg = f"got group={parameters['group']!r}, expected none: the group of a station is its station_id."
        raise ValueError(msg)
    calls = [(partial(cluster_fingerprints, part, **parameters | {"group": s}),) for s, part in stations.items()]
    return dict(zip(stations, run_tasks(calls), strict=True))


def _by_station(fingerprints: xr.Dataset | dict[str, xr.Dataset] | Sequence[xr.Dataset]) -> dict[str, xr.Dataset]:
    """The records of each station_id."""
    parts: Iterable[xr.Dataset]
    if isinstance(fingerprints, xr.Dataset):
        parts = [fingerprints]
    else:
        parts = fingerprints.values() if isinstance(fingerprints, dict) else fingerprints
    stations: dict[str, xr.Dataset] = {}
    for part in parts:
        schema.require(part, "fingerprints")
        names = part["station_id"].values.astype(object)
        for name in dict.fromkeys(names):
            if name in stations:
                msg = (
                    f"got two Datasets with records of station_id {name!r}, expected those of a station in one: pass "
                    f"the fingerprints of one model of it."
                )
                raise ValueError(msg)
            own = np.flatnonzero(names == name)
            stations[str(name)] = part if len(own) == len(names) else part.isel(record=own)
    return stations


def _check(tried: list[int], n_usable: int) -> None:
    if not tried or min(tried) < 1 or len(set(tried)) < len(tried):
        msg = f"got n_clusters={tried}, expected a whole number from 1, or different ones to choose from: correct it."
        raise ValueError(msg)
    if max(tried) > n_usable:
        msg = (
            f"got {n_usable} usable fingerprints, expected at least the {max(tried)} of n_clusters: try fewer clusters."
        )
        raise ValueError(msg)


def _clustered(
    known: xr.Dataset, usable: Array, found: Partitions, seen: Silhouettes, *, chosen: int, distance: Array
) -> xr.Dataset:
    """The stage, of the records of which quality and coordinates are `known`."""
    n_records, labels, centroid = known.sizes["record"], found.labels[chosen], found.centroids[chosen]
    n_states = math.isqrt(centroid.shape[1])

    def placed(values: Array, absent: float) -> Array:
        whole = np.full((*values.shape[:-1], n_records), absent, dtype=values.dtype)
        whole[..., usable] = values
        return whole

    tree = {} if found.tree is None else {
        "linkage": (("merge", "link"), found.tree.tree),
        "leaf": ("record", placed(found.tree.leaf.astype("int32"), -1)),
    }  # fmt: skip
    return xr.Dataset(
        {
            "cluster": ("record", placed(labels, -1)),
            "distance": ("record", placed(distance, np.nan)),
            "silhouette": ("record", placed(seen.record[chosen], np.nan)),
            "centroid": (("cluster_id", "state", "next_state"), centroid.reshape(-1, n_states, n_states)),
            "cluster_silhouette": ("cluster_id", silhouettes.by_cluster(seen.record[chosen], labels, len(centroid))),
            "labels": (("n_clusters", "record"), placed(found.labels, -1)),
            "mean_silhouette": ("n_clusters", seen.mean),
            "silhouette_error": ("n_clusters", seen.error),
            "quality": known["quality"],
        }
        | tree,
        coords={"n_clusters": [len(each) for each in found.centroids]} | schema.record_coordinates(known),
        attrs={name: known.attrs[name] for name in ("nmf", "hmm") if name in known.attrs},
    )


def _distances(vectors: Vectors, labels: Array, centroids: Array) -> Array:
    """Euclidean distance of each vector to the centroid of its cluster (record,), NaN without a cluster."""
    return np.concatenate([apart for _, apart in vectors.map(_distance, labels, shared=centroids)])


def _distance(block: Array, labels: Array, centroids: Array) -> Array:
    apart: Array = np.linalg.norm(block - centroids[labels], axis=1)
    return np.where(labels < 0, np.nan, apart)
