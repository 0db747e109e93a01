"""Events that share their cluster at several stations, joined without going through their pairs.

Two events agree at m stations just when they agree at all stations of some set of m. So for each
set the events are sorted into groups of equal labels, and the groups are joined in one forest:
C(stations, m) passes over the events, whatever the size of the clusters.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_jit = numba.njit(nogil=True, cache=True)


def linked(labels: Array, least: int) -> Array:
    """The first event (event,) of each event's connected component.

    Events are linked that have the same of `labels` (event, station) at `least` stations or more;
    a label below 0 is equal to none.
    """
    forest = np.arange(len(labels))
    columns = [np.ascontiguousarray(column, dtype=np.int64) for column in labels.T]
    _descend(forest, columns, np.arange(len(labels)), np.zeros(1, dtype=np.int64), least)
    return _roots(forest)


def _descend(forest: Array, columns: list[Array], events: Array, starts: Array, least: int) -> None:
    """Join the groups of `events`, of which each begins at one of `starts`, that agree at `least` of `columns`."""
    for number in range(len(columns) - least + 1):
        column = columns[number]
        if least == 1:
            _join(forest, column, events, starts, column.max(initial=0) + 1)
        else:
            kept, begun = _split(forest, column, events, starts)
            _descend(forest, columns[number + 1 :], kept, begun, least - 1)


def _split(forest: Array, column: Array, events: Array, starts: Array) -> tuple[Array, Array]:
    """Groups of those `events` of one group that have the same label in `column`, and where each begins.

    A group of one event, or one that is joined already, has nothing more to link and is left out.
    """
    group = np.zeros(len(events), dtype=np.int64)
    group[starts[1:]] = 1
    key = np.cumsum(group) * (column.max(initial=0) + 1) + column[events]
    seen = np.flatnonzero(column[events] >= 0)
    order = seen[np.argsort(key[seen], kind="stable")]
    return _unfinished(forest, events[order], key[order])


@_jit
def _root(forest: Array, event: int) -> int:
    while forest[event] != event:
        forest[event] = forest[forest[event]]
        event = forest[event]
    return event


@_jit
def _unite(forest: Array, one: int, other: int) -> None:
    one, other = _root(forest, one), _root(forest, other)
    if one < other:
        forest[other] = one
    else:
        forest[one] = other


@_jit
def _join(forest: Array, column: Array, events: Array, starts: Array, n_labels: int) -> None:
    """Join the `events` of each group that have the same label in `column`."""
    first, group_of = np.zeros(n_labels, dtype=np.int64), np.full(n_labels, -1, dtype=np.int64)
    group = -1
    for place in range(len(events)):
        if group + 1 < len(starts) and starts[group + 1] == place:
            group += 1
        label = column[events[place]]
        if label < 0:
            continue
        if group_of[label] == group:
            _unite(forest, first[label], events[place])
        else:
            group_of[label], first[label] = group, events[place]


@_jit
def _unfinished(forest: Array, events: Array, key: Array) -> tuple[Array, Array]:
    """The groups of equal `key` (event,), in order, whose `events` are not one component yet."""
    kept, starts = np.empty_like(events), np.empty_like(events)
    n_kept = n_starts = begin = 0
    for place in range(1, len(events) + 1):
        if place < len(events) and key[place] == key[begin]:
            continue
        root, apart = _root(forest, events[begin]), False
        for other in range(begin + 1, place):
            apart = apart or _root(forest, events[other]) != root
        if apart:
            starts[n_starts] = n_kept
            kept[n_kept : n_kept + place - begin] = events[begin:place]
            n_starts, n_kept = n_starts + 1, n_kept + place - begin
        begin = place
    return kept[:n_kept], starts[:n_starts]


@_jit
def _roots(forest: Array) -> Array:
    roots = np.empty_like(forest)
    for event in range(len(forest)):
        roots[event] = _root(forest, event)
    return roots
