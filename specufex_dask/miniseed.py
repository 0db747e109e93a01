"""Records of miniSEED: where they lie among the bytes, and the samples of those that a window needs.

The headers of a file of equal records (miniSEED 2) are read as one table; any other file is
gone through record by record. Samples are decoded by pymseed (libmseed), which holds each Steim
record's last sample against the one that its header tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.seed_headers import (
    FIXED_HEADER_BYTES,
    HEADER_BYTES,
    IrregularError,
    fits_its_blockette,
    name_of,
    read_headers,
    record_length,
    sampling_rates,
    start_times,
    station_ids,
)
from specufex_dask.segments import Segment, UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, Any]
_NS = 1_000_000_000
_LONGEST_NS = 2.0**61  # damaged rates tell of longer ones
_HARMLESS = ("No Blockette 1000", "unsupported blockette", "present but discarded", "Number of blockettes in fixed")


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
        with np.errstate(divide="ignore", invalid="ignore"):
            span = np.where(self.sampling_rate > 0, (self.n_samples - 1.0) * _NS / self.sampling_rate, 0.0)
        ends: Array = self.start_ns + np.rint(span.clip(max=_LONGEST_NS)).astype(np.int64)
        return ends

    @cached_property
    def _channels(self) -> dict[str, tuple[Array, Array, Array, int, bool]]:
        """Of each channel: rows in the order of their starts; these; the latest end up to each; half a sample [ns].

        And whether they end in that order too.
        """
        found = {}
        names = set(self.station_id.tolist())
        for name in names:
            rows = np.flatnonzero(self.station_id == name) if len(names) > 1 else np.arange(len(self.station_id))
            rows = rows[np.argsort(self.start_ns[rows], kind="stable")]
            half = int(0.5 * _NS / max(self.sampling_rate[rows].min(), 1e-9))
            ends = self.end_ns[rows]
            latest = np.maximum.accumulate(ends)
            found[name] = rows, self.start_ns[rows], latest, half, bool((latest == ends).all())
        return found

    def rows(self, station_id: str, first_ns: int, last_ns: int) -> Array:
        """The records of a channel that hold samples of a window, in the order of their times."""
        return self.rows_of([station_id], np.array([[first_ns, last_ns]]))[0]

    def rows_of(self, station_id: Sequence[str], windows_ns: Array) -> list[Array]:
        """`rows` of each of `windows_ns` (window, 2) [first, last] of the channels `station_id` (window,)."""
        found = [np.empty(0, int)] * len(station_id)
        names = np.array(station_id, dtype=object)
        for name in self._channels.keys() & set(station_id):
            which = np.flatnonzero(names == name)
            rows, starts, latest, half, in_order = self._channels[name]
            first_ns, last_ns = windows_ns[which].T
            begins, ends = latest.searchsorted(first_ns - half), starts.searchsorted(last_ns + half, side="right")
            for i, begin, end in zip(which.tolist(), begins.tolist(), ends.tolist(), strict=True):
                near = rows[begin:end]
                found[i] = near if in_order else near[self.end_ns[near] + half >= windows_ns[i, 0]]
        return found

    def headers(self, rows: Array) -> list[Segment]:
        """Each of `rows` without its samples."""
        described = zip(self.start_ns[rows], self.sampling_rate[rows], self.n_samples[rows], strict=True)
        return [Segment(int(start), float(rate), int(count), np.empty(0)) for start, rate, count in described]

    def decode(self, rows: Array) -> dict[int, Segment | None]:
        """Each of `rows` (sorted) with its samples; None for one that is damaged."""
        if not len(rows):
            return {}
        runs = self._runs(rows)
        samples: Sequence[Array | None] | None = self._together(runs)
        if samples is None:  # something in one of them
            samples = [part for run in runs for part in self._apart(run)]
        described = zip(samples, self.start_ns[rows].tolist(), self.sampling_rate[rows].tolist(), strict=True)
        return {row: _segment(*each) for row, each in zip(rows.tolist(), described, strict=True)}

    def decode_all(self, rows: Array) -> Array | None:
        """The samples (sample,) of all `rows` (sorted) in turn; None if one is damaged, or of another type."""
        samples = self._joined(self._runs(rows)) if len(rows) else None
        return samples if samples is not None and samples.dtype.kind in "if" else None

    def _runs(self, rows: Array) -> list[Array]:
        return np.split(rows, np.flatnonzero(~self._follows(rows)) + 1)

    def _follows(self, rows: Array) -> Array:
        """Whether each of `rows` but the first follows the one before it, among the bytes and in time (row - 1,)."""
        before, after = rows[:-1], rows[1:]
        period = _NS / np.maximum(self.sampling_rate[before], 1e-9)
        off = self.start_ns[after] - self.end_ns[before] - period
        follows: Array = (self.first_byte[after] == self.last_byte[before]) & (abs(off) < period / 2)
        return follows

    def _together(self, runs: list[Array]) -> list[Array] | None:
        """The samples of each record of `runs`; None as of `_joined`."""
        samples = self._joined(runs)
        if samples is None:
            return None
        n_samples = self.n_samples[np.concatenate(runs)].tolist()
        return [samples[first:end] for first, end in pairwise(accumulate(n_samples, initial=0))]

    def _joined(self, runs: list[Array]) -> Array | None:
        """The samples of `runs` one after the other; None unless each run is one sound stretch, all of one type."""
        from pymseed import MS3TraceList, PymseedError, clear_error_messages, get_error_messages

        clear_error_messages()
        content = memoryview(self.content)
        part = b"".join([content[self.first_byte[run[0]] : self.last_byte[run[-1]]] for run in runs])
        try:
            traces = MS3TraceList.from_buffer(part, unpack_data=True)
            named = [(_station_id(trace.sourceid), trace) for trace in traces]
            samples = [(name, each.starttime, each.np_datasamples) for name, trace in named for each in trace]
        except (PymseedError, ValueError):
            return None
        # They come in the order of their names and times, which need not be that of the runs.
        found = {(name, start, each.size): each for name, start, each in samples}
        heads = [run[0] for run in runs]
        n_samples = np.add.reduceat(self.n_samples[np.concatenate(runs)], np.cumsum([0, *map(len, runs[:-1])])).tolist()
        wanted = list(zip(self.station_id[heads].tolist(), self.start_ns[heads].tolist(), n_samples, strict=True))
        if _damage(get_error_messages()) or len(samples) != len(found) or sorted(found) != sorted(wanted):
            return None  # or a record is there twice, or out of its order
        is_one_type = len({part.dtype for part in found.values()}) == 1
        return np.concatenate([found[key] for key in wanted]) if is_one_type else None

    def _apart(self, run: Array) -> Sequence[Array | None]:
        """The samples of each record of `run`, None for one that is damaged."""
        return self._together([run]) or [self._alone(row) for row in run]

    def _alone(self, row: int) -> Array | None:
        from pymseed import MS3Record, PymseedError, clear_error_messages, get_error_messages

        clear_error_messages()
        content = self.content[self.first_byte[row] : self.last_byte[row]]
        try:
            # A record that does not tell its length is as long as it is to the next header: one follows it.
            record = MS3Record.parse(content + content[:HEADER_BYTES], unpack_data=True)
            samples = np.array(record.np_datasamples)
        except (PymseedError, ValueError):
            return None
        whole = record.reclen == len(content) and samples.size == self.n_samples[row]
        return samples if whole and not _damage(get_error_messages()) else None


def _segment(samples: Array | None, start_ns: int, sampling_rate: float) -> Segment | None:
    if samples is None or samples.dtype.kind not in "if" or not 0 < sampling_rate < float("inf"):
        return None  # damaged, a log of characters, or a rate that no time follows from
    return Segment(start_ns, sampling_rate, samples.size, samples)


def _damage(messages: list[str]) -> bool:
    """Whether libmseed complains of more than of blockettes, which say nothing of the samples."""
    return any(not any(text in message for text in _HARMLESS) for message in messages)


def is_miniseed(content: bytes) -> bool:
    """Whether a miniSEED data record opens the file; spares ObsPy's search through all its formats."""
    is_second = content[6:7] in b"DRQM" and content[:6].strip(b"0123456789 \0") == b""
    return len(content) >= FIXED_HEADER_BYTES and (is_second or is_third(content))


def is_third(content: bytes) -> bool:
    """Whether the file is of version 3 of miniSEED, which ObsPy does not read."""
    return content[:3] == b"MS\x03"


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


def regular(content: bytes, length: int, *, announced: int | None = None) -> Table:
    """The records of `length` bytes that make up `content`; ``IrregularError`` unless all are usual ones.

    `announced` is the length that their headers tell where only the beginning of each is there.
    """
    headers = read_headers(content, length, announced)
    places = np.arange(0, len(content), length)
    used = headers["n_samples"] > 0
    if not used.all():
        headers, places = headers[used], places[used]
    rate = sampling_rates(headers["factor"], headers["multiplier"])
    n_samples = headers["n_samples"].astype(np.int64)
    return Table(content, places, places + length, station_ids(headers), start_times(headers), rate, n_samples)


def _one_by_one(content: bytes, length: int | None) -> Table:
    """The table of any miniSEED, by libmseed; past a record that cannot be read if it has the `length` of others."""
    found: list[tuple[int, int, str, int, float, int]] = []
    place, damaged = 0, False
    while place < len(content):
        place = _record_by_record(content, place, found)
        if place < len(content):
            damaged = True
            length = length or (found[0][1] - found[0][0] if found else None)
            if length is None:
                break
            place = (place // length + 1) * length
    if not found:
        msg = "no miniSEED"
        raise UnreadableFileError(msg)
    first, last, ids, starts, rates, counts = zip(*found, strict=True)
    return Table(
        content, np.array(first, np.int64), np.array(last, np.int64), np.array(ids, object),
        np.array(starts, np.int64), np.array(rates, float), np.array(counts, np.int64), damaged,
    )  # fmt: skip


def _record_by_record(content: bytes, place: int, found: list[tuple[int, int, str, int, float, int]]) -> int:
    """Add the records from `place` on to `found`; the byte at which one cannot be read, or the end."""
    from pymseed import MS3Record, PymseedError

    try:
        for record in MS3Record.from_buffer(memoryview(content)[place:]):
            last = place + record.reclen
            if not is_third(content) and not fits_its_blockette(content[place:last]):
                break
            if record.samplecnt > 0:
                # The codes themselves, where the header has them: libmseed leaves out one that is not ASCII.
                name = _station_id(record.sourceid) if is_third(content) else name_of(content[place + 8 : place + 20])
                found.append((place, last, name, record.starttime, record.samprate, record.samplecnt))
            place = last
    except (PymseedError, ValueError):
        pass
    return place


def _station_id(sourceid: str) -> str:
    from pymseed import sourceid2nslc

    return ".".join(sourceid2nslc(sourceid))
