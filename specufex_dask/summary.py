"""One line of figures for each stage, as a run prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.history import model_score
from specufex_dask.plurals import counted
from specufex_dask.schema import ANCHORS, QUALITY

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

_SHOWN = 10
"""Clusters whose sizes are told, the largest ones."""


def summary(stage: str, dataset: xr.Dataset) -> str:
    """Say in one line what `dataset` of `stage` holds; only small variables are computed.

    Examples
    --------
    >>> import xarray as xr
    >>> summary("spectrograms", xr.Dataset({
    ...     "quality": ("record", [0, 3, 0, 3, 5]), "spectrogram": (("record", "frequency", "time"), np.ones((5, 4, 2)))
    ... }))
    '2 of 5 records usable (2 short, 1 wrong_sampling_rate), 4 frequencies x 2 frames'
    """
    return _LINES[stage](dataset)


def _catalog(dataset: xr.Dataset) -> str:
    return counted(dataset.sizes["event"], "event")


def _stations(dataset: xr.Dataset) -> str:
    return counted(dataset.sizes["station"], "station")


def _picks(dataset: xr.Dataset) -> str:
    return f"{counted(dataset.sizes['pick'], 'pick')} of {_phases(dataset)}"


def _waveforms(dataset: xr.Dataset) -> str:
    stations = len(set(map(str, dataset["station_id"].values)))
    rate = dataset.attrs["sampling_rate"]
    parts = (
        f"{counted(dataset.sizes['record'], 'record')} from {counted(stations, 'station')}",
        f"{counted(dataset.sizes['sample'], 'sample')} at {rate:g} Hz",
    )
    return ", ".join([*parts, *anchors(dataset)])


def anchors(dataset: xr.Dataset) -> list[str]:
    """How many windows hang on picked and on predicted arrivals; nothing of windows that hang on none.

    >>> import xarray as xr
    >>> anchors(xr.Dataset(coords={"anchor": ("record", [0, 0, 1])}))
    ['windows on 2 picked, 1 predicted arrivals']
    """
    if "anchor" not in dataset.coords:
        return []
    flags, counts = np.unique(dataset["anchor"].values, return_counts=True)
    named = ", ".join(f"{n:,} {ANCHORS[flag]}" for flag, n in zip(flags, counts, strict=True))
    return [f"windows on {named} {'arrival' if counts.sum() == 1 else 'arrivals'}"]


def _spectrograms(dataset: xr.Dataset) -> str:
    quality, counts = np.unique(dataset["quality"].values, return_counts=True)
    reasons = [f"{n:,} {QUALITY[flag]}" for flag, n in zip(quality, counts, strict=True) if flag]
    usable = int(counts[quality == 0].sum())
    unusable = f" ({', '.join(reasons)})" if reasons else ""
    shape = " x ".join((
        counted(dataset.sizes["frequency"], "frequency", "frequencies"), counted(dataset.sizes["time"], "frame")
    ))  # fmt: skip
    return f"{usable:,} of {counted(dataset.sizes['record'], 'record')} usable{unusable}, {shape}"


def _nmf(dataset: xr.Dataset) -> str:
    started = f" of {int(dataset['history_size'].max())}" if "history_size" in dataset else ""
    kept = "pattern" if dataset.sizes["pattern"] == 1 and not started else "patterns"
    return f"{dataset.sizes['pattern']}{started} {kept} kept{_history(dataset)}"


def _hmm(dataset: xr.Dataset) -> str:
    return f"{counted(dataset.sizes['state'], 'state')}{_history(dataset)}"


def _activations(dataset: xr.Dataset) -> str:
    return f"{counted(dataset.sizes['record'], 'record')}, {counted(dataset.sizes['pattern'], 'pattern')}, not stored"


def _fingerprints(dataset: xr.Dataset) -> str:
    usable = int((dataset["quality"] == 0).sum())
    each = f"{dataset.sizes['state']} x {dataset.sizes['next_state']} each"
    return f"{usable:,} of {counted(dataset.sizes['record'], 'record')}, {each}"


def _clusters(dataset: xr.Dataset) -> str:
    labels = dataset["cluster"].values
    sizes = np.bincount(labels[labels >= 0])
    tried = dataset["n_clusters"].values
    best = float(dataset["mean_silhouette"].max())
    how = f"K = {len(sizes)}" + (
        f" of {tried.min()} to {tried.max()}, best silhouette {best:.3f}" if len(tried) > 1 else ""
    )
    return f"{how}: {_largest(sizes, 'record')}"


def _events(dataset: xr.Dataset) -> str:
    cluster, n_stations = dataset["cluster"].values, dataset["n_stations"].values
    inside = cluster >= 0
    sizes = np.bincount(cluster[inside])
    merged = f"{inside.sum():,} of {counted(len(cluster), 'event')} in {counted(len(sizes), 'cluster')}"
    if not inside.any():
        return merged
    agreement = f"agreement {dataset['agreement'].values[inside].mean():.2f}"
    across = f"over {n_stations[inside].mean():.1f} stations" if n_stations.max() > 1 else "over 1 station"
    return f"{merged}, {agreement} {across} in the mean: {_largest(sizes, 'event')}"


def _largest(sizes: np.ndarray[tuple[int], np.dtype[np.int64]], noun: str) -> str:
    """The numbers of members, `noun`, of the largest clusters, and how many more clusters there are."""
    rest = len(sizes) - _SHOWN
    more = f" and {counted(rest, 'more cluster')}" if rest > 0 else ""
    members = noun if sizes.tolist() == [1] else f"{noun}s"
    return f"{', '.join(f'{n:,}' for n in sizes[:_SHOWN])} {members}{more}"


def _pairs(dataset: xr.Dataset) -> str:
    return f"{counted(dataset.sizes['pair'], 'pair')} of events, not stored"


def _correlations(dataset: xr.Dataset) -> str:
    correlation = dataset["correlation"].values
    known = correlation[np.isfinite(correlation)]
    middle = f", median {np.median(known):.3f}" if known.size else ""
    return f"{known.size:,} of {counted(dataset.sizes['record'], 'correlation')} of {_phases(dataset)}{middle}"


def _phases(dataset: xr.Dataset) -> str:
    return ", ".join(sorted(set(map(str, dataset["phase"].values))))


def _repeaters(dataset: xr.Dataset) -> str:
    inside = int((dataset["sequence"].values >= 0).sum())
    return _in_sequences(inside, dataset.sizes["event"], dataset.sizes["sequence_id"])


def _reference(dataset: xr.Dataset) -> str:
    names = dataset["sequence"].values.astype(object)
    named = names[names != ""]
    return _in_sequences(len(named), len(names), len(set(named.tolist())))


def _in_sequences(inside: int, n_events: int, n_sequences: int) -> str:
    return f"{inside:,} of {counted(n_events, 'event')} in {counted(n_sequences, 'sequence')}"


def _relocation(dataset: xr.Dataset) -> str:
    moved = dataset["cluster"].values >= 0
    return f"{int(moved.sum()):,} of {counted(len(moved), 'event')} relocated"


def _history(dataset: xr.Dataset) -> str:
    """The held-out score of a model that was fitted, and the steps that were taken."""
    if "history_step" not in dataset:
        return ""
    (score, told), n_steps = model_score(dataset), int(dataset["history_step"].max())
    return f", held-out score {score:.4f} {told}" if told else f", {counted(n_steps, 'step')}"


_LINES: dict[str, Callable[[xr.Dataset], str]] = {
    "catalog": _catalog,
    "stations": _stations,
    "picks": _picks,
    "waveforms": _waveforms,
    "spectrograms": _spectrograms,
    "nmf": _nmf,
    "activations": _activations,
    "hmm": _hmm,
    "fingerprints": _fingerprints,
    "clusters": _clusters,
    "events": _events,
    "reference": _reference,
    "pairs": _pairs,
    "correlations": _correlations,
    "candidates": _repeaters,
    "relocation": _relocation,
    "repeaters": _repeaters,
}
