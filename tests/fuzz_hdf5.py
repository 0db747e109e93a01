"""Files in HDF5 of both layouts, and what h5py itself finds in a damaged one."""

from __future__ import annotations

import io
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from fuzz_inputs import Base, Window

from specufex_dask.cutting import NOT_A_TIME
from specufex_dask.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]
RATE, N_SAMPLES, EVENTS = 100.0, 200, ("e1", "e20", "e3")
CHANNELS = ("XX.S..HHZ", "XX.S..HHN")
_STRUCTURES = re.compile(rb"TREE|HEAP|SNOD|GCOL|OHDR|FRHP|FADB|BTHD|FSHD")
"""What marks the beginnings of parts of a file (HDF5 File Format Specification, III and IV)."""


@lru_cache(1)
def hdf5_bases() -> tuple[Base, ...]:
    """Both layouts, of samples in one piece and in compressed chunks; one in the later version of the format."""
    gzip: dict[str, Any] = {"chunks": (50,), "compression": "gzip"}
    rows: dict[str, Any] = {"chunks": (2, 100), "compression": "gzip"}
    return (
        _base("flat", _flat),
        _base("flat, gzip", lambda file: _flat(file, **rows)),
        _base("flat, later version", _flat, libver="latest"),
        _base("workflow", _workflow),
        _base("workflow, gzip", lambda file: _workflow(file, **gzip)),
    )


def _samples(event: str, channel: str = CHANNELS[0]) -> Array:
    seed = [EVENTS.index(event), CHANNELS.index(channel)]
    return np.cumsum(np.random.default_rng(seed).integers(-900, 900, N_SAMPLES)).astype(float)


def _flat(file: Any, **options: Any) -> tuple[str, ...]:
    file.create_dataset("waveforms", data=np.stack([_samples(event) for event in EVENTS]), **options)
    file["event_ids"] = list(EVENTS)
    return CHANNELS[:1]


def _workflow(file: Any, **options: Any) -> tuple[str, ...]:
    for channel in CHANNELS:
        for event in EVENTS:
            _, station, _, code = channel.split(".")
            file.create_dataset(f"waveforms/{station}/{code}/{event}", data=_samples(event, channel), **options)
    file["S/processing_info/sampling_rate_Hz"] = RATE
    return CHANNELS


def _base(name: str, write: Callable[[Any], tuple[str, ...]], **options: Any) -> Base:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        channels = write(file)
    content = buffer.getvalue()
    records = [(event, channels[i % len(channels)]) for i, event in enumerate(EVENTS)]
    windows = tuple(Window(channel, NOT_A_TIME, N_SAMPLES, RATE, event) for event, channel in records)
    truth = {
        window.name: [Segment(NOT_A_TIME, RATE, N_SAMPLES, _samples(*record))]
        for window, record in zip(windows, records, strict=True)
    }
    places = (0, *(found.start() for found in _STRUCTURES.finditer(content)), len(content))
    return Base(f"HDF5, {name}", content, truth, windows, places, is_checked=False)


def as_h5py_reads(content: bytes, window: Window, samples: Array) -> bool:
    """Whether h5py finds `samples` for the record of `window` in the damaged file, which has no sums over samples."""
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            waveforms = file["waveforms"]
            if hasattr(waveforms, "shape"):
                found = [waveforms[row] for row, name in enumerate(_names(file)) if name == window.event_id]
            else:
                _, station, _, code = window.station_id.split(".")
                found = [waveforms[f"{station}/{code}/{window.event_id}"][()]]
    except Exception:  # noqa: BLE001 - h5py raises whatever the damage leads to
        return False
    return bool(found) and all(np.array_equal(each.astype(float), samples) for each in found)


def _names(file: Any) -> list[str]:
    try:
        return list(file["event_ids"].asstr()[()].tolist())
    except OSError:  # of damage to what is free among the texts, which hurts none of them
        return list(EVENTS)
