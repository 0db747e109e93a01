"""What windows hang on: picks, and where there are none stated predictions, which are told apart in every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

import specufex_dask as sx
from specufex_dask.config import run
from specufex_dask.predicted import predicted_times
from specufex_dask.schema import ANCHORS, QUALITY
from specufex_dask.study import read_study
from specufex_dask.summary import summary

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from specufex_dask.simulate import Simulation

N_EVENTS, N_STATIONS, LACKING = 6, 3, "sim000003"
PICKED, PREDICTED, UNKNOWN = range(len(ANCHORS))
SPECTRA: dict[str, Any] = {"window_length": 0.5, "overlap": 0.5, "nfft": 64, "band": (2.0, 15.0)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return sx.simulate(
        tmp_path_factory.mktemp("simulated"), n_events=N_EVENTS, n_stations=N_STATIONS, sampling_rate=50.0, seed=2
    )


@pytest.fixture(scope="module")
def picks(made: Simulation) -> xr.Dataset:
    """Those of all events but one."""
    every = sx.read_picks(made.quakeml)
    return every.isel(pick=np.flatnonzero(every.event_id.values != LACKING))


def _open(made: Simulation, **how: Any) -> xr.Dataset:
    catalog, stations = sx.read_catalog(made.catalog), sx.read_stations(made.stations)
    given = {"catalog": catalog, "stations": stations, "window": (-1.0, 5.0), "anchor": "P"} | how
    return sx.open_waveforms(archive=made.archive, sampling_rate=made.sampling_rate, **given)


def _lacks(waveforms: xr.Dataset) -> Any:
    return waveforms.event_id.values == LACKING


@pytest.mark.parametrize("fallback", ["iasp91", 6.0])
def test_only_what_nobody_picked_is_predicted(made: Simulation, picks: xr.Dataset, fallback: Any) -> None:
    before = picks.copy(deep=True)
    without, found = _open(made, picks=picks).compute(), _open(made, picks=picks, fallback=fallback).compute()
    lacks = _lacks(found)
    assert lacks.sum() == N_STATIONS
    assert found.anchor.values.tolist() == np.where(lacks, PREDICTED, PICKED).tolist()
    assert without.anchor.values.tolist() == np.where(lacks, UNKNOWN, PICKED).tolist()
    assert [QUALITY[flag] for flag in without.quality.values[lacks]] == ["no_pick"] * N_STATIONS
    assert (found.quality == 0).all()
    np.testing.assert_array_equal(found.waveform[~lacks], without.waveform[~lacks])
    np.testing.assert_array_equal(found.start_time[~lacks], without.start_time[~lacks])
    assert picks.identical(before), "a prediction is no pick"


@pytest.mark.parametrize("phase", ["P", "S"])
def test_a_predicted_window_is_where_taup_puts_it(made: Simulation, phase: str) -> None:
    from obspy.geodetics import gps2dist_azimuth
    from obspy.taup import TauPyModel

    found = _open(made, anchor=phase, fallback="iasp91").compute()
    whole = _open(made, window=None, anchor="origin").compute()
    catalog, stations = sx.read_catalog(made.catalog), sx.read_stations(made.stations)
    model, names = TauPyModel("iasp91"), [phase.lower(), phase, f"{phase}n"]
    for i in range(N_EVENTS * N_STATIONS):
        event, station = catalog.isel(event=i // N_STATIONS), stations.isel(station=i % N_STATIONS)
        ends = [float(each[name]) for each in (event, station) for name in ("latitude", "longitude")]
        degrees = gps2dist_azimuth(*ends)[0] / 111_195
        seconds = model.get_travel_times(float(event.depth), degrees, names)[0].time
        wanted = event.origin_time.values + np.timedelta64(round((seconds - 1.0) * 1e9), "ns")
        assert abs(found.start_time.values[i] - wanted) <= np.timedelta64(30, "ms"), "half a sample, and the flattening"
        begin = round((found.start_time.values[i] - whole.start_time.values[i]) / np.timedelta64(20, "ms"))
        np.testing.assert_array_equal(found.waveform[i], whole.waveform[i, begin : begin + 300])
    assert (found.anchor == PREDICTED).all()


def test_where_nothing_can_be_predicted_there_is_no_pick(made: Simulation, picks: xr.Dataset) -> None:
    catalog = sx.read_catalog(made.catalog)
    catalog["depth"] = catalog.depth.where(catalog.event_id != LACKING)
    found = _open(made, catalog=catalog, picks=picks, fallback=6.0).compute()
    lacks = _lacks(found)
    assert found.anchor.values[lacks].tolist() == [UNKNOWN] * N_STATIONS
    assert [QUALITY[flag] for flag in found.quality.values[lacks]] == ["no_pick"] * N_STATIONS
    assert (found.quality.values[~lacks] == 0).all()
    assert np.isnat(found.start_time.values[lacks]).all()


def test_a_missing_waveform_is_not_a_missing_pick(made: Simulation, picks: xr.Dataset, tmp_path: Path) -> None:
    empty = sx.open_waveforms(
        sx.read_catalog(made.catalog), sx.read_stations(made.stations), archive=f"{tmp_path}/{{event_id}}",
        window=(-1.0, 5.0), anchor="P", picks=picks, sampling_rate=made.sampling_rate,
    ).compute()  # fmt: skip
    expected = np.where(_lacks(empty), "no_pick", "missing")
    assert [QUALITY[flag] for flag in empty.quality.values] == expected.tolist()


def test_the_recipe_knows_the_prediction(made: Simulation, picks: xr.Dataset) -> None:
    def recipe_id(**how: Any) -> str:
        return str(_open(made, picks=picks, **how).attrs["recipe_id"])

    assert recipe_id(fallback=6) == recipe_id(fallback=6.0)
    assert len({recipe_id(), recipe_id(fallback=6.0), recipe_id(fallback=5.9), recipe_id(fallback="iasp91")}) == 4
    catalog, stations = sx.read_catalog(made.catalog), sx.read_stations(made.stations)
    predicted = predicted_times(catalog, stations, velocity_model=6.0)
    merged = sx.read_picks(made.quakeml)
    p = merged.isel(pick=np.flatnonzero(merged.phase.values == "P")).sortby("pick")
    order = [(e, s) for e in catalog.event_id.values for s in stations.station_id.values]
    at = dict(zip(order, predicted.values.ravel(), strict=True))
    p["time"] = ("pick", [at[pair] for pair in zip(p.event_id.values, p.station_id.values, strict=True)])
    as_picks, as_predictions = _open(made, picks=p), _open(made, fallback=6.0)
    np.testing.assert_array_equal(as_picks.waveform, as_predictions.waveform)
    assert as_picks.attrs["recipe_id"] != as_predictions.attrs["recipe_id"], "the same times, known in another way"


def test_every_stage_tells_which_were_predicted(made: Simulation, picks: xr.Dataset, tmp_path: Path) -> None:
    waveforms = _open(made, picks=picks, fallback=6.0)
    expected = np.where(_lacks(waveforms), PREDICTED, PICKED)
    assert waveforms.anchor.attrs["flag_meanings"] == "picked predicted unknown"
    assert waveforms.anchor.attrs["flag_values"].tolist() == [PICKED, PREDICTED, UNKNOWN]
    assert summary("waveforms", waveforms).endswith("at 50 Hz, windows on 15 picked, 3 predicted arrivals")
    store = tmp_path / "s.zarr"
    spectrograms = sx.save(sx.compute_spectrograms(waveforms, **SPECTRA), store)
    nmf = sx.save(sx.fit_nmf(spectrograms, n_patterns=4, max_steps=20, seed=0), store)
    activations = sx.compute_activations(spectrograms, nmf)
    hmm = sx.save(sx.fit_hmm(activations, nmf, n_states=3, max_steps=20, n_init=1, seed=0), store)
    fingerprints = sx.save(sx.compute_fingerprints(spectrograms, nmf, hmm), store)
    sx.save(sx.cluster_fingerprints(fingerprints, n_clusters=2, seed=0), store)
    for stage in ("spectrograms", "fingerprints", "clusters"):
        held = sx.load(store, stage).anchor
        assert held.values.tolist() == expected.tolist()
        assert held.attrs["flag_meanings"] == "picked predicted unknown"
    assert activations.anchor.values.tolist() == expected.tolist()
    page = sx.report(store, tmp_path / "r.html", waveforms=waveforms).read_text(encoding="utf-8")
    assert "windows on 15 picked, 3 predicted arrivals" in page
    assert "<td>fallback</td>" in page.replace(' class="word"', "")


def test_where_all_are_picked_a_store_says_so(made: Simulation, tmp_path: Path) -> None:
    """Zarr leaves out a chunk of zeros, which a reader of the store would take for a torn one."""
    waveforms = _open(made, picks=sx.read_picks(made.quakeml))
    saved = sx.save(sx.compute_spectrograms(waveforms, **SPECTRA), tmp_path / "s.zarr")
    assert (saved.compute().anchor == PICKED).all()


def test_windows_on_origins_have_no_such_coordinate(made: Simulation) -> None:
    assert "anchor" not in _open(made, anchor="origin").coords


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"fallback": -1}, "got fallback=-1, expected None, a velocity of the phase above 0 km/s, or the name of a 1-"),
        ({"fallback": "iasp19"}, "got fallback='iasp19', expected None, a velocity .* such as 'iasp91': correct it"),
        ({"fallback": 6, "anchor": "origin"}, "got fallback=6 without a window on a phase, expected one: pass window="),
        ({"fallback": 6, "window": None}, "got fallback=6 without a window on a phase, expected one: pass window="),
        ({"fallback": "iasp91", "anchor": "Q"}, "got phase='Q', expected 'P', 'S', or TauP's name of a phase"),
    ],
)
def test_a_fallback_that_cannot_be_is_refused(made: Simulation, how: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        _open(made, **how)


STUDY: dict[str, Any] = {"seed": 0, "spectrograms": {**SPECTRA, "band": [2.0, 15.0]}}


@pytest.mark.parametrize("value", [0, -2.5, "iasp19", "nan", [1.0], True])
def test_a_study_refuses_a_fallback_before_anything_is_read(value: Any) -> None:
    waveforms = {"archive": "x", "sampling_rate": 50, "window": [-1, 5], "anchor": "P", "fallback": value}
    study = {**STUDY, "store": "s.zarr", "catalog": "none.csv", "stations": "none.csv", "waveforms": waveforms}
    with pytest.raises(ValueError, match=r"- got waveforms.fallback=.*, expected a (velocity of the phase|number)"):
        read_study(study)


def test_a_study_without_picks_runs_on_predictions(made: Simulation, tmp_path: Path) -> None:
    waveforms = {"archive": made.archive, "sampling_rate": 50.0, "window": [-1, 5], "anchor": "P", "fallback": "ak135"}
    study = {
        **STUDY, "store": "s.zarr", "catalog": made.catalog, "stations": made.stations, "waveforms": waveforms,
        "nmf": {"n_patterns": 4, "max_steps": 20}, "hmm": {"n_states": 3, "max_steps": 20, "n_init": 1},
        "clusters": {"n_clusters": [2, 3]},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    run(tmp_path / "study.yaml")
    assert (sx.load(tmp_path / "s.zarr", "clusters").anchor == PREDICTED).all()
