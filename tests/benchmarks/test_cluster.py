"""What a cluster gains: two workers against one, a disk against memory, and a simulated cluster of 64 workers."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import families
import numpy as np
import pytest
from processes import cluster

import specufex_dask as sx
from specufex_dask import nmf, svi
from specufex_dask.blocks import Outputs, map_records
from specufex_dask.kernels import fingerprint
from specufex_dask.kernels import nmf as nmf_kernel
from specufex_dask.minibatches import Minibatches
from specufex_dask.progress import compute_followed
from specufex_dask.sample import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import xarray as xr
    from benchmarks.conftest import Figures

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.benchmark

N_WORKERS, BLOCK, N_PATTERNS, N_STATES = 64, 256, 75, 15
TASKS_PER_WORKER = 60
ROUNDS = 3
SHAPE: dict[str, Any] = {"n_frequencies": 308, "n_time": 200}
ONE_PROCESS = {
    # What 64 workers do at any time, in one process here; it would drown what a step costs.
    "distributed.admin.system-monitor.interval": "60s",
    "distributed.admin.tick.interval": "1s",
    "distributed.worker.memory.monitor-interval": "60s",
    "distributed.worker.profile.enabled": False,
}


@contextmanager
def _cluster(n_workers: int, **how: Any) -> Iterator[None]:
    with cluster(n_workers, **how) as client:
        client.wait_for_workers(n_workers)
        yield


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    store = tmp_path_factory.mktemp("wide") / "s.zarr"
    return sx.save(families.spectrograms(6000, chunk=64, **SHAPE), store)


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def test_two_workers_against_one(stored: xr.Dataset, tmp_path: Path, figures: Figures) -> None:
    small = stored.isel(record=slice(0, 64)).compute()
    first = sx.fit_nmf(small, seed=0, max_steps=20)
    hmm = sx.fit_hmm(sx.compute_activations(small, first), first, seed=0, max_steps=20, n_init=1)
    seconds: dict[str, dict[int, float]] = {"map stage": {}, "fit": {}}
    for i, n_workers in product(range(ROUNDS), (1, 2)):
        with _cluster(n_workers):
            warm = sx.compute_fingerprints(stored.isel(record=slice(0, 256)), first, hmm)
            warm["fingerprint"].compute()
            lazy = sx.compute_fingerprints(stored, first, hmm)
            took = _seconds(partial(sx.save, lazy, tmp_path / f"{n_workers}-{i}.zarr"))
            seconds["map stage"][n_workers] = min(took, seconds["map stage"].get(n_workers, took))
            if i == 0:
                seconds["fit"][n_workers] = _seconds(lambda: sx.fit_nmf(stored, seed=0, batch_size=512))
    for stage, at_least in (("map stage", 1.8), ("fit", 1.6)):
        one, two = seconds[stage][1], seconds[stage][2]
        detail = f"{one:.1f} s / {two:.1f} s, 6000 records of 308 x 200{', to convergence' * (stage == 'fit')}"
        figures.add(f"{stage}: one worker / two", one / two, "{:.2f} ×", at_least=at_least, detail=detail)
    assert not figures.missed


def test_fit_from_disk_against_memory(tmp_path: Path, figures: Figures) -> None:
    on_disk = sx.save(families.spectrograms(20_000), tmp_path / "s.zarr")
    in_memory = on_disk.load().copy()
    on_disk = sx.load(tmp_path / "s.zarr", "spectrograms")
    sx.fit_nmf(in_memory.isel(record=slice(0, 64)), seed=0, max_steps=20)
    how: dict[str, Any] = {"seed": 0, "memory_limit": 100e6}
    pairs = [
        (_seconds(lambda: sx.fit_nmf(on_disk, **how)), _seconds(lambda: sx.fit_nmf(in_memory, **how))) for _ in range(3)
    ]
    disk, memory = np.min(pairs, axis=0)
    figures.add(
        "fit_nmf from Zarr on disk / from memory", disk / memory, at_most=1.25,
        detail=f"{disk:.1f} s / {memory:.1f} s, 20,000 records of 61 x 51",
    )  # fmt: skip
    assert not figures.missed


@dataclass(frozen=True)
class Kernels:
    """Seconds of a block of 256 records of 308 x 200, measured here: NMF step of a fit, and fingerprint."""

    step: float
    fingerprint: float

    @classmethod
    def measured(cls) -> Kernels:
        """The best of a few rounds on a sixteenth of the block, as many kernels run by 16 records anyway."""
        drawn = families.spectrograms(BLOCK // 16, chunk=BLOCK // 16, **SHAPE)["spectrogram"].values
        model = nmf.GammaPoisson(N_PATTERNS, 1e5, 0)
        params = model.start(drawn.shape[1])
        weights = params.weights(1.0, "float32")
        emission = np.random.default_rng(0).gamma(0.5, 1.0, (N_STATES, N_PATTERNS))

        def decoded() -> None:
            loudness = nmf_kernel.transform(drawn, weights)
            fingerprint.fingerprints(loudness, np.log(emission), emission.sum(axis=1))

        def best(function: Callable[[], object]) -> float:
            return 16 * min(_seconds(function) for _ in range(5))

        return cls(best(lambda: model.local_step(drawn, params, 1.0)), best(decoded))


@dataclass(frozen=True)
class Sleeping:
    """A model whose local step takes its time and gives statistics of the real size."""

    seconds_per_record: float

    def local_step(self, records: Array, params: Array, temperature: float) -> svi.Statistics:  # noqa: ARG002 - as any model
        time.sleep(self.seconds_per_record * len(records))
        return params, np.array(len(records))


def _sleeping(number: Array, *, seconds: float) -> dict[str, Array]:
    time.sleep(seconds)
    return {"fingerprint": np.zeros((len(number), N_STATES, N_STATES), "float32")}


def _step_seconds(seconds: float) -> float:
    """The median over steps of 256 records a worker, their pieces being on the workers."""
    batch = N_WORKERS * BLOCK
    everyone = np.arange(2 * batch)
    array = da.from_array(np.zeros((2 * batch, 1)), chunks=(BLOCK, 1))
    records = Records(array, everyone, everyone[:0], np.dtype(float))
    stream = Minibatches(records, largest=batch, memory_limit=1e9, seed=0)
    params, model = np.zeros((SHAPE["n_frequencies"], N_PATTERNS)), Sleeping(seconds / BLOCK)
    times = []
    for _ in range(14):
        shares = stream.take(batch)
        times.append(_seconds(lambda: stream.statistics(shares, model, params, 1.0)))  # type: ignore[arg-type]  # noqa: B023
    stream.close()
    return float(np.mean(times[4:]))


def _map_seconds(seconds: float, n_tasks: int) -> float:
    number = da.arange(n_tasks * BLOCK, chunks=BLOCK)
    shape: Outputs = {"fingerprint": ((N_STATES, N_STATES), "float32")}
    lazy = map_records(_sleeping, [number], shape, seconds=seconds)["fingerprint"]
    counted: dict[str, Any] = {"chunks": (1,), "drop_axis": [1, 2], "dtype": np.int64, "meta": np.empty(0, np.int64)}
    written = da.map_blocks(_counted, lazy, **counted)
    tasks = {(written.name, i): BLOCK for i in range(n_tasks)}
    return _seconds(lambda: compute_followed(written, lambda *_, **__: None, tasks=tasks))


def _counted(block: Array) -> Array:
    return np.array([len(block)])


@contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """A full collection in the block would visit the objects of all 64 workers, a tenth of a second each time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def test_simulated_cluster_of_64_workers(figures: Figures) -> None:
    """One scheduler and 64 workers in this process, whose kernels sleep for as long as they take here."""
    kernels, n_tasks = Kernels.measured(), TASKS_PER_WORKER * N_WORKERS
    with dask.config.set(ONE_PROCESS), _cluster(N_WORKERS, processes=False, host=None, memory_limit=0):
        _map_seconds(0.0, N_WORKERS)
        with _old_objects_left_alone():
            step = _step_seconds(kernels.step)
        rounds = []
        for seconds in [kernels.fingerprint] * (ROUNDS - 1) + [0.0]:
            with _old_objects_left_alone():
                rounds.append(_map_seconds(seconds, n_tasks))
        *mapped, empty = rounds
    ideal = n_tasks / N_WORKERS * kernels.fingerprint
    figures.add(
        "64 workers: fit step, efficiency", kernels.step / step, "{:.0%}", at_least=0.80,
        detail=f"{kernels.step:.3f} s of kernel in {step:.3f} s, 256 records of 308 x 200 a worker",
    )  # fmt: skip
    figures.add(
        "64 workers: map stage, efficiency", ideal / min(mapped), "{:.0%}", at_least=0.95,
        detail=f"{ideal:.2f} s of kernel in {min(mapped):.2f} s, {n_tasks} tasks",
    )  # fmt: skip
    figures.add(
        "64 workers: scheduler and workers, µs a record", 1e6 * empty / (n_tasks * BLOCK), "{:.1f}", at_most=20,
        detail=f"{n_tasks} empty tasks of 256 records in {empty:.2f} s",
    )  # fmt: skip
    assert not figures.missed
