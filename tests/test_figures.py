from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from report_study import Stages, make_study

from specufex_dask import figures, figures_clusters, figures_map, figures_time


@pytest.fixture(scope="module")
def study() -> Stages:
    return make_study()


def test_unusable_is_grey_and_no_cluster_is() -> None:
    colours = [figures.cluster_colour(number) for number in range(10)]
    assert len({*colours, figures.cluster_colour(-1)}) == 11
    grey = figures.cluster_colour(-1)
    assert grey[1:3] == grey[3:5] == grey[5:7]
    pairs = {(figures.cluster_colour(number), figures.cluster_marker(number)) for number in range(40)}
    assert len(pairs) == 40, "colour and marker together tell clusters apart"


def test_colours_stay_apart_for_colour_blind_readers() -> None:
    """Viénot's simulation of missing red or green cones keeps the first six colours distinct."""
    from matplotlib.colors import to_rgb

    linear = np.array([to_rgb(figures.cluster_colour(number)) for number in range(6)]) ** 2.2
    for rows in (
        [[0.11, 0.89, 0], [0.11, 0.89, 0], [0.004, -0.004, 1]],
        [[0.29, 0.71, 0], [0.29, 0.71, 0], [-0.02, 0.02, 1]],
    ):
        seen = np.clip(linear @ np.array(rows).T, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(6, 1)]
        assert apart.min() > 0.08


@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=30), st.integers(0, 5))
def test_bins_hold_every_event_and_begin_at_a_round_moment(seconds: list[int], power: int) -> None:
    times = np.array([s // 10**power for s in seconds], dtype="datetime64[s]").astype("datetime64[ms]")
    edges, unit = figures_time._bins(times)
    assert np.histogram(times.astype(int), edges.astype(int))[0].sum() == len(times)
    assert len(edges) <= figures_time._BINS + 3
    step = figures_time._STEPS[unit]
    assert (edges.astype("datetime64[s]").astype(int) % step == 0).all()


@given(st.floats(-60, 60), st.floats(-180, 180), st.floats(0.02, 2))
def test_the_map_is_true_to_scale_across_the_date_line(latitude: float, longitude: float, size: float) -> None:
    offsets = np.array([-1.0, -0.5, 0, 0.5, 1]) * size
    north = latitude + offsets
    east = (longitude + offsets / np.cos(np.radians(latitude)) + 180) % 360 - 180
    plane = figures_map.Plane.around(north, east)
    x, y = plane.project(north, east)
    assert plane.unit == "km"
    np.testing.assert_allclose(y, 111.195 * offsets, atol=1e-6)
    np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-6)


@given(st.floats(0.05, 20), st.floats(0.3, 3))
def test_a_map_fills_its_frame_without_distortion(ratio: float, aspect: float) -> None:
    height, ((left, right), (bottom, top)) = figures_map.framed([(0.0, 1.0), (5.0, 5.0 + ratio)], aspect, 3.8)
    assert left <= 1e-9
    assert right >= 1 - 1e-9
    assert bottom <= 5 + 1e-9
    assert top >= 5 + ratio - 1e-9
    assert (top - bottom) * aspect / height == pytest.approx((right - left) / 3.8)


def test_far_stations_get_a_map_of_their_own(study: Stages) -> None:
    far = study["stations"].assign(latitude=("station", [38.5, 36.0]))
    assert [panel.title for panel in figures_map.maps(study["catalog"], None, study["stations"])] == ["Map"]
    near, whole = figures_map.maps(study["catalog"], None, far)
    assert "2 stations outside the frame" in near.caption
    assert "stations outside" not in whole.caption


def test_a_large_catalog_is_thinned() -> None:
    rng = np.random.default_rng(3)
    n = 300_000
    catalog = xr.Dataset({name: ("event", rng.normal(size=n)) for name in ("latitude", "longitude")})
    (panel,) = figures_map.maps(catalog, rng.integers(0, 4, n), None)
    assert "Drawn: about 20,000 of the events" in panel.caption
    assert len(panel.png) < 1e6


def test_silhouettes_of_a_sample_are_said_to_be_so() -> None:
    cluster = np.array([0, 0, 0, 1, 1, -1])
    panel = figures_clusters.silhouette_profile(cluster, np.array([0.1, np.nan, 0.3, -0.2, 0.4, np.nan]))
    assert panel is not None
    assert "1 usable records were not in the sample" in panel.caption
    assert "cluster 1: 2 records, 1 below zero" in panel.alt
    assert figures_clusters.silhouette_profile(cluster, np.full(6, np.nan)) is None


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_labels_stay_apart_and_in_order(middles: list[float]) -> None:
    places = np.sort(middles)
    moved = figures_clusters._apart(places, 5.0)
    assert (np.diff(moved) >= 5 - 1e-9).all()
    assert moved[-1] <= places[-1] + 5 * 12


@given(st.integers(1, 5000), st.integers(1, 25))
def test_ticks_are_few_and_even(count: int, most: int) -> None:
    ticks = figures.round_ticks(count, most)
    assert 1 <= len(ticks) <= most
    assert ticks[0] == 0
    assert ticks[-1] < count
    assert len(set(np.diff(ticks))) <= 1
