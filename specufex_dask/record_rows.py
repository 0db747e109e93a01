"""The order of records, and the runs of them that are read together, so that one task reads each object.

Files of events: all stations of the first event, then of the second. Files of days or hours: by
what the files are of (a channel, a station), by day, by time. A record is known by its event_id
and station_id, never by its position.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.archive import PathTemplate
from specufex_dask.cutting import NOT_A_TIME

if TYPE_CHECKING:
    from specufex_dask.anchors import Rows
    from specufex_dask.archive import Archive

Array = np.ndarray[Any, Any]

MOST_RECORDS = 2048
"""Records that one task reads of an object, however many there are in it."""

_FEWEST_TASKS = 32
_MOST_BYTES = 32e6  # of their samples: what is read for several shards waits in memory for the last of them
_SECOND_NS = 1_000_000_000
_HOUR_NS = 3600 * _SECOND_NS
_STATION_FIELDS = ("network", "station", "location", "channel")


def by_object(rows: Rows, archive: Archive, window: tuple[float, float] | None) -> tuple[Rows, Array | None]:
    """`rows` in the order of the objects that hold them, and where each object ends; None for files of events.

    Of days or hours the object is that of the first sample: a window that goes on after midnight
    needs the next one as well.
    """
    if not (isinstance(archive, PathTemplate) and archive.is_continuous):
        return rows, None
    known = rows.anchor_ns != NOT_A_TIME
    start_ns = np.where(known, rows.anchor_ns, rows.origin_ns) + round((window or (0.0,))[0] * _SECOND_NS)
    period = start_ns // (_HOUR_NS if "hour" in archive.fields else 24 * _HOUR_NS)
    place = _places(rows.station_id, archive.fields)
    order = np.lexsort((start_ns, period, place))  # stable: stations of a file in their own order
    changed = (np.diff(place[order]) != 0) | (np.diff(period[order]) != 0)
    arrays = {name: values[order] for name, values in vars(rows).items() if values is not None}
    return replace(rows, **arrays), np.append(np.flatnonzero(changed) + 1, len(order))


def tasks(n_records: int, records_per_task: int) -> tuple[int, ...]:
    """How many records each task has; all are equal but the last."""
    return tuple(min(records_per_task, n_records - first) for first in range(0, n_records, records_per_task)) or (0,)


def read_together(ends: Array, record_bytes: int, records_per_task: int) -> tuple[int, ...]:
    """How many records are read together, in their order: those of one object, or of a few whole ones.

    `ends` (object,) are the positions at which objects end. Whole objects make up at most
    `records_per_task`, or a part in 32 of many records, as little then travels between workers;
    of a larger one 2048 records are read at a time, or 32 MB of samples.
    """
    most = max(1, min(MOST_RECORDS, int(_MOST_BYTES // record_bytes)))
    few = min(most, max(records_per_task, int(ends[-1]) // _FEWEST_TASKS))
    sizes: list[int] = []
    first, n_records = 0, int(ends[-1])  # one object at least, though it be empty
    while first < n_records:
        place = int(np.searchsorted(ends, first + few, side="right"))
        end = int(ends[place - 1]) if place else 0
        if end <= first:  # not even one fits
            end = int(ends[place])
        n_parts = -(-(end - first) // most)
        sizes += np.diff(np.linspace(first, end, n_parts + 1).astype(int)).tolist()
        first = end
    return tuple(sizes) or (0,)


def _places(station_id: Array, fields: frozenset[str]) -> Array:
    """What the files are of, of each record, numbered as they come: what a template tells of `station_id` (record,)."""
    used = [i for i, name in enumerate(_STATION_FIELDS) if name in fields]
    numbers: dict[tuple[str, ...], int] = {}
    of: dict[str, int] = {}
    for name in dict.fromkeys(station_id.tolist()):
        codes = name.split(".")
        of[name] = numbers.setdefault(tuple(codes[i] for i in used), len(numbers))
    return np.fromiter((of[name] for name in station_id.tolist()), np.int64, len(station_id))
