"""The eight stations of the Gorner icequakes: clusters by dask-ml on a cluster, and both ways to merge them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import processes
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

import specufex_dask as sx

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from benchmarks.conftest import Figures

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

REFERENCE = "4D.G7J1..SHZ"
"""The station of the published clusters."""


@pytest.fixture(scope="module")
def store(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with the catalogue, and the fingerprints of one model of all stations and of a model of each."""
    gorner, store = data_dir / "gorner2007", str(tmp_path_factory.mktemp("gorner") / "s.zarr")
    catalog, stations = sx.read_catalog(gorner / "events.csv"), sx.read_stations(gorner / "channels.csv")
    archive = f"{gorner}/events_mseed/{{event_id}}.mseed"
    waveforms = sx.open_waveforms(sx.save(catalog, store), stations, archive=archive, sampling_rate=1000.0)
    lazy = sx.compute_spectrograms(waveforms, window_length=0.08, overlap=0.25, nfft=4096, band=(15.0, 80.0))
    spectrograms = sx.save(lazy, store)
    _fingerprints(spectrograms, store, None)
    names = spectrograms["station_id"].values.astype(object)
    for name in dict.fromkeys(names):
        _fingerprints(spectrograms.isel(record=np.flatnonzero(names == name)).compute(), store, str(name))
    return store


def _fingerprints(spectrograms: xr.Dataset, store: str, group: str | None) -> None:
    nmf = sx.fit_nmf(spectrograms, seed=0)
    hmm = sx.fit_hmm(sx.compute_activations(spectrograms, nmf), nmf, seed=0)
    sx.save(sx.compute_fingerprints(spectrograms, nmf, hmm), store, group=group)


@pytest.fixture(scope="module")
def golden(data_dir: Path) -> dict[str, int]:
    """The cluster of each of the 365 golden events: k-means, K = 3, of their published fingerprints."""
    published = np.load(data_dir / "gorner2007/golden/golden_every4th.npz")
    vectors = published["fingerprint"].reshape(len(published["fingerprint"]), -1)
    labels = KMeans(3, n_init=20, random_state=0).fit_predict(vectors)
    return {f"0{name}": int(label) for name, label in zip(published["event_ID"], labels, strict=True)}


def test_eight_stations_are_merged(store: str, golden: dict[str, int], figures: Figures) -> None:
    """Stations see different things of an icequake: merged clusters are not those of one of them.

    Clusters of K = 3 at two stations agree by an adjusted Rand of about 0.1. So what eight
    stations have in common agrees with the clusters of one, even of a perfect fit, far less than
    that station's own clusters do, which differ from the golden ones by the fit alone.
    """
    catalog = sx.load(store, "catalog")
    shared = sx.load(store, "fingerprints")
    start = time.perf_counter()
    with processes.cluster(2):
        clusters = sx.cluster_fingerprints(shared, n_clusters=3, seed=0, memory_limit=1e6)
    seconds = time.perf_counter() - start
    inside = sx.cluster_fingerprints(shared, n_clusters=3, seed=0)
    both = adjusted_rand_score(clusters["cluster"], inside["cluster"])
    figures.add("Gorner, 8 stations, K = 3 by dask-ml on 2 workers", seconds, "{:.1f} s")
    figures.add("… against scikit-learn from starts of its own: adjusted Rand", both, "{:.3f}", at_least=0.9)
    apart = [sx.load(store, "fingerprints", group=name) for name in _names(shared)]
    own = sx.cluster_stations(apart, n_clusters=3, seed=0)
    alone = adjusted_rand_score(*_pair(own[REFERENCE], golden))
    figures.add("G7J1 alone against the golden clusters: adjusted Rand", alone, "{:.3f}")
    between = [adjusted_rand_score(*_common(own[a], own[b])) for a in own for b in own if a < b]
    detail = f"{min(between):.2f} to {max(between):.2f}"
    figures.add("clusters of two stations: adjusted Rand in the mean", np.mean(between), "{:.3f}", detail=detail)
    merged = {
        "one model, votes": sx.merge_stations(clusters, catalog),
        "models of stations, 3 families": sx.merge_stations(own, catalog, n_families=3),
        "models of stations, linked at 8": sx.merge_stations(own, catalog, min_stations=8),
        "models of stations, linked at 6": sx.merge_stations(own, catalog, min_stations=6),
    }
    for way, events in merged.items():
        n_merged, sizes = int((events["cluster"] >= 0).sum()), np.sort(np.bincount(events["cluster"] + 1)[1:])[::-1]
        detail = (
            f"{n_merged} events in {len(sizes)} clusters, largest {sizes[:3].tolist()}, "
            f"agreement {float(events['agreement'].mean()):.2f}"
        )
        score = adjusted_rand_score(*_pair(events, golden))
        figures.add(f"{way}, against the golden clusters: adjusted Rand", score, "{:.3f}", detail=detail)
    assert (merged["one model, votes"]["cluster"].values >= 0).sum() == 1457
    assert (merged["models of stations, 3 families"]["cluster"].values >= 0).sum() == 1457
    assert not figures.missed


def _names(fingerprints: xr.Dataset) -> list[str]:
    return [str(name) for name in dict.fromkeys(fingerprints["station_id"].values.astype(object))]


def _pair(events: xr.Dataset, golden: dict[str, int]) -> tuple[list[int], list[int]]:
    """The golden and the other clusters of the golden events that have both."""
    label = dict(zip(events["event_id"].values, events["cluster"].values.tolist(), strict=True))
    common = [name for name in golden if label[name] >= 0]
    return [golden[name] for name in common], [label[name] for name in common]


def _common(one: xr.Dataset, other: xr.Dataset) -> tuple[list[int], list[int]]:
    """Clusters of the events that two stations have."""
    first, second = (dict(zip(c["event_id"].values, c["cluster"].values.tolist(), strict=True)) for c in (one, other))
    events = [name for name, label in first.items() if label >= 0 and second.get(name, -1) >= 0]
    return [first[name] for name in events], [second[name] for name in events]
