"""From the clusters of records to those of events: a vote over stations, or families of linked events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from specufex_dask import schema
from specufex_dask.kernels.groups import numbered
from specufex_dask.kernels.linking import linked
from specufex_dask.plurals import counted
from specufex_dask.recipe import stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, np.dtype[Any]]

_MOST_ROUNDS = 100


def merge_stations(
    clusters: xr.Dataset | dict[str, xr.Dataset] | Sequence[xr.Dataset],
    catalog: xr.Dataset,
    *,
    min_stations: int = 3,
    n_families: int | None = None,
) -> xr.Dataset:
    r"""Merge the clusters of each event's records, one a station, into one cluster of the event.

    **One shared model**, one Dataset: each usable record votes for its cluster, and the cluster with
    the most votes is the event's. Of equal votes the one counts whose records lie nearer to the
    centroid in the mean, then the one of the lower number. Numbers are those of `clusters`.

    **A model for each station**, several Datasets: their numbers have nothing in common, but that
    two events share a cluster does. Events that share it at `min_stations` stations or more are
    linked, and the connected components of the links are families. Links chain: where few large
    clusters meet, as in ``n_clusters=3``, give `n_families` instead. The events are then divided
    into so many families of the most alike labels (k-modes, Huang 1998): an event belongs where
    the largest share of its stations has the cluster most frequent in the family. Families are
    numbered by size, the largest 0, equal sizes by their first event.

    A station without a usable record of an event says nothing about it, for or against.

    Parameters
    ----------
    clusters
        What `cluster_fingerprints` returns, or what `cluster_stations` does: stage ``clusters`` of
        each station, of which each event has one record at most.
    catalog
        The events, in whose order the result is.
    min_stations
        Stations at which two events share a cluster to be linked. If labels were random, two
        events would share those of m of S stations of K clusters with a probability of
        C(S, m) / K^m: choose m such that this times the number of pairs is small.
    n_families
        Number of families to divide the events into; None: connected components.

    Returns
    -------
    xarray.Dataset
        Stage ``events``: cluster (event,), -1 for an event without usable record or linked to no
        other; n_stations (event,) with a usable record; agreement (event,), the share of those with
        the event's cluster, or with the cluster that is the most frequent in its family there (of
        equally frequent ones the lower number), NaN for an event of no cluster.

    Raises
    ------
    ValueError
        If records belong to events outside the catalogue, an event has two records in the Dataset
        of one station, or `min_stations` or `n_families` is out of its range.

    Examples
    --------
    >>> import pathlib, tempfile, numpy as np, specufex_dask as sx
    >>> levels = np.random.default_rng(0).gamma(1.0, 5.0, (40, 12, 20))
    >>> spectrograms = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    >>> ids = {"event_id": [str(i // 2) for i in range(40)], "station_id": ["X.A..Z", "X.B..Z"] * 20}
    >>> ids = {name: ("record", np.array(each, dtype=object)) for name, each in ids.items()}
    >>> spectrograms = spectrograms.assign_coords(ids)
    >>> nmf = sx.fit_nmf(spectrograms, n_patterns=5, max_steps=20, seed=0)
    >>> hmm = sx.fit_hmm(sx.compute_activations(spectrograms, nmf), nmf, n_states=3, max_steps=20, seed=0)
    >>> fingerprints = sx.compute_fingerprints(spectrograms, nmf, hmm)
    >>> head = "event_id,origin_time,latitude,longitude,depth_km,magnitude\n"
    >>> rows = [f"{i},2020-01-01T00:00:{i:02},46.0,7.0,1.0,1.0\n" for i in range(20)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "events.csv").write_text(head + "".join(rows))
    ...     catalog = sx.read_catalog(folder + "/events.csv")
    >>> events = sx.merge_stations(sx.cluster_fingerprints(fingerprints, n_clusters=2, seed=0), catalog)
    >>> stations = sx.cluster_stations(fingerprints, n_clusters=2, seed=0)
    >>> families = sx.merge_stations(stations, catalog, min_stations=2)
    >>> set(events.n_stations.values.tolist()), events.sizes == families.sizes
    ({2}, True)
    """
    schema.require(catalog, "catalog")
    parameters = {"min_stations": min_stations, "n_families": n_families}
    if isinstance(clusters, xr.Dataset):
        merged = _vote(clusters, catalog)
        return stamp(merged, "events", {"rule": "vote"}, clusters=clusters, catalog=catalog)
    stations = list(clusters.values()) if isinstance(clusters, dict) else list(clusters)
    _check(stations, catalog, min_stations, n_families)
    labels, recorded = (np.stack(each, axis=1) for each in zip(*(_labels(s, catalog) for s in stations), strict=True))
    if n_families is None:
        family = numbered(linked(labels, min_stations), at_least=2)
    else:
        family = numbered(_alike(labels, n_families), at_least=1)
    merged = _dataset(catalog, family, recorded.sum(axis=1), _matching(labels, family))
    inputs = {f"clusters_{number}": station for number, station in enumerate(stations)}
    return stamp(merged, "events", parameters, **inputs, catalog=catalog)


def _check(stations: list[xr.Dataset], catalog: xr.Dataset, min_stations: int, n_families: int | None) -> None:
    if not stations:
        msg = "got no Dataset, expected the stage clusters of one station or more: pass what cluster_stations returns."
        raise ValueError(msg)
    if not 1 <= min_stations <= len(stations) and n_families is None:
        msg = (
            f"got min_stations={min_stations} with the clusters of {counted(len(stations), 'station')}, expected a "
            f"number from 1 to {len(stations)}: correct it, or give n_families."
        )
        raise ValueError(msg)
    if n_families is not None and not 1 <= n_families <= catalog.sizes["event"]:
        msg = (
            f"got n_families={n_families}, expected a number from 1 to the {catalog.sizes['event']} events: correct it."
        )
        raise ValueError(msg)


def _places(clusters: xr.Dataset, catalog: xr.Dataset) -> tuple[Array, Array]:
    """The usable records of `clusters`, and where in `catalog` the event of each is."""
    schema.require(clusters, "clusters")
    events = pd.Index(catalog["event_id"].values.astype(object))
    if not events.is_unique:
        twice = events[events.duplicated()][0]
        msg = f"got a catalogue with the event {twice!r} twice, expected each event once: remove one."
        raise ValueError(msg)
    usable = np.flatnonzero(clusters["quality"].values == 0)
    ids = clusters["event_id"].values[usable].astype(object)
    place = events.get_indexer(ids)
    if (place < 0).any():
        unknown = pd.unique(ids[place < 0])
        msg = (
            f"got records of {len(unknown)} events that the catalogue does not hold, such as {unknown[0]!r}, expected "
            f"all of them there: pass the catalogue that the records were cut with."
        )
        raise ValueError(msg)
    return usable, place


def _vote(clusters: xr.Dataset, catalog: xr.Dataset) -> xr.Dataset:
    usable, place = _places(clusters, catalog)
    label, distance = clusters["cluster"].values[usable], clusters["distance"].values[usable]
    n_events = catalog.sizes["event"]
    recorded = np.bincount(place, minlength=n_events)
    cluster, votes = _winners(place, label, n_events, distance)
    return _dataset(catalog, cluster, recorded, votes)


def _winners(group: Array, label: Array, n_groups: int, distance: Array | None = None) -> tuple[Array, Array]:
    """The most frequent label of each group and its number there; -1 and 0 where no label is from 0 up.

    Equal numbers go to the smaller mean `distance` (member,), then to the lower label.
    """
    known = label >= 0
    n_labels = int(label.max(initial=0)) + 1
    key, member, votes = np.unique(
        group[known].astype(np.int64) * n_labels + label[known], return_inverse=True, return_counts=True
    )
    far = np.zeros(len(key)) if distance is None else np.bincount(member, distance[known], len(key)) / votes
    owner, choice = np.divmod(key, n_labels)
    order = np.lexsort((choice, far, -votes, owner))
    first = order[np.unique(owner[order], return_index=True)[1]]
    winner, number = np.full(n_groups, -1), np.zeros(n_groups, dtype=np.int64)
    winner[owner[first]], number[owner[first]] = choice[first], votes[first]
    return winner, number


def _labels(clusters: xr.Dataset, catalog: xr.Dataset) -> tuple[Array, Array]:
    """The cluster of each event of `catalog` at one station, -1 without one, and whether it has a usable record."""
    usable, place = _places(clusters, catalog)
    recorded = np.bincount(place, minlength=catalog.sizes["event"])
    if recorded.max(initial=0) > 1:
        twice = catalog["event_id"].values[recorded.argmax()]
        msg = (
            f"got {recorded.max()} records of the event {twice!r} in the clusters of one station, expected one: pass "
            f"the clusters of each station_id as a Dataset of its own, or of a shared model as the only one."
        )
        raise ValueError(msg)
    labels = np.full(len(recorded), -1, dtype=np.int32)
    labels[place] = clusters["cluster"].values[usable]
    return labels, recorded > 0


def _alike(labels: Array, n_families: int) -> Array:
    """k-modes of `labels` (event, station): the number of each event's family, -1 where it has no label."""
    distinct, member, weight = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    known = np.maximum((distinct >= 0).sum(axis=1), 1)
    modes = _start(distinct, weight, known, n_families)
    family = np.full(len(distinct), -1)
    for _ in range(_MOST_ROUNDS):
        before, family = family, _share(distinct, modes, known).argmax(axis=1)
        if (family == before).all():
            break
        found = _modes(np.repeat(distinct, weight, axis=0), np.repeat(family, weight), len(modes))
        modes = np.where(found < 0, modes, found)
    family[(distinct < 0).all(axis=1)] = -1
    whole: Array = family[member.ravel()]
    return whole


def _start(distinct: Array, weight: Array, known: Array, n_families: int) -> Array:
    """The most frequent labels, then always those that are frequent and unlike the ones taken already."""
    unlike = (distinct >= 0).mean(axis=1)  # of alike ones those seen by more stations
    chosen: list[int] = []
    while len(chosen) < n_families and (unlike > 0).any():
        chosen.append(int((weight * unlike).argmax()))
        unlike = np.minimum(unlike, 1 - _share(distinct, distinct[chosen[-1:]], known)[:, 0])
    return distinct[chosen]


def _share(labels: Array, modes: Array, known: Array) -> Array:
    """Share (event, family) of an event's stations with the cluster that the family has there."""
    same = np.zeros((len(labels), len(modes)))
    for column, mode in zip(labels.T, modes.T, strict=True):
        same += (column[:, None] == mode) & (column[:, None] >= 0)
    share: Array = same / known[:, None]
    return share


def _modes(labels: Array, family: Array, n_families: int) -> Array:
    """The most frequent cluster of each family at each station (family, station), -1 without one."""
    inside = family >= 0
    return np.stack([_winners(family[inside], column[inside], n_families)[0] for column in labels.T], axis=1)


def _matching(labels: Array, family: Array) -> Array:
    """Stations (event,) with the cluster that is the most frequent in the event's family there."""
    modes = _modes(labels, family, int(family.max(initial=-1)) + 1)
    inside = family >= 0
    number = np.zeros(len(family), dtype=np.int64)
    number[inside] = ((labels[inside] == modes[family[inside]]) & (labels[inside] >= 0)).sum(axis=1)
    return number


def _dataset(catalog: xr.Dataset, cluster: Array, n_stations: Array, matching: Array) -> xr.Dataset:
    agreement = np.where(n_stations > 0, matching / np.maximum(n_stations, 1), np.nan)
    agreement[cluster < 0] = np.nan
    return xr.Dataset(
        {
            "cluster": ("event", cluster.astype("int32")),
            "n_stations": ("event", n_stations.astype("int32")),
            "agreement": ("event", agreement.astype("float32")),
        },
        coords={"event_id": ("event", catalog["event_id"].values)},
    )
