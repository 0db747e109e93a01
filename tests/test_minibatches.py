"""The minibatches that stream: every record once an epoch, from many chunks, the same whoever computes."""

from __future__ import annotations

import re
import threading
from typing import Any, ClassVar

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from means import Mean
from processes import cluster

from specufex_dask import minibatches
from specufex_dask.minibatches import Minibatches
from specufex_dask.sample import Records

Array = np.ndarray[Any, np.dtype[Any]]

RECORD_BYTES = 8


def _records(n_records: int, *, chunk: int, left_out: int = 0) -> Records:
    """The numbers from 0 on, the first `left_out` of each 10 neither usable nor held out."""
    array = da.from_array(np.arange(float(n_records))[:, None], chunks=(chunk, 1))
    fitted = np.flatnonzero(np.arange(n_records) % 10 >= left_out)
    return Records(array, fitted, fitted[:0], np.dtype(float))


def _stream(records: Records, *, largest: int = 64, memory_limit: float = 1e9, seed: int = 0) -> Minibatches:
    return Minibatches(records, largest=largest, memory_limit=memory_limit, seed=seed)


def _taken(stream: Minibatches, asked: int) -> Array:
    """The numbers of the records of the next minibatch, as a model sees them."""
    model = Mean()
    stream.statistics(stream.take(asked), model, np.zeros(1), 1.0)
    return np.sort(np.concatenate(model.seen))


@given(
    n_records=st.integers(1, 300), chunk=st.integers(1, 80), asked=st.integers(1, 120), left_out=st.integers(0, 5),
    memory=st.integers(1, 400),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_each_epoch_takes_every_record_once(n_records: int, chunk: int, asked: int, left_out: int, memory: int) -> None:
    records = _records(n_records + 10, chunk=chunk, left_out=left_out)
    n_fitted = len(records.fitted)
    stream = _stream(records, largest=asked, memory_limit=memory * RECORD_BYTES)
    for _ in range(2):
        taken: list[int] = []
        while len(taken) < n_fitted:
            shares = stream.take(asked)
            assert 0 < sum(len(rows) for _, rows in shares) <= asked
            for number, rows in shares:
                piece_chunk, inside = stream._pieces[number]
                taken += (piece_chunk * chunk + inside[rows]).tolist()
        assert sorted(taken) == records.fitted.tolist()
    stream.close()


@pytest.mark.parametrize(("chunk", "memory_limit"), [(256, 1e9), (256, 16 * 256 * RECORD_BYTES), (1000, 1e9)])
def test_a_minibatch_is_of_many_chunks(chunk: int, memory_limit: float) -> None:
    stream = _stream(_records(40_000, chunk=chunk), largest=512, memory_limit=memory_limit)
    for _ in range(200):
        shares = stream.take(512)
        assert len({stream._pieces[number][0] for number, _ in shares}) >= 16
        assert len(shares) <= 64
    stream.close()


def test_memory_holds_two_groups() -> None:
    """A piece is a part of a chunk where 16 whole ones, twice, would not fit."""
    limit = 2 * 16 * 48 * RECORD_BYTES
    stream = _stream(_records(40_000, chunk=256), memory_limit=limit)
    assert not stream.kept
    assert max(len(rows) for _, rows in stream._pieces) == 48
    group = sum(len(stream._pieces[number][1]) for number in stream._ahead[0].pieces)
    assert 2 * group * RECORD_BYTES <= limit * 17 / 16
    assert re.search("stream, 1[67] chunks at a time", stream.reading)
    stream.close()


def test_what_fits_is_read_once() -> None:
    read: list[int] = []
    lock = threading.Lock()

    def note(block: Array) -> Array:
        with lock:
            read.append(int(block[0, 0]) if block.size else -1)
        return block

    for limit, n_reads in ((1e9, 1), (40 * RECORD_BYTES, 3)):
        read.clear()
        plain = _records(320, chunk=16)
        array = da.map_blocks(note, plain.array, dtype=float, meta=np.empty((0, 0)))
        stream = _stream(Records(array, plain.fitted, plain.held_out, plain.dtype), memory_limit=limit)
        assert stream.kept == (limit == 1e9)
        while stream._n_turns <= 3:
            _taken(stream, 64)
        stream.close()
        assert min(read.count(first) for first in range(0, 320, 16)) >= min(n_reads, 1)
        assert (max(read.count(first) for first in range(0, 320, 16)) == 1) == stream.kept


class Stored:
    """What is read of it, in records; dask computes with a copy of it."""

    shape, ndim, dtype = (2560, 1), 2, np.dtype(float)
    lengths: ClassVar[list[int]] = []

    def __getitem__(self, key: tuple[slice, slice]) -> Array:
        self.lengths.append(key[0].stop - key[0].start)
        return np.arange(2560.0)[key[0], None]


@pytest.mark.parametrize(("left_out", "n_read"), [(0, 16), (1, 16), (5, 15)])
def test_a_piece_of_a_chunk_is_read_without_the_rest_of_it(left_out: int, n_read: int) -> None:
    plain = _records(2560, chunk=64, left_out=left_out)
    array = da.from_array(Stored(), chunks=(64, 1), asarray=False, meta=np.empty((0, 1)))
    stream = _stream(Records(array, plain.fitted, plain.held_out, plain.dtype), memory_limit=32 * 16 * RECORD_BYTES)
    assert not stream.kept
    Stored.lengths.clear()
    taken = _taken(stream, 64)
    stream.close()
    assert set(taken.tolist()) <= set(plain.fitted.tolist())
    assert max(Stored.lengths) == n_read


def test_the_next_group_is_read_meanwhile() -> None:
    """While the first group is in use the second is there already, before anyone asks for it."""
    stream = _stream(_records(5120, chunk=16), memory_limit=1024 * RECORD_BYTES)
    _taken(stream, 16)
    ahead = stream._read[stream._n_turns + 1].result(timeout=10)
    assert sorted(place for run in ahead for place in run.places) == list(range(len(stream._ahead[0].pieces)))
    assert [len(piece) for run in ahead for piece in run.held.compute()] == np.diff(stream._ahead[0].edges).tolist()
    stream.close()


def test_skipping_leads_to_the_same_minibatch() -> None:
    records = _records(3000, chunk=64, left_out=2)
    asked = [64, 64, 128, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 77]
    whole, resumed = _stream(records, largest=200), _stream(records, largest=200)
    for batch in asked:
        whole.take(batch)
    resumed.skip(asked)
    for _ in range(5):
        np.testing.assert_array_equal(_taken(whole, 200), _taken(resumed, 200))
    whole.close()
    resumed.close()


def test_a_seed_is_an_order() -> None:
    records = _records(3000, chunk=64)
    first, again, other = (_stream(records, seed=seed) for seed in (1, 1, 2))
    chosen = [_taken(stream, 64).tolist() for stream in (first, again, other)]
    assert chosen[0] == chosen[1] != chosen[2]
    epochs = [_taken(first, 3000).tolist() for _ in range(2)]
    assert epochs[0] != epochs[1]
    for stream in (first, again, other):
        stream.close()


def _sum() -> Array:
    """The sum over a minibatch of 500 records, on the scheduler that is set."""
    values = np.random.default_rng(0).normal(size=(2000, 5)).astype("float32")
    fitted = np.arange(2000)
    records = Records(da.from_array(values, chunks=(64, 5)), fitted, fitted[:0], np.dtype("float32"))
    stream = _stream(records, largest=500)
    total: Array = stream.statistics(stream.take(500), Mean(), np.zeros(5), 1.0)[0]
    stream.close()
    return total


@pytest.fixture(scope="module")
def total() -> Array:
    with dask.config.set(scheduler="synchronous"):
        return _sum()


@pytest.mark.parametrize("n_threads", [2, 5])
def test_bits_of_a_sum_do_not_depend_on_the_scheduler(total: Array, n_threads: int) -> None:
    with dask.config.set(scheduler="threads", num_workers=n_threads):
        np.testing.assert_array_equal(_sum(), total)
    assert total.shape == (5,)


@pytest.mark.parametrize(("n_threads", "n_tasks"), [(2, []), (12, [12])])
def test_bits_of_a_sum_do_not_depend_on_who_hands_out_the_work(
    total: Array, monkeypatch: pytest.MonkeyPatch, n_threads: int, n_tasks: list[int]
) -> None:
    """Few parts are summed where they are held, many by tasks, which add them on the way."""
    found: list[int] = []
    by_tasks = minibatches._by_tasks

    def counted(local: Any, add: Any, calls: list[Any]) -> list[Any]:
        found.append(len(calls))
        return by_tasks(local, add, calls)

    monkeypatch.setattr(minibatches, "_by_tasks", counted)
    with cluster(1, threads_per_worker=n_threads, processes=False, host=None):
        np.testing.assert_array_equal(_sum(), total)
    assert found == n_tasks
