"""Workers and drivers that are killed, in saves and in fits: the work goes on, and the bits are the same."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import chain
import draws
import psutil
import pytest
from chain import assert_complete, n_written, step
from processes import cluster, meanwhile, running, says, wait_until

import specufex_dask as sx
from specufex_dask import checkpoints
from specufex_dask.runs import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

N_RECORDS = 2000
N_SHARDS = -(-N_RECORDS // chain.CHUNK)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run on threads that nothing broke."""
    store = tmp_path_factory.mktemp("unbroken") / "s.zarr"
    chain.run(store, n_records=N_RECORDS)
    return store


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with cluster() as made:
        yield made


def _workers(client: Any) -> list[int]:
    """Process ids of the workers, all of which run."""
    wait_until(lambda: len(client.scheduler_info()["workers"]) == len(client.cluster.workers))
    return [int(nanny.pid) for nanny in client.cluster.workers.values()]


def _kill(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("n_killed", [1, 2])
def test_a_save_survives_its_workers(client: Any, unbroken: Path, tmp_path: Path, n_killed: int) -> None:
    store, victims = tmp_path / "s.zarr", _workers(client)[:n_killed]
    models = sx.load(unbroken, "nmf"), sx.load(unbroken, "hmm")
    with meanwhile(lambda: n_written(store, "fingerprints") >= 5, partial(_kill, victims)):
        fingerprints = sx.save(sx.compute_fingerprints(sx.load(unbroken, "spectrograms"), *models), store)
    assert not set(victims) & set(_workers(client))
    assert draws.files_of(store / "fingerprints") == draws.files_of(unbroken / "fingerprints")
    assert fingerprints["event_id"].values.tolist() == chain.records(N_RECORDS)["event_id"].values.tolist()
    quality = fingerprints["quality"].values
    assert (quality == 0).sum() + (quality > 0).sum() == N_RECORDS
    last = log(store)[-1]
    assert (last["event"], last["shards_done"], last["records_done"]) == ("finished", N_SHARDS, N_RECORDS)


@pytest.mark.slow
@pytest.mark.parametrize("n_killed", [1, 2])
@pytest.mark.parametrize("stage", ["nmf", "hmm"])
def test_a_fit_survives_its_workers(client: Any, unbroken: Path, tmp_path: Path, stage: str, n_killed: int) -> None:
    spectrograms, nmf = sx.load(unbroken, "spectrograms"), sx.load(unbroken, "nmf")
    store, victims = tmp_path / "s.zarr", _workers(client)[:n_killed]
    streaming = {"nmf": 3260, "hmm": 3050}[stage]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "EVERY_SECONDS", 0.0)  # only to see how far it is
        with meanwhile(lambda: step(store, stage) >= streaming, partial(_kill, victims)):
            if stage == "nmf":
                model = chain.fit_nmf(spectrograms, sx.load(unbroken, "nmf", group="first"), store)
            else:
                model = chain.fit_hmm(spectrograms, nmf, store)
    assert not set(victims) & set(_workers(client))
    sx.save(model, store)
    assert draws.files_of(store / stage) == draws.files_of(unbroken / stage)


MOMENTS: dict[str, Callable[[Path], object]] = {
    "first records": lambda store: n_written(store, "spectrograms") >= 3,
    "small steps": lambda store: step(store, "first/nmf") >= 800,
    "large steps": lambda store: step(store, "nmf") >= 3255,
    "starts of the HMM": lambda store: step(store, "hmm") >= 500,
    "its large steps": lambda store: step(store, "hmm") >= 3045,
    "fingerprints": lambda store: n_written(store, "fingerprints") >= 3,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_workers", "moments"),
    [(0, ["first records", "small steps", "large steps", "starts of the HMM", "its large steps", "fingerprints"]),
     (2, ["its large steps"])],
    ids=["threads", "cluster"],
)  # fmt: skip
def test_a_run_survives_its_driver(unbroken: Path, tmp_path: Path, n_workers: int, moments: list[str]) -> None:
    """Killed at each moment and begun again each time: the workers go with the driver, the store is as it should be."""
    store = tmp_path / "s.zarr"
    told: list[str] = []
    for moment in [*moments, None]:
        with running(chain.PROGRAM, store, N_RECORDS, n_workers) as process:
            assert says(process) == "ready"
            children = psutil.Process(process.pid).children(recursive=True)
            assert (len(children) >= n_workers) == (n_workers > 0 or not children)
            if moment is not None:
                wait_until(lambda when=moment: process.poll() is not None or MOMENTS[when](store), seconds=60)  # type: ignore[misc]
                assert process.poll() is None, f"it ended before {moment}"
                process.kill()
            told += process.communicate()[0].splitlines()
        assert psutil.wait_procs(children, timeout=20)[1] == []
    assert told[-1] == "done"
    resumed = [line for line in told if " goes on from step " in line]
    assert len(resumed) == sum(moment not in {"first records", "fingerprints"} for moment in moments)
    assert_complete(store, draws.files_of(unbroken), n_records=N_RECORDS)
