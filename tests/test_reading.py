from __future__ import annotations

import bz2
import gzip
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specufex_dask.reading import load_obspy, quiet_obspy, read_file
from specufex_dask.segments import Segment, UnreadableFileError

NAMES = ("XX.A..HHZ", "XX.B..HHZ", "XX.C..HHZ")
START_NS = 1_577_836_800_000_000_000


def _file(path: Path, n_samples: int = 2000, **options: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Three channels of 2,000 samples, or as many as told, at 100 Hz, as miniSEED unless told otherwise."""
    obspy = load_obspy()
    rng = np.random.default_rng(0)
    samples = {name: rng.integers(-5000, 5000, n_samples).astype(np.int32) for name in NAMES}
    stream = obspy.Stream()
    for name, values in samples.items():
        codes = dict(zip(("network", "station", "location", "channel"), name.split("."), strict=True))
        header = {**codes, "sampling_rate": 100.0, "starttime": obspy.UTCDateTime(ns=START_NS)}
        stream.append(obspy.Trace(values, header))
    with quiet_obspy():
        stream.write(str(path), **{"format": "MSEED", "encoding": "STEIM2", "reclen": 512, **options})
    return samples


@pytest.mark.parametrize("wanted", [NAMES[:1], NAMES[1:], NAMES])
def test_wanted_channels_come_exactly_as_they_are(tmp_path: Path, wanted: tuple[str, ...]) -> None:
    samples = _file(tmp_path / "a")
    contents = read_file(str(tmp_path / "a"), set(wanted))
    assert set(contents.segments) == set(wanted)
    for name in wanted:
        (part,) = contents.segments[name]
        assert (part.start_ns, part.sampling_rate, part.n_samples) == (START_NS, 100.0, 2000)
        np.testing.assert_array_equal(part.samples, samples[name])


def test_headers_and_spans_spare_samples(tmp_path: Path) -> None:
    _file(tmp_path / "a")
    (header,) = read_file(str(tmp_path / "a"), {NAMES[0]}, header_only=True).segments[NAMES[0]]
    assert header.n_samples == 2000
    assert header.samples.size == 0
    _file(tmp_path / "a", n_samples=20_000)
    span = (START_NS + 100 * 10**9, START_NS + 101 * 10**9)
    (part,) = read_file(str(tmp_path / "a"), {NAMES[0]}, span_ns=span).segments[NAMES[0]]
    assert part.start_ns <= span[0]
    assert part.time_ns(part.n_samples - 1) >= span[1]
    assert part.n_samples < 3000
    later = (START_NS + 10**12, START_NS + 2 * 10**12)
    nothing = read_file(str(tmp_path / "a"), {NAMES[0]}, span_ns=later)
    assert nothing.segments == {}
    assert nothing.damaged == frozenset()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_compressed_files_are_read(tmp_path: Path, compress: Any) -> None:
    samples = _file(tmp_path / "a")
    (tmp_path / "b").write_bytes(compress((tmp_path / "a").read_bytes()))
    (part,) = read_file(str(tmp_path / "b"), {NAMES[2]}).segments[NAMES[2]]
    np.testing.assert_array_equal(part.samples, samples[NAMES[2]])
    (tmp_path / "b").write_bytes(compress((tmp_path / "a").read_bytes())[:100])
    with pytest.raises(UnreadableFileError):
        read_file(str(tmp_path / "b"), {NAMES[2]})


def test_other_formats_are_found_out(tmp_path: Path) -> None:
    samples = _file(tmp_path / "a.gse", format="GSE2", encoding=None, reclen=None)
    contents = read_file(str(tmp_path / "a.gse"), {".A..HHZ", "XX.A..HHZ"})
    ((part,),) = contents.segments.values()
    np.testing.assert_array_equal(part.samples, samples[NAMES[0]])


def test_a_file_that_is_absent_or_forbidden_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(tmp_path / "a")
    for path in (tmp_path / "absent", tmp_path / "a" / "below"):
        with pytest.raises(FileNotFoundError):
            read_file(str(path), set(NAMES))
    with pytest.raises(UnreadableFileError):
        read_file(str(tmp_path), set(NAMES))

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match=r"got 'permission denied' for .*, expected a file .*: change its perm"):
        read_file(str(tmp_path / "a"), set(NAMES))


@pytest.mark.parametrize("content", [b"", b"not a waveform", b"\x1f\x8b\x00", b"000001D " + bytes(100), bytes(4096)])
def test_what_is_no_waveform_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UnreadableFileError):
        read_file(str(tmp_path / "a"), set(NAMES))


def test_a_damaged_channel_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    samples = _file(tmp_path / "a")
    content = bytearray((tmp_path / "a").read_bytes())
    first_of_b = next(i for i in range(0, len(content), 512) if content[i + 8 : i + 13] == b"B    ")
    for byte, message in ((0xFF, "ObsPy raises"), (0x00, "ObsPy only warns")):
        content[first_of_b + 200 : first_of_b + 260] = bytes([byte]) * 60
        (tmp_path / "b").write_bytes(content)
        contents = read_file(str(tmp_path / "b"), set(NAMES))
        assert contents.damaged == {NAMES[1]}, message
        for name in (NAMES[0], NAMES[2]):
            np.testing.assert_array_equal(contents.segments[name][0].samples, samples[name])


def test_a_record_with_more_numbers_than_fit_into_it_is_damaged(tmp_path: Path) -> None:
    samples = _file(tmp_path / "a")
    content = bytearray((tmp_path / "a").read_bytes())
    assert content[52] == 11, "the first record is in Steim's second code"
    content[52] = 5  # eight bytes a sample, of which 448 bytes hold fewer than the header tells
    (tmp_path / "a").write_bytes(content)
    contents = read_file(str(tmp_path / "a"), set(NAMES))
    assert contents.damaged == {NAMES[0]}
    (rest,) = contents.segments[NAMES[0]]
    np.testing.assert_array_equal(rest.samples, samples[NAMES[0]][-rest.n_samples :])


def test_a_record_of_no_byte_order_is_not_read_in_the_wrong_one(tmp_path: Path) -> None:
    samples = _file(tmp_path / "a", encoding="INT32", byteorder="<")
    content = bytearray((tmp_path / "a").read_bytes())
    assert content[512 + 53] == 0, "little"
    content[512 + 53] = 127
    (tmp_path / "a").write_bytes(content)
    contents = read_file(str(tmp_path / "a"), set(NAMES))
    assert contents.is_broken
    first, rest = contents.segments[NAMES[0]]
    np.testing.assert_array_equal(first.samples, samples[NAMES[0]][:114])
    np.testing.assert_array_equal(rest.samples, samples[NAMES[0]][228:])


def test_a_rate_of_ages_ends_somewhere(tmp_path: Path) -> None:
    _file(tmp_path / "a")
    content = bytearray((tmp_path / "a").read_bytes())
    content[32:36] = b"\x80\x00" * 2  # a sample every 34 years
    (tmp_path / "a").write_bytes(content)
    parts = read_file(str(tmp_path / "a"), {NAMES[0]}).segments[NAMES[0]]
    assert [part.sampling_rate for part in parts] == [2.0**-30, 100.0]


def test_whatever_a_file_holds_nothing_but_unreadable_is_raised_or_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Random damage to a real layout; a sample that changes is told of, unless the header that names it changed."""
    samples = _file(tmp_path / "a")
    intact, rng = (tmp_path / "a").read_bytes(), np.random.default_rng(1)
    unreadable = damaged = 0
    for _ in range(150):
        content = bytearray(intact)
        for place in rng.integers(0, len(content), rng.choice([1, 5, 40])):
            if place % 512 >= 64:  # behind the record's header
                content[place] = rng.integers(256)
        (tmp_path / "b").write_bytes(content[: rng.integers(1, len(content))] if rng.random() < 0.3 else content)
        try:
            contents = read_file(str(tmp_path / "b"), set(NAMES))
        except UnreadableFileError:
            unreadable += 1
            continue
        damaged += len(contents.damaged)
        for name, parts in contents.segments.items():
            if name not in contents.damaged:
                for part in parts:
                    begin = round((part.start_ns - START_NS) / 1e7)
                    np.testing.assert_array_equal(part.samples, samples[name][begin : begin + part.n_samples])
    assert damaged > 0
    assert unreadable < 150
    assert capfd.readouterr() == ("", "")


def test_warnings_are_caught_and_filters_restored() -> None:
    before = list(warnings.filters)
    with quiet_obspy() as texts:
        warnings.warn("from a reader", UserWarning, stacklevel=1)
    assert texts == ["from a reader"]
    assert list(warnings.filters) == before


def test_a_log_of_characters_is_damaged(tmp_path: Path) -> None:
    obspy = load_obspy()
    text = np.frombuffer(b"clock locked to GPS" * 10, dtype="S1")
    trace = obspy.Trace(text, {"network": "XX", "station": "A", "channel": "LOG", "sampling_rate": 1.0})
    buffer = io.BytesIO()
    with quiet_obspy():
        trace.write(buffer, format="MSEED", encoding="ASCII")
    (tmp_path / "a").write_bytes(buffer.getvalue())
    assert read_file(str(tmp_path / "a"), {"XX.A..LOG"}).damaged == {"XX.A..LOG"}


def test_the_nearest_sample_is_the_one_that_obspy_takes() -> None:
    obspy = load_obspy()
    part = Segment(START_NS, 100.0, 1000, np.arange(1000))
    trace = obspy.Trace(part.samples, {"sampling_rate": 100.0, "starttime": obspy.UTCDateTime(ns=START_NS)})
    for offset_ns in (0, 4_900_000, 5_100_000, 14_990_000, 1_234_567_890, 2_004_900_000):
        time = obspy.UTCDateTime(ns=START_NS + offset_ns)
        cut = trace.slice(time, time + 2, nearest_sample=True)
        assert cut.data[0] == part.index(START_NS + offset_ns)
        assert cut.stats.starttime.ns == part.time_ns(part.index(START_NS + offset_ns))
    assert part.index(START_NS + 5_000_000) == 1


def test_a_file_with_fewer_samples_than_it_tells_is_damaged() -> None:
    path = Path(load_obspy().__file__).parent / "io/ascii/tests/data/mseed2ascii_miniseed_record.txt"
    assert read_file(str(path), {"CI.AGO..HNZ"}).damaged == {"CI.AGO..HNZ"}


@pytest.mark.parametrize("name", ["io/css/tests/data/test_css.wfdisc", "io/sh/tests/data/QFILE-TEST.QHD"])
def test_samples_may_lie_in_a_file_beside(name: str) -> None:
    path = Path(load_obspy().__file__).parent / name
    with quiet_obspy():
        traces = list(load_obspy().read(str(path)))
    found = read_file(str(path), {trace.id for trace in traces}).segments
    for trace in traces:
        assert any(part.samples.tobytes() == trace.data.tobytes() for part in found[trace.id])


@pytest.mark.parametrize(
    ("name", "station_id"),
    [
        ("io/mseed/tests/data/gecko_non_ascii_header.ms", ".GECKO.A.CNZ"),
        ("io/seisan/tests/data/D1360930.203.mseed", ".mart.10.cp"),
    ],
)
def test_odd_codes_are_found_by_the_name_that_obspy_gives(name: str, station_id: str) -> None:
    path = Path(load_obspy().__file__).parent / name
    with quiet_obspy():
        (trace,) = load_obspy().read(str(path))
    span = (trace.stats.starttime.ns, trace.stats.endtime.ns)
    (part,) = read_file(str(path), {station_id}, span_ns=span).segments[station_id]
    np.testing.assert_array_equal(part.samples, trace.data)


def test_version_3_is_read_and_its_damage_seen(tmp_path: Path) -> None:
    from pymseed import DataEncoding, MS3Record

    samples, record = np.random.default_rng(0).integers(-5000, 5000, 3000).astype("int32"), MS3Record()
    record.sourceid, record.formatversion, record.reclen = "FDSN:XX_A__H_H_Z", 3, 512
    record.samprate, record.encoding, record.starttime = 100.0, DataEncoding.STEIM2, START_NS
    content = bytearray(b"".join(record.generate(samples, "i")))
    (tmp_path / "a").write_bytes(content)
    found = read_file(str(tmp_path / "a"), {NAMES[0]}).segments[NAMES[0]]
    np.testing.assert_array_equal(np.concatenate([part.samples for part in found]), samples)
    headers = read_file(str(tmp_path / "a"), {NAMES[0]}, header_only=True).segments[NAMES[0]]
    assert sum(part.n_samples for part in headers) == 3000
    content[2000] ^= 1
    (tmp_path / "a").write_bytes(content)
    assert read_file(str(tmp_path / "a"), {NAMES[0]}).is_broken


def test_objects_in_memory_are_read_as_files_are(tmp_path: Path) -> None:
    import fsspec

    samples = _file(tmp_path / "a")
    fsspec.filesystem("memory").pipe_file("/reading/a", (tmp_path / "a").read_bytes())
    (part,) = read_file("memory://reading/a", {NAMES[0]}).segments[NAMES[0]]
    np.testing.assert_array_equal(part.samples, samples[NAMES[0]])
