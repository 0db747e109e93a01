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
    then the one of the largest weight, then the earliest.

    Raises
    ------
    ValueError
        `anchor` is a phase, and there are no picks, or none of it.
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
    times = _best(chosen)
    missing = int(np.iinfo(np.int64).min)
    found = [
        times.get((event, station), times.get((event, _station(station)), missing))
        for event, station in zip(event_id, station_id, strict=True)
    ]
    return np.array(found, dtype=np.int64)


def _best(picks: xr.Dataset) -> dict[tuple[str, str], int]:
    """The time of the best pick, by event and channel, and by event and station (``NET.STA``)."""
    time_ns = picks.time.values.astype("datetime64[ns]").astype(np.int64)
    order = np.lexsort((time_ns, -np.nan_to_num(picks.weight.values)))
    best: dict[tuple[str, str], int] = {}
    for event, station, time in zip(
        picks.event_id.values[order], picks.station_id.values[order], time_ns[order].tolist(), strict=True
    ):
        best.setdefault((event, station), time)
        best.setdefault((event, _station(station)), time)
    return best


def _station(station_id: str) -> str:
    return ".".join(station_id.split(".")[:2])
