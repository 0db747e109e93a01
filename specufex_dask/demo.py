"""A study in a minute: simulate earthquakes of known families, run the chain, compare."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import specufex_dask
from specufex_dask.config import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from specufex_dask.config import Announce
    from specufex_dask.simulate import Simulation

_STUDY = """\
# Written by `specufex-dask demo`; change it and say `specufex-dask run study.yaml --overwrite`.
store: study.zarr
report: report.html
seed: {seed}

catalog: data/catalog.xml
stations: data/stations.xml
picks: data/catalog.xml

waveforms:
  archive: data/waveforms/{{event_id}}.mseed
  station_id: [{station_id}] # the nearest
  sampling_rate: {sampling_rate} # Hz
  anchor: S
  window: [0.0, 5.0] # s after the pick

spectrograms:
  window_length: 0.64 # s
  overlap: 0.75 # of the window
  nfft: 256
  band: [2.0, 40.0] # Hz

nmf:
  n_patterns: 30 # to start with; the data prune them

hmm:
  n_states: 10

clusters:
  n_clusters: [2, 3, 4, 5, 6] # the best mean silhouette decides
"""


def demo(path: Path, *, n_events: int, seed: int, announce: Announce, tell: Callable[[str, str, float], None]) -> float:
    """Simulate `n_events` in the folder `path`, run the study, and return how well the families were found.

    That is the adjusted Rand index of the records' clusters and the families of their events: 1
    for the same partition, 0 for what chance gives. `announce` gets each stage, `tell` a title, a
    text and seconds.
    """
    start = time.perf_counter()
    made = specufex_dask.simulate(path / "data", n_events=n_events, seed=seed, overwrite=True)
    tell("simulate", f"{n_events:,} events in {made.folder}", time.perf_counter() - start)
    file = path / "study.yaml"
    nearest = str(specufex_dask.read_stations(made.stations)["station_id"].values[0])
    text = _STUDY.format(seed=seed, sampling_rate=made.sampling_rate, station_id=nearest)
    file.write_text(text, encoding="utf-8")
    start = time.perf_counter()
    study = run(file, overwrite=True, announce=announce)
    tell("report", f"{study.report}, the whole run", time.perf_counter() - start)
    start = time.perf_counter()
    index = _rand_index(study.store, made)
    tell("truth", f"adjusted Rand index of clusters and simulated families {index:.2f}", time.perf_counter() - start)
    return index


def _rand_index(store: str, made: Simulation) -> float:
    import pandas as pd
    from sklearn.metrics import adjusted_rand_score

    clusters = specufex_dask.load(store, "clusters")
    usable = clusters["quality"].values == 0
    family = pd.read_csv(made.truth, dtype={"event_id": str}).set_index("event_id")["family"]
    truth = family.loc[[str(event) for event in clusters["event_id"].values[usable]]]
    return float(adjusted_rand_score(truth.to_numpy(), clusters["cluster"].values[usable]))
