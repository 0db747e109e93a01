"""Build the Datasets of events, stations and picks from columns, and check that they make sense."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask import recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = np.ndarray[Any, Any]
_N_SHOWN = 5


def catalog_table(columns: Mapping[str, Array], source: str) -> xr.Dataset:
    """Stage ``catalog`` from event_id, origin_time, latitude, longitude, depth [km] and magnitude, all (event,)."""
    _check_rows(columns["event_id"], "event", source)
    _check_unique(columns["event_id"], "event_id", source)
    _check_places(columns, "event_id", source)
    data = {name: ("event", columns[name]) for name in ("origin_time", "latitude", "longitude", "depth", "magnitude")}
    return _stamped(xr.Dataset(data, coords={"event_id": ("event", columns["event_id"])}), "catalog")


def stations_table(columns: Mapping[str, Array], source: str) -> xr.Dataset:
    """Stage ``stations`` from station_id, latitude, longitude and elevation [m], all (station,)."""
    _check_rows(columns["station_id"], "station", source)
    _check_unique(columns["station_id"], "station_id", source)
    _check_codes(columns["station_id"], source)
    _check_places(columns, "station_id", source)
    data = {name: ("station", columns[name]) for name in ("latitude", "longitude", "elevation")}
    return _stamped(xr.Dataset(data, coords={"station_id": ("station", columns["station_id"])}), "stations")


def picks_table(columns: Mapping[str, Array], source: str) -> xr.Dataset:
    """Stage ``picks`` from event_id, station_id, phase, time and weight, all (pick,)."""
    _check_rows(columns["event_id"], "pick", source)
    _check_codes(columns["station_id"], source)
    names = ("event_id", "station_id", "phase", "time", "weight")
    return _stamped(xr.Dataset({name: ("pick", columns[name]) for name in names}), "picks")


def texts(values: list[str]) -> Array:
    """An object array of strings: ids are never of fixed width."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _stamped(table: xr.Dataset, stage: str) -> xr.Dataset:
    """`table` with a recipe that says what it holds, wherever that was read from."""
    content = [part for name in sorted(map(str, table.variables)) for part in (name, _text(table[name].values))]
    return recipe.stamp(table, stage, {}, content=recipe.digest(*content))


def _text(values: Array) -> str:
    if values.dtype == object:
        return "\n".join(values.tolist())
    return np.ascontiguousarray(values).tobytes().hex()


def _check_rows(values: Array, kind: str, source: str) -> None:
    if values.size == 0:
        msg = f"got no {kind} in {source}, expected at least one: check that this is the right file."
        raise ValueError(msg)


def _check_unique(values: Array, name: str, source: str) -> None:
    if empty := [i + 1 for i, value in enumerate(values) if not value][:_N_SHOWN]:
        msg = f"got an empty {name} in {source} (entries {empty}), expected a name for each: fill them in."
        raise ValueError(msg)
    repeated = [f"{value} ({n} times)" for value, n in Counter(values.tolist()).items() if n > 1]
    if repeated:
        shown = ", ".join(repeated[:_N_SHOWN]) + (", …" if len(repeated) > _N_SHOWN else "")
        msg = f"got {len(repeated)} repeated {name} in {source}: {shown}; expected each once: keep one entry of each."
        raise ValueError(msg)


def _check_codes(values: Array, source: str) -> None:
    if wrong := [value for value in values if value.count(".") != 3][:_N_SHOWN]:  # noqa: PLR2004 - four codes
        msg = (
            f"got station_id {wrong} in {source}, expected NET.STA.LOC.CHA with three dots, such as '4D.G7J1..SHZ': "
            f"give network, station, location and channel, empty where there is none."
        )
        raise ValueError(msg)


def _check_places(columns: Mapping[str, Array], key: str, source: str) -> None:
    for name, low, high in (("latitude", -90, 90), ("longitude", -180, 360)):
        wrong = np.flatnonzero(~((columns[name] >= low) & (columns[name] <= high)))
        if wrong.size:
            shown = ", ".join(f"{columns[name][i]:g} at {columns[key][i]}" for i in wrong[:_N_SHOWN])
            msg = (
                f"got {wrong.size} entries with a {name} that cannot be in {source}: {shown}; expected degrees from "
                f"{low} to {high} (WGS84): convert metres of a national grid to degrees, and fill what is missing."
            )
            raise ValueError(msg)
