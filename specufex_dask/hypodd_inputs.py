"""What HypoDD is given: numbers for events, names for stations, picks and correlations as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.anchors import anchor_times, station_of, with_networks
from specufex_dask.hypodd_files import Events, Stations
from specufex_dask.pairs import places
from specufex_dask.tables import texts

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray[Any, np.dtype[Any]]

_LONGEST_NUMBER, _LONGEST_NAME = 9, 7
_LATEST_S = 999.0
_PHASES = {"P": 0, "S": 1}
_SECOND_NS = 1e9
_STEP_NS = 10_000_000
_CORRELATED = ("event_id_1", "event_id_2", "station_id", "phase", "correlation", "lag")
_NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Named:
    """Events and stations as HypoDD knows them, and their ids; `station_id` is a ``NET.STA``."""

    events: Events
    event_id: Array
    stations: Stations
    station_id: Array
    elevation: Array


def named(catalog: xr.Dataset, stations: xr.Dataset) -> Named:
    """Give numbers of nine digits and names of seven letters; origin times are rounded to those of HypoDD, 0.01 s.

    Ids of events that are such numbers are kept, or else all are counted from 1. A station is one
    NET.STA, wherever its channels say first, and its name NETSTA, or S and a number if that is
    too long.
    """
    ids = catalog.event_id.values.astype(object)
    unknown = np.flatnonzero(np.isnan(catalog.depth.values) | np.isnan(catalog.latitude.values))
    if unknown.size:
        msg = (
            f"got event {ids[unknown[0]]!r} without a depth or place ({unknown.size} such), expected both: choose "
            f"events with catalog.isel, or give them a depth."
        )
        raise ValueError(msg)
    plain = all(each.isdigit() and len(each) <= _LONGEST_NUMBER and each == str(int(each)) for each in ids.tolist())
    number = np.array([int(each) for each in ids] if plain else range(1, len(ids) + 1), np.int64)
    nanoseconds = catalog.origin_time.values.astype("M8[ns]").astype(np.int64)
    origin = ((nanoseconds + _STEP_NS // 2) // _STEP_NS * _STEP_NS).astype("M8[ns]")
    columns = (catalog[name].values.astype(float) for name in ("latitude", "longitude", "depth", "magnitude"))
    codes = [station_of(each) for each in stations.station_id.values.tolist()]
    station_id, where = np.unique(np.array(codes, object), return_index=True)
    names = [each.replace(".", "") for each in station_id.tolist()]
    if any(len(each) > _LONGEST_NAME for each in names) or len(set(names)) < len(names):
        names = [f"S{i:06d}" for i in range(len(names))]
    at = [stations[name].values[where].astype(float) for name in ("latitude", "longitude", "elevation")]
    return Named(Events(number, origin, *columns), ids, Stations(texts(names), *at[:2]), station_id, at[2])


def by_sequence(table: xr.Dataset, ends: tuple[str, ...], event_id: Array, label: Array) -> dict[int, xr.Dataset]:
    """The rows of `table` of each sequence, in memory: those whose events, named by `ends`, are all of it.

    `label` (event,) is the sequence of each event of `event_id`, below 0 for none. A sequence without
    rows is left out, and all are where `table` is not a table.
    """
    if any(name not in table.variables or table[name].ndim != 1 for name in ends):
        return {}
    (dimension,) = table[ends[0]].dims
    of_end = np.stack([np.append(label, -1)[places(table[name].values, event_id)] for name in ends])
    own = np.where((of_end == of_end[0]).all(axis=0), of_end[0], -1)
    order = np.argsort(own, kind="stable")
    numbers = np.unique(own[own >= 0])
    edges = np.searchsorted(own[order], [numbers, numbers + 1]).T.tolist()
    read = table.compute()
    return {k: read.isel({dimension: order[a:b]}) for k, (a, b) in zip(numbers.tolist(), edges, strict=True)}


def pick_columns(picks: xr.Dataset, known: Named) -> dict[str, Array]:
    """Event, station, phase (0 P, 1 S), time [s after the origin] and weight of the picks, sorted by the first three.

    Of several of an event, station and phase the heaviest, and of these the earliest. Picks of
    other events, stations and phases than P and S are left out, and those before the origin or
    999 s after it, which HypoDD's columns cannot hold.
    """
    networks = with_networks(picks.station_id.values, known.station_id + "..")
    rows = {each: i for i, each in enumerate(known.station_id.tolist())}
    numbers = {each: i for i, each in enumerate(known.event_id.tolist())}
    code = [station_of(each) for each in picks.station_id.values.tolist()]
    station = np.array([rows.get(networks.get(each, each), -1) for each in code], np.int64)
    event = np.array([numbers.get(each, -1) for each in picks.event_id.values.tolist()], np.int64)
    phase = np.array([_PHASES.get(each, -1) for each in picks.phase.values.tolist()], np.int64)
    nanoseconds = picks.time.values.astype("M8[ns]") - known.events.origin_time[event]
    time = nanoseconds.astype(np.int64) / _SECOND_NS
    weight = picks.weight.values.astype(float)
    kept = np.flatnonzero((station >= 0) & (event >= 0) & (phase >= 0) & (time >= 0) & (time < _LATEST_S))
    if kept.size == 0:
        msg = (
            f"got {picks.sizes['pick']} picks, none of a P or S of the events at the stations, expected some: pass the "
            f"picks of this catalogue, such as {picks.event_id.values[0]!r} at {picks.station_id.values[0]!r}."
        )
        raise ValueError(msg)
    order = kept[np.lexsort((time[kept], -weight[kept], phase[kept], station[kept], event[kept]))]
    key = (event[order] * len(rows) + station[order]) * 2 + phase[order]
    chosen = order[np.r_[True, key[1:] != key[:-1]]]
    found = {"event": event, "station": station, "phase": phase, "time": time, "weight": weight}
    return {name: values[chosen] for name, values in found.items()}


def correlation_columns(
    correlations: xr.Dataset, picks: xr.Dataset, known: Named, min_correlation: float
) -> dict[str, Array]:
    """First, second, station, phase, time [s] and weight of correlations between known events, pair by pair.

    The time is that of a dt.cc, travel time to the first event less that to the second,
    (pick_1 - origin_1) - (pick_2 - origin_2) + lag; the weight is the square of the correlation.
    """
    lacking = [name for name in _CORRELATED if name not in correlations.variables]
    if lacking:
        msg = f"got correlations without {lacking}, expected {list(_CORRELATED)}: pass what correlate returns."
        raise ValueError(msg)
    table = {name: np.atleast_1d(correlations[name].values) for name in _CORRELATED}
    size = max(map(len, table.values()))
    table = {name: np.broadcast_to(values, size) for name, values in table.items()}
    numbers = {each: i for i, each in enumerate(known.event_id.tolist())}
    rows = {each: i for i, each in enumerate(known.station_id.tolist())}
    ends = [np.array([numbers.get(e, -1) for e in table[n].tolist()], np.int64) for n in _CORRELATED[:2]]
    station = np.array([rows.get(station_of(each), -1) for each in table["station_id"].tolist()], np.int64)
    phase = np.array([_PHASES.get(each, -1) for each in table["phase"].tolist()], np.int64)
    kept = (table["correlation"] >= min_correlation) & np.isfinite(table["lag"])
    kept &= (np.minimum(*ends) >= 0) & (station >= 0) & (phase >= 0)
    travelled = [_travelled(table, end, kept, picks, known) for end in (1, 2)]
    kept &= np.isfinite(travelled[0]) & np.isfinite(travelled[1])
    time = travelled[0] - travelled[1] + table["lag"]
    order = np.flatnonzero(kept)
    order = order[np.lexsort((phase[order], station[order], ends[1][order], ends[0][order]))]
    found = {"first": ends[0], "second": ends[1], "station": station, "phase": phase}
    return {name: v[order] for name, v in {**found, "time": time, "weight": table["correlation"] ** 2}.items()}


def _travelled(table: dict[str, Array], end: int, kept: Array, picks: xr.Dataset, known: Named) -> Array:
    """Travel time [s] of the pick that the window of each correlation hung on, by the rule that placed it."""
    seconds = np.full(len(kept), np.nan)
    origin = dict(zip(known.event_id.tolist(), known.events.origin_time.astype(np.int64).tolist(), strict=True))
    for phase in sorted(set(table["phase"][kept].tolist())):
        rows = np.flatnonzero(kept & (table["phase"] == phase))
        event = table[f"event_id_{end}"][rows]
        zero = np.zeros(len(rows), np.int64)
        at = anchor_times(phase, picks, event.astype(object), table["station_id"][rows].astype(object), zero)
        start = np.array([origin[each] for each in event.tolist()], np.int64)
        seconds[rows] = np.where(at == _NO_TIME, np.nan, (at - np.where(at == _NO_TIME, 0, start)) / _SECOND_NS)
    return seconds
