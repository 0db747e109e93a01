"""One process at a time writes to a store, and tells what it did; whatever ends it, the next one goes on."""

from __future__ import annotations

import getpass
import json
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from draws import Counted
from processes import running, says

import specufex_dask as sx
from specufex_dask.config import run
from specufex_dask.runs import BusyStoreError, checkpoint_path, folder, holder, holding, log, note

STATION = "4D.G7J1..SHZ"
HOLDING = """
import sys, time
from specufex_dask.runs import holding
with holding(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def _left(store: Path) -> set[str]:
    run_folder = folder(store)
    assert isinstance(run_folder, Path)
    return {path.name for path in run_folder.iterdir()}


def test_a_second_process_is_refused_and_told_who_holds_the_store(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    with running(HOLDING, store) as process:
        assert says(process) == "held"
        found = holder(store)
        with pytest.raises(BusyStoreError) as refused:
            sx.save(Counted(16, 8).dataset, store)
        assert found is not None
        who = f"process {process.pid} on {socket.gethostname()} (user {getpass.getuser()})"
        assert str(refused.value) == (
            f"got {store}, to which {who} has been writing since {found.since}; expected no other run on it: "
            f"wait for that one to end, or stop it."
        )
        assert found.since[:4] >= "2024"
        assert found.since.endswith("+00:00")
        assert not store.exists()


def test_a_run_is_refused_before_it_reads_anything(tmp_path: Path) -> None:
    study: dict[str, Any] = {
        "store": str(tmp_path / "s.zarr"), "seed": 0, "catalog": "none.csv", "stations": "none.csv",
        "waveforms": {"archive": "{event_id}.mseed", "sampling_rate": 100},
        "spectrograms": {"window_length": 0.5, "band": [2, 20]},
    }  # fmt: skip
    with running(HOLDING, tmp_path / "s.zarr") as process:
        says(process)
        with pytest.raises(BusyStoreError, match=rf"process {process.pid} on .* expected no other run"):
            run(study)
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        run(study)


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    with running(HOLDING, store) as process:
        says(process)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        assert _left(store) == {"lock", "holder.json"}
        assert holder(store) is None
        with holding(store):
            assert holder(store) is not None
        assert _left(store) == {"lock"}


def test_what_is_whole_is_read_while_another_process_writes(tmp_path: Path) -> None:
    stage = Counted(16, 8)
    sx.save(stage.dataset, tmp_path / "s.zarr")
    with running(HOLDING, tmp_path / "s.zarr") as process:
        says(process)
        assert sx.save(stage.dataset, tmp_path / "s.zarr").sizes["record"] == 16
    assert len(stage.blocks) == 2


def test_all_threads_of_the_process_are_one_run(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    entered, left = threading.Event(), threading.Event()

    def hold() -> None:
        with holding(store):
            entered.set()
            left.wait(30)

    thread = threading.Thread(target=hold)
    with holding(store):
        thread.start()
        assert entered.wait(30)
    with running(HOLDING.replace("time.sleep(60)", ""), store) as process:  # the other thread holds it still
        assert process.wait(30) == 1
    left.set()
    thread.join()
    with running(HOLDING, store) as process:
        assert says(process) == "held"


def test_a_store_has_one_lock_under_all_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert folder("s.zarr") == folder(tmp_path / "link" / "s.zarr") == folder(f"{tmp_path}/s.zarr/")
    assert folder("s.zarr") == tmp_path.resolve() / "s.zarr.run"


def test_a_forked_process_is_another_one(tmp_path: Path) -> None:
    program = """
import os, sys
from specufex_dask.runs import BusyStoreError, holder, holding
with holding(sys.argv[1]):
    child = os.fork()
    if not child:
        try:
            with holding(sys.argv[1]):
                print("took it", flush=True)
        except BusyStoreError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(holder(sys.argv[1]).pid == os.getpid(), flush=True)
"""
    with running(program, tmp_path / "s.zarr") as process:
        assert f"process {process.pid} on " in says(process)
        assert says(process) == "True"


def test_a_half_written_line_is_no_entry_and_harms_no_other(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    note(store, "nmf", "started")
    whole = (tmp_path / "s.zarr.run/log.jsonl").read_bytes()
    for kept in range(len(whole)):
        (tmp_path / "s.zarr.run/log.jsonl").write_bytes(whole + whole[:kept])
        assert [entry["event"] for entry in log(store)] == ["started"] * (1 + (kept == len(whole) - 1))
        note(store, "nmf", "finished")
        assert [entry["event"] for entry in log(store)][-1] == "finished"
        assert len(log(store)) == 2 + (kept == len(whole) - 1)


def test_a_log_that_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "s.zarr.run/log.jsonl").mkdir(parents=True)
    assert sx.save(Counted(16, 8).dataset, tmp_path / "s.zarr").sizes["record"] == 16


def test_a_checkpoint_goes_once_its_stage_is_whole(tmp_path: Path) -> None:
    stage = Counted(16, 8)
    checkpoints = [checkpoint_path(tmp_path / "s.zarr", "spectrograms", group) for group in (STATION, "other", None)]
    assert checkpoints[0] == tmp_path.resolve() / "s.zarr.run" / STATION / "spectrograms.npz"
    for path in checkpoints:
        assert isinstance(path, Path)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, about=np.frombuffer(json.dumps({"step": 3}).encode(), "uint8"))
    stage.fail_after = 1
    with pytest.raises(RuntimeError):
        sx.save(stage.dataset, tmp_path / "s.zarr", group=STATION)
    assert [isinstance(path, Path) and path.exists() for path in checkpoints] == [True, True, True]
    stage.fail_after = None
    sx.save(stage.dataset, tmp_path / "s.zarr", group=STATION)
    assert [isinstance(path, Path) and path.exists() for path in checkpoints] == [False, True, True]
