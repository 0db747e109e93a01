from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest

from specufex_dask import record_blocks
from specufex_dask.catalog import read_catalog, read_picks, read_stations
from specufex_dask.reading import load_obspy
from specufex_dask.schema import QUALITY, validate
from specufex_dask.simulate import Simulation, simulate
from specufex_dask.tables import texts
from specufex_dask.waveforms import open_waveforms

if TYPE_CHECKING:
    import xarray as xr

SHORT = ["070625130742", "070628162442", "070704234122"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate(tmp_path_factory.mktemp("simulated"), n_events=12, n_stations=3, seed=5)


@pytest.fixture(scope="module")
def catalog(made: Simulation) -> xr.Dataset:
    return read_catalog(made.catalog)


@pytest.fixture(scope="module")
def stations(made: Simulation) -> xr.Dataset:
    return read_stations(made.stations)


@pytest.fixture(scope="module")
def whole(made: Simulation, catalog: xr.Dataset, stations: xr.Dataset) -> xr.Dataset:
    return open_waveforms(catalog, stations, archive=made.archive, sampling_rate=100.0).compute()


def test_every_icequake_is_usable_but_the_three_short_ones(data_dir: Path) -> None:
    gorner = data_dir / "gorner2007"
    catalog, stations = read_catalog(gorner / "events.csv"), read_stations(gorner / "channels.csv")
    template = f"{gorner}/events_mseed/{{event_id}}.mseed"
    lazy = open_waveforms(catalog, stations, station_id="4D.G7J1..SHZ", archive=template, sampling_rate=1000.0)
    assert dict(lazy.sizes) == {"record": 1460, "sample": 2001}
    waveforms = lazy.compute()
    bad = waveforms.isel(record=np.flatnonzero(waveforms.quality))
    assert bad.event_id.values.tolist() == SHORT
    assert [QUALITY[flag] for flag in bad.quality.values] == ["short"] * 3
    assert np.isnan(bad.waveform).all()
    assert int((waveforms.quality == 0).sum()) == 1457
    for i in (0, 700, 1459):
        trace = load_obspy().read(template.format(event_id=catalog.event_id.values[i])).select(station="G7J1")[0]
        np.testing.assert_array_equal(waveforms.waveform[i], trace.data)
        assert waveforms.start_time.values[i] == np.datetime64(trace.stats.starttime.ns, "ns")


def test_a_record_is_an_event_at_a_station_event_by_event(
    whole: xr.Dataset, catalog: xr.Dataset, stations: xr.Dataset
) -> None:
    pairs = [(event, station) for event in catalog.event_id.values for station in stations.station_id.values]
    assert list(zip(whole.event_id.values, whole.station_id.values, strict=True)) == pairs
    assert whole.sizes["sample"] == 2000
    assert whole.waveform.dtype == np.float32
    assert whole.attrs["sampling_rate"] == 100.0
    validate(whole, "waveforms")
    assert np.unique(whole.waveform, axis=0).shape[0] == len(pairs)


@pytest.mark.parametrize("records_per_task", [1, 5, 36, 256])
def test_results_do_not_depend_on_chunks_or_scheduler(
    made: Simulation, catalog: xr.Dataset, stations: xr.Dataset, whole: xr.Dataset, records_per_task: int
) -> None:
    lazy = open_waveforms(
        catalog, stations, archive=made.archive, sampling_rate=100.0, records_per_task=records_per_task
    )
    assert lazy.waveform.chunks[0][0] == min(records_per_task, 36)
    assert lazy.waveform.chunks[1] == (2000,)
    for scheduler in ("threads", "sync"):
        with dask.config.set(scheduler=scheduler):
            assert lazy.compute().identical(whole)


def test_nothing_is_read_before_it_is_asked_for_and_each_file_once(
    made: Simulation, catalog: xr.Dataset, stations: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    usual = Path.open

    def count(self: Path, *args: Any, **options: Any) -> Any:
        if self.suffix == ".mseed":
            opened.append(self.name)
        return usual(self, *args, **options)

    monkeypatch.setattr(Path, "open", count)
    lazy = open_waveforms(catalog, stations, archive=made.archive, sampling_rate=100.0, window=(0.0, 10.0))
    assert opened == []
    lazy.compute()
    assert sorted(opened) == sorted(f"{name}.mseed" for name in catalog.event_id.values)
    opened.clear()
    open_waveforms(catalog, stations, archive=made.archive, sampling_rate=100.0)
    assert len(opened) <= 16


def test_a_window_hangs_on_the_origin_the_file_or_a_pick(
    made: Simulation, catalog: xr.Dataset, stations: xr.Dataset, whole: xr.Dataset
) -> None:
    picks = read_picks(made.quakeml)
    options: dict[str, Any] = {"archive": made.archive, "sampling_rate": 100.0, "window": (-1.0, 5.0)}
    s_times = picks.time.values[picks.phase.values == "S"]
    first = {
        "origin": np.full(36, 200),
        "S": np.floor((s_times - whole.start_time.values) / np.timedelta64(10, "ms") + 0.5).astype(int) - 100,
    }
    for anchor in ("origin", "S"):
        found = open_waveforms(catalog, stations, anchor=anchor, picks=picks, **options).compute()
        assert (found.quality == 0).all()
        assert found.sizes["sample"] == 600
        for i in range(36):
            begin = int(first[anchor][i])
            np.testing.assert_array_equal(found.waveform[i], whole.waveform[i, begin : begin + 600])
    options["window"] = (2.0, 8.0)
    found = open_waveforms(catalog, stations, anchor="file_start", **options).compute()
    np.testing.assert_array_equal(found.waveform, whole.waveform[:, 200:800])


def test_a_record_without_a_pick_says_so_and_another_channel_of_the_station_will_do(
    made: Simulation, catalog: xr.Dataset, stations: xr.Dataset
) -> None:
    picks = read_picks(made.quakeml)
    picks["station_id"] = ("pick", texts([name[:-1] + "N" for name in picks.station_id.values]))
    some = picks.isel(pick=picks.event_id.values != "sim000003")
    options: dict[str, Any] = {"archive": made.archive, "sampling_rate": 100.0, "window": (-1.0, 5.0)}
    found = open_waveforms(catalog, stations, anchor="P", picks=some, **options).compute()
    assert [QUALITY[flag] for flag in found.quality.values] == ["usable"] * 9 + ["no_pick"] * 3 + ["usable"] * 24
    with pytest.raises(ValueError, match=r"got anchor='Pn', expected one of \['origin', 'file_start', 'P', 'S'\]"):
        open_waveforms(catalog, stations, anchor="Pn", picks=picks, **options)
    with pytest.raises(ValueError, match=r"got anchor='P' without picks, expected .*: pass picks=.*, or fallback="):
        open_waveforms(catalog, stations, anchor="P", **options)


def test_obspy_objects_in_memory_give_the_same_samples(
    made: Simulation, catalog: xr.Dataset, stations: xr.Dataset
) -> None:
    obspy = load_obspy()
    events, inventory = obspy.read_events(made.quakeml), obspy.read_inventory(made.stations)
    stream = obspy.read(made.archive.format(event_id="*"))
    options: dict[str, Any] = {"sampling_rate": 100.0, "window": (0.0, 10.0)}
    memory = open_waveforms(events, inventory, archive=stream, **options)
    files = open_waveforms(catalog, stations, archive=made.archive, **options)
    np.testing.assert_array_equal(memory.waveform, files.waveform)
    np.testing.assert_array_equal(memory.start_time, files.start_time)
    again = open_waveforms(events, inventory, archive=stream.copy(), **options)
    assert memory.attrs["recipe_id"] == again.attrs["recipe_id"] != files.attrs["recipe_id"]
    stream[0].data[0] += 1
    assert open_waveforms(events, inventory, archive=stream, **options).attrs["recipe_id"] != again.attrs["recipe_id"]
    with pytest.raises(ValueError, match="got window=None with a Stream in memory and 12 events, expected a window"):
        open_waveforms(events, inventory, archive=stream, sampling_rate=100.0)


def test_stations_are_chosen_by_name_in_the_order_given(
    made: Simulation, catalog: xr.Dataset, stations: xr.Dataset
) -> None:
    options: dict[str, Any] = {"archive": made.archive, "sampling_rate": 100.0}
    chosen = open_waveforms(catalog, stations, station_id=["XX.S003..HHZ", "XX.S001..HHZ"], **options)
    assert chosen.station_id.values[:3].tolist() == ["XX.S003..HHZ", "XX.S001..HHZ", "XX.S003..HHZ"]
    with pytest.raises(ValueError, match=r"got station_id \['XX.S009'\], expected some of \['XX.S001..HHZ'"):
        open_waveforms(catalog, stations, station_id=["XX.S009"], **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"archive": "/nowhere/{event_id}"}, FileNotFoundError, "folder '/nowhere' does not exist; expected a templ"),
        ({"archive": "{event}.mseed"}, ValueError, r"with the fields \['event'\], expected some of \['event_id'"),
        ({"archive": "{event_id.mseed"}, ValueError, "expected a path with fields in braces .*: close each brace"),
        ({"archive": "scedc"}, ValueError, "expected the folder or URL below which it lies: pass root="),
        ({"archive": 3}, TypeError, "got archive of type int, expected a path template such as"),
        ({"archive": "absent-{event_id}"}, ValueError, "in which no record can be read .*absent-sim000000"),
        ({"window": (5, -1)}, ValueError, r"got window=\(5, -1\), expected \(start, end\) in s, start first"),
        ({"window": (0, 0.001)}, ValueError, "expected at least 2 samples at 100 Hz: make it longer"),
        ({"window": (0, 9), "n_samples": 5}, ValueError, "got n_samples=5, expected None with a window"),
        ({"sampling_rate": 0}, ValueError, "got sampling_rate=0, expected a rate in Hz above 0"),
        ({"dtype": "int16"}, ValueError, "got dtype='int16', expected 'float32' or 'float64'"),
        ({"max_gap": -1}, ValueError, "got max_gap=-1, expected a length in s, 0 or more"),
        ({"max_flat": 0}, ValueError, "got max_flat=0, expected a share above 0"),
        ({"records_per_task": 0}, ValueError, "got records_per_task=0, expected 1 or more"),
        ({"preprocess": {"bandpass": (1, 60)}}, ValueError, "expected two frequencies with 0 < low < high < 50 Hz"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    made: Simulation, options: dict[str, Any], error: type[Exception], message: str
) -> None:  # fmt: skip
    catalog, stations = read_catalog(made.catalog), read_stations(made.stations)
    with pytest.raises(error, match=message):
        open_waveforms(catalog, stations, **{"archive": made.archive, "sampling_rate": 100.0, **options})


def test_a_file_that_may_not_be_read_stops_the_run(
    made: Simulation, catalog: xr.Dataset, stations: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = open_waveforms(catalog, stations, archive=made.archive, sampling_rate=100.0)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match="got 'permission denied' for"):
        lazy.compute()


def test_the_recipe_knows_what_changes_the_samples_and_nothing_else(
    made: Simulation, catalog: xr.Dataset, stations: xr.Dataset, whole: xr.Dataset
) -> None:
    def recipe_id(**options: Any) -> str:
        every = {"archive": made.archive, "sampling_rate": 100.0, **options}
        return str(open_waveforms(catalog, stations, **every).attrs["recipe_id"])

    assert recipe_id() == recipe_id(records_per_task=7) == recipe_id(n_samples=2000) == whole.attrs["recipe_id"]
    assert recipe_id(preprocess={}) == recipe_id()
    picks = read_picks(made.quakeml)
    on_p: dict[str, Any] = {"window": (0, 9), "anchor": "P"}
    only_p, fewer = picks.isel(pick=picks.phase.values == "P"), picks.isel(pick=slice(4, None))
    assert recipe_id(picks=picks, **on_p) == recipe_id(picks=only_p, **on_p) != recipe_id(picks=fewer, **on_p)
    others: list[dict[str, Any]] = [
        {"dtype": "float64"},
        {"max_gap": 1.0},
        {"window": (0, 9)},
        {"window": (0, 9), "anchor": "file_start"},
    ]
    others += [{"preprocess": {"demean": True}}, {"station_id": "XX.S001..HHZ"}, {"n_samples": 1999}]
    assert len({recipe_id(), *(recipe_id(**each) for each in others)}) == len(others) + 1


def test_a_task_travels_to_another_process(made: Simulation, catalog: xr.Dataset, stations: xr.Dataset) -> None:
    lazy = open_waveforms(catalog, stations, archive=made.archive, sampling_rate=100.0, window=(0.0, 5.0))
    graph = pickle.dumps(dict(lazy.waveform.data.dask))
    assert len(graph) < 100_000
    assert pickle.loads(pickle.dumps(record_blocks.read_block)) is record_blocks.read_block  # noqa: S301 - our own pickle
