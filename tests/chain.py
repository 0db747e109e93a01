"""A run from spectrograms to clusters, as a program of its own that may be killed at any moment."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import draws
import families
import numpy as np
from distributed import WorkerPlugin
from processes import cluster

import specufex_dask as sx
from specufex_dask import checkpoints, fits
from specufex_dask.schema import QUALITY
from specufex_dask.status import StageStatus, status

PROGRAM = "import sys, chain; chain.main(sys.argv[1], n_records=int(sys.argv[2]), n_workers=int(sys.argv[3]))"
CHUNK, LARGE_CHUNK = 64, 256
NMF: dict[str, Any] = {"n_patterns": 12, "seed": 0, "memory_limit": 2e6}
HMM: dict[str, Any] = {"n_states": 5, "seed": 0, "batch_size": 128, "max_steps": 3070, "n_init": 2, "memory_limit": 1e6}
STAGES = ("spectrograms", "first/nmf", "nmf", "hmm", "fingerprints", "clusters")


def records(n_records: int, *, chunk: int = CHUNK) -> Any:
    """Spectrograms of families, every thousandth flagged, drawn while they are saved."""
    return families.spectrograms(n_records, n_frequencies=24, n_time=20, chunk=chunk)


def fit_nmf(spectrograms: Any, first: Any, store: str | Path) -> Any:
    """Forty large steps, whose records stream, after all the small ones of the model `first`."""
    return sx.fit_nmf(spectrograms, **NMF, batch_size=128, max_steps=40, start=first, checkpoint=store)


def fit_hmm(spectrograms: Any, nmf: Any, store: str | Path) -> Any:
    """Small steps from two starts, and some that stream."""
    return sx.fit_hmm(sx.compute_activations(spectrograms, nmf), nmf, **HMM, checkpoint=store)


def run(store: str | Path, *, n_records: int, chunk: int = CHUNK) -> None:
    """All stages from spectrograms on, each saved to `store`, where the fits have their checkpoints too."""
    spectrograms = sx.save(records(n_records, chunk=chunk), store)
    first = sx.fit_nmf(spectrograms, **NMF, batch_size=64, max_steps=3250, checkpoint=store, group="first")
    first = sx.save(first, store, group="first")
    nmf = sx.save(fit_nmf(spectrograms, first, store), store)
    hmm = sx.save(fit_hmm(spectrograms, nmf, store), store)
    assert min(model["history_batch"].max() for model in (nmf, hmm)) > fits.ALL_IN_SAMPLE, "their last steps stream"
    fingerprints = sx.save(sx.compute_fingerprints(spectrograms, nmf, hmm), store)
    sx.save(sx.cluster_fingerprints(fingerprints, n_clusters=[8], n_init=2, seed=0, checkpoint=str(store)), store)


def main(store: str, *, n_records: int, n_workers: int) -> None:
    """Run on a cluster of so many workers, or on threads for 0; print the beginning, what fits say, and the end."""
    chatter = logging.StreamHandler(sys.stdout)
    logging.getLogger("specufex_dask").addHandler(chatter)
    logging.getLogger("specufex_dask").setLevel(logging.INFO)
    checkpoints.EVERY_SECONDS = 0.2
    with cluster(n_workers) if n_workers else nullcontext() as client:
        if client is not None and "://" not in store:
            client.register_plugin(_Present(Path(f"{store}.workers")))
        print("ready", flush=True)
        run(store, n_records=n_records, chunk=LARGE_CHUNK if n_records > 10_000 else CHUNK)
    print("done", flush=True)


def n_written(store: Path, stage: str) -> int:
    """Shards of `stage` that are done."""
    return sum(path.suffix != ".partial" for path in store.glob(f"{stage}/quality/c/*"))


def step(store: Path, stage: str) -> int:
    """The step at which the last checkpoint of a fit stands, 0 without one."""
    if not store.with_name(f"{store.name}.run").exists():
        return 0
    return next((found.fit.step for found in _status(store) if found.path == stage and found.fit), 0)


def reached(store: Path, *, n_shards: int) -> tuple[int, float]:
    """The number of stages that are whole, and how much of the next one is done, from 0 to 1."""
    found = {stage.path: stage for stage in _status(store)}
    n_whole = next((i for i, name in enumerate(STAGES) if name not in found or found[name].state != "whole"), 6)
    name = STAGES[n_whole] if n_whole < len(STAGES) else ""
    if name not in found:
        return n_whole, 0.0
    fit, begun = found[name].fit, 3250 if name == "nmf" else 0
    return n_whole, (fit.step - begun) / (fit.max_steps - begun) if fit else n_written(store, name) / n_shards


def _status(store: Path) -> list[StageStatus]:
    try:
        return status(store).stages
    except ValueError:  # there is nothing yet
        return []


def assert_complete(store: Path, expected: dict[str, bytes], *, n_records: int) -> None:
    """The store has the bytes of an unbroken run, and each record that went in once, in order, usable or flagged."""
    assert draws.files_of(store) == expected
    given = records(n_records)
    for stage in ("spectrograms", "fingerprints", "clusters"):
        found = sx.load(store, stage)
        assert found["event_id"].values.tolist() == given["event_id"].values.tolist()
        flags = np.bincount(found["quality"].values, minlength=len(QUALITY))
        assert flags[0] + flags[1:].sum() == n_records
        assert flags[QUALITY.index("too_quiet")] == flags[1:].sum() == n_records // 1000


class _Present(WorkerPlugin):
    """A plugin of the workers: each leaves its process id in a folder once it is one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def setup(self, worker: object) -> None:  # noqa: ARG002 - as distributed calls it
        self._folder.mkdir(exist_ok=True)
        (self._folder / str(os.getpid())).touch()
