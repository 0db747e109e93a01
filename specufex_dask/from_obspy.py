"""Turn ObsPy's Catalog and Inventory, or files of them, into the Datasets of events, stations and picks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.tables import catalog_table, picks_table, stations_table, texts

if TYPE_CHECKING:
    import xarray as xr

    from specufex_dask.fetching import File

_M_PER_KM = 1000.0


def load(file: File, reader: str, expected: str) -> Any:  # noqa: ANN401 - ObsPy has no types
    """What ObsPy's function `reader` makes of `file`; ``ValueError`` that says what was `expected` if it cannot."""
    read = getattr(load_obspy(), reader)
    with quiet_obspy():
        try:
            return read(io.BytesIO(file.content))
        # ObsPy's readers raise whatever the content leads them to.
        except Exception as error:
            msg = (
                f"got {file.name}, which ObsPy cannot read ({type(error).__name__}: {error}), expected {expected}: "
                f"convert it, or rename it."
            )
            raise ValueError(msg) from error


def event_name(resource_id: str) -> str:
    """The last part of the path of a QuakeML resource id, or its query's ``eventid``.

    Examples
    --------
    >>> event_name("quakeml:nc.anss.org/Event/NC/72282711")
    '72282711'
    >>> event_name("quakeml:earthquake.usgs.gov/fdsnws/event/1/query?eventid=us7000abcd&format=quakeml")
    'us7000abcd'
    """
    query = parse_qs(urlsplit(resource_id).query)
    if "eventid" in query:
        return query["eventid"][0]
    return resource_id.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]


def catalog_from_obspy(catalog: Any, source: str = "the ObsPy Catalog") -> xr.Dataset:  # noqa: ANN401 - ObsPy has no types
    """Stage ``catalog``: the preferred origin and magnitude of each event, or else its first."""
    _check_kind(catalog, hasattr(catalog, "events"), "catalog", "an ObsPy Catalog")
    names = [event_name(str(event.resource_id)) for event in catalog]
    origins = [_preferred(event, "origin") for event in catalog]
    if absent := [name for name, origin in zip(names, origins, strict=True) if not _placed(origin)]:
        msg = (
            f"got {len(absent)} events in {source} without origin time, latitude or longitude ({absent[:3]} …), "
            f"expected an origin for each: leave these events out, or locate them."
        )
        raise ValueError(msg)
    magnitudes = [_preferred(event, "magnitude") for event in catalog]
    columns = {
        "event_id": texts(names),
        "origin_time": _times([origin.time for origin in origins]),
        "latitude": _numbers([origin.latitude for origin in origins]),
        "longitude": _numbers([origin.longitude for origin in origins]),
        "depth": _numbers([origin.depth for origin in origins]) / _M_PER_KM,
        "magnitude": _numbers([None if each is None else each.mag for each in magnitudes]),
    }
    return catalog_table(columns, source)


def stations_from_obspy(inventory: Any, source: str = "the ObsPy Inventory") -> xr.Dataset:  # noqa: ANN401 - ObsPy has no types
    """Stage ``stations``: every channel once; of several epochs, where the last one was."""
    _check_kind(inventory, hasattr(inventory, "networks"), "stations", "an ObsPy Inventory")
    channels = {
        f"{network.code}.{station.code}.{channel.location_code or ''}.{channel.code}": channel
        for network in inventory
        for station in network
        for channel in sorted(station, key=lambda each: each.start_date.ns if each.start_date else 0)
    }
    if not channels:
        msg = (
            f"got {source} without channels, expected those that the records come from: "
            f"request StationXML with level='channel' or level='response'."
        )
        raise ValueError(msg)
    columns = {
        "station_id": texts(list(channels)),
        "latitude": _numbers([channel.latitude for channel in channels.values()]),
        "longitude": _numbers([channel.longitude for channel in channels.values()]),
        "elevation": _numbers([channel.elevation for channel in channels.values()]),
    }
    return stations_table(columns, source)


def picks_from_obspy(catalog: Any, source: str = "the ObsPy Catalog") -> xr.Dataset:  # noqa: ANN401 - ObsPy has no types
    """Stage ``picks``: every pick; phase and weight from the arrival of the preferred origin that uses it."""
    _check_kind(catalog, hasattr(catalog, "events"), "picks", "an ObsPy Catalog")
    rows = []
    for event in catalog:
        name, origin = event_name(str(event.resource_id)), _preferred(event, "origin")
        arrivals = {str(each.pick_id): each for each in (origin.arrivals if origin else [])}
        for pick in event.picks:
            arrival = arrivals.get(str(pick.resource_id))
            phase = (arrival and arrival.phase) or pick.phase_hint or ""
            weight = 1.0 if arrival is None or arrival.time_weight is None else float(arrival.time_weight)
            rows.append((name, _channel(pick.waveform_id), phase, pick.time, weight))
    event_id, station_id, phases, times, weights = zip(*rows, strict=True) if rows else ([], [], [], [], [])
    columns = {
        "event_id": texts(list(event_id)),
        "station_id": texts(list(station_id)),
        "phase": texts(list(phases)),
        "time": _times(list(times)),
        "weight": np.array(weights, dtype=np.float64),
    }
    return picks_table(columns, source)


def _check_kind(given: object, fits: bool, name: str, expected: str) -> None:  # noqa: FBT001 - one condition, as in an assertion
    if not fits:
        msg = f"got {name} of type {type(given).__name__}, expected {expected}, or a path: pass one of these."
        raise TypeError(msg)


def _preferred(event: Any, kind: str) -> Any:  # noqa: ANN401 - ObsPy has no types
    found = getattr(event, f"preferred_{kind}")()
    every = getattr(event, f"{kind}s")
    return found or (every[0] if every else None)


def _placed(origin: Any) -> bool:  # noqa: ANN401 - ObsPy has no types
    return origin is not None and None not in (origin.time, origin.latitude, origin.longitude)


def _channel(waveform_id: Any) -> str:  # noqa: ANN401 - ObsPy has no types
    codes = [getattr(waveform_id, f"{part}_code", None) for part in ("network", "station", "location", "channel")]
    return ".".join(code or "" for code in codes)


def _times(values: list[Any]) -> np.ndarray[Any, Any]:
    return np.array([value.ns for value in values], dtype="datetime64[ns]")


def _numbers(values: list[Any]) -> np.ndarray[Any, Any]:
    return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
