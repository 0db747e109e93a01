from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from specufex_dask.cutting import NOT_A_TIME, Cut, Record, cut
from specufex_dask.preprocess import Preprocess
from specufex_dask.schema import QUALITY
from specufex_dask.segments import Segment

SECOND = 1_000_000_000
RNG = np.random.default_rng(0)
DATA = RNG.integers(-1000, 1000, 5000).astype(np.int32)
HOW = Cut(100.0, 500, (0.0, 5.0), from_file_start=False, max_gap=0.0, max_flat=1 / 3, preprocess=Preprocess())


def _part(first: int, last: int, *, rate: float = 100.0, data: np.ndarray[Any, Any] = DATA) -> Segment:
    """Samples `first` to `last` of the data, whose sample 0 is at time 0."""
    samples = data[first:last]
    return Segment(round(first / rate * SECOND), rate, samples.size, samples)


def _reason(record: Record) -> str:
    return QUALITY[record.flag]


@pytest.mark.parametrize("anchor_s", [0.0, 0.004, 0.006, 10.0, 44.996])
def test_a_window_starts_at_the_nearest_sample(anchor_s: float) -> None:
    record = cut([_part(0, 5000)], round(anchor_s * SECOND), HOW)
    first = round(anchor_s * 100)
    assert record.start_ns == first * SECOND // 100
    np.testing.assert_array_equal(record.samples, DATA[first : first + 500])


@pytest.mark.parametrize(
    ("segments", "anchor_s", "reason"),
    [
        ([_part(0, 5000)], -10.0, "missing"),
        ([_part(0, 5000)], 51.0, "missing"),
        ([_part(0, 5000)], -1.0, "short"),
        ([_part(0, 5000)], 46.0, "short"),
        ([_part(0, 5000)], -0.004, "usable"),
        ([_part(0, 5000)], 45.006, "short"),
        ([_part(0, 1100), _part(1150, 5000)], 10.0, "gappy"),
        ([_part(0, 1100), _part(1101, 5000)], 10.0, "gappy"),
        ([_part(0, 1100), _part(1150, 5000)], 0.0, "usable"),
        ([_part(0, 1100), _part(1150, 5000)], 11.5, "usable"),
        ([_part(1100, 5000), _part(0, 1100)], 10.0, "usable"),
        ([_part(0, 1200), _part(1100, 5000)], 10.0, "usable"),
        ([_part(0, 5000), _part(0, 5000)], 10.0, "usable"),
        ([_part(0, 1200), _part(1100, 5000, data=DATA + 1)], 10.0, "gappy"),
        ([_part(0, 1400), _part(1450, 1470)], 10.0, "gappy"),
    ],
)
def test_what_is_there_decides(segments: list[Segment], anchor_s: float, reason: str) -> None:
    record = cut(segments, round(anchor_s * SECOND), HOW)
    assert _reason(record) == reason
    if reason == "usable":
        first = max(round(anchor_s * 100), 0)
        np.testing.assert_array_equal(record.samples, DATA[first : first + 500])
    else:
        assert record.samples is None
        assert (record.start_ns == NOT_A_TIME) == (reason == "missing")


def test_short_gaps_are_bridged_when_asked() -> None:
    segments = [_part(0, 1100), _part(1150, 5000)]
    assert _reason(cut(segments, 10 * SECOND, replace(HOW, max_gap=0.49))) == "gappy"
    samples = cut(segments, 10 * SECOND, replace(HOW, max_gap=0.5)).samples
    assert samples is not None
    np.testing.assert_array_equal(samples[:100], DATA[1000:1100])
    np.testing.assert_array_equal(samples[150:], DATA[1150:1500])
    np.testing.assert_allclose(samples[100:150], np.interp(np.arange(1100, 1150), [1099, 1150], DATA[[1099, 1150]]))


def _changed(first: int, last: int, value: float, kind: type = np.int32) -> Segment:
    data: np.ndarray[Any, Any] = DATA.astype(kind)
    data[first:last] = value
    return _part(0, 5000, data=data)


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        (_changed(1000, 1500, 7), "constant"),
        (_changed(1000, 1167, 7), "flat"),
        (_changed(1100, 1267, 7), "flat"),
        (_changed(1333, 1500, 7), "flat"),
        (_changed(1100, 1266, 7), "usable"),
        (_changed(1200, 1201, np.nan, np.float32), "not_finite"),
        (_changed(1200, 1201, np.inf, np.float64), "not_finite"),
        (_changed(900, 1000, np.nan, np.float64), "usable"),
        (replace(_part(0, 5000), sampling_rate=100.05), "usable"),
        (replace(_part(0, 5000), sampling_rate=100.2), "wrong_sampling_rate"),
        (replace(_part(0, 5000), sampling_rate=50.0), "wrong_sampling_rate"),
    ],
)
def test_a_defect_in_the_window_is_named(segment: Segment, reason: str) -> None:
    assert _reason(cut([segment], 10 * SECOND, HOW)) == reason


def test_a_whole_file_starts_at_its_first_sample_and_is_as_long_as_the_others() -> None:
    whole = replace(HOW, window=None)
    record = cut([_part(1000, 5000)], 0, whole)
    assert record.start_ns == 10 * SECOND
    np.testing.assert_array_equal(record.samples, DATA[1000:1500])
    assert _reason(cut([_part(1000, 1499)], 0, whole)) == "short"
    assert _reason(cut([_part(1000, 1300), _part(1310, 2000)], 0, whole)) == "gappy"


def test_a_window_may_hang_on_the_start_of_the_file() -> None:
    record = cut([_part(1000, 5000)], 0, replace(HOW, window=(2.0, 7.0), from_file_start=True))
    np.testing.assert_array_equal(record.samples, DATA[1200:1700])


def test_the_filter_does_not_see_the_edges_of_the_window() -> None:
    """Filtered in a window equals the window of the whole filtered record."""
    steps = Preprocess(bandpass=(2.0, 20.0))
    long = cut([_part(0, 5000)], 0, Cut(100.0, 5000, None, False, 0.0, 1 / 3, steps)).samples  # noqa: FBT003 - the order of Cut
    short = cut([_part(0, 5000)], 20 * SECOND, replace(HOW, preprocess=steps)).samples
    assert long is not None
    assert short is not None
    scale = np.abs(long).max()
    assert np.abs(short - long[2000:2500]).max() < 1e-4 * scale
    assert np.abs(cut([_part(2000, 2500)], 20 * SECOND, replace(HOW, preprocess=steps)).samples - short).max() > (
        1e-2 * scale
    )


def test_padding_stops_at_a_gap_and_at_the_end_of_the_file() -> None:
    steps = replace(HOW, preprocess=Preprocess(bandpass=(2.0, 20.0), taper=0.5))
    for segments in ([_part(0, 950), _part(1000, 1520)], [_part(990, 1510)], [_part(1000, 1500)]):
        record = cut(segments, 10 * SECOND, steps)
        assert _reason(record) == "usable"
        assert record.start_ns == 10 * SECOND
        assert record.samples is not None
        assert record.samples.size == 500


@pytest.mark.parametrize("rate", [20.0, 40.0, 75.19, 125.0, 200.0, 500.0])
@pytest.mark.parametrize("anchor_s", [10.0, 10.0123])
def test_another_rate_is_resampled_in_place(rate: float, anchor_s: float) -> None:
    n = round(30 * rate)
    sine = np.sin(2 * np.pi * 3.0 * np.arange(n) / rate)
    how = replace(HOW, preprocess=Preprocess(resample=True))
    record = cut([Segment(0, rate, n, sine)], round(anchor_s * SECOND), how)
    assert record.samples is not None
    assert record.samples.size == 500
    assert abs(record.start_ns - anchor_s * SECOND) <= 0.5 * SECOND / 100 + 1
    times = record.start_ns / SECOND + np.arange(500) / 100.0
    assert np.abs(record.samples - np.sin(2 * np.pi * 3.0 * times)).max() < 5e-3


def test_resampling_keeps_what_is_right_and_refuses_what_cannot_be() -> None:
    how = replace(HOW, preprocess=Preprocess(resample=True))
    np.testing.assert_array_equal(cut([_part(0, 5000)], 10 * SECOND, how).samples, DATA[1000:1500])
    mixed = [_part(0, 1200), Segment(12 * SECOND, 50.0, 1000, DATA[:1000])]
    assert _reason(cut(mixed, 10 * SECOND, how)) == "wrong_sampling_rate"
    narrow = replace(HOW, preprocess=Preprocess(resample=True, bandpass=(1.0, 30.0)))
    slow = Segment(0, 50.0, 5000, DATA)
    assert _reason(cut([slow], 10 * SECOND, narrow)) == "wrong_sampling_rate"


def test_samples_of_the_file_are_never_changed() -> None:
    data = DATA.copy()
    steps = Preprocess(demean=True, detrend=True, taper=1.0, bandpass=(1.0, 20.0))
    cut([_part(0, 5000, data=data)], 10 * SECOND, replace(HOW, preprocess=steps))
    np.testing.assert_array_equal(data, DATA)
