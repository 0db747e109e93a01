"""The shards of a stage along `record`: which are missing, and writing those, one task each.

A shard is done when its `quality`, which is written last, is there.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import dask.array as da
import numpy as np
import zarr

from specufex_dask import faults, ledger, runs, schema
from specufex_dask.blocks import record_chunked
from specufex_dask.progress import compute_followed, progress
from specufex_dask.stored import readable
from specufex_dask.url_stores import zarr_store
from specufex_dask.zarr_keys import chunks_of, key_of, remove_partial

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import xarray as xr

    from specufex_dask.places import Location

Array = np.ndarray[Any, np.dtype[Any]]

_EVERY = 5.0  # seconds between two entries of progress in a log
layout = threading.Lock()
"""Held while files are laid out or cleared above a stage's own, where another thread's stage has them too."""


def attributes(store: Location, path: str) -> dict[str, Any] | None:
    """Attributes of a group whose template is whole: its recipe is written last."""
    with readable(f"{store}/{path}"):
        try:
            found = dict(zarr.open_group(zarr_store(store), path=path, mode="r", zarr_format=3).attrs)
        except (FileNotFoundError, zarr.errors.GroupNotFoundError):
            return None
    return found if "recipe" in found else None


def outdated(store: Location, path: str, held: Mapping[str, Any]) -> str:
    """What to do with a group with the attributes `held` in the layout of another version; empty for this one's."""
    if held.get("schema_version") == schema.VERSION:
        return ""
    return (
        f"got {path!r} of {store} in layout {held.get('schema_version')!r}, expected {schema.VERSION}: open it with "
        f"the version of specufex_dask that wrote it, or compute it again with overwrite=True."
    )


def missing(store: Location, path: str, held: Mapping[str, Any]) -> list[int]:
    """Numbers of the shards not yet written of a group with the attributes `held`."""
    if "records_per_task" not in held:
        return []
    with readable(f"{store}/{path}"):
        quality = zarr.open_array(zarr_store(store), path=f"{path}/quality", mode="r", zarr_format=3)
    present = chunks_of(quality)
    return [i for i in range(len(sizes(quality.shape[0], held))) if f"c/{i}" not in present]


def sizes(n_records: int, held: Mapping[str, Any]) -> list[int]:
    """Records of each shard of a group with the attributes `held`; all are equal but the last."""
    records_per_task = held.get("records_per_task", max(n_records, 1))
    return [min(records_per_task, n_records - first) for first in range(0, n_records, records_per_task)]


class Journal:
    """What a save has written so far, told to the log of the run every few seconds."""

    def __init__(self, store: Location, path: str) -> None:
        self._store, self._path = store, path
        self._start = self._told = time.monotonic()
        self._done: dict[str, int] = {}
        self._lacking: list[int] = []
        self._shard_size = 1

    def begin(self, shard_sizes: list[int], lacking: list[int]) -> None:
        """Tell how many shards and records there are, and how many of them are written already."""
        self._lacking, self._shard_size = lacking, max([1, *shard_sizes])
        n_records, n_lacking = sum(shard_sizes), sum(shard_sizes[i] for i in lacking)
        self._done = {"shards_done": len(shard_sizes) - len(lacking), "records_done": n_records - n_lacking}
        self.tell("started", shards=len(shard_sizes), records=n_records)

    def advance(self, n_records: float) -> None:
        """Count the shards of so many records more, and see to it that the store is still this run's."""
        runs.still_held(self._store)
        self._done["shards_done"] += -(-int(n_records) // self._shard_size)  # all are equal but the last
        self._done["records_done"] += int(n_records)
        if time.monotonic() - self._told > _EVERY:
            self.tell("progress")

    def part(self, key: Any) -> str:  # noqa: ANN401 - a key of dask
        """What the task `key` of the save does."""
        ends = key[-2:] if isinstance(key, tuple) and str(key[0]).startswith("run-") else (key, key)
        if not all(isinstance(end, tuple) and str(end[0]).startswith(_write_block.__name__.strip("_")) for end in ends):
            return "one task"
        first, last = (self._lacking[end[1]] for end in ends)
        return f"shard {first}" if first == last else f"shards {first} to {last}"

    def tell(self, event: str, **more: object) -> None:
        """Write `event` to the log, with what is done and how long that took."""
        self._told = time.monotonic()
        seconds = round(self._told - self._start, 3)
        runs.note(self._store, self._path, event, **self._done, **more, seconds=seconds)


@contextmanager
def recorded(store: Location, path: str) -> Iterator[Journal]:
    """Log how a save ended, and say of a full disk, or of workers that died, what is left to do."""
    journal = Journal(store, path)

    def left() -> str:
        held = attributes(store, path)
        return "it" if held is None else f"its {len(missing(store, path, held))} missing shards"

    again = "save again: only what is missing is computed."
    with faults.explained(f"{path!r} of {store}", left, again, part=journal.part):
        try:
            yield journal
            runs.still_held(store)
        except BaseException as error:
            first_line, *_ = [*str(error).splitlines(), ""]
            journal.tell("failed", error=f"{type(error).__name__}: {first_line}")
            raise
    journal.tell("finished")


def write(dataset: xr.Dataset, names: list[Any], store: Location, path: str, journal: Journal) -> None:
    """Compute and write the shards of the variables `names` that are missing, each by one task."""
    held = attributes(store, path) or {}
    lacking = missing(store, path, held)
    shard_sizes = sizes(dataset.sizes["record"], held) if "record" in dataset.sizes else []
    journal.begin(shard_sizes, lacking)
    if not lacking:
        return
    _clear(store, path, names, lacking)
    # In the chunks of the template: those of a run that goes on where another was killed may be others.
    arrays = [record_chunked(dataset[name]).rechunk({0: held["records_per_task"]}) for name in names]
    targets = _opened(store, path, names)
    first = da.arange(dataset.sizes["record"], chunks=(arrays[0].chunks[0],))
    operands = [item for i, a in enumerate([first, *arrays]) for item in (a.blocks[lacking], _axes(i, a.ndim))]
    written = da.blockwise(
        partial(_write_block, targets=targets), ("record",), *operands, concatenate=True, dtype=np.int64,
        meta=np.empty(0, np.int64), adjust_chunks={"record": 1},
    )  # fmt: skip
    written = ledger.directed(written, ledger.beside(store, held["identity"]))
    tasks = {(written.name, i): shard_sizes[number] for i, number in enumerate(lacking)}
    with progress(f"save {path}", total=sum(tasks.values()), unit="records") as draw:

        def advance(n_records: float) -> None:
            draw(n_records)
            journal.advance(n_records)

        compute_followed(written, advance, tasks=tasks)
    _clear(store, path, names, [])  # of what a worker that was killed on the way had begun


def _clear(store: Location, path: str, names: list[Any], begun: list[int]) -> None:
    """Remove the files that a killed write left, and what there is of the shards `begun`.

    That may be torn, and zarr reads what there is of a shard before it writes it.
    """
    with layout:
        group = zarr.open_group(zarr_store(store, mode="r+"), path=path, mode="r+", zarr_format=3)
        arrays = _opened(store, path, names) if begun else []
        remove_partial(group, {key_of(array, number) for array in arrays for number in begun})


def _opened(store: Location, path: str, names: list[Any]) -> list[zarr.Array[Any]]:
    """The arrays `names` of a stage, to be written to by tasks: which so need not read what these are."""
    group = zarr.open_group(zarr_store(store, mode="r+"), path=path, mode="r+", zarr_format=3)
    # A chunk of zeros must be written too: that it is there says that it is done.
    return [cast("zarr.Array[Any]", group[name]).with_config({"write_empty_chunks": True}) for name in names]


def _axes(number: int, ndim: int) -> tuple[str, ...]:
    return ("record", *(f"{number}_{axis}" for axis in range(1, ndim)))


def _write_block(records: Array, *blocks: Array, targets: list[zarr.Array[Any]]) -> Array:
    region = slice(int(records[0]), int(records[-1]) + 1)
    for array, block in zip(targets, blocks, strict=True):
        array[region] = block.astype("datetime64[ns]").view("int64") if block.dtype.kind == "M" else block
    return np.array([len(records)])
