"""ObsPy's objects and QuakeML from ours: what was read comes out again, with the cluster of each event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from archives import events_table

import specufex_dask as sx
from specufex_dask.from_obspy import event_name
from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.tables import texts

if TYPE_CHECKING:
    from pathlib import Path

    from buckets import Bucket

    from specufex_dask.simulate import Simulation


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return sx.simulate(tmp_path_factory.mktemp("study"), n_events=4, n_stations=2, seed=0)


def quakeml(made: Simulation) -> str:
    return f"{made.folder}/catalog.xml"


def read_events(path: object) -> Any:
    with quiet_obspy():
        return load_obspy().read_events(str(path))


def clusters(names: list[str], labels: list[int], *stations: str) -> xr.Dataset:
    """Stage ``clusters`` as far as it says who is in which."""
    coords = {
        "event_id": ("record", texts([name for name in names for _ in stations])),
        "station_id": ("record", texts(list(stations) * len(names))),
    }
    return xr.Dataset({"cluster": ("record", labels)}, coords=coords, attrs={"stage": "clusters"})


def comments(catalog: Any) -> list[list[str]]:
    return [[comment.text for comment in event.comments] for event in catalog]


def test_a_stream_holds_the_usable_records_as_they_were(data_dir: Path) -> None:
    folder = data_dir / "gorner2007"
    catalog = sx.read_catalog(folder / "events.csv").isel(event=[0, 1])
    absent = events_table(["none"], ["2007-06-14"])
    both = xr.concat([catalog, absent], "event").assign_attrs(absent.attrs)
    waveforms = sx.open_waveforms(
        both,
        sx.read_stations(folder / "channels.csv"),
        archive=folder / "events_mseed" / "{event_id}.mseed",
        sampling_rate=1000,
    )
    ours = sx.to_stream(waveforms)
    names = catalog.event_id.values.tolist()
    with quiet_obspy():
        theirs = [trace for name in names for trace in load_obspy().read(str(folder / f"events_mseed/{name}.mseed"))]
    usable = [(trace.id, trace.stats.starttime.ns) for trace in ours]
    assert len(usable) == 16
    for trace in theirs:
        (mine,) = [each for each in ours if (each.id, each.stats.starttime) == (trace.id, trace.stats.starttime)]
        np.testing.assert_array_equal(mine.data, trace.data[: mine.stats.npts])
        assert (mine.stats.sampling_rate, mine.stats.units) == (1000.0, "counts")
    assert [trace.stats.event_id for trace in ours][::8] == names


def test_a_record_whose_time_is_not_known_makes_no_trace(made: Simulation) -> None:
    waveforms = sx.open_waveforms(
        sx.read_catalog(made.catalog),
        sx.read_stations(made.stations),
        archive=made.archive,
        sampling_rate=made.sampling_rate,
        window=(0, 5),
    )
    timeless = waveforms.assign_coords(start_time=("record", np.full(8, "NaT", "datetime64[ns]")))
    with pytest.raises(
        ValueError, match=r"got 8 records whose start is not known .*assign it with waveforms\.assign_coords"
    ):
        sx.to_stream(timeless)
    with pytest.raises(ValueError, match="expected 'waveforms'"):
        sx.to_stream(sx.read_catalog(made.catalog))


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    table = events_table(["007", "nc1.2", "9"], ["2020-01-01T00:00:00.123456", "1969-12-31T23:59:59", "2021-02-28"])
    table = table.assign(magnitude=("event", [1.5, np.nan, -0.3]), depth=("event", [3.25, np.nan, -0.125]))
    sx.write_quakeml(tmp_path / "a.xml", table)
    xr.testing.assert_equal(sx.read_catalog(tmp_path / "a.xml"), table)
    first = (tmp_path / "a.xml").read_bytes()
    sx.write_quakeml(tmp_path / "a.xml", table)
    assert (tmp_path / "a.xml").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["a.xml"]


def test_many_events_are_written_by_pieces(tmp_path: Path) -> None:
    names = [f"e{i}" for i in range(1200)]
    table = events_table(names, ["2020-01-01"] * 1200)
    sx.write_quakeml(tmp_path / "a.xml", table, clusters(names, list(range(1200)), "XX.A..HHZ"))
    read = read_events(tmp_path / "a.xml")
    assert [event_name(str(event.resource_id)) for event in read] == names
    assert comments(read) == [[f"cluster {i} (specufex_dask; XX.A..HHZ)"] for i in range(1200)]


def test_the_original_keeps_its_picks_and_is_told_its_clusters(made: Simulation, tmp_path: Path) -> None:
    catalog = sx.read_catalog(quakeml(made))
    names = catalog.event_id.values.tolist()
    labels = clusters(names, [0, 1, 2, -1, 1, 1, -1, -1], "XX.A..HHZ", "XX.B..HHZ")
    sx.write_quakeml(tmp_path / "a.xml", quakeml(made), labels)
    before, after = read_events(quakeml(made)), read_events(tmp_path / "a.xml")
    assert before[0].picks
    for ours, theirs in zip(after, before, strict=True):
        for part in ("resource_id", "picks", "origins", "magnitudes", "event_type"):
            assert getattr(ours, part) == getattr(theirs, part)
    a, b = "(specufex_dask; XX.A..HHZ)", "(specufex_dask; XX.B..HHZ)"
    assert comments(after) == [
        [f"cluster 0 {a}", f"cluster 1 {b}"],
        [f"cluster 2 {a}"],
        [f"cluster 1 {a}", f"cluster 1 {b}"],
        [],
    ]
    xr.testing.assert_identical(sx.read_catalog(tmp_path / "a.xml"), catalog)
    xr.testing.assert_identical(sx.read_picks(tmp_path / "a.xml"), sx.read_picks(quakeml(made)))


def test_a_catalog_of_the_user_is_not_changed_and_other_comments_stay(made: Simulation) -> None:
    obspy, original = load_obspy(), read_events(quakeml(made))
    original[0].comments.append(obspy.core.event.Comment(text="cluster 9 as I see it"))
    names = [event_name(str(event.resource_id)) for event in original]
    once = sx.to_catalog(original, clusters(names, [1, 2, 3, 4], "XX.A..HHZ"))
    twice = sx.to_catalog(once, clusters(names[:1], [5], "XX.A..HHZ"))
    assert comments(original) == [["cluster 9 as I see it"], [], [], []]
    assert comments(twice) == [["cluster 9 as I see it", "cluster 5 (specufex_dask; XX.A..HHZ)"], [], [], []]
    assert twice[0].picks is original[0].picks
    assert comments(sx.to_catalog(original)) == comments(original)


def test_foreign_elements_stay(tmp_path: Path) -> None:
    original = read_events_of_obspy("usgs_event.xml")
    (name,) = [event_name(str(event.resource_id)) for event in original]
    sx.write_quakeml(tmp_path / "a.xml", original, clusters([name], [3], "XX.A..HHZ"))
    (event,) = read_events(tmp_path / "a.xml")
    assert original[0].extra
    assert event.extra == original[0].extra
    assert event.comments[-1].text == "cluster 3 (specufex_dask; XX.A..HHZ)"
    assert event.comments[-1].creation_info.author == "specufex_dask"


def read_events_of_obspy(name: str) -> Any:
    """A file of ObsPy's own tests."""
    from pathlib import Path

    path = Path(load_obspy().__file__).parent / "io" / "quakeml" / "tests" / "data" / name
    if not path.is_file():
        pytest.skip("this ObsPy was installed without its tests")
    return read_events(path)


def test_clusters_over_all_stations_say_how_many_agree() -> None:
    table = events_table(["a", "b"], ["2020-01-01", "2020-01-02"])
    merged = xr.Dataset(
        {"cluster": ("event", [3, -1]), "n_stations": ("event", [5, 0]), "agreement": ("event", [0.8, np.nan])},
        coords={"event_id": ("event", texts(["a", "b"]))},
        attrs={"stage": "events"},
    )
    assert comments(sx.to_catalog(table, merged)) == [["cluster 3 (specufex_dask; 5 stations, agreement 0.80)"], []]


def test_what_cannot_be_is_told(made: Simulation, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got clusters of events \['x'\] …, none of which is in the catalogue"):
        sx.to_catalog(quakeml(made), clusters(["x"], [1], "XX.A..HHZ"))
    with pytest.raises(ValueError, match=r"got 1 event_id that cannot stand in QuakeML \('a b' …\), expected letters"):
        sx.write_quakeml(tmp_path / "a.xml", events_table(["a b"], ["2020-01-01"]))
    (tmp_path / "a.csv").write_text("event_id")
    with pytest.raises(ValueError, match=r"a\.csv, which ObsPy cannot read .*or what read_catalog returns of another"):
        sx.to_catalog(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="expected 'clusters'"):
        sx.to_catalog(quakeml(made), sx.read_stations(made.stations))
    assert not (tmp_path / "a.xml").exists()


def test_quakeml_can_be_written_to_a_bucket(bucket: Bucket) -> None:
    table = events_table(["a"], ["2020-01-01"])
    sx.write_quakeml(bucket.url("a.xml"), table, storage_options=bucket.options)
    read = sx.read_catalog(bucket.url("a.xml"), storage_options=bucket.options)
    xr.testing.assert_equal(read, table)
