"""Windows of continuous miniSEED: of each object the records that they need, decoded once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.miniseed import Table, is_miniseed, table
from specufex_dask.objects import Objects, is_url
from specufex_dask.reading import once_more, read_bytes
from specufex_dask.sparse import read_sparsely

if TYPE_CHECKING:
    from collections.abc import Sequence

    from specufex_dask.segments import Segment

Array = np.ndarray[Any, Any]


class NotMiniseedError(Exception):
    """The object is in another format."""


@dataclass(frozen=True)
class Stretch:
    """What an object holds of one window: a segment a record; is one of these damaged, or another of the object."""

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
        See `specufex_dask.objects.Objects.read`.
    UnreadableFileError
        The object holds nothing that can be read.
    NotMiniseedError
        It is in another format.
    """
    return once_more(
        path,
        lambda: _stretches(_records(objects, path, windows_ns, in_order=in_order), station_id, windows_ns),
        lambda stretches: not any(each.damaged or each.others_damaged for each in stretches),
    )


def _records(objects: Objects, path: str, windows_ns: Array, *, in_order: bool) -> Table:
    if in_order and is_url(path) and (size := objects.size(path)):
        found = read_sparsely(lambda ranges: objects.read_ranges(path, ranges), size, windows_ns)
        if found is not None:
            return found
    content = read_bytes(path, objects)
    if not is_miniseed(content):
        raise NotMiniseedError
    return table(content)


def _stretches(records: Table, station_id: Sequence[str], windows_ns: Array) -> list[Stretch]:
    pairs = zip(station_id, windows_ns.tolist(), strict=True)
    rows = [records.rows(name, first, last) for name, (first, last) in pairs]
    decoded = records.decode(np.unique(np.concatenate(rows)))
    return [_stretch([decoded[row] for row in each.tolist()], others_damaged=records.damaged) for each in rows]


def _stretch(parts: list[Segment | None], *, others_damaged: bool) -> Stretch:
    segments = [part for part in parts if part is not None]
    return Stretch(segments, len(segments) < len(parts), others_damaged)
