"""Icequakes of the Gorner glacier, whose lags are those that ObsPy finds pair by pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

import specufex_dask as sx
from specufex_dask.correlation import correlate
from specufex_dask.pairs import find_pairs
from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.recipe import stamp

if TYPE_CHECKING:
    from pathlib import Path

WINDOW, BAND, MAX_LAG = (-0.05, 0.25), (5.0, 100.0), 0.05


def _onsets(waveforms: xr.Dataset) -> xr.Dataset:
    """Picks where each record first reaches 0.3 of its largest sample."""
    samples = np.abs(waveforms["waveform"].values - waveforms["waveform"].values.mean(axis=1, keepdims=True))
    index = np.argmax(samples > 0.3 * samples.max(axis=1, keepdims=True), axis=1)
    ids = {name: ("pick", waveforms[name].values) for name in ("event_id", "station_id")}
    phase = np.full(len(index), "P", dtype=object)
    time = waveforms["start_time"].values + index * np.timedelta64(1, "ms")
    about = {"phase": ("pick", phase), "time": ("pick", time), "weight": ("pick", np.ones(len(index)))}
    return stamp(xr.Dataset({**ids, **about}), "picks", {})


def _by_obspy(folder: Path, station: str, events: tuple[str, str], picks: dict[tuple[str, str], Any]) -> Any:
    """How much to move the pick of the second event [s], and the correlation coefficient."""
    obspy = load_obspy()
    from obspy.signal.cross_correlation import xcorr_pick_correction

    with quiet_obspy():
        traces = [obspy.read(folder / "events_mseed" / f"{event}.mseed").select(id=station)[0] for event in events]
        times = [obspy.UTCDateTime(str(picks[event, station])) for event in events]
        return xcorr_pick_correction(
            times[0], traces[0], times[1], traces[1], -WINDOW[0], WINDOW[1], MAX_LAG, filter="bandpass",
            filter_options={"freqmin": BAND[0], "freqmax": BAND[1], "corners": 4, "zerophase": True},
        )  # fmt: skip


def test_lags_of_icequakes_are_those_of_obspy(data_dir: Path) -> None:
    folder = data_dir / "gorner2007"
    catalog = sx.read_catalog(folder / "events.csv").isel(event=slice(0, 60))
    stations = sx.read_stations(folder / "channels.csv")
    archive = str(folder / "events_mseed" / "{event_id}.mseed")
    waveforms = sx.open_waveforms(catalog, stations, archive=archive, sampling_rate=1000).compute()
    onsets = _onsets(waveforms)
    pairs = find_pairs(catalog=catalog, reach=0.05)
    found = correlate(waveforms, pairs, picks=onsets, window=WINDOW, band=BAND, max_lag=MAX_LAG).compute()
    assert found.sizes["record"] == 8 * pairs.sizes["pair"]
    assert (found["quality"].values == 0).mean() > 0.9
    similar = np.flatnonzero((found["correlation"].values > 0.9) & np.isfinite(found["lag"].values))
    assert len(similar) > 200
    picks = dict(
        zip(
            zip(onsets["event_id"].values, onsets["station_id"].values, strict=True), onsets["time"].values, strict=True
        )
    )
    chosen = similar[:: len(similar) // 20]
    theirs = np.array(
        [
            _by_obspy(folder, s, (one, two), picks)
            for one, two, s in zip(
                *(found[name].values[chosen] for name in ("event_id_1", "event_id_2", "station_id")), strict=True
            )
        ]
    )
    np.testing.assert_allclose(found["lag"].values[chosen], -theirs[:, 0], atol=5e-4)
    assert np.median(np.abs(found["lag"].values[chosen] + theirs[:, 0])) < 1e-4
    # Full energies of cut windows keep the coefficient down, by more the larger the lag.
    gain = found["correlation"].values[chosen] - theirs[:, 1]
    assert gain.min() > 0
    assert gain.max() < 0.05
