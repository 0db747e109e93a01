"""Spectrograms of no meaning whose tasks take time, and one of them more memory than a worker has."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import dask.array as da
import draws
import numpy as np

from specufex_dask.blocks import map_records
from specufex_dask.recipe import stamp

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from specufex_dask.blocks import Outputs, Results

Array = np.ndarray[Any, np.dtype[Any]]

N_RECORDS, CHUNK = 160, 8
MEMORY_LIMIT = "500MB"
_HOG_BYTES, _HUNGRY = 600_000_000, 80


def records(*, seconds: float = 0.0, fed: Path | None = None, once: bool = False) -> xr.Dataset:
    """The stage ``spectrograms``, lazy, `seconds` a task; the same recipe whatever the tasks take.

    With `fed` one task takes too much memory unless that file is there; `once` makes it before.
    """
    outputs: Outputs = {"spectrogram": ((4, 5), "float32"), "quality": ((), "int8")}
    numbers = da.arange(N_RECORDS, chunks=CHUNK)
    lazy = map_records(_block, [numbers], outputs, seconds=seconds, fed=fed, once=once)
    base = draws.spectrograms(N_RECORDS, chunk=CHUNK, n_frequencies=4, n_time=5)
    values = {"spectrogram": (base["spectrogram"].dims, lazy["spectrogram"]), "quality": ("record", lazy["quality"])}
    return stamp(base.assign(values), "spectrograms", {"drawn": "numbers"})


def _block(number: Array, *, seconds: float, fed: Path | None, once: bool) -> Results:
    if fed is not None and number[0] == _HUNGRY and not fed.exists():
        if once:
            fed.touch()
        hog = np.ones(_HOG_BYTES, "int8")
        time.sleep(60)
        assert not hog.all(), "a worker out of memory is killed meanwhile"
    time.sleep(seconds)
    levels = [np.random.default_rng(record).random((4, 5), dtype="float32") for record in number]
    return {"spectrogram": np.stack(levels), "quality": np.where(number % 5 == 0, 1, 0).astype("int8")}
