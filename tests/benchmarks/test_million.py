"""A million records of 61 x 51 from simulation to fingerprints, on this machine: `make bench-million`.

Each part runs in a process of its own, which tells its time and its largest memory.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchmarks.conftest import Figures

pytestmark = [pytest.mark.benchmark, pytest.mark.million, pytest.mark.timeout(3600)]

SMALL, LARGE = 100_000, 1_000_000
_PART = "from benchmarks.test_million import part; import sys; part(*sys.argv[1:])"


def part(name: str, store: str, n_records: str) -> None:
    """Run one part and print its seconds, its memory [GiB] and what else is to be known, as JSON."""
    import resource

    import families

    import specufex_dask as sx

    start = time.perf_counter()
    about: dict[str, Any] = {}
    if name == "simulation":
        sx.save(families.spectrograms(int(n_records)), store)
    elif name == "fit":
        spectrograms = sx.load(store, "spectrograms")
        nmf = sx.save(sx.fit_nmf(spectrograms, seed=0, checkpoint=store), store)
        activations = sx.compute_activations(spectrograms, nmf)
        hmm = sx.save(sx.fit_hmm(activations, nmf, seed=0, checkpoint=store), store)
        about = {
            f"{model.attrs['stage']} {key}": value
            for model in (nmf, hmm)
            for key, value in (("stopped", model.attrs["stopped"]), ("steps", model.sizes["step"]))
        }
    else:
        stages = [sx.load(store, stage) for stage in ("spectrograms", "nmf", "hmm")]
        fingerprints = sx.save(sx.compute_fingerprints(*stages), store)
        quality = fingerprints["quality"].values
        about = {"usable": int((quality == 0).sum()), "flagged": int((quality != 0).sum())}
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "peak": peak, **about}))


def _run(name: str, store: Path, n_records: int) -> dict[str, Any]:
    command = [sys.executable, "-c", _PART, name, str(store), str(n_records)]
    here, root = Path(__file__).parents[1], Path(__file__).parents[2]
    environment = {"PYTHONPATH": f"{here}:{root}", "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], dict[str, Any]]:
    """All parts at both sizes; what a store held goes before the next one comes."""
    found = {}
    for n_records in (SMALL, LARGE):
        store = tmp_path_factory.mktemp("million") / "s.zarr"
        for name in ("simulation", "fit", "fingerprints"):
            found[name, n_records] = _run(name, store, n_records)
        shutil.rmtree(store.parent)
    return found


def test_a_million_records(measured: dict[tuple[str, int], dict[str, Any]], figures: Figures) -> None:
    fit, fingerprints, simulation = (measured[name, LARGE] for name in ("fit", "fingerprints", "simulation"))
    minutes = {name: measured[name, LARGE]["seconds"] / 60 for name in ("simulation", "fit", "fingerprints")}
    stopped = ", ".join(
        f"{stage} {fit[f'{stage} stopped']}, {fit[f'{stage} steps']:,} steps" for stage in ("nmf", "hmm")
    )
    together = minutes["fit"] + minutes["fingerprints"]
    figures.add("10⁶ records: both fits and fingerprints, minutes", together, "{:.1f}", at_most=25, detail=stopped)
    rate = LARGE / fingerprints["seconds"]
    figures.add(
        "10⁶ records: fingerprints, minutes", minutes["fingerprints"], "{:.1f}", at_most=10,
        detail=f"{rate:,.0f} records a second",
    )  # fmt: skip
    figures.add("10⁶ records: both fits, minutes", minutes["fit"], "{:.1f}", detail=f"{fit['peak']:.1f} GiB")
    figures.add(
        "10⁶ records: simulation, minutes", minutes["simulation"], "{:.1f}", detail=f"{simulation['peak']:.1f} GiB"
    )
    peak = max(found["peak"] for found in measured.values())
    figures.add("10⁶ records: largest memory of a process, GiB", peak, "{:.2f}", at_most=3)
    ratio = fingerprints["seconds"] / measured["fingerprints", SMALL]["seconds"]
    figures.add("fingerprints: time for 10⁶ / 10⁵ records", ratio, "{:.1f} ×", at_most=10.5)
    figures.add("both fits: time for 10⁶ / 10⁵ records", fit["seconds"] / measured["fit", SMALL]["seconds"], "{:.2f} ×")
    assert fingerprints["usable"] + fingerprints["flagged"] == LARGE
    assert fingerprints["flagged"] == LARGE // 1000
    assert not figures.missed
