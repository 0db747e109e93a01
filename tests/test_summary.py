"""The line that a run prints of each stage: its figures, and the singular of one thing."""

from __future__ import annotations

import numpy as np
import pytest
import repeating
import xarray as xr

import specufex_dask as sx
from specufex_dask.summary import summary


def _sized(**sizes: int) -> xr.Dataset:
    """A Dataset of arrays of these sizes."""
    return xr.Dataset({f"of_{dim}": (dim, np.zeros(size)) for dim, size in sizes.items()})


@pytest.mark.parametrize(
    ("stage", "dataset", "line"),
    [
        ("catalog", _sized(event=1), "1 event"),
        ("catalog", _sized(event=1460), "1,460 events"),
        ("stations", _sized(station=1), "1 station"),
        ("stations", _sized(station=8), "8 stations"),
        ("picks", xr.Dataset({"phase": ("pick", ["P"])}), "1 pick of P"),
        ("picks", xr.Dataset({"phase": ("pick", ["S", "P"])}), "2 picks of P, S"),
        ("hmm", _sized(state=1), "1 state"),
        ("nmf", _sized(pattern=12), "12 patterns kept"),
        ("activations", _sized(record=1, pattern=1), "1 record, 1 pattern, not stored"),
        ("pairs", _sized(pair=1), "1 pair of events, not stored"),
        ("reference", repeating.reference(["a", "a", "", "b"]), "3 of 4 events in 2 sequences"),
        ("reference", repeating.reference(["a"]), "1 of 1 event in 1 sequence"),
    ],
)
def test_one_is_one(stage: str, dataset: xr.Dataset, line: str) -> None:
    assert summary(stage, dataset) == line


def test_merged_events_are_told_with_their_agreement() -> None:
    catalog = repeating.catalog(np.zeros(5), 2.0)
    stations = [repeating.station(name, [labels]) for name, labels in (("A", [0, 0, 0, 1, 2]), ("B", [4, 4, 3, 1, 2]))]
    merged = sx.merge_stations(stations, catalog, min_stations=2)
    assert summary("events", merged) == (
        "2 of 5 events in 1 cluster, agreement 1.00 over 2.0 stations in the mean: 2 events"
    )
    alone = sx.merge_stations(stations[:1], catalog, min_stations=1)
    assert summary("events", alone) == (
        "3 of 5 events in 1 cluster, agreement 1.00 over 1 station in the mean: 3 events"
    )
    apart = [repeating.station(name, [np.arange(5)]) for name in ("A", "B")]
    assert summary("events", sx.merge_stations(apart, catalog, min_stations=2)) == "0 of 5 events in 0 clusters"


def test_of_many_clusters_the_largest_are_told() -> None:
    merged = repeating.merged(np.repeat(np.arange(12), 2))
    assert summary("events", merged).endswith(": 2, 2, 2, 2, 2, 2, 2, 2, 2, 2 events and 2 more clusters")


def test_sequences_are_told() -> None:
    repeaters = sx.find_repeaters(repeating.merged([0, 0, 1]), repeating.catalog([0.0, 1.0, 900.0], 2.0))
    assert summary("repeaters", repeaters) == "2 of 3 events in 1 sequence"
