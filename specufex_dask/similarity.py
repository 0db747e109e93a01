"""Clusters and the correlations of their events: split, expanded by neighbours, and made one where they are one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from specufex_dask.kernels.groups import medians, numbered
from specufex_dask.pairs import places
from specufex_dask.patches import Patches

if TYPE_CHECKING:
    import xarray as xr

    from specufex_dask.patches import Criteria, Sources

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Similarity:
    """What is known of pairs of events: positions `first` and `second`, and the median `correlation` (pair,)."""

    first: Array
    second: Array
    correlation: Array

    def between(self, label: Array) -> Array:
        """The pairs that share a cluster of `label` (event,)."""
        shared: Array = np.flatnonzero((label[self.first] >= 0) & (label[self.first] == label[self.second]))
        return shared

    def with_others(self, label: Array) -> Array:
        """The median correlation of each event with the others of its cluster `label` (event,), NaN if unknown."""
        shared = self.between(label)
        ends = np.concatenate([self.first[shared], self.second[shared]])
        return medians(np.tile(self.correlation[shared], 2), ends, len(label))


@dataclass(frozen=True)
class Measured:
    """Usable correlations, one a row: positions of the two events, code of the station, and the coefficient."""

    first: Array
    second: Array
    station: Array
    correlation: Array
    station_id: Array
    n_events: int

    @classmethod
    def of(cls, correlations: xr.Dataset, event_id: Array) -> Measured:
        """The correlations between the events `event_id` (event,); those of other events are left out."""
        one, two = (places(correlations[f"event_id_{i}"].values, event_id) for i in (1, 2))
        usable = (correlations["quality"].values == 0) & (one >= 0) & (two >= 0)
        station, names = pd.factorize(correlations["station_id"].values.astype(object)[usable])
        low, high = np.minimum(one, two)[usable], np.maximum(one, two)[usable]
        return cls(low, high, station, correlations["correlation"].values[usable], names, len(event_id))

    def at(self, station_id: str | None) -> Measured | None:
        """Those of one station, None if there are none; or all of them."""
        if station_id is None:
            return self
        rows = self.station_id[self.station] == station_id
        if not rows.any():
            return None
        first, second, station = self.first[rows], self.second[rows], self.station[rows]
        return Measured(first, second, station, self.correlation[rows], self.station_id, self.n_events)

    @cached_property
    def pairs(self) -> Similarity:
        """The median over stations and phases of each pair."""
        keys, pair = np.unique(self.first * self.n_events + self.second, return_inverse=True)
        first, second = np.divmod(keys, self.n_events)
        return Similarity(first, second, medians(self.correlation, pair, len(keys)))

    def linked(self, least: float, n_stations: int) -> tuple[Array, Array]:
        """The pairs that correlate by `least` in the median of phases and stations, known at `n_stations` or more."""
        codes = np.stack([self.first * self.n_events + self.second, self.station])
        known = np.unique(np.unique(codes, axis=1)[0], return_counts=True)[1]
        alike = (self.pairs.correlation >= least) & (known >= n_stations)
        return self.pairs.first[alike], self.pairs.second[alike]


def split(label: Array, first: Array, second: Array) -> Array:
    """Divide each cluster of `label` (event,) into the parts that the pairs of `first` and `second` (pair,) connect.

    An event that no pair connects to another one of its cluster gets -1.
    """
    shared = (label[first] >= 0) & (label[first] == label[second])
    return np.where(label >= 0, numbered(_connected(first[shared], second[shared], len(label)), at_least=2), -1)


def expanded(label: Array, sources: Sources, similarity: Similarity, criteria: Criteria, *, above: float) -> Array:
    """Add to each cluster of `label` (event,) the events without one that are near, of its size and like it.

    An event is like a cluster when the median of its correlations with the events there exceeds
    the median of those among themselves, or `above`; of several clusters it goes to the one with
    the largest median.
    """
    n_clusters = int(label.max(initial=-1)) + 1
    shared = similarity.between(label)
    own = medians(similarity.correlation[shared], label[similarity.first[shared]], n_clusters)
    one = np.flatnonzero((label[similarity.first] >= 0) != (label[similarity.second] >= 0))
    ends = np.stack([similarity.first[one], similarity.second[one]])
    ends = np.where(label[ends[0]] >= 0, ends, ends[::-1])
    keys, place = np.unique(ends[1] * n_clusters + label[ends[0]], return_inverse=True)
    median = medians(similarity.correlation[one], place, len(keys))
    event, cluster = np.divmod(keys, max(n_clusters, 1))
    patches = _patches(label, sources, criteria)
    fits = patches.fit(event, cluster, sources, criteria).all(axis=0) & (median > np.fmin(own[cluster], above))
    order = np.flatnonzero(fits)[np.lexsort((cluster[fits], -median[fits], event[fits]))]
    best = order[np.unique(event[order], return_index=True)[1]]
    grown = label.copy()
    grown[event[best]] = cluster[best]
    return grown


def converged(label: Array, sources: Sources, similarity: Similarity, criteria: Criteria, *, least: float) -> Array:
    """Make one of the clusters of `label` (event,) that coincide and whose templates correlate by `least`.

    The template of a cluster is its largest event, of equally large ones the last.
    """
    member = np.flatnonzero(label >= 0)
    order = member[np.lexsort((member, sources.magnitude[member], label[member]))]
    last = np.append(label[order][1:] != label[order][:-1], True)[: len(order)]
    is_template = np.zeros(len(label), dtype=bool)
    is_template[order[last]] = True
    pair = is_template[similarity.first] & is_template[similarity.second] & (similarity.correlation >= least)
    one, other = label[similarity.first[pair]], label[similarity.second[pair]]
    patches = _patches(label, sources, criteria)
    same = patches.coincide(one, other, sources, criteria)
    joined = _connected(one[same], other[same], len(patches.radius))
    return np.where(label >= 0, np.append(joined, -1)[label], -1)


def _patches(label: Array, sources: Sources, criteria: Criteria) -> Patches:
    member = np.flatnonzero((label >= 0) & sources.known)
    return Patches.of((member, label[member]), int(label.max(initial=-1)) + 1, sources, criteria)


def _connected(first: Array, second: Array, n_nodes: int) -> Array:
    """The connected component of each node (node,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not n_nodes:
        return np.empty(0, dtype=np.int64)
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(n_nodes, n_nodes))
    component: Array = connected_components(graph, directed=False)[1]
    return component
