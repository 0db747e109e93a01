from __future__ import annotations

import io
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import draws
import numpy as np
import pytest
from dask.callbacks import Callback
from dask.local import get_sync

import specufex_dask as sx
from specufex_dask.blocks import in_runs, one_task_each, runs_of
from specufex_dask.progress import compute_followed, progress
from specufex_dask.runs import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue())


def _terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as standard error; set in the test itself, since pytest sets its own before each."""
    drawn = Terminal()
    monkeypatch.setattr(sys, "stderr", drawn)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    return drawn


def test_is_silent_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("fit nmf", total=3, unit="steps") as advance:
        advance()
    assert capfd.readouterr() == ("", "")


def test_draws_what_is_done_and_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress("fit nmf", total=2000, unit="steps") as advance:
        advance(500, note="75 patterns")
        advance(1000, note="38 patterns")
    last = terminal.text.rstrip().splitlines()[-1]
    assert last.startswith("fit nmf")
    assert "1,500/2,000 steps" in last
    assert last.endswith("38 patterns")


def test_work_of_unknown_length_counts_up(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress("read", total=None, unit="files") as advance:
        advance(7)
    assert " 7 files" in terminal.text.rstrip().splitlines()[-1]


def test_tells_the_rate_the_time_and_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress("save spectrograms", total=4000, unit="records") as advance:
        for _ in range(10):
            time.sleep(0.02)
            advance(200, note="1 of 2")
    last = terminal.text.rstrip().splitlines()[-1]
    told = re.search(r"2,000/4,000 records ([\d,]+) records/s 0:00:00 0:00:0[01] (\d+\.\d) GiB 1 of 2$", last)
    assert told, last
    assert 2000 < int(told[1].replace(",", "")) <= 10_000
    assert 0.05 < float(told[2]) < 64


def test_without_psutil_the_memory_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "psutil", None)
    with progress("fit nmf", total=2, unit="steps") as advance:
        advance(2, note="done")
    assert "GiB" not in terminal.text
    assert "2/2 steps" in terminal.text


def _slow(block: Array, seconds: float = 0.05) -> Array:
    time.sleep(seconds)
    return block + 1


def _blocks(**options: float) -> tuple[da.Array, dict[tuple[str, int], float]]:
    """Six blocks of a lazy array, and what each is worth: 10, the last one 3."""
    numbers = da.arange(53, chunks=10).map_blocks(_slow, dtype=int, **options)
    return numbers, {(numbers.name, i): 3 if i == 5 else 10 for i in range(6)}


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_follows_what_a_local_scheduler_finishes(scheduler: str) -> None:
    numbers, tasks = _blocks(seconds=0)
    finished: list[float] = []
    with dask.config.set(scheduler=scheduler):
        blocks = compute_followed(numbers, finished.append, tasks=tasks)
    assert sorted(finished) == [3, 10, 10, 10, 10, 10]
    assert np.concatenate(blocks).tolist() == list(range(1, 54))


def test_no_thread_works_on_after_an_error() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def fail_first(block: Array, block_id: tuple[int] = (0,)) -> Array:
        begun.append(block_id[0])
        time.sleep(0.05)
        if begun[0] == block_id[0]:
            raise ZeroDivisionError
        time.sleep(0.3)
        ended.append(block_id[0])
        return block

    numbers = da.arange(53, chunks=10).map_blocks(fail_first, meta=np.empty(0, int))
    with dask.config.set(scheduler="threads", num_workers=3), pytest.raises(ZeroDivisionError):
        compute_followed(numbers, lambda _: None, tasks={})
    assert len(begun) == 3
    assert sorted(ended) == sorted(begun[1:])


def test_threads_that_the_user_gave_are_used() -> None:
    names: list[str] = []

    def noted(block: Array) -> Array:
        names.append(threading.current_thread().name)
        return block

    numbers = da.arange(53, chunks=10).map_blocks(noted, meta=np.empty(0, int))
    with ThreadPoolExecutor(1, thread_name_prefix="theirs") as pool, dask.config.set(scheduler="threads", pool=pool):
        compute_followed(numbers, lambda _: None, tasks={})
    assert names == ["theirs_0"] * 6


def test_other_callbacks_are_called_too() -> None:
    numbers, tasks = _blocks(seconds=0)
    theirs: list[object] = []
    with Callback(posttask=lambda key, *_: theirs.append(key)):
        compute_followed(numbers, lambda *_: None, tasks=tasks)
    assert tasks.keys() <= set(theirs)


@pytest.fixture(scope="module")
def client() -> Iterator[object]:
    from distributed import Client

    with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as client:  # type: ignore[no-untyped-call]
        yield client


@pytest.mark.usefixtures("client")
def test_follows_what_a_cluster_finishes_while_it_works() -> None:
    numbers, tasks = _blocks(seconds=0.3)
    start = time.monotonic()
    finished: list[tuple[float, float]] = []
    blocks = compute_followed(numbers, lambda n: finished.append((time.monotonic() - start, n)), tasks=tasks)
    whole = time.monotonic() - start
    assert np.concatenate(blocks).tolist() == list(range(1, 54))
    assert sorted(n for _, n in finished) == [3, 10, 10, 10, 20], "the first two are one task"
    assert sum(seconds < whole - 0.3 for seconds, _ in finished) >= 3
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


@pytest.mark.usefixtures("client")
def test_a_cluster_takes_short_runs_last_that_its_workers_end_together() -> None:
    def taken(block: Array, shared: Array) -> Array:
        time.sleep(0.002)
        return np.full(len(block), shared * time.monotonic())

    how: dict[str, Any] = {"dtype": float, "meta": np.empty(0)}
    numbers = da.map_blocks(taken, da.arange(160, chunks=1), da.ones(1, chunks=1), **how)
    times = compute_followed(numbers, lambda *_: None, tasks={(numbers.name, i): 1 for i in range(160)})
    order = np.argsort(np.concatenate(times))
    assert sorted(order[-4:]) == [156, 157, 158, 159], "those that are a run of their own"


@pytest.mark.usefixtures("client")
def test_a_failed_task_of_a_cluster_is_raised_and_not_counted() -> None:
    def fail(block: Array, block_id: tuple[int] = (0,)) -> Array:
        if block_id == (5,):
            raise ZeroDivisionError
        return block

    numbers = da.arange(53, chunks=10).map_blocks(fail, dtype=int)
    finished: list[float] = []
    with pytest.raises(ZeroDivisionError):
        compute_followed(numbers, finished.append, tasks={(numbers.name, i): 1 for i in range(6)})
    assert len(finished) < 6
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


@pytest.mark.usefixtures("client")
def test_a_save_on_a_cluster_is_drawn_and_logged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("specufex_dask.shards._EVERY", 0.0)
    dataset = draws.spectrograms(40, chunk=8, n_frequencies=4, n_time=5)
    terminal = _terminal(monkeypatch)
    sx.save(dataset, tmp_path / "s.zarr")
    last = terminal.text.rstrip().splitlines()[-1]
    assert last.startswith("save spectrograms")
    assert "40/40 records" in last
    counts = [entry["records_done"] for entry in log(tmp_path / "s.zarr")]
    assert counts == [0, 8, 16, 24, 32, 40, 40]


def test_nested_work_shares_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress("outer", total=1, unit="stages") as advance:
        with progress("inner", total=2, unit="records") as inner:
            inner(2)
        advance()
    lines = terminal.text.rstrip().splitlines()[-2:]
    assert [line.split()[0] for line in lines] == ["outer", "inner"]


def _fail_halfway() -> None:
    with progress("fit", total=2, unit="steps") as advance:
        advance()
        raise KeyError


def test_an_error_ends_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    for _ in range(2):  # the second needs the display that the first gave back
        with pytest.raises(KeyError):
            _fail_halfway()
    assert terminal.text.count("1/2 steps") >= 2


@pytest.mark.parametrize(("n_keys", "n_slots", "n_first"), [(1, 1, 4), (5, 2, 0), (100, 2, 3), (100, 64, 192)])
def test_runs_of_keys_are_one_task_each_and_end_together(n_keys: int, n_slots: int, n_first: int) -> None:
    calls: list[int] = []

    def two(value: int) -> int:
        calls.append(value)
        return 2

    graph: dict[Any, Any] = {"constant": (two, 0)}
    keys = [("x", i) for i in range(n_keys)]
    graph |= {key: (pow, "constant", key[1] + 1) for key in keys}
    runs = runs_of(keys, n_slots, n_first)
    joined = in_runs(one_task_each(graph, keys), runs)
    assert [key for run in runs.values() for key in run] == keys
    lengths = [len(run) for run in runs.values()]
    assert lengths[n_first:] == sorted(lengths[n_first:], reverse=True)
    assert max(lengths) <= 8
    assert max(lengths[:n_first], default=0) <= 2
    assert lengths[-n_slots:] == [1] * min(n_slots, n_keys)
    assert len(joined) <= len(runs) + 1
    results = get_sync(joined, list(runs))
    assert [result for run in results for result in run] == [2 ** (i + 1) for i in range(n_keys)]
    assert calls == [0], "what they share is computed once"
