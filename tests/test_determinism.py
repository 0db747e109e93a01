"""Same seed, same bits: on any scheduler, any number of workers, after a kill, in any chunks of the block's size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import draws
import families
import pytest
import xarray as xr
from processes import cluster

import specufex_dask as sx
from specufex_dask import checkpoints, fits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N_RECORDS = 1500
SHAPE: dict[str, Any] = {"n_frequencies": 24, "n_time": 20, "chunk": 64}
NMF: dict[str, Any] = {"n_patterns": 12, "seed": 0, "batch_size": 128, "max_steps": 3270, "memory_limit": 1e6}
HMM: dict[str, Any] = {"n_states": 6, "seed": 0, "batch_size": 128, "max_steps": 3080, "n_init": 2, "memory_limit": 2e5}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    store = tmp_path_factory.mktemp("stored") / "s.zarr"
    return sx.save(families.spectrograms(N_RECORDS, **SHAPE), store)


def _chain(spectrograms: xr.Dataset, store: Path) -> dict[str, bytes]:
    """Fit with streamed minibatches, decode and cluster, all saved; the bytes of the store."""
    nmf = sx.save(sx.fit_nmf(spectrograms, **NMF, checkpoint=store), store)
    hmm = sx.save(sx.fit_hmm(sx.compute_activations(spectrograms, nmf), nmf, **HMM, checkpoint=store), store)
    assert nmf["history_batch"].max() > fits.ALL_IN_SAMPLE
    assert hmm["history_batch"].max() > fits.ALL_IN_SAMPLE
    fingerprints = sx.save(sx.compute_fingerprints(spectrograms, nmf, hmm), store)
    sx.save(sx.cluster_fingerprints(fingerprints, n_clusters=[2, 8], seed=0), store)
    return draws.files_of(store)


@pytest.fixture(scope="module")
def unbroken(stored: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return _chain(stored, tmp_path_factory.mktemp("threads") / "s.zarr")


@pytest.mark.slow
@pytest.mark.parametrize(("scheduler", "n_threads"), [("synchronous", 1), ("threads", 1), ("threads", 5)])
def test_schedulers_give_the_same_bytes(
    stored: xr.Dataset, unbroken: dict[str, bytes], tmp_path: Path, scheduler: str, n_threads: int
) -> None:
    with dask.config.set(scheduler=scheduler, num_workers=n_threads):
        assert _chain(stored, tmp_path / "s.zarr") == unbroken


@pytest.mark.slow
@pytest.mark.parametrize(("n_workers", "n_threads"), [(1, 1), (2, 1), (4, 1), (1, 2)])
def test_workers_give_the_same_bytes(
    stored: xr.Dataset, unbroken: dict[str, bytes], tmp_path: Path, n_workers: int, n_threads: int
) -> None:
    with cluster(n_workers, threads_per_worker=n_threads):
        assert _chain(stored, tmp_path / "s.zarr") == unbroken


class BrokenOffError(Exception):
    """The power went off."""


@pytest.fixture
def broken_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Steps at which the next checkpoint written is the last thing that a fit does; every state is stored."""
    steps: list[int] = []
    write = checkpoints.Checkpoint.write

    def written(self: Any, states: list[Any], *about: Any) -> None:
        write(self, states, *about)
        if steps and states[0].history.number >= steps[0]:
            steps.pop(0)
            raise BrokenOffError

    monkeypatch.setattr(checkpoints, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints.Checkpoint, "write", written)
    yield steps
    assert not steps, "each break came"


def test_a_broken_fit_goes_on_to_the_same_bits(stored: xr.Dataset, broken_at: list[int], tmp_path: Path) -> None:
    """Broken off among small steps, among large ones, and twice; each time the next call goes on where it was."""
    nmf = sx.fit_nmf(stored, **NMF)
    loudness = sx.compute_activations(stored, nmf)
    hmm = sx.fit_hmm(loudness, nmf, **HMM)
    for fit, arguments, parameters, expected in (
        (sx.fit_nmf, (stored,), NMF, nmf),
        (sx.fit_hmm, (loudness, nmf), HMM, hmm),
    ):
        broken_at += [1200, 2971, 3060 if fit is sx.fit_hmm else 3262]
        for _ in range(3):
            with pytest.raises(BrokenOffError):
                fit(*arguments, **parameters, checkpoint=tmp_path / "s.zarr")
        xr.testing.assert_identical(fit(*arguments, **parameters, checkpoint=tmp_path / "s.zarr"), expected)


def test_a_checkpoint_of_another_recipe_is_not_used(stored: xr.Dataset, broken_at: list[int], tmp_path: Path) -> None:
    broken_at.append(400)
    with pytest.raises(BrokenOffError):
        sx.fit_nmf(stored, **NMF, checkpoint=tmp_path / "s.zarr")
    other = NMF | {"seed": 1, "max_steps": 600}
    xr.testing.assert_identical(
        sx.fit_nmf(stored, **other, checkpoint=tmp_path / "s.zarr"), sx.fit_nmf(stored, **other)
    )


def test_chunks_of_the_fit_are_part_of_it_and_those_of_the_workers_are_not(stored: xr.Dataset) -> None:
    """What fits in memory is drawn alike whatever its chunks, unless minibatches stream."""
    small = NMF | {"batch_size": 16, "max_steps": 300, "memory_limit": 1e9}
    first = sx.fit_nmf(stored, **small)
    again = sx.fit_nmf(stored.chunk(record=160), **small)
    assert (first["dictionary"].values == again["dictionary"].values).all()


@pytest.mark.parametrize("n_more", [40, None])
def test_a_fit_goes_on_with_new_records(stored: xr.Dataset, n_more: int | None) -> None:
    """The model of the first half goes on with the second, and explains it better than before."""
    old, new = (stored.isel(record=half).chunk(record=64) for half in (slice(0, 750), slice(750, None)))
    short = NMF | {"batch_size": 16, "max_steps": 600, "tol": None}
    first = sx.fit_nmf(old, **short)
    second = sx.fit_nmf(new, **(short | {"max_steps": n_more}), start=first)
    n_steps = 600 + (n_more or 250)
    assert second["history_step"].values.tolist() == list(range(1, n_steps + 1))
    assert (second["history_score"].values[:600] == first["history_score"].values)[:600:200].sum() == 0  # NaN there
    assert second["history_step_size"].values[600] < first["history_step_size"].values[0]
    activations = sx.compute_activations(new, second)
    hmm_first = sx.fit_hmm(activations, second, **(HMM | {"batch_size": 32, "max_steps": 300}))
    hmm = sx.fit_hmm(activations, second, **(HMM | {"batch_size": 32, "max_steps": n_more}), start=hmm_first)
    assert hmm.sizes["step"] == 300 + (n_more or 250)
    assert hmm.attrs["recipe_id"] != hmm_first.attrs["recipe_id"]
    assert (abs(hmm["emission"] - hmm_first["emission"]) > 0).any()


def test_a_fit_goes_on_only_with_what_belongs_to_it(stored: xr.Dataset) -> None:
    short = NMF | {"batch_size": 16, "max_steps": 60}
    nmf, other = sx.fit_nmf(stored, **short), sx.fit_nmf(stored, **(short | {"seed": 1}))
    elsewhere = families.spectrograms(100, n_frequencies=12, n_time=20, chunk=64)
    with pytest.raises(ValueError, match="expected those of the model"):
        sx.fit_nmf(elsewhere, **short, start=nmf)
    hmm = sx.fit_hmm(sx.compute_activations(stored, nmf), nmf, **(HMM | {"max_steps": 60}))
    with pytest.raises(ValueError, match=r"got an HMM of \d+ patterns that was made with another NMF model"):
        sx.fit_hmm(sx.compute_activations(stored, other), other, **(HMM | {"max_steps": 60}), start=hmm)
