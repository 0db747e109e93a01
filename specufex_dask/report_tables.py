"""Tables of the report: what is in the store, settings, rejected records, clusters."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures import UNUSABLE, cluster_colour, cluster_name
from specufex_dask.report_records import Rejected, nearest, reason
from specufex_dask.schema import QUALITY
from specufex_dask.summary import anchors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import xarray as xr

_STATIONS = 50
"""Rows at most in the table of rejected records."""
_LONGEST = 160
"""Characters at most of a setting's value."""

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

_UNITS = {
    "sampling_rate": "Hz",
    "n_samples": "samples",
    "window": "s",
    "max_gap": "s",
    "max_flat": "of the record",
    "bandpass": "Hz",
    "taper": "s",
    "window_length": "s",
    "overlap": "of the window length",
    "nfft": "samples",
    "band": "Hz",
    "time_range": "s",
    "time_pool": "frames",
    "n_patterns": "patterns at the start",
    "n_states": "states",
    "batch_size": "records",
    "max_steps": "steps",
    "n_clusters": "clusters",
    "n_frames": "frames",
    "min_peak": "dB",
    "held_out": "of the events",
    "memory_limit": "bytes",
}
"""Units of the settings that have one."""


@dataclass(frozen=True)
class Table:
    """A table: its caption, head and rows; `colours` mark the rows."""

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    words: tuple[int, ...] = (0,)
    """Positions of the columns that hold words; the others hold numbers."""
    colours: list[str] = field(default_factory=list)


def glance(stages: Mapping[str, xr.Dataset], counts: Rejected | None) -> Table:
    """The figures that a reader wants first."""
    rows: list[tuple[str, ...]] = []
    if counts is not None:
        share = 100 * counts.usable / max(counts.total, 1)
        rows.append(("records", f"{counts.total:,}, of which {counts.usable:,} usable ({share:.1f} %)"))
        rows.append(("stations with records", f"{len(counts.station_id):,}"))
    if "catalog" in stages:
        period = time_span(stages["catalog"].origin_time.values)
        rows.append(("events", f"{stages['catalog'].sizes['event']:,}, {period}"))
    for stage, dim in (("nmf", "pattern"), ("hmm", "state")):
        if stage in stages:
            rows.append((f"{dim}s", f"{stages[stage].sizes[dim]:,}{_score(stages[stage])}"))
    if "clusters" in stages:
        mean = _mean(stages["clusters"].silhouette.values)
        rows.append(("clusters", f"{stages['clusters'].sizes['cluster_id']:,}, mean silhouette {mean}"))
    return Table("The study in short.", ("what", "how much"), rows, words=(0, 1))


def _mean(values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> str:
    known = values[np.isfinite(values)]
    return f"{known.mean():.3f}" if known.size else "not known"


def _score(model: xr.Dataset) -> str:
    score = model.history_score.values if "history_score" in model else np.empty(0)
    taken = score[np.isfinite(score)]
    steps = f" after {int(model.history_step.values[-1]):,} steps" if taken.size else ""
    return f", held-out score {taken[-1]:.4g}{steps}" if taken.size else ""


def missing(stages: list[str], begun: Mapping[str, int]) -> Table:
    """Which stages a full report lacks, what it lacks with them, and the call that makes each or, `begun`, ends it."""
    rows = [(stage + unwritten(begun.get(stage, 0)), WITHOUT[stage], MADE_BY[stage]) for stage in stages]
    return Table(
        "Not in the store yet.", ("stage", "what this report lacks without it", "made by"), rows, words=(0, 1, 2)
    )


def unwritten(n_shards: int) -> str:
    """How much of a stage is not written yet; nothing if it was not begun."""
    return f" (begun, {n_shards:,} shard{'s' if n_shards > 1 else ''} not written)" if n_shards else ""


def contents(stages: Mapping[str, xr.Dataset]) -> Table:
    """What each stage of the store holds, in the order of the chain."""
    rows = [(stage, _sizes(dataset), _ranges(dataset)) for stage, dataset in stages.items()]
    return Table("What each stage holds.", ("stage", "size", "range"), rows, words=(0, 1, 2))


_COUNTED = {
    "event": "events", "station": "stations", "pick": "picks", "record": "records", "sample": "samples",
    "frequency": "frequencies", "time": "frames", "pattern": "patterns", "state": "states", "cluster_id": "clusters",
}  # fmt: skip


def _sizes(dataset: xr.Dataset) -> str:
    return ", ".join(f"{dataset.sizes[dim]:,} {name}" for dim, name in _COUNTED.items() if dim in dataset.sizes)


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


def settings(stages: Mapping[str, xr.Dataset]) -> Table:
    """The parameters that each stage was made with, from its recipe."""
    rows: list[tuple[str, ...]] = []
    for stage, dataset in stages.items():
        parameters = _flat(json.loads(dataset.attrs.get("recipe", "{}")).get("parameters", {}))
        named = [stage, *[""] * len(parameters)]
        rows += [
            (named[i], name, _text(value), _unit(name, value)) for i, (name, value) in enumerate(parameters.items())
        ]
    text = "Settings of each stage, from the recipe that is stored with its data."
    return Table(text, ("stage", "setting", "value", "unit"), rows, words=(0, 1, 2, 3))


def _flat(parameters: Mapping[str, object]) -> dict[str, object]:
    """The parameters with those inside a parameter named ``outer.inner``."""
    flat: dict[str, object] = {}
    for name, value in parameters.items():
        inner = _flat(value) if isinstance(value, dict) else None
        flat |= {name: value} if inner is None else {f"{name}.{key}": item for key, item in inner.items()}
    return flat


def _unit(name: str, value: object) -> str:
    return "" if value is None else _UNITS.get(name.rpartition(".")[2], "")


def _text(value: object) -> str:
    """A value of a recipe as a reader would write it.

    >>> _text([15.0, 80.0]), _text(None), _text(True)
    ('15, 80', 'not set', 'yes')
    """
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "yes", False: "no"}[value]
    if isinstance(value, list):
        text = ", ".join(map(_text, value)) or "none"
    else:
        text = _number(value) if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:.6g}"


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
    which = f"The first {len(counts.examples)} of {total:,}" if total > len(counts.examples) else f"All {total:,}"
    return Table(
        f"{which} records that are not usable.", ("event", "station", "reason"), list(counts.examples), words=(0, 1, 2)
    )


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
    for number in [*range(dataset.sizes["cluster_id"]), UNUSABLE]:
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
    return Table(
        "The clusters. Distance: from a record's fingerprint to the mean one.",
        head,
        rows,
        words=(0, 6),
        colours=colours,
    )
