"""Vectors of records, in memory or read block by block, as everything that clusters goes through them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed

from specufex_dask import sample
from specufex_dask.blocks import one_blas_thread, one_task_each, record_chunked, run_tasks
from specufex_dask.workers import client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import xarray as xr

Array = np.ndarray[Any, np.dtype[Any]]

_BLOCK_BYTES = 16e6
_AT_ONCE = 16
_SHARE_OF_CLUSTER = 0.3
_KEPT = 4


@dataclass(frozen=True)
class Vectors:
    """Vectors (record, entry) of usable records: an array in memory, or a lazy one of large blocks."""

    array: Any  # of NumPy or Dask

    def __len__(self) -> int:
        return int(self.array.shape[0])

    @property
    def in_memory(self) -> bool:
        """Whether the vectors are an array of this process."""
        return isinstance(self.array, np.ndarray)

    @cached_property
    def _slices(self) -> list[slice]:
        """The records of each block."""
        if self.in_memory:
            n_rows = max(1, int(_BLOCK_BYTES // (self.array.itemsize * self.array.shape[1])))
            edges = np.append(np.arange(0, len(self), n_rows), len(self))
        else:
            edges = np.concatenate([[0], np.cumsum(self.array.chunks[0])])
        return [slice(int(first), int(last)) for first, last in pairwise(edges)]

    def map(self, function: Callable[..., Any], *along: Array, shared: object = None) -> Iterator[tuple[slice, Any]]:
        """The records and the result of ``function(block, *parts, shared)`` for each block, in order.

        The parts are the entries of `along` (record, …) that belong to the block.
        """
        once = delayed(shared, traverse=False) if not self.in_memory and shared is not None else shared
        for start in range(0, len(self._slices), _AT_ONCE):
            places = range(start, min(start + _AT_ONCE, len(self._slices)))
            calls = []
            for i in places:
                rows = self._slices[i]
                block = self.array[rows] if self.in_memory else self.array.blocks[i].to_delayed().item()
                calls.append((_call, function, block, [each[rows] for each in along], once))
            if self.in_memory:
                results = run_tasks([tuple(call) for call in calls])
            else:
                results = compute(*(delayed(call, pure=False)(*arguments) for call, *arguments in calls))
            yield from zip([self._slices[i] for i in places], results, strict=True)

    def rows(self, chosen: Array) -> Array:
        """The vectors of the `chosen` records (sorted), in memory."""
        if self.in_memory:
            of_these: Array = self.array[chosen]
            return of_these
        return sample.read(self.array, chosen, self.array.dtype)


def _call(function: Callable[..., Any], block: Array, parts: list[Array], shared: object) -> Any:  # noqa: ANN401
    with one_blas_thread():
        return function(block, *parts, shared)


def of_fingerprints(fingerprints: xr.Dataset, usable: Array, memory_limit: float) -> Vectors:
    """The fingerprints of the `usable` records as vectors; of more bytes than `memory_limit` lazy ones."""
    n_entries = fingerprints.sizes["state"] * fingerprints.sizes["next_state"]
    lazy = record_chunked(fingerprints["fingerprint"]).reshape(-1, n_entries)
    n_bytes = len(usable) * n_entries * lazy.dtype.itemsize
    if n_bytes <= memory_limit:
        return Vectors(sample.read(lazy, usable, lazy.dtype))
    return Vectors(_large_blocks(lazy if len(usable) == len(lazy) else lazy[usable]))


def kept(vectors: Vectors, memory_limit: float) -> Vectors:
    """`vectors`, for several passes: blocks are kept if they take up to four times `memory_limit` bytes.

    With an active Client its workers keep them, if they take less than a third of its memory.
    Others are read anew at each pass.
    """
    if vectors.in_memory or vectors.array.nbytes > _room(memory_limit):
        return vectors
    return Vectors(vectors.array.persist())


def _large_blocks(lazy: da.Array) -> da.Array:
    """`lazy` (record, entry) in blocks of some megabytes, each read by one task: thousands of small ones are slow."""
    records = np.array(lazy.chunks[0])
    block = np.cumsum(records) * lazy.dtype.itemsize * lazy.shape[1] // _BLOCK_BYTES
    sizes = tuple(int(size) for size in np.bincount(np.unique(block, return_inverse=True)[1], records) if size)
    joined = lazy.rechunk((sizes, lazy.shape[1]))
    keys = [(joined.name, i, 0) for i in range(len(sizes))]
    graph = one_task_each(dict(joined.__dask_graph__()), keys)
    return da.Array(graph, joined.name, joined.chunks, dtype=lazy.dtype)


def _room(memory_limit: float) -> float:
    """Bytes of blocks to keep: in this process, or on the workers of the active Client."""
    active = client()
    if active is None:
        return _KEPT * memory_limit
    workers = active.run_on_scheduler(lambda dask_scheduler: [w.memory_limit for w in dask_scheduler.workers.values()])
    return _SHARE_OF_CLUSTER * float(sum(workers))
