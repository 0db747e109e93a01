"""HypoDD's files of data, to the column: events, stations, phases, differential times, and relocations.

The formats are those of HypoDD 2.1 (Waldhauser 2001, USGS Open-File Report 01-113), which reads free
format but has identities of at most nine digits and names of stations of at most seven letters.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.catalog_formats import wrong_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import xarray as xr

    from specufex_dask.fetching import File

Array = np.ndarray[Any, np.dtype[Any]]

NO_ORIGIN_TIME = -999.0
_EVENT_FIELDS = 10
_SHALLOWEST_KM = 0.01
_STATION_FIELDS = 3


@dataclass(frozen=True)
class Events:
    """The events of an event.dat: number, origin time, degrees, depth [km], magnitude, errors [km], rms [s]."""

    number: Array
    origin_time: Array
    latitude: Array
    longitude: Array
    depth: Array
    magnitude: Array

    def take(self, chosen: Array) -> Events:
        """Some of the events."""
        return Events(*(getattr(self, each.name)[chosen] for each in fields(self)))


@dataclass(frozen=True)
class Stations:
    """The stations of a station.dat: name, degrees."""

    name: Array
    latitude: Array
    longitude: Array


@dataclass(frozen=True)
class Differences:
    """Differential times [s] of pairs of events, first less second, as columns (datum,).

    `first`, `second` and `station` are positions among events and stations; `phase` is 0 for P and
    1 for S; `cross` tells correlations from picks.
    """

    first: Array
    second: Array
    station: Array
    phase: Array
    cross: Array
    time: Array
    weight: Array

    def take(self, chosen: Array) -> Differences:
        """Some of the data."""
        return Differences(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def and_then(self, other: Differences) -> Differences:
        """These data and then the other ones."""
        return Differences(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    @property
    def kind(self) -> Array:
        """0 and 1 for P and S of correlations, 2 and 3 for P and S of picks."""
        kind: Array = self.phase + 2 * ~self.cross
        return kind


def read_event_file(file: File) -> Events:
    """The events of an event.dat or event.sel: YYYYMMDD HHMMSSss LAT LON DEP MAG EH EZ RMS ID.

    Depths are 0.01 km at least, as in HypoDD; magnitudes that are all 0 are not known.
    """
    rows = [(i, line, line.split()) for i, line in file.lines()]
    for i, line, row in rows:
        if len(row) < _EVENT_FIELDS or not (row[0] + row[1] + row[9]).isdigit():
            raise wrong_line(file, i, line, "'YYYYMMDD HHMMSSss LAT LON DEP MAG EH EZ RMS ID' as in event.dat")
    days = np.array([f"{r[0][:4]}-{r[0][4:6]}-{r[0][6:]}" for *_, r in rows], "M8[ns]")
    clock = np.array([int(row[1]) for *_, row in rows], np.int64)
    hundredths = (clock // 1_000_000 * 60 + clock // 10_000 % 100) * 6000 + clock % 10_000
    numbers = np.array([[float(each) for each in row[2:6]] for *_, row in rows]).T
    time = days + (hundredths * 10_000_000).astype("m8[ns]")
    numbers[2] = np.maximum(numbers[2], _SHALLOWEST_KM)
    if not numbers[3].any():
        numbers[3] = np.nan
    return Events(np.array([int(row[9]) for *_, row in rows]), time, *numbers)


def read_station_file(file: File) -> Stations:
    """The stations of a station.dat or station.sel: STA LAT LON, and what may follow."""
    rows = [(i, line, line.split()) for i, line in file.lines()]
    for i, line, row in rows:
        if len(row) < _STATION_FIELDS:
            raise wrong_line(file, i, line, "'STA LAT LON' as in station.dat")
    names, latitude, longitude = zip(*(row[:3] for *_, row in rows), strict=True)
    return Stations(np.array(names, object), np.array(latitude, float), np.array(longitude, float))


def read_differences(file: File, events: Events, stations: Stations, *, cross: bool) -> Differences:
    """The data of a dt.cc (`cross`) or dt.ct between known events at known stations.

    ``DT`` of a dt.cc loses the correction of origin times of its pair; a pair in which that is not
    known (-999) is left out, as HypoDD does.
    """
    position = {int(each): i for i, each in enumerate(events.number)}
    known = {str(each): i for i, each in enumerate(stations.name)}
    columns: list[tuple[int, int, int, int, float, float]] = []
    pair, correction = (-1, -1), 0.0
    try:
        for number, line in file.lines():  # noqa: B007 - told in the error
            row = line.split()
            if row[0].startswith("#"):
                row = row[1:] if row[0] == "#" else [row[0][1:], *row[1:]]
                correction = float(row[2]) if cross else 0.0
                pair = position.get(int(row[0]), -1), position.get(int(row[1]), -1)
                pair = (-1, -1) if correction == NO_ORIGIN_TIME else pair
            elif min(pair) >= 0 and row[0] in known:
                time = float(row[1]) - (correction if cross else float(row[2]))
                columns.append((*pair, known[row[0]], "PS".index(row[-1]), time, float(row[-2])))
    except (ValueError, IndexError):
        expected = "'# ID1 ID2 OTC' and 'STA DT WGHT PHA'" if cross else "'# ID1 ID2' and 'STA TT1 TT2 WGHT PHA'"
        raise wrong_line(file, number, line, f"{expected} as in {'dt.cc' if cross else 'dt.ct'}") from None
    table = np.array(columns, float).reshape(-1, 6).T
    first, second, station, phase = table[:4].astype(np.int64)
    return Differences(first, second, station, phase, np.full(table.shape[1], cross), table[4], np.abs(table[5]))


def event_lines(events: Events) -> Iterator[str]:
    """The lines of an event.dat; errors and rms, which a catalogue does not have, are 0."""
    for i, (day, clock) in enumerate(_clocks(events.origin_time)):
        yield (
            f"{day:>8}  {clock:>8}  {events.latitude[i]:8.4f}  {events.longitude[i]:9.4f}  {events.depth[i]:9.3f}  "
            f"{_known(events.magnitude[i]):5.2f}  {0:6.2f}  {0:6.2f}  {0:5.2f} {events.number[i]:10d}"
        )


def station_lines(names: Iterable[str], latitude: Array, longitude: Array, elevation: Array) -> Iterator[str]:
    """The lines of a station.dat with elevations [m]; one that is not known is 0."""
    for name, north, east, up in zip(names, latitude, longitude, elevation, strict=True):
        yield f"{name:<7} {north:11.6f} {east:12.6f} {_known(up):9.1f}"


def phase_lines(events: Events, picks: Mapping[str, Array]) -> Iterator[str]:
    """The lines of a .pha: each event and its picks, ``event`` (position, ascending), name, time [s], weight, phase."""
    bounds = np.searchsorted(picks["event"], np.arange(len(events.number) + 1))
    for i, parts in enumerate(_parts(events.origin_time)):
        year, month, day, hour, minute, second = parts
        yield (
            f"# {year:4d} {month:2d} {day:2d} {hour:2d} {minute:2d} {second:5.2f} {events.latitude[i]:8.4f} "
            f"{events.longitude[i]:9.4f} {events.depth[i]:7.3f} {_known(events.magnitude[i]):5.2f} "
            f"{0:5.2f} {0:5.2f} {0:5.2f} {events.number[i]:10d}"
        )
        for k in range(bounds[i], bounds[i + 1]):
            yield f"{picks['name'][k]:<7} {picks['time'][k]:9.4f} {picks['weight'][k]:7.4f}   {picks['phase'][k]}"


def catalog_lines(table: Mapping[str, Array]) -> Iterator[str]:
    """The lines of a dt.ct, of columns (datum,) with the data of each pair together."""
    for first, second, rows in _pairs(table):
        yield f"# {first:9d} {second:9d}"
        for k in rows:
            yield (
                f"{table['name'][k]:<7} {table['time_1'][k]:7.3f} {table['time_2'][k]:7.3f} "
                f"{table['weight'][k]:6.4f} {table['phase'][k]}"
            )


def cross_lines(table: Mapping[str, Array]) -> Iterator[str]:
    """The lines of a dt.cc, of columns (datum,) with the data of each pair together; times need no correction."""
    for first, second, rows in _pairs(table):
        yield f"# {first:9d} {second:9d} {0:9.6f}"
        for k in rows:
            yield f"{table['name'][k]:<7} {table['time'][k]:10.6f} {table['weight'][k]:6.4f} {table['phase'][k]}"


def relocation_lines(relocation: xr.Dataset, numbers: Iterable[int]) -> Iterator[str]:
    """The lines of a hypoDD.reloc, of the events that are relocated."""
    table = {str(name): array.values for name, array in relocation.variables.items()}
    for i, (number, (year, month, day, hour, minute, second)) in enumerate(
        zip(numbers, _parts(table["origin_time"], digits=3), strict=True)
    ):
        if table["cluster"][i] < 0:
            continue
        metres = [table[f"{axis}"][i] for axis in "xyz"], [table[f"error_{axis}"][i] for axis in "xyz"]
        rms = [-9.0 if np.isnan(each) else each for each in table["rms"][i]]
        yield (
            f"{number:9d} {table['latitude'][i]:10.6f} {table['longitude'][i]:11.6f} {table['depth'][i]:9.3f}"
            + "".join(f" {each:10.1f}" for each in metres[0])
            + "".join(f" {_known(each):8.1f}" for each in metres[1])
            + f" {year:4d} {month:2d} {day:2d} {hour:2d} {minute:2d} {second:6.3f} {_known(table['magnitude'][i]):5.2f}"
            + "".join(f" {each:5d}" for each in table["n_data"][i])
            + f" {rms[0]:6.3f} {rms[1]:6.3f} {table['cluster'][i] + 1:3d}"
        )


def _pairs(table: Mapping[str, Array]) -> Iterator[tuple[int, int, range]]:
    """The numbers of each pair, and where its data are."""
    first, second = table["number_1"], table["number_2"]
    new = np.flatnonzero((np.diff(first) != 0) | (np.diff(second) != 0)) + 1
    bounds = [0, *new.tolist(), len(first)] if len(first) else [0]
    for start, end in pairwise(bounds):
        yield int(first[start]), int(second[start]), range(start, end)


def _known(value: float) -> float:
    """0 for a number that is not known: HypoDD has no mark for that."""
    return 0.0 if np.isnan(value) else float(value)


def _parts(times: Array, *, digits: int = 2) -> Iterator[tuple[int, int, int, int, int, float]]:
    """Year, month, day, hour, minute and second, rounded before they are divided so that no second is 60."""
    step = 10 ** (9 - digits)
    rounded = ((times.astype("M8[ns]").astype(np.int64) + step // 2) // step * step).astype("M8[ns]")
    for text in np.datetime_as_string(rounded, unit="ns"):
        yield int(text[:4]), int(text[5:7]), int(text[8:10]), int(text[11:13]), int(text[14:16]), float(text[17:])


def _clocks(times: Array) -> Iterator[tuple[str, int]]:
    """Day as YYYYMMDD and time of day as HHMMSSss, without leading zeros."""
    for year, month, day, hour, minute, second in _parts(times):
        yield f"{year:04d}{month:02d}{day:02d}", hour * 1_000_000 + minute * 10_000 + round(second * 100)
