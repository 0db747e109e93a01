"""The records that a fit may use, the ones held out from it, and how they are read."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import compute
from dask.delayed import Delayed, delayed

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
    from numpy.typing import DTypeLike

Array = np.ndarray[Any, np.dtype[Any]]

LEAST_CHUNKS = 16
"""A sample, or a minibatch, comes from so many chunks: neighbours are often one sequence at one station."""

_MOST_HELD_OUT = 128
_CHUNKS_AT_ONCE = 16


@dataclass(frozen=True)
class Records:
    """Lazy records (record, …) and the sorted numbers of those to fit and of those held out."""

    array: da.Array
    fitted: Array
    held_out: Array
    dtype: np.dtype[Any]

    @property
    def record_bytes(self) -> int:
        """Bytes of one record in memory."""
        return int(np.prod(self.array.shape[1:])) * self.dtype.itemsize

    def within(self, memory_limit: float) -> int:
        """Number of records that fit in `memory_limit` bytes, at least one."""
        return max(1, int(memory_limit // self.record_bytes))


def split(dataset: xr.Dataset, array: da.Array, *, held_out: float, dtype: DTypeLike) -> Records:
    """Tell the usable records of `array` (record, …), whose `dataset` has their quality and ids, from those held out.

    The share `held_out` of the events, chosen by a hash of event_id so that all stations of an
    event stay together, is never fitted; the score is taken on at most 128 records of them.
    """
    usable = dataset["quality"].values == 0
    if not usable.any():
        msg = (
            f"got {len(usable)} records of which none is usable, expected at least one: "
            f"look at quality for the reasons."
        )
        raise ValueError(msg)
    hidden = usable & (event_hash(dataset["event_id"].values) < held_out)
    if hidden.all() or (usable & ~hidden).sum() == 0:
        hidden = np.zeros_like(usable)
    shown = _spread(np.flatnonzero(hidden), _MOST_HELD_OUT)
    return Records(array, np.flatnonzero(usable & ~hidden), shown, np.dtype(dtype))


def event_hash(event_id: Array) -> Array:
    """A number in [0, 1) for each of `event_id` (record,), the same on every machine and in every run."""
    return np.array([zlib.crc32(str(name).encode()) for name in event_id]) / 2**32


def draw(records: Records, most: int, seed: int) -> Array:
    """At most `most` of the records to fit, from whole chunks drawn by `seed`, at least 16 of them."""
    fitted = records.fitted
    if len(fitted) <= most:
        return fitted
    rng = np.random.default_rng([seed, 0])
    chunk = np.searchsorted(np.cumsum(records.array.chunks[0]), fitted, side="right")
    present = np.unique(chunk)
    n_chunks = min(len(present), max(LEAST_CHUNKS, most * len(present) // len(fitted)))
    kept = fitted[np.isin(chunk, rng.choice(present, n_chunks, replace=False))]
    return np.sort(rng.choice(kept, min(most, len(kept)), replace=False))


def together(records: Records, chosen: Array) -> Delayed:
    """The `chosen` records (sorted) as one array, read by the workers and joined on one of them."""
    blocks = [block.astype(records.dtype).to_delayed().item() for block, _ in _sources(records.array, chosen)]
    joined: Delayed = delayed(_joined, pure=False)(blocks, (0, *records.array.shape[1:]), records.dtype)
    return joined


def _joined(blocks: list[Array], empty: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return np.concatenate(blocks) if blocks else np.empty(empty, dtype)


def read(array: da.Array, chosen: Array, dtype: DTypeLike) -> Array:
    """The `chosen` records (sorted) of `array` (record, …), read chunk by chunk into one array of this process."""
    result = np.empty((len(chosen), *array.shape[1:]), dtype)
    sources = _sources(array, chosen)
    # Workers of a cluster cannot write into this array: the chunks travel, a few at a time.
    for start in range(0, len(sources), _CHUNKS_AT_ONCE):
        blocks, places = zip(*sources[start : start + _CHUNKS_AT_ONCE], strict=True)
        for place, block in zip(places, compute(*blocks), strict=True):
            result[place] = block
    return result


def _sources(array: da.Array, chosen: Array) -> list[tuple[da.Array, slice]]:
    """Of each chunk that holds some of the `chosen` records (sorted), these, and their place among the chosen."""
    edges = np.concatenate([[0], np.cumsum(array.chunks[0])])
    chunk = np.searchsorted(edges, chosen, side="right") - 1
    needed = np.unique(chunk)
    bounds = np.searchsorted(chunk, [needed, needed + 1]).T
    return [
        (array.blocks[i][chosen[first:last] - edges[i]], slice(first, last))
        for i, (first, last) in zip(needed, bounds, strict=True)
    ]


def _spread(chosen: Array, most: int) -> Array:
    """At most `most` of `chosen`, evenly spaced."""
    if len(chosen) <= most:
        return chosen
    spread: Array = chosen[np.linspace(0, len(chosen) - 1, most).round().astype(int)]
    return spread
