"""Read the events of CSV files, the catalogues of SCEDC and NCEDC, and HypoDD's phase and location files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.csv_tables import NO_COLUMNS, Column, CsvFile, csv_header, read_csv, rolled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from specufex_dask.fetching import File

Array = np.ndarray[Any, Any]
EVENT_COLUMNS = ("event_id", "origin_time", "latitude", "longitude", "depth_km", "depth_m", "magnitude")
PHA_EVENT = re.compile(r"\s*#\s*\d{4}(\s+\d{1,2}){4}\s+-?\d+\.?\d*\s")
"""The line of an event in HypoDD's phase file: year, month, day, hour, minute, second …"""

_M_PER_KM = 1000.0
_SNIFFED_BYTES = 100_000
_SCEDC_EVENT = re.compile(r"\s*\d{4}/\d{2}/\d{2}\s+\d{2}:\d{2}:\d{2}")
_SCEDC_DATE = re.compile(r"#?\s*(ORIGIN_DATETIME|Y{3,4}/MM/DD.*)")
_SCEDC_INDEX = {"event_id": "EVID", "latitude": "LAT", "longitude": "LON", "depth_km": "DEPTH", "magnitude": "MAG"}
_NCEDC = {"event_id": "id", "origin_time": "time", "depth_km": "depth", "magnitude": "mag"}
_PHA_FIELDS = 14
_LOC_FIELDS, _RELOC_FIELDS = 18, 24
_YEAR = 10
_SCEDC_FIELDS = 11


def read_events(file: File, columns: Mapping[str, str | None] | None) -> dict[str, Array] | None:
    """The columns of stage ``catalog`` from `file`; None if it is in none of the formats of this module.

    A magnitude is NaN where it is empty, where its type says that there is none (``n``), and
    throughout a HypoDD file in which every one is 0.
    """
    if file.extension in {".csv", ".ehpcsv"}:
        return _values(_csv_table(file, columns), columns or {})
    if columns:
        raise ValueError(NO_COLUMNS)
    table = _table_reader(file)
    return None if table is None else _values(table(file), {})


def pha_event(file: File, number: int, line: str) -> dict[str, str]:
    """The cells of the line of an event, ``# YR MO DY HR MN SC LAT LON DEP MAG EH EZ RMS ID``, in HypoDD's phase file.

    Raises
    ------
    ValueError
        The line has fewer fields.
    """
    fields = line.strip().removeprefix("#").split()
    if len(fields) < _PHA_FIELDS:
        expected = "'# YR MO DY HR MN SC LAT LON DEP MAG EH EZ RMS ID' as in HypoDD's phase files"
        raise wrong_line(file, number, line, expected)
    latitude, longitude, depth, magnitude = fields[6:10]
    cells = {"event_id": fields[13], "origin_time": _hypodd_time(fields[:6])}
    return {**cells, "latitude": latitude, "longitude": longitude, "depth_km": depth, "magnitude": magnitude}


def wrong_line(file: File, number: int, line: str, expected: str) -> ValueError:
    """The error for a line of text that is not what its format says."""
    return ValueError(f"got {line.strip()!r} in line {number} of {file.name}, expected {expected}: correct the line.")


def text_table(file: File, rows: Iterable[tuple[int, Mapping[str, str]]], names: Iterable[str]) -> CsvFile:
    """The table of rows of cells, each with the number of its line; `names` are the columns even without a row."""
    found = list(rows)
    return CsvFile(file.name, {name: [row[name] for _, row in found] for name in names}, [line for line, _ in found])


def _values(table: CsvFile, names: Mapping[str, str | None]) -> dict[str, Array]:
    metres = table.get(Column("depth_m", "number", may_be_empty=True)) if "depth_km" not in table.cells else None
    if metres is not None:
        depth = metres / _M_PER_KM
    else:
        depth = table.need(Column("depth_km", "number", may_be_empty=True), {"depth_km": "", **_either(names)})
    return {
        "event_id": table.need(Column("event_id"), names),
        "origin_time": table.need(Column("origin_time", "time"), names),
        **{name: table.need(Column(name, "number"), names) for name in ("latitude", "longitude")},
        "depth": depth,
        "magnitude": table.need(Column("magnitude", "number", may_be_empty=True), names),
    }


def _either(names: Mapping[str, str | None]) -> dict[str, str | None]:
    """No depth in kilometres if the user said that there is none in either unit."""
    return {"depth_km": None} if None in (names.get("depth_km", ""), names.get("depth_m", "")) else {}


def _csv_table(file: File, columns: Mapping[str, str | None] | None) -> CsvFile:
    """A CSV file with the columns of SCEDC's index, of NCEDC's (and the USGS's) catalogues, ours, or mapped ones."""
    header = set(csv_header(file))
    if columns is None and header >= {"EVID", "LAT", "LON"}:
        return _scedc_index(file)
    if columns is None and header >= {"latitude", "longitude", *_NCEDC.values()}:
        table = read_csv(file, EVENT_COLUMNS, _NCEDC, encoding=_encoding(file))
        return _replaced(table, origin_time=map(_slashed_time, table.cells["origin_time"]), magnitude=_known(table))
    return read_csv(file, EVENT_COLUMNS, columns or {}, encoding=_encoding(file) if columns is None else "utf-8-sig")


def _encoding(file: File) -> str:
    """Latin-1 for a place name that is not UTF-8 in a catalogue of NCEDC; what is neither is the reader's to refuse."""
    if file.extension != ".ehpcsv":
        return "utf-8-sig"
    try:
        file.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8-sig"


def _scedc_index(file: File) -> CsvFile:
    """Date and time in one column, ``ORIGIN_DATETIME``; in two, ``YYYY/MM/DD`` and ``HH:mm:SS.ss``, of older years."""
    header = csv_header(file)
    dates = [name for name in header if _SCEDC_DATE.fullmatch(name)]
    clocks = [name for name in header if name.upper().startswith("HH")]
    table = read_csv(file, EVENT_COLUMNS, {**_SCEDC_INDEX, **({"origin_time": dates[0]} if dates else {})})
    times = table.cells.get("origin_time", [])
    if dates and clocks:
        times = [f"{date} {clock}" for date, clock in zip(times, table.cells[clocks[0]], strict=True)]
    found = {"origin_time": map(_slashed_time, times)} if dates else {}
    return _replaced(table, **found, magnitude=_known(table))


def _replaced(table: CsvFile, **cells: Iterable[str]) -> CsvFile:
    return CsvFile(table.path, {**table.cells, **{name: list(values) for name, values in cells.items()}}, table.lines)


def _known(table: CsvFile) -> list[str]:
    """The magnitudes, empty where their type is ``n``: none."""
    magnitudes = table.cells["magnitude"]
    types = table.cells.get("M", table.cells.get("magType", [""] * len(magnitudes)))
    return ["" if kind.lower() == "n" else value for value, kind in zip(magnitudes, types, strict=True)]


def _slashed_time(text: str) -> str:
    """ISO 8601 from ``2022/01/03 01:17:08.92`` or the like; a date alone is no time, and is told to be none."""
    date, _, clock = re.sub(r"[ ,]+", "T", text.strip().replace("/", "-")).removesuffix("Z").partition("T")
    if not clock:
        return f"{text} without a time of day"
    minute, _, seconds = clock.rpartition(":")
    return rolled(f"{date}T{minute}", seconds)


def _table_reader(file: File) -> Callable[[File], CsvFile] | None:
    """The reader that the first lines ask for, or else the extension."""
    for line in file.content[:_SNIFFED_BYTES].decode("latin-1").splitlines():
        if PHA_EVENT.match(line):
            return _pha
        if line.strip() and not line.lstrip().startswith("#"):
            if _SCEDC_EVENT.match(line):
                return _scedc_text
            if _is_located(line.split()):
                return _located
            break
    return {".pha": _pha, ".loc": _located, ".reloc": _located, ".catalog": _scedc_text}.get(file.extension)


def _is_located(fields: list[str]) -> bool:
    when = fields[_YEAR : _YEAR + 5]
    return len(fields) in {_LOC_FIELDS, _RELOC_FIELDS} and all(each.isdigit() for each in when) and len(when[0]) == 4  # noqa: PLR2004 - a year has four digits


def _pha(file: File) -> CsvFile:
    events = ((i, pha_event(file, i, line)) for i, line in file.lines() if line.lstrip().startswith("#"))
    return _without_zeros(text_table(file, events, _TEXT_COLUMNS))


def _located(file: File) -> CsvFile:
    """HypoDD's .loc (18 columns) and .reloc (24): the first 17 are the same, ID LAT LON DEPTH … YR MO … SC MAG."""
    return _without_zeros(text_table(file, (_located_row(file, *each) for each in file.lines()), _TEXT_COLUMNS))


def _located_row(file: File, number: int, line: str) -> tuple[int, dict[str, str]]:
    fields = line.split()
    if len(fields) not in {_LOC_FIELDS, _RELOC_FIELDS}:
        raise wrong_line(file, number, line, "the 18 fields of HypoDD's .loc or the 24 of its .reloc")
    event_id, latitude, longitude, depth = fields[:4]
    cells = {"event_id": event_id, "latitude": latitude, "longitude": longitude, "depth_km": depth}
    return number, {**cells, "origin_time": _hypodd_time(fields[_YEAR : _YEAR + 6]), "magnitude": fields[_YEAR + 6]}


def _hypodd_time(fields: list[str]) -> str:
    year, month, day, hour, minute, seconds = fields
    return rolled(f"{year}-{month:0>2}-{day:0>2}T{hour:0>2}:{minute:0>2}", seconds)


def _without_zeros(table: CsvFile) -> CsvFile:
    """HypoDD has no mark for a magnitude that is not known: in a file without any, all are 0."""
    magnitudes = table.cells["magnitude"]
    if any(value.strip("-+0.") for value in magnitudes):
        return table
    return _replaced(table, magnitude=[""] * len(magnitudes))


def _scedc_text(file: File) -> CsvFile:
    """SCEDC's .catalog: date, time, event type, place type, magnitude, its type, place, quality, evid, two counts."""
    lines = (each for each in file.lines() if not each[1].lstrip().startswith("#"))
    return text_table(file, ((i, _scedc_row(file, i, line)) for i, line in lines), _TEXT_COLUMNS)


def _scedc_row(file: File, number: int, line: str) -> dict[str, str]:
    fields = line.split()
    middle = fields[5:-3]
    place = [each for each in middle if re.fullmatch(r"[-+]?\d*\.?\d*", each)]
    if len(fields) < _SCEDC_FIELDS or len(place) != 3:  # noqa: PLR2004 - latitude, longitude, depth
        raise wrong_line(file, number, line, "'date time type type mag magtype lat lon depth quality evid nph nwfs'")
    latitude, longitude, depth = place
    cells = {"event_id": fields[-3], "latitude": latitude, "longitude": longitude, "depth_km": depth}
    magnitude = "" if middle[0] == "n" else fields[4]
    return {**cells, "origin_time": _slashed_time(f"{fields[0]} {fields[1]}"), "magnitude": magnitude}


_TEXT_COLUMNS = ("event_id", "origin_time", "latitude", "longitude", "depth_km", "magnitude")
