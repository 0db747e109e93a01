"""A simulated archive whose pairs are correlated, for the tests of correlations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import specufex_dask as sx
from specufex_dask.correlation import correlate
from specufex_dask.pairs import find_pairs

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from specufex_dask.simulate import Simulation

RATE, N_EVENTS, N_STATIONS = 100.0, 30, 3


@dataclass(frozen=True)
class Study:
    """A simulated archive, opened, and all pairs of its events."""

    made: Simulation
    catalog: xr.Dataset
    picks: xr.Dataset
    waveforms: xr.Dataset
    pairs: xr.Dataset

    def correlate(self, pairs: xr.Dataset | None = None, **changes: Any) -> xr.Dataset:
        """Correlations of these pairs or of all, lazily, with other parameters than the defaults."""
        given = {"picks": self.picks, "waveforms": self.waveforms} | changes
        return correlate(given.pop("waveforms"), self.pairs if pairs is None else pairs, **given)


def simulated(folder: Path) -> Simulation:
    """The archive: the same bytes in any folder."""
    return sx.simulate(folder, n_events=N_EVENTS, n_stations=N_STATIONS, repeating=0.6, missing=0.05, seed=1)


def opened(made: Simulation, *, start: float = -3.0, records_per_task: int = 16) -> Study:
    """The archive opened from `start` s after the origin times on."""
    catalog, stations = sx.read_catalog(made.catalog), sx.read_stations(made.stations)
    waveforms = sx.open_waveforms(
        catalog,
        stations,
        archive=made.archive,
        window=(start, 15),
        sampling_rate=RATE,
        records_per_task=records_per_task,
    )
    return Study(made, catalog, sx.read_picks(made.quakeml), waveforms, find_pairs(catalog=catalog, reach=50.0))


def values_of(dataset: xr.Dataset) -> dict[str, bytes]:
    """The bytes of each variable."""
    return {str(name): values.values.tobytes() for name, values in dataset.data_vars.items()}
