"""Writing the shards: what the log tells of it, whatever ends it, and a disk that fills up."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import dask
import dask.array as da
import draws
import numpy as np
import pytest
from draws import Counted
from processes import ENVIRONMENT, running, wait_until

import specufex_dask as sx
from specufex_dask.blocks import map_records
from specufex_dask.recipe import stamp
from specufex_dask.runs import log
from specufex_dask.status import status

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

STATION = "4D.G7J1..SHZ"


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_two_threads_save_two_stages_at_once(tmp_path: Path, scheduler: str) -> None:
    stages = {name: Counted(64, 8, seconds=0.01).dataset for name in ("a", "b", "c")}
    for name, dataset in stages.items():
        sx.save(dataset, tmp_path / "one.zarr", group=name)
    with dask.config.set(scheduler=scheduler):
        threads = [
            threading.Thread(target=sx.save, args=(dataset, tmp_path / "s.zarr"), kwargs={"group": name})
            for name, dataset in stages.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert draws.files_of(tmp_path / "s.zarr") == draws.files_of(tmp_path / "one.zarr")
    ends = [entry for entry in log(tmp_path / "s.zarr") if entry["event"] == "finished"]
    assert {entry["stage"]: (entry["shards_done"], entry["records_done"]) for entry in ends} == {
        f"{name}/spectrograms": (8, 64) for name in stages
    }


def test_the_log_tells_of_every_save(tmp_path: Path) -> None:
    stage = Counted(38, 8)
    stage.fail_after = 2
    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(RuntimeError):
            sx.save(stage.dataset, tmp_path / "s.zarr", group=STATION)
        stage.fail_after = None
        sx.save(stage.dataset, tmp_path / "s.zarr", group=STATION)
        sx.save(stage.dataset, tmp_path / "s.zarr", group=STATION)  # of a whole stage there is nothing to tell
    entries = log(tmp_path / "s.zarr")
    told = [(entry["event"], entry["shards_done"], entry["records_done"]) for entry in entries]
    assert told[0] == ("started", 0, 0)
    assert told[1] in {("failed", 2, 16), ("failed", 2, 14)}  # the short shard may come first
    assert [entry["event"] for entry in entries] == ["started", "failed", "started", "finished"]
    assert told[2][1:] == told[1][1:]
    assert told[3][1:] == (5, 38)
    assert entries[1]["error"] == "RuntimeError: the power went off"
    assert (entries[0]["shards"], entries[0]["records"]) == (5, 38)
    assert {entry["stage"] for entry in entries} == {f"{STATION}/spectrograms"}
    assert {(entry["pid"], entry["host"]) for entry in entries} == {(os.getpid(), socket.gethostname())}


def test_a_long_save_tells_of_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specufex_dask.shards._EVERY", 0.1)
    with dask.config.set(scheduler="synchronous"):
        sx.save(Counted(80, 8, seconds=0.04).dataset, tmp_path / "s.zarr")
    *entries, last = log(tmp_path / "s.zarr")[1:]
    assert 2 <= len(entries) <= last["seconds"] / 0.1
    assert min(np.diff([entry["seconds"] for entry in entries])) > 0.099
    assert {entry["event"] for entry in entries} == {"progress"}
    assert all(entry["records_done"] == 8 * entry["shards_done"] for entry in entries)


class Full(Counted):
    """A stage whose third block finds the disk full."""

    full = True

    def _block(self, number: draws.Array) -> dict[str, draws.Array]:
        if self.full and number[0] == 16:
            raise OSError(errno.ENOSPC, "No space left on device", "c/2")
        return super()._block(number)


def _assert_full(store: Path, dataset: xr.Dataset, *, shards: str) -> None:
    with pytest.raises(OSError, match="no space left on device") as full:
        sx.save(dataset, store)
    assert re.fullmatch(
        rf"\[Errno 28\] got no space left on device for 'spectrograms' of {store}, expected room for its {shards} "
        rf"missing shards: free space and save again: only what is missing is computed\.",
        str(full.value),
    )
    assert isinstance(full.value.__cause__, OSError)
    assert log(store)[-1]["error"] == "OSError: [Errno 28] No space left on device: 'c/2'"


def test_a_full_disk_is_told_with_what_is_left_to_do(tmp_path: Path) -> None:
    stage = Full(40, 8)
    with dask.config.set(scheduler="synchronous"):
        _assert_full(tmp_path / "s.zarr", stage.dataset, shards=str(5 - _n_before(stage)))
        done = len(stage.blocks)
        stage.full = False
        sx.save(stage.dataset, tmp_path / "s.zarr")
    assert len(stage.blocks) == 5
    assert done < 5


def _block(number: draws.Array) -> dict[str, draws.Array]:
    """A block of another process: where Full's counter does not go."""
    if number[0] == 16:
        raise OSError(errno.ENOSPC, "No space left on device", "c/2")
    return {"spectrogram": np.ones((len(number), 4, 5), "float32"), "quality": np.zeros(len(number), "int8")}


def test_a_full_disk_of_a_worker_is_told_as_well(tmp_path: Path) -> None:
    from distributed import Client

    lazy = map_records(_block, [da.arange(40, chunks=8)], {"spectrogram": ((4, 5), "float32"), "quality": ((), "int8")})
    base = draws.spectrograms(40, chunk=8, n_frequencies=4, n_time=5)
    values = {"spectrogram": (base["spectrogram"].dims, lazy["spectrogram"]), "quality": ("record", lazy["quality"])}
    dataset = stamp(base.assign(values), "spectrograms", {"band": [1, 4]})
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with Client(**options):  # type: ignore[no-untyped-call]
        _assert_full(tmp_path / "s.zarr", dataset, shards=r"\d")
    assert status(tmp_path / "s.zarr").stages[0].state == "failed"


def _n_before(stage: Full) -> int:
    """Shards that a save one at a time has done before it comes to the full disk."""
    with pytest.raises(OSError, match="No space"):
        stage.dataset["spectrogram"].compute()
    done = len(stage.blocks)
    stage.blocks.clear()
    return done


ON_A_SMALL_DISK = """
import sys, dask, draws, specufex_dask as sx
from specufex_dask.status import status
store = sys.argv[1] + "/s.zarr"
filler = open(sys.argv[1] + "/filler", "wb")
filler.write(bytes(int(sys.argv[2])))
filler.flush()
with dask.config.set(scheduler="threads", num_workers=2):
    dataset = draws.Counted(96, 8, tail=(64, 64)).dataset
    try:
        sx.save(dataset, store)
    except OSError as error:
        print(error)
    left = status(store).stages[0].shards_left
    print(left)
    filler.truncate(0)
    again = draws.Counted(96, 8, tail=(64, 64))
    sx.save(again.dataset, store)
    print(len(again.blocks) == left)
    sx.save(draws.Counted(96, 8, tail=(64, 64)).dataset, sys.argv[3])
    print(draws.files_of(__import__("pathlib").Path(store)) == draws.files_of(__import__("pathlib").Path(sys.argv[3])))
"""


def test_a_disk_that_fills_up_and_is_cleared(tmp_path: Path) -> None:
    """A file system of 8 MB in memory, in a namespace of its own: 12 shards of 128 KB do not fit beside the filler."""
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o size=8m none {tmp_path}/disk"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("no namespace may be made here in which to mount a small disk")
    command = f'{mount} && exec "$@"'
    program = [sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path / "disk"), "7300000", str(tmp_path / "whole.zarr")]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, "sh", *program],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    told, left, as_many, same = done.stdout.splitlines()
    assert 0 < int(left) <= 12
    assert (
        f"expected room for its {left} missing shards: free space and save again: only what is missing is computed."
        in told
    )
    assert (as_many, same) == ("True", "True")


def test_what_a_killed_save_logged_is_there(tmp_path: Path) -> None:
    program = """
import sys, draws, specufex_dask as sx
sx.save(draws.Counted(80, 8, seconds=0.1).dataset, sys.argv[1])
"""
    store = tmp_path / "s.zarr"
    with running(program, store) as process:
        wait_until(lambda: list(store.glob("spectrograms/quality/c/*")))
        process.kill()
        process.wait(30)
    assert [entry["event"] for entry in log(store)] == ["started"]
    assert log(store)[0]["pid"] == process.pid
    sx.save(Counted(80, 8).dataset, store)
    events = log(store)
    assert [entry["event"] for entry in events] == ["started", "started", "finished"]
    assert events[1]["shards_done"] >= 1
    assert events[2]["shards_done"] == 10
