"""Bring in who, where and when: events, stations and picks from CSV, QuakeML, StationXML or ObsPy objects."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.csv_tables import Column, CsvFile, read_csv
from specufex_dask.from_obspy import catalog_from_obspy, picks_from_obspy, stations_from_obspy
from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.tables import catalog_table, picks_table, stations_table, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import xarray as xr

_M_PER_KM = 1000.0
_CODES = ("network", "station", "location", "channel")
_PLACE = ("latitude", "longitude")


def read_catalog(
    source: str | os.PathLike[str] | Any,  # noqa: ANN401 - ObsPy has no types
    *,
    columns: Mapping[str, str | None] | None = None,
) -> xr.Dataset:
    r"""Read the events of a catalogue: one entry an event, in the order of the source.

    Parameters
    ----------
    source : path or ObsPy Catalog
        A CSV file (``.csv``) with the columns ``event_id``, ``origin_time`` (ISO 8601, UTC),
        ``latitude``, ``longitude`` [degrees], ``depth_km`` or ``depth_m``, ``magnitude``; or a
        file in any event format that ObsPy reads, such as QuakeML. The ``event_id`` of QuakeML
        is the last part of the path of the event's resource id, or its query's ``eventid``.
    columns : dict, optional
        Names of the columns of a CSV file that differ, ours to theirs, such as
        ``{"event_id": "evID"}``; None as a name says that the file has no such column (depth and
        magnitude only: NaN).

    Returns
    -------
    Dataset of stage ``catalog``
        ``origin_time``, ``latitude``, ``longitude`` [degrees], ``depth`` [km, positive down],
        ``magnitude`` (event), NaN where a depth or magnitude is empty; coordinate ``event_id``,
        the text as it stands in the source, with its leading zeros. Equal events have an equal
        recipe, wherever they were read from.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A column is missing, a time or number cannot be read, an event_id is repeated or empty,
        a place is not on the globe.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "events.csv"
    ...     _ = path.write_text(
    ...         "event_id,origin_time,latitude,longitude,depth_m,magnitude\n"
    ...         "070614093058,2007-06-14T09:30:58,45.97,7.80,4.6,\n"
    ...     )
    ...     catalog = read_catalog(path)
    >>> catalog.event_id.item(), catalog.depth.item(), catalog.magnitude.item()
    ('070614093058', 0.0046, nan)
    """
    if not (table := _csv(source, ("event_id", "origin_time", *_PLACE, "depth_km", "depth_m", "magnitude"), columns)):
        return catalog_from_obspy(*_loaded(source, "read_events"))
    names = columns or {}
    metres = table.get(Column("depth_m", "number", may_be_empty=True)) if "depth_km" not in table.cells else None
    if metres is not None:
        depth = metres / _M_PER_KM
    else:
        depth = table.need(Column("depth_km", "number", may_be_empty=True), {"depth_km": "", **_either(names)})
    values = {
        "event_id": table.need(Column("event_id"), names),
        "origin_time": table.need(Column("origin_time", "time"), names),
        **{name: table.need(Column(name, "number"), names) for name in _PLACE},
        "depth": depth,
        "magnitude": table.need(Column("magnitude", "number", may_be_empty=True), names),
    }
    return catalog_table(values, table.path)


def read_stations(
    source: str | os.PathLike[str] | Any,  # noqa: ANN401 - ObsPy has no types
    *,
    columns: Mapping[str, str | None] | None = None,
) -> xr.Dataset:
    r"""Read the channels of a network: one entry a channel, named ``NET.STA.LOC.CHA``.

    Parameters
    ----------
    source : path or ObsPy Inventory
        A CSV file (``.csv``) with the columns ``network``, ``station``, ``location``,
        ``channel``, ``latitude``, ``longitude`` [degrees], ``elevation_m``; or a file in any
        station format that ObsPy reads, such as StationXML down to the channels. Of several
        epochs of a channel the last one says where it is.
    columns : dict, optional
        Names of the columns of a CSV file that differ, ours to theirs; None for no elevation.

    Returns
    -------
    Dataset of stage ``stations``
        ``latitude``, ``longitude`` [degrees], ``elevation`` [m] (station); coordinate
        ``station_id``.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A column is missing, a number cannot be read, a channel is repeated, an inventory has no
        channels.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "channels.csv"
    ...     _ = path.write_text(
    ...         "network,station,location,channel,latitude,longitude,elevation_m\n4D,G7J1,,SHZ,45.97,7.80,2528\n"
    ...     )
    ...     stations = read_stations(path)
    >>> stations.station_id.item(), stations.elevation.item()
    ('4D.G7J1..SHZ', 2528.0)
    """
    if not (table := _csv(source, (*_CODES, *_PLACE, "elevation_m"), columns)):
        return stations_from_obspy(*_loaded(source, "read_inventory"))
    names = columns or {}
    values = {
        "station_id": _station_id(table, names),
        **{name: table.need(Column(name, "number"), names) for name in _PLACE},
        "elevation": table.need(Column("elevation_m", "number", may_be_empty=True), names),
    }
    return stations_table(values, table.path)


def read_picks(
    source: str | os.PathLike[str] | Any,  # noqa: ANN401 - ObsPy has no types
    *,
    columns: Mapping[str, str | None] | None = None,
) -> xr.Dataset:
    r"""Read the picks of a catalogue: one entry a pick.

    Parameters
    ----------
    source : path or ObsPy Catalog
        A CSV file (``.csv``) with the columns ``event_id``, ``network``, ``station``,
        ``location``, ``channel``, ``phase``, ``time`` (ISO 8601, UTC) and, if it likes,
        ``weight`` (0 to 1); or a file in any event format that ObsPy reads, such as QuakeML.
        There, phase and weight are those of the arrival at the preferred origin, or else the
        phase hint and 1.
    columns : dict, optional
        Names of the columns of a CSV file that differ, ours to theirs.

    Returns
    -------
    Dataset of stage ``picks``
        ``event_id``, ``station_id``, ``phase``, ``time`` (UTC), ``weight`` (pick).

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A column is missing, a time or number cannot be read, there is no pick.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "picks.csv"
    ...     _ = path.write_text(
    ...         "event_id,network,station,location,channel,phase,time\n007,4D,G7J1,,SHZ,P,2007-06-14T09:30:59.2\n"
    ...     )
    ...     picks = read_picks(path)
    >>> picks.event_id.item(), picks.phase.item(), picks.weight.item()
    ('007', 'P', 1.0)
    """
    if not (table := _csv(source, ("event_id", *_CODES, "phase", "time", "weight"), columns)):
        return picks_from_obspy(*_loaded(source, "read_events"))
    names = columns or {}
    weight = table.get(Column("weight", "number", may_be_empty=True))
    values = {
        "event_id": table.need(Column("event_id"), names),
        "station_id": _station_id(table, names),
        "phase": table.need(Column("phase"), names),
        "time": table.need(Column("time", "time"), names),
        "weight": np.ones(len(table.lines)) if weight is None else np.where(np.isnan(weight), 1.0, weight),
    }
    return picks_table(values, table.path)


def _either(names: Mapping[str, str | None]) -> dict[str, str | None]:
    """No depth in kilometres if the user said that there is none in either unit."""
    return {"depth_km": None} if None in (names.get("depth_km", ""), names.get("depth_m", "")) else {}


def _station_id(table: CsvFile, names: Mapping[str, str | None]) -> np.ndarray[Any, Any]:
    parts = [table.cells.get(code) for code in _CODES]
    for code, cells in zip(_CODES, parts, strict=True):
        if cells is None:
            table.need(Column(code), names)
    return texts([".".join(codes) for codes in zip(*(cells or [] for cells in parts), strict=True)])


def _csv(source: object, known: tuple[str, ...], columns: Mapping[str, str | None] | None) -> CsvFile | None:
    """The table of a CSV file; None for what ObsPy must read or has read."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if not Path(path).is_file():
            msg = f"got the path {path!r}, where there is no file, expected one: correct the path."
            raise FileNotFoundError(msg)
        if path.lower().endswith(".csv"):
            return read_csv(path, known, columns or {})
    if columns:
        msg = "got columns= for something other than a CSV file, expected none: leave columns out."
        raise ValueError(msg)
    return None


def _loaded(source: Any, reader: str) -> tuple[Any, ...]:  # noqa: ANN401 - ObsPy has no types
    """An ObsPy object as it is, or the one that a file holds with the file's path."""
    if not isinstance(source, (str, os.PathLike)):
        return (source,)
    path = os.fspath(source)
    read: Callable[[Any], Any] = getattr(load_obspy(), reader)
    with quiet_obspy():
        try:
            return read(io.BytesIO(Path(path).read_bytes())), path
        # ObsPy's readers raise whatever the content leads them to.
        except Exception as error:
            msg = (
                f"got {path}, which ObsPy cannot read ({type(error).__name__}: {error}), expected a CSV file named "
                f"'.csv', or a format of obspy.{reader}, such as QuakeML or StationXML: convert it, or rename it."
            )
            raise ValueError(msg) from error
