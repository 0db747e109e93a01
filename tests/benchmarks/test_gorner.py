"""The Gorner icequakes: agreement with the published results, own fits, and whole runs from miniSEED to report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import specufex_dask as sx

if TYPE_CHECKING:
    import xarray as xr
    from benchmarks.conftest import Figures

Array = np.ndarray[Any, np.dtype[Any]]

SEEDS = range(5)
STATION = "4D.G7J1..SHZ"
STUDY = Path(__file__).parents[2] / "notebooks" / "gorner.yaml"
PUBLISHED = {"transition": "A", "initial": "Ppi", "state_probability": "gam", "fingerprint": "fingerprint"}

STAGE = re.compile(r"^(\w+) .*\[([\d.]+) s\]$", re.MULTILINE)
"""The name and the seconds of a stage, as a run tells them."""

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def golden(data_dir: Path) -> dict[str, Array]:
    return dict(np.load(data_dir / "gorner2007/golden/golden_every4th.npz"))


@pytest.fixture(scope="module")
def waveforms(data_dir: Path) -> xr.Dataset:
    gorner = data_dir / "gorner2007"
    catalog, stations = sx.read_catalog(gorner / "events.csv"), sx.read_stations(gorner / "channels.csv")
    archive = f"{gorner}/events_mseed/{{event_id}}.mseed"
    opened = sx.open_waveforms(catalog, stations, station_id=[STATION], archive=archive, sampling_rate=1000.0)
    return opened.compute()


def _spectrograms(waveforms: xr.Dataset, dtype: str) -> xr.Dataset:
    lazy = sx.compute_spectrograms(
        waveforms, window_length=0.08, overlap=0.25, nfft=4096, band=(15.0, 80.0), dtype=dtype
    )
    return lazy.compute()


def _places(stage: xr.Dataset, golden: dict[str, Array]) -> list[int]:
    """Where the golden events are, whose ids lost their leading zero."""
    ids = list(stage["event_id"].values)
    return [ids.index(f"0{name}") for name in golden["event_ID"]]


def test_published_parameters_give_the_published_results(
    data_dir: Path, waveforms: xr.Dataset, golden: dict[str, Array], figures: Figures
) -> None:
    published = np.load(data_dir / "gorner2007/golden/model_params.npz")
    nmf = sx.nmf_model(
        dictionary_shape=published["W1"], dictionary_rate=published["W2"],
        weight_shape=published["A1"], weight_rate=published["A2"], frequency=published["fSTFT"],
    )  # fmt: skip
    hmm = sx.hmm_model(emission_shape=published["B1"], emission_rate=published["B2"], nmf=nmf)
    for dtype, limit in (("float64", 1e-10), ("float32", 1e-4)):
        spectrograms = _spectrograms(waveforms, dtype).isel(record=_places(waveforms, golden))
        activation = sx.compute_activations(spectrograms, nmf, dtype=dtype)["activation"].values
        keep = ("initial", "state_probability")
        results = sx.compute_fingerprints(spectrograms, nmf, hmm, keep=keep, dtype=dtype).compute()
        apart = {name: float(np.abs(results[name].values - golden[old]).max()) for name, old in PUBLISHED.items()}
        relative = float(np.abs(activation - golden["H"]).max() / golden["H"].max())
        listed = ", ".join(f"{name} {value:.0e}" for name, value in ({"activation": relative} | apart).items())
        largest = max(relative, *apart.values()) if dtype == "float64" else apart["fingerprint"]
        what = "of all results" if dtype == "float64" else "of a fingerprint"
        figures.add(
            f"published parameters, 365 events, {dtype}: largest difference {what}",
            largest, "{:.0e}", at_most=limit, detail=listed,
        )  # fmt: skip
    assert not figures.missed


@dataclass(frozen=True)
class OwnFit:
    """Fits of both models with one seed: seconds, patterns kept, K of the best silhouette, agreement at K = 3."""

    seconds: float
    patterns: int
    best: int
    agreement: float


def _own_fit(spectrograms: xr.Dataset, seed: int, golden: dict[str, Array]) -> OwnFit:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    start = time.perf_counter()
    nmf = sx.fit_nmf(spectrograms, n_patterns=75, seed=seed)
    hmm = sx.fit_hmm(sx.compute_activations(spectrograms, nmf), nmf, n_states=15, seed=seed)
    seconds = time.perf_counter() - start
    fingerprints = sx.compute_fingerprints(spectrograms, nmf, hmm)
    clusters = sx.cluster_fingerprints(fingerprints, n_clusters=range(2, 11), seed=0)
    published = KMeans(3, n_init=10, random_state=0).fit_predict(golden["fingerprint"].reshape(365, -1))
    ours = clusters["labels"].sel(n_clusters=3).values[_places(clusters, golden)]
    best = int(clusters["n_clusters"].values[clusters["mean_silhouette"].values.argmax()])
    return OwnFit(seconds, nmf.sizes["pattern"], best, float(adjusted_rand_score(published, ours)))


@pytest.mark.timeout(1200)
def test_own_fits_find_the_published_clusters(
    waveforms: xr.Dataset, golden: dict[str, Array], figures: Figures
) -> None:
    spectrograms = _spectrograms(waveforms, "float32")
    sx.fit_nmf(spectrograms, seed=0, max_steps=20)  # compiles; the HMM's kernels are the fingerprints'
    fits = [_own_fit(spectrograms, seed, golden) for seed in SEEDS]

    def each(values: list[Any], shown: str) -> str:
        return f"seeds 0–4: {', '.join(shown.format(value) for value in values)}"

    best, agreement = [fit.best for fit in fits], [fit.agreement for fit in fits]
    patterns, seconds = [fit.patterns for fit in fits], [fit.seconds for fit in fits]
    median, index = float(np.median(agreement)), "own fit: adjusted Rand index against the published clusters"
    figures.add(
        "own fit: seeds with the best silhouette at K = 3",
        best.count(3),
        "{:d}",
        at_least=5,
        detail=each(best, "K = {}"),
    )
    figures.add(f"{index}, median", median, at_least=0.75, detail=each(agreement, "{:.3f}"))
    figures.add(f"{index}, least", min(agreement), at_least=0.70)
    figures.add("own fit: patterns kept of 75, most", max(patterns), "{:d}", at_most=40, detail=each(patterns, "{}"))
    figures.add("own fit: both models, slowest", max(seconds), "{:.1f} s", at_most=15.0, detail=each(seconds, "{:.1f}"))
    assert not figures.missed


_MEASURE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"seconds": seconds, "peak": peak, "code": done.returncode, "output": done.stdout}))
"""
"""Runs a command from a small process of its own: a child's peak memory begins with that of its parent."""


def _run_study(folder: Path, *options: str) -> dict[str, Any]:
    """Seconds, peak memory [bytes] and output of one run of the study in a new process."""
    command = [sys.executable, "-m", "specufex_dask", "run", str(STUDY), *options]
    command += ["--store", str(folder / "study.zarr"), "--report", str(folder / "report.html")]
    done = subprocess.run([sys.executable, "-c", _MEASURE, *command], capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    assert measured["code"] == 0, measured["output"]
    assert (folder / "report.html").stat().st_size > 100_000
    return measured


def _stages(output: str) -> str:
    """Seconds of the longer stages of a run; what it tells of the report is the whole run."""
    seconds = {stage: float(number) for stage, number in STAGE.findall(output)}
    seconds["report"] -= sum(number for stage, number in seconds.items() if stage != "report")
    return ", ".join(f"{stage} {number:.1f}" for stage, number in seconds.items() if number >= 0.5)


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("data_dir")
def test_runs_from_miniseed_to_report(tmp_path_factory: pytest.TempPathFactory, figures: Figures) -> None:
    """The first run compiles and is not counted."""
    _run_study(tmp_path_factory.mktemp("compile"))
    for what, seconds, options in (
        ("1,460 records of one station", 25.0, ()),
        ("11,680 records of eight stations", 90.0, ("--set", "waveforms.station_id=all")),
    ):
        measured = _run_study(tmp_path_factory.mktemp("run"), *options)
        figures.add(
            f"run, {what}: miniSEED to report",
            measured["seconds"],
            "{:.1f} s",
            at_most=seconds,
            detail=_stages(measured["output"]),
        )
        figures.add(f"run, {what}: peak memory", measured["peak"] / 2**30, "{:.2f} GiB", at_most=1.5)
    assert not figures.missed


def _last_score(model: xr.Dataset) -> float:
    taken = model["history_score"].values
    return float(taken[~np.isnan(taken)][-1])


@pytest.mark.timeout(1200)
def test_time_to_the_quality_of_the_published_schedule(waveforms: xr.Dataset, figures: Figures) -> None:
    """Both schedules by our kernels; the HMMs on the same activations, as its score is per unit of activation."""
    spectrograms = _spectrograms(waveforms, "float32")
    nmf_of_these = sx.fit_nmf(spectrograms, seed=0)
    activations = sx.compute_activations(spectrograms, nmf_of_these).compute()
    steps = {"nmf": 20_000, "hmm": 15_000}
    seconds, scores = {}, {}
    for schedule in ("growing", "published"):
        length: dict[str, int | None] = dict(steps) if schedule == "published" else {"nmf": None, "hmm": None}
        start = time.perf_counter()
        nmf = sx.fit_nmf(spectrograms, seed=0, schedule=schedule, max_steps=length["nmf"])
        hmm = sx.fit_hmm(activations, nmf_of_these, seed=0, schedule=schedule, max_steps=length["hmm"])
        seconds[schedule] = time.perf_counter() - start
        scores[schedule] = _last_score(nmf), _last_score(hmm)
    detail = f"{seconds['published']:.1f} s / {seconds['growing']:.1f} s"
    figures.add(
        "both fits: published schedule / ours", seconds["published"] / seconds["growing"], "{:.1f} ×", detail=detail
    )
    figures.add("both fits by our schedule", seconds["growing"], "{:.1f} s", at_most=15)
    for stage, ours, theirs in zip(("nmf", "hmm"), scores["growing"], scores["published"], strict=True):
        lost, detail = (theirs - ours) / abs(theirs), f"{ours:.4f}, published schedule {theirs:.4f}"
        figures.add(f"{stage}: held-out score lost", lost, "{:.2%}", at_most=0.005, detail=detail)
    assert not figures.missed
