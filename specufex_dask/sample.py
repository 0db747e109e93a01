"""The records that a fit draws its minibatches from, in memory, and the ones held out from it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import compute

from specufex_dask.blocks import record_chunked

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
    from numpy.typing import DTypeLike

Array = np.ndarray[Any, np.dtype[Any]]

_LEAST_CHUNKS = 16
_MOST_HELD_OUT = 128
_CHUNKS_AT_ONCE = 16


@dataclass(frozen=True)
class Sample:
    """Records (record, …) to fit and held-out ones; `n_usable` is the number of records that could be fitted."""

    records: Array
    held_out: Array
    n_usable: int


def draw(
    dataset: xr.Dataset, name: str, *, held_out: float, memory_limit: float, seed: int, dtype: DTypeLike
) -> Sample:
    """Draw a sample of the usable records of ``dataset[name]`` (record, …) that fits in `memory_limit` bytes.

    All usable records where they fit; else as many, from whole chunks chosen by `seed`, at
    least 16 of them, since neighbours in an archive are often one sequence at one station. The
    share `held_out` of the events, chosen by a hash of event_id so that all stations of an
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
    fitted = np.flatnonzero(usable & ~hidden)
    array = record_chunked(dataset[name])
    limit = max(1, int(memory_limit // (np.prod(array.shape[1:]) * np.dtype(dtype).itemsize)))
    return Sample(
        read(array, _within(fitted, array.chunks[0], limit, seed), dtype),
        read(array, _spread(np.flatnonzero(hidden), _MOST_HELD_OUT), dtype),
        len(fitted),
    )


def event_hash(event_id: Array) -> Array:
    """A number in [0, 1) for each of `event_id` (record,), the same on every machine and in every run."""
    return np.array([zlib.crc32(str(name).encode()) / 2**32 for name in event_id])


def read(array: da.Array, chosen: Array, dtype: DTypeLike) -> Array:
    """The `chosen` records (sorted) of `array` (record, …), read chunk by chunk into one array."""
    result = np.empty((len(chosen), *array.shape[1:]), dtype)
    edges = np.concatenate([[0], np.cumsum(array.chunks[0])])
    chunk = np.searchsorted(edges, chosen, side="right") - 1
    needed = np.unique(chunk)
    sources = [array.blocks[i][chosen[chunk == i] - edges[i]] for i in needed]
    bounds = np.searchsorted(chunk, [needed, needed + 1]).T
    # Workers of a cluster cannot write into this array: the chunks travel, a few at a time.
    for start in range(0, len(needed), _CHUNKS_AT_ONCE):
        together = slice(start, start + _CHUNKS_AT_ONCE)
        for (first, last), block in zip(bounds[together], compute(*sources[together]), strict=True):
            result[first:last] = block
    return result


def _within(fitted: Array, chunks: tuple[int, ...], limit: int, seed: int) -> Array:
    """At most `limit` of the records `fitted`, from whole chunks drawn by `seed`."""
    if len(fitted) <= limit:
        return fitted
    rng = np.random.default_rng([seed, 0])
    chunk = np.searchsorted(np.cumsum(chunks), fitted, side="right")
    present = np.unique(chunk)
    n_chunks = min(len(present), max(_LEAST_CHUNKS, limit * len(present) // len(fitted)))
    kept = fitted[np.isin(chunk, rng.choice(present, n_chunks, replace=False))]
    return np.sort(rng.choice(kept, min(limit, len(kept)), replace=False))


def _spread(chosen: Array, most: int) -> Array:
    """At most `most` of `chosen`, evenly spaced."""
    if len(chosen) <= most:
        return chosen
    spread: Array = chosen[np.linspace(0, len(chosen) - 1, most).round().astype(int)]
    return spread
