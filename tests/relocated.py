"""Simulated clusters of earthquakes with picks and correlations of known noise, and what that noise implies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask.hypodd import write_hypodd
from specufex_dask.hypodd_pairs import Pairing
from specufex_dask.hypodd_settings import LayeredModel, Settings
from specufex_dask.kernels.double_difference import first_arrivals
from specufex_dask.local_frame import LocalFrame
from specufex_dask.tables import catalog_table, picks_table, stations_table, texts

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

MODEL = LayeredModel(top_km=(0.0, 1.0, 5.0, 16.0), p_km_s=(3.5, 5.0, 6.0, 7.2), vp_vs=1.75)
FRAME = LocalFrame(36.0, -120.5)
PICK_S = (0.010, 0.015)
LAG_S = 0.002


@dataclass(frozen=True)
class Swarm:
    """What the relocation is given; the true places (event, 3) [km]; slopes (event, station, phase, 4) of the rays."""

    catalog: xr.Dataset
    stations: xr.Dataset
    picks: xr.Dataset
    correlations: xr.Dataset
    truth: Array
    slopes: Array
    pairs: Array


def swarm(
    seed: int,
    *,
    n_events: int = 20,
    n_stations: int = 12,
    size_km: float = 0.15,
    pick_s: tuple[float, float] = PICK_S,
    correlated: bool = True,
) -> Swarm:
    """A swarm at 8 km, located to some 300 m, its centre well.

    Picks are off by `pick_s`; lags by `LAG_S`, of each pair on its own.
    """
    rng = np.random.default_rng(seed)
    truth = np.array([0.0, 0.0, 8.0]) + rng.uniform(-size_km, size_km, (n_events, 3))
    azimuth = np.linspace(0, 2 * np.pi, n_stations, endpoint=False) + rng.uniform(-0.2, 0.2, n_stations)
    at = rng.uniform(2, 25, n_stations)[:, None] * np.stack([np.sin(azimuth), np.cos(azimuth)], axis=1)
    time, slopes = rays(truth, at)
    seen = time + rng.normal(0, 1, time.shape) * np.array(pick_s)
    catalog, stations = _catalog(rng, truth), _stations(at)
    pairs = np.array([(i, j) for i in range(n_events) for j in range(i + 1, n_events)] if correlated else [(0, 1)])
    ids = catalog.event_id.values, stations.station_id.values
    correlations = [
        _correlations(rng, time[..., i], seen[..., i], pairs, ids).assign_coords(
            phase=("record", texts([phase] * (len(pairs) * n_stations)))
        )
        for i, phase in enumerate("PS")
    ]
    joined = xr.concat(correlations, "record")
    return Swarm(catalog, stations, _picks(seen, ids), joined, truth, slopes, pairs)


def _catalog(rng: np.random.Generator, truth: Array) -> xr.Dataset:
    n = len(truth)
    located = truth + rng.normal(0, [0.3, 0.3, 0.4], truth.shape)
    located -= (located - truth).mean(axis=0)
    latitude, longitude = FRAME.degrees(located[:, 0], located[:, 1])
    columns = {
        "event_id": texts([f"2024{i:05d}" for i in range(n)]),
        "origin_time": _origins(n) + np.rint(rng.normal(0, 50e6, n)).astype("m8[ns]"),
        "latitude": latitude,
        "longitude": longitude,
        "depth": located[:, 2],
        "magnitude": np.full(n, 1.5),
    }
    return catalog_table(columns, "swarm")


def _origins(n: int) -> Array:
    return np.datetime64("2024-01-01", "ns") + (np.arange(n) * 3_600_000_000_000).astype("m8[ns]")


def _stations(at: Array) -> xr.Dataset:
    north, east = FRAME.degrees(at[:, 0], at[:, 1])
    names = texts([f"XX.S{i:02d}..HHZ" for i in range(len(at))])
    columns = {"station_id": names, "latitude": north, "longitude": east, "elevation": np.zeros(len(at))}
    return stations_table(columns, "swarm")


def _picks(seen: Array, ids: tuple[Array, Array]) -> xr.Dataset:
    event, station, phase = (each.ravel() for each in np.indices(seen.shape))
    columns = {
        "event_id": ids[0][event],
        "station_id": ids[1][station],
        "phase": texts(["PS"[each] for each in phase]),
        "time": _origins(len(seen))[event] + np.rint(seen.ravel() * 1e9).astype("m8[ns]"),
        "weight": np.ones(event.size),
    }
    return picks_table(columns, "swarm")


def _correlations(
    rng: np.random.Generator, time: Array, seen: Array, pairs: Array, ids: tuple[Array, Array]
) -> xr.Dataset:
    """What `correlate` would return of one phase: lags of what is left after the picks have been lined up."""
    first, second = np.repeat(pairs, time.shape[1], axis=0).T
    station = np.tile(np.arange(time.shape[1]), len(pairs))
    lined_up = seen[first, station] - seen[second, station]
    lag = time[first, station] - time[second, station] + rng.normal(0, LAG_S, len(first)) - lined_up
    coordinates = {"event_id_1": ids[0][first], "event_id_2": ids[0][second], "station_id": ids[1][station]}
    return xr.Dataset(
        {"correlation": ("record", np.full(len(lag), 0.9)), "lag": ("record", lag)},
        coords={name: ("record", values) for name, values in coordinates.items()},
    )


def rays(place: Array, at: Array) -> tuple[Array, Array]:
    """Travel times (event, station, phase) [s] and slopes (event, station, phase, 4)."""
    away = place[:, None, :2] - at
    distance = np.hypot(away[..., 0], away[..., 1])
    depth = np.broadcast_to(place[:, 2:3], distance.shape)
    times, slopes = [], []
    for velocity in (MODEL.p_km_s, MODEL.s_km_s):
        found = first_arrivals(distance.ravel(), depth.ravel(), 0.0, np.array(MODEL.top_km), np.array(velocity))
        time, along, down = found.reshape(3, *distance.shape)
        across = away * (along / distance)[..., None]
        times.append(time)
        slopes.append(np.concatenate([across, down[..., None], np.ones_like(down)[..., None]], axis=-1))
    return np.stack(times, axis=-1), np.stack(slopes, axis=2)


def implied_errors(made: Swarm, *, correlated: bool = True) -> Array:
    """Standard errors (event, 3) [km] relative to the mean that no unbiased method can beat (Cramér and Rao)."""
    n = len(made.truth)
    information = np.zeros((n, 4, n, 4))
    for phase, noise in enumerate(PICK_S):
        g = made.slopes[:, :, phase]
        for i in range(n):
            information[i, :, i] += g[i].T @ g[i] / noise**2
        for i, j in made.pairs if correlated else ():
            for (a, ga), (b, gb) in ((x, y) for x in ((i, g[i]), (j, -g[j])) for y in ((i, g[i]), (j, -g[j]))):
                information[a, :, b] += ga.T @ gb / LAG_S**2
    covariance = np.linalg.inv(information.reshape(4 * n, 4 * n))
    without_mean = np.kron(np.eye(n) - 1 / n, np.eye(4))
    variance = np.diag(without_mean @ covariance @ without_mean.T).reshape(n, 4)[:, :3]
    return np.sqrt(variance)


def relative_error(made: Swarm, relocation: xr.Dataset) -> Array:
    """Places less the true ones (event, 3) [m], without the mean of that."""
    east, north = FRAME.km(relocation.latitude.values, relocation.longitude.values)
    apart = np.stack([east, north, relocation.depth.values], axis=1) - made.truth
    error: Array = (apart - np.nanmean(apart, axis=0)) * 1000
    return error


def shifted_apart(ours: xr.Dataset, theirs: xr.Dataset) -> Array:
    """How far the same events lie apart (event, 3) [m], without the mean of that."""
    order = {each: i for i, each in enumerate(ours.event_id.values.tolist())}
    same = ours.isel(event=[order[each] for each in theirs.event_id.values.tolist()])
    frame = LocalFrame(float(theirs.latitude.mean()), float(theirs.longitude.mean()))
    places = [
        np.stack([*frame.km(each.latitude.values, each.longitude.values), each.depth.values], 1)
        for each in (same, theirs)
    ]
    apart: Array = (places[0] - places[1]) * 1000
    apart -= apart.mean(axis=0)
    return apart


def write(made: Swarm, folder: Path) -> Path:
    """HypoDD's files of the swarm, each event paired with its three nearest."""
    (written,) = write_hypodd(
        made.catalog, made.stations, made.picks, folder, settings=Settings(MODEL), pairing=Pairing(max_neighbors=3),
        correlations=made.correlations,
    )  # fmt: skip
    return written


def lines(path: Path) -> list[str]:
    """The lines of a text file."""
    return path.read_text().splitlines()
