"""One line of figures for each stage, as a run prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
    return f"{dataset.sizes['event']:,} events"


def _stations(dataset: xr.Dataset) -> str:
    return f"{dataset.sizes['station']:,} stations"


def _picks(dataset: xr.Dataset) -> str:
    return f"{dataset.sizes['pick']:,} picks of {_phases(dataset)}"


def _waveforms(dataset: xr.Dataset) -> str:
    stations = len(set(map(str, dataset["station_id"].values)))
    rate = dataset.attrs["sampling_rate"]
    where = f"{stations} stations" if stations > 1 else "1 station"
    parts = (f"{_records(dataset)} records from {where}", f"{dataset.sizes['sample']:,} samples at {rate:g} Hz")
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
    return [f"windows on {named} arrivals"]


def _spectrograms(dataset: xr.Dataset) -> str:
    quality, counts = np.unique(dataset["quality"].values, return_counts=True)
    reasons = [f"{n:,} {QUALITY[flag]}" for flag, n in zip(quality, counts, strict=True) if flag]
    usable = int(counts[quality == 0].sum())
    unusable = f" ({', '.join(reasons)})" if reasons else ""
    shape = f"{dataset.sizes['frequency']} frequencies x {dataset.sizes['time']} frames"
    return f"{usable:,} of {_records(dataset)} records usable{unusable}, {shape}"


def _nmf(dataset: xr.Dataset) -> str:
    started = f" of {int(dataset['history_size'].max())}" if "history_size" in dataset else ""
    return f"{dataset.sizes['pattern']}{started} patterns kept{_history(dataset)}"


def _hmm(dataset: xr.Dataset) -> str:
    return f"{dataset.sizes['state']} states{_history(dataset)}"


def _activations(dataset: xr.Dataset) -> str:
    return f"{_records(dataset)} records, {dataset.sizes['pattern']} patterns, not stored"


def _fingerprints(dataset: xr.Dataset) -> str:
    usable = int((dataset["quality"] == 0).sum())
    return f"{usable:,} of {_records(dataset)} records, {dataset.sizes['state']} x {dataset.sizes['next_state']} each"


def _clusters(dataset: xr.Dataset) -> str:
    labels = dataset["cluster"].values
    sizes = np.bincount(labels[labels >= 0])
    tried = dataset["n_clusters"].values
    best = float(dataset["mean_silhouette"].max())
    how = f"K = {len(sizes)}" + (
        f" of {tried.min()} to {tried.max()}, best silhouette {best:.3f}" if len(tried) > 1 else ""
    )
    more = f" and {len(sizes) - _SHOWN:,} more clusters" if len(sizes) > _SHOWN else ""
    return f"{how}: {', '.join(f'{n:,}' for n in sizes[:_SHOWN])} records{more}"


def _pairs(dataset: xr.Dataset) -> str:
    return f"{dataset.sizes['pair']:,} pairs of events, not stored"


def _correlations(dataset: xr.Dataset) -> str:
    correlation = dataset["correlation"].values
    known = correlation[np.isfinite(correlation)]
    middle = f", median {np.median(known):.3f}" if known.size else ""
    return f"{known.size:,} of {_records(dataset)} correlations of {_phases(dataset)}{middle}"


def _phases(dataset: xr.Dataset) -> str:
    return ", ".join(sorted(set(map(str, dataset["phase"].values))))


def _repeaters(dataset: xr.Dataset) -> str:
    inside = int((dataset["sequence"].values >= 0).sum())
    return f"{inside:,} of {dataset.sizes['event']:,} events in {dataset.sizes['sequence_id']:,} sequences"


def _relocation(dataset: xr.Dataset) -> str:
    moved = dataset["cluster"].values >= 0
    return f"{int(moved.sum()):,} of {len(moved):,} events relocated"


def _records(dataset: xr.Dataset) -> str:
    return f"{dataset.sizes['record']:,}"


def _history(dataset: xr.Dataset) -> str:
    """Steps and the last held-out score of a fit, if the model has a history."""
    if "history_score" not in dataset:
        return ""
    scores = dataset["history_score"].values
    taken = scores[np.isfinite(scores)]
    last = f", held-out score {taken[-1]:.4f}" if taken.size else ""
    return f", {int(dataset['history_step'].max()):,} steps{last}"


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
    "pairs": _pairs,
    "correlations": _correlations,
    "candidates": _repeaters,
    "relocation": _relocation,
    "repeaters": _repeaters,
}
