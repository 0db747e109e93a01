"""Importing the package costs little more than importing what it stands on."""

from __future__ import annotations

import subprocess
import sys

import pytest

FOUNDATION = "xarray, dask.array, numba, zarr"
ROUNDS = 7


def _seconds(modules: str) -> float:
    program = f"import time; start = time.perf_counter(); import {modules}; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.benchmark
def test_import_time() -> None:
    """The fastest of several, taken in turns, so that a busy machine slows both alike."""
    pairs = [(_seconds(FOUNDATION), _seconds("specufex_dask")) for _ in range(ROUNDS)]
    foundation, package = (min(times) for times in zip(*pairs, strict=True))
    print(f"\nimport {FOUNDATION}: {foundation:.3f} s; import specufex_dask: {package:.3f} s; ", end="")
    print(f"ratio {package / foundation:.2f}, at most 1.2")
    assert package <= 1.2 * foundation
