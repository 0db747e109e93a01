"""Of a long miniSEED object of one channel, only the bytes that some windows need.

Where a window lies in the object is guessed, and around it a little more is fetched. The headers of
the records there tell how far off the guess was, and lead to the next one. What is returned has
each window without a gap; an object of which that cannot be had is left to be read whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from specufex_dask.miniseed import Table, regular
from specufex_dask.seed_headers import HEADER_BYTES, IrregularError, record_length

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, Any]
Fetch: TypeAlias = "Callable[[list[tuple[int, int]]], list[bytes]]"

_BLOCK = 4096  # bytes, which are whole records of any usual length
_DAY_NS = 86_400_000_000_000


@dataclass(frozen=True)
class Reach:
    """What is asked of the place where an object lies, whose answers take long or come at once. Sizes in bytes."""

    probe_every: int
    """First the headers of records so far apart are looked at; 0: none, as an object is of a day."""
    margin: int
    """What is fetched on either side of a guess, and `margin_share` of the distance from a record that is known."""
    margin_share: float
    gap: int
    """Two ranges with as little between them are fetched as one."""
    most_ranges: int
    most_share: float
    """Of the object: where more is needed, it is to be read whole."""
    most_rounds: int = 5


FAR = Reach(0, 8_192, 0.35, gap=65_536, most_ranges=24, most_share=0.1)
"""Behind a network, an answer takes as long as some megabytes."""
NEAR = Reach(32_768, 1_024, 0.25, gap=4_096, most_ranges=1_000, most_share=0.5)
"""On a disk, an answer takes as long as some kilobytes."""
_FIRST_SHARE, _FIRST_SHARES = 0.008, 0.015  # of the object: fetched at most on either side of first guesses: one, all
_LEAST_BYTES = 1_500_000


def read_sparsely(fetch: Fetch, size: int, windows_ns: Array, reach: Reach) -> Table | None:
    """The records of `windows_ns` (window, 2) [first, last] in an object of `size` bytes, in the order of their times.

    None unless they hold all of each window, and are all of one channel and one length: then the
    object is to be read whole, as it is where that costs less.
    """
    if size < _LEAST_BYTES:
        return None
    try:
        return _Search(fetch, size, reach).table(windows_ns)
    except IrregularError:
        return None


class _Search:
    """What is known of an object: ranges of its bytes, the records in them, and where which time is."""

    def __init__(self, fetch: Fetch, size: int, reach: Reach) -> None:
        self._fetch, self._size, self._reach = fetch, size, reach
        self._pieces: dict[int, bytes] = {}
        self._length = 0
        self._probed = self._probes() if reach.probe_every else None
        self._block = self._length or _BLOCK
        self._have = np.zeros(-(-size // self._block), bool)

    def table(self, windows_ns: Array) -> Table:
        """The records; ``IrregularError`` where the object is to be read whole."""
        places, times = self._probed or _of_a_day(windows_ns, self._size)
        for _ in range(self._reach.most_rounds):
            self._get(self._guess(windows_ns, places, times))
            records, places = self._records()
            lacking = _lacking(records, places // self._length, windows_ns)
            if not lacking.any():
                return records
            windows_ns, times = windows_ns[lacking], records.start_ns
            if self._probed:
                places, times = _together(self._probed, (places, times))
        raise IrregularError

    def _probes(self) -> tuple[Array, Array]:
        """Places and times of records that are spread evenly."""
        places = np.arange(0, self._size - _BLOCK, self._reach.probe_every // _BLOCK * _BLOCK)
        headers = self._fetch([(place, place + HEADER_BYTES) for place in places.tolist()])
        self._learn_length(headers[0])
        probed = _in_order(regular(b"".join(headers), HEADER_BYTES, announced=self._length))
        return places[probed.first_byte // HEADER_BYTES], probed.start_ns

    def _learn_length(self, header: bytes) -> None:
        self._length = record_length(header)
        if self._size % self._length or self._length > _BLOCK:
            raise IrregularError

    def _guess(self, windows_ns: Array, places: Array, times: Array) -> Array:
        """Where the windows may lie (window, 2) [first byte, last byte], by the `places` of some `times`."""
        if len(times) < 2 or times[-1] <= times[0]:  # noqa: PLR2004 - two make a line
            raise IrregularError
        far = (places[-1] - places[0]) * (_DAY_NS / (times[-1] - times[0]))
        guessed = np.interp(
            windows_ns, [times[0] - _DAY_NS, *times, times[-1] + _DAY_NS], [places[0] - far, *places, places[-1] + far]
        )
        after = np.searchsorted(places, guessed).clip(1, len(places) - 1)
        off = np.minimum(abs(guessed - places[after - 1]), abs(places[after] - guessed))
        margin = self._reach.margin + self._reach.margin_share * off
        if not self._length:
            most = self._size * min(_FIRST_SHARE, _FIRST_SHARES / len(windows_ns))
            margin = np.minimum(margin, max(self._reach.margin, most))
        found: Array = np.rint(guessed + margin * (-1, 1)).astype(int).clip(0, self._size)
        return found

    def _get(self, wanted: Array) -> None:
        """Have the bytes of the ranges `wanted`, of which some may be there already."""
        n_blocks, gap = len(self._have), self._reach.gap // self._block
        blocks = np.column_stack([(wanted[:, 0] // self._block).clip(0, n_blocks - 1), -(-wanted[:, 1] // self._block)])
        widened = np.array([0, gap])
        new = _covered(_edges(_covered(blocks + widened, n_blocks + gap)) - widened, n_blocks) & ~self._have
        self._have |= new
        ranges = [(first, min(last, self._size)) for first, last in (_edges(new) * self._block).tolist()]
        share = self._have.mean()
        if not ranges or len(ranges) > self._reach.most_ranges or share > self._reach.most_share:
            raise IrregularError
        self._pieces.update((first, each) for (first, _), each in zip(ranges, self._fetch(ranges), strict=True))

    def _records(self) -> tuple[Table, Array]:
        """The records that are there, and the byte of the object at which each begins."""
        firsts = sorted(self._pieces)
        if not self._length:
            self._learn_length(self._pieces[firsts[0]][:HEADER_BYTES])
        records = _in_order(regular(b"".join(self._pieces[first] for first in firsts), self._length))
        places = np.concatenate([np.arange(i, i + len(self._pieces[i]), self._length) for i in firsts])
        return records, places[records.first_byte // self._length]


def _of_a_day(windows_ns: Array, size: int) -> tuple[Array, Array]:
    """Places and times of the ends of an object of `size` bytes that has the day of most windows."""
    day_ns = int(np.median(windows_ns)) // _DAY_NS * _DAY_NS
    return np.array([0, size]), np.array([day_ns, day_ns + _DAY_NS])


def _in_order(records: Table) -> Table:
    """`records`, if they are of one channel and in the order of their times."""
    if (np.diff(records.start_ns) < 0).any() or len(set(records.station_id.tolist())) > 1:
        raise IrregularError
    return records


def _together(*known: tuple[Array, Array]) -> tuple[Array, Array]:
    """All places and times, in the order of the places."""
    places, times = (np.concatenate(each) for each in zip(*known, strict=True))
    order = np.argsort(places, kind="stable")
    if (np.diff(times[order]) < 0).any():
        raise IrregularError
    return places[order], times[order]


def _lacking(records: Table, numbers: Array, windows_ns: Array) -> Array:
    """Whether not all records of each window (window,) are there; their `numbers` count those of the object.

    ``IrregularError`` if they are, and do not follow each other in time without a gap.
    """
    if not len(numbers) or not (records.sampling_rate > 0).all():
        raise IrregularError
    period = 1e9 / records.sampling_rate
    half = int(period.max() / 2)
    before = np.searchsorted(records.start_ns, windows_ns[:, 0] - half) - 1
    after = np.searchsorted(records.start_ns, windows_ns[:, 1] + half, side="right")
    inside = (before >= 0) & (after < len(numbers))
    first, last = before.clip(0), after.clip(0, len(numbers) - 1)
    is_apart = np.diff(numbers) != 1
    has_gap = ~is_apart & (abs(records.start_ns[1:] - records.end_ns[:-1] - period[:-1]) > period[:-1] / 2)
    n_apart, n_gaps = (np.concatenate([[0], np.cumsum(each)]) for each in (is_apart, has_gap))
    lacking: Array = ~inside | (n_apart[first] != n_apart[last])
    if (n_gaps[first] != n_gaps[last])[~lacking].any():
        raise IrregularError
    return lacking


def _covered(ranges: Array, n: int) -> Array:
    """Which of `n` blocks lie in one of the `ranges` (range, 2) [first, end]."""
    steps = np.zeros(n + 1, int)
    np.add.at(steps, ranges[:, 0], 1)
    np.add.at(steps, ranges[:, 1], -1)
    covered: Array = np.cumsum(steps[:-1]) > 0
    return covered


def _edges(covered: Array) -> Array:
    """The ranges (range, 2) [first, end] of the blocks that are `covered`."""
    return np.flatnonzero(np.diff(covered.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
