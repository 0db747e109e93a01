"""Workers that end on the way: told to by their machine, or out of memory."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import draws
import hogs
import psutil
import pytest
from chain import n_written
from processes import ENVIRONMENT, cluster, meanwhile, wait_until

import specufex_dask as sx
from specufex_dask.runs import log
from specufex_dask.status import status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N_SHARDS = hogs.N_RECORDS // hogs.CHUNK


@pytest.fixture
def unbroken(tmp_path: Path) -> dict[str, bytes]:
    sx.save(hogs.records(), tmp_path / "unbroken.zarr")
    return draws.files_of(tmp_path / "unbroken.zarr")


def _assert_complete(store: Path, unbroken: dict[str, bytes]) -> None:
    """The bytes are those of an unbroken save, and each record that went in is there once, usable or flagged."""
    assert draws.files_of(store) == unbroken
    found = sx.load(store, "spectrograms")
    assert found["event_id"].values.tolist() == hogs.records()["event_id"].values.tolist()
    quality = found["quality"].values
    assert ((quality == 0).sum(), (quality == 1).sum()) == (hogs.N_RECORDS * 4 // 5, hogs.N_RECORDS // 5)
    last = log(store)[-1]
    assert (last["event"], last["shards_done"], last["records_done"]) == ("finished", N_SHARDS, hogs.N_RECORDS)


@contextmanager
def _dask(*arguments: object) -> Iterator[psutil.Process]:
    """The command ``dask`` with `arguments`, and what it starts, for as long as the block runs."""
    alone = ["--host", "127.0.0.1", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    command = [sys.executable, "-m", "dask", *map(str, arguments), *alone]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        process = psutil.Process(started.pid)
        try:
            yield process
        finally:
            for each in _family(process):
                each.kill()


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)] if process.is_running() else []


@contextmanager
def _workers(folder: Path, *options: str) -> Iterator[tuple[Any, list[psutil.Process]]]:
    """A scheduler and two workers as the command line starts them, and a Client of theirs."""
    from distributed import Client

    file = folder / "scheduler.json"
    worker = ["worker", "--scheduler-file", file, "--nthreads", 1, "--local-directory", folder, *options]
    scheduler = ["scheduler", "--scheduler-file", file, "--port", 0]
    with _dask(*scheduler) as first, _dask(*worker) as second, _dask(*worker) as third:
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))
        with Client(json.loads(file.read_text())["address"]) as client:  # type: ignore[no-untyped-call]
            wait_until(lambda: len(client.scheduler_info()["workers"]) == 2)
            yield client, [first, second, third]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--no-nanny"]], ids=["nanny", "no nanny"])
def test_a_worker_that_is_told_to_end_hands_back_its_task(
    tmp_path: Path, unbroken: dict[str, bytes], options: list[str]
) -> None:
    """SIGTERM, as a spot machine gets it before it goes: the other worker does what is left."""
    store = tmp_path / "s.zarr"
    with _workers(tmp_path, *options) as (client, processes):
        everyone = [each for process in processes for each in _family(process)]
        listening = [c.laddr.ip for p in everyone for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert len(listening) >= 3
        assert set(listening) == {"127.0.0.1"}
        leaving = processes[1]
        theirs = _family(leaving)
        with meanwhile(lambda: n_written(store, "spectrograms") >= 3, partial(leaving.send_signal, signal.SIGTERM)):
            sx.save(hogs.records(seconds=0.2), store)
        assert psutil.wait_procs(theirs, timeout=30)[1] == []
        assert len(client.scheduler_info()["workers"]) == 1
    _assert_complete(store, unbroken)


@pytest.mark.slow
def test_a_worker_out_of_memory_once_is_no_matter(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    fed = tmp_path / "fed"
    with cluster(2, memory_limit=hogs.MEMORY_LIMIT) as client:
        before = {nanny.pid for nanny in client.cluster.workers.values()}
        sx.save(hogs.records(fed=fed, once=True), tmp_path / "s.zarr")
        assert fed.exists()
        assert before - {nanny.pid for nanny in client.cluster.workers.values()}, "the nanny replaced a worker"
    _assert_complete(tmp_path / "s.zarr", unbroken)


@pytest.mark.slow
def test_a_task_that_no_worker_has_memory_for_is_told(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    store, fed = tmp_path / "s.zarr", tmp_path / "fed"
    with cluster(2, memory_limit=hogs.MEMORY_LIMIT):
        with pytest.raises(RuntimeError, match="workers killed") as told:
            sx.save(hogs.records(fed=fed), store)
        assert re.fullmatch(
            rf"got 4 workers killed, one after the other, at shards? \d+( to \d+)? of 'spectrograms' of {store}, "
            r"expected it to fit in the memory of a worker: give the workers more memory, or the input smaller chunks "
            r"of records, and save again: only what is missing is computed\.",
            str(told.value),
        )
        (stage,) = status(store).stages
        assert (stage.state, stage.records) == ("failed", hogs.N_RECORDS)
        assert 1 <= stage.shards_left <= N_SHARDS
        fed.touch()
        sx.save(hogs.records(fed=fed), store)
    _assert_complete(store, unbroken)
