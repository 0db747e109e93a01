"""Of a long miniSEED object of one channel, only the bytes that some windows need.

The headers of a few records, evenly spread, tell the time at their places. Between two of them
the place of a window follows by interpolation; where the guess was wrong, the headers of what
was fetched tell, and more is fetched beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.miniseed import HEADER_BYTES, IrregularError, Table, record_length, regular

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]
Ranges = list[tuple[int, int]]

_N_PROBES = 16
_ALIGNED = 4096
_MARGIN_BYTES = 24_576
_MOST_SHARE = 0.1
_MOST_ROUNDS = 4


def read_sparsely(fetch: Callable[[Ranges], list[bytes]], size: int, windows_ns: Array) -> Table | None:
    """The records near `windows_ns` (window, 2) [first, last] of an object of `size` bytes whose records are in order.

    None where that would be a tenth of the object or more, or where its records are not of one
    channel, one length, and in the order of their times: it is to be read whole.
    """
    windows_ns = windows_ns[np.argsort(windows_ns[:, 0])]
    if size < 4 * _N_PROBES * _MARGIN_BYTES or len(windows_ns) * 2 * _MARGIN_BYTES > _MOST_SHARE * size:
        return None
    try:
        return _Search(fetch, size).table(windows_ns)
    except IrregularError:
        return None


class _Search:
    """What is known of an object: times at places, and the bytes of ranges."""

    def __init__(self, fetch: Callable[[Ranges], list[bytes]], size: int) -> None:
        self._fetch, self._size = fetch, size
        places = np.linspace(0, size - _ALIGNED, _N_PROBES).astype(int) // _ALIGNED * _ALIGNED
        headers = fetch([(int(p), int(p) + HEADER_BYTES) for p in places])
        self._length = record_length(headers[0])
        if size % self._length or self._length > _ALIGNED:
            raise IrregularError
        probed = regular(b"".join(headers), HEADER_BYTES, announced=self._length)
        if len(probed.start_ns) < len(places) or len(set(probed.station_id.tolist())) > 1:
            raise IrregularError
        self._places, self._times = places, probed.start_ns
        self._pieces: dict[int, bytes] = {}
        _check_order(probed)

    def table(self, windows_ns: Array) -> Table | None:
        wanted = [self._guess(first, last) for first, last in windows_ns.tolist()]
        for _ in range(_MOST_ROUNDS):
            ranges = _merged(wanted)
            if sum(last - first for first, last in ranges) > _MOST_SHARE * self._size:
                return None
            self._get(ranges)
            table = self._joined()
            pairs = zip(wanted, windows_ns.tolist(), strict=True)
            wider = [self._widened(table, known, window) for known, window in pairs]
            if wider == wanted:
                return table
            wanted = wider
        return None

    def _get(self, ranges: Ranges) -> None:
        """Have the bytes of `ranges`, of which some may be there already."""
        kept = {
            first: self._pieces[first] for first, last in ranges if len(self._pieces.get(first, b"")) == last - first
        }
        new = [each for each in ranges if each[0] not in kept]
        fetched = zip(new, self._fetch(new), strict=True)
        self._pieces = kept | {first: content for (first, _), content in fetched}

    def _guess(self, first_ns: int, last_ns: int) -> tuple[int, int]:
        first, last = np.interp([first_ns, last_ns], self._times, self._places)
        return self._range(int(first) - _MARGIN_BYTES, int(last) + _MARGIN_BYTES)

    def _range(self, first: int, last: int) -> tuple[int, int]:
        """Whole records from before `first` to after `last`."""
        length = self._length
        return max(0, first // length * length), min(self._size, -(-last // length) * length)

    def _joined(self) -> Table:
        places = sorted(self._pieces)
        table = regular(b"".join(self._pieces[place] for place in places), self._length)
        _check_order(table)
        return table

    def _widened(self, table: Table, known: tuple[int, int], window_ns: list[int]) -> tuple[int, int]:
        """`known`, and more where the records fetched begin after the window does, or end before its end."""
        first, last = known
        times = self._span(table, known)
        step = max(_MARGIN_BYTES, last - first)
        if times is None or times[0] > window_ns[0]:
            first -= step
        if times is None or times[1] < window_ns[1]:
            last += step
        return self._range(first, last)

    def _span(self, table: Table, known: tuple[int, int]) -> tuple[int, int] | None:
        """First and last time of the records in the range `known`; None where none has samples."""
        places = np.concatenate(
            [np.arange(place, place + len(self._pieces[place]), self._length) for place in sorted(self._pieces)]
        )[table.first_byte // self._length]
        rows = np.flatnonzero((places >= known[0]) & (places < known[1]))
        return (int(table.start_ns[rows[0]]), int(table.end_ns[rows[-1]])) if len(rows) else None


def _check_order(table: Table) -> None:
    if (np.diff(table.start_ns) < 0).any():
        raise IrregularError


def _merged(ranges: Ranges) -> Ranges:
    """Ranges that overlap, or nearly, as one."""
    merged: Ranges = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + _MARGIN_BYTES:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged
