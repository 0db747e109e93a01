"""Read one block of records: each file once, each record into its row, each defect into its flag."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.archive import PathTemplate
from specufex_dask.continuous import NotMiniseedError, read_windows
from specufex_dask.cutting import FLAG, NOT_A_TIME, Cut, Record, cut
from specufex_dask.segments import Segment, UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from specufex_dask.archive import Archive
    from specufex_dask.blocks import Results

Array = np.ndarray[Any, Any]
_SECOND_NS = 1_000_000_000
_LACKING = {FLAG["missing"], FLAG["short"], FLAG["gappy"]}


@dataclass
class _Found:
    """What the files of one record hold of its channel: its segments, and what is wrong with the rest."""

    segments: list[Segment] = field(default_factory=list)
    damaged: bool = False
    unreadable: bool = False


def read_block(
    event_id: Array,
    station_id: Array,
    origin_ns: Array,
    anchor_ns: Array,
    *,
    archive: Archive,
    how: Cut,
    sample_dtype: np.dtype[Any],
) -> Results:
    """Return waveform (record, sample), quality (record) and start time (record) of a block of records.

    Rows of records that are not usable are NaN throughout, so that nothing is used by mistake.
    """
    waveform = np.full((event_id.size, how.n_samples), np.nan, dtype=sample_dtype)
    quality = np.full(event_id.size, FLAG["missing"], dtype=np.int8)
    start_ns = np.full(event_id.size, NOT_A_TIME, dtype=np.int64)
    ends_ns = _window_ends(anchor_ns, how)
    known = np.flatnonzero(anchor_ns != NOT_A_TIME)
    times_ns = origin_ns[:, None] if ends_ns is None else np.column_stack([origin_ns, ends_ns])
    for sources, members in _by_source(archive, event_id, station_id, times_ns, known).items():
        ends = None if ends_ns is None else ends_ns[members]
        for i, found in zip(members, _read(archive, sources, station_id[members], ends), strict=True):
            record = _record(found, int(anchor_ns[i]), how)
            quality[i], start_ns[i] = record.flag, record.start_ns
            if record.samples is not None:
                waveform[i] = record.samples
    return {"waveform": waveform, "quality": quality, "start_time": start_ns.view("datetime64[ns]")}


def _window_ends(anchor_ns: Array, how: Cut) -> Array | None:
    """First and last time that each record needs (record, 2) [ns], its padding included; None if not known yet."""
    if how.window is None or how.from_file_start:
        return None
    reach = how.padding_seconds + 2 / how.sampling_rate
    ends = np.array([how.window[0] - reach, how.window[1] + reach]) * _SECOND_NS
    return np.asarray(anchor_ns[:, None] + np.rint(ends).astype(np.int64))


def _by_source(
    archive: Archive, event_id: Array, station_id: Array, times_ns: Array, known: Array
) -> dict[tuple[str, ...], list[int]]:
    """The records `known` of each set of files, in order: a record whose anchor is not known is in none."""
    members: dict[tuple[str, ...], list[int]] = {}
    for i in known.tolist():
        members.setdefault(archive.sources(event_id[i], station_id[i], times_ns[i].tolist()), []).append(i)
    return members


def _read(archive: Archive, sources: Sequence[str], wanted: Array, ends_ns: Array | None) -> list[_Found]:
    """What there is for each record of the channels `wanted` (record,) in `sources`, each of which is read once."""
    found = [_Found() for _ in wanted]
    for source in sources:
        try:
            _add(found, archive, source, wanted.tolist(), ends_ns)
        except FileNotFoundError:
            continue
        except UnreadableFileError:
            for each in found:
                each.unreadable = True
    return found


def _add(found: list[_Found], archive: Archive, source: str, wanted: list[str], ends_ns: Array | None) -> None:
    """Add what `source` holds for each record to what was `found` in others."""
    if ends_ns is not None and isinstance(archive, PathTemplate) and archive.is_continuous:
        try:
            stretches = read_windows(archive.objects, source, wanted, ends_ns, in_order=archive.in_order)
        except NotMiniseedError:
            pass
        else:
            for each, stretch in zip(found, stretches, strict=True):
                each.segments += stretch.segments
                each.damaged |= stretch.damaged
                each.unreadable |= stretch.others_damaged
            return
    span_ns = None if ends_ns is None else (int(ends_ns.min()), int(ends_ns.max()))
    contents = archive.read(source, set(wanted), span_ns=span_ns)
    for each, name in zip(found, wanted, strict=True):
        each.segments += contents.segments.get(name, [])
        each.damaged |= name in contents.damaged
        each.unreadable |= contents.is_broken


def _record(found: _Found, anchor_ns: int, how: Cut) -> Record:
    if found.damaged:
        return Record(FLAG["unreadable"])
    record = cut(found.segments, anchor_ns, how) if found.segments else Record(FLAG["missing"])
    if found.unreadable and record.flag in _LACKING:
        return Record(FLAG["unreadable"])
    return record
