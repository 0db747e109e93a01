"""The study of repeating earthquakes, notebooks/repeaters.yaml as it is, on archives whose sequences are known."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import adjusted_rand_score

import specufex_dask as sx
from specufex_dask.config import run

if TYPE_CHECKING:
    from benchmarks.conftest import Figures

    from specufex_dask.study import Study

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

STUDY = Path(__file__).parents[2] / "notebooks" / "repeaters.yaml"


@dataclass(frozen=True)
class Truth:
    """The true sequence (event,), -1 for none, and the kind (event,) of each event."""

    sequence: Array
    kind: Array

    @classmethod
    def of(cls, path: str) -> Truth:
        """What `simulate` wrote."""
        with Path(path).open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return cls(np.array([int(row["sequence"]) for row in rows]), np.array([row["kind"] for row in rows]))

    def recovered(self, found: Array) -> float:
        """Share of the repeaters that are in a sequence `found` (event,) together with another one of their own."""
        repeater = self.sequence >= 0
        _, pair, size = np.unique(np.stack([found, self.sequence]), axis=1, return_inverse=True, return_counts=True)
        return float(((found >= 0) & (size[pair.ravel()] > 1))[repeater].mean())

    def accepted(self, found: Array, kind: str) -> float:
        """Share of the events of a kind that are in a sequence `found` (event,)."""
        return float((found >= 0)[self.kind == kind].mean())

    def agreement(self, found: Array) -> tuple[float, float]:
        """Adjusted Rand of the repeaters in a sequence `found` (event,); and of all events, those of none alone."""
        shared = (self.sequence >= 0) & (found >= 0)
        alone = -1 - np.arange(len(found))
        whole = [np.where(each >= 0, each, alone) for each in (self.sequence, found)]
        return float(adjusted_rand_score(self.sequence[shared], found[shared])), float(adjusted_rand_score(*whole))


@dataclass
class Clock:
    """Seconds of each stage, on the clock and of CPU."""

    stages: dict[str, Array]
    last: Array

    def __call__(self, stage: str, _dataset: object, _seconds: float) -> None:
        """Take note of what has passed since the last call."""
        now = np.array([time.perf_counter(), time.process_time()])
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self.last
        self.last = now


@pytest.mark.parametrize("seed", [1, 5, 6])
def test_sequences_are_found(seed: int, tmp_path: Path, figures: Figures, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole study finds what one station does not.

    One station is judged as the union is, by the settings of the section `candidates`: its own clusters are
    divided by its own correlations, in the median of P and S, validated with the same radii and magnitudes, and
    expanded. Two things cannot be asked of it: that two stations know a pair, so one is enough, and a relocation,
    which takes several; so it is spared the last validation, which the union has to pass. An event is recovered
    where another one of its true sequence is in the same sequence found.
    """
    made = sx.simulate(
        tmp_path / "archive", n_events=4000, n_stations=7, n_sequences=150, missing=0.05, contaminated=0.05, seed=seed
    )
    monkeypatch.setenv("SPECUFEX_DASK_REPEATERS", made.folder)
    here = [f"store={tmp_path}/s.zarr", f"report={tmp_path}/s.html", f"relocation.folder={tmp_path}/hypodd"]
    begun = np.array([time.perf_counter(), time.process_time()])
    clock = Clock({}, begun)
    study = run(STUDY, overrides=here, announce=clock)
    clock("report", None, 0.0)
    seconds, cpu = clock.last - begun
    for stage, (wall, used) in clock.stages.items():
        print(f"{stage:14s} {wall:6.1f} s, {used:6.1f} s of CPU")
    truth, found = Truth.of(made.truth), sx.load(study.store, "repeaters")["sequence"].values
    others = ", ".join(f"{truth.accepted(found, kind):.2%} of {kind}" for kind in ("near", "single"))
    n_found = f"{(truth.sequence >= 0).sum()} in 150 sequences, {found.max() + 1} found"
    shared, whole = truth.agreement(found)
    alone = [truth.recovered(each) for each in _alone(study)]
    stations = ", ".join(f"{each:.2f}" for each in alone)
    figures.add(f"seed {seed}: recovered by the union", truth.recovered(found), "{:.4f}", at_least=0.98, detail=n_found)
    figures.add("… adjusted Rand, of repeaters found", shared, "{:.3f}", at_least=0.90)
    figures.add("… adjusted Rand, of all events", whole, "{:.3f}", at_least=0.90)
    figures.add("… impostors accepted", truth.accepted(found, "impostor"), "{:.2%}", at_most=0.02, detail=others)
    figures.add("… recovered by one station, least", min(alone), "{:.3f}", at_least=0.4, detail=stations)
    figures.add("… recovered by one station, most", max(alone), "{:.3f}", at_most=0.85)
    figures.add("… the study", seconds, "{:.0f} s", at_most=300, detail=f"{cpu:.0f} s of CPU")
    assert not figures.missed


def _alone(study: Study) -> list[Array]:
    """The sequence (event,) of each event that each station finds by itself."""
    catalog = sx.load(study.store, "catalog").compute()
    phases = [sx.load(study.store, "correlations", group=phase).compute() for phase in ("P", "S")]
    measured = xr.concat(phases, "record", combine_attrs="override")
    settings = study.arguments["candidates"] | {"min_correlated_stations": 1}
    names = measured["station_id"].values
    found = []
    for name in dict.fromkeys(names.tolist()):
        clusters = sx.load(study.store, "clusters", group=name).compute()
        own = measured.isel(record=np.flatnonzero(names == name))
        found.append(sx.find_repeaters(clusters, catalog, correlations=own, **settings)["sequence"].values)
    return found
