from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from relocated import MODEL, implied_errors, relative_error, swarm

import specufex_dask as sx
from specufex_dask.fetching import fetch
from specufex_dask.hypodd_settings import Settings, read_settings
from specufex_dask.recipe import stamp

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", range(4))
def test_picks_do_not_move_what_lags_hold_together(tmp_path: Path, seed: int) -> None:
    """Picks so poor that they tell places to a kilometre, of events that lie metres apart."""
    made = swarm(seed, n_events=6, n_stations=10, size_km=0.005, pick_s=(0.1, 0.2))
    one = {"cluster": np.zeros(6, int), "n_stations": np.full(6, 10), "agreement": np.ones(6)}
    named = xr.Dataset({name: ("event", each) for name, each in one.items()}, {"event_id": made.catalog.event_id})
    repeaters = sx.find_repeaters(stamp(named, "events", {}), made.catalog, n_radii=100.0)
    assert repeaters.n_events.values.tolist() == [6]
    found = sx.relocate_sequences(
        made.catalog, made.stations, made.picks, repeaters, correlations=made.correlations, folder=tmp_path,
        top_km=MODEL.top_km, p_km_s=MODEL.p_km_s, vp_vs=MODEL.ratios[0],
    )  # fmt: skip
    assert np.abs(relative_error(made, found)).max() < 4 * implied_errors(made).max() * 1000
    (file,) = fetch(tmp_path / "sequence_0" / "hypoDD.inp")
    told, _ = read_settings(file)
    assert told.from_centroid
    assert told.weights is not None
    assert all(each.cross_p > each.catalog_p for each in told.weights)


def test_a_folder_of_a_sequence_is_that_of_its_events_alone(tmp_path: Path) -> None:
    made, label = swarm(0, n_events=12, n_stations=5), np.array([1, 0, 0, -1, 1, 0, 2, 0, 1, -1, 2, 0])
    how: dict[str, Any] = {"settings": Settings(MODEL), "correlations": made.correlations}
    written = sx.write_hypodd(made.catalog, made.stations, made.picks, tmp_path / "all", sequence=label, **how)
    assert [folder.name for folder in written] == ["sequence_0", "sequence_1", "sequence_2"]
    for number, folder in enumerate(written):
        own = made.catalog.isel(event=np.flatnonzero(label == number))
        (alone,) = sx.write_hypodd(own, made.stations, made.picks, tmp_path / str(number), **how)
        names = sorted(path.name for path in alone.iterdir())
        assert "dt.cc" in names
        assert sorted(path.name for path in folder.iterdir()) == names
        assert all((folder / name).read_bytes() == (alone / name).read_bytes() for name in names)
