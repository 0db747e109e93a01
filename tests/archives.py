"""Small tables and files for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.tables import catalog_table, stations_table, texts

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr


def events_table(names: list[str], times: list[str]) -> xr.Dataset:
    zeros = {name: np.zeros(len(names)) for name in ("latitude", "longitude", "depth", "magnitude")}
    return catalog_table(
        {"event_id": texts(names), "origin_time": np.array(times, "datetime64[ns]"), **zeros}, "a test"
    )


def channels_table(*names: str) -> xr.Dataset:
    zeros = {name: np.zeros(len(names)) for name in ("latitude", "longitude", "elevation")}
    return stations_table({"station_id": texts(list(names)), **zeros}, "a test")


def write_trace(path: Path, name: str, start: str, samples: np.ndarray[Any, Any], rate: float = 100.0) -> None:
    obspy = load_obspy()
    codes = dict(zip(("network", "station", "location", "channel"), name.split("."), strict=True))
    header = {**codes, "sampling_rate": rate, "starttime": obspy.UTCDateTime(start)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet_obspy():
        obspy.Trace(samples, header).write(str(path), format="MSEED")
