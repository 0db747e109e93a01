"""The time that each record's window hangs on: the origin time, the start of the file, a pick or a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask import schema
from specufex_dask.predicted import is_velocity_model, predicted_times

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray[Any, Any]
NOT_PHASES = ("origin", "file_start")
"""Anchors that need no picks."""
FALLBACK = "a velocity of the phase above 0 km/s, or the name of a 1-D model of TauP such as 'iasp91'"
_NO_PICK = int(np.iinfo(np.int64).min)
_PICKED, _PREDICTED, _UNKNOWN = range(len(schema.ANCHORS))


@dataclass(frozen=True)
class Rows:
    """Who each record is, and when: arrays (record,), times in ns since 1970.

    `anchor` says how the phase is known that a window hangs on, as a position in `schema.ANCHORS`;
    None for windows that hang on no phase.
    """

    event_id: Array
    station_id: Array
    origin_ns: Array
    anchor_ns: Array
    anchor: Array | None = None


def event_major(
    catalog: xr.Dataset, stations: xr.Dataset, anchor: str, picks: xr.Dataset | None, fallback: float | str | None
) -> Rows:
    """All stations of the first event, then all of the second; errors are those of `anchor_times`.

    Where there is no pick of a phase, its time is predicted by `fallback`, the velocity model of
    `predicted.predicted_times`, if there is one, and is not known if not.
    """
    _check_fallback(fallback, anchor)
    n_events, n_stations = catalog.sizes["event"], stations.sizes["station"]
    event_id = np.repeat(catalog.event_id.values.astype(object), n_stations)
    station_id = np.tile(stations.station_id.values.astype(object), n_events)
    origin_ns = np.repeat(_ns(catalog.origin_time), n_stations)
    if picks is None and fallback is not None:
        anchor_ns = np.full(event_id.size, _NO_PICK)
    else:
        anchor_ns = anchor_times(anchor, picks, event_id, station_id, origin_ns)
    if anchor in NOT_PHASES:
        return Rows(event_id, station_id, origin_ns, anchor_ns)
    return Rows(event_id, station_id, origin_ns, *_with_predictions(anchor_ns, catalog, stations, anchor, fallback))


def _check_fallback(fallback: float | str | None, anchor: str) -> None:
    if fallback is None:
        return
    if not is_velocity_model(fallback):
        msg = f"got fallback={fallback!r}, expected None, {FALLBACK}: correct it."
        raise ValueError(msg)
    if anchor in NOT_PHASES:
        msg = f"got fallback={fallback!r} without a window on a phase, expected one: pass window= and anchor='P'."
        raise ValueError(msg)


def _with_predictions(
    anchor_ns: Array, catalog: xr.Dataset, stations: xr.Dataset, phase: str, fallback: float | str | None
) -> tuple[Array, Array]:
    """The anchors (record,) [ns], predicted where there is no pick, and how each is known (record,)."""
    lacking = (anchor_ns == _NO_PICK).reshape(catalog.sizes["event"], stations.sizes["station"])
    known = np.where(lacking, _UNKNOWN, _PICKED).astype(np.int8)
    events = np.flatnonzero(lacking.any(axis=1))
    if fallback is None or events.size == 0:
        return anchor_ns, known.ravel()
    predicted = predicted_times(catalog.isel(event=events), stations, phase=phase, velocity_model=fallback)
    filled = anchor_ns.reshape(lacking.shape).copy()
    filled[events] = np.where(lacking[events], _ns(predicted), filled[events])
    known[lacking & (filled != _NO_PICK)] = _PREDICTED
    return filled.ravel(), known.ravel()


def _ns(times: xr.DataArray) -> Array:
    return times.values.astype("datetime64[ns]").astype(np.int64)


def anchor_times(anchor: str, picks: xr.Dataset | None, event_id: Array, station_id: Array, origin_ns: Array) -> Array:
    """Return the anchor of each record (record,) [ns since 1970], NaT as an integer where there is no pick.

    A pick of the channel itself is taken before one of another channel of the same station,
    then the one of the largest weight, then the earliest. A pick without a network (``.STA..``, as
    in HypoDD's files) is one of the station whose network and station codes joined are STA, or
    else of the one whose station code is STA.

    Raises
    ------
    ValueError
        `anchor` is a phase, and there are no picks, or none of it; a pick without a network is
        one of several stations.
    """
    if anchor in NOT_PHASES:
        return origin_ns
    if picks is None:
        msg = (
            f"got anchor={anchor!r} without picks, expected one of {list(NOT_PHASES)}, or a phase and its picks: "
            f"pass picks=read_picks(...), or fallback= to predict its times."
        )
        raise ValueError(msg)
    schema.require(picks, "picks")
    chosen = picks.isel(pick=np.flatnonzero(picks.phase.values == anchor))
    if chosen.sizes["pick"] == 0:
        phases = sorted(set(picks.phase.values.tolist()))
        msg = f"got anchor={anchor!r}, expected one of {[*NOT_PHASES, *phases]} (the phases of the picks): use one."
        raise ValueError(msg)
    times = _best(chosen, with_networks(chosen.station_id.values, station_id))
    found = [
        times.get((event, station), times.get((event, station_of(station)), _NO_PICK))
        for event, station in zip(event_id, station_id, strict=True)
    ]
    return np.array(found, dtype=np.int64)


def with_networks(pick_station: Array, station_id: Array) -> dict[str, str]:
    """The ``NET.STA`` among the records of each station that picks name without a network."""
    bare = {station_of(name) for name in set(pick_station.tolist()) if name.startswith(".")}
    if not bare:
        return {}
    joined: dict[str, set[str]] = {}
    alone: dict[str, set[str]] = {}
    for name in {station_of(each) for each in set(station_id.tolist())}:
        joined.setdefault("." + name.replace(".", ""), set()).add(name)
        alone.setdefault("." + name.partition(".")[2], set()).add(name)
    meant = {name: sorted(joined.get(name) or alone.get(name) or {name}) for name in bare}
    if several := {name: found for name, found in meant.items() if len(found) > 1}:
        name, found = next(iter(sorted(several.items())))
        msg = (
            f"got picks of station {name[1:]!r} without a network, and records of {found}, expected one of these: "
            f"write the network before the station in the picks, such as {found[0].replace('.', '')!r}, or pass "
            f"station_id= without the others."
        )
        raise ValueError(msg)
    return {name: found[0] for name, found in meant.items()}


def _best(picks: xr.Dataset, networks: dict[str, str]) -> dict[tuple[str, str], int]:
    """The time of the best pick, by event and channel, and by event and station (``NET.STA``)."""
    time_ns = _ns(picks.time)
    order = np.lexsort((time_ns, -np.nan_to_num(picks.weight.values)))
    best: dict[tuple[str, str], int] = {}
    for event, name, time in zip(
        picks.event_id.values[order], picks.station_id.values[order], time_ns[order].tolist(), strict=True
    ):
        station = station_of(name)
        best.setdefault((event, name), time)
        best.setdefault((event, networks.get(station, station)), time)
    return best


def station_of(station_id: str) -> str:
    """``NET.STA`` of ``NET.STA.LOC.CHA``."""
    return ".".join(station_id.split(".")[:2])
