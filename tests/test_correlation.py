"""Correlations of a simulated archive: what they are, what is reused, what is flagged, which bits."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import dask
import draws
import naive
import numpy as np
import pytest
import xarray as xr
from paired_study import N_EVENTS, N_STATIONS, RATE, Study, opened, simulated, values_of
from processes import cluster
from scipy.signal import butter, sosfiltfilt

import specufex_dask as sx
from specufex_dask.pairs import find_pairs
from specufex_dask.schema import QUALITY

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return opened(simulated(tmp_path_factory.mktemp("study")))


@pytest.fixture(scope="module")
def whole(study: Study) -> xr.Dataset:
    return study.correlate().compute()


def test_a_record_is_a_pair_at_a_channel(study: Study, whole: xr.Dataset) -> None:
    n_pairs = N_EVENTS * (N_EVENTS - 1) // 2
    assert study.pairs.sizes["pair"] == n_pairs
    assert whole.sizes["record"] == n_pairs * N_STATIONS
    assert whole.attrs["stage"] == "correlations"
    assert whole["station_id"].values[::n_pairs].tolist() == study.waveforms["station_id"].values[:N_STATIONS].tolist()
    for name in ("event_id_1", "event_id_2"):
        assert whole[name].values.tolist() == study.pairs[name].values.tolist() * N_STATIONS
    assert set(whole["phase"].values.tolist()) == {"P"}


@pytest.mark.parametrize("phase", ["P", "S"])
def test_each_value_is_that_of_the_literal_form(study: Study, phase: str) -> None:
    """Filtered as a whole, cut around the picks, correlated: record by record, in float64."""
    found = study.correlate(phase=phase).compute()
    records = study.waveforms.compute()
    samples = {
        (event, station): (values, start)
        for event, station, values, start, quality in zip(
            records["event_id"].values, records["station_id"].values, records["waveform"].values.astype(float),
            records["start_time"].values, records["quality"].values, strict=True,
        )
        if quality == 0
    }  # fmt: skip
    chosen = study.picks.isel(pick=study.picks["phase"].values == phase)
    times = dict(
        zip(
            zip(chosen["event_id"].values, chosen["station_id"].values, strict=True), chosen["time"].values, strict=True
        )
    )
    sections = butter(4, (1, 10), btype="bandpass", fs=RATE, output="sos")

    def window(event: str, station: str) -> tuple[Array, float]:
        values, start = samples[event, station]
        begin = (times[event, station] - start) / np.timedelta64(1, "s") - 0.3
        first = round(begin * RATE)
        return sosfiltfilt(sections, values)[first - 50 : first + 250], first / RATE - begin

    n_compared = 0
    for i in np.linspace(0, found.sizes["record"] - 1, 60).astype(int):
        one, two, station = (found[name].values[i] for name in ("event_id_1", "event_id_2", "station_id"))
        if (one, station) not in samples or (two, station) not in samples:
            assert QUALITY[found["quality"].values[i]] == "missing"
            continue
        (still, late_one), (sliding, late_two) = window(one, station), window(two, station)
        coefficient, lag = naive.correlation(still[50:250], sliding)
        np.testing.assert_allclose(found["correlation"].values[i], coefficient, atol=1e-5)
        np.testing.assert_allclose(found["lag"].values[i], late_one - late_two - lag / RATE, atol=2e-5)
        n_compared += 1
    assert n_compared > 40


def test_repeaters_correlate_and_others_do_not(study: Study, whole: xr.Dataset) -> None:
    with Path(study.made.truth).open(encoding="utf-8") as file:
        sequence = {row["event_id"]: int(row["sequence"]) for row in csv.DictReader(file)}
    one, two = (np.array([sequence[e] for e in whole[f"event_id_{i}"].values]) for i in (1, 2))
    usable = whole["quality"].values == 0
    same = (one == two) & (one >= 0) & usable
    assert same.sum() > 30
    assert np.median(whole["correlation"].values[same]) > 0.95
    assert np.median(whole["correlation"].values[usable & ~same]) < 0.6
    assert np.nanmedian(np.abs(whole["lag"].values[same])) < 0.01


def test_the_lag_makes_up_for_a_pick_that_is_late(study: Study, whole: xr.Dataset) -> None:
    """DT = (pick_1 - origin_1) - (pick_2 - origin_2) + lag, as HypoDD has it, whoever moved the pick of event 1."""
    similar = whole["correlation"].values > 0.95
    event = whole["event_id_1"].values[similar][0]
    late = study.picks.copy(deep=True)
    late["time"].values[late["event_id"].values == event] += np.timedelta64(30, "ms")
    moved = study.correlate(picks=late).compute()
    similar &= np.isfinite(moved["lag"].values)
    change = moved["lag"].values - whole["lag"].values
    first, second = (similar & (whole[f"event_id_{i}"].values == event) for i in (1, 2))
    assert first.sum() + second.sum() > 3
    np.testing.assert_allclose(change[first], -0.03, atol=1e-3)
    np.testing.assert_allclose(change[second], 0.03, atol=1e-3)
    assert (change[similar & ~first & ~second] == 0).all()


def test_what_cannot_be_correlated_is_flagged(study: Study, whole: xr.Dataset) -> None:
    flags = {QUALITY[flag] for flag in np.unique(whole["quality"].values)}
    assert flags == {"usable", "missing"}
    event = study.catalog["event_id"].values[0]
    without = study.picks.isel(pick=study.picks["event_id"].values != event)
    found = study.correlate(picks=without).compute()
    its = (found["event_id_1"].values == event) & (found["quality"].values != QUALITY.index("missing"))
    assert {QUALITY[flag] for flag in found["quality"].values[its]} == {"no_pick"}
    short = study.correlate(window=(-0.3, 16.0)).compute()
    assert QUALITY.index("short") in short["quality"].values
    for each in (whole, found, short):
        usable = each["quality"].values == 0
        np.testing.assert_array_equal(np.isfinite(each["correlation"].values), usable)
        assert np.isnan(each["lag"].values[~usable]).all()


def test_bad_samples_are_flagged(study: Study) -> None:
    waveforms = study.waveforms.compute()
    is_whole = (waveforms["quality"].values == 0).reshape(-1, N_STATIONS).all(axis=1)
    ids = study.catalog["event_id"].values[is_whole][:2]
    first = int(np.flatnonzero(waveforms["event_id"].values == ids[0])[0])
    values = waveforms["waveform"].values
    values[first], values[first + 1, 800] = 0, np.nan
    pair = xr.Dataset({"event_id_1": ("pair", ids[:1]), "event_id_2": ("pair", ids[1:])})
    found = study.correlate(pair, waveforms=waveforms, band=None).compute()
    assert [QUALITY[flag] for flag in found["quality"].values] == ["constant", "not_finite", "usable"]


@pytest.mark.parametrize("changes", [{"pairs_per_task": 7}, {"pairs_per_task": 436}])
def test_blocks_do_not_change_a_bit(study: Study, whole: xr.Dataset, changes: dict[str, Any]) -> None:
    other = opened(study.made, records_per_task=7)
    assert values_of(other.correlate(**changes).compute()) == values_of(whole)


def test_clusters_say_which_pairs(study: Study) -> None:
    ids = study.catalog["event_id"].values
    clusters = xr.Dataset({"cluster": ("event", np.arange(N_EVENTS) % 10)}, coords={"event_id": ("event", ids)})
    found = study.correlate(clusters)
    assert found.sizes["record"] == 10 * 3 * N_STATIONS
    assert values_of(found.compute()) == values_of(
        study.correlate(find_pairs(clusters, catalog=study.catalog)).compute()
    )


def test_no_pairs_are_no_records(study: Study, tmp_path: Path) -> None:
    assert sx.save(study.correlate(study.pairs.isel(pair=[])), tmp_path / "s.zarr").sizes["record"] == 0


def test_the_recipe_knows_pairs_and_picks_but_not_the_blocks(study: Study) -> None:
    recipes = [
        study.correlate(**changes).attrs["recipe_id"]
        for changes in (
            {}, {"pairs_per_task": 9}, {"band": (1, 9)}, {"pairs": study.pairs.isel(pair=slice(0, 9))},
            {"phase": "S"}, {"picks": study.picks.assign(time=study.picks["time"] + np.timedelta64(1, "ms"))},
        )
    ]  # fmt: skip
    assert recipes[0] == recipes[1]
    assert len(set(recipes)) == len(recipes) - 1


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers_give_the_same_bytes(study: Study, tmp_path: Path, scheduler: str) -> None:
    sx.save(study.correlate(pairs_per_task=200), tmp_path / "default.zarr")
    with dask.config.set(scheduler=scheduler, num_workers=4):
        sx.save(study.correlate(pairs_per_task=200), tmp_path / "s.zarr")
    assert draws.files_of(tmp_path / "s.zarr") == draws.files_of(tmp_path / "default.zarr")


@pytest.mark.slow
def test_a_cluster_gives_the_same_bytes(study: Study, tmp_path: Path) -> None:
    sx.save(study.correlate(pairs_per_task=200), tmp_path / "threads.zarr")
    with cluster(2):
        sx.save(study.correlate(pairs_per_task=200), tmp_path / "cluster.zarr")
    assert draws.files_of(tmp_path / "cluster.zarr") == draws.files_of(tmp_path / "threads.zarr")


def test_shards_that_are_missing_are_computed_and_no_others(study: Study, tmp_path: Path) -> None:
    sx.save(study.correlate(pairs_per_task=200), tmp_path / "s.zarr")
    before = draws.files_of(tmp_path / "s.zarr")
    (tmp_path / "s.zarr" / "correlations" / "quality" / "c" / "3").unlink()
    sx.save(study.correlate(pairs_per_task=200), tmp_path / "s.zarr")
    assert draws.files_of(tmp_path / "s.zarr") == before
