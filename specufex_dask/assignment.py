"""New events in the clusters of an existing model."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from specufex_dask import schema
from specufex_dask.kmeans import nearest
from specufex_dask.recipe import stamp
from specufex_dask.vectors import of_fingerprints

Array = np.ndarray[Any, np.dtype[Any]]

UNLIKE = -2
"""The cluster of a record that is unlike anything seen."""

_MEMBERS = 1000
_ROUNDING = 1e-6


def assign(
    fingerprints: xr.Dataset, clusters: xr.Dataset, *, percentile: float = 99.9, memory_limit: float = 256e6
) -> xr.Dataset:
    """Give each record the cluster with the nearest centroid, or -2 where it is unlike anything seen.

    A record is unlike anything seen if it is farther from that centroid than the `percentile` of
    the members that the cluster was made of: of a hundred records of the same kind as these,
    100 - `percentile` are called so by mistake. A cluster of less than 1,000 members has too few
    for its own: there the percentile is that of the members of all clusters, of their distances in
    units of the median of their cluster. For k-means the nearest centroid is what the model itself
    would have chosen; other methods draw their borders elsewhere.

    Parameters
    ----------
    fingerprints
        Those of new records, computed with the NMF and the HMM of the old ones.
    clusters
        What `cluster_fingerprints` returned for the old ones.
    percentile
        Share of the members [%] that lie within the reach of a cluster.
    memory_limit
        Bytes of fingerprints to keep in memory; more are read block by block.

    Returns
    -------
    xarray.Dataset
        Stage ``clusters``: cluster (record,), -2 where a record is unlike anything seen and -1
        where it is not usable; distance (record,) to the nearest centroid, also of those. The
        centroids are those of `clusters`; silhouettes are NaN.

    Raises
    ------
    ValueError
        If the fingerprints are of other models than the clusters, or `percentile` is not of 0 to 100.

    Examples
    --------
    >>> import numpy as np, specufex_dask as sx
    >>> levels = np.random.default_rng(0).gamma(1.0, 5.0, (40, 12, 20))
    >>> spectrograms = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    >>> nmf = sx.fit_nmf(spectrograms, n_patterns=5, max_steps=20, seed=0)
    >>> hmm = sx.fit_hmm(sx.compute_activations(spectrograms, nmf), nmf, n_states=3, max_steps=20, seed=0)
    >>> fingerprints = sx.compute_fingerprints(spectrograms, nmf, hmm)
    >>> clusters = sx.cluster_fingerprints(fingerprints.isel(record=slice(30)), n_clusters=2, seed=0)
    >>> new = sx.assign(fingerprints.isel(record=slice(30, 40)), clusters)
    >>> set(new.cluster.values.tolist()) <= {-2, 0, 1}
    True
    """
    schema.require(fingerprints, "fingerprints")
    schema.require(clusters, "clusters")
    _require_same_models(fingerprints, clusters)
    if not 0 < percentile <= 100:  # noqa: PLR2004
        msg = f"got percentile={percentile}, expected a number above 0, to 100: correct it."
        raise ValueError(msg)
    known = fingerprints[["quality"]].compute()  # with the coordinates of the records, in one pass
    usable = np.flatnonzero(known["quality"].values == 0)
    vectors = of_fingerprints(fingerprints, usable, memory_limit)
    centres = clusters["centroid"].values.reshape(clusters.sizes["cluster_id"], -1)
    labels, distance = (each[0] for each in nearest(vectors, [centres]))
    labels = np.where(distance > _reach(clusters, percentile)[labels], UNLIKE, labels)
    found = _dataset(known, clusters, usable, labels, distance)
    return stamp(found, "clusters", {"percentile": percentile}, fingerprints=fingerprints, clusters=clusters)


def _require_same_models(fingerprints: xr.Dataset, clusters: xr.Dataset) -> None:
    for name in ("nmf", "hmm"):
        ours, theirs = fingerprints.attrs.get(name), clusters.attrs.get(name)
        if ours != theirs:
            msg = (
                f"got fingerprints of the {name} {ours!r} and clusters of the {name} {theirs!r}, expected one model: "
                f"compute the fingerprints with the models of the clusters."
            )
            raise ValueError(msg)


def _reach(clusters: xr.Dataset, percentile: float) -> Array:
    """The distance (cluster_id,) from each centroid beyond which a record is unlike its members."""
    label, distance = clusters["cluster"].values, clusters["distance"].values
    inside = label >= 0
    label, distance = label[inside], distance[inside].astype(np.float64)
    order = np.argsort(label, kind="stable")
    members = np.split(distance[order], np.cumsum(np.bincount(label, minlength=clusters.sizes["cluster_id"]))[:-1])
    median = np.array([np.median(each) if len(each) else 0.0 for each in members])
    is_wide = median > _ROUNDING * distance.max(initial=0)
    scattered = is_wide[label]
    # A lone member, or equal ones, tell nothing of how far others may lie: all clusters do.
    typical = np.where(is_wide, median, np.median(distance[scattered]) if scattered.any() else 0.0)
    ratio = np.percentile(distance[scattered] / median[label[scattered]], percentile) if scattered.any() else 0.0
    return np.array(
        [
            np.percentile(each, percentile) if len(each) >= _MEMBERS else ratio * usual
            for each, usual in zip(members, typical, strict=True)
        ]
    )


def _dataset(known: xr.Dataset, clusters: xr.Dataset, usable: Array, labels: Array, distance: Array) -> xr.Dataset:
    n_records = known.sizes["record"]
    cluster, apart = np.full(n_records, -1, dtype=np.int32), np.full(n_records, np.nan)
    cluster[usable], apart[usable] = labels, distance
    return xr.Dataset(
        {
            "cluster": ("record", cluster),
            "distance": ("record", apart),
            "silhouette": ("record", np.full(n_records, np.nan)),
            "centroid": clusters["centroid"].compute(),
            "labels": (("n_clusters", "record"), cluster[None]),
            "mean_silhouette": ("n_clusters", np.array([np.nan])),
            "quality": known["quality"],
        },
        coords={"n_clusters": [clusters.sizes["cluster_id"]]} | schema.record_coordinates(known),
        attrs={name: clusters.attrs[name] for name in ("nmf", "hmm") if name in clusters.attrs},
    )
