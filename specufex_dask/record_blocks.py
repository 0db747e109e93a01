"""Read one block of records: each file once, each record into its row, each defect into its flag."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.archive import LONGEST_RECORD_NS, PathTemplate
from specufex_dask.continuous import NotMiniseedError, read_windows
from specufex_dask.cutting import FLAG, NOT_A_TIME, Cut, Record, cut, cut_plainly
from specufex_dask.ledger import Entries
from specufex_dask.objects import counts
from specufex_dask.segments import Segment, UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specufex_dask.archive import Archive
    from specufex_dask.blocks import Results
    from specufex_dask.ledger import Ledger

Array = np.ndarray[Any, Any]
_SECOND_NS = 1_000_000_000
_LACKING = {FLAG["missing"], FLAG["short"], FLAG["gappy"]}


@dataclass
class _Found:
    """What the objects of one record hold of its channel: segments by object, and what is wrong with the rest.

    `own` are those of the time of its window; the one before (the first of `sources`) may run into it.
    """

    sources: tuple[str, ...]
    own: tuple[str, ...]
    n_read: int = 0
    parts: dict[str, list[Segment]] = field(default_factory=dict)
    damaged: bool = False
    unreadable: bool = False

    @property
    def segments(self) -> list[Segment]:
        """In the order of the objects, whichever was read first."""
        return [part for source in self.sources for part in self.parts.get(source, [])]

    def is_whole(self, ends_ns: list[int]) -> bool:
        """Whether one segment has all of the window, to its `ends_ns` [first, last]."""
        first, last = ends_ns
        return not (self.damaged or self.unreadable) and any(
            part.start_ns <= first and part.time_ns(part.n_samples - 1) >= last for part in self.segments
        )


def read_block(
    event_id: Array,
    station_id: Array,
    origin_ns: Array,
    anchor_ns: Array,
    *,
    archive: Archive,
    how: Cut,
    sample_dtype: np.dtype[Any],
    ledger: Ledger,
) -> Results:
    """Return waveform (record, sample), quality (record) and start time (record) of a block of records.

    Each object is read once. Rows of records that are not usable are NaN throughout, so that
    nothing is used by mistake. What was read is written to the `ledger`.
    """
    waveform = np.full((event_id.size, how.n_samples), np.nan, dtype=sample_dtype)
    quality = np.where(anchor_ns == NOT_A_TIME, FLAG["no_pick"], FLAG["missing"]).astype(np.int8)
    start_ns = np.full(event_id.size, NOT_A_TIME, dtype=np.int64)
    ends_ns, entries = _window_ends(anchor_ns, how), Entries(event_id.size)
    times_ns = origin_ns[:, None] if ends_ns is None else np.column_stack([origin_ns, ends_ns])
    known = np.flatnonzero(anchor_ns != NOT_A_TIME).tolist()
    founds = {i: _expected(archive, event_id[i], station_id[i], times_ns[i].tolist()) for i in known}
    for rows, whole in _Reader(archive, station_id, ends_ns, entries, founds).whole():
        cuts = _records(whole, anchor_ns[rows].tolist(), how, station_id[rows].tolist())
        for i, record in zip(rows, cuts, strict=True):
            quality[i], start_ns[i] = record.flag, record.start_ns
            if record.samples is not None:
                waveform[i] = record.samples
    ledger.write(event_id, station_id, entries)
    return {"waveform": waveform, "quality": quality, "start_time": start_ns.view("datetime64[ns]")}


def _window_ends(anchor_ns: Array, how: Cut) -> Array | None:
    """First and last time that each record needs (record, 2) [ns], its padding included; None if not known yet."""
    if how.window is None or how.from_file_start:
        return None
    reach = how.padding_seconds + 2 / how.sampling_rate
    ends = np.array([how.window[0] - reach, how.window[1] + reach]) * _SECOND_NS
    return np.asarray(anchor_ns[:, None] + np.rint(ends).astype(np.int64))


def _expected(archive: Archive, event_id: str, station_id: str, times_ns: list[int]) -> _Found:
    sources = archive.sources(event_id, station_id, times_ns)
    if len(sources) == 1:
        return _Found(sources, sources)
    origin_ns, first_ns, last_ns = times_ns
    return _Found(sources, archive.sources(event_id, station_id, [origin_ns, first_ns + LONGEST_RECORD_NS, last_ns]))


@dataclass
class _Reader:
    """Reads the objects of a block, each once for all of its records."""

    archive: Archive
    station_id: Array
    ends_ns: Array | None
    entries: Entries
    found: dict[int, _Found]

    def whole(self) -> Iterator[tuple[list[int], list[_Found]]]:
        """Records with what their objects hold of them, when the last of these was read.

        The object before that of its time is read only for a record of which that lacks something.
        """
        of: dict[str, list[int]] = {}
        for i, found in self.found.items():
            for name in found.own:
                of.setdefault(name, []).append(i)
        lacking: dict[str, list[int]] = {}
        for name, records in of.items():
            read = self._read(name, records)
            short = {i for i in read if self._needs_more(i)}
            for i in sorted(short):
                lacking.setdefault(self.found[i].sources[0], []).append(i)
            yield self._taken([i for i in read if i not in short])
        for name, records in lacking.items():
            yield self._taken(self._read(name, records))

    def _taken(self, records: list[int]) -> tuple[list[int], list[_Found]]:
        return records, [self.found.pop(i) for i in records]

    def _needs_more(self, i: int) -> bool:
        found = self.found[i]
        if self.ends_ns is None or found.sources[0] in found.own:
            return False
        return not found.is_whole(self.ends_ns[i].tolist())

    def _read(self, source: str, records: list[int]) -> list[int]:
        """Read the object `source`; those of its `records` of which no other own one is left."""
        before = counts.n_bytes, counts.n_again
        found, ends_ns = [self.found[i] for i in records], None if self.ends_ns is None else self.ends_ns[records]
        try:
            _add(found, self.archive, source, self.station_id[records].tolist(), ends_ns)
        except FileNotFoundError:
            pass
        except UnreadableFileError:
            for each in found:
                each.unreadable = True
        self.entries.add(source, records, counts.n_bytes - before[0], 1 + counts.n_again - before[1])
        for each in found:
            each.n_read += 1
        return [i for i in records if self.found[i].n_read >= len(self.found[i].own)]


def _add(found: list[_Found], archive: Archive, source: str, wanted: list[str], ends_ns: Array | None) -> None:
    """Add what `source` holds for each record to what was `found` in others."""
    if ends_ns is not None and isinstance(archive, PathTemplate) and archive.is_continuous:
        try:
            stretches = read_windows(archive.objects, source, wanted, ends_ns, in_order=archive.in_order)
        except NotMiniseedError:
            pass
        else:
            for each, stretch in zip(found, stretches, strict=True):
                each.parts[source] = stretch.segments
                each.damaged |= stretch.damaged
                each.unreadable |= stretch.others_damaged
            return
    span_ns = None if ends_ns is None else (int(ends_ns.min()), int(ends_ns.max()))
    contents = archive.read(source, set(wanted), span_ns=span_ns)
    for each, name in zip(found, wanted, strict=True):
        each.parts[source] = contents.segments.get(name, [])
        each.damaged |= name in contents.damaged
        each.unreadable |= contents.is_broken


def _records(found: list[_Found], anchor_ns: list[int], how: Cut, station_id: list[str]) -> Iterator[Record]:
    segments = [[] if each.damaged else each.segments for each in found]
    plain = cut_plainly(segments, anchor_ns, how)
    for each, parts, anchor, name, record in zip(found, segments, anchor_ns, station_id, plain, strict=True):
        yield record or _record(each, parts, anchor, how, name)


def _record(found: _Found, segments: list[Segment], anchor_ns: int, how: Cut, station_id: str) -> Record:
    if found.damaged:
        return Record(FLAG["unreadable"])
    record = cut(segments, anchor_ns, how, station_id) if segments else Record(FLAG["missing"])
    if found.unreadable and record.flag in _LACKING:
        return Record(FLAG["unreadable"])
    return record
