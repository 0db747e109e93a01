from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from report_study import N_FRAMES, N_FREQUENCIES, Stages, make_study, texts

from specufex_dask import report_records


@pytest.fixture(scope="module")
def study() -> Stages:
    return make_study()


def test_typical_records_are_the_nearest_of_distinct_events(study: Stages) -> None:
    clusters = study["clusters"]
    for number in range(3):
        frame = clusters[["cluster", "distance", "event_id"]].to_dataframe().query("cluster == @number")
        expected = frame.sort_values("distance").drop_duplicates("event_id").index[:3]
        assert report_records.nearest(clusters, number).tolist() == expected.tolist()


def test_typical_records_are_found_by_name_not_by_position(study: Stages) -> None:
    order = np.random.default_rng(2).permutation(study["clusters"].sizes["record"])[:-5]
    shuffled = study | {"spectrograms": study["spectrograms"].isel(record=order)}
    groups, _ = report_records.typical(shuffled)
    spectrograms = study["spectrograms"]
    for record in (record for group in groups for record in group):
        same = (spectrograms.event_id == record.event_id) & (spectrograms.station_id == record.station_id)
        place = int(np.flatnonzero(same)[0])
        if place in order:
            np.testing.assert_array_equal(record.spectrogram, spectrograms.spectrogram.values[place])
        else:
            assert record.spectrogram is None


def test_of_the_cubes_only_the_typical_records_are_read(study: Stages) -> None:
    read: list[int] = []

    def block(block_info: Any = None) -> np.ndarray[Any, Any]:
        start, stop = block_info[None]["array-location"][0]
        read.append(start)
        return np.ones((stop - start, N_FREQUENCIES, N_FRAMES), dtype="f4")

    n = study["clusters"].sizes["record"]
    lazy = da.map_blocks(block, chunks=((1,) * n, N_FREQUENCIES, N_FRAMES), dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    cubes = study["spectrograms"].assign(spectrogram=(("record", "frequency", "time"), lazy))
    groups, _ = report_records.typical(study | {"spectrograms": cubes})
    assert sum(len(group) for group in groups) == 9
    assert len(read) == 9


def test_an_event_has_the_cluster_of_most_of_its_usable_records() -> None:
    records = xr.Dataset(
        {"cluster": ("record", [0, 1, 1, 2, 1, -1, -1, -1, 2])},
        coords={"event_id": ("record", texts(["a", "a", "a", "b", "b", "b", "c", "c", "d"]))},
    )
    events = texts(["d", "c", "b", "a", "unknown"])
    assert report_records.event_clusters(events, records).tolist() == [2, -1, 1, 1, -1]


def test_without_a_catalog_an_event_begins_with_its_first_record() -> None:
    times = np.array(["2020-01-02", "NaT", "2020-01-01", "NaT"], dtype="datetime64[ns]")
    records = xr.Dataset(coords={"event_id": ("record", texts(["a", "a", "a", "b"])), "start_time": ("record", times)})
    names, first = report_records.first_times(records)
    assert names.tolist() == ["a", "b"]
    assert first[0] == np.datetime64("2020-01-01")
    assert np.isnat(first[1])
