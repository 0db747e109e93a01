"""Which records a report is about: rejected ones, the clusters of events, typical records.

Everything here takes small vectors over the records, or reads only the records that are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.figures import SHOWN, UNUSABLE, Array
from specufex_dask.figures_records import Scales, Typical
from specufex_dask.schema import QUALITY

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

TYPICAL = 3
"""Typical records shown of each cluster."""


def small(dataset: xr.Dataset) -> xr.Dataset:
    """`dataset` with all but its cubes (what has `record` and another dim) read into memory."""
    cubes = {name for name, variable in dataset.variables.items() if "record" in variable.dims and variable.ndim > 1}
    return dataset.assign(dataset.drop_vars(cubes).load().variables)


@dataclass(frozen=True)
class Rejected:
    """Records by quality flag at each station (station, flag), and the first records not usable."""

    station_id: list[str]
    counts: Array
    examples: list[tuple[str, str, str]]

    @property
    def usable(self) -> int:
        """Records that are usable."""
        return int(self.counts[:, 0].sum())

    @property
    def total(self) -> int:
        """All records."""
        return int(self.counts.sum())


def rejected(dataset: xr.Dataset, *, examples: int = 20) -> Rejected:
    """Count the quality flags of `dataset` (record) at each station."""
    quality, station_id = dataset.quality.values, dataset.station_id.values
    codes, names = _codes(station_id)
    counts = np.zeros((len(names), len(QUALITY)), dtype=np.int64)
    np.add.at(counts, (codes, quality), 1)
    bad = np.flatnonzero(quality)[:examples]
    events = dataset.event_id.values[bad]
    listed = [(str(e), str(station_id[i]), reason(quality[i])) for e, i in zip(events, bad, strict=True)]
    order = sorted(range(len(names)), key=names.__getitem__)
    return Rejected([names[i] for i in order], counts[order], listed)


def _codes(values: Array) -> tuple[Array, list[str]]:
    """`values` as positions in a list of the different ones, in the order of their first appearance."""
    seen: dict[str, int] = {}
    codes = np.fromiter((seen.setdefault(str(value), len(seen)) for value in values), np.int64, len(values))
    return codes, list(seen)


def reason(flag: int) -> str:
    """A quality flag in words.

    >>> reason(10)
    'too quiet'
    """
    return QUALITY[flag].replace("_", " ")


def event_clusters(event_id: Array, records: xr.Dataset) -> Array:
    """The cluster of each of `event_id` (event): the one that most of its usable records have.

    Ties go to the larger cluster (the lower number). -1 where no record of the event is usable.
    """
    codes, names = _codes(np.concatenate([event_id, records.event_id.values]))
    cluster = records.cluster.values
    usable = cluster >= 0
    votes = np.zeros((len(names), max(int(cluster.max(initial=0)) + 1, 1)), dtype=np.int64)
    np.add.at(votes, (codes[len(event_id) :][usable], cluster[usable]), 1)
    winner = np.where(votes.any(axis=1), votes.argmax(axis=1), UNUSABLE)
    return np.asarray(winner[codes[: len(event_id)]])


def first_times(records: xr.Dataset) -> tuple[Array, Array]:
    """The events of the records and the earliest time [UTC] at which a record of each begins."""
    codes, names = _codes(records.event_id.values)
    start = records.start_time.values.astype("datetime64[ns]")
    known = ~np.isnat(start)
    first = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(first, codes[known], start[known].astype(np.int64))
    first[first == np.iinfo(np.int64).max] = np.iinfo(np.int64).min
    return np.asarray(names, dtype=object), first.astype("datetime64[ns]")


def nearest(clusters: xr.Dataset, number: int) -> Array:
    """Positions of the records of cluster `number` nearest to its centroid, each of another event."""
    members = np.flatnonzero(clusters.cluster.values == number)
    order = members[np.argsort(clusters.distance.values[members], kind="stable")]
    event_id = clusters.event_id.values
    chosen: dict[str, int] = {}
    for position in order:
        chosen.setdefault(str(event_id[position]), int(position))
        if len(chosen) == TYPICAL:
            break
    return np.array(list(chosen.values()), dtype=np.int64)


def positions(dataset: xr.Dataset, wanted: list[tuple[str, str]]) -> list[int | None]:
    """Where each of `wanted` (event_id, station_id) stands in `dataset`; None where it is not."""
    event_id, station_id = dataset.event_id.values, dataset.station_id.values
    found: list[int | None] = []
    for event, station in wanted:
        hits = np.flatnonzero(event_id == event)
        match = hits[station_id[hits] == station]
        found.append(int(match[0]) if match.size else None)
    return found


_PARTS = {
    "waveforms": ("waveform",),
    "spectrograms": ("spectrogram",),
    "fingerprints": ("state_sequence", "fingerprint"),
}


def typical(stages: Mapping[str, xr.Dataset]) -> tuple[list[list[Typical]], Scales | None]:
    """The typical records of each cluster with what the stages hold of them, and their common axes."""
    clusters = stages["clusters"]
    chosen = [nearest(clusters, number) for number in range(min(clusters.sizes["cluster_id"], SHOWN))]
    flat = np.concatenate([*chosen, np.empty(0, np.int64)]).astype(np.int64)
    wanted = [(str(clusters.event_id.values[i]), str(clusters.station_id.values[i])) for i in flat]
    parts: dict[str, list[Array | None]] = {}
    for stage, names in _PARTS.items():
        if stage in stages:
            parts |= _read(stages[stage], names, wanted)
    scales = _scales(stages, parts)
    if not flat.size or scales is None:
        return [], None
    distance, cluster = clusters.distance.values[flat], clusters.cluster.values[flat]
    records = [
        Typical(event, station, int(cluster[i]), float(distance[i]), **{name: parts[name][i] for name in parts})
        for i, (event, station) in enumerate(wanted)
    ]
    return [[r for r in records if r.cluster == number] for number, places in enumerate(chosen) if places.size], scales


def _read(dataset: xr.Dataset, names: tuple[str, ...], wanted: list[tuple[str, str]]) -> dict[str, list[Array | None]]:
    """The variables `names` of the wanted records, in one read of only these records."""
    found = positions(dataset, wanted)
    known = sorted({place for place in found if place is not None})
    small = dataset[list(names)].reset_coords(drop=True).isel(record=known).load()
    at = {place: i for i, place in enumerate(known)}
    return {name: [None if p is None else small[name].values[at[p]] for p in found] for name in names}


def _scales(stages: Mapping[str, xr.Dataset], parts: dict[str, list[Array | None]]) -> Scales | None:
    timed = next((stages[stage] for stage in ("fingerprints", "spectrograms") if stage in stages), None)
    if timed is None:
        return None
    waveforms, spectrograms = stages.get("waveforms"), stages.get("spectrograms")
    return Scales(
        time=timed.time.values,
        frequency=np.zeros(1) if spectrograms is None else spectrograms.frequency.values,
        sampling_rate=1.0 if waveforms is None else float(waveforms.attrs["sampling_rate"]),
        states=int(stages["clusters"].sizes["state"]),
        top_level=_top(parts.get("spectrogram"), 99.8),
        top_fingerprint=_top(parts.get("fingerprint"), 100),
        units="counts" if waveforms is None else str(waveforms.waveform.attrs.get("units", "counts")),
    )


def _top(values: list[Array | None] | None, percentile: float) -> float:
    known: list[Any] = [value for value in values or [] if value is not None]
    return float(np.nanpercentile(np.stack(known), percentile)) if known else 1.0
