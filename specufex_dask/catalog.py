"""Bring in who, where and when: events, stations and picks from the files of many centres, or from ObsPy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask import hdf5, schema
from specufex_dask.access import shown
from specufex_dask.catalog_formats import read_events
from specufex_dask.csv_tables import NO_COLUMNS, Column, read_csv
from specufex_dask.fetching import fetch, is_place
from specufex_dask.from_obspy import catalog_from_obspy, load, picks_from_obspy, stations_from_obspy
from specufex_dask.objects import Objects
from specufex_dask.pick_formats import CODES, read_pick_rows, station_ids
from specufex_dask.tables import catalog_table, picks_table, stations_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import xarray as xr

    from specufex_dask.fetching import File

Array = np.ndarray[Any, Any]
_PLACE = ("latitude", "longitude")


def read_catalog(
    source: str | os.PathLike[str] | Sequence[str] | Any,  # noqa: ANN401 - ObsPy has no types
    *,
    columns: Mapping[str, str | None] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    r"""Read the events of a catalogue: one entry an event, in the order of the source.

    Parameters
    ----------
    source : path, URL, pattern, list of these, or ObsPy Catalog
        A file, an object at a URL that fsspec knows (``s3://``, ``https://``), all that a pattern
        with ``*`` fits, or several, one after the other. Each is

        - a CSV file (``.csv``) with the columns ``event_id``, ``origin_time`` (ISO 8601, UTC),
          ``latitude``, ``longitude`` [degrees], ``depth_km`` or ``depth_m``, ``magnitude``;
        - the yearly index (``…_catalog_index.csv``) or listing (``.catalog``) of SCEDC, or the
          ``.ehpcsv`` of NCEDC, whose columns are also those of the USGS's CSV;
        - HypoDD's phase file (``.pha``: its ``#`` lines), ``.loc`` or ``.reloc``;
        - one HDF5 file of SpecUFEx's tutorials (``.h5``), with the waveforms in it;
        - a file in any event format that ObsPy reads, such as QuakeML. The ``event_id`` is then
          the last part of the path of the event's resource id, or its query's ``eventid``.

        The content tells the format, so a HypoDD file may have any name. Seconds of 60 and more
        roll over into the next minute.
    columns : dict, optional
        Names of the columns of a CSV file that differ, ours to theirs, such as
        ``{"event_id": "evID"}``; None as a name says that the file has no such column (depth and
        magnitude only: NaN).
    storage_options : dict, optional
        Of fsspec, for URLs, such as ``{"anon": True}`` for a public bucket; not kept anywhere.

    Returns
    -------
    Dataset of stage ``catalog``
        ``origin_time``, ``latitude``, ``longitude`` [degrees], ``depth`` [km, positive down],
        ``magnitude`` (event), NaN where a depth or magnitude is empty or said to be none (SCEDC's
        and NCEDC's type ``n``; a HypoDD file in which all are 0); coordinate ``event_id``,
        the text as it stands in the source, with its leading zeros. Equal events have an equal
        recipe, wherever they were read from. Quarry blasts and the like are events too: choose
        with ``catalog.isel``.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        No such file or object, it may not be read, or its store fails.
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
    if not is_place(source):
        _refuse(columns)
        return catalog_from_obspy(source)
    if hdf5.is_hdf5(source):
        _refuse(columns)
        objects = Objects(dict(storage_options or {}))
        return catalog_table(hdf5.read_events(os.fspath(source), objects), _name(source))

    def read(file: File) -> dict[str, Array]:
        return read_events(file, columns) or _columns(catalog_from_obspy(*_loaded(file, "read_events")))

    return catalog_table(_joined(source, storage_options, read), _name(source))


def read_stations(
    source: str | os.PathLike[str] | Sequence[str] | Any,  # noqa: ANN401 - ObsPy has no types
    *,
    columns: Mapping[str, str | None] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    r"""Read the channels of a network: one entry a channel, named ``NET.STA.LOC.CHA``.

    Parameters
    ----------
    source : path, URL, pattern, list of these, or ObsPy Inventory
        As for `read_catalog`, such as ``s3://scedc-pds/FDSNstationXML/CI/CI_A*.xml``. Each is
        a CSV file (``.csv``) with the columns ``network``, ``station``, ``location``,
        ``channel``, ``latitude``, ``longitude`` [degrees], ``elevation_m``; or a file in any
        station format that ObsPy reads, such as StationXML down to the channels. Of several
        epochs of a channel the last one says where it is.
    columns : dict, optional
        Names of the columns of a CSV file that differ, ours to theirs; None for no elevation.
    storage_options : dict, optional
        Of fsspec, for URLs, such as ``{"anon": True}`` for a public bucket; not kept anywhere.

    Returns
    -------
    Dataset of stage ``stations``
        ``latitude``, ``longitude`` [degrees], ``elevation`` [m] (station); coordinate
        ``station_id``.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        No such file or object, it may not be read, or its store fails.
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
    if not is_place(source):
        _refuse(columns)
        return stations_from_obspy(source)

    def read(file: File) -> dict[str, Array]:
        if file.extension == ".csv":
            return _station_rows(file, columns or {})
        _refuse(columns)
        return _columns(stations_from_obspy(*_loaded(file, "read_inventory")))

    return stations_table(_joined(source, storage_options, read), _name(source))


def read_picks(
    source: str | os.PathLike[str] | Sequence[str] | Any,  # noqa: ANN401 - ObsPy has no types
    *,
    columns: Mapping[str, str | None] | None = None,
    catalog: xr.Dataset | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    r"""Read the picks of a catalogue: one entry a pick.

    Parameters
    ----------
    source : path, URL, pattern, list of these, or ObsPy Catalog
        As for `read_catalog`, such as ``s3://scedc-pds/event_phases/2019/2019_187/*.phase``. Each is

        - a CSV file (``.csv``) with the columns ``event_id``, ``network``, ``station``,
          ``location``, ``channel``, ``phase``, ``time`` (ISO 8601, UTC) and, if it likes,
          ``weight`` (0 to 1);
        - a phase file of SCEDC (``.phase``); the weight is the quality of the pick;
        - a phase file of HypoDD (``.pha``), whose stations have no network: ``station_id`` is
          ``.STA..``. A record of ``NET.STA`` takes such a pick where STA is its station's code,
          or its network's and its station's, such as ``NCCSP``. A negative weight ("always
          keep") loses its sign;
        - a file in any event format that ObsPy reads, such as QuakeML. Phase and weight are
          those of the arrival at the preferred origin, or else the phase hint and 1.
    columns : dict, optional
        Names of the columns of a CSV file that differ, ours to theirs.
    catalog : Dataset of stage ``catalog``, optional
        Origin times for phase files of SCEDC whose header has none. Where the file has one, its
        travel times count from it, whatever the catalogue says.
    storage_options : dict, optional
        Of fsspec, for URLs, such as ``{"anon": True}`` for a public bucket; not kept anywhere.

    Returns
    -------
    Dataset of stage ``picks``
        ``event_id``, ``station_id``, ``phase``, ``time`` (UTC), ``weight`` (pick).

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        No such file or object, it may not be read, or its store fails.
    ValueError
        A column is missing, a time or number cannot be read, an origin time is not known, there
        is no pick.

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
    if not is_place(source):
        _refuse(columns)
        return picks_from_obspy(source)
    if catalog is not None:
        schema.require(catalog, "catalog")

    def read(file: File) -> dict[str, Array]:
        rows = read_pick_rows(file, columns, catalog)
        return rows or _columns(picks_from_obspy(*_loaded(file, "read_events")))

    return picks_table(_joined(source, storage_options, read), _name(source))


def _joined(
    source: Any,  # noqa: ANN401 - a path or several
    storage_options: Mapping[str, Any] | None,
    read: Callable[[File], dict[str, Array]],
) -> dict[str, Array]:
    """The columns of all files, one below the other."""
    parts = [read(file) for file in fetch(source, storage_options)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _name(source: Any) -> str:  # noqa: ANN401 - a path or several
    places = [shown(os.fspath(each)) for each in (source if isinstance(source, (list, tuple)) else [source])]
    return places[0] if len(places) == 1 else f"{places[0]} … {places[-1]} ({len(places)} files)"


def _columns(table: xr.Dataset) -> dict[str, Array]:
    return {str(name): array.values for name, array in table.variables.items()}


def _station_rows(file: File, names: Mapping[str, str | None]) -> dict[str, Array]:
    table = read_csv(file, (*CODES, *_PLACE, "elevation_m"), names)
    return {
        "station_id": station_ids(table, names),
        **{name: table.need(Column(name, "number"), names) for name in _PLACE},
        "elevation": table.need(Column("elevation_m", "number", may_be_empty=True), names),
    }


def _refuse(columns: Mapping[str, str | None] | None) -> None:
    if columns:
        raise ValueError(NO_COLUMNS)


def _loaded(file: File, reader: str) -> tuple[Any, str]:
    """What ObsPy makes of a file, and the file's name."""
    ours = "read_stations" if reader == "read_inventory" else "read_catalog or read_picks"
    expected = (
        f"a CSV file named '.csv', one of the formats in the help of specufex_dask.{ours}, or one of obspy.{reader}, "
        f"such as QuakeML or StationXML"
    )
    return load(file, reader, expected), file.name
