"""Seeded data for the tests: records drawn from the models themselves, and stages made by hand."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import xarray as xr

import specufex_dask as sx
from specufex_dask.blocks import Outputs, map_records
from specufex_dask.recipe import digest, identity, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

CHUNK = 8


@dataclass(frozen=True)
class States:
    """Counts (record, pattern, time) of hidden `states` (record, time), drawn with `emission` (state, pattern)."""

    counts: Array
    states: Array
    emission: Array


def states(
    n_records: int, *, scale: float, seed: int, n_patterns: int = 12, n_states: int = 6, n_time: int = 60
) -> States:
    """Records of the HMM: a transition matrix of its own each, mostly staying where it is, and Poisson counts."""
    rng = np.random.default_rng(seed)
    emission = rng.gamma(0.5, 1.0, (n_states, n_patterns)) * scale
    transition = 0.9 * np.eye(n_states) + 0.1 * rng.dirichlet(np.full(n_states, 0.3), (n_records, n_states))
    steps = transition.cumsum(axis=2)
    path = np.empty((n_records, n_time), int)
    path[:, 0] = rng.integers(n_states, size=n_records)
    for t in range(1, n_time):
        reached = steps[np.arange(n_records), path[:, t - 1]] < rng.random((n_records, 1))
        path[:, t] = np.minimum(reached.sum(axis=1), n_states - 1)
    return States(rng.poisson(emission[path]).swapaxes(1, 2).astype(float), path, emission)


def mixtures(
    n_records: int, *, seed: int, n_patterns: int = 12, n_frequencies: int = 100, n_time: int = 60, scale: float = 20
) -> tuple[Array, Array]:
    """Spectrograms (record, frequency, time) of the NMF and their dictionary (frequency, pattern), of its own priors.

    W ~ Gamma(10/D), V ~ Gamma(1/K) times `scale`, X ~ Poisson(W V).
    """
    rng = np.random.default_rng(seed)
    dictionary = rng.gamma(10 / n_frequencies, 1.0, (n_frequencies, n_patterns))
    activation = rng.gamma(1 / n_patterns, 1.0, (n_records, n_patterns, n_time)) * scale
    return rng.poisson(dictionary @ activation).astype("float32"), dictionary


def unit_gain_nmf(n_patterns: int) -> xr.Dataset:
    """An NMF model whose gain is 1: four bins, each pattern a quarter in each of them."""
    quarters = np.ones((4, n_patterns)), np.full((4, n_patterns), 4.0)
    ones = np.ones(n_patterns)
    return sx.nmf_model(
        dictionary_shape=quarters[0], dictionary_rate=quarters[1], weight_shape=ones, weight_rate=ones,
        frequency=np.arange(4.0),
    )  # fmt: skip


def identities(n_records: int, stations: Sequence[str] = ("XX.AAA..HHZ",)) -> dict[str, tuple[str, Array]]:
    """The coordinates of records: event-major, one record an event and station, a minute apart."""
    event, station = np.divmod(np.arange(n_records), len(stations))
    return {
        "event_id": ("record", np.array([f"event{i:05d}" for i in event], dtype=object)),
        "station_id": ("record", np.array(stations, dtype=object)[station]),
        "start_time": ("record", np.datetime64("2020-01-01", "ns") + event * np.timedelta64(60, "s")),
    }


def activations(counts: Array, nmf: xr.Dataset, *, quality: Array | None = None) -> xr.Dataset:
    """The stage ``activations`` of given counts (record, pattern, time), computed with `nmf` as far as anyone knows."""
    n_records, _, n_time = counts.shape
    dataset = xr.Dataset(
        {
            "activation": (("record", "pattern", "time"), counts),
            "quality": ("record", np.zeros(n_records, "int8") if quality is None else quality),
        },
        coords=identities(n_records) | {"time": np.arange(float(n_time))},
        attrs={"nmf": identity(nmf)},
    )
    return stamp(dataset, "activations", {}, counts=digest(counts.tobytes().hex()))


def waveforms(samples: Array, *, rate: float = 100.0, chunk: int = CHUNK, quality: Array | None = None) -> xr.Dataset:
    """The stage ``waveforms`` of given samples (record, sample), lazy."""
    dataset = xr.Dataset(
        {
            "waveform": (("record", "sample"), samples),
            "quality": ("record", np.zeros(len(samples), "int8") if quality is None else quality),
        },
        coords=identities(len(samples)),
        attrs={"sampling_rate": rate},
    )
    return stamp(
        dataset.chunk(record=chunk), "waveforms", {"sampling_rate": rate}, samples=digest(samples.tobytes().hex())
    )


def levels(n_records: int, *, n_frequencies: int = 12, n_time: int = 20, n_families: int = 3, seed: int = 0) -> Array:
    """Spectrogram values (record, frequency, time) of a few families, each a band that moves its own way."""
    rng = np.random.default_rng(seed)
    family = np.arange(n_records) % n_families
    centre = (family[:, None] + 0.5) / n_families * n_frequencies + np.linspace(0, 2, n_time)
    distance = np.arange(n_frequencies)[None, :, None] - centre[:, None, :]
    fading = np.exp(-np.arange(n_time) / (4 + 4 * family[:, None]))[:, None, :]
    return np.exp(-((distance / 1.5) ** 2)) * fading * 20 + rng.gamma(0.5, 1.0, (n_records, n_frequencies, n_time))


def spectrograms(n_records: int = 40, *, chunk: int | None = CHUNK, seed: int = 0, **sizes: int) -> xr.Dataset:
    """The stage ``spectrograms`` of `levels`, lazy in chunks of `chunk` records."""
    values = levels(n_records, seed=seed, **sizes).astype("float32")
    dataset = sx.spectrogram_dataset(
        values, frequency=np.arange(float(values.shape[1])), time=np.arange(float(values.shape[2]))
    )
    return dataset if chunk is None else dataset.chunk(record=chunk)


def with_quality(dataset: xr.Dataset, unusable: Sequence[int], *, variable: str, flag: int = 3) -> xr.Dataset:
    """`dataset` with some records flagged and NaN in `variable`."""
    quality = dataset["quality"].values.copy()
    quality[list(unusable)] = flag
    values = dataset[variable].values.copy()
    values[list(unusable)] = np.nan
    changed = dataset.assign({"quality": ("record", quality), variable: (dataset[variable].dims, values)})
    kept = changed.assign_attrs(dataset.attrs)
    return kept.chunk({"record": CHUNK})


class Counted:
    """A stage ``spectrograms`` whose function counts its calls, may take its time and may be made to fail.

    Record i holds noise from i to i + 1, which does not compress.
    """

    def __init__(
        self,
        n_records: int,
        chunk: int,
        *,
        tail: tuple[int, int] = (4, 5),
        lazy_quality: bool = True,
        seconds: float = 0.0,
    ) -> None:
        self.blocks: list[int] = []
        self.fail_after: int | None = None
        self._lock, self._tail, self._seconds = threading.Lock(), tail, seconds
        base = spectrograms(n_records, chunk=chunk, n_frequencies=tail[0], n_time=tail[1])
        outputs: Outputs = {"spectrogram": (tail, "float32"), "quality": ((), "int8")}
        lazy = map_records(self._block, [da.arange(n_records, chunks=chunk)], outputs)
        quality = lazy["quality"] if lazy_quality else _every_fifth(np.arange(n_records))
        values = {"spectrogram": (base["spectrogram"].dims, lazy["spectrogram"]), "quality": ("record", quality)}
        self.dataset = stamp(base.assign(values), "spectrograms", {"band": [1, tail[0]]})

    def __dask_tokenize__(self) -> object:
        return "counted", id(self)

    def _block(self, number: Array) -> dict[str, Array]:
        with self._lock:
            if self.fail_after is not None and len(self.blocks) >= self.fail_after:
                msg = "the power went off"
                raise RuntimeError(msg)
            self.blocks.append(int(number[0]))
        time.sleep(self._seconds)
        levels = [int(record) + np.random.default_rng(record).random(self._tail, dtype="float32") for record in number]
        return {"spectrogram": np.stack(levels), "quality": _every_fifth(number)}


def _every_fifth(number: Array) -> Array:
    """Quality of the records `number`: 1 for every fifth."""
    return np.where(number % 5 == 0, 1, 0).astype("int8")


def files_of(store: Path) -> dict[str, bytes]:
    """The content of every file below `store`, by its path."""
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}
