"""Tables of the report: what is in the store, rejected records, clusters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures import UNUSABLE, cluster_colour, cluster_name
from specufex_dask.history import model_score
from specufex_dask.plurals import counted
from specufex_dask.report_records import Rejected, nearest, reason
from specufex_dask.schema import QUALITY
from specufex_dask.summary import anchors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import xarray as xr

_STATIONS = 50
"""Rows at most in the tables of stations."""
_CLUSTERS = 50
"""Rows at most in the table of clusters."""

MADE_BY = {
    "catalog": "sx.save(sx.read_catalog(…), store)",
    "stations": "sx.save(sx.read_stations(…), store)",
    "spectrograms": "sx.save(sx.compute_spectrograms(waveforms), store)",
    "nmf": "sx.save(sx.fit_nmf(spectrograms), store)",
    "hmm": "sx.save(sx.fit_hmm(activations, nmf), store)",
    "fingerprints": "sx.save(sx.compute_fingerprints(spectrograms, nmf, hmm), store)",
    "clusters": "sx.save(sx.cluster_fingerprints(fingerprints), store)",
}
"""The stages that a full report shows, and the call that makes each."""

WITHOUT = {
    "catalog": "magnitudes and the map; the time line then uses the times of the records",
    "stations": "the stations on the map",
    "spectrograms": "the spectrograms of the typical records",
    "nmf": "convergence, dictionary and weights of the spectral patterns",
    "hmm": "convergence and emission of the states",
    "fingerprints": "the state sequences and fingerprints of the typical records",
    "clusters": "silhouettes, clusters on map and time line, typical records",
}
"""What a report lacks without a stage."""


@dataclass(frozen=True)
class Table:
    """A table: its caption, head and rows; `colours` mark the rows."""

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    words: tuple[int, ...] = (0,)
    """Positions of the columns that hold words; the others hold numbers."""
    colours: list[str] = field(default_factory=list)


def glance(
    stages: Mapping[str, xr.Dataset], counts: Rejected | None, apart: Mapping[str, Mapping[str, xr.Dataset]]
) -> Table:
    """The figures that a reader wants first."""
    rows: list[tuple[str, ...]] = []
    if counts is not None:
        rows += _records(counts.total, counts.usable, len(counts.station_id))
    elif apart:
        quality = np.concatenate([stages["clusters"].quality.values for stages in apart.values()])
        rows += _records(len(quality), int((quality == 0).sum()), len(apart))
    if "catalog" in stages:
        period = time_span(stages["catalog"].origin_time.values)
        rows.append(("events", f"{stages['catalog'].sizes['event']:,}, {period}"))
    for stage, dim in (("nmf", "pattern"), ("hmm", "state")):
        if stage in stages:
            rows.append((f"{dim}s", f"{stages[stage].sizes[dim]:,}{_score(stages[stage])}"))
    if "clusters" in stages:
        mean = _mean(stages["clusters"].silhouette.values)
        rows.append(("clusters", f"{stages['clusters'].sizes['cluster_id']:,}, mean silhouette {mean}"))
    if "events" in stages:
        rows.append(("merged clusters", _merged(stages["events"])))
    if "repeaters" in stages:
        inside = int((stages["repeaters"].sequence.values >= 0).sum())
        rows.append(("sequences", f"{stages['repeaters'].sizes['sequence_id']:,}, of {counted(inside, 'event')}"))
    return Table("The study in short.", ("what", "how much"), rows, words=(0, 1))


def _records(total: int, usable: int, n_stations: int) -> list[tuple[str, ...]]:
    share = 100 * usable / max(total, 1)
    told = f"{total:,}, of which {usable:,} usable ({share:.1f} %)"
    return [("records", told), ("stations with records", f"{n_stations:,}")]


def _merged(events: xr.Dataset) -> str:
    cluster = events.cluster.values
    inside = cluster[cluster >= 0]
    agreement = _mean(events.agreement.values)
    return f"{len(np.unique(inside)):,}, of {counted(len(inside), 'event')}, mean agreement {agreement}"


def _mean(values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> str:
    known = values[np.isfinite(values)]
    return f"{known.mean():.3f}" if known.size else "not known"


def _score(model: xr.Dataset) -> str:
    score, told = model_score(model)
    return f", held-out score {score:.4g} {told}" if told else ""


def missing(stages: list[str], begun: Mapping[str, int]) -> Table:
    """Which stages a full report lacks, what it lacks with them, and the call that makes each or, `begun`, ends it."""
    rows = [(stage + unwritten(begun.get(stage, 0)), WITHOUT[stage], MADE_BY[stage]) for stage in stages]
    return Table(
        "Not in the store yet.", ("stage", "what this report lacks without it", "made by"), rows, words=(0, 1, 2)
    )


def unwritten(n_shards: int) -> str:
    """How much of a stage is not written yet; nothing if it was not begun."""
    return f" (begun, {counted(n_shards, 'shard')} not written)" if n_shards else ""


def contents(stages: Mapping[str, xr.Dataset]) -> Table:
    """What each stage of the store holds, in the order of the chain."""
    rows = [(stage, _sizes(dataset), _ranges(dataset)) for stage, dataset in stages.items()]
    return Table("What each stage holds.", ("stage", "size", "range"), rows, words=(0, 1, 2))


_COUNTED = {
    "event": ("event",), "station": ("station",), "pick": ("pick",), "record": ("record",), "sample": ("sample",),
    "frequency": ("frequency", "frequencies"), "time": ("frame",), "pattern": ("pattern",), "state": ("state",),
    "cluster_id": ("cluster",), "sequence_id": ("sequence",),
}  # fmt: skip


def _sizes(dataset: xr.Dataset) -> str:
    return ", ".join(counted(dataset.sizes[dim], *name) for dim, name in _COUNTED.items() if dim in dataset.sizes)


def _ranges(dataset: xr.Dataset) -> str:
    parts = []
    for name, unit in (("frequency", "Hz"), ("time", "s")):
        if name in dataset.coords and dataset.sizes[name] > 1:
            values = dataset[name].values
            step = float(values[1] - values[0])
            parts.append(f"{name} {values[0]:.4g} to {values[-1]:.4g} {unit} in steps of {step:.3g} {unit}")
    if "sampling_rate" in dataset.attrs:
        parts.append(f"sampling rate {float(dataset.attrs['sampling_rate']):g} Hz")
    if "origin_time" in dataset:
        parts.append(f"origin time {time_span(dataset.origin_time.values)}")
    return "; ".join([*parts, *anchors(dataset)])


def time_span(times: np.ndarray[tuple[int, ...], np.dtype[np.datetime64]]) -> str:
    """First and last of `times` to the second (UTC); empty where none is known."""
    known = times[~np.isnat(times)].astype("datetime64[s]")
    return f"{known.min()} to {known.max()}".replace("T", " ") + " UTC" if known.size else ""


def quality(counts: Rejected) -> Table:
    """Records by reason at each station, the stations with most rejected records first."""
    lost = counts.counts[:, 1:].sum(axis=1)
    order = np.argsort(-lost, kind="stable")[:_STATIONS]
    used = [0, *(flag for flag in range(1, len(QUALITY)) if counts.counts[:, flag].any())]
    rows = [_counted(counts.station_id[i], counts.counts[i], used) for i in order]
    if len(counts.station_id) > 1:
        rows.append(_counted(f"all {len(counts.station_id)} stations", counts.counts.sum(axis=0), used))
    more = f" The {_STATIONS} stations with most rejected records." if len(counts.station_id) > _STATIONS else ""
    return Table(f"Records by reason at each station (number).{more}",
                 ("station", "records", *(reason(flag) for flag in used)), rows)  # fmt: skip


def _counted(name: str, counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]], used: list[int]) -> tuple[str, ...]:
    return (name, f"{counts.sum():,}", *(f"{counts[flag]:,}" for flag in used))


def rejected_records(counts: Rejected) -> Table:
    """The first records that are not usable, by name."""
    total = counts.total - counts.usable
    few = len(counts.examples)
    which = f"The first {few} of {total:,} records" if total > few else f"All {counted(total, 'record')}"
    which = "The only record that is not usable." if total == 1 else f"{which} that are not usable."
    return Table(which, ("event", "station", "reason"), list(counts.examples), words=(0, 1, 2))


def read(table: pd.DataFrame) -> Table:
    """What the ledger says was read of the archive for the records of each station."""
    rows = [_read(str(name), part) for name, part in table.groupby("station_id", sort=True)][:_STATIONS]
    if table.station_id.nunique() > 1:
        rows.append(_read(f"all {table.station_id.nunique()} stations", table))
    head = ("station", "records", "objects", "MB read", "records asked for again", "records not told of")
    return Table(f"What was read of the archive (at most {_STATIONS} stations).", head, rows)


def _read(name: str, table: pd.DataFrame) -> tuple[str, ...]:
    objects = {each for names in table.object.dropna().unique() for each in names.split("; ") if each}
    again, unknown = int((table.attempts > 1).sum()), int(table.attempts.isna().sum())
    counted = (f"{n:,}" for n in (len(table), len(objects), round(table.n_bytes.sum() / 1e6, 1), again, unknown))
    return name, *counted


def clusters(dataset: xr.Dataset, counts: Rejected) -> Table:
    """Size and quality of each cluster, with its typical events."""
    cluster, silhouette, distance = (dataset[name].values for name in ("cluster", "silhouette", "distance"))
    event_id, rows, colours = dataset.event_id.values, [], []
    n_clusters = dataset.sizes["cluster_id"]
    for number in [*range(min(n_clusters, _CLUSTERS)), UNUSABLE]:
        members = np.flatnonzero(cluster == number)
        if not members.size:
            continue
        used = number != UNUSABLE
        events = len(set(event_id[members]))
        row = (cluster_name(number), f"{members.size:,}", f"{100 * members.size / counts.total:.1f} %", f"{events:,}")
        measures = (_mean(silhouette[members]), f"{np.median(distance[members]):.3f}") if used else ("", "")
        typical = ", ".join(str(event_id[i]) for i in nearest(dataset, number)) if used else ""
        rows.append((*row, *measures, typical))
        colours.append(cluster_colour(number))
    head = ("cluster", "records (number)", "share", "events (number)", "mean silhouette (1)", "median distance (1)",
            "typical events")  # fmt: skip
    which = "The clusters" if n_clusters <= _CLUSTERS else f"The {_CLUSTERS} largest of {n_clusters:,} clusters"
    caption = f"{which}. Distance: from a record's fingerprint to the mean one."
    return Table(caption, head, rows, words=(0, 6), colours=colours)
