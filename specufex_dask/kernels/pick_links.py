"""The picks that the events of a pair share, from lists of picks sorted by event and by station and phase."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, np.dtype[Any]]


@njit(cache=True, nogil=True)
def shared(first: Array, second: Array, slack: Array, starts: Array, code: Array, time: Array) -> Array:
    """How many picks the events of each pair share (pair,).

    `first` and `second` (pair,) are events, the picks of one from `starts`[event] on; `code` (pick,)
    is 2 station + phase, ascending in an event, `time` [s after the origin], and `slack` (pair,
    phase) [s] how far apart two times may be.
    """
    count = np.zeros(first.size, np.int64)
    for pair in range(first.size):
        i, j = starts[first[pair]], starts[second[pair]]
        while i < starts[first[pair] + 1] and j < starts[second[pair] + 1]:
            if code[i] == code[j] and abs(time[i] - time[j]) <= slack[pair, code[i] % 2]:
                count[pair] += 1
            i, j = i + (code[i] <= code[j]), j + (code[j] <= code[i])
    return count


@njit(cache=True, nogil=True)
def links(
    first: Array, second: Array, slack: Array, starts: Array, code: Array, time: Array, total: int
) -> tuple[Array, Array, Array]:
    """The picks that `shared` has counted, `total` of them: pair, and the positions of both picks (link,) each."""
    pairs, one, two = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total, np.int64)
    n = 0
    for pair in range(first.size):
        i, j = starts[first[pair]], starts[second[pair]]
        while i < starts[first[pair] + 1] and j < starts[second[pair] + 1]:
            if code[i] == code[j] and abs(time[i] - time[j]) <= slack[pair, code[i] % 2]:
                pairs[n], one[n], two[n] = pair, i, j
                n += 1
            i, j = i + (code[i] <= code[j]), j + (code[j] <= code[i])
    return pairs, one, two
