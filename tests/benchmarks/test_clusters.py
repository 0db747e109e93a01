"""Clustering and merging at size, and the eight-station study of the Gorner icequakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import adjusted_rand_score

import specufex_dask as sx
from specufex_dask import hierarchy
from specufex_dask.recipe import stamp
from specufex_dask.vectors import Vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.conftest import Figures

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

MILLION = 1_000_000
_PART = "from benchmarks.test_clusters import part; import sys; part(*sys.argv[1:])"


def fingerprints(n_records: int, n_states: int = 15, chunk: int = 256) -> xr.Dataset:
    """Lazy fingerprints of eight families of unequal sizes."""
    import dask.array as da

    rng = np.random.default_rng(0)
    centres = rng.gamma(0.3, 1.0, (8, n_states, n_states))
    centres /= centres.sum(axis=(1, 2), keepdims=True)

    def drawn(block_info: Any = None) -> Array:
        (place, _, _), shape = block_info[None]["chunk-location"], block_info[None]["chunk-shape"]
        rng = np.random.default_rng([1, place])
        family = rng.choice(8, shape[0], p=np.arange(8, 0, -1) / 36)
        vectors: Array = np.abs(centres[family] + 0.01 * rng.standard_normal(shape)).astype("float32")
        return vectors

    sizes = np.diff([*range(0, n_records, chunk), n_records])
    array = da.map_blocks(
        drawn, chunks=(tuple(map(int, sizes)), (n_states,), (n_states,)), dtype="f4", meta=np.empty((0, 0, 0), "f4")
    )
    square, one = ("record", "state", "next_state"), np.full(n_records, "XX.A..Z", dtype=object)
    dataset = xr.Dataset(
        {
            "fingerprint": (square, array), "transition": (square, da.zeros_like(array)),
            "state_sequence": (("record", "time"), da.zeros((n_records, 2), chunks=(array.chunks[0], 2), dtype="i1")),
            "quality": ("record", np.zeros(n_records, "i1")),
        },
        coords={
            "event_id": ("record", np.arange(n_records).astype(str).astype(object)), "station_id": ("record", one),
            "start_time": ("record", np.datetime64("2020-01-01", "ns") + np.arange(n_records)), "time": np.arange(2.0),
        },
    )  # fmt: skip
    return stamp(dataset, "fingerprints", {}, content=str(n_records))


def labels_of_stations(n_events: int, n_stations: int, n_clusters: int) -> Iterator[xr.Dataset]:
    """Clusters of families of about five events and of events of no family; a fifth of the labels are wrong."""
    rng = np.random.default_rng(0)
    family = np.where(rng.random(n_events) < 0.5, rng.integers(n_events // 10, size=n_events), -1)
    ids = np.char.add("e", np.arange(n_events).astype(str)).astype(object)
    for number in range(n_stations):
        label = rng.integers(n_clusters, size=n_events // 10 + 1)[family]
        label = np.where((family < 0) | (rng.random(n_events) < 0.2), rng.integers(n_clusters, size=n_events), label)
        seen = np.flatnonzero(rng.random(n_events) > 0.05)
        label = label[seen].astype("int32")
        found = xr.Dataset(
            {
                "cluster": ("record", label), "labels": (("n_clusters", "record"), label[None]),
                "distance": ("record", rng.random(len(seen))), "silhouette": ("record", np.zeros(len(seen))),
                "mean_silhouette": ("n_clusters", np.zeros(1)), "quality": ("record", np.zeros(len(seen), "i1")),
                "centroid": (("cluster_id", "state", "next_state"), np.zeros((n_clusters, 1, 1))),
            },
            coords={
                "event_id": ("record", ids[seen]),
                "station_id": ("record", np.full(len(seen), f"XX.{number}..Z", object)),
                "start_time": ("record", np.full(len(seen), np.datetime64("2020-01-01", "ns"))),
                "n_clusters": [n_clusters],
            },
        )  # fmt: skip
        yield stamp(found, "clusters", {}, content=str(number))


def catalog_of(n_events: int) -> xr.Dataset:
    """A catalogue of that many events at one place."""
    ids = np.char.add("e", np.arange(n_events).astype(str)).astype(object)
    places = dict.fromkeys(("latitude", "longitude", "depth", "magnitude"), ("event", np.zeros(n_events)))
    times = ("event", np.full(n_events, np.datetime64("2020-01-01", "ns")))
    return stamp(
        xr.Dataset(places | {"origin_time": times}, coords={"event_id": ("event", ids)}), "catalog", {}, content="-"
    )


def part(name: str, store: str, n_records: str) -> None:
    """Run one part; print its seconds, its memory [GiB] and what else is to be known, as JSON."""
    import resource

    about: dict[str, Any] = {}
    if name == "merge":
        stations, catalog = list(labels_of_stations(int(n_records), 10, 2000)), catalog_of(int(n_records))
    start, cpu = time.perf_counter(), time.process_time()
    if name == "simulation":
        sx.save(fingerprints(int(n_records)), store)
    elif name == "clusters":
        found = sx.cluster_fingerprints(sx.load(store, "fingerprints"), n_clusters=8, seed=0)
        about = {"sizes": np.bincount(found["cluster"]).tolist(), "silhouette": float(found["mean_silhouette"][0])}
    else:
        events = sx.merge_stations(stations, catalog, min_stations=4)
        about = {"families": int(events["cluster"].max()) + 1, "merged": int((events["cluster"] >= 0).sum())}
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, **about}))


def _run(name: str, store: Path, n_records: int) -> dict[str, Any]:
    here, root = Path(__file__).parents[1], Path(__file__).parents[2]
    environment = {"PYTHONPATH": f"{here}:{root}", "PATH": os.environ["PATH"], "HOME": str(Path.home())}
    command = [sys.executable, "-c", _PART, name, str(store), str(n_records)]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def test_a_million_fingerprints(tmp_path: Path, figures: Figures) -> None:
    store = tmp_path / "s.zarr"
    _run("simulation", store, MILLION)
    found = _run("clusters", store, MILLION)
    detail = f"{found['cpu']:.0f} s of CPU, silhouette {found['silhouette']:.3f}"
    figures.add("10⁶ × 225 from Zarr, K = 8", found["seconds"], "{:.0f} s", at_most=180, detail=detail)
    figures.add("10⁶ × 225 from Zarr, K = 8: memory", found["peak"], "{:.2f} GiB", at_most=3)
    shares = np.array(found["sizes"]) / MILLION
    np.testing.assert_allclose(shares, np.arange(8, 0, -1) / 36, atol=2e-3)
    assert not figures.missed


def test_a_million_events_of_ten_stations_are_merged(tmp_path: Path, figures: Figures) -> None:
    found = _run("merge", tmp_path, MILLION)
    detail = f"{found['cpu']:.0f} s of CPU, {found['families']:,} families of {found['merged']:,} events"
    figures.add("merge of 10⁶ events × 10 stations", found["seconds"], "{:.0f} s", at_most=180, detail=detail)
    figures.add("merge of 10⁶ events × 10 stations: memory", found["peak"], "{:.2f} GiB", at_most=4)
    assert not figures.missed


def test_two_stages_of_ward(figures: Figures) -> None:
    """10,000 records of 20 families, cut at 20: exact, and by 3,000 micro-clusters as of more than 30,000 records."""
    rng = np.random.default_rng(0)
    family = rng.choice(20, 10_000, p=rng.dirichlet(np.full(20, 2.0)))
    centres = 0.12 * rng.normal(size=(20, 225))
    vectors = Vectors((centres[family] + 0.25 * rng.normal(size=(10_000, 225))).astype("float32"))
    labels, seconds = [], []
    for exact in (hierarchy.EXACT, 1000):
        start = time.process_time()
        labels.append(hierarchy.hierarchy(vectors, "ward", seed=0, most_clusters=20, exact=exact).cut(20)[0])
        seconds.append(time.process_time() - start)
    detail = f"against the truth {adjusted_rand_score(family, labels[1]):.3f}, exact {seconds[0]:.0f} s of CPU"
    figures.add(
        "Ward in two stages against one: adjusted Rand",
        adjusted_rand_score(*labels),
        "{:.3f}",
        at_least=0.9,
        detail=detail,
    )
    assert not figures.missed
