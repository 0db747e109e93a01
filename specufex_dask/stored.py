"""Reading what is stored: lazily, shard by shard; what is torn is an error that says what to do.

A power cut, or a copy that broke off, leaves files that are empty, cut short or missing. Zarr reads
some of these as its fill value, which would pass for data.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from specufex_dask.zarr_keys import is_on_disk, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import xarray as xr
    import zarr

Array = np.ndarray[Any, np.dtype[Any]]


@contextmanager
def readable(place: str) -> Iterator[None]:
    """Let what cannot be decoded in the block be an ``OSError`` that names its `place` in a store."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError) as error:  # as zarr and its codecs have it
        raise torn(place, f"{type(error).__name__}: {error}") from error


def torn(place: str, why: str, *, shard: int | None = None) -> OSError:
    """The error of `place`, a stage or a variable in a store, that cannot be read, or of one `shard` of it."""
    stage = place.rpartition("/")[0] if shard is not None else place
    again = f"delete {stage} and save the stage again"
    if shard is not None:
        place = f"shard {shard} of {place}"
        again = f"delete {stage}/quality/c/{shard}, which says that it is done, and save the stage again: "
        again += "only this shard is computed"
    return OSError(f"got {place} torn ({why}), expected it as it was written: {again}.")


def values(stage: str, array: zarr.Array[Any], records_per_task: int | None) -> Array:
    """All of `array` (record, …) of a `stage` (a path with its store), read at once."""
    try:
        return np.asarray(array[:])
    except (RuntimeError, ValueError) as error:
        if records_per_task is None:
            raise torn(stage, str(error)) from error
        place = f"{stage}/{array.basename}"
        raise torn(place, str(error), shard=_first_torn(array, records_per_task)) from error


def _first_torn(array: zarr.Array[Any], records_per_task: int) -> int:
    """The number of the first shard of `array` (record, …) that cannot be read, of which there is one."""
    for shard, first in enumerate(range(0, array.shape[0], records_per_task)):
        try:
            array[first : first + records_per_task]
        except (RuntimeError, ValueError):
            return shard
    return -1  # it can be read meanwhile: whoever writes to the store has written it again


def parts(
    place: str, stage: xr.Dataset, arrays: Mapping[str, zarr.Array[Any]], records_per_task: int | None
) -> dict[str, StoredVariable]:
    """The variables (record, …) of `stage`, opened from `place`, that dask is to read: all but ids.

    Nor is it to read one file of many shards' records, which each of its tasks would read whole.
    """
    found = {
        str(name): StoredVariable(f"{place}/{name}", variable, arrays[str(name)], records_per_task)
        for name, variable in stage.variables.items()
        if "record" in variable.dims and variable.dtype.kind not in "OT"
    }
    return {name: part for name, part in found.items() if not part.spans_shards}


@dataclass(frozen=True)
class StoredVariable:
    """A variable as `opened` from its `array`, at its `place` in a stage with its store, to be read by dask.

    Each task brings one along, hence no coordinates. `records_per_task` is None for a stage that
    was written from memory.
    """

    place: str
    opened: xr.Variable
    array: zarr.Array[Any]
    records_per_task: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole."""
        return self.opened.shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.opened.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what is read."""
        dtype: np.dtype[Any] = self.opened.dtype
        return dtype

    def lazy(self) -> da.Array:
        """The lazy array (record, …), its chunks the shards."""
        chunks = (self.records_per_task or -1, *self.shape[1:])
        read: da.Array = da.from_array(self, chunks=chunks, asarray=False, meta=np.empty((0,) * self.ndim, self.dtype))
        return read

    def __getitem__(self, key: Any) -> Array:  # noqa: ANN401 - what dask indexes with
        shard = self._shard(key)
        if shard is not None and is_on_disk(self.array) and not size_of(self.array, shard):
            raise torn(self.place, "empty or missing", shard=shard)
        try:
            return np.asarray(self.opened[key].values)
        except (RuntimeError, ValueError) as error:
            stage = self.place.rpartition("/")[0]
            raise torn(self.place if shard is not None else stage, str(error), shard=shard) from error

    def __dask_tokenize__(self) -> object:
        return self.place, self.opened, self.records_per_task

    @property
    def is_sharded(self) -> bool:
        """Whether each shard must be there; else one file, perhaps of fill values and so not written, holds all."""
        n_records = self.shape[0] if self.shape else 0
        one_file = self.records_per_task is None or self._length != self.records_per_task
        return not (one_file or n_records == 0 or (self.dtype.kind == "M" and n_records <= self._length))

    @property
    def spans_shards(self) -> bool:
        """Whether one file holds the records of several shards: it was written from memory, beside lazy variables."""
        return self.records_per_task is not None and self._length > self.records_per_task

    @property
    def _length(self) -> int:
        """Records of a shard."""
        return int((self.array.shards or self.array.chunks or (0,))[0])

    def _shard(self, key: Any) -> int | None:  # noqa: ANN401
        """The number of the shard of the records `key`; None where it need not be there."""
        if not self.is_sharded:
            return None
        records = key[0] if isinstance(key, tuple) else key
        chosen = range(self.shape[0])[records] if isinstance(records, slice) else np.ravel(records)
        return int(chosen[0]) // self._length if len(chosen) else None
