"""Nothing is read twice: on a network the bytes are what costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dask.array as da
import numpy as np

import specufex_dask as sx
from specufex_dask.blocks import map_records
from specufex_dask.recipe import stamp

if TYPE_CHECKING:
    from pathlib import Path


def test_save_reads_each_block_of_waveforms_once(tmp_path: Path) -> None:
    reads: list[int] = []

    def read(numbers: np.ndarray) -> dict[str, np.ndarray]:
        reads.append(int(numbers[0]))
        samples = np.random.default_rng(int(numbers[0])).normal(size=(len(numbers), 200))
        start = np.full(len(numbers), "2024-01-01", "datetime64[ns]")
        return {"waveform": samples, "quality": np.zeros(len(numbers), "int8"), "start_time": start}

    blocks = map_records(
        read,
        [da.arange(64, chunks=16)],
        {"waveform": ((200,), "float64"), "quality": ((), "int8"), "start_time": ((), "datetime64[ns]")},
    )
    ids = np.array([f"{i:02d}" for i in range(64)], dtype=object)
    waveforms = stamp(
        sx.spectrogram_dataset(np.zeros((64, 1, 1)), frequency=[1.0], time=[0.0], event_id=ids)
        .drop_dims(["frequency", "time"])
        .assign(waveform=(("record", "sample"), blocks["waveform"]), quality=("record", blocks["quality"]))
        .assign_coords(start_time=("record", blocks["start_time"]))
        .assign_attrs(sampling_rate=100.0),
        "waveforms",
        {},
    )
    spectrograms = sx.compute_spectrograms(waveforms, window_length=0.4, band=(2.0, 20.0))
    saved = sx.save(spectrograms, tmp_path / "study.zarr")
    assert sorted(reads) == [0, 16, 32, 48]
    assert (saved["start_time"].values == np.datetime64("2024-01-01")).all()
