"""Files of a day and of an event as public archives hold them: keys, headers, samples and faults."""

from __future__ import annotations

import csv
import datetime as dt
import io
import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import replica
from test_simulate import _bytes

from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.simulate import Simulation, simulate
from specufex_dask.simulated_events import DAY_NS, FIRST_DAY_NS
from specufex_dask.simulated_records import HEADER, records

RATE = 20.0
KEYS = {
    "scedc": "continuous_waveforms/2024/2024_002/XXS001_BHZ___2024002.ms",
    "ncedc": "continuous_waveforms/XX/2024/2024.002/S001.XX.BHZ..D.2024.002",
    "sds": "2024/XX/S001/BHZ.D/XX.S001..BHZ.D.2024.002",
    "scedc-events": "event_waveforms/2024/2024_002/sim000003.ms",
    "ncedc-events": "event_waveforms/2024/2024.002/NC.sim000003.NCSS.ms",
}
SHAPE: dict[str, Any] = {"sampling_rate": RATE, "events_per_day": 3, "n_events": 5, "n_stations": 2, "seed": 3}


def _header(record: bytes) -> dict[str, Any]:
    """The header of a record by the SEED manual alone."""
    station, location, channel, network = (record[a:b].decode() for a, b in ((8, 13), (13, 15), (15, 18), (18, 20)))
    year, day, hour, minute, second, tick = struct.unpack(">HHBBBxH", record[20:30])
    n_samples, factor, multiplier = struct.unpack(">Hhh", record[30:36])
    n_blockettes, _, data_offset, first = struct.unpack(">BiHH", record[39:48])
    kind, follower, encoding, order, power = struct.unpack(">HHBBB", record[48:55])
    second_kind, end, quality, microsecond, frames = struct.unpack(">HHBbxB", record[56:64])
    start = dt.datetime(year, 1, 1, hour, minute, second, tzinfo=dt.UTC) + dt.timedelta(
        days=day - 1, microseconds=100 * tick + microsecond
    )
    return {
        "number": record[:6], "quality": record[6:8], "codes": (network, station, location, channel),
        "start": start, "n_samples": n_samples, "rate": (factor, multiplier), "blockettes": (n_blockettes, first),
        "1000": (kind, follower, encoding, order, power), "1001": (second_kind, end, quality, frames),
        "microsecond": microsecond, "data_offset": data_offset,
    }  # fmt: skip


def _headers(content: bytes) -> list[dict[str, Any]]:
    return [_header(content[i : i + 512]) for i in range(0, len(content) // 512 * 512, 512)]


def _read(content: bytes) -> Any:
    with quiet_obspy():
        return load_obspy().read(io.BytesIO(content), format="MSEED")


def _rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """Two channels over three days, of which each defect meets one."""
    folder = tmp_path_factory.mktemp("days")
    return simulate(folder, layout="scedc", defects=0.5, missing=0.1, **(SHAPE | {"n_events": 9}))


@pytest.mark.parametrize("layout", list(KEYS))
def test_files_lie_under_the_keys_of_the_archive(tmp_path: Path, layout: Any) -> None:
    made = simulate(tmp_path, layout=layout, **SHAPE)
    waveforms = tmp_path / "waveforms"
    found = {path.relative_to(waveforms).as_posix() for path in waveforms.rglob("*") if path.is_file()}
    assert KEYS[layout] in found
    assert len(found) == (5 if "events" in layout else 2 * 2)
    codes = {"network": "XX", "station": "S001", "location": "", "channel": "BHZ", "event_id": "sim000003"}
    assert made.archive.format(**codes, year="2024", julday="002") == str(waveforms / KEYS[layout])


def test_equal_seeds_give_equal_bytes_and_another_seed_others(tmp_path: Path, made: Simulation) -> None:
    options = SHAPE | {"n_events": 9, "layout": "scedc", "defects": 0.5, "missing": 0.1}
    simulate(tmp_path / "again", **options)
    simulate(tmp_path / "other", **(options | {"seed": 4}))
    first, other = _bytes(Path(made.folder)), _bytes(tmp_path / "other")
    assert _bytes(tmp_path / "again") == first
    assert not set(first.values()) & set(other.values())


def test_headers_are_those_of_real_files() -> None:
    content = replica.channel_day("CI.GMR..LHN", "2023-12-31", 1, sampling_rate=40.0)
    headers = _headers(content)
    assert len(content) % 512 == 0
    assert [header["number"] for header in headers[:3]] == [b"000001", b"000002", b"000003"]
    assert {header["quality"] for header in headers} == {b"D "}
    assert {header["codes"] for header in headers} == {("CI", "GMR  ", "  ", "LHN")}
    assert {header["rate"] for header in headers} == {(40, 1)}
    assert {header["blockettes"] for header in headers} == {(2, 48)}
    assert {header["1000"] for header in headers} == {(1000, 56, 11, 1, 9)}
    assert {header["1001"] for header in headers} == {(1001, 0, 100, 7)}
    assert {header["data_offset"] for header in headers} == {64}
    n_samples = np.array([header["n_samples"] for header in headers])
    assert n_samples.sum() == 86_400 * 40
    assert n_samples.min() < 100
    assert n_samples.max() > 450
    assert np.percentile(n_samples, 75) - np.percentile(n_samples, 25) > 50
    assert headers[0]["start"] == dt.datetime(2023, 12, 31, 0, 0, 0, 19_500, tzinfo=dt.UTC)


def test_the_clock_of_records_is_off_by_a_microsecond(made: Simulation) -> None:
    headers = _headers(min(Path(made.folder).rglob("*.ms")).read_bytes())
    off = []
    for header, follower in pairwise(headers):
        end = header["start"] + dt.timedelta(seconds=header["n_samples"] / RATE)
        off.append(round((follower["start"] - end).total_seconds() * 1e6))
    joints = [each for each in off if abs(each) < 1000]
    assert set(joints) == {-2, -1, 0, 1, 2}
    assert len(joints) > 100
    assert {header["microsecond"] for header in headers} >= {0, 1, 99}


@pytest.mark.parametrize("rate", [20.0, 31.25, 100.0])
def test_obspy_reads_the_samples_that_were_written(rate: float) -> None:
    samples = replica.channel_samples("NC.KBG.01.HHZ", "2024-02-29", 2, sampling_rate=rate)
    (trace,) = _read(replica.channel_day("NC.KBG.01.HHZ", "2024-02-29", 2, sampling_rate=rate))
    assert trace.id == "NC.KBG.01.HHZ"
    assert trace.stats.sampling_rate == rate
    assert trace.stats.starttime.ns == np.datetime64("2024-02-29T00:00:00.0195", "ns").astype(int)
    np.testing.assert_array_equal(trace.data, samples)


def test_steps_beyond_15_bits_survive() -> None:
    rng = np.random.default_rng(0)
    samples = np.cumsum(rng.integers(-(2**28), 2**28, 5000) >> rng.integers(0, 28, 5000)).astype(np.int32)
    packed = records(samples, "XX.A.00.EHZ", lambda number: number * 10_000_000, 100.0, rng)
    assert packed.dtype == HEADER
    (trace,) = _read(packed.tobytes())
    np.testing.assert_array_equal(trace.data, samples)


def test_an_event_file_holds_what_the_plain_one_holds(tmp_path: Path) -> None:
    options = SHAPE | {"n_events": 4, "missing": 0.2, "contaminated": 0.3}
    plain = simulate(tmp_path / "plain", layout="events", **options)
    public = simulate(tmp_path / "public", layout="ncedc-events", **options)
    assert _rows(plain.truth_records) == _rows(public.truth_records)
    for file in sorted(Path(public.folder, "waveforms").rglob("*.ms")):
        event_id = file.name.split(".")[1]
        first, second = _read(Path(plain.archive.format(event_id=event_id)).read_bytes()), _read(file.read_bytes())
        assert [trace.id for trace in first] == [trace.id for trace in second]
        for a, b in zip(first, second, strict=True):
            assert a.stats.starttime == b.stats.starttime
            np.testing.assert_array_equal(a.data, b.data)


def test_the_last_event_of_a_day_crosses_midnight(made: Simulation) -> None:
    origins = np.array([row["origin_time"] for row in _rows(made.catalog)], "datetime64[ms]")
    for origin, midnight in zip(origins[2::3], ("2024-01-02", "2024-01-03", "2024-01-04"), strict=True):
        start = origin - np.timedelta64(3, "s")
        assert start < np.datetime64(f"{midnight}T00:00:00.0195", "ns") < start + np.timedelta64(20, "s")
    assert np.diff(origins).min() > np.timedelta64(40, "s")


def test_waves_lie_where_the_catalogue_says(tmp_path: Path) -> None:
    """The same events as in event files, but for the noise and the place of the samples within their period."""
    options = SHAPE | {"noise": 0.001, "n_stations": 1, "sampling_rate": 100.0}
    days, events = simulate(tmp_path / "a", layout="sds", **options), simulate(tmp_path / "b", **options)
    stream = _read(b"".join(path.read_bytes() for path in sorted((tmp_path / "a" / "waveforms").rglob("XX.*"))))
    with quiet_obspy():
        stream.merge()
    (trace,) = stream
    for i in range(5):
        (event,) = _read(Path(events.archive.format(event_id=f"sim{i:06d}")).read_bytes())
        found = trace.slice(event.stats.starttime, nearest_sample=False).data[: event.stats.npts].astype(float)
        wanted = event.data.astype(float)
        correlation = np.fft.irfft(np.fft.rfft(found) * np.fft.rfft(wanted).conj())
        correlation /= np.linalg.norm(found) * np.linalg.norm(wanted)
        assert correlation.max() > 0.8
        assert correlation.argmax() in {0, 1, event.stats.npts - 1}
        assert found.std() > 10 * trace.data[i * 1000 + 100_000 : i * 1000 + 102_000].std()
    assert days.n_samples == events.n_samples


def test_the_truth_tells_what_is_lacking(made: Simulation) -> None:
    waveforms = Path(made.folder) / "waveforms"
    files = sorted(path for path in waveforms.rglob("*.ms"))
    truth = _rows(made.truth_records)
    kinds = Counter(row["kind"] for row in truth)
    assert {"plain", "gap", "missing_day", "truncated"} <= set(kinds)
    assert len(list((waveforms / "continuous_waveforms" / "2024").iterdir())) == 4
    assert len(files) == 2 * 4 - 1
    assert sum(path.stat().st_size % 512 > 0 for path in files) == 1
    stream = _read(b"".join(path.read_bytes()[: path.stat().st_size // 512 * 512] for path in files))
    origins = {row["event_id"]: np.datetime64(row["origin_time"], "ns").astype(int) for row in _rows(made.catalog)}
    for row in truth:
        first_ns = int(origins[row["event_id"]]) - 3 * 10**9
        n_present = sum(_n_inside(trace, first_ns, made.n_samples) for trace in stream.select(id=row["station_id"]))
        assert (n_present == made.n_samples) == (row["kind"] == "plain"), row
        if row["kind"] == "missing":
            assert n_present == 0


def _n_inside(trace: Any, first_ns: int, n_samples: int) -> int:
    times = np.rint(trace.times() * 1e9).astype(np.int64) + trace.stats.starttime.ns
    begin = -(-(first_ns - FIRST_DAY_NS - 19_500_000) * round(86_400 * RATE) // DAY_NS)
    number = np.rint((times - FIRST_DAY_NS - 19_500_000) * RATE / 1e9).astype(int)
    return int(((number >= begin) & (number < begin + n_samples)).sum())


def test_another_layout_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    for layout in ("scedc", "ncedc", "sds", "scedc-events", "ncedc-events", "events"):
        kept = tmp_path / "waveforms" / "mine.ms"
        simulate(tmp_path, layout=layout, overwrite=True, **(SHAPE | {"n_events": 2}))
        kept.write_bytes(b"mine")
    assert sorted(path.name for path in (tmp_path / "waveforms").rglob("*") if path.is_file()) == [
        "mine.ms", "sim000000.mseed", "sim000001.mseed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "iris"}, "got layout='iris', expected one of"),
        ({"layout": "scedc", "sampling_rate": 1 / 7}, "expected a whole number of samples a day"),
        ({"layout": "scedc", "events_per_day": 961}, "got events_per_day=961, expected 1 to 960 of 20.0 s each"),
        ({"events_per_day": 0}, "got events_per_day=0, expected 1 to 960"),
        ({"defects": 0.5}, "got defects=0.5 with layout='events', expected 0 for files of events"),
        ({"layout": "sds", "defects": 2.0}, "got defects=2.0, expected a share from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(tmp_path, seed=0, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_replica_for_benchmarks_has_files_of_full_size_that_differ(tmp_path: Path) -> None:
    made = replica.replica(tmp_path, 2, 2, sampling_rate=20.0)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.ms"))
    days = "continuous_waveforms/2024/2024_00"
    assert files == [f"{days}{day}/XX{station}_HHZ___202400{day}.ms" for day in (1, 2) for station in ("R001", "R002")]
    assert made.days == ("2024-01-01", "2024-01-02")
    assert len({(tmp_path / name).read_bytes()[64:] for name in files}) == 4
    assert len(replica.channel_day("XX.R001..HHZ", "2024-01-01", 0)) == pytest.approx(14.2e6, rel=0.03)
