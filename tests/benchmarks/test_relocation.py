"""Relocations against those that HypoDD left, against the truth, and what their errors are worth."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from relocated import MODEL, implied_errors, relative_error, shifted_apart, swarm

from specufex_dask.hypodd import read_hypodd, run_hypodd, write_hypodd
from specufex_dask.hypodd_pairs import Pairing
from specufex_dask.hypodd_settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.conftest import Figures

Array = np.ndarray[Any, np.dtype[Any]]

N_SWARMS = 20

pytestmark = pytest.mark.benchmark


def test_example_3_is_that_of_hypodd(data_dir: Path, tmp_path: Path, figures: Figures) -> None:
    for path in (data_dir / "relocation/example3").iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    theirs = read_hypodd(tmp_path / "hypoDD.reloc")
    seconds, wall = time.process_time(), time.perf_counter()
    ours = run_hypodd(tmp_path, external=False, seed=0)
    seconds, wall = time.process_time() - seconds, time.perf_counter() - wall
    apart = np.abs(shifted_apart(ours, theirs))
    across = np.hypot(apart[:, 0], apart[:, 1])
    shown = f"90 % {np.quantile(across, 0.9):.0f} m across, {np.quantile(apart[:, 2], 0.9):.0f} m in depth"
    figures.add("relocation, example3 against HypoDD, across, m", float(np.median(across)), at_most=15, detail=shown)
    figures.add("relocation, example3 against HypoDD, depth, m", float(np.median(apart[:, 2])), at_most=25)
    figures.add("relocation, example3, processor s", seconds, at_most=60, detail=f"wall {wall:.1f} s")
    assert ours.cluster.values.tolist() == [0] * 517
    assert not figures.missed


@pytest.mark.parametrize("correlated", [True, False], ids=["correlations", "picks"])
@pytest.mark.parametrize("svd", [True, False], ids=["svd", "lsmr"])
def test_errors_cover_the_truth(tmp_path: Path, figures: Figures, *, correlated: bool, svd: bool) -> None:
    errors, told, implied = (
        np.concatenate(each)
        for each in zip(*(_trial(tmp_path, seed, correlated, svd) for seed in range(N_SWARMS)), strict=True)
    )
    kind = f"{'correlations' if correlated else 'picks'}, {'SVD' if svd else 'LSMR'}"
    ratio = float(np.median(np.linalg.norm(errors, axis=1)) / np.median(np.linalg.norm(implied, axis=1)))
    share = float((np.abs(errors) < 1.96 * told).mean())
    figures.add(f"relocation, {kind}: error / implied by the noise", ratio, at_most=3)
    detail = f"{errors.size} trials"
    figures.add(f"relocation, {kind}: truth within 95 %", share, "{:.3f}", at_least=0.90, detail=detail)
    figures.add(f"relocation, {kind}: truth within 95 %", share, "{:.3f}", at_most=0.98, detail=detail)
    assert errors.size >= 1000
    assert not figures.missed


def _trial(folder: Path, seed: int, correlated: bool, svd: bool) -> tuple[Array, Array, Array]:  # noqa: FBT001
    """Errors of one swarm, those told and those implied by its noise, all (event, 3) [m]."""
    made = swarm(seed, correlated=correlated)
    written = write_hypodd(
        made.catalog, made.stations, made.picks, folder / str(seed), settings=Settings(MODEL, svd=svd),
        pairing=Pairing(max_neighbors=30), correlations=made.correlations if correlated else None,
    )  # fmt: skip
    found = run_hypodd(written, external=False, seed=seed)
    told = np.stack([found[f"error_{axis}"].values for axis in "xyz"], axis=1)
    return relative_error(made, found), told, implied_errors(made, correlated=correlated) * 1000
