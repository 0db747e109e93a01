"""Relocate events by double differences: HypoDD's files written and read, and HypoDD run, or our own solver."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed

from specufex_dask import recipe, schema
from specufex_dask.fetching import fetch
from specufex_dask.hypodd_files import relocation_lines
from specufex_dask.hypodd_folders import (
    digest_of,
    ids_of,
    read_relocations,
    run_own,
    run_program,
    write_folder,
    write_lines,
)
from specufex_dask.hypodd_inputs import by_sequence
from specufex_dask.hypodd_pairs import Pairing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from specufex_dask.hypodd_settings import Settings

Array = np.ndarray[Any, np.dtype[Any]]


def write_hypodd(
    catalog: xr.Dataset,
    stations: xr.Dataset,
    picks: xr.Dataset,
    folder: str | os.PathLike[str],
    *,
    settings: Settings,
    pairing: Pairing | None = None,
    correlations: xr.Dataset | None = None,
    min_correlation: float = 0.7,
    sequence: xr.DataArray | Array | None = None,
) -> list[Path]:
    """Write all that HypoDD and ph2dt need, for the whole catalogue or for each sequence.

    Parameters
    ----------
    catalog, stations, picks
        Datasets of these stages.
    folder
        Where to write ``phase.pha``, ``station.dat`` and ``ph2dt.inp``; ``event.dat``,
        ``event.sel``, ``station.sel``, ``dt.ct``, ``dt.cc`` and ``hypoDD.inp``; and
        ``event_ids.csv``, which says which event has which of HypoDD's numbers.
    settings, pairing
        How to relocate, and which events to pair by which picks.
    correlations
        What `correlate` returns, of P or S or (``xarray.concat`` along ``record``) both:
        event_id_1, event_id_2, station_id, phase, correlation and lag [s], positive where the
        phase comes later after its pick in the first event. ``dt.cc`` holds the travel time to the
        first event less that to the second, (pick_1 - origin_1) - (pick_2 - origin_2) + lag,
        weighted by the square of the correlation.
    min_correlation
        The least correlation whose lag is used.
    sequence
        The sequence of each event (event,), below 0 for none: one folder ``sequence_<number>``
        each, below `folder`, of those that have two events.

    Returns
    -------
    list of Path
        The folders, for `run_hypodd`.

    Raises
    ------
    ValueError
        An event has no depth, no pick belongs to the events and stations, a pick without a network
        is one of several stations, or no sequence has two events.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from specufex_dask.catalog import read_catalog, read_picks, read_stations
    >>> from specufex_dask.hypodd_settings import LayeredModel, Settings
    >>> from specufex_dask.simulate import simulate
    >>> with TemporaryDirectory() as folder:
    ...     made = simulate(folder, n_events=6, n_stations=2, seed=0)
    ...     catalog, stations = read_catalog(made.catalog), read_stations(made.stations)
    ...     how = Settings(LayeredModel(top_km=(0.0,), p_km_s=(5.0,)))
    ...     (written,) = write_hypodd(
    ...         catalog, stations, read_picks(made.quakeml), f"{folder}/all", settings=how, pairing=Pairing(min_links=1)
    ...     )
    ...     len((written / "event.dat").read_text().splitlines())
    6
    """
    for dataset, stage in ((catalog, "catalog"), (stations, "stations"), (picks, "picks")):
        schema.require(dataset, stage)
    how = settings, pairing or Pairing()
    if sequence is None:
        return [
            write_folder(
                catalog,
                stations,
                picks,
                Path(folder),
                how=how,
                correlations=correlations,
                min_correlation=min_correlation,
            )
        ]
    label = np.asarray(sequence)
    numbers, sizes = np.unique(label[label >= 0], return_counts=True)
    if not (sizes > 1).any():
        msg = f"got {len(numbers)} sequences, none of two events, expected one at least: pass those of find_repeaters."
        raise ValueError(msg)
    of_events = catalog["event_id"].values, label
    own_picks = by_sequence(picks, ("event_id",), *of_events)
    lags = {} if correlations is None else by_sequence(correlations, ("event_id_1", "event_id_2"), *of_events)
    return [
        write_folder(
            catalog.isel(event=np.flatnonzero(label == each)), stations, own_picks.get(each, picks),
            Path(folder) / f"sequence_{each}", how=how, correlations=lags.get(each, correlations),
            min_correlation=min_correlation,
        )
        for each in numbers[sizes > 1].tolist()
    ]  # fmt: skip


def run_hypodd(
    folder: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    external: bool | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """Relocate the events of a folder with a ``hypoDD.inp``, or of several: by HypoDD where it is, or by our solver.

    Our solver is that of Waldhauser & Ellsworth (2000): rays traced exactly through flat layers,
    differential times of picks and of correlations, weights by quality, distance and residual,
    damped least squares (LSMR) or singular values, events above the ground taken out.
    It does what ``hypoDD.inp`` says, and leaves a ``hypoDD.reloc``.
    Places and errors are relative: an error of the centre of a cluster bends it by about that error over
    its distance to the stations.

    Parameters
    ----------
    folder
        What `write_hypodd` returned, or any folder with HypoDD's files. ``hypoDD.reloc`` is
        written there.
    external
        True for the program ``hypoDD``, False for our solver, None for the program if it is on PATH.
    n_bootstrap
        Draws of the residuals for the standard errors of our solver.
    seed
        Of these draws.

    Returns
    -------
    Dataset of stage ``relocation``
        Every event of the folders in their order, NaN and cluster -1 where it is not relocated:
        latitude, longitude [degrees], depth [km], origin_time, magnitude; x, y, z [m east, north,
        down of the mean of the first places of its cluster], error_x, error_y, error_z [m, one
        standard error relative to the mean of the cluster], n_data (event, kind), rms (event,
        source) [s], cluster (0 the largest of the first folder). x of two clusters have two origins.

    Raises
    ------
    FileNotFoundError
        A file is not there, or the program is not on PATH.
    RuntimeError
        The program failed, or left no ``hypoDD.reloc``.
    ValueError
        A file is not in its format, no folder is given, or no event could be relocated.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from specufex_dask.catalog import read_catalog, read_picks, read_stations
    >>> from specufex_dask.hypodd_settings import LayeredModel, Settings
    >>> from specufex_dask.simulate import simulate
    >>> with TemporaryDirectory() as folder:
    ...     made = simulate(folder, n_events=12, n_stations=6, seed=0)
    ...     catalog, stations = read_catalog(made.catalog), read_stations(made.stations)
    ...     how = Settings(LayeredModel(top_km=(0.0,), p_km_s=(5.0,)), min_links_catalog=4)
    ...     pairing = Pairing(min_links=4, min_observations=4, max_separation_km=100)
    ...     written = write_hypodd(
    ...         catalog, stations, read_picks(made.quakeml), f"{folder}/all", settings=how, pairing=pairing
    ...     )
    ...     relocation = run_hypodd(written, external=False)
    >>> relocation.sizes["event"]
    12
    """
    folders = [Path(each) for each in ([folder] if isinstance(folder, (str, os.PathLike)) else folder)]
    program = None if external is False else shutil.which("hypoDD")
    if external and program is None:
        msg = "got no program 'hypoDD' on PATH, expected it for external=True: build it, or pass external=False."
        raise FileNotFoundError(msg)
    if not folders:
        msg = "got no folder, expected one at least: pass what write_hypodd returned."
        raise ValueError(msg)
    # threads, whatever Client there is: its workers may not see these folders
    found = compute(
        *(
            delayed(run_program)(each, program) if program else delayed(run_own)(each, n_bootstrap, seed)
            for each in folders
        ),
        scheduler="threads",
    )
    joined = _joined(found)
    if int(joined.cluster.max()) < 0:
        msg = (
            f"got {joined.sizes['event']} events of which no two are linked by data that have weight, expected some: "
            f"lower OBSCT, or raise the distances and cutoffs in hypoDD.inp."
        )
        raise ValueError(msg)
    parameters = {"n_bootstrap": n_bootstrap, "seed": seed, "solver": "hypoDD" if program else "own"}
    return recipe.stamp(joined, "relocation", parameters, content=recipe.digest(*map(digest_of, folders)))


def _joined(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The events of all parts, their clusters numbered on."""
    numbered: list[xr.Dataset] = []
    above = 0
    for part in parts:
        numbered.append(part.assign(cluster=part.cluster.where(part.cluster < 0, part.cluster + above)))
        above += int(part.cluster.max()) + 1
    return xr.concat(numbered, "event")


def read_hypodd(source: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Read the relocations of a ``hypoDD.reloc``, or the first locations of a ``hypoDD.loc``.

    Parameters
    ----------
    source : path or URL
        Of the file. An ``event_ids.csv`` beside a local one gives the events their ids back.
    storage_options : dict, optional
        Of fsspec, for URLs.

    Returns
    -------
    Dataset of stage ``relocation``
        As `run_hypodd` returns it, of the events in the file, with its errors.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is in neither format.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> line = (
    ...     "    38542  37.878642 -122.244507     9.251      -48.7       62.3      -57.2      3.2      3.2     14.0 "
    ...     "1985  1 24  2 19 58.740  1.40   106   103   177     0  0.006  0.047   1"
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "hypoDD.reloc"
    ...     _ = path.write_text(line)
    ...     relocation = read_hypodd(path)
    >>> relocation.z.item(), relocation.n_data.values.tolist(), relocation.cluster.item()
    (-57.2, [[106, 103, 177, 0]], 0)
    """
    (file,) = fetch(source, storage_options)
    found = read_relocations(file, ids_of(Path(source).parent) if Path(source).is_file() else {})
    return recipe.stamp(found, "relocation", {}, content=recipe.digest(file.content.hex()))


def write_relocation(relocation: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a Dataset of stage ``relocation`` as a ``hypoDD.reloc``, without the events that are not relocated.

    Events whose ids are not numbers of nine digits are counted from 1.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> line = (
    ...     "    38542  37.878642 -122.244507     9.251      -48.7       62.3      -57.2      3.2      3.2     14.0 "
    ...     "1985  1 24  2 19 58.740  1.40   106   103   177     0  0.006  0.047   1"
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "hypoDD.reloc"
    ...     _ = path.write_text(line)
    ...     write_relocation(read_hypodd(path), f"{folder}/again.reloc")
    ...     Path(f"{folder}/again.reloc").read_text().splitlines() == [line]
    True
    """
    ids = relocation.event_id.values.tolist()
    plain = all(each.isdigit() and len(each) <= 9 for each in ids)  # noqa: PLR2004 - as many digits as a column has
    numbers = [int(each) for each in ids] if plain else range(1, len(ids) + 1)
    write_lines(Path(path), relocation_lines(relocation, numbers))
