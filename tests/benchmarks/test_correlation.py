"""Correlations of all pairs of 632 events, and the pairs of a million, one thread each."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import naive
import numpy as np
import pytest
import xarray as xr
from scipy.signal import correlate

from specufex_dask.kernels import correlation as kernel
from specufex_dask.pairs import pair_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.conftest import Figures
    from pytest_benchmark.fixture import BenchmarkFixture

Array = np.ndarray[Any, np.dtype[Any]]

N_EVENTS, N_SAMPLES, MAX_LAG = 632, 200, 50

pytestmark = pytest.mark.benchmark


def _seconds(call: Callable[[], Any]) -> float:
    """CPU time of this thread, the best of three."""
    times = []
    for _ in range(3):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return min(times)


def test_correlations_of_all_pairs(benchmark: BenchmarkFixture, figures: Figures) -> None:
    windows = np.random.default_rng(0).standard_normal((N_EVENTS, N_SAMPLES + 2 * MAX_LAG)).astype(np.float32)
    first, second = (each.astype(np.int32) for each in np.triu_indices(N_EVENTS, 1))
    still = np.ascontiguousarray(windows[:, MAX_LAG:-MAX_LAG])

    def ours() -> tuple[Array, Array]:
        found: tuple[Array, Array] = kernel.correlate(*kernel.prepare(windows, MAX_LAG), first, second)
        return found

    def plain() -> None:
        for one, two in zip(first[:2000], second[:2000], strict=True):
            correlate(windows[two], still[one], mode="valid", method="direct")

    correlation, _ = ours()
    for i in (0, 1234, 199_000):
        wanted, _ = naive.correlation(still[first[i]].astype(float), windows[second[i]].astype(float))
        assert abs(correlation[i] - wanted) <= 1e-5
    seconds, theirs = _seconds(ours), _seconds(plain) / 2000
    what = f"{len(first):,} correlations of {N_SAMPLES} samples, ± {MAX_LAG} lags [s]"
    detail = f"{1e6 * seconds / len(first):.2f} µs each; SciPy's sums of products alone {1e6 * theirs:.1f} µs"
    figures.add(what, seconds, at_most=0.5, detail=detail)
    benchmark.extra_info.update(seconds=seconds)
    benchmark.pedantic(ours, rounds=3)
    assert not figures.missed


def test_pairs_of_a_million_events(benchmark: BenchmarkFixture, figures: Figures) -> None:
    """Clusters of ten events each at five stations: 4.5 million pairs at a station, in blocks."""
    n, n_stations = 1_000_000, 5
    ids = np.array([f"e{i:06d}" for i in range(n)], dtype=object)
    rng = np.random.default_rng(0)
    clusters = [
        xr.Dataset({"cluster": ("event", rng.permutation(n) // 10)}, coords={"event_id": ("event", ids)})
        for _ in range(n_stations)
    ]
    seconds: list[float] = []

    def pairs() -> int:
        start = time.thread_time()
        n_pairs = sum(len(block) for block in pair_blocks(clusters, max_pairs=10**8)[1])
        seconds.append(time.thread_time() - start)
        return n_pairs

    n_pairs = benchmark.pedantic(pairs, rounds=1)
    tracemalloc.start()
    assert pairs() == n_pairs
    peak = tracemalloc.get_traced_memory()[1] / 2**30
    tracemalloc.stop()
    figures.add(f"{n_pairs:,} pairs of {n:,} events [s]", seconds[0], at_most=60, detail=f"peak {peak:.2f} GiB")
    assert not figures.missed
