"""Read the picks of CSV files, SCEDC's phase files and HypoDD's, in which times count from the origin time."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.catalog_formats import PHA_EVENT, pha_event, text_table, wrong_line
from specufex_dask.csv_tables import NO_COLUMNS, Column, CsvFile, read_csv, rolled
from specufex_dask.tables import texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import xarray as xr

    from specufex_dask.fetching import File

Array = np.ndarray[Any, Any]
CODES = ("network", "station", "location", "channel")
_PICK_COLUMNS = ("event_id", *CODES, "phase", "time", "weight")
_TRAVELLED = ("event_id", *CODES, "phase", "origin_time", "travel_time", "weight")
_SCEDC_HEADER = re.compile(r"\s*#?\s*(?P<event>\S+)\s.*?(?P<date>\d{4}/\d{2}/\d{2}),(?P<minute>\d{2}:\d{2}):(?P<s>\S+)")
_SCEDC_FIELDS = 13
_PHA_FIELDS = 4
_NO_ORIGIN = "1970/01/01"
_SNIFFED_BYTES = 10_000


def read_pick_rows(
    file: File, columns: Mapping[str, str | None] | None, catalog: xr.Dataset | None
) -> dict[str, Array] | None:
    """The columns of stage ``picks`` from `file`; None if it is in none of the formats of this module."""
    if file.extension == ".csv":
        return _csv(file, columns or {})
    if columns:
        raise ValueError(NO_COLUMNS)
    first = next(iter(file.content[:_SNIFFED_BYTES].decode("latin-1").split("\n")), "")
    if PHA_EVENT.match(first) or file.extension == ".pha":
        return _values(text_table(file, _pha(file), _TRAVELLED))
    if _SCEDC_HEADER.match(first) or file.extension == ".phase":
        return _values(text_table(file, _scedc(file, catalog), _TRAVELLED))
    return None


def station_ids(table: CsvFile, names: Mapping[str, str | None]) -> Array:
    """``NET.STA.LOC.CHA`` (row,) from the four columns of codes; ``--`` is an empty location."""
    parts = [table.cells.get(code) for code in CODES]
    for code, cells in zip(CODES, parts, strict=True):
        if cells is None:
            table.need(Column(code), names)
    rows = ([code.strip() for code in codes] for codes in zip(*(cells or [] for cells in parts), strict=True))
    return texts([".".join([network, station, place.strip("-"), channel]) for network, station, place, channel in rows])


def _csv(file: File, names: Mapping[str, str | None]) -> dict[str, Array]:
    table = read_csv(file, _PICK_COLUMNS, names)
    weight = table.get(Column("weight", "number", may_be_empty=True))
    return {
        "event_id": table.need(Column("event_id"), names),
        "station_id": station_ids(table, names),
        "phase": table.need(Column("phase"), names),
        "time": table.need(Column("time", "time"), names),
        "weight": np.ones(len(table.lines)) if weight is None else np.where(np.isnan(weight), 1.0, weight),
    }


def _values(table: CsvFile) -> dict[str, Array]:
    """Of picks whose times count from the origin time; HypoDD's negative weights, 'always keep', lose their sign."""
    seconds = table.need(Column("travel_time", "number"), {})
    return {
        "event_id": table.need(Column("event_id"), {}),
        "station_id": station_ids(table, {}),
        "phase": table.need(Column("phase"), {}),
        "time": table.need(Column("origin_time", "time"), {}) + np.rint(seconds * 1e9).astype("timedelta64[ns]"),
        "weight": np.abs(table.need(Column("weight", "number"), {})),
    }


def _pha(file: File) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines ``STA TT WGHT PHA`` under the line of their event; what stands behind the phase is left out."""
    event: dict[str, str] | None = None
    for i, line in file.lines():
        if line.lstrip().startswith("#"):
            event = pha_event(file, i, line)
            continue
        fields = line.split()
        if event is None or len(fields) < _PHA_FIELDS:
            raise wrong_line(file, i, line, "'STA TT WGHT PHA' under the '# …' line of an event")
        station, travel_time, weight, phase = fields[:_PHA_FIELDS]
        codes = dict.fromkeys(CODES, "") | {"station": station}
        when = {"origin_time": event["origin_time"], "travel_time": travel_time}
        yield i, {"event_id": event["event_id"], **codes, **when, "phase": phase, "weight": weight}


def _scedc(file: File, catalog: xr.Dataset | None) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of 13 fields under the header of their event; ``--`` is an empty location."""
    event: dict[str, str] | None = None
    for i, line in file.lines():
        if event is None or _SCEDC_HEADER.match(line):
            event = _scedc_event(file, line, catalog)
            continue
        fields = line.split()
        if len(fields) != _SCEDC_FIELDS:
            expected = "'net sta chan loc lat lon elev phase motion onset quality distance time', 13 fields,"
            raise wrong_line(file, i, line, expected)
        codes = {"network": fields[0], "station": fields[1], "channel": fields[2], "location": fields[3].strip("-")}
        yield i, {**event, **codes, "phase": fields[7], "weight": fields[10], "travel_time": fields[12]}


def _scedc_event(file: File, header: str, catalog: xr.Dataset | None) -> dict[str, str]:
    """Id and origin time of the header; for one that is not filled in, the file's name and the catalogue's time."""
    found = _SCEDC_HEADER.match(header)
    if found and found["date"] != _NO_ORIGIN:
        time = rolled(f"{found['date'].replace('/', '-')}T{found['minute']}", found["s"])
        return {"event_id": found["event"], "origin_time": time}
    name = PurePosixPath(file.name).stem if found else header.split(maxsplit=1)[0].lstrip("#")
    if catalog is not None and name in (known := catalog.event_id.values.tolist()):
        return {"event_id": name, "origin_time": str(catalog.origin_time.values[known.index(name)])}
    msg = (
        f"got {file.name}, whose header {header.strip()!r} has no origin time, expected one, or a catalogue with event "
        f"{name!r}: pass catalog=read_catalog(...) that holds it, or leave the file out."
    )
    raise ValueError(msg)
