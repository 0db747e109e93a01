"""Windows of continuous miniSEED: of each object the records that they need, decoded once."""

from __future__ import annotations

import threading
from bisect import bisect
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.miniseed import Table, is_miniseed, table
from specufex_dask.objects import DamagedObjectError, Objects, is_url
from specufex_dask.reading import joined, once_more, read_parts
from specufex_dask.segments import Segment, UnreadableFileError, nearest_sample
from specufex_dask.sparse import FAR, NEAR, read_sparsely

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Array = np.ndarray[Any, Any]
_DECODING = threading.Lock()
"""Held by the thread that decodes: several, which take the interpreter from each other, need twice the time in all."""


class NotMiniseedError(Exception):
    """The object is in another format."""


@dataclass(frozen=True)
class Stretch:
    """What an object holds of one window: one segment, or those of its records where they do not follow each other."""

    segments: list[Segment]
    damaged: bool
    others_damaged: bool


def read_windows(
    objects: Objects, path: str, station_id: Sequence[str], windows_ns: Array, *, in_order: bool
) -> list[Stretch]:
    """What the object `path` holds of `windows_ns` (window, 2) [first, last] of the channels `station_id` (window,).

    The segments of a window do not depend on the other windows. With `in_order` the object is of
    one channel, its records in the order of their times, and only some of its bytes may be
    fetched. What comes damaged through a network is fetched once more.

    Raises
    ------
    FileNotFoundError, PermissionError, ConnectionError
        See `specufex_dask.objects.Objects.read_parts`.
    UnreadableFileError
        The object holds nothing that can be read.
    NotMiniseedError
        It is in another format.
    """
    return once_more(
        path,
        lambda: _read(objects, path, station_id, windows_ns, in_order=in_order),
        lambda stretches: not any(each.damaged or each.others_damaged for each in stretches),
    )


def _read(
    objects: Objects, path: str, station_id: Sequence[str], windows_ns: Array, *, in_order: bool
) -> list[Stretch]:
    records = _sparsely(objects, path, windows_ns) if in_order else None
    parts = read_parts(path, objects) if records is None else []
    with _DECODING:
        if records is None:
            records = _records(parts, path, windows_ns, in_order=in_order)
        return _stretches(records, station_id, windows_ns)


def _records(parts: list[bytes], path: str, windows_ns: Array, *, in_order: bool) -> Table:
    """Those of the object that `parts` make up, or of one in order at least those of the windows."""
    if in_order and is_url(path):  # the headers of all records take longer to read than the samples that are wanted
        found = read_sparsely(partial(_ranges, parts), sum(map(len, parts)), windows_ns, NEAR)
        if found is not None:
            return found
    content = joined(parts, path)
    if not is_miniseed(content):
        raise NotMiniseedError
    try:
        return table(content)
    except UnreadableFileError:
        raise NotMiniseedError from None  # for libmseed, that is: ObsPy may see one in it


def _ranges(parts: list[bytes], ranges: list[tuple[int, int]]) -> list[bytes]:
    """The bytes of `ranges` [first, end] of what `parts` make up."""
    if len(parts) == 1:
        return [parts[0][first:end] for first, end in ranges]
    ends = list(accumulate(map(len, parts)))

    def one(first: int, end: int) -> bytes:
        i = bisect(ends, first)
        begin = ends[i] - len(parts[i])
        found = parts[i][first - begin : end - begin]
        return found if end <= ends[i] else found + one(ends[i], end)

    return [one(first, end) for first, end in ranges]


def _sparsely(objects: Objects, path: str, windows_ns: Array) -> Table | None:
    """What the windows need of an object in order, unless it is to be read whole."""
    reach = FAR if is_url(path) else NEAR
    if len(windows_ns) > reach.most_ranges and not objects.knows_size(path):
        return None  # its size would take as long as its bytes
    try:
        size = objects.size(path)
        return read_sparsely(partial(objects.read_ranges, path), size, windows_ns, reach) if size else None
    except (OSError, DamagedObjectError):
        if is_url(path):
            raise
        return None  # of a file on a disk, reading it whole says what is wrong


def _stretches(records: Table, station_id: Sequence[str], windows_ns: Array) -> list[Stretch]:
    rows = records.rows_of(station_id, windows_ns)
    every = np.unique(np.concatenate(rows))
    samples = records.decode_all(every)
    if samples is None and len(rows) > 1:  # what one window has does not change another
        alone = zip(station_id, windows_ns, strict=True)
        return [stretch for name, window_ns in alone for stretch in _stretches(records, [name], window_ns[None])]
    if samples is None:
        return [_by_record(records, rows[0])]
    begins = np.cumsum(records.n_samples[every]) - records.n_samples[every]
    return [
        _by_record(records, each) if whole is None else Stretch([whole], damaged=False, others_damaged=records.damaged)
        for each, whole in zip(rows, _segments(records, rows, every, begins, samples), strict=True)
    ]


def _segments(
    records: Table, rows: list[Array], every: Array, begins: Array, samples: Array
) -> Iterator[Segment | None]:
    """Of each window the one segment that its records make up; None if they leave a sample out, or one is twice.

    The `samples` of a record begin at the number that `begins` has at the place of its row in `every`.
    """
    flat, n_rows = np.concatenate(rows), np.array([len(each) for each in rows])
    window = np.repeat(np.arange(len(rows)), n_rows)
    first = np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
    head, n_before = flat[first], np.cumsum(records.n_samples[flat]) - records.n_samples[flat]
    rate = records.sampling_rate[head]
    place = nearest_sample(records.start_ns[flat] - records.start_ns[head], rate)
    fits = (place == n_before - n_before[first]) & (flat - head == np.arange(len(flat)) - first)
    fits &= (records.sampling_rate[flat] == rate) & (rate > 0) & (rate < np.inf)
    is_one = (n_rows > 0) & (np.bincount(window, ~fits, len(rows)) == 0)
    n_samples = np.bincount(window, records.n_samples[flat], len(rows)).astype(int)
    heads = flat[np.where(is_one, np.cumsum(n_rows) - n_rows, 0)]
    told = is_one, begins[every.searchsorted(heads)], records.start_ns[heads], records.sampling_rate[heads], n_samples
    for fit, begin, start_ns, rate_hz, n in zip(*(each.tolist() for each in told), strict=True):
        yield Segment(start_ns, rate_hz, n, samples[begin : begin + n]) if fit else None


def _by_record(records: Table, rows: Array) -> Stretch:
    segments = [part for part in records.decode(rows).values() if part is not None]
    return Stretch(segments, len(segments) < len(rows), records.damaged)
