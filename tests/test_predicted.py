from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from specufex_dask.anchors import anchor_times
from specufex_dask.catalog import read_catalog, read_picks
from specufex_dask.predicted import predicted_times, travel_times
from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.tables import catalog_table, stations_table, texts

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

ORIGIN = np.datetime64("2016-10-18T00:00:12.53", "ns")


def _catalog(places: list[tuple[float, float, float]]) -> xr.Dataset:
    latitude, longitude, depth = (np.array(each, dtype=float) for each in zip(*places, strict=True))
    columns = {
        "event_id": texts([str(i) for i in range(len(places))]),
        "origin_time": np.full(len(places), ORIGIN),
        "latitude": latitude,
        "longitude": longitude,
        "depth": depth,
        "magnitude": np.zeros(len(places)),
    }
    return catalog_table(columns, "a test")


def _stations(places: list[tuple[float, float, float]]) -> xr.Dataset:
    latitude, longitude, elevation = (np.array(each, dtype=float) for each in zip(*places, strict=True))
    names = texts([f"XX.S{i}..HHZ" for i in range(len(places))])
    columns = {"station_id": names, "latitude": latitude, "longitude": longitude, "elevation": elevation}
    return stations_table(columns, "a test")


def _seconds(times: xr.DataArray) -> Any:
    return (times.values - ORIGIN) / np.timedelta64(1, "ns") / 1e9


def test_a_straight_ray_is_pythagoras_at_one_velocity() -> None:
    obspy = load_obspy()
    with quiet_obspy():
        across_m, _, _ = obspy.geodetics.gps2dist_azimuth(42.80, 13.20, 42.93, 13.02)
    times = predicted_times(
        _catalog([(42.80, 13.20, 8.0), (42.80, 13.20, math.nan)]),
        _stations([(42.93, 13.02, 1900.0), (42.80, 13.20, 1900.0), (42.80, 13.20, math.nan)]),
        phase="S",
        velocity_model=3.5,
    )
    assert times.dims == ("event", "station")
    seconds = _seconds(times[0])
    # The ray's ends are 20 km apart: the Earth's curvature is a few metres.
    assert seconds[0] == pytest.approx(math.hypot(across_m / 1000, 8.0 + 1.9) / 3.5, abs=0.003)
    assert seconds[1:] == pytest.approx([9.9 / 3.5, 8.0 / 3.5], abs=1e-6)
    assert np.isnat(times.values[1]).all(), "no depth, no time"


def test_straight_rays_go_through_the_globe() -> None:
    times = predicted_times(
        _catalog([(90.0, 0.0, 0.0)]), _stations([(-90.0, 0.0, 0.0), (0.0, 180.0, 0.0)]), velocity_model=1
    )
    polar, equatorial = 6356.752314245, 6378.137
    assert _seconds(times[0]) == pytest.approx([2 * polar, math.hypot(polar, equatorial)], rel=1e-9)


@pytest.mark.parametrize("model", ["iasp91", "ak135", "prem"])
@pytest.mark.parametrize(("phase", "names"), [("P", ("ttp",)), ("S", ("s", "S", "Sn", "Sdiff")), ("Pg", ("Pg",))])
def test_the_table_says_what_taup_says(model: str, phase: str, names: tuple[str, ...]) -> None:
    from obspy.taup import TauPyModel

    rng = np.random.default_rng(7)
    degrees = np.concatenate([rng.uniform(0, 4, 20), rng.uniform(4, 95, 10), [0.0, 0.0, 1.0]])
    depth = np.concatenate([rng.uniform(0, 40, 20), rng.uniform(0, 600, 10), [0.0, 12.0, 35.0]])
    found = travel_times(degrees, depth, phase=phase, model=model)
    taup = TauPyModel(model)
    expected = np.array(
        [
            min((each.time for each in taup.get_travel_times(z, d, names)), default=np.nan)
            for d, z in zip(degrees, depth, strict=True)
        ]
    )
    both = np.isfinite(found) & np.isfinite(expected)
    wrong = np.abs(found - expected)[both]
    assert both.sum() >= (33 if phase != "Pg" else 10)
    assert np.isfinite(found).sum() >= np.isfinite(expected).sum() - 2, "a cell may be lost where a phase ends"
    assert np.median(wrong) < 0.0005
    assert wrong.max() < 0.05


def test_a_model_of_the_earth_gives_each_record_its_time() -> None:
    from obspy.taup import TauPyModel

    events, stations = (
        [(42.80, 13.20, 8.0), (-20.0, 170.0, 33.0), (42.8, 13.2, -0.5)],
        [(42.93, 13.02, 900.0), (45.0, 7.0, 0.0)],
    )
    times = predicted_times(_catalog(events), _stations(stations), phase="P", velocity_model="iasp91")
    taup = TauPyModel("iasp91")
    for i, (lat, lon, depth) in enumerate(events):
        for j, (station_lat, station_lon, _) in enumerate(stations):
            degrees = _literal_degrees(lat, lon, station_lat, station_lon)
            first = min(each.time for each in taup.get_travel_times(max(depth, 0.0), degrees, ("ttp",)))
            assert float(_seconds(times)[i, j]) == pytest.approx(first, abs=0.01)
    assert times.event_id.values.tolist() == ["0", "1", "2"]
    assert times.station_id.values.tolist() == ["XX.S0..HHZ", "XX.S1..HHZ"]


def _literal_degrees(lat: float, lon: float, other_lat: float, other_lon: float) -> float:
    """Angle between two directions from the centre of the WGS84 ellipsoid."""

    def direction(latitude: float, longitude: float) -> Any:
        phi = math.atan((6356.752314245 / 6378.137) ** 2 * math.tan(math.radians(latitude)))
        lam = math.radians(longitude)
        return np.array([math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)])

    return math.degrees(math.acos(float(direction(lat, lon) @ direction(other_lat, other_lon))))


def test_many_records_are_the_same_as_few() -> None:
    rng = np.random.default_rng(0)
    places = np.stack([rng.uniform(42, 43, 5000), rng.uniform(13, 14, 5000), rng.uniform(0, 15, 5000)], axis=1)
    catalog = _catalog([tuple(each) for each in places])
    stations = _stations([(42.93, 13.02, 900.0), (42.8, 13.6, 0.0)])
    times = predicted_times(catalog, stations, velocity_model="ak135")
    some = [0, 4095, 4096, 4999]
    assert times[some].identical(predicted_times(catalog.isel(event=some), stations, velocity_model="ak135"))


def test_a_phase_that_does_not_arrive_has_no_time() -> None:
    times = predicted_times(
        _catalog([(0.0, 0.0, 10.0)]), _stations([(0.0, 60.0, 0.0)]), phase="PKP", velocity_model="iasp91"
    )
    assert np.isnat(times.values[0, 0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"velocity_model": 0.0}, "got velocity_model=0.0, expected a velocity above 0 km/s, or the name of"),
        ({"velocity_model": None}, "got velocity_model=None, expected a velocity above 0"),
        ({"velocity_model": "iasp19"}, "got velocity_model='iasp19', which TauP cannot load .*: correct the name"),
        ({"velocity_model": "iasp91", "phase": "Q"}, "got phase='Q', expected 'P', 'S', or TauP's name of a phase"),
    ],
)
def test_what_cannot_be_predicted_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predicted_times(_catalog([(0.0, 0.0, 10.0)]), _stations([(0.0, 1.0, 0.0)]), **given)


def test_a_depth_in_metres_is_refused() -> None:
    catalog = _catalog([(0.0, 0.0, 10.0), (0.0, 0.0, 9500.0)])
    with pytest.raises(
        ValueError, match=r"got 1 events deeper than 800 km \(the first: 1\), expected depths in km: corr"
    ):
        predicted_times(catalog, _stations([(0.0, 1.0, 0.0)]), velocity_model="iasp91")


def test_predictions_are_near_the_picks_of_real_earthquakes(data_dir: Path) -> None:
    folder = data_dir / "relocation" / "amatrice2016"
    catalog, picks = read_catalog(folder / "phase.P4PS6.20161018"), read_picks(folder / "phase.P4PS6.20161018")
    rows = [line.split() for line in (folder / "station.dat").read_text().splitlines()]
    stations = _stations([(float(row[1]), float(row[2]), float(row[3])) for row in rows])
    names = texts([f"{row[0][:2]}.{row[0][2:]}..HHZ" for row in rows])
    event_id, station_id = np.repeat(catalog.event_id.values, names.size), np.tile(names, catalog.sizes["event"])
    picked = anchor_times("P", picks, event_id, station_id, np.zeros(event_id.size, "i8")).astype("M8[ns]")
    here = set(zip(event_id, station_id, strict=True))
    at = [f"{name[1:3]}.{name[3:-2]}..HHZ" for name in picks.station_id.values]
    wanted = zip(picks.phase.values, picks.event_id.values, at, strict=True)
    n_known = sum(phase == "P" and (event, name) in here for phase, event, name in wanted)
    assert np.sum(~np.isnat(picked)) == n_known > 27_000, "every pick of these stations is found"
    for model in (5.8, "iasp91"):
        late = (predicted_times(catalog, stations, velocity_model=model).values.ravel() - picked) / np.timedelta64(
            1, "s"
        )
        assert abs(np.nanmedian(late)) < 0.5
        assert (np.abs(late[~np.isnan(late)]) < 2).mean() > 0.95
