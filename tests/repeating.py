"""Catalogues, clusters and correlations made by hand, and the published ones, for tests of repeaters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from specufex_dask.recipe import stamp
from specufex_dask.tables import catalog_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

DEGREE_M = 110_975.0
"""Metres along the meridian of 36 degrees north."""


def names(numbers: Any) -> Array:
    return np.array([f"e{number}" for number in numbers], dtype=object)


def catalog(north_m: Any, magnitude: Any, *, depth_m: Any = 5000.0, longitude: Any = -121.0) -> xr.Dataset:
    """Events a year apart on a meridian."""
    north = np.asarray(north_m, dtype=float)
    n_events = len(north)
    columns = {
        "event_id": names(range(n_events)),
        "origin_time": np.datetime64("2000-01-01", "ns") + np.arange(n_events) * np.timedelta64(365, "D"),
        "latitude": 36 + north / DEGREE_M,
        "longitude": np.broadcast_to(longitude, n_events).astype(float),
        "depth": np.broadcast_to(depth_m, n_events) / 1000,
        "magnitude": np.broadcast_to(magnitude, n_events).astype(float),
    }
    return catalog_table(columns, "made by hand")


def merged(cluster: Any) -> xr.Dataset:
    """The stage ``events`` of the cluster of each event."""
    label = np.asarray(cluster, dtype="int32")
    ones = np.ones(len(label))
    dataset = xr.Dataset(
        {"cluster": ("event", label), "n_stations": ("event", ones.astype(int)), "agreement": ("event", ones)},
        coords={"event_id": ("event", names(range(len(label))))},
    )
    return stamp(dataset, "events", {}, content=str(label.tolist()))


def station(station_id: str, labels: Any, event: Sequence[int] | None = None) -> xr.Dataset:
    """The stage ``clusters`` of one station, with one row of `labels` (number, record) for each number tried."""
    label = np.asarray(labels, dtype="int32")
    n_records = label.shape[1]
    numbers = range(n_records) if event is None else event
    dataset = xr.Dataset(
        {
            "cluster": ("record", label[0]), "labels": (("n_clusters", "record"), label),
            "distance": ("record", np.ones(n_records)), "silhouette": ("record", np.zeros(n_records)),
            "mean_silhouette": ("n_clusters", np.zeros(len(label))), "quality": ("record", np.zeros(n_records, "int8")),
            "centroid": (("cluster_id", "state", "next_state"), np.zeros((1, 2, 2))),
        },
        coords={
            "event_id": ("record", names(numbers)),
            "station_id": ("record", np.full(n_records, station_id, dtype=object)),
            "start_time": ("record", np.full(n_records, np.datetime64("2020-01-01", "ns"))),
            "n_clusters": label.max(axis=1) + 1,
        },
    )  # fmt: skip
    return stamp(dataset, "clusters", {}, content=f"{station_id} {label.tolist()} {list(numbers)}")


def correlations(rows: Sequence[tuple[int, int, str, float]]) -> xr.Dataset:
    """The stage ``correlations`` of rows of first event, second event, station and coefficient."""
    first, second, stations, values = zip(*rows, strict=True)
    n_rows = len(rows)
    dataset = xr.Dataset(
        {
            "correlation": ("record", np.array(values)), "lag": ("record", np.zeros(n_rows)),
            "quality": ("record", np.zeros(n_rows, "int8")),
        },
        coords={
            "event_id_1": ("record", names(first)), "event_id_2": ("record", names(second)),
            "station_id": ("record", np.array(stations, dtype=object)),
            "phase": ("record", np.full(n_rows, "P", dtype=object)),
        },
    )  # fmt: skip
    return stamp(dataset, "correlations", {}, content=str(rows))


def reference(sequence: Any, event: Sequence[int] | None = None) -> xr.Dataset:
    """A catalogue of repeaters: the sequence of each event."""
    values = np.asarray(sequence)
    numbers = range(len(values)) if event is None else event
    return xr.Dataset({"sequence": ("event", values)}, coords={"event_id": ("event", names(numbers))})


def published(data_dir: Path) -> tuple[xr.Dataset, Array]:
    """The 3,968 events of the 2023 study, and the name of each one's sequence of 2021, ``"0"`` for none."""
    table = pd.read_csv(data_dir / "res_catalogs" / "NCADDiff_5km_2019_500mFault_WS21.csv")
    columns = {
        "event_id": table.event_ID.astype(str).to_numpy(object),
        "origin_time": _times(table),
        "latitude": table.lat.to_numpy(),
        "longitude": table.long.to_numpy(),
        "depth": table.depth_km.to_numpy(),
        "magnitude": table.magnitude.to_numpy(),
    }
    return catalog_table(columns, "NCADDiff"), table.RID.to_numpy(object)


def numbered(name: Array) -> Array:
    """A number for each name of a sequence, -1 for ``"0"``."""
    return np.asarray(pd.factorize(np.array([None if each == "0" else each for each in name], dtype=object))[0])


def final(data_dir: Path) -> pd.DataFrame:
    """The 3,158 relocated events in 488 sequences that the 2023 study ended with, with their times."""
    table = pd.read_csv(data_dir / "res_catalogs" / "reloc_cat_final_Rx0_1Stations_20230325.csv", dtype={"RID": str})
    return table.assign(time=_times(table))


def sequences_of_2021(data_dir: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The 7,713 sequences of Waldhauser & Schaff (2021), and the day of each of their events."""
    heads, events = [], []
    text = (data_dir / "res_catalogs" / "NCA_REPQcat_20210919_noMeta_v2.csv").read_text()
    for line in text.splitlines()[1:]:
        cells = line.split(",")
        if cells[0] == "#":
            heads.append((int(cells[1]), float(cells[7]), float(cells[8]), float(cells[9])))
        else:
            events.append((len(heads) - 1, int(cells[6])))
    named = pd.DataFrame(heads, columns=["n_events", "median", "deviation", "variation"])
    return named, pd.DataFrame(events, columns=["sequence", "day"])


def _times(table: pd.DataFrame) -> Array:
    parts = ["year", "month", "day", "hour", "minute", "second"]
    return pd.to_datetime(table[parts]).to_numpy("datetime64[ns]")
