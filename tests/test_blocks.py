"""Mapping over blocks of records: once a block, and the same bits however the records are cut and scheduled."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]
import dask
import dask.array as da
import draws
import numpy as np
import pytest
from dask.local import get_sync
from hypothesis import example, given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

import specufex_dask as sx
from specufex_dask.blocks import (
    RECORDS_PER_TASK,
    map_records,
    one_blas_thread,
    one_task_each,
    record_chunked,
    run_tasks,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

Array = np.ndarray[Any, np.dtype[Any]]

N_RECORDS = 70
KEEP = ("initial", "state_probability")
multiples_of_16 = st.integers(1, 5).map(lambda n: 16 * n)
any_size = st.integers(1, N_RECORDS + 3)


def test_the_function_runs_once_a_block_whatever_is_computed() -> None:
    calls: list[int] = []
    lock = threading.Lock()

    def both(numbers: Array, squares: Array) -> dict[str, Array]:
        with lock:
            calls.append(len(numbers))
        return {"sum": numbers + squares[:, 0], "pair": np.stack([numbers, numbers], axis=1).astype("float32")}

    numbers = da.arange(10, chunks=4)
    squares = da.stack([numbers**2, numbers], axis=1)
    outputs = {"sum": ((), "int64"), "pair": ((2,), "float32")}
    lazy = map_records(both, [numbers, squares.rechunk((4, 2))], outputs)  # type: ignore[arg-type]
    assert calls == []
    assert lazy["pair"].shape == (10, 2)
    assert lazy["pair"].dtype == np.float32
    assert lazy["pair"].chunks == ((4, 4, 2), (2,))
    total, pair = da.compute(lazy["sum"], lazy["pair"])
    assert sorted(calls) == [2, 4, 4]
    np.testing.assert_array_equal(total, np.arange(10) + np.arange(10) ** 2)
    np.testing.assert_array_equal(pair, np.stack([np.arange(10)] * 2, axis=1))


def test_a_constant_is_one_node_of_the_graph() -> None:
    def weighted(numbers: Array, large: Array) -> dict[str, Array]:
        return {"sum": numbers + large.sum()}

    large = np.ones(10_000)
    lazy = map_records(weighted, [da.arange(64, chunks=1)], {"sum": ((), float)}, large=large)
    sent = sum(len(cloudpickle.dumps(task)) for task in dict(lazy["sum"].__dask_graph__()).values())
    assert large.nbytes < sent < 3 * large.nbytes
    np.testing.assert_array_equal(lazy["sum"].compute(), np.arange(64) + 10_000.0)


def test_another_constant_is_another_array() -> None:
    def scaled(numbers: Array, factor: float) -> dict[str, Array]:
        return {"scaled": numbers * factor}

    numbers = da.arange(6, chunks=3)
    twice, thrice = (map_records(scaled, [numbers], {"scaled": ((), float)}, factor=f)["scaled"] for f in (2.0, 3.0))
    assert twice.name != thrice.name
    np.testing.assert_array_equal(da.stack([twice, thrice]).compute(), [np.arange(6) * 2.0, np.arange(6) * 3.0])


def test_a_constant_that_dask_would_take_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got constants named \['dtype', 'name'\], expected names that dask does not"):
        map_records(lambda numbers: {"x": numbers}, [da.arange(3)], {"x": ((), int)}, name="a", dtype="b")


def test_an_array_in_memory_is_cut_into_tasks() -> None:
    values = draws.spectrograms(RECORDS_PER_TASK + 3, chunk=None)["spectrogram"]
    assert record_chunked(values).chunks == ((RECORDS_PER_TASK, 3), (12,), (20,))
    turned = record_chunked(values.transpose("time", "frequency", "record").chunk(record=100, time=7))
    assert turned.chunks == ((100, 100, 59), (20,), (12,))


@pytest.mark.parametrize("size", [128, 512, 1000])
def test_other_arrays_are_given_the_chunks_of_the_first(size: int) -> None:
    """A quality in memory is cut into tasks of 256 records, whatever the chunks of the spectrograms are."""
    number, doubled = da.arange(1000.0, chunks=size), da.from_array(np.arange(0.0, 2000, 2), chunks=256)

    def both(a: Array, b: Array) -> dict[str, Array]:
        return {"sum": a + b}

    lazy = map_records(both, [number, doubled], {"sum": ((), float)})["sum"]
    assert lazy.chunks == number.chunks
    np.testing.assert_array_equal(lazy.compute(), 3 * np.arange(1000.0))


def test_results_of_tasks_keep_their_order() -> None:
    assert run_tasks([(pow, i, 2) for i in range(20)]) == [i**2 for i in range(20)]
    with dask.config.set(scheduler="synchronous"):
        assert run_tasks([(pow, 3, 2)]) == [9]


def _blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_blas_has_one_thread_inside_and_its_own_again_outside() -> None:
    with threadpool_limits(limits=2, user_api="blas"):
        with one_blas_thread():
            assert _blas_threads() == {1}
            with one_blas_thread():
                assert _blas_threads() == {1}
            assert _blas_threads() == {1}
        assert _blas_threads() == {2}


def test_blas_has_one_thread_whoever_comes_first_and_leaves_last() -> None:
    """threadpoolctl lets only the first thread set the number, and ignores the others without a word."""

    def hold(seconds: float) -> set[int]:
        with one_blas_thread():
            time.sleep(seconds)
            return _blas_threads()

    with threadpool_limits(limits=2, user_api="blas"), ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            assert list(pool.map(hold, [0.001, 0.01, 0.004, 0.0, 0.006])) == [{1}] * 5
            assert _blas_threads() == {2}
            assert hold(0.0) == {1}
        assert _blas_threads() == {2}


@cache
def _waveforms() -> xr.Dataset:
    """Records of all kinds, some of them unusable."""
    rng = np.random.default_rng(0)
    samples = (rng.normal(size=(N_RECORDS, 500)) * rng.gamma(2.0, 1.0, (N_RECORDS, 1))).astype("float32")
    samples[7], samples[33, 5] = 0.0, np.nan
    quality = np.zeros(N_RECORDS, "int8")
    quality[[2, 50]] = 3
    return draws.waveforms(samples, quality=quality, chunk=N_RECORDS)


@cache
def _models() -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    spectrograms = sx.compute_spectrograms(_waveforms(), band=(1, 40), window_length=0.32).compute()
    rng = np.random.default_rng(1)
    n_frequencies = spectrograms.sizes["frequency"]
    nmf = sx.nmf_model(
        dictionary_shape=rng.gamma(1.0, 50.0, (n_frequencies, 6)) + 0.1,
        dictionary_rate=np.full((n_frequencies, 6), 90.0),
        weight_shape=rng.gamma(5.0, 5.0, 6), weight_rate=np.full(6, 20.0), frequency=spectrograms["frequency"],
    )  # fmt: skip
    hmm = sx.hmm_model(emission_shape=rng.gamma(0.5, 900.0, (5, 6)) + 0.1, emission_rate=np.full((5, 6), 30.0), nmf=nmf)
    return spectrograms, nmf, hmm


def _spectrograms(size: int, dtype: str) -> xr.Dataset:
    return sx.compute_spectrograms(_waveforms().chunk(record=size), band=(1, 40), window_length=0.32, dtype=dtype)


def _activations(size: int, dtype: str) -> xr.Dataset:
    spectrograms, nmf, _ = _models()
    return sx.compute_activations(spectrograms.chunk(record=size), nmf, dtype=dtype)


def _fingerprints(size: int, dtype: str) -> xr.Dataset:
    spectrograms, nmf, hmm = _models()
    return sx.compute_fingerprints(spectrograms.chunk(record=size), nmf, hmm, keep=KEEP, dtype=dtype)


STAGES = {"spectrograms": _spectrograms, "activations": _activations, "fingerprints": _fingerprints}


@cache
def _whole(stage: str, dtype: str) -> xr.Dataset:
    """The stage computed in one chunk, by one thread."""
    with dask.config.set(scheduler="synchronous"):
        return STAGES[stage](N_RECORDS, dtype).compute()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stage", STAGES)
@given(size=multiples_of_16)
@settings(max_examples=5, deadline=None)
def test_chunks_of_16_give_the_same_bits(stage: str, dtype: str, size: int) -> None:
    found, whole = STAGES[stage](size, dtype).compute(), _whole(stage, dtype)
    assert found.sizes == whole.sizes
    for name in whole.variables:
        np.testing.assert_array_equal(found[name].values, whole[name].values, err_msg=str(name))


@pytest.mark.parametrize("stage", STAGES)
@given(size=any_size)
@example(size=1)
@settings(max_examples=12, deadline=None)
def test_any_chunks_give_the_same_numbers(stage: str, size: int) -> None:
    found, whole = STAGES[stage](size, "float32").compute(), _whole(stage, "float32")
    assert found.sizes["record"] == N_RECORDS
    for name in whole.data_vars:
        got, expected = found[name].values, whole[name].values
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * _largest(expected), err_msg=str(name))


def _largest(values: Array) -> float:
    return float(np.nanmax(np.abs(values.astype(float)))) if values.dtype.kind == "f" else 0.0


@pytest.mark.parametrize("stage", STAGES)
def test_schedulers_give_the_same_bits(stage: str) -> None:
    computed = {}
    for scheduler in ("synchronous", "threads"):
        with dask.config.set(scheduler=scheduler, num_workers=4):
            computed[scheduler] = STAGES[stage](8, "float32").compute()
    for name in computed["threads"].variables:
        np.testing.assert_array_equal(computed["threads"][name].values, computed["synchronous"][name].values)


@pytest.mark.parametrize("stage", STAGES)
def test_every_record_keeps_its_place(stage: str) -> None:
    whole = _whole(stage, "float32")
    waveforms = _waveforms()
    for name in ("event_id", "station_id", "start_time"):
        np.testing.assert_array_equal(whole[name].values, waveforms[name].values)
    unusable = np.flatnonzero(whole["quality"].values)
    assert unusable.tolist() == [2, 7, 33, 50]
    main = {"spectrograms": "spectrogram", "activations": "activation", "fingerprints": "fingerprint"}[stage]
    missing = np.isnan(whole[main].values).reshape(N_RECORDS, -1)
    np.testing.assert_array_equal(missing.all(axis=1), whole["quality"].values != 0)
    np.testing.assert_array_equal(missing.any(axis=1), whole["quality"].values != 0)


@pytest.mark.parametrize("stage", STAGES)
def test_a_record_does_not_know_its_neighbours(stage: str) -> None:
    """The unusable ones beside it leave no trace: computed alone, a record is the same."""
    make: Callable[[int, str], xr.Dataset] = STAGES[stage]
    alone = make(1, "float64").isel(record=[3, 34]).compute()
    whole = _whole(stage, "float64").isel(record=[3, 34])
    for name in whole.data_vars:
        np.testing.assert_allclose(alone[name].values, whole[name].values, rtol=1e-9, atol=1e-9)


def test_a_shard_is_one_task_and_what_shards_share_stays_apart() -> None:
    numbers = da.arange(40, chunks=8)
    weights = {"factor": 3.0}

    def two(block: Array, *, weights: dict[str, float]) -> dict[str, Array]:
        return {"tripled": weights["factor"] * block, "negative": -1.0 * block}

    results = map_records(two, [numbers], {"tripled": ((), float), "negative": ((), float)}, weights=weights)
    total = results["tripled"] + results["negative"]
    (optimized,) = dask.base.optimize(total)
    keys = [(total.name, i) for i in range(5)]
    graph = one_task_each(optimized.__dask_graph__(), keys)
    assert set(keys) <= set(graph)
    assert len(graph) == len(keys) + 1, "a task a block, and the constant"
    np.testing.assert_array_equal(np.concatenate(get_sync(graph, keys)), 2.0 * np.arange(40))


def test_what_two_keys_need_is_computed_once() -> None:
    calls: list[int] = []

    def counted(value: int) -> int:
        calls.append(value)
        return value

    graph = {"a": (counted, 1), "b": (counted, "a"), "x": (counted, "b"), "y": (pow, "b", 2), "z": (counted, 7)}
    joined = one_task_each(graph, ["x", "y", "z"])
    assert set(joined) == {"b", "x", "y", "z"}, "and with it what it alone needs"
    assert get_sync(joined, ["x", "y", "z"]) == (1, 1, 7)
    assert sorted(calls) == [1, 1, 1, 7]
    assert set(one_task_each(graph, ["a", "b", "x"])) == {"a", "b", "x"}, "what is asked for is there"
