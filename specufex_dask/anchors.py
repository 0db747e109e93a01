"""The time that each record's window hangs on: the origin time, the start of the file, or a pick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask import schema

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray[Any, Any]
NOT_PHASES = ("origin", "file_start")
"""Anchors that need no picks."""


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
            f"pass picks=read_picks(...)."
        )
        raise ValueError(msg)
    schema.require(picks, "picks")
    chosen = picks.isel(pick=np.flatnonzero(picks.phase.values == anchor))
    if chosen.sizes["pick"] == 0:
        phases = sorted(set(picks.phase.values.tolist()))
        msg = f"got anchor={anchor!r}, expected one of {[*NOT_PHASES, *phases]} (the phases of the picks): use one."
        raise ValueError(msg)
    times = _best(chosen, _with_networks(chosen.station_id.values, station_id))
    missing = int(np.iinfo(np.int64).min)
    found = [
        times.get((event, station), times.get((event, _station(station)), missing))
        for event, station in zip(event_id, station_id, strict=True)
    ]
    return np.array(found, dtype=np.int64)


def _with_networks(pick_station: Array, station_id: Array) -> dict[str, str]:
    """The ``NET.STA`` among the records of each station that picks name without a network."""
    bare = {_station(name) for name in set(pick_station.tolist()) if name.startswith(".")}
    if not bare:
        return {}
    joined: dict[str, set[str]] = {}
    alone: dict[str, set[str]] = {}
    for name in {_station(each) for each in set(station_id.tolist())}:
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
    time_ns = picks.time.values.astype("datetime64[ns]").astype(np.int64)
    order = np.lexsort((time_ns, -np.nan_to_num(picks.weight.values)))
    best: dict[tuple[str, str], int] = {}
    for event, name, time in zip(
        picks.event_id.values[order], picks.station_id.values[order], time_ns[order].tolist(), strict=True
    ):
        station = _station(name)
        best.setdefault((event, name), time)
        best.setdefault((event, networks.get(station, station)), time)
    return best


def _station(station_id: str) -> str:
    return ".".join(station_id.split(".")[:2])
