from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_rays import first_arrival
from relocated import MODEL, implied_errors, relative_error, shifted_apart, swarm

from specufex_dask.hypodd import read_hypodd, run_hypodd, write_hypodd
from specufex_dask.hypodd_files import Differences, Events, Stations
from specufex_dask.hypodd_pairs import Pairing
from specufex_dask.hypodd_settings import LayeredModel, Settings, Weights
from specufex_dask.kernels.double_difference import first_arrivals
from specufex_dask.local_frame import LocalFrame
from specufex_dask.reading import load_obspy
from specufex_dask.relocation import clusters, relocate
from specufex_dask.relocation_weights import weights_of

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from relocated import Swarm

Array = np.ndarray[Any, np.dtype[Any]]

PARKFIELD = np.array([0.0, 0.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.5, 4.5, 5.5, 6.5, 9.0, 15.0, 25.0])
SPEEDS = np.array([1.42, 3.24, 4.82, 5.01, 5.19, 5.37, 5.55, 5.63, 5.71, 5.79, 5.87, 6.15, 6.6, 8.0])
SLOW_BELOW = np.array([0.0, 2.0, 4.0, 9.0]), np.array([4.0, 6.0, 3.0, 7.5])


@given(
    distance=st.floats(0, 200), depth=st.floats(-1, 30), receiver=st.sampled_from([0.0, 1.2, 8.0]), slow=st.booleans()
)
@settings(max_examples=40, deadline=None)
def test_first_arrivals_are_those_of_brute_force(distance: float, depth: float, receiver: float, *, slow: bool) -> None:
    top, velocity = SLOW_BELOW if slow else (PARKFIELD, SPEEDS)
    (time,), _, _ = first_arrivals(np.array([distance]), np.array([depth]), receiver, top, velocity)
    assert time == pytest.approx(first_arrival(distance, depth, receiver, top, velocity), abs=2e-7)


def test_slopes_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    distance, depth = rng.uniform(0.5, 150, 300), rng.uniform(0.3, 20, 300)
    _, along, down = first_arrivals(distance, depth, 0.0, PARKFIELD, SPEEDS)
    for axis, slope in ((0, along), (1, down)):
        step = 1e-5 * np.eye(2)[axis]
        ahead, behind = (
            first_arrivals(distance + sign * step[0], depth + sign * step[1], 0.0, PARKFIELD, SPEEDS)
            for sign in (1, -1)
        )
        apart = np.abs((ahead[0] - behind[0]) / 2e-5 - slope)
        # where another ray takes over within the step there is no one slope
        assert np.quantile(apart, 0.97) < 1e-6


def test_a_ray_at_the_receivers_depth_runs_along_it() -> None:
    found = first_arrivals(np.array([3.0]), np.array([0.0]), 0.0, np.array([0.0]), np.array([6.0]))
    np.testing.assert_allclose(found.ravel(), [0.5, 1 / 6, 0.0], atol=1e-12)


def test_places_are_those_of_the_ellipsoid() -> None:
    load_obspy()
    from obspy.geodetics import gps2dist_azimuth

    frame = LocalFrame(36.0, -120.5)
    for latitude, longitude in ((36.4, -120.0), (35.2, -121.4), (36.0, -120.49)):
        metres, azimuth, _ = gps2dist_azimuth(36.0, -120.5, latitude, longitude)
        east, north = frame.km(np.array([latitude]), np.array([longitude]))
        expected = metres / 1000 * np.array([np.sin(np.deg2rad(azimuth)), np.cos(np.deg2rad(azimuth))])
        # from afar a bearing is turned by half the convergence of the meridians
        assert np.hypot(east, north)[0] == pytest.approx(metres / 1000, rel=2e-4)
        assert np.hypot(*(np.array([east[0], north[0]]) - expected)) < 0.006 * metres / 1000


def test_the_relocation_is_that_of_hypodd(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "example1"
    folder.mkdir()
    for path in (data_dir / "relocation/example1").iterdir():
        shutil.copyfile(path, folder / path.name)
    theirs = read_hypodd(folder / "hypoDD.reloc")
    ours = run_hypodd(folder, external=False, seed=0)
    apart = shifted_apart(ours, theirs)
    assert np.median(np.linalg.norm(apart, axis=1)) <= 1.0
    assert np.abs(apart).max() < 3.0
    assert ours.cluster.values.tolist() == [0] * 16
    np.testing.assert_allclose(ours.n_data, theirs.n_data, rtol=0.05, atol=3)
    assert 0.5 < float((ours.error_z / theirs.error_z).median()) < 2
    again = read_hypodd(folder / "hypoDD.reloc")
    np.testing.assert_allclose(again.x, ours.x, atol=0.051)
    assert np.abs((again.origin_time - ours.origin_time).values.astype(np.int64)).max() <= 500_000


def _relocated(made: Swarm, folder: Path, *, svd: bool, correlated: bool = True) -> xr.Dataset:
    written = write_hypodd(
        made.catalog, made.stations, made.picks, folder, settings=Settings(MODEL, svd=svd),
        pairing=Pairing(max_neighbors=30), correlations=made.correlations if correlated else None,
    )  # fmt: skip
    return run_hypodd(written, external=False, seed=0)


@pytest.mark.parametrize("svd", [True, False])
@pytest.mark.parametrize("correlated", [True, False])
def test_errors_are_what_the_noise_implies(tmp_path: Path, *, svd: bool, correlated: bool) -> None:
    made = swarm(1, size_km=0.15, correlated=correlated)
    relocation = _relocated(made, tmp_path, svd=svd, correlated=correlated)
    error = np.linalg.norm(relative_error(made, relocation), axis=1)
    implied = np.linalg.norm(implied_errors(made, correlated=correlated), axis=1) * 1000
    assert np.median(error) <= 3 * np.median(implied)
    told = np.sqrt(sum(relocation[f"error_{axis}"] ** 2 for axis in "xyz"))
    assert 0.5 < float(np.median(told)) / np.median(implied) < 2.0


def test_errors_and_places_come_again_with_their_seed(tmp_path: Path) -> None:
    made = swarm(2, n_events=8, n_stations=8)
    first, second = (_relocated(made, tmp_path / each, svd=False) for each in "ab")
    assert first.drop_attrs().equals(second.drop_attrs())
    assert first.attrs["recipe_id"] == second.attrs["recipe_id"]


def test_clusters_are_of_linked_events_the_largest_first() -> None:
    pairs = np.array([[0, 1]] * 3 + [[2, 3]] * 3 + [[3, 4]] * 3 + [[1, 2]] * 2)
    found = clusters(_differences(pairs), 6, Settings(MODEL, min_links_catalog=3))
    assert found.tolist() == [1, 1, 0, 0, 0, -1]


def test_weights_fall_with_distance_and_residual() -> None:
    place = np.array([[0, 0, 5, 0], [0, 0, 6, 0], [0, 3, 5, 0], [9, 9, 9, 0]], float)
    data = _differences(np.array([[0, 1], [0, 2], [0, 1], [1, 3]]))
    alive = np.array([True, True, True, False])
    residual = np.array([0.01, -0.01, 0.2, 0.0])
    every = {"alive": alive, "before": np.ones(4, bool)}
    far = weights_of(data, place, residual, Weights(1, catalog_p=2.0, catalog_distance_km=2.0), **every)
    assert far.tolist() == [2 * (1 - 0.5**3) ** 3, 0, 2 * (1 - 0.5**3) ** 3, 0]
    cut = weights_of(data, place, residual, Weights(1, catalog_residual=0.1), **every)
    assert cut.tolist() == [1, 1, 0, 0]
    deviation = np.median(np.abs(residual[:3] - 0.01)) / 0.67449
    smooth = weights_of(data, place, residual, Weights(1, catalog_residual=6), **every)
    np.testing.assert_allclose(smooth[:2], (1 - (0.01 / (6 * deviation)) ** 3) ** 3)
    assert smooth[2] == 0
    # one that had no weight does not widen what the others may be off by
    three = np.array([0.01, -0.01, 0.02, 0.0])
    narrow, wide = (
        weights_of(data, place, three, Weights(1, catalog_residual=1.2), alive=alive, before=np.array(before))
        for before in ([True, True, False, True], [False, True, True, True])
    )
    assert narrow[2] == 0 < wide[2]


def test_an_event_that_would_rise_above_the_ground_is_taken_out_or_kept_below() -> None:
    stations = Stations(np.array(["A", "B", "C", "D", "E"], object), *_around(5))
    events = Events(
        np.arange(4), np.full(4, np.datetime64("2024-01-01", "ns")), 36 + np.array([0, 0.002, 0.001, 0.003]),
        -120.5 + np.array([0, 0.001, 0.003, 0.002]), np.array([1.0, 1.1, 0.9, 1.0]), np.full(4, np.nan),
    )  # fmt: skip
    now, deeper = (_observed(events, stations, events.depth + step * np.array([0, 0, 0, 1])) for step in (0, 1e-4))
    # as if times went on as they do at its depth: in truth they say nothing of above and below
    data = replace(now, time=now.time - 1.6 * (deeper.time - now.time) / 1e-4)
    weights = (Weights(1, damping=0.1),)
    for removed in (True, False):
        how = Settings(LayeredModel((-3.0,), (5.0,)), weights, min_links_catalog=1, svd=False, remove_airquakes=removed)
        found = relocate(events, stations, data, how, n_bootstrap=10, seed=0)
        assert found.cluster.tolist() == ([0, 0, 0, -1] if removed else [0] * 4)
        if not removed:
            assert found.place[3, 2] == 0.0
        assert found.n_data[3].sum() == (0 if removed else 30)


def test_a_set_too_large_for_singular_values_is_told() -> None:
    from specufex_dask import relocation

    stations = Stations(np.array(["A", "B", "C"], object), *_around(3))
    events = Events(
        np.arange(2), np.full(2, np.datetime64("2024-01-01", "ns")), np.array([36, 36.001]), np.full(2, -120.5),
        np.full(2, 5.0), np.full(2, np.nan),
    )  # fmt: skip
    data = _observed(events, stations, events.depth)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relocation, "_LARGEST_SVD", 10)
        with pytest.raises(
            ValueError, match=r"got 6 differential times of 2 events.*expected at most 1: pass svd=False"
        ):
            relocate(events, stations, data, Settings(MODEL, svd=True, min_links_catalog=1), n_bootstrap=2, seed=0)
    with pytest.raises(ValueError, match=r"azimuthal gap \(MAXGAP\) of 180, expected none"):
        relocate(events, stations, data, Settings(MODEL, max_gap=180), n_bootstrap=2, seed=0)


def _around(n: int) -> tuple[Array, Array]:
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return 36 + 0.05 * np.cos(angle), -120.5 + 0.06 * np.sin(angle)


def _observed(events: Events, stations: Stations, depth: Array) -> Differences:
    """Exact differences of P and S of all pairs, for `depth` instead of the events' own, in 5 km/s."""
    frame = LocalFrame(float(events.latitude.mean()), float(events.longitude.mean()))
    place = np.stack([*frame.km(events.latitude, events.longitude), depth], axis=1)
    at = np.stack([*frame.km(stations.latitude, stations.longitude), np.zeros(len(stations.name))], axis=1)
    first, second = np.triu_indices(len(depth), 1)
    pair, station, phase = (each.ravel() for each in np.indices((len(first), len(at), 2)))
    far = np.linalg.norm(place[:, None] - at, axis=2)
    time = (far[first[pair], station] - far[second[pair], station]) / np.array([5.0, 5 / 1.73])[phase]
    ones = np.ones(len(pair))
    return Differences(first[pair], second[pair], station, phase, np.zeros(len(pair), bool), time, ones)


def _differences(pairs: Array) -> Differences:
    n = len(pairs)
    zero = np.zeros(n, np.int64)
    return Differences(pairs[:, 0], pairs[:, 1], zero, zero, np.zeros(n, bool), np.zeros(n), np.ones(n))
