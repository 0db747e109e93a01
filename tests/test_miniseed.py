"""Records of day files: found, read in part, decoded; damage stays with the record that has it."""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replica import channel_day, channel_samples

from specufex_dask import miniseed, sparse
from specufex_dask.reading import load_obspy
from specufex_dask.segments import UnreadableFileError

Array = np.ndarray[Any, Any]
RATE, STATION, DAY = 20.0, "XX.R001..HHZ", "2024-02-29"
LENGTH = 512


@lru_cache(1)
def day() -> bytes:
    return channel_day(STATION, DAY, 0, sampling_rate=RATE)


def _header(content: bytes, place: int) -> tuple[str, int, int]:
    """Channel, time of the first sample [ns] and number of samples, field by field."""
    record = content[place : place + LENGTH]
    station, location, channel, network = (
        record[first:last].decode().strip() for first, last in ((8, 13), (13, 15), (15, 18), (18, 20))
    )
    year, julday, hour, minute, second, _, fraction, n_samples = struct.unpack(">HHBBBBHH", record[20:32])
    microsecond = struct.unpack(">b", record[61:62])[0]
    start = datetime(year, 1, 1, hour, minute, second, tzinfo=UTC) + timedelta(days=julday - 1)
    start_ns = int(start.timestamp()) * 10**9 + fraction * 100_000 + microsecond * 1000
    return f"{network}.{station}.{location}.{channel}", start_ns, n_samples


def test_a_table_has_what_the_headers_say() -> None:
    table = miniseed.table(day())
    literal = [_header(day(), place) for place in range(0, len(day()), LENGTH)]
    assert table.station_id.tolist() == [each[0] for each in literal]
    assert table.start_ns.tolist() == [each[1] for each in literal]
    assert table.n_samples.tolist() == [each[2] for each in literal]
    assert len(set(table.n_samples.tolist())) > 50, "records are filled unevenly"
    assert set(table.sampling_rate.tolist()) == {RATE}
    assert not table.damaged


def test_samples_are_those_that_were_packed_and_that_obspy_reads() -> None:
    table = miniseed.table(day())
    decoded = table.decode(np.arange(len(table.start_ns)))
    samples = np.concatenate([part.samples for part in decoded.values() if part is not None])
    np.testing.assert_array_equal(samples, channel_samples(STATION, DAY, 0, sampling_rate=RATE))
    (trace,) = load_obspy().read(io.BytesIO(day()))
    np.testing.assert_array_equal(samples, trace.data)


@pytest.mark.parametrize("record", [0, 700, -1])
@pytest.mark.parametrize("byte", [64, 68, 130, 300])
def test_a_damaged_record_is_known_and_its_neighbours_are_read(record: int, byte: int) -> None:
    whole = miniseed.table(day())
    content = bytearray(day())
    row = record % len(whole.start_ns)
    content[row * LENGTH + byte] ^= 0xFF
    decoded = miniseed.table(bytes(content)).decode(np.arange(len(whole.start_ns)))
    assert [i for i, part in decoded.items() if part is None] in ([row], [])
    good = whole.decode(np.arange(len(whole.start_ns)))
    for i, part in decoded.items():
        if part is not None:
            np.testing.assert_array_equal(part.samples, good[i].samples)  # type: ignore[union-attr]


def test_a_file_that_is_cut_off_says_so_and_has_the_records_before() -> None:
    table = miniseed.table(day()[: 20 * LENGTH + 100])
    assert table.damaged
    assert len(table.start_ns) == 20


def test_a_header_that_cannot_be_is_passed_over() -> None:
    content = bytearray(day()[: 20 * LENGTH])
    content[7 * LENGTH : 7 * LENGTH + 64] = bytes(64)
    table = miniseed.table(bytes(content))
    assert table.damaged
    assert (table.first_byte // LENGTH).tolist() == [i for i in range(20) if i != 7]


@pytest.mark.parametrize("options", [{"reclen": 4096}, {"encoding": "FLOAT64"}, {"byteorder": "<"}, {"reclen": 256}])
def test_other_miniseed_is_read_too(options: dict[str, Any]) -> None:
    samples = np.random.default_rng(0).integers(-1000, 1000, 5000).astype("int32")
    kind = "float64" if "encoding" in options else "int32"
    buffer = io.BytesIO()
    obspy = load_obspy()
    time = obspy.UTCDateTime(2024, 1, 1, 0, 0, 0, 19_538)
    trace = obspy.Trace(samples.astype(kind), {"station": "A", "sampling_rate": 50.0, "starttime": time})
    trace.write(buffer, format="MSEED", **options)
    table = miniseed.table(buffer.getvalue())
    decoded = table.decode(np.arange(len(table.start_ns)))
    np.testing.assert_array_equal(np.concatenate([part.samples for part in decoded.values() if part]), samples)
    assert table.start_ns[0] == time.ns


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"no miniSEED at all" * 100])
def test_what_is_no_miniseed_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableFileError):
        miniseed.table(content)


class _Fetched:
    """An object that counts the bytes that are taken of it."""

    def __init__(self, content: bytes) -> None:
        self.content, self.ranges = content, list[tuple[int, int]]()

    def __call__(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        self.ranges += ranges
        return [self.content[first:last] for first, last in ranges]


@lru_cache(1)
def _large() -> tuple[bytes, miniseed.Table]:
    content = channel_day(STATION, DAY, 1, sampling_rate=100.0)
    return content, miniseed.table(content)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-30, 86_410), min_size=1, max_size=8))
def test_ranges_have_the_records_of_the_whole_object(seconds: list[float]) -> None:
    content, whole = _large()
    first = int(np.datetime64(DAY, "ns").astype(np.int64)) + np.round(np.array(seconds) * 1e9).astype(np.int64)
    windows = np.column_stack([first, first + 20 * 10**9])
    fetched = _Fetched(content)
    part = sparse.read_sparsely(fetched, len(content), windows)
    assert part is not None
    assert sum(last - first for first, last in fetched.ranges) < 0.12 * len(content)
    for window in windows.tolist():
        rows, expected = part.rows(STATION, *window), whole.rows(STATION, *window)
        assert part.start_ns[rows].tolist() == whole.start_ns[expected].tolist()


def test_one_window_takes_less_than_a_fiftieth_of_a_day() -> None:
    content, whole = _large()
    fetched = _Fetched(content)
    noon = int(whole.start_ns[0]) + 43_200 * 10**9
    assert sparse.read_sparsely(fetched, len(content), np.array([[noon, noon + 20 * 10**9]])) is not None
    assert sum(last - first for first, last in fetched.ranges) < 0.02 * len(content)
    assert len(fetched.ranges) <= 20


def test_an_object_in_another_order_is_left_to_be_read_whole() -> None:
    content, _ = _large()
    half = len(content) // 1024 * 512
    window = np.array([[0, 10**9]]) + int(np.datetime64(DAY, "ns").astype(np.int64))
    swapped = content[half:] + content[:half]
    assert sparse.read_sparsely(_Fetched(swapped), len(swapped), window) is None
    assert sparse.read_sparsely(_Fetched(b"x" * len(content)), len(content), window) is None
