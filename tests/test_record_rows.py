"""The order of records, and what is read together: each object by one task."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import specufex_dask as sx
from specufex_dask import continuous, record_blocks, schema
from specufex_dask.anchors import Rows, event_major
from specufex_dask.archive import LAYOUTS, PathTemplate
from specufex_dask.cutting import NOT_A_TIME
from specufex_dask.record_rows import by_object, read_together, tasks
from specufex_dask.tables import texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from specufex_dask.simulate import Simulation

Array = np.ndarray[Any, Any]


def catalog_of(times: Array) -> xr.Dataset:
    """A catalogue of events at these times, all at one place."""
    n_events = len(times)
    values = {name: ("event", np.zeros(n_events)) for name in ("latitude", "longitude", "depth", "magnitude")}
    ids = texts([f"e{i:06d}" for i in range(n_events)])
    data = {"origin_time": ("event", times.astype("datetime64[ns]")), **values}
    return schema.validate(xr.Dataset(data, coords={"event_id": ("event", ids)}), "catalog")


def stations_of(names: Sequence[str]) -> xr.Dataset:
    """Stations of these names, all at one place."""
    values = {name: ("station", np.zeros(len(names))) for name in ("latitude", "longitude", "elevation")}
    return schema.validate(xr.Dataset(values, coords={"station_id": ("station", texts(list(names)))}), "stations")


def rows_of(times: Sequence[str], stations: Sequence[str]) -> Rows:
    """Event-major records of events at these times."""
    return event_major(catalog_of(np.array(times, "datetime64[ns]")), stations_of(stations), "origin", None, None)


def _named(rows: Rows) -> list[str]:
    return [
        f"{event[-1]}{station.split('.')[1]}" for event, station in zip(rows.event_id, rows.station_id, strict=True)
    ]


TIMES = ["2024-01-02T12:00", "2024-01-01T23:59:59", "2024-01-02T00:00:01", "2024-01-01T01:00"]


def test_records_of_event_files_are_event_by_event() -> None:
    rows, ends = by_object(rows_of(TIMES[:2], ["XX.A..Z", "XX.B..Z"]), PathTemplate("{year}/{event_id}.ms"), (0.0, 1.0))
    assert _named(rows) == ["0A", "0B", "1A", "1B"]
    assert ends is None


@pytest.mark.parametrize(
    ("template", "window", "names", "ends"),
    [
        (LAYOUTS["scedc"].template, (0, 9), "3B 1B 2B 0B 3A 1A 2A 0A", [2, 4, 6, 8]),
        (LAYOUTS["scedc"].template, (-5, 9), "3B 1B 2B 0B 3A 1A 2A 0A", [3, 4, 7, 8]),
        (LAYOUTS["scedc"].template, (2, 9), "3B 1B 2B 0B 3A 1A 2A 0A", [1, 4, 5, 8]),
        ("{network}/{station}/{year}{julday}T{hour}", (0, 9), "3B 1B 2B 0B 3A 1A 2A 0A", [1, 2, 3, 4, 5, 6, 7, 8]),
        (LAYOUTS["sds"].template, None, "3B 1B 2B 0B 3A 1A 2A 0A", [2, 4, 6, 8]),
        ("{network}/{year}.{julday}.ms", (0, 9), "3B 3A 1B 1A 2B 2A 0B 0A", [4, 8]),
    ],
)
def test_records_of_day_files_are_by_file_and_time(template: str, window: Any, names: str, ends: list[int]) -> None:
    rows, found = by_object(rows_of(TIMES, ["XX.B..Z", "XX.A..Z"]), PathTemplate(template), window)
    assert _named(rows) == names.split()
    assert found is not None
    assert found.tolist() == ends


def test_a_record_whose_anchor_is_not_known_is_sorted_by_its_origin() -> None:
    rows = rows_of(TIMES, ["XX.A..Z"])
    lost = replace(rows, anchor_ns=np.where(rows.event_id == "e000002", NOT_A_TIME, rows.anchor_ns))
    assert _named(by_object(lost, PathTemplate(LAYOUTS["sds"].template), (0.0, 9.0))[0]) == ["3A", "1A", "2A", "0A"]


@given(
    lengths=st.lists(st.integers(1, 6000), min_size=1, max_size=40),
    record_bytes=st.integers(1, 40_000_000),
    records_per_task=st.integers(1, 5000),
)
def test_what_is_read_together_is_whole_objects_or_a_part_of_a_large_one(
    lengths: list[int], record_bytes: int, records_per_task: int
) -> None:
    ends = np.cumsum(lengths)
    sizes = read_together(ends, record_bytes, records_per_task)
    assert sum(sizes) == sum(lengths)
    most = max(1, min(2048, int(32e6 // record_bytes)))
    assert max(sizes) <= most
    first = 0
    for size in sizes:
        inside = np.searchsorted(ends, first, side="right"), np.searchsorted(ends, first + size - 1, side="right")
        whole = {0, *ends.tolist()}
        if inside[0] != inside[1]:
            assert {first, first + size} <= whole, "of several objects all is read"
            assert size <= max(records_per_task, sum(lengths) // 32)
        elif not {first, first + size} <= whole:
            assert lengths[inside[0]] > most, "an object is not divided without need"
        first += size


def test_tasks_have_as_many_records_but_the_last() -> None:
    assert tasks(10, 4) == (4, 4, 2)
    assert tasks(0, 4) == (0,)
    assert read_together(np.array([0]), 8, 4) == (0,)


N_EVENTS, N_STATIONS = 60, 2


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """Three days of two channels, with a window across each midnight."""
    return sx.simulate(
        tmp_path_factory.mktemp("days"), n_events=N_EVENTS, n_stations=N_STATIONS, sampling_rate=20.0, layout="scedc",
        events_per_day=20, seed=0,
    )  # fmt: skip


def _opened(made: Any, **how: Any) -> xr.Dataset:
    return sx.open_waveforms(
        sx.read_catalog(made.catalog), sx.read_stations(made.stations), archive="scedc",
        root=f"{made.folder}/waveforms", window=(-2.0, 14.0), sampling_rate=made.sampling_rate, **how,
    )  # fmt: skip


def _times_read(patch: pytest.MonkeyPatch, compute: Any) -> Counter[str]:
    """How often `compute` reads windows of each object."""
    read: Counter[str] = Counter()
    usual = continuous.read_windows

    def counted(objects: Any, path: str, *arguments: Any, **options: Any) -> Any:
        read[Path(path).name] += 1
        return usual(objects, path, *arguments, **options)

    with patch.context() as patched:
        patched.setattr(record_blocks, "read_windows", counted)
        compute()
    return read


@pytest.mark.parametrize("records_per_task", [7, 20, 256])
@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_each_object_is_read_by_one_task_but_for_windows_across_midnight(
    days: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records_per_task: int, scheduler: str
) -> None:
    waveforms = _opened(days, records_per_task=records_per_task)
    chunks = waveforms.waveform.chunks[0]
    assert set(chunks[:-1]) <= {records_per_task}, "tasks are equal though days are not"
    with dask.config.set(scheduler=scheduler):
        read = _times_read(monkeypatch, lambda: sx.save(waveforms, tmp_path / "s.zarr"))
    n_crossing = 0 if records_per_task == 256 else 2 * N_STATIONS
    assert len(read) == 4 * N_STATIONS, "the last window of the third day goes on into a fourth"
    assert read.total() <= len(read) + n_crossing
    assert max(read.values()) <= 2


def test_a_record_is_the_same_alone_and_among_all(days: Any) -> None:
    found = _opened(days).compute()
    assert (found.quality == 0).all()
    stations, time = found.station_id.values, found.start_time.values
    assert stations.tolist() == sorted(stations.tolist())
    assert all((np.diff(time[stations == name]) > np.timedelta64(0)).all() for name in set(stations.tolist()))
    catalog, channels = sx.read_catalog(days.catalog), sx.read_stations(days.stations)
    for i in (0, 19, 61, 119):
        event = catalog.isel(event=catalog.event_id.values == found.event_id.values[i])
        (alone,) = sx.open_waveforms(
            event, channels, station_id=str(stations[i]), archive="scedc", root=f"{days.folder}/waveforms",
            window=(-2.0, 14.0), sampling_rate=days.sampling_rate,
        ).waveform.values  # fmt: skip
        np.testing.assert_array_equal(found.waveform.values[i], alone)


def _contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_a_shard_that_was_lost_reads_only_its_own_days(
    days: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waveforms = _opened(days, records_per_task=16)
    sx.save(waveforms, tmp_path / "s.zarr")
    before = _contents(tmp_path / "s.zarr")
    for name in ("quality/c/3", "waveform/c/3/0"):
        (tmp_path / "s.zarr" / "waveforms" / name).unlink()
    read = _times_read(monkeypatch, lambda: sx.save(waveforms, tmp_path / "s.zarr"))
    assert sorted(name[2:6] + name[-6:-3] for name in read) == ["S001003", "S001004", "S002001", "S002002"]
    assert _contents(tmp_path / "s.zarr") == before
