"""Search for pairs block by block: partners in a cluster from a list, neighbours from a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scipy.spatial import cKDTree

Array = np.ndarray[Any, np.dtype[Any]]

_CANDIDATES = 2_000_000
"""Pairs looked at together, which bounds the memory of a block."""


@dataclass(frozen=True)
class Sharing:
    """Who shares a cluster at one station: `order` lists the members cluster by cluster.

    The partners of an event that come after it are ``order[start:stop]`` with its own `start` and
    `stop` (event,).
    """

    station_id: str
    labels: Array
    order: Array
    start: Array
    stop: Array

    @classmethod
    def of(cls, labels: Array, station_id: str) -> Sharing:
        """Who shares a cluster by `labels` (event,), negative for none."""
        members = np.flatnonzero(labels >= 0)
        order = members[np.argsort(labels[members], kind="stable")]
        ends = np.searchsorted(labels[order], labels[order], side="right")
        start, stop = np.zeros((2, len(labels)), dtype=np.int64)
        start[order], stop[order] = np.arange(1, len(order) + 1), ends
        return cls(station_id, labels, order, start, stop)

    @property
    def counts(self) -> Array:
        """Partners of each event that come after it (event,)."""
        return self.stop - self.start

    def keys(self, first: int, last: int) -> Array:
        """The pairs (pair,) of the events `first` to `last`, as ``position_1 * n_events + position_2``."""
        counts = self.counts[first:last]
        within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        later = self.order[np.repeat(self.start[first:last], counts) + within]
        return np.asarray(np.repeat(np.arange(first, last), counts) * len(self.labels) + later)


@dataclass(frozen=True)
class Near:
    """Who lies within `radius` [km] of whom; `placed` are the events whose place is known."""

    radius: float
    placed: Array
    tree: cKDTree
    counts: Array

    @classmethod
    def of(cls, points: Array, radius: float) -> Near:
        """Who lies within `radius` of whom among `points` (event, 3) [km]."""
        from scipy.spatial import cKDTree

        placed = np.flatnonzero(np.isfinite(points).all(axis=1))
        tree = cKDTree(points[placed])
        counts = np.zeros(len(points), dtype=np.int64)
        counts[placed] = tree.query_ball_point(tree.data, radius, return_length=True)
        return cls(radius, placed, tree, counts)

    def keys(self, first: int, last: int) -> tuple[Array, Array]:
        """The pairs (pair,) of the events `first` to `last` with a later one, and how far apart they are [km]."""
        low, high = np.searchsorted(self.placed, [first, last])
        rows = type(self.tree)(self.tree.data[low:high])
        found = rows.sparse_distance_matrix(self.tree, self.radius, output_type="ndarray")
        one, two = self.placed[low + found["i"]], self.placed[found["j"]]
        later = two > one
        return one[later] * len(self.counts) + two[later], found["v"][later]


@dataclass(frozen=True)
class Search:
    """What makes a pair: a shared cluster up to `max_distance` apart, or `reach` alone [km]."""

    n_events: int
    sharing: list[Sharing]
    reach: float | None
    max_distance: float | None
    points: Array

    def blocks(self) -> Iterator[Array]:
        """The positions (pair, 2) of each block of first events, in order."""
        radius = max(self.reach or 0.0, self.max_distance or 0.0)
        near = Near.of(self.points, radius) if radius else None
        listed = self.sharing if self.max_distance is None else []
        total = np.cumsum(sum([each.counts for each in listed], near.counts if near else np.zeros(self.n_events, int)))
        first = 0
        while first < self.n_events:
            done = total[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(total, done + _CANDIDATES, side="right")))
            keys = [each.keys(first, last) for each in listed]
            if near:
                keys.append(self._kept(*near.keys(first, last)))
            found = np.sort(np.concatenate(keys))
            different = np.append(True, found[1:] != found[:-1])[: len(found)]  # ten times as fast as np.unique
            yield np.stack(np.divmod(found[different], self.n_events), axis=1)
            first = last

    def _kept(self, keys: Array, distance: Array) -> Array:
        """Those of the pairs `keys` that are near enough for what they share."""
        kept = distance <= (-1 if self.reach is None else self.reach)
        if self.max_distance is not None:
            one, two = np.divmod(keys, self.n_events)
            shared = np.zeros(len(keys), dtype=bool)
            for each in self.sharing:
                shared |= (each.labels[one] == each.labels[two]) & (each.labels[one] >= 0)
            kept |= shared & (distance <= self.max_distance)
        return np.asarray(keys[kept])
