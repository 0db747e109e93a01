"""Records of miniSEED: where they lie among the bytes, and the samples of those that a window needs.

The headers of a file of equal records (miniSEED 2) are read as one table; any other file is
gone through record by record. Samples are decoded by pymseed (libmseed), which holds each Steim
record's last sample against the one that its header tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.segments import Segment, UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, Any]
HEADER_BYTES = 64
"""Of a record: the fixed header, and the two blockettes that follow it in the usual files."""

_NS, _DAY_NS = 1_000_000_000, 86_400_000_000_000
_FIXED_HEADER_BYTES = 48
_FIRST_YEAR, _LAST_YEAR = 1900, 2100
_BLOCKETTE_1000, _BLOCKETTE_1001 = 1000, 1001
_CORRECTION_APPLIED = 2
_FIELDS = {
    # What is read of a header: NumPy type, and the byte where it begins (SEED 2.4, chapter 8).
    "sequence": ("(6,)u1", 0),
    "kind": ("u1", 6),
    "codes": ("S12", 8),
    "year": (">u2", 20),
    "julday": (">u2", 22),
    "hour": ("u1", 24),
    "minute": ("u1", 25),
    "second": ("u1", 26),
    "fraction": (">u2", 28),
    "n_samples": (">u2", 30),
    "factor": (">i2", 32),
    "multiplier": (">i2", 34),
    "activity": ("u1", 36),
    "correction": (">i4", 40),
    "first_blockette": (">u2", 46),
    "type": (">u2", 48),
    "next": (">u2", 50),
    "length_power": ("u1", 54),
    "type_2": (">u2", 56),
    "next_2": (">u2", 58),
    "microsecond": ("i1", 61),
}
_KINDS, _DIGITS = (np.isin(np.arange(256), list(allowed)) for allowed in (b"DRQM", b"0123456789 \0"))


class IrregularError(Exception):
    """The headers do not make up one table."""


@dataclass(frozen=True)
class Table:
    """The records of one file: places among its bytes, channels, times [ns since 1970] and rates [Hz], each (row,)."""

    content: bytes
    first_byte: Array
    last_byte: Array
    station_id: Array
    start_ns: Array
    sampling_rate: Array
    n_samples: Array
    damaged: bool = False
    """Whether the file holds something else as well: records that cannot be read, or a part of one."""

    @cached_property
    def end_ns(self) -> Array:
        """Times of the last samples (row,) [ns since 1970]."""
        with np.errstate(divide="ignore"):
            span = np.where(self.sampling_rate > 0, (self.n_samples - 1.0) * _NS / self.sampling_rate, 0.0)
        ends: Array = self.start_ns + np.rint(span).astype(np.int64)
        return ends

    @cached_property
    def _channels(self) -> dict[str, tuple[Array, Array, Array, int]]:
        """Of each channel: rows in the order of their starts; these; the latest end up to each; half a sample [ns]."""
        found = {}
        for name in set(self.station_id.tolist()):
            rows = np.flatnonzero(self.station_id == name)
            rows = rows[np.argsort(self.start_ns[rows], kind="stable")]
            half = int(0.5 * _NS / max(self.sampling_rate[rows].min(), 1e-9))
            found[name] = rows, self.start_ns[rows], np.maximum.accumulate(self.end_ns[rows]), half
        return found

    def rows(self, station_id: str, first_ns: int, last_ns: int) -> Array:
        """The records of a channel that hold samples of a window, in the order of their times."""
        if station_id not in self._channels:
            return np.empty(0, int)
        rows, starts, latest, half = self._channels[station_id]
        begin = np.searchsorted(latest, first_ns - half)
        end = np.searchsorted(starts, last_ns + half, side="right")
        near = rows[begin:end]
        return near[self.end_ns[near] + half >= first_ns]

    def decode(self, rows: Array) -> dict[int, Segment | None]:
        """The samples of each of `rows` (sorted); None for one that is damaged."""
        if not len(rows):
            return {}
        runs = np.split(rows, np.flatnonzero(self.first_byte[rows[1:]] != self.last_byte[rows[:-1]]) + 1)
        samples: Sequence[Array | None] | None = self._together(runs)
        if samples is None:  # something in one of them
            samples = [part for run in runs for part in self._apart(run)]
        described = zip(samples, self.start_ns[rows].tolist(), self.sampling_rate[rows].tolist(), strict=True)
        return {row: _segment(*each) for row, each in zip(rows.tolist(), described, strict=True)}

    def _together(self, runs: list[Array]) -> list[Array] | None:
        """The samples of each record of `runs`, decoded at once; None unless each run is one sound stretch."""
        from pymseed import MS3TraceList, PymseedError, clear_error_messages, get_error_messages

        clear_error_messages()
        content = memoryview(self.content)
        part = b"".join([content[self.first_byte[run[0]] : self.last_byte[run[-1]]] for run in runs])
        try:
            stretches = [stretch for trace in MS3TraceList.from_buffer(part, unpack_data=True) for stretch in trace]
            samples = [np.array(stretch.np_datasamples) for stretch in stretches]
        except (PymseedError, ValueError):
            return None
        lengths = [int(self.n_samples[run].sum()) for run in runs]
        starts = [int(self.start_ns[run[0]]) for run in runs]
        found = [(stretch.starttime, each.size) for stretch, each in zip(stretches, samples, strict=True)]
        if get_error_messages() or found != list(zip(starts, lengths, strict=True)):
            return None
        edges = [[0, *np.cumsum(self.n_samples[run]).tolist()] for run in runs]
        return [each[a:b] for each, edge in zip(samples, edges, strict=True) for a, b in pairwise(edge)]

    def _apart(self, run: Array) -> Sequence[Array | None]:
        """The samples of each record of `run`, None for one that is damaged."""
        return self._together([run]) or [self._alone(row) for row in run]

    def _alone(self, row: int) -> Array | None:
        from pymseed import MS3Record, PymseedError, clear_error_messages, get_error_messages

        clear_error_messages()
        try:
            record = MS3Record.parse(self.content[self.first_byte[row] : self.last_byte[row]], unpack_data=True)
            samples = np.array(record.np_datasamples)
        except (PymseedError, ValueError):
            return None
        return None if get_error_messages() or samples.size != self.n_samples[row] else samples


def _segment(samples: Array | None, start_ns: int, sampling_rate: float) -> Segment | None:
    if samples is None or samples.dtype.kind not in "if" or not 0 < sampling_rate < float("inf"):
        return None  # damaged, a log of characters, or a rate that no time follows from
    return Segment(start_ns, sampling_rate, samples.size, samples)


def is_miniseed(content: bytes) -> bool:
    """Whether a miniSEED data record opens the file; spares ObsPy's search through all its formats."""
    return (
        len(content) >= _FIXED_HEADER_BYTES and content[6:7] in b"DRQM" and content[:6].strip(b"0123456789 \0") == b""
    )


def is_broken(content: bytes) -> bool:
    """Whether something in a miniSEED file is no whole record."""
    try:
        return table(content).damaged
    except UnreadableFileError:
        return True


def table(content: bytes) -> Table:
    """The records of the miniSEED file `content`; ``UnreadableFileError`` where it has none."""
    try:
        length = record_length(content)
    except IrregularError:
        return _one_by_one(content, None)
    try:
        return regular(content, length)
    except IrregularError:
        return _one_by_one(content, length)


def record_length(content: bytes) -> int:
    """Bytes of the first record of `content`, of which a header is enough."""
    header = _headers(content[:HEADER_BYTES], HEADER_BYTES)
    _check(header)
    return 1 << int(header["length_power"][0])


def regular(content: bytes, length: int, *, announced: int | None = None) -> Table:
    """The records of `length` bytes that make up `content`; ``IrregularError`` unless all are usual ones.

    `announced` is the length that their headers tell where only the beginning of each is there.
    """
    headers = _headers(content, length)
    _check(headers, announced or length)
    places = np.arange(0, len(content), length)
    used = headers["n_samples"] > 0
    headers, places = headers[used], places[used]
    rate = sampling_rates(headers["factor"], headers["multiplier"])
    n_samples = headers["n_samples"].astype(np.int64)
    return Table(content, places, places + length, _names(headers["codes"]), start_times(headers), rate, n_samples)


def _headers(content: bytes, length: int) -> Array:
    if not content or len(content) % length:
        raise IrregularError
    # Side by side first: a field of records that lie far apart is slow to read, and twenty are read.
    together = np.frombuffer(content, np.uint8).reshape(-1, length)[:, :HEADER_BYTES].copy()
    formats, offsets = zip(*_FIELDS.values(), strict=True)
    fields: Any = {"names": list(_FIELDS), "formats": formats, "offsets": offsets, "itemsize": HEADER_BYTES}
    headers: Array = together.view(np.dtype(fields))[:, 0]
    return headers


def _check(headers: Array, length: int | None = None) -> None:
    """Raise ``IrregularError`` unless all records are miniSEED 2 of one length, with the usual blockettes alone."""
    usual = _KINDS[headers["kind"]] & _DIGITS[headers["sequence"]].all(axis=1)
    usual &= (headers["year"] >= _FIRST_YEAR) & (headers["year"] <= _LAST_YEAR)
    usual &= (headers["first_blockette"] == _FIXED_HEADER_BYTES) & (headers["type"] == _BLOCKETTE_1000)
    usual &= (headers["next"] == 0) | ((headers["type_2"] == _BLOCKETTE_1001) & (headers["next_2"] == 0))
    usual &= (headers["length_power"] >= 7) & (headers["length_power"] <= 20)  # noqa: PLR2004 - 128 bytes to 1 MiB
    if length is not None:
        usual &= (1 << headers["length_power"].astype(int)) == length
    if not usual.all():
        raise IrregularError


def start_times(headers: Array) -> Array:
    """Times of the first samples [ns since 1970] as the headers tell them, to the microsecond where they do."""
    year = (headers["year"].astype(int) - 1970).astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    second = headers["hour"].astype(np.int64) * 3600 + headers["minute"].astype(np.int64) * 60 + headers["second"]
    start = (year + headers["julday"] - 1) * _DAY_NS + second * _NS + headers["fraction"].astype(np.int64) * 100_000
    corrected = (headers["activity"] & _CORRECTION_APPLIED) == 0
    start += np.where(corrected, headers["correction"].astype(np.int64) * 100_000, 0)
    precise = (headers["next"] != 0) & (headers["type_2"] == _BLOCKETTE_1001)
    result: Array = start + np.where(precise, headers["microsecond"].astype(np.int64) * 1000, 0)
    return result


def sampling_rates(factor: Array, multiplier: Array) -> Array:
    """Rates [Hz] of the two numbers of a header: each multiplies if positive and divides if negative."""
    first, second = factor.astype(float), multiplier.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate: Array = np.where(first > 0, first, -1.0 / first) * np.where(second > 0, second, -1.0 / second)
    return np.where(np.isfinite(rate), rate, 0.0)


def _names(codes: Array) -> Array:
    """``NET.STA.LOC.CHA`` of the twelve characters of each header: station, location, channel, network."""
    kinds, inverse = np.unique(codes, return_inverse=True)
    texts = [kind.ljust(12).decode("ascii", "replace") for kind in kinds.tolist()]
    names = [".".join(part.strip() for part in (t[10:], t[:5], t[5:7], t[7:10])) for t in texts]
    return np.array(names, dtype=object)[inverse]


def _one_by_one(content: bytes, length: int | None) -> Table:
    """The table of any miniSEED, by libmseed; past a record that cannot be read if it has the `length` of others."""
    found: list[tuple[int, int, str, int, float, int]] = []
    place, damaged = 0, False
    while place < len(content):
        place = _record_by_record(content, place, found)
        if place < len(content):
            damaged = True
            if length is None:
                break
            place = (place // length + 1) * length
    if not found:
        msg = "no miniSEED"
        raise UnreadableFileError(msg)
    first, last, names, starts, rates, counts = zip(*found, strict=True)
    return Table(
        content, np.array(first, np.int64), np.array(last, np.int64), np.array(names, object),
        np.array(starts, np.int64), np.array(rates, float), np.array(counts, np.int64), damaged,
    )  # fmt: skip


def _record_by_record(content: bytes, place: int, found: list[tuple[int, int, str, int, float, int]]) -> int:
    """Add the records from `place` on to `found`; the byte at which one cannot be read, or the end."""
    from pymseed import MS3Record, PymseedError

    try:
        for record in MS3Record.from_buffer(memoryview(content)[place:]):
            last = place + record.reclen
            if record.samplecnt > 0:
                name = _station_id(record.sourceid)
                found.append((place, last, name, record.starttime, record.samprate, record.samplecnt))
            place = last
    except (PymseedError, ValueError):
        pass
    return place


def _station_id(sourceid: str) -> str:
    from pymseed import sourceid2nslc

    return ".".join(sourceid2nslc(sourceid))
