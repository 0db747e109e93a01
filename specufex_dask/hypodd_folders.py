"""A folder of HypoDD's files: written from Datasets, relocated, and read again."""

from __future__ import annotations

import csv
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask import hypodd_files as files
from specufex_dask import recipe
from specufex_dask.catalog_formats import read_events
from specufex_dask.fetching import File
from specufex_dask.hypodd_inputs import Named, correlation_columns, named, pick_columns
from specufex_dask.hypodd_pairs import Pairing, pick_differences
from specufex_dask.hypodd_settings import Settings, file_names, read_settings, settings_lines
from specufex_dask.relocation import N_KINDS, Solution, relocate
from specufex_dask.tables import texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

KINDS = ("cross_P", "cross_S", "catalog_P", "catalog_S")
SOURCES = ("cross", "catalog")

_M_PER_KM = 1000.0
_SECOND_NS = 1e9
_LOC_FIELDS = 18
_FIRST_METRES, _FIRST_COUNT = 4, 17
IDS = "event_ids.csv"
_TAIL = 400


def write_folder(
    catalog: xr.Dataset,
    stations: xr.Dataset,
    picks: xr.Dataset,
    folder: Path,
    *,
    how: tuple[Settings, Pairing],
    correlations: xr.Dataset | None,
    min_correlation: float,
) -> Path:
    """One folder of files."""
    known = named(catalog, stations)
    columns = pick_columns(picks, known)
    lags = None if correlations is None else correlation_columns(correlations, picks, known, min_correlation)
    settings, pairing = how
    at = known.stations.latitude, known.stations.longitude, known.elevation
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("event.dat", "event.sel"):
        write_lines(folder / name, files.event_lines(known.events))
    for name in ("station.dat", "station.sel"):
        write_lines(folder / name, files.station_lines(known.stations.name.tolist(), *at))
    write_lines(folder / "phase.pha", files.phase_lines(known.events, _with_names(columns, known)))
    write_lines(folder / "ph2dt.inp", pairing.lines("station.dat", "phase.pha"))
    differences = pick_differences(known.events, known.stations, columns, pairing)
    n_data = len(differences["first"]) + (0 if lags is None else len(lags["first"]))
    settled = settings_lines(settings, cross=lags is not None, n_events=len(known.event_id), n_data=n_data)
    write_lines(folder / "dt.ct", files.catalog_lines(_with_names(differences, known)))
    if lags is not None:
        write_lines(folder / "dt.cc", files.cross_lines(_with_names(lags, known)))
    write_lines(folder / "hypoDD.inp", settled)
    numbers = zip(known.events.number.tolist(), known.event_id.tolist(), strict=True)
    with (folder / IDS).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("number", "event_id"), *numbers])
    return folder


def _with_names(columns: Mapping[str, Array], known: Named) -> dict[str, Array]:
    """Columns with the names of stations and phases, and the numbers of events, in the place of positions."""
    table = dict(columns)
    table["name"] = known.stations.name[table["station"]]
    table["phase"] = np.array(["P", "S"], object)[table["phase"]]
    for position, number in (("first", "number_1"), ("second", "number_2")):
        if position in table:
            table[number] = known.events.number[table[position]]
    return table


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file of `lines`."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def run_own(folder: Path, n_bootstrap: int, seed: int) -> xr.Dataset:
    """Relocate by our solver, and write the file that HypoDD would."""
    settings, names = read_settings(_file(folder, "hypoDD.inp"))
    events = files.read_event_file(_file(folder, names["event.sel"]))
    if settings.events:
        events = events.take(np.isin(events.number, settings.events))
    stations = files.read_station_file(_file(folder, names["station.sel"]))
    wanted = {"dt.cc": settings.cross, "dt.ct": settings.catalog}
    data = [
        files.read_differences(_file(folder, names[kind]), events, stations, cross=kind == "dt.cc")
        for kind, used in wanted.items()
        if used
    ]
    both = data[0] if len(data) == 1 else data[0].and_then(data[1])
    solution = relocate(events, stations, both, settings, n_bootstrap=n_bootstrap, seed=seed)
    found = _dataset(events, solution)
    write_lines(folder / names["hypoDD.reloc"], files.relocation_lines(found, events.number.tolist()))
    return _with_ids(found, ids_of(folder))


def _dataset(events: files.Events, solution: Solution) -> xr.Dataset:
    """A solution in the variables of the stage."""
    place = solution.place
    latitude, longitude = solution.frame.degrees(place[:, 0], place[:, 1])
    shift = np.nan_to_num(np.round(place[:, 3] * _SECOND_NS)).astype("m8[ns]")
    metres = (place[:, :3] - solution.centre) * _M_PER_KM
    columns = {
        "origin_time": events.origin_time + shift, "latitude": latitude, "longitude": longitude, "depth": place[:, 2],
        "magnitude": events.magnitude, "cluster": solution.cluster,
        **dict(zip("xyz", metres.T, strict=True)),
        **{f"error_{axis}": values for axis, values in zip("xyz", solution.error.T * _M_PER_KM, strict=True)},
    }  # fmt: skip
    return _table(columns, texts([str(each) for each in events.number.tolist()]), solution.n_data, solution.rms)


def _table(columns: Mapping[str, Array], event_id: Array, n_data: Array, rms: Array) -> xr.Dataset:
    return xr.Dataset(
        {
            **{name: ("event", values) for name, values in columns.items()},
            "n_data": (("event", "kind"), n_data),
            "rms": (("event", "source"), rms),
        },
        coords={
            "event_id": ("event", event_id),
            "kind": ("kind", texts([*KINDS])),
            "source": ("source", texts([*SOURCES])),
        },
    )


def run_program(folder: Path, program: str) -> xr.Dataset:
    """Run HypoDD in `folder`, and read what it left there."""
    names = file_names(_file(folder, "hypoDD.inp"))
    result = folder / names["hypoDD.reloc"]
    result.unlink(missing_ok=True)
    done = subprocess.run(  # noqa: S603 - the program that the user has put on PATH
        [program, "hypoDD.inp"], cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode or not result.is_file():
        told = (done.stdout + done.stderr).strip()[-_TAIL:]
        msg = (
            f"got exit code {done.returncode} of {program} and {'a' if result.is_file() else 'no'} {result.name}, "
            f"expected 0 and one: its last words were {told!r}; correct its files in {folder}, or pass external=False."
        )
        raise RuntimeError(msg)
    events = files.read_event_file(_file(folder, names["event.sel"]))
    ids = [str(each) for each in events.number.tolist()]
    found = read_relocations(_file(folder, names["hypoDD.reloc"]), {})
    return _with_ids(_in_order(found, ids, events), ids_of(folder))


def _in_order(found: xr.Dataset, ids: list[str], events: files.Events) -> xr.Dataset:
    """The rows of `found` in the order of `ids`, with rows of NaN for those that it lacks."""
    fill = dict.fromkeys(found.data_vars, np.nan) | {
        "cluster": -1,
        "n_data": 0,
        "origin_time": np.datetime64("NaT"),
    }
    ordered = found.set_index(event="event_id").reindex(event=ids, fill_value=fill).reset_coords(drop=True)
    lost = (ordered.cluster < 0).values
    named_again = ordered.drop_vars("event").assign_coords(event_id=("event", texts(ids)))
    named_again["origin_time"] = ("event", np.where(lost, events.origin_time, ordered.origin_time.values))
    named_again["magnitude"] = ("event", events.magnitude)
    return named_again


def read_relocations(file: File, ids: Mapping[str, str]) -> xr.Dataset:
    """The columns of a .reloc or .loc."""
    located = read_events(file, None)
    rows = [line.split() for _, line in file.lines()]
    if located is None or len(rows[0]) < _LOC_FIELDS:
        msg = (
            f"got {file.name}, expected the 18 columns of a hypoDD.loc or the 24 of a hypoDD.reloc: pass one of these."
        )
        raise ValueError(msg)
    numbers = np.array(rows, float)
    metres = numbers[:, _FIRST_METRES : _FIRST_METRES + 6].T
    whole = numbers.shape[1] > _LOC_FIELDS
    count = numbers[:, _FIRST_COUNT : _FIRST_COUNT + N_KINDS] if whole else np.zeros((len(rows), N_KINDS))
    rms = numbers[:, _FIRST_COUNT + N_KINDS : -1] if whole else np.full((len(rows), 2), np.nan)
    names = ("x", "y", "z", "error_x", "error_y", "error_z")
    event_id = located.pop("event_id")
    columns = {**located, **dict(zip(names, metres, strict=True)), "cluster": numbers[:, -1].astype(np.int64) - 1}
    found = _table(columns, event_id, count.astype(np.int64), np.where(rms < 0, np.nan, rms))
    return _with_ids(found, ids)


def _with_ids(found: xr.Dataset, ids: Mapping[str, str]) -> xr.Dataset:
    known = texts([ids.get(each, each) for each in found.event_id.values.tolist()])
    return found.assign_coords(event_id=("event", known))


def ids_of(folder: Path) -> dict[str, str]:
    """The id of each of HypoDD's numbers, where `write_hypodd` has left them."""
    path = folder / IDS
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["number"]: row["event_id"] for row in csv.DictReader(file)}


def _file(folder: Path, name: str) -> File:
    path = folder / name
    if not path.is_file():
        msg = (
            f"got a folder {folder} without {name or 'one of the files that are needed'}, expected it: see hypoDD.inp."
        )
        raise FileNotFoundError(msg)
    return File(str(path), path.read_bytes())


def digest_of(folder: Path) -> str:
    """What the folder holds to relocate from."""
    names = file_names(_file(folder, "hypoDD.inp"))
    inputs = ["hypoDD.inp", *(names[kind] for kind in ("dt.cc", "dt.ct", "event.sel", "station.sel") if names[kind])]
    return recipe.digest(*((folder / name).read_bytes().hex() for name in inputs if (folder / name).is_file()))
