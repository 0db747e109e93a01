from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from specufex_dask.catalog import read_catalog, read_picks, read_stations
from specufex_dask.from_obspy import event_name
from specufex_dask.reading import load_obspy
from specufex_dask.simulate import Simulation, simulate

HEADER = "event_id,origin_time,latitude,longitude,depth_km,magnitude\n"
LINE = "070614093058,2007-06-14T09:30:58,45.97,7.80,0.0046,\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate(tmp_path_factory.mktemp("simulated"), n_events=5, n_stations=2, seed=3)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    return tmp_path / "events.csv"


def test_the_icequakes_come_out_as_they_stand_in_the_file(data_dir: Path) -> None:
    catalog = read_catalog(data_dir / "gorner2007" / "events.csv")
    assert catalog.sizes["event"] == 1460
    assert catalog.event_id.values[0] == "070614093058"
    assert catalog.event_id.dtype == object
    assert catalog.origin_time.values[0] == np.datetime64("2007-06-14T09:30:58", "ns")
    assert catalog.depth.values[:2].tolist() == [0.00459, 0.002864]
    assert np.isnan(catalog.magnitude).all()
    stations = read_stations(data_dir / "gorner2007" / "channels.csv")
    assert stations.station_id.values.tolist() == [f"4D.G7J{i}..SHZ" for i in range(1, 9)]
    assert stations.elevation.values[0] == 2527.9


def test_names_of_columns_can_be_mapped_and_depth_be_in_metres(events: Path) -> None:
    events.write_text("evID,time,lat,lon,z\n007, 2020-01-01 00:00:00.5+01:00 ,1,2,1500\n\n")
    names = {"event_id": "evID", "origin_time": "time", "latitude": "lat", "longitude": "lon"}
    catalog = read_catalog(events, columns={**names, "depth_m": "z", "magnitude": None})
    assert catalog.event_id.item() == "007"
    assert catalog.origin_time.values[0] == np.datetime64("2019-12-31T23:00:00.5", "ns")
    assert catalog.depth.item() == 1.5
    assert np.isnan(catalog.magnitude.item())
    assert np.isnan(read_catalog(events, columns={**names, "depth_km": None, "magnitude": None}).depth.item())


def test_equal_content_is_an_equal_recipe_whatever_the_source(made: Simulation, tmp_path: Path) -> None:
    copied = tmp_path / "other.csv"
    copied.write_bytes(Path(made.catalog).read_bytes())
    in_memory = load_obspy().read_events(made.quakeml)
    sources = (made.catalog, copied, made.quakeml, in_memory)
    assert len({read_catalog(source).attrs["recipe_id"] for source in sources}) == 1
    copied.write_bytes(Path(made.catalog).read_bytes().replace(b"sim000004", b"sim000009"))
    assert read_catalog(copied).attrs["recipe_id"] != read_catalog(made.catalog).attrs["recipe_id"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + LINE + LINE, "got 1 repeated event_id in .*070614093058 .2 times.; expected each once: keep one"),
        (HEADER + LINE.replace("2007-06-14T09:30:58", "14/06/07"), "got origin_time '14/06/07' in line 2 .*ISO 8601"),
        (HEADER + LINE.replace("2007-", "0007-"), "got origin_time '0007-06-14T09:30:58' in line 2"),
        (HEADER + LINE.replace("2007-06-14T09:30:58", ""), "got origin_time '' in line 2 .*expected a value in every"),
        (HEADER + LINE.replace("0.0046", "deep"), "got depth_km 'deep' in line 2 .*expected a number"),
        (HEADER + LINE.replace("45.97", "90878.9"), "got 1 entries with a latitude that cannot be .*90878.9 at 0706.*"),
        (HEADER + LINE.replace("45.97", "nan"), "got 1 entries with a latitude that cannot be"),
        (HEADER + "1,2020-01-01,1,2\n", "got 4 cells in line 2 of .*expected 6 as in its header: correct the line"),
        (HEADER.replace("latitude", "lat") + LINE, "columns .*'lat'.* expected 'latitude' among them: name the column"),
        (HEADER.replace("magnitude", "mag") + LINE, "or columns={'magnitude': None} if there is none"),
        (HEADER.replace("depth_km", "z") + LINE, "or columns={'depth_km': None} if there is none"),
        (HEADER, "got no event in .*expected at least one"),
        ("", "expected 'event_id' among them|expected 'depth_km' among them"),
    ],
)
def test_a_faulty_table_says_where_and_what_to_do(events: Path, text: str, message: str) -> None:
    events.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_catalog(events)


def test_columns_that_cannot_be_are_named(events: Path) -> None:
    events.write_text(HEADER + LINE)
    with pytest.raises(ValueError, match=r"got columns with the keys \['event'\], expected some of .*event_id"):
        read_catalog(events, columns={"event": "event_id"})
    with pytest.raises(ValueError, match=r"got columns that name \['id'\], expected some of the columns of"):
        read_catalog(events, columns={"event_id": "id"})


def test_what_is_no_catalogue_is_refused(tmp_path: Path, made: Simulation) -> None:
    with pytest.raises(FileNotFoundError, match="where there is no file, expected one: correct the path"):
        read_catalog(tmp_path / "absent.csv")
    text = tmp_path / "notes.txt"
    text.write_text("not a catalogue")
    with pytest.raises(ValueError, match=r"notes.txt, which ObsPy cannot read .*QuakeML .*: convert it, or rename it"):
        read_catalog(text)
    with pytest.raises(ValueError, match="for something other than a CSV file, expected none"):
        read_catalog(made.quakeml, columns={"event_id": "id"})
    with pytest.raises(TypeError, match="got catalog of type int, expected an ObsPy Catalog, or a path"):
        read_catalog(3)
    latin = tmp_path / "latin.csv"
    latin.write_bytes(HEADER.encode() + b"\xe9\n")
    with pytest.raises(ValueError, match="is not CSV in UTF-8"):
        read_catalog(latin)


@pytest.mark.parametrize(
    ("resource_id", "name"),
    [
        ("smi:local/event/ev001", "ev001"),
        ("quakeml:nc.anss.org/Event/NC/72282711", "72282711"),
        ("quakeml:earthquake.usgs.gov/fdsnws/event/1/query?eventid=nc1&format=quakeml", "nc1"),
        ("070614093058", "070614093058"),
    ],
)
def test_an_event_of_quakeml_is_named_by_the_last_part_of_its_path(resource_id: str, name: str) -> None:
    assert event_name(resource_id) == name


def test_events_without_an_origin_are_refused_and_the_preferred_origin_is_taken() -> None:
    event = load_obspy().core.event
    time = load_obspy().UTCDateTime(2020, 1, 1)
    origins = [event.Origin(time=time, latitude=lat, longitude=0.0, depth=2500.0) for lat in (1.0, 2.0)]
    two = event.Event(origins=origins, magnitudes=[event.Magnitude(mag=3.0)])
    assert read_catalog(event.Catalog([two])).latitude.item() == 1.0
    two.preferred_origin_id = origins[1].resource_id
    catalog = read_catalog(event.Catalog([two]))
    assert (catalog.latitude.item(), catalog.depth.item(), catalog.magnitude.item()) == (2.0, 2.5, 3.0)
    with pytest.raises(ValueError, match="got 1 events in the ObsPy Catalog without origin time"):
        read_catalog(event.Catalog([event.Event()]))


def test_stations_of_stationxml_and_of_csv_are_the_same(made: Simulation, tmp_path: Path) -> None:
    stations = read_stations(made.stations)
    assert stations.station_id.values.tolist() == ["XX.S001..HHZ", "XX.S002..HHZ"]
    lines = ["network,station,location,channel,latitude,longitude,elevation_m"]
    for i, name in enumerate(stations.station_id.values):
        place = [repr(float(stations[key].values[i])) for key in ("latitude", "longitude", "elevation")]
        lines.append(",".join([*name.split("."), *place]))
    table = tmp_path / "channels.csv"
    table.write_text("\n".join(lines))
    assert read_stations(table).attrs["recipe_id"] == stations.attrs["recipe_id"]
    assert read_stations(load_obspy().read_inventory(made.stations)).identical(stations)


def test_the_last_epoch_says_where_a_channel_is_and_an_inventory_needs_channels() -> None:
    parts, time = load_obspy().core.inventory, load_obspy().UTCDateTime
    epochs = [
        parts.Channel("HHZ", "00", latitude=lat, longitude=0, elevation=0, depth=0, start_date=time(year, 1, 1))
        for lat, year in ((2.0, 2010), (1.0, 2000))
    ]
    station = parts.Station("A", latitude=0, longitude=0, elevation=0, channels=epochs)
    stations = read_stations(parts.Inventory([parts.Network("XX", stations=[station])]))
    assert stations.station_id.values.tolist() == ["XX.A.00.HHZ"]
    assert stations.latitude.item() == 2.0
    station.channels = []
    with pytest.raises(ValueError, match=r"without channels, expected .*: request StationXML with level='channel'"):
        read_stations(parts.Inventory([parts.Network("XX", stations=[station])]))


def test_a_repeated_or_dotted_channel_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "channels.csv"
    header = "network,station,location,channel,latitude,longitude,elevation_m\n"
    table.write_text(header + "XX,A,,HHZ,1,2,3\nXX,A,,HHZ,1,2,3\n")
    with pytest.raises(ValueError, match=r"repeated station_id .*XX.A..HHZ \(2 times\)"):
        read_stations(table)
    table.write_text(header + "XX,A.B,,HHZ,1,2,3\n")
    with pytest.raises(ValueError, match=r"expected NET.STA.LOC.CHA with three dots"):
        read_stations(table)


def test_picks_of_quakeml_and_csv(made: Simulation, tmp_path: Path) -> None:
    picks = read_picks(made.quakeml)
    assert picks.sizes["pick"] == 5 * 2 * 2
    assert set(picks.phase.values) == {"P", "S"}
    table = tmp_path / "picks.csv"
    table.write_text("event_id,network,station,location,channel,phase,time,weight\n01,XX,A,,HHN,S,2020-01-01,\n")
    one = read_picks(table)
    assert (one.event_id.item(), one.station_id.item(), one.weight.item()) == ("01", "XX.A..HHN", 1.0)
    table.write_text("event_id,network,station,location,phase,time\n01,XX,A,,S,2020-01-01\n")
    with pytest.raises(ValueError, match="expected 'channel' among them"):
        read_picks(table)


def test_an_arrival_tells_phase_and_weight() -> None:
    event = load_obspy().core.event
    time = load_obspy().UTCDateTime(2020, 1, 1)
    pick = event.Pick(time=time, waveform_id=event.WaveformStreamID(seed_string="XX.A..HHZ"), phase_hint="P")
    arrival = event.Arrival(pick_id=pick.resource_id, phase="Pg", time_weight=0.25)
    origin = event.Origin(time=time, latitude=0.0, longitude=0.0, arrivals=[arrival])
    picks = read_picks(event.Catalog([event.Event(origins=[origin], picks=[pick])]))
    assert (picks.phase.item(), picks.weight.item()) == ("Pg", 0.25)
