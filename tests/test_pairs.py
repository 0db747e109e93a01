"""Which pairs are found: those of a look at every two events, in order, whatever the blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from specufex_dask import pair_search
from specufex_dask.pairs import find_pairs, pair_blocks
from specufex_dask.recipe import stamp

Array = np.ndarray[Any, np.dtype[Any]]

N_EVENTS, N_STATIONS = 90, 3
KM_PER_DEGREE = 2 * np.pi * 6371 / 360


def _ids(n: int) -> Array:
    return np.array([f"e{i:06d}" for i in range(n)], dtype=object)


def _catalog(n: int, *, extent_km: float = 20.0, seed: int = 0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    columns = {
        "origin_time": np.datetime64("2020-01-01", "ns") + np.arange(n).astype("timedelta64[h]"),
        "latitude": 37 + rng.uniform(0, extent_km / KM_PER_DEGREE, n),
        "longitude": -180 + rng.uniform(0, extent_km / KM_PER_DEGREE, n),
        "depth": rng.uniform(0, extent_km, n),
        "magnitude": np.full(n, np.nan),
    }
    table = {name: ("event", values) for name, values in columns.items()}
    return stamp(xr.Dataset(table, coords={"event_id": ("event", _ids(n))}), "catalog", {})


def _clusters(n: int, n_clusters: int, *, seed: int) -> xr.Dataset:
    """Records of all events at each station but for one in ten, shuffled, their clusters at random from -2."""
    rng = np.random.default_rng(seed)
    event, station = (each.ravel() for each in np.meshgrid(np.arange(n), np.arange(N_STATIONS)))
    kept = rng.permutation(n * N_STATIONS)[: n * N_STATIONS * 9 // 10]
    names = np.array([f"XX.S{i}..HHZ" for i in range(N_STATIONS)], dtype=object)
    return xr.Dataset(
        {"cluster": ("record", rng.integers(-2, n_clusters, n * N_STATIONS)[kept])},
        coords={"event_id": ("record", _ids(n)[event[kept]]), "station_id": ("record", names[station[kept]])},
    )


def _km(catalog: xr.Dataset) -> Array:
    """Distances (event, event), by the law of cosines and the depths."""
    latitude, longitude = np.radians(catalog["latitude"].values), np.radians(catalog["longitude"].values)
    radius = 6371 - catalog["depth"].values
    cosine = np.sin(latitude) * np.sin(latitude[:, None]) + np.cos(latitude) * np.cos(latitude[:, None]) * np.cos(
        longitude - longitude[:, None]
    )
    square = radius**2 + radius[:, None] ** 2 - 2 * radius * radius[:, None] * np.minimum(cosine, 1)
    return np.asarray(np.sqrt(np.maximum(square, 0)))


def _literal(
    ids: Array, clusters: list[xr.Dataset], km: Array, *, reach: float | None, max_distance: float | None
) -> list[tuple[str, str]]:
    labels = [
        {(e, s): c for e, s, c in zip(*(each[n].values for n in ("event_id", "station_id", "cluster")), strict=True)}
        for each in clusters
    ]
    stations = [f"XX.S{i}..HHZ" for i in range(N_STATIONS)]
    found = []
    for i, one in enumerate(ids):
        for j, two in enumerate(ids[i + 1 :], i + 1):
            shares = any(
                each.get((one, s), -1) >= 0 and each.get((one, s), -1) == each.get((two, s), -1)
                for each in labels
                for s in stations
            )
            near = reach is not None and km[i, j] <= reach
            if near or (shares and (max_distance is None or km[i, j] <= max_distance)):
                found.append((one, two))
    return found


def _named(found: xr.Dataset) -> list[tuple[str, str]]:
    return list(zip(found["event_id_1"].values.tolist(), found["event_id_2"].values.tolist(), strict=True))


@pytest.mark.parametrize("candidates", [1, 50, 2_000_000])
@pytest.mark.parametrize(("reach", "max_distance"), [(None, None), (4.0, None), (None, 8.0), (4.0, 8.0), (8.0, 4.0)])
def test_each_pair_is_found_once_and_in_order(
    monkeypatch: pytest.MonkeyPatch, candidates: int, reach: float | None, max_distance: float | None
) -> None:
    monkeypatch.setattr(pair_search, "_CANDIDATES", candidates)
    catalog = _catalog(N_EVENTS)
    clusters = [_clusters(N_EVENTS, 12, seed=1), _clusters(N_EVENTS, 30, seed=2)]
    wanted = _literal(_ids(N_EVENTS), clusters, _km(catalog), reach=reach, max_distance=max_distance)
    assert 100 < len(wanted) < N_EVENTS * (N_EVENTS - 1) // 2
    assert _named(find_pairs(clusters, catalog=catalog, reach=reach, max_distance=max_distance)) == wanted


def test_reach_needs_no_clusters_and_counts_the_depth() -> None:
    catalog = _catalog(N_EVENTS)
    catalog["depth"].values[:4] = catalog["depth"].values[0] + np.array([0.0, 0.0, 3.0, np.nan])
    for name in ("latitude", "longitude"):
        catalog[name].values[:4] = catalog[name].values[0]
    few = catalog.isel(event=slice(0, 4))
    assert _named(find_pairs(catalog=few, reach=2.9)) == [("e000000", "e000001")]
    assert _named(find_pairs(catalog=few, reach=3.1)) == [
        (f"e00000{i}", f"e00000{j}") for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    whole = find_pairs(catalog=catalog, reach=4.0)
    km = _km(catalog.isel(event=np.isfinite(catalog["depth"].values)))
    assert whole.sizes["pair"] == (np.triu(km <= 4.0, 1)).sum()


def test_distance_is_right_across_the_date_line() -> None:
    catalog = _catalog(2).assign(latitude=("event", [0.0, 0.0]), longitude=("event", [179.95, -179.95]))
    catalog = catalog.assign(depth=("event", [0.0, 0.0]))
    assert find_pairs(catalog=catalog, reach=11.2).sizes["pair"] == 1
    assert find_pairs(catalog=catalog, reach=11.0).sizes["pair"] == 0


def test_without_a_catalogue_the_order_is_that_of_the_clusters() -> None:
    ids = np.array(["z", "a", "m"], dtype=object)
    clusters = xr.Dataset({"cluster": ("event", [0, 0, 0])}, coords={"event_id": ("event", ids)})
    assert _named(find_pairs(clusters)) == [("z", "a"), ("z", "m"), ("a", "m")]


def test_blocks_are_bounded_and_their_pairs_those_of_the_whole() -> None:
    n = 20_000
    clusters = xr.Dataset({"cluster": ("event", np.arange(n) % 20)}, coords={"event_id": ("event", _ids(n))})
    ids, blocks = pair_blocks(clusters)
    sizes, last = [], -1
    for block in blocks:
        keys = block[:, 0] * n + block[:, 1]
        assert keys[0] > last
        assert (np.diff(keys) > 0).all()
        last = int(keys[-1])
        sizes.append(len(block))
    assert len(ids) == n
    assert sum(sizes) == 20 * 1000 * 999 // 2
    assert max(sizes) <= 2_000_000
    assert len(sizes) > 4


def test_a_cluster_of_a_hundred_thousand_says_what_to_do() -> None:
    n = 100_000
    labels = np.where(np.arange(n + 5) < n, 3, np.arange(n + 5))
    clusters = xr.Dataset({"cluster": ("event", labels)}, coords={"event_id": ("event", _ids(n + 5))})
    with pytest.raises(
        ValueError,
        match=r"got clusters with 4,999,950,000 pairs of events \(cluster 3 has 100,000 members\), expected at most "
        r"max_pairs=20,000,000: pass max_distance= in km .* cluster more finely, or raise max_pairs",
    ):
        find_pairs(clusters)
    catalog = _catalog(n + 5, extent_km=200.0)
    near = find_pairs(clusters, catalog=catalog, max_distance=1.0)
    assert 1000 < near.sizes["pair"] < 20_000
    with pytest.raises(
        ValueError, match=r"before the end of the catalogue, expected at most max_pairs=1,000: pass a sm"
    ):
        find_pairs(clusters, catalog=catalog, max_distance=1.0, max_pairs=1000)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "got neither clusters nor reach, expected one of them"),
        ({"reach": 1.0}, r"got reach=1\.0 without a catalogue, expected where the events are: pass catalog="),
        ({"reach": 0.0, "catalog": _catalog(3)}, r"got reach=0\.0, expected a distance in km above 0"),
        ({"reach": 1.0, "max_distance": 2.0, "catalog": _catalog(3)}, r"got max_distance=2\.0 without clusters"),
        (
            {"clusters": _clusters(9, 2, seed=0), "catalog": _catalog(3)},
            "got 6 events in the clusters .* 'e000003'",
        ),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_pairs(**given)
