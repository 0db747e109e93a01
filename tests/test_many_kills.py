"""A run of 20,000 records that is killed twenty times, at random moments: its store is that of an unbroken one."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

import chain
import draws
import numpy as np
import psutil
import pytest
from processes import running, says, wait_until

from specufex_dask.runs import log

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

N_RECORDS = 20_000
N_SHARDS = -(-N_RECORDS // chain.LARGE_CHUNK)
N_KILLS = 20


class Clock:
    """How far a run has come, in the seconds that the unbroken one at `store` took to come so far."""

    def __init__(self, store: Path) -> None:
        ended = {e["stage"]: datetime.fromisoformat(e["time"]) for e in log(store) if e["event"] == "finished"}
        start = datetime.fromisoformat(log(store)[0]["time"])
        self.ends = [(ended[stage] - start).total_seconds() for stage in chain.STAGES]
        self._seen, self._since = (0, 0.0), time.monotonic()

    def at(self, store: Path) -> float:
        """Where the run at `store` is: its last mark and a second at most; the clusters, its end, have no marks."""
        seen = chain.reached(store, n_shards=N_SHARDS)
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        stage, share = seen
        begin, end = (0.0, *self.ends)[stage : stage + 2]
        after = time.monotonic() - self._since
        return min(end, begin + share * (end - begin) + (after if end == self.ends[-1] else min(after, 1.0)))

    def begin_again(self) -> None:
        """A new driver has begun."""
        self._since = time.monotonic()


class Run:
    """The run at `store`: its driver, with a cluster of two workers, and those that were killed before."""

    def __init__(self, store: Path, stack: ExitStack) -> None:
        self.store, self._stack = store, stack
        self.drivers: list[subprocess.Popen[str]] = []
        self.children: list[psutil.Process] = []
        self.begin()

    def begin(self) -> None:
        """Start a driver and wait until it has its workers."""
        driver = self._stack.enter_context(running(chain.PROGRAM, self.store, N_RECORDS, 2))
        self.drivers.append(driver)
        assert says(driver) == "ready"

    def kill_driver(self) -> None:
        """Kill the driver and begin again at once, whether or not its workers have noticed."""
        self._note_children()
        self.drivers[-1].kill()
        self.drivers[-1].wait(30)
        self.begin()

    def kill_worker(self) -> None:
        """Kill a worker that is at work, not one that is still being started."""
        self._note_children()
        wait_until(self._worker)
        os.kill(self._worker(), signal.SIGKILL)

    def _worker(self) -> int:
        present = self.store.with_name(f"{self.store.name}.workers")
        ours = {child.pid for child in psutil.Process(self.drivers[-1].pid).children(recursive=True)}
        started = [path for path in present.iterdir() if int(path.name) in ours]
        return next((int(path.name) for path in started if time.time() - path.stat().st_mtime > 1), 0)

    def _note_children(self) -> None:
        self.children += psutil.Process(self.drivers[-1].pid).children(recursive=True)


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_with_the_bytes_of_an_unbroken_one(tmp_path: Path) -> None:
    with running(chain.PROGRAM, tmp_path / "unbroken.zarr", N_RECORDS, 2) as process:
        assert process.communicate()[0].splitlines()[-1] == "done"
    clock = Clock(tmp_path / "unbroken.zarr")
    rng = np.random.default_rng(0)
    *_, before_last, last = clock.ends
    moments = np.sort(rng.uniform(0, (before_last + last) / 2, N_KILLS))
    victims = rng.permutation(["driver", "worker"] * (N_KILLS // 2))
    with ExitStack() as stack:
        run = Run(tmp_path / "s.zarr", stack)
        clock.begin_again()
        for moment, victim in zip(moments, victims, strict=True):
            wait_until(lambda m=moment: clock.at(run.store) >= m or run.drivers[-1].poll() is not None, seconds=120)  # type: ignore[misc]
            assert run.drivers[-1].poll() is None, f"it ended before {moment:.1f} s"
            run.kill_driver() if victim == "driver" else run.kill_worker()
            if victim == "driver":
                clock.begin_again()
        told = [line for driver in run.drivers[::-1] for line in driver.communicate(timeout=200)[0].splitlines()]
    assert psutil.wait_procs(run.children, timeout=20)[1] == []
    assert [driver.returncode for driver in run.drivers] == [-signal.SIGKILL] * (N_KILLS // 2) + [0]
    assert told.count("done") == 1
    assert sum(" goes on from step " in line for line in told) >= 2, "fits went on from checkpoints"
    chain.assert_complete(tmp_path / "s.zarr", draws.files_of(tmp_path / "unbroken.zarr"), n_records=N_RECORDS)
