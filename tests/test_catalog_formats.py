from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr

from specufex_dask.anchors import anchor_times
from specufex_dask.catalog import read_catalog, read_picks
from specufex_dask.reading import load_obspy, quiet_obspy

if TYPE_CHECKING:
    from pathlib import Path

INDEX = """PREFIX,MS_FILENAME,PHASE_FILENAME,ORIGIN_DATETIME,ET,GT,MAG,M,LAT,LON,DEPTH,Q,EVID,NPH,NGRM
2022/2022_003/,39901471.ms,39901471.phase,2022-01-03 01:17:08.92,eq,l,0.80,l,32.864,-115.990,8.7,A,39901471,23,1321
2022/2022_365/,40391120.ms,,2022-12-31 23:59:60.04,qb,l,-0.15,l,34.005,-117.223,-0.7,C,40391120,9,310
2022/2022_365/,,,2022-12-31 23:59:59.50,eq,l,0.00,n,34.005,-117.223,0.0,D,00391121,9,0
"""
OLDER = """YYYY/MM/DD,HH:mm:SS.ss,ET,GT,MAG,M,LAT,LON,DEPTH,Q,EVID,NPH,NGRM
2022/01/03,01:17:08.92,eq,l,0.80,l,32.864,-115.990,8.7,A,39901471,23,1321
2022/12/31,23:59:60.04,qb,l,-0.15,l,34.005,-117.223,-0.7,C,40391120,9,310
2022/12/31,23:59:59.50,eq,l,0.00,n,34.005,-117.223,0.0,D,00391121,9,0
"""
LISTING = """#YYY/MM/DD HH:mm:SS.ss ET GT MAG  M    LAT       LON      DEPTH Q  EVID      NPH NGRM

2022/01/03 01:17:08.92 eq  l 0.80 l   32.864 -115.990   8.7 A 39901471   23 1321
2022/12/31 23:59:60.04 qb  l -0.15     34.005 -117.223  -0.7 C 40391120    9  310
2022/12/31 23:59:59.50 eq  l 0.00 n   34.005 -117.223   0.0 D 00391121    9    0
# Number of rows returned: 3
"""
NCEDC = """time,latitude,longitude,depth,mag,magType,nst,gap,dmin,rms,net,id,updated,place,type
2023/01/01 00:03:24.6700,37.2925,-121.6785,7.97,1.26,d,24,57,0.0214,0.05,NC,73828181,,"10 km E of Coyote, Caf\xe9",eq
2023-01-01T00:08:60.0100Z,38.8243,-122.8050,,,n,3,150,0.0052,0.01,NC,073828186,,The Geysers,eq
"""
PHASE = """  37509232 eq  l 2016/01/01,00:12:50.650   34.1822   -117.4162   7.38  0.85  l 1.0
\tCI    FON HNN --   34.0996  -117.4388   388.8 S .. e  0.5    9.41   3.929
\tCI    CJM HHZ --   34.2712  -117.4245  1616.0 P d. i  0.8    9.92   2.228
\tCI    RSB HNZ 02   33.9731  -117.3272   297.0 P .. e  0.5   24.63   4.796
"""
PHA = """# 1985  1 24  2 19 60.17  37.8832 -122.2415    9.80 1.40  0.15  0.51  0.02      38542
NCCSP       2.850  -1.000   P
NCCBW       3.430   0.250   S EH
"""


def _written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode("latin-1"))
    return path


@pytest.mark.parametrize("name", ["example1/El16.pha", "example3/pkf05.pha.84_05.3D"])
def test_events_and_picks_of_hypodd_are_those_that_obspy_finds(data_dir: Path, name: str) -> None:
    path = data_dir / "relocation" / name
    with quiet_obspy():
        expected = load_obspy().read_events(str(path), format="HYPODDPHA")
    catalog, picks = read_catalog(path), read_picks(path)
    origins = [event.origins[0] for event in expected]
    assert catalog.event_id.values.tolist() == [str(event.resource_id).rsplit("/", 1)[-1] for event in expected]
    assert catalog.origin_time.values.astype("i8").tolist() == [origin.time.ns for origin in origins]
    assert catalog.latitude.values.tolist() == [origin.latitude for origin in origins]
    np.testing.assert_allclose(catalog.depth, [origin.depth / 1000 for origin in origins], rtol=1e-12)
    assert catalog.magnitude.values.tolist() == [event.magnitudes[0].mag for event in expected]
    every = [pick for event in expected for pick in event.picks]
    assert [name.split(".")[1] for name in picks.station_id.values] == [pick.waveform_id.station_code for pick in every]
    assert picks.phase.values.tolist() == [pick.phase_hint for pick in every]
    assert np.abs(picks.time.values.astype("i8") - [pick.time.ns for pick in every]).max() < 1_000_000


@pytest.mark.parametrize(("name", "n"), [("example3/hypoDD.loc", 517), ("amatrice2016/hypoDD.reloc", 3698)])
def test_locations_of_hypodd_are_the_columns_of_its_file(data_dir: Path, name: str, n: int) -> None:
    path = data_dir / "relocation" / name
    rows = [line.split() for line in path.read_text().splitlines()]
    catalog = read_catalog(path)
    assert catalog.sizes["event"] == n
    assert catalog.event_id.values.tolist() == [row[0] for row in rows]
    places = np.stack([catalog[key].values for key in ("latitude", "longitude", "depth")], axis=1)
    assert places.tolist() == [[float(value) for value in row[1:4]] for row in rows]
    minutes = [np.datetime64("{}-{:0>2}-{:0>2}T{:0>2}:{:0>2}".format(*row[10:15]), "ns") for row in rows]
    seconds = (catalog.origin_time.values - np.array(minutes)) / np.timedelta64(1, "s")
    np.testing.assert_allclose(seconds, [float(row[15]) for row in rows], atol=1e-6)
    # Amatrice has no magnitudes: all are 0 in the file.
    assert bool(np.isnan(catalog.magnitude).all()) == name.startswith("amatrice")


def test_seconds_of_sixty_roll_over_in_the_real_phases(data_dir: Path) -> None:
    catalog = read_catalog(data_dir / "relocation" / "example3" / "pkf05.pha.84_05.3D")
    i = catalog.event_id.values.tolist().index("337175")
    assert catalog.origin_time.values[i] == np.datetime64("1993-02-15T17:11:00.170")


def test_seconds_below_zero_roll_back(tmp_path: Path) -> None:
    catalog = read_catalog(_written(tmp_path, "a.pha", PHA.replace("60.17", "-0.50")))
    assert catalog.origin_time.values[0] == np.datetime64("1985-01-24T02:18:59.5")


def test_the_three_forms_of_the_catalogue_of_scedc_hold_the_same_events(tmp_path: Path) -> None:
    named = {"2022_catalog_index.csv": INDEX, "1932_catalog_index.csv": OLDER, "2022.catalog": LISTING}
    index, older, listing = (read_catalog(_written(tmp_path, *each)) for each in named.items())
    assert index.event_id.values.tolist() == ["39901471", "40391120", "00391121"]
    times = np.array(["2022-01-03T01:17:08.92", "2023-01-01T00:00:00.04", "2022-12-31T23:59:59.5"], dtype="M8[ns]")
    assert (index.origin_time.values == times).all()
    assert index.depth.values.tolist() == [8.7, -0.7, 0.0]
    np.testing.assert_array_equal(index.magnitude, [0.8, -0.15, np.nan])
    assert older.identical(index)
    assert listing.identical(index)
    assert read_catalog(_written(tmp_path, "listing.txt", LISTING)).identical(index), "the content tells the format"


def test_a_date_and_time_in_one_column_is_read_and_a_date_alone_refused(tmp_path: Path) -> None:
    text = "YYYY/MM/DD,EVID,LAT,LON,DEPTH,MAG\n1999/12/31{},1,1,2,3,4\n"
    both = read_catalog(_written(tmp_path, "1.csv", text.format(" 23:59:60")))
    assert both.origin_time.item() == np.datetime64("2000-01-01T00:00:00", "ns").astype("i8")
    with pytest.raises(ValueError, match=r"got origin_time '1999/12/31 without a time of day' in line 2 of .*2.csv"):
        read_catalog(_written(tmp_path, "2.csv", text.format("")))
    with pytest.raises(ValueError, match="expected 'origin_time' among them"):
        read_catalog(_written(tmp_path, "3.csv", "EVID,LAT,LON,DEPTH,MAG\n1,1,2,3,4\n"))


def test_the_catalogue_of_ncedc_is_read_with_its_latin_letters(tmp_path: Path) -> None:
    catalog = read_catalog(_written(tmp_path, "2023.ehpcsv", NCEDC))
    assert catalog.event_id.values.tolist() == ["73828181", "073828186"]
    times = np.array(["2023-01-01T00:03:24.67", "2023-01-01T00:09:00.01"], dtype="M8[ns]")
    assert (catalog.origin_time.values == times).all()
    np.testing.assert_array_equal(catalog.depth, [7.97, np.nan])
    np.testing.assert_array_equal(catalog.magnitude, [1.26, np.nan])
    usgs = read_catalog(_written(tmp_path, "query.csv", NCEDC.replace("\xe9", "e")))
    assert usgs.identical(catalog), "the USGS's CSV has the same columns"


def test_several_files_are_one_catalogue_in_their_order(tmp_path: Path) -> None:
    first, second = _written(tmp_path, "a.catalog", LISTING), _written(tmp_path, "b.pha", PHA)
    both = read_catalog([second, first])
    assert both.event_id.values.tolist() == ["38542", "39901471", "40391120", "00391121"]
    assert both.identical(xr.concat([read_catalog(second), read_catalog(first)], "event").assign_attrs(both.attrs))
    assert read_catalog(tmp_path / "*.catalog").identical(read_catalog(first))
    with pytest.raises(ValueError, match=r"3 repeated event_id in .*a.catalog … .*a.catalog \(2 files\)"):
        read_catalog([first, first])
    with pytest.raises(FileNotFoundError, match=r"got the pattern '.*\*.none', which no file fits, expected one"):
        read_catalog(tmp_path / "*.none")
    with pytest.raises(ValueError, match="got an empty list of files, expected one or more"):
        read_catalog([])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.reloc", "38542 37.8 -122.2\n", "got '38542 37.8 -122.2' in line 1 of .*a.reloc, expected the 18 fields of"),
        ("a.pha", "# 1985 1 24 2 19 58.71 37.8\n", "in line 1 of .*a.pha, expected '# YR MO DY HR MN SC LAT LON DEP"),
        ("a.pha", PHA.replace("37.8832", "north"), "got latitude 'north' in line 1 .*expected a number"),
        ("a.pha", PHA.replace("1985  1 24", "1985 13 24"), "got origin_time '1985-13-24T02:19:60.17' in line 1"),
        ("a.pha", PHA.replace("60.17", "999.0"), "got origin_time '1985-01-24T02:19:999.0' in line 1"),
        ("a.catalog", LISTING.replace(" -115.990", ""), "in line 3 of .*a.catalog, expected 'date time type type mag"),
        ("a.csv", INDEX.replace("32.864", "132.864"), "got 1 entries with a latitude that cannot be .*at 39901471"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_catalog(_written(tmp_path, name, text))


def test_columns_are_for_csv_alone(tmp_path: Path) -> None:
    path = _written(tmp_path, "a.pha", PHA)
    for read in (read_catalog, read_picks):
        with pytest.raises(ValueError, match="for something other than a CSV file, expected none: leave columns out"):
            read(path, columns={"event_id": "id"})


def test_picks_of_scedc_count_from_the_header_of_their_event(tmp_path: Path) -> None:
    picks = read_picks(_written(tmp_path, "37509232.phase", PHASE))
    assert picks.event_id.values.tolist() == ["37509232"] * 3
    assert picks.station_id.values.tolist() == ["CI.FON..HNN", "CI.CJM..HHZ", "CI.RSB.02.HNZ"]
    assert picks.phase.values.tolist() == ["S", "P", "P"]
    times = np.array(["2016-01-01T00:12:54.579", "2016-01-01T00:12:52.878", "2016-01-01T00:12:55.446"], dtype="M8[ns]")
    assert (picks.time.values == times).all()
    assert picks.weight.values.tolist() == [0.5, 0.8, 0.5]
    later = PHASE.replace("37509232 eq  l ", "37509233 eq ").replace(":50.650", ":60.650")
    both = read_picks(_written(tmp_path, "both.phase", PHASE + later))
    assert both.event_id.values.tolist() == ["37509232"] * 3 + ["37509233"] * 3, "older headers lack a field"
    assert ((both.time.values[3:] - both.time.values[:3]) == np.timedelta64(10, "s")).all()
    _written(tmp_path, "37509233.phase", later)
    assert read_picks(tmp_path / "375*.phase").identical(both)
    assert read_picks([tmp_path / "37509232.phase", tmp_path / "37509233.phase"]).identical(both)


def test_a_header_without_an_origin_time_needs_a_catalogue(tmp_path: Path) -> None:
    catalog = read_catalog(_written(tmp_path, "index.csv", INDEX))
    blank = PHASE.replace("37509232 eq  l 2016/01/01,00:12:50.650", "0       1970/01/01,00:00:00.000")
    path = _written(tmp_path, "39901471.phase", blank)
    with pytest.raises(
        ValueError, match=r"39901471.phase, whose header '0 .* has no origin time, .*pass catalog=read_"
    ):
        read_picks(path)
    for text in (blank, PHASE.replace("37509232 eq  l 2016/01/01,00:12:50.650", "#39901471")):
        picks = read_picks(_written(tmp_path, path.name, text), catalog=catalog)
        assert picks.event_id.values.tolist() == ["39901471"] * 3
        assert picks.time.values[1] == np.datetime64("2022-01-03T01:17:11.148")
    with pytest.raises(ValueError, match="or a catalogue with event '5'"):
        read_picks(_written(tmp_path, "5.phase", blank), catalog=catalog)
    with pytest.raises(ValueError, match=r"in line 3 of .*13 fields,: correct the line"):
        read_picks(_written(tmp_path, "1.phase", PHASE.replace("CJM HHZ --", "CJM HHZ")))


def test_picks_of_hypodd_lose_the_sign_of_their_weight(tmp_path: Path) -> None:
    picks = read_picks(_written(tmp_path, "a.pha", PHA))
    assert picks.station_id.values.tolist() == [".NCCSP..", ".NCCBW.."]
    assert picks.weight.values.tolist() == [1.0, 0.25]
    assert picks.phase.values.tolist() == ["P", "S"]
    assert picks.time.values[0] == np.datetime64("1985-01-24T02:20:03.020")
    with pytest.raises(ValueError, match=r"got 'NCCSP 2.85 1' in line 1 of .*under the '# …' line of an event"):
        read_picks(_written(tmp_path, "b.pha", "NCCSP 2.85 1\n"))


def _anchored(picks: xr.Dataset, event: str, stations: list[str]) -> list[int]:
    ids = np.array(stations, dtype=object)
    times = anchor_times("P", picks, np.full(ids.size, event, dtype=object), ids, np.zeros(ids.size, "i8"))
    return [int(time) for time in times]


def test_a_record_finds_its_pick_by_a_bare_station_code(data_dir: Path) -> None:
    picks = read_picks(data_dir / "relocation" / "amatrice2016" / "phase.P4PS6.20161018")
    here = picks.isel(pick=(picks.event_id == "113825") & (picks.phase == "P"))
    time = {
        name.split(".")[1]: int(value) for name, value in zip(here.station_id.values, here.time.values, strict=True)
    }
    missing = np.iinfo("i8").min
    found = _anchored(picks, "113825", ["IV.MC2..EHZ", "IV.T1245..HHZ", "YR.ED19.00.HHN", "IV.NONE..EHZ"])
    assert found == [time["IVMC2"], time["IVT1245"], time["YRED19"], missing]


def test_a_bare_code_is_of_one_station(tmp_path: Path) -> None:
    picks = read_picks(_written(tmp_path, "a.pha", PHA.replace("NCCSP", "  CSP")))
    time = int(picks.time.values[0])
    assert _anchored(picks, "38542", ["NC.CSP..EHZ", "NC.CBW..EHZ"])[0] == time
    with pytest.raises(
        ValueError, match=r"station 'CSP' without a network, and records of \['BK.CSP', 'NC.CSP'\], exp"
    ):
        _anchored(picks, "38542", ["NC.CSP..EHZ", "BK.CSP..EHZ"])
    joined = read_picks(_written(tmp_path, "b.pha", PHA))
    assert _anchored(joined, "38542", ["NC.CSP..EHZ", "XX.NCCSP..EHZ"])[0] == int(joined.time.values[0])
