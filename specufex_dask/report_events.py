"""The part of the report on events merged from the records of several stations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures import Array, cluster_colour, cluster_name
from specufex_dask.figures_events import stations_and_agreement
from specufex_dask.pairs import places
from specufex_dask.plurals import counted
from specufex_dask.report_sections import Section, Stages
from specufex_dask.report_tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import xarray as xr

_ROWS = 50
"""Clusters, or stations, at most in a table."""


def section(stages: Stages, stations: Mapping[str, Stages]) -> Section:
    """The merged clusters, how far the stations agree on them, and what each of the `stations` has part in."""
    events = stages["events"]
    inside = int((events.cluster.values >= 0).sum())
    parameters = json.loads(events.attrs["recipe"])["parameters"]
    text = f"{inside:,} of {counted(events.sizes['event'], 'event')} are in a merged cluster: {_rule(parameters)}"
    panel = stations_and_agreement(events)
    seen = [each["clusters"] for each in stations.values()] or [stages[s] for s in ("clusters",) if s in stages]
    tables = [_clusters(events)]
    if seen:
        tables.append(_stations(events, seen, shared=parameters.get("rule") == "vote"))
    return Section("events", "Merged events", text, tables, [panel] if panel else [])


def _rule(parameters: Mapping[str, object]) -> str:
    if parameters.get("rule") == "vote":
        return "that of most of its records, as all stations share one model."
    if parameters["n_families"] is not None:
        return (
            f"one of {parameters['n_families']} families of events to which the stations, each with clusters of its "
            f"own, give the most alike labels."
        )
    least = counted(int(str(parameters["min_stations"])), "station")
    return f"a family of events, each of which shares its cluster with another at {least} or more; the rest do not."


def _clusters(events: xr.Dataset) -> Table:
    cluster, n_stations, agreement = (events[name].values for name in ("cluster", "n_stations", "agreement"))
    inside = cluster >= 0
    size = np.bincount(cluster[inside])
    order = np.flatnonzero(size)[:_ROWS]
    total = [np.bincount(cluster[inside], each[inside], len(size)) for each in (n_stations, agreement)]
    rows = [
        (cluster_name(k), f"{size[k]:,}", _share(size[k], len(cluster)), *(f"{t[k] / size[k]:.2f}" for t in total))
        for k in order
    ]
    if not inside.all():
        alone = int((~inside).sum())
        rows.append(("none", f"{alone:,}", _share(alone, len(cluster)), f"{n_stations[~inside].mean():.2f}", ""))
    colours = [cluster_colour(int(k)) for k in order] + [cluster_colour(-1)] * (not inside.all())
    which = f"The first {_ROWS} of {(size > 0).sum():,}." if len(order) == _ROWS else "All of them."
    head = ("cluster", "events (number)", "share", "stations with a usable record (mean number)", "agreement (mean)")
    return Table(f"Events by merged cluster. {which}", head, rows, colours=colours)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


@dataclass(frozen=True)
class _Station:
    """What one station has: records, those usable, those of merged events, and those that agree."""

    name: str
    n_records: int
    n_usable: int
    n_merged: int
    n_agree: int

    def cells(self, n_events: int) -> tuple[str, ...]:
        agree = _share(self.n_agree, self.n_merged) if self.n_merged else ""
        return (self.name, f"{self.n_records:,}", f"{self.n_usable:,}", _share(self.n_usable, n_events), agree)


def _stations(events: xr.Dataset, clusters: Iterable[xr.Dataset], *, shared: bool) -> Table:
    found = sorted((s for each in clusters for s in _each(events, each, shared=shared)), key=lambda s: s.name)
    head = ("station", "records (number)", "usable (number)", "share of the events", "share that agrees")
    which = f" The first {_ROWS} of {len(found):,}." if len(found) > _ROWS else ""
    rows = [station.cells(events.sizes["event"]) for station in found[:_ROWS]]
    return Table(f"Which stations have data of the events, and how far they agree.{which}", head, rows)


def _each(events: xr.Dataset, clusters: xr.Dataset, *, shared: bool) -> list[_Station]:
    """Each station of `clusters`, which are of one model."""
    names, station = np.unique(clusters.station_id.values.astype(str), return_inverse=True)
    usable = clusters.quality.values == 0
    merged = np.append(events.cluster.values, -1)[places(clusters.event_id.values, events.event_id.values)]
    label = clusters.cluster.values
    known = usable & (merged >= 0)
    agree = known & (label == (merged if shared else _usual(merged, label, known)))
    counts = [np.bincount(station, rows, len(names)) for rows in (np.ones(len(label)), usable, known, agree)]
    return [_Station(str(name), *(int(n[i]) for n in counts)) for i, name in enumerate(names)]


def _usual(merged: Array, label: Array, known: Array) -> Array:
    """The cluster (record,) that is the most frequent one at this station in the record's family."""
    pairs, counts = np.unique(np.stack([merged[known], label[known]]), axis=1, return_counts=True)
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    first = order[np.unique(pairs[0][order], return_index=True)[1]]
    usual = np.full(int(merged.max(initial=-1)) + 2, -1)
    usual[pairs[0][first]] = pairs[1][first]
    return np.asarray(usual[merged])
