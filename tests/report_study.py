"""A small study with every stage, made by hand to the schema, for the tests of the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from specufex_dask.recipe import stamp

Stages = dict[str, xr.Dataset]
N_EVENTS, N_STATES, N_PATTERNS, N_FRAMES, N_FREQUENCIES = 40, 4, 5, 12, 20
STATIONS = ("XX.ONE..HHZ", "XX.TWO..HHZ")
SHORT, QUIET = 3, 10


def texts(values: Any) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def make_study(*, event_id: list[str] | None = None) -> Stages:
    """A study of 40 events at two stations in three clusters; four records are not usable."""
    rng = np.random.default_rng(0)
    events = texts(event_id or [f"ev{i:03d}" for i in range(N_EVENTS)])
    origin = np.datetime64("2020-02-27T22:00:00", "ns") + np.sort(rng.integers(0, 864_000, N_EVENTS)).astype("m8[s]")
    quality = np.zeros(N_EVENTS * len(STATIONS), dtype="int8")
    quality[[1, 8, 9]], quality[20] = SHORT, QUIET
    records = {
        "event_id": ("record", texts(np.repeat(events, 2))),
        "station_id": ("record", texts(STATIONS * N_EVENTS)),
        "start_time": ("record", np.repeat(origin, 2)),
    }
    stages = {
        "catalog": _catalog(rng, events, origin),
        "stations": _stations(),
        **_models(rng),
        **_records(rng, records, quality),
    }
    settings: dict[str, dict[str, object]] = {"spectrograms": {"band": (1.0, 20.0), "time_range": None}}
    return {stage: stamp(dataset, stage, settings.get(stage, {"seed": 0})) for stage, dataset in stages.items()}


def _catalog(rng: np.random.Generator, events: Any, origin: Any) -> xr.Dataset:
    return xr.Dataset(
        {
            "origin_time": ("event", origin),
            "latitude": ("event", 37 + 0.02 * rng.normal(size=N_EVENTS)),
            "longitude": ("event", -121.5 + 0.02 * rng.normal(size=N_EVENTS)),
            "depth": ("event", np.full(N_EVENTS, 6.0)),
            "magnitude": ("event", np.full(N_EVENTS, np.nan)),
        },
        coords={"event_id": ("event", events)},
    )


def _stations() -> xr.Dataset:
    return xr.Dataset(
        {
            "latitude": ("station", [37.01, 36.98]),
            "longitude": ("station", [-121.5, -121.47]),
            "elevation": ("station", [10.0, 20.0]),
        },
        coords={"station_id": ("station", texts(STATIONS))},
    )


def _models(rng: np.random.Generator) -> Stages:
    step = np.arange(1, 61)
    history = {
        "history_step": ("step", step),
        "history_step_size": ("step", (16 + step) ** -0.51),
        "history_batch": ("step", np.full(60, 16)),
        "history_size": ("step", np.linspace(30, N_PATTERNS, 60).astype(int)),
        "history_score": ("step", np.where(step % 10 == 0, 2 - 1 / step, np.nan)),
    }
    dictionary, emission = rng.gamma(2, size=(N_FREQUENCIES, N_PATTERNS)), rng.gamma(2, size=(N_STATES, N_PATTERNS))
    gain, ones = {"gain": ("pattern", dictionary.sum(axis=0))}, ("pattern", np.ones(N_PATTERNS))
    spectral, states = ("frequency", "pattern"), ("state", "pattern")
    nmf = {
        "dictionary": (spectral, dictionary),
        "dictionary_shape": (spectral, dictionary),
        "dictionary_rate": (spectral, np.ones_like(dictionary)),
        "weight": ones,
        "weight_shape": ones,
        "weight_rate": ones,
    }
    hmm = {
        "emission": (states, emission),
        "emission_shape": (states, emission),
        "emission_rate": (states, np.ones_like(emission)),
    }
    return {
        "nmf": xr.Dataset(nmf | gain | history, coords={"frequency": np.linspace(1, 20, N_FREQUENCIES)}),
        "hmm": xr.Dataset(hmm | gain | history),
    }


def _records(rng: np.random.Generator, records: dict[str, Any], quality: Any) -> Stages:
    n, time = quality.size, 0.5 + np.arange(N_FRAMES)
    flags, square = {"quality": ("record", quality)}, ("record", "state", "next_state")
    truth = np.repeat(rng.choice(3, N_EVENTS, p=[0.6, 0.25, 0.15]), 2)
    cluster = np.where(quality > 0, -1, truth).astype("int32")
    fingerprint = rng.dirichlet(np.ones(N_STATES**2), n).reshape(n, N_STATES, N_STATES).astype("f4")
    centroid = np.stack([fingerprint[cluster == number].mean(axis=0) for number in range(3)])
    distance = np.linalg.norm((fingerprint - centroid[cluster]).reshape(n, -1), axis=1)
    spectrogram = rng.gamma(2, 5, (n, N_FREQUENCIES, N_FRAMES)).astype("f4")
    states = rng.integers(0, N_STATES, (n, N_FRAMES)).astype("int8")
    clusters = {
        "cluster": ("record", cluster),
        "distance": ("record", np.where(quality > 0, np.nan, distance).astype("f4")),
        "silhouette": ("record", np.where(quality > 0, np.nan, rng.uniform(-0.1, 0.5, n)).astype("f4")),
        "centroid": (("cluster_id", "state", "next_state"), centroid),
        "labels": (("n_clusters", "record"), np.stack([cluster] * 3)),
        "mean_silhouette": ("n_clusters", [0.1, 0.2, 0.15]),
    }
    chain = {"fingerprint": (square, fingerprint), "transition": (square, fingerprint)}
    frequency = np.linspace(1, 20, N_FREQUENCIES)
    return {
        "spectrograms": xr.Dataset(
            {"spectrogram": (("record", "frequency", "time"), spectrogram), **flags},
            coords={**records, "frequency": frequency, "time": time},
        ),
        "fingerprints": xr.Dataset(
            {**chain, "state_sequence": (("record", "time"), states), **flags}, coords={**records, "time": time}
        ),
        "clusters": xr.Dataset({**clusters, **flags}, coords={**records, "n_clusters": [2, 3, 4]}),
    }
