"""The same code under a Dask cluster of processes: an active Client takes over, and the bits stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from processes import cluster

import specufex_dask as sx

if TYPE_CHECKING:
    from pathlib import Path


def _chain(spectrograms: xr.Dataset, store: Path) -> list[xr.Dataset]:
    nmf = sx.fit_nmf(spectrograms, n_patterns=6, seed=0, max_steps=2600)
    hmm = sx.fit_hmm(sx.compute_activations(spectrograms, nmf), nmf, n_states=4, seed=0, n_init=2, max_steps=300)
    fingerprints = sx.save(sx.compute_fingerprints(spectrograms, nmf, hmm), store)
    return [nmf, hmm, fingerprints.load(), sx.cluster_fingerprints(fingerprints, n_clusters=[2, 3], seed=0)]


def test_cluster_of_processes_gives_the_bits_of_the_threads(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).gamma(0.5, 8.0, (100, 12, 20)).astype("float32")
    whole = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    spectrograms = sx.save(whole.chunk(record=32), tmp_path / "spectrograms.zarr")
    threaded = _chain(spectrograms, tmp_path / "threads.zarr")
    with cluster():
        distributed = _chain(spectrograms, tmp_path / "cluster.zarr")
    for ours, theirs in zip(threaded, distributed, strict=True):
        xr.testing.assert_identical(ours, theirs)
    files = sorted(path.relative_to(tmp_path / "threads.zarr") for path in (tmp_path / "threads.zarr").rglob("*"))
    assert files == sorted(
        path.relative_to(tmp_path / "cluster.zarr") for path in (tmp_path / "cluster.zarr").rglob("*")
    )
    for name in files:
        if (tmp_path / "threads.zarr" / name).is_file():
            assert (tmp_path / "threads.zarr" / name).read_bytes() == (tmp_path / "cluster.zarr" / name).read_bytes()
