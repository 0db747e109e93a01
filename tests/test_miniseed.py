"""Records of day files: found, read in part, decoded; damage stays with the record that has it."""

from __future__ import annotations

import io
import struct
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replica import channel_day, channel_samples

from specufex_dask import miniseed
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


def _plain(channel: str, *, reclen: int = 512) -> tuple[bytes, Array]:
    """Records of equal length of samples that are not compressed, and the samples."""
    obspy, buffer = load_obspy(), io.BytesIO()
    samples = np.random.default_rng(ord(channel[2])).integers(-(10**6), 10**6, 5000).astype("int32")
    header = {"network": "XX", "station": "A", "channel": channel, "sampling_rate": 100.0}
    obspy.Trace(samples, header).write(buffer, format="MSEED", encoding="INT32", reclen=reclen)
    return buffer.getvalue(), samples


def _window(table: miniseed.Table, name: str, seconds: tuple[int, int] = (10, 20)) -> tuple[Array, Array]:
    rows = table.rows(name, *(each * 10**9 for each in seconds))
    decoded = table.decode(np.unique(rows))
    return rows, np.concatenate([decoded[row].samples for row in rows.tolist()])  # type: ignore[union-attr]


def test_channels_of_equal_records_are_not_mixed_up() -> None:
    """In the file in another order than that of their names, which is libmseed's."""
    files = {channel: _plain(channel) for channel in ("HHZ", "HHN", "HHE")}
    table = miniseed.table(b"".join(content for content, _ in files.values()))
    wanted = {channel: table.rows(f"XX.A..{channel}", 10 * 10**9, 20 * 10**9) for channel in files}
    decoded = table.decode(np.unique(np.concatenate(list(wanted.values()))))
    for channel, rows in wanted.items():
        found = np.concatenate([decoded[row].samples for row in rows.tolist()])  # type: ignore[union-attr]
        first = round(table.start_ns[rows[0]] / 1e7)
        np.testing.assert_array_equal(found, files[channel][1][first : first + found.size])


def test_records_out_of_their_order_keep_their_samples() -> None:
    content, samples = _plain("HHZ")
    parts = [content[i : i + 512] for i in range(0, len(content), 512)]
    parts[12], parts[13] = parts[13], parts[12]
    table = miniseed.table(b"".join(parts))
    rows, found = _window(table, "XX.A..HHZ")
    first = round(table.start_ns[rows[0]] / 1e7)
    np.testing.assert_array_equal(found, samples[first : first + found.size])


def test_two_records_of_one_time_are_both_read() -> None:
    content, _ = _plain("HHZ")
    other = bytearray(content[12 * 512 : 13 * 512])
    other[200:240] = bytes(40)
    table = miniseed.table(content + bytes(other))
    last = len(table.start_ns) - 1
    decoded = table.decode(np.array([12, last]))
    first, second = decoded[12], decoded[last]
    assert first is not None
    assert second is not None
    assert not np.array_equal(first.samples, second.samples)


def test_a_record_without_the_blockette_of_its_length_is_read() -> None:
    path = Path(load_obspy().__file__).parent / "io/mseed/src/libmseed/test/data/no-blockette1000-steim1.mseed"
    table = miniseed.table(path.read_bytes())
    decoded = table.decode(np.arange(len(table.start_ns)))
    found = np.concatenate([part.samples for part in decoded.values() if part is not None])
    (trace,) = load_obspy().read(str(path))
    np.testing.assert_array_equal(found, trace.data)


def test_a_record_that_tells_another_length_than_it_has_is_damaged() -> None:
    content = bytearray(_plain("HHZ")[0])
    assert content[5 * 512 + 56 : 5 * 512 + 58] == b"\x03\xe8" or content[5 * 512 + 48 : 5 * 512 + 50] == b"\x03\xe8"
    place = 5 * 512 + (62 if content[5 * 512 + 56 : 5 * 512 + 58] == b"\x03\xe8" else 54)
    content[place] = 0xE0
    table = miniseed.table(bytes(content))
    assert table.damaged
    assert 5 * 512 not in table.first_byte.tolist()
    assert 6 * 512 in table.first_byte.tolist()


def test_a_rate_of_nothing_is_no_warning() -> None:
    content = bytearray(_plain("HHZ")[0])
    content[30:36] = struct.pack(">Hhh", 1, 0, 0)
    assert miniseed.table(bytes(content)).end_ns.size
