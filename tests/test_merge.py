"""Clusters of records merged into those of events, against the rules taken literally."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import specufex_dask as sx
from specufex_dask.kernels.linking import linked
from specufex_dask.recipe import stamp

Array = np.ndarray[Any, np.dtype[Any]]


def _catalog(n_events: int) -> xr.Dataset:
    number = np.arange(float(n_events))
    names = ("latitude", "longitude", "depth", "magnitude")
    times = np.datetime64("2020-01-01", "ns") + np.arange(n_events) * np.timedelta64(1, "h")
    dataset = xr.Dataset(
        dict.fromkeys(names, ("event", number)) | {"origin_time": ("event", times)},
        coords={"event_id": ("event", np.array([f"e{i}" for i in range(n_events)], dtype=object))},
    )
    return stamp(dataset, "catalog", {}, content=str(n_events))


def _clusters(
    event: Any, station: Any, cluster: Any, *, distance: Any = None, quality: Any = None, n_clusters: int = 3
) -> xr.Dataset:
    """The stage ``clusters`` of records given by the numbers of their events and stations."""
    n_records = len(event)
    label = np.asarray(cluster, dtype="int32")
    dataset = xr.Dataset(
        {
            "cluster": ("record", label), "labels": (("n_clusters", "record"), label[None]),
            "distance": ("record", np.ones(n_records) if distance is None else np.asarray(distance, float)),
            "silhouette": ("record", np.zeros(n_records)), "mean_silhouette": ("n_clusters", np.zeros(1)),
            "centroid": (("cluster_id", "state", "next_state"), np.zeros((n_clusters, 2, 2))),
            "quality": ("record", np.asarray(np.zeros(n_records) if quality is None else quality, "int8")),
        },
        coords={
            "event_id": ("record", np.array([f"e{i}" for i in event], dtype=object)),
            "station_id": ("record", np.array([f"X.S{i}..Z" for i in station], dtype=object)),
            "start_time": ("record", np.full(n_records, np.datetime64("2020-01-01", "ns"))),
            "n_clusters": [n_clusters],
        },
    )  # fmt: skip
    return stamp(dataset, "clusters", {}, content=str((event, station, cluster, distance, quality)))


def _stations(labels: Array) -> list[xr.Dataset]:
    """Clusters of each station from labels (event, station); an event of label -9 has no record there."""
    found = []
    for number, column in enumerate(labels.T):
        event = np.flatnonzero(column > -9)
        found.append(_clusters(event.tolist(), [number] * len(event), column[event].tolist()))
    return found


def _pairwise(labels: Array, least: int) -> list[int]:
    """Components of the events linked by the rule taken pair by pair, each as its first event."""
    component = list(range(len(labels)))
    for one, other in combinations(range(len(labels)), 2):
        if ((labels[one] == labels[other]) & (labels[one] >= 0)).sum() >= least:
            kept, gone = sorted((component[one], component[other]))
            component = [kept if each == gone else each for each in component]
    return component


TABLES = st.tuples(st.integers(1, 24), st.integers(1, 5)).flatmap(
    lambda shape: st.integers(0, 4).flatmap(lambda most: arrays.arrays("int32", shape, elements=st.integers(-1, most)))
)


@settings(deadline=None)  # the first call compiles
@given(labels=TABLES, data=st.data())
def test_linked_events_are_those_of_the_rule_taken_pair_by_pair(labels: Array, data: st.DataObject) -> None:
    least = data.draw(st.integers(1, labels.shape[1]))
    assert linked(labels, least).tolist() == _pairwise(labels, least)


@pytest.mark.parametrize("least", [1, 2, 3, 6])
def test_large_clusters_are_linked_as_pair_by_pair(least: int) -> None:
    labels = np.random.default_rng(0).integers(-1, 4, (150, 6)).astype("int32")
    assert linked(labels, least).tolist() == _pairwise(labels, least)


def test_the_most_votes_win() -> None:
    clusters = _clusters([0, 0, 0, 1, 1, 3], [0, 1, 2, 0, 1, 0], [2, 2, 0, 1, 1, 0])
    events = sx.merge_stations(clusters, _catalog(4))
    assert events["cluster"].values.tolist() == [2, 1, -1, 0]
    assert events["n_stations"].values.tolist() == [3, 2, 0, 1]
    np.testing.assert_allclose(events["agreement"], [2 / 3, 1, np.nan, 1])
    assert events.attrs["stage"] == "events"
    assert events["event_id"].values.tolist() == ["e0", "e1", "e2", "e3"]


def test_of_equal_votes_the_nearer_wins_and_then_the_lower_number() -> None:
    event, station, cluster = [0, 0, 1, 1, 2, 2, 2, 2], [0, 1, 0, 1, 0, 1, 2, 3], [0, 1, 2, 1, 0, 2, 0, 2]
    distance = [2.0, 1.0, 1.0, 1.0, 1.0, 3.0, 4.0, 1.0]
    events = sx.merge_stations(_clusters(event, station, cluster, distance=distance), _catalog(3))
    assert events["cluster"].values.tolist() == [1, 1, 2]
    np.testing.assert_allclose(events["agreement"], 0.5)


def test_an_unusable_record_has_no_vote_and_noise_votes_for_nothing() -> None:
    clusters = _clusters([0, 0, 0, 1], [0, 1, 2, 0], [-1, 1, -1, -2], quality=[4, 0, 0, 0])
    events = sx.merge_stations(clusters, _catalog(2))
    assert events["cluster"].values.tolist() == [1, -1]
    assert events["n_stations"].values.tolist() == [2, 1]
    np.testing.assert_allclose(events["agreement"], [0.5, np.nan])


def test_families_are_numbered_by_size() -> None:
    labels = np.array([[0, 5, 1], [1, 1, 1], [2, 2, 2], [1, 1, 0], [3, 2, 2], [1, 1, 3], [7, 8, 9]])
    events = sx.merge_stations(_stations(labels), _catalog(8), min_stations=2)
    assert events["cluster"].values.tolist() == [-1, 0, 1, 0, 1, 0, -1, -1]
    np.testing.assert_allclose(events["agreement"], [np.nan, 2 / 3, 1, 1, 2 / 3, 2 / 3, np.nan, np.nan])
    assert events["n_stations"].values.tolist() == [3] * 7 + [0]


def test_a_missing_station_says_nothing() -> None:
    """The third event is linked by the stations it has; its agreement is the share of these."""
    labels = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, -9, -9], [0, 0, 0, 0]])
    events = sx.merge_stations(_stations(labels), _catalog(4), min_stations=2)
    assert events["cluster"].values.tolist() == [0, 0, 0, -1]
    assert events["n_stations"].values.tolist() == [4, 4, 2, 4]
    assert events["agreement"].values.tolist()[:3] == [1, 1, 1]


def test_the_order_of_stations_and_records_does_not_matter() -> None:
    labels = np.random.default_rng(1).integers(0, 6, (60, 4))
    stations = _stations(labels)
    first = sx.merge_stations(stations, _catalog(60), min_stations=2)
    turned = [station.isel(record=slice(None, None, -1)) for station in reversed(stations)]
    again = sx.merge_stations({str(i): each for i, each in enumerate(turned)}, _catalog(60), min_stations=2)
    for name in first.data_vars:
        np.testing.assert_array_equal(first[name], again[name])
    assert first.attrs["recipe_id"] != again.attrs["recipe_id"]


def test_few_large_families_are_found_whatever_the_numbers_of_each_station() -> None:
    rng = np.random.default_rng(2)
    truth = rng.choice(3, 400, p=[0.5, 0.3, 0.2])
    labels = np.stack([rng.permutation(3)[truth] for _ in range(6)], axis=1)
    labels = np.where(rng.random(labels.shape) < 0.25, rng.integers(0, 3, labels.shape), labels)
    labels[rng.random(labels.shape) < 0.1] = -9
    events = sx.merge_stations(_stations(labels), _catalog(400), n_families=3)
    expected = np.argsort(np.argsort(-np.bincount(truth)))[truth]
    recorded = (labels > -9).any(axis=1)
    assert (events["cluster"].values == expected)[recorded].mean() > 0.97
    assert np.bincount(events["cluster"]).tolist() == sorted(np.bincount(events["cluster"]), reverse=True)
    assert 0.75 < float(events["agreement"].mean()) < 0.9
    chained = sx.merge_stations(_stations(labels), _catalog(400), min_stations=2)
    assert (chained["cluster"].values[recorded] == 0).mean() > 0.95, "linked events chain where clusters are few"


def test_an_event_without_label_is_in_no_family() -> None:
    labels = np.array([[0, 0], [1, 1], [-2, -2], [-9, -9]])
    events = sx.merge_stations(_stations(labels), _catalog(4), n_families=2)
    assert events["cluster"].values.tolist() == [0, 1, -1, -1]
    assert events["n_stations"].values.tolist() == [2, 2, 2, 0]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"min_stations": 3}, r"got min_stations=3 with the clusters of 2 stations, expected a number from 1 to 2"),
        ({"min_stations": 0}, r"got min_stations=0 with the clusters of 2 stations, expected a number from 1 to 2"),
        ({"n_families": 5}, r"got n_families=5, expected a number from 1 to the 4 events: correct it"),
    ],
)
def test_numbers_out_of_range_are_named(given: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sx.merge_stations(_stations(np.zeros((4, 2), int)), _catalog(4), **given)


def test_what_cannot_be_merged_is_named() -> None:
    twice = _clusters([0, 0, 1], [0, 1, 0], [0, 0, 0])
    with pytest.raises(
        ValueError, match="got 2 records of the event 'e0' in the clusters of one station, expected one"
    ):
        sx.merge_stations([twice], _catalog(2), min_stations=1)
    with pytest.raises(ValueError, match="got records of 1 events that the catalogue does not hold, such as 'e1'"):
        sx.merge_stations(twice, _catalog(1))
    with pytest.raises(ValueError, match="got no Dataset, expected the stage clusters of one station or more"):
        sx.merge_stations([], _catalog(1))
    doubled = _catalog(2).isel(event=[0, 1, 0])
    with pytest.raises(ValueError, match="got a catalogue with the event 'e0' twice, expected each event once"):
        sx.merge_stations(twice, doubled)
    with pytest.raises(ValueError, match="got a Dataset of stage 'catalog', expected 'clusters'"):
        sx.merge_stations(_catalog(2), _catalog(2))
