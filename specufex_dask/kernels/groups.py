"""Figures of many groups at once, without a loop over them: sorted once, whatever their number."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def medians(values: Array, group: Array, n_groups: int) -> Array:
    """The median of the `values` (member,) of each group (group,), NaN of an empty one; values must be numbers."""
    order = np.lexsort((values, group))
    size = np.bincount(group, minlength=n_groups)
    filled = np.flatnonzero(size)
    start = (np.cumsum(size) - size)[filled]
    sorted_values = values[order]
    found = np.full(n_groups, np.nan)
    found[filled] = (sorted_values[start + (size[filled] - 1) // 2] + sorted_values[start + size[filled] // 2]) / 2
    return found


def means(values: Array, group: Array, n_groups: int) -> Array:
    """The mean of the `values` (member,) of each group (group,), NaN of an empty one."""
    size = np.bincount(group, minlength=n_groups)
    return np.asarray(np.bincount(group, values, n_groups) / np.where(size > 0, size, np.nan))


def firsts(group: Array, n_groups: int) -> Array:
    """The position of the first member of each group (group,); the number of members for an empty one."""
    found = np.full(n_groups, len(group))
    np.minimum.at(found, group, np.arange(len(group)))
    return found


def numbered(label: Array, *, at_least: int) -> Array:
    """Number the groups of equal `label` (event,) by size, the largest 0, equal sizes by their first event.

    An event of a label below 0, or of a group of less than `at_least` events, gets -1.
    """
    names, first, member, size = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -size, names < 0))
    number = np.full(len(names), -1)
    kept = order[(size[order] >= at_least) & (names[order] >= 0)]
    number[kept] = np.arange(len(kept))
    return np.asarray(number[member])
