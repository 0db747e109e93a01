"""Spectrograms of known families, drawn lazily, a task at a time: as many as one likes in little memory.

All families share the patterns and the states; each goes round three of the states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

from specufex_dask.blocks import map_records
from specufex_dask.recipe import stamp

if TYPE_CHECKING:
    from specufex_dask.blocks import Results

Array = np.ndarray[Any, np.dtype[Any]]

STATION = "XX.F..HHZ"
N_FAMILIES = 8
_N_PATTERNS = 12
_N_STATES = 10
_N_VISITED = 3
_CLIPPED_BELOW = 0.01


@dataclass(frozen=True)
class Truth:
    """Dictionary (frequency, pattern), emission (state, pattern), and of each family its first state and transition.

    first is (family,), transition (family, state, next state).
    """

    dictionary: Array
    emission: Array
    first: Array
    transition: Array


def truth(n_frequencies: int) -> Truth:
    """What all records are drawn from."""
    rng = np.random.default_rng(0)
    bins = np.arange(n_frequencies)[:, None]
    centre, width = rng.uniform(0, n_frequencies, _N_PATTERNS), rng.uniform(0.02, 0.08, _N_PATTERNS) * n_frequencies
    emission = rng.gamma(0.3, 30.0, (_N_STATES, _N_PATTERNS))
    path = np.stack([rng.permutation(_N_STATES)[:_N_VISITED] for _ in range(N_FAMILIES)])
    transition = np.full((N_FAMILIES, _N_STATES, _N_STATES), 0.02 / _N_STATES)
    transition += 0.79 * np.eye(_N_STATES)
    for family, states in enumerate(path):
        transition[family, :, states[0]] += 0.19  # whoever strayed comes back to the beginning
        transition[family, states] -= 0.19 * np.eye(_N_STATES)[states[0]]
        transition[family, states, np.roll(states, -1)] += 0.19
    return Truth(np.exp(-0.5 * ((bins - centre) / width) ** 2), emission, path[:, 0], transition)


def family_of(n_records: int, *, in_order: bool) -> Array:
    """Family of each record: one after the other, as after an aftershock sequence each, or shuffled."""
    family = np.arange(n_records) * N_FAMILIES // n_records
    return family if in_order else np.random.default_rng(1).permutation(family)


def spectrograms(
    n_records: int, *, in_order: bool = True, chunk: int = 256, n_frequencies: int = 61, n_time: int = 51
) -> xr.Dataset:
    """The stage ``spectrograms`` of `n_records`, lazy; every 1,000th is flagged ``too_quiet``."""
    number = da.from_array(np.arange(n_records), chunks=chunk)
    family = da.from_array(family_of(n_records, in_order=in_order), chunks=chunk)
    drawn = map_records(
        _drawn, [number, family], {"spectrogram": ((n_frequencies, n_time), "float32")}, of=truth(n_frequencies),
        n_time=n_time,
    )  # fmt: skip
    quality = np.zeros(n_records, "int8")
    quality[999::1000] = 10
    start = np.datetime64("2020-01-01", "ns") + np.arange(n_records) * np.timedelta64(60, "s")
    dataset = xr.Dataset(
        {"spectrogram": (("record", "frequency", "time"), drawn["spectrogram"]), "quality": ("record", quality)},
        coords={
            "frequency": 5 + 15 * np.arange(n_frequencies) / n_frequencies,
            "time": 0.256 + 0.384 * np.arange(n_time),
            "event_id": ("record", np.array([f"e{i:08d}" for i in range(n_records)], dtype=object)),
            "station_id": ("record", np.full(n_records, STATION, dtype=object)),
            "start_time": ("record", start),
        },
    )
    parameters = {"n_records": n_records, "in_order": in_order, "shape": [n_frequencies, n_time]}
    return stamp(dataset, "spectrograms", parameters, drawn="families")


def _drawn(number: Array, family: Array, *, of: Truth, n_time: int) -> Results:
    """Counts about the dictionary times the pattern levels of the states that each record goes through."""
    rng = np.random.default_rng([2, int(number[0])])
    steps = of.transition.cumsum(axis=2)
    state = of.first[family]
    level = np.empty((len(number), n_time, _N_PATTERNS), "float32")
    for t in range(n_time):
        level[:, t] = of.emission[state]
        state = np.minimum((steps[family, state] < rng.random((len(number), 1))).sum(axis=1), _N_STATES - 1)
    level *= rng.standard_gamma(3.0, level.shape, dtype=np.float32) / 3
    mean = np.matmul(of.dictionary.astype("float32"), level.swapaxes(1, 2))
    levels = np.asarray(rng.standard_gamma(np.maximum(mean, 1e-3), dtype=np.float32))
    levels[levels < _CLIPPED_BELOW] = 0  # as decibels are; a gamma of so small a shape is also denormal now and then
    return {"spectrogram": levels}
