"""Day files as large and as uneven as those of a public archive, made fast for benchmarks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.simulated_days import day_clock, day_file, day_noise
from specufex_dask.simulated_layouts import TEMPLATES, key
from specufex_dask.simulated_records import stamp

if TYPE_CHECKING:
    import os

Array = np.ndarray[Any, Any]
FIRST_DAY = "2024-01-01"
COUNTS = 300.0
"""Root mean square of the noise [counts]: at 100 Hz a day has 14 MB."""


@dataclass(frozen=True)
class Replica:
    """What `replica` wrote: folder and template of the archive, its channels, its days, its rate [Hz]."""

    root: str
    archive: str
    station_ids: tuple[str, ...]
    days: tuple[str, ...]
    sampling_rate: float


def channel_day(station_id: str, day: str, seed: int, *, sampling_rate: float = 100.0) -> bytes:
    """The file of a channel and a day: 14 MB of noise at 100 Hz. Equal seeds give the same noise on another level.

    So any two objects differ in every sample, and one takes the time of a copy.
    """
    (packed, starts), clock = _noise(seed, sampling_rate), day_clock(_ns(day), sampling_rate)
    packed = packed.copy()
    stamp(packed, station_id, clock(starts))
    for name in ("first_sample", "last_sample"):
        packed[name] += level(station_id, day)
    return packed.tobytes()


def channel_samples(station_id: str, day: str, seed: int, *, sampling_rate: float = 100.0) -> Array:
    """The samples (sample,) [counts] of `channel_day`, as they were before they were packed."""
    return _samples(seed, sampling_rate) + level(station_id, day)


def level(station_id: str, day: str) -> int:
    """What the samples of a channel and a day have more than those of another of the same seed [counts]."""
    return int.from_bytes(hashlib.sha256(f"{station_id} {day}".encode()).digest()[:3], "big") - 2**23


def replica(
    folder: str | os.PathLike[str], n_stations: int, n_days: int, *, seed: int = 0, sampling_rate: float = 100.0
) -> Replica:
    """Write the days of so many channels under the keys of SCEDC: ``folder/continuous_waveforms/…``."""
    root = Path(folder)
    days = tuple(str(np.datetime64(FIRST_DAY) + i) for i in range(n_days))
    station_ids = tuple(f"XX.R{i + 1:03d}..HHZ" for i in range(n_stations))
    for day in days:
        for station_id in station_ids:
            path = root / key("scedc", _ns(day), station_id=station_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(channel_day(station_id, day, seed, sampling_rate=sampling_rate))
    return Replica(str(root), str(root / TEMPLATES["scedc"]), station_ids, days, sampling_rate)


def _ns(day: str) -> int:
    return int(np.datetime64(day, "ns").astype(np.int64))


@lru_cache(2)
def _samples(seed: int, sampling_rate: float) -> Array:
    return np.rint(day_noise(sampling_rate, np.random.default_rng(seed)) * COUNTS).astype(np.int32)


@lru_cache(2)
def _noise(seed: int, sampling_rate: float) -> tuple[Array, Array]:
    return day_file(
        _samples(seed, sampling_rate),
        [],
        station_id="XX.NONE..HHZ",
        clock=day_clock(0, sampling_rate),
        sampling_rate=sampling_rate,
        rng=np.random.default_rng([seed, 1]),
    )
