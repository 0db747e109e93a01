"""Importing the package costs little more than importing what it stands on."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from benchmarks.conftest import Figures

FOUNDATION = "xarray, dask.array, numba, zarr"
ROUNDS = 7


def _seconds(modules: str) -> float:
    program = f"import time; start = time.perf_counter(); import {modules}; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.benchmark
def test_import_time(figures: Figures) -> None:
    """The fastest of several, taken in turns, so that a busy machine slows both alike."""
    pairs = [(_seconds(FOUNDATION), _seconds("specufex_dask")) for _ in range(ROUNDS)]
    foundation, package = (min(times) for times in zip(*pairs, strict=True))
    figures.add(
        f"import specufex_dask, times importing {FOUNDATION}", package / foundation, at_most=1.2,
        detail=f"{package:.2f} s / {foundation:.2f} s",
    )  # fmt: skip
    assert not figures.missed
