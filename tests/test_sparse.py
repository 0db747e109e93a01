"""Parts of day files: what is fetched of them has all that the windows need, or nothing is made of it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replica import channel_day

from specufex_dask import miniseed
from specufex_dask.continuous import read_windows
from specufex_dask.objects import Objects
from specufex_dask.sparse import FAR, NEAR, Reach, read_sparsely

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, Any]
STATION, DAY, LENGTH = "XX.R001..HHZ", "2024-02-29", 512
SECOND = 10**9
reaches = pytest.mark.parametrize("reach", [FAR, NEAR], ids=["far", "near"])


class Fetched:
    """An object that remembers what was taken of it: a list of ranges for each time that it was asked."""

    def __init__(self, content: bytes) -> None:
        self.content, self.rounds = content, list[list[tuple[int, int]]]()

    def __call__(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        self.rounds.append(ranges)
        return [self.content[first:last] for first, last in ranges]

    @property
    def share(self) -> float:
        return sum(last - first for each in self.rounds for first, last in each) / len(self.content)


@lru_cache(1)
def day() -> bytes:
    return channel_day(STATION, DAY, 1)


@lru_cache(1)
def table() -> miniseed.Table:
    return miniseed.table(day())


def windows(*seconds: float) -> Array:
    """20 s each, from so many seconds after midnight on."""
    first = int(np.datetime64(DAY, "ns").astype(np.int64)) + np.round(np.array(seconds) * 1e9).astype(np.int64)
    return np.column_stack([first, first + 20 * SECOND])


def record_at(second: float) -> int:
    """The number of the record in whose time it lies."""
    return int(np.searchsorted(table().start_ns, windows(second)[0, 0], side="right")) - 1


def sparsely(content: bytes, wanted: Array, reach: Reach) -> tuple[miniseed.Table | None, Fetched]:
    fetched = Fetched(content)
    return read_sparsely(fetched, len(content), wanted, reach), fetched


@reaches
@settings(max_examples=40, deadline=None)
@given(seconds=st.lists(st.floats(5, 86_370), min_size=1, max_size=8))
def test_ranges_have_the_records_of_the_whole_object(reach: Reach, seconds: list[float]) -> None:
    part, fetched = sparsely(day(), windows(*seconds), reach)
    assert part is not None
    assert fetched.share < 0.1
    for window in windows(*seconds).tolist():
        rows, expected = part.rows(STATION, *window), table().rows(STATION, *window)
        assert part.start_ns[rows].tolist() == table().start_ns[expected].tolist()
        contents = [part.content[a:b] for a, b in zip(part.first_byte[rows], part.last_byte[rows], strict=True)]
        assert contents == [day()[a * LENGTH : (a + 1) * LENGTH] for a in expected]


def test_one_window_far_away_takes_a_fiftieth_of_a_day_and_mostly_one_answer() -> None:
    rounds = []
    for second in np.linspace(60, 86_300, 60).tolist():
        part, fetched = sparsely(day(), windows(second), FAR)
        assert part is not None
        assert fetched.share < 0.025
        rounds.append(len(fetched.rounds))
    assert max(rounds) <= 3
    assert np.mean(rounds) < 1.3


def test_many_windows_near_by_take_the_headers_between_them_and_one_look() -> None:
    part, fetched = sparsely(day(), windows(*np.linspace(60, 86_300, 200).tolist()), NEAR)
    assert part is not None
    assert len(fetched.rounds) <= 3
    assert fetched.share < 0.2


@reaches
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_part_of_a_day_is_found_too(reach: Reach, share: float) -> None:
    begin = int(share * len(day())) // LENGTH * LENGTH
    part, fetched = sparsely(day()[begin:], windows(80_000), reach)
    assert part is not None
    assert fetched.share < 0.1
    window = windows(80_000)[0].tolist()
    assert len(part.rows(STATION, *window)) == len(table().rows(STATION, *window))


@reaches
@pytest.mark.parametrize("seconds", [(-30,), (-10,), (0,), (86_390,), (86_500,), (500, 86_390)])
def test_an_object_that_does_not_have_all_of_a_window_is_left_to_be_read_whole(
    reach: Reach, seconds: tuple[float, ...]
) -> None:
    assert sparsely(day(), windows(*seconds), reach)[0] is None


@reaches
@pytest.mark.parametrize("without", [slice(0, 1), slice(0, 40), slice(-1, 3)])
def test_an_object_with_a_gap_in_a_window_is_left_to_be_read_whole(reach: Reach, without: slice) -> None:
    first = record_at(40_000)
    lost = range(first + 1 + without.start, first + 1 + without.stop)
    content = day()[: lost[0] * LENGTH] + day()[(lost[-1] + 1) * LENGTH :]
    assert sparsely(content, windows(39_999), reach)[0] is None
    assert sparsely(content, windows(50_000), reach)[0] is not None


@reaches
def test_an_object_with_a_record_twice_in_a_window_is_left_to_be_read_whole(reach: Reach) -> None:
    place = (record_at(40_000) + 1) * LENGTH
    content = day()[:place] + day()[place - LENGTH : place] + day()[place:]
    assert sparsely(content, windows(39_999), reach)[0] is None


@reaches
def test_an_object_of_another_kind_is_left_to_be_read_whole(reach: Reach) -> None:
    half = len(day()) // 1024 * 512
    other = bytearray(day())
    other[8:13] = b"OTHER"
    noise = np.random.default_rng(0).bytes(len(day()))
    long = [day()[half:] + day()[:half], noise, bytes(len(day())), day()[:-100], b"\x1f\x8b" + day()]
    for content in [*long, day()[:1000], b""]:
        assert sparsely(content, windows(1), reach)[0] is None
    swapped = sparsely(long[0], windows(20_000), reach)[0]
    assert swapped is None or len(swapped.rows(STATION, *windows(20_000)[0].tolist())) > 5
    assert sparsely(bytes(other), windows(1), reach)[0] is None


_ways = st.sampled_from(["", "lost", "twice", "torn", "zeros", "later", "renamed"])


def _spoilt(way: str, record: int) -> bytes:
    content = bytearray(day())
    place = min(record, len(content) // LENGTH - 1) * LENGTH
    if way == "lost":
        del content[place : place + LENGTH]
    elif way == "twice":
        content[place:place] = content[place : place + LENGTH]
    elif way == "torn":
        content[place + 200] ^= 0xFF
    elif way == "zeros":
        content[place : place + LENGTH] = bytes(LENGTH)
    elif way == "later":
        content[place + 26] = (content[place + 26] + 1) % 60
    elif way == "renamed":
        content[place + 8 : place + 13] = b"OTHER"
    return bytes(content)


@settings(max_examples=60, deadline=None)
@given(way=_ways, offset=st.integers(-3, 12), seconds=st.lists(st.floats(-5, 86_390), min_size=1, max_size=20))
def test_a_window_is_the_same_whether_all_or_some_of_a_damaged_file_is_read(
    tmp_path_factory: pytest.TempPathFactory, way: str, offset: int, seconds: list[float]
) -> None:
    path = tmp_path_factory.getbasetemp() / "spoilt.ms"
    path.write_bytes(_spoilt(way, max(record_at(max(seconds[0], 10)) + offset, 1)))
    wanted, names = windows(*seconds), [STATION] * len(seconds)
    some, every = (read_windows(Objects(), str(path), names, wanted, in_order=each) for each in (True, False))
    for part, whole in zip(some, every, strict=True):
        assert part.damaged == whole.damaged
        assert [(a.start_ns, a.sampling_rate, a.n_samples) for a in part.segments] == [
            (b.start_ns, b.sampling_rate, b.n_samples) for b in whole.segments
        ]
        for a, b in zip(part.segments, whole.segments, strict=True):
            np.testing.assert_array_equal(a.samples, b.samples)


@pytest.mark.parametrize("shift", [0, 1, 6000])
def test_records_whose_times_do_not_fit_stay_apart(tmp_path: Path, shift: int) -> None:
    """`shift` in units of 100 us: half a sample is 50 of them."""
    content = bytearray(day())
    for place in range((record_at(40_000) + 1) * LENGTH, len(content), LENGTH):
        old = int.from_bytes(content[place + 28 : place + 30], "big")
        content[place + 28 : place + 30] = ((old + shift) % 10_000).to_bytes(2, "big")
    path = tmp_path / "day.ms"
    path.write_bytes(content)
    (found,) = read_windows(Objects(), str(path), [STATION], windows(39_995), in_order=False)
    assert (len(found.segments) == 1) == (shift <= 1)
    samples = np.concatenate([part.samples for part in found.segments])
    expected = table().decode(table().rows(STATION, *windows(39_995)[0].tolist()))
    np.testing.assert_array_equal(samples, np.concatenate([part.samples for part in expected.values() if part]))
