"""Repeat times, sizes and slips of sequences, against the published ones and the formulas taken literally."""

from __future__ import annotations

import statistics
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import repeating

from specufex_dask.rupture import recurrence_line, seismic_moment, slip, source_radius
from specufex_dask.sequences import recurrence, sequence_table

if TYPE_CHECKING:
    from pathlib import Path


def test_variation_equals_the_published_one(data_dir: Path) -> None:
    table = repeating.final(data_dir)
    codes, _ = pd.factorize(table.Cluster_2)
    found = recurrence(table.time.to_numpy(), codes, codes.max() + 1)
    published = table.CVr.groupby(codes).first().to_numpy()
    assert len(published) == 488
    # The catalogue of the study has times of a microsecond; the file of them has hundredths of a second.
    np.testing.assert_allclose(found["cvr"], published, rtol=0, atol=5e-7)


def test_recurrence_equals_the_published_one_to_its_rounding(data_dir: Path) -> None:
    """The file has whole days of the events, tenths of a day of the intervals, and ddof = 1."""
    heads, events = repeating.sequences_of_2021(data_dir)
    time = np.datetime64("1984-01-01", "ns") + (events.day.to_numpy() - 1) * np.timedelta64(1, "D")
    found = recurrence(time, events.sequence.to_numpy(), len(heads))
    assert len(heads) == 7713
    np.testing.assert_allclose(found["recurrence_median"], heads["median"], rtol=0, atol=0.0501)
    several = heads.n_events.to_numpy() > 2
    n_intervals = heads.n_events.to_numpy()[several] - 1
    unbiased = found["cvr"][several] * np.sqrt(n_intervals / (n_intervals - 1))
    np.testing.assert_allclose(unbiased, heads.variation[several], rtol=0, atol=0.00501)
    deviation = np.nan_to_num(unbiased * found["recurrence"][several])  # one has all its events on one day
    np.testing.assert_allclose(deviation, heads.deviation[several], rtol=0, atol=0.0501)


def test_intervals_are_those_between_neighbours_in_time_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    day = rng.choice(20_000, 60, replace=False)
    sequence = rng.integers(-1, 6, 60)
    found = recurrence(np.datetime64("1990-01-01", "ns") + day * np.timedelta64(1, "D"), sequence, 7)
    for number in range(6):
        days = sorted(day[sequence == number].tolist())
        apart = [later - earlier for earlier, later in pairwise(days)]
        mean = statistics.fmean(apart)
        assert found["recurrence"][number] == pytest.approx(mean)
        assert found["recurrence_median"][number] == statistics.median(apart)
        assert found["cvr"][number] == pytest.approx(statistics.pstdev(apart) / mean)
    assert all(np.isnan(values[6]) for values in found.values()), "no event, no interval"


def test_one_interval_has_no_variation_and_one_event_no_interval() -> None:
    time = np.array(["2000-01-01", "2000-01-03", "2000-05-01", "NaT"], dtype="datetime64[ns]")
    found = recurrence(time, np.array([0, 0, 1, 1]), 2)
    np.testing.assert_array_equal(found["recurrence"], [2.0, np.nan])
    np.testing.assert_array_equal(found["cvr"], [0.0, np.nan])


def test_radius_is_that_of_the_study(data_dir: Path) -> None:
    catalog, _ = repeating.published(data_dir)
    magnitude = catalog["magnitude"].values
    literal = [(7 * 10 ** (1.5 * m + 16) / (16 * 10**6 * 30)) ** (1 / 3) / 100 for m in magnitude.tolist()]
    np.testing.assert_allclose(source_radius(magnitude), literal, rtol=1e-12)
    assert np.median(source_radius(magnitude)) == pytest.approx(26.4, abs=0.05)
    assert source_radius(np.array(1.4), stress_drop=240.0) == pytest.approx(source_radius(np.array(1.4)) / 2)


def test_sizes_follow_the_median_magnitude() -> None:
    catalog = repeating.catalog([0, 10, 20, 500, 510], [2.0, 2.2, 2.9, 1.0, 1.2], depth_m=[4000, 5000, 6000, 1, 3])
    table = sequence_table(np.array([0, 0, 0, 1, 1]), {str(name): each.values for name, each in catalog.items()})
    np.testing.assert_array_equal(table.n_events, [3, 2])
    np.testing.assert_allclose(table.magnitude, [2.2, 1.1])
    np.testing.assert_allclose(table.depth, [5.0, 0.002])
    np.testing.assert_allclose(table.moment, seismic_moment(np.array([2.2, 1.1])))
    np.testing.assert_allclose(table.slip_rate, table.slip * 365.25 / 365)


def test_without_a_sequence_the_table_is_empty() -> None:
    catalog = repeating.catalog([0, 10], [2.0, 2.2])
    table = sequence_table(np.array([-1, -1]), {str(name): each.values for name, each in catalog.items()})
    assert table.sizes["sequence_id"] == 0


def test_lines_of_the_literature() -> None:
    moment = np.array([1e18, 1e20])
    assert np.diff(np.log10(recurrence_line(moment))).item() == pytest.approx(0.34)
    np.testing.assert_allclose(np.log10(recurrence_line(moment) * 86_400), 4.85 + 0.17 * np.array([18.0, 20.0]))
    np.testing.assert_allclose(np.log10(slip(moment)), -2.36 + 0.17 * np.array([18.0, 20.0]))
    slow, fast = (recurrence_line(moment, loading_rate=rate) for rate in (2.0, 8.0))
    np.testing.assert_allclose(slow / fast, 4.0)
    np.testing.assert_allclose(recurrence_line(moment, loading_rate=1.95), recurrence_line(moment), rtol=0.005)
    np.testing.assert_allclose(np.log10(seismic_moment(np.array([1.5, 3.5]))), [18.8, 21.2])
