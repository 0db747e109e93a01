"""The parts of the report that tell of records: what was rejected, the models, clusters, where and when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from specufex_dask import (
    figures_clusters,
    figures_map,
    figures_model,
    figures_records,
    figures_time,
    figures_tree,
    report_records,
    report_tables,
)
from specufex_dask.figures import SHOWN, UNUSABLE, Array
from specufex_dask.pairs import places
from specufex_dask.plurals import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    import xarray as xr

    from specufex_dask.figures import Panel
    from specufex_dask.report_records import Rejected
    from specufex_dask.report_tables import Table

Stages = dict[str, "xr.Dataset"]


@dataclass(frozen=True)
class Section:
    """A part of the page: a sentence or two, tables, figures."""

    id: str
    title: str
    text: str = ""
    tables: list[Table] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)


def glance(stages: Stages, counts: Rejected | None, begun: Mapping[str, int], apart: Mapping[str, Stages]) -> Section:
    """The figures that a reader wants first, and what there is not; `apart` is what stations have for themselves."""
    held = set(stages).union(*apart.values())
    missing = [stage for stage in report_tables.MADE_BY if stage not in held]
    text = "Every stage of the chain is here." if not missing else "This report shows what there is so far."
    absent = [report_tables.missing(missing, begun)] if missing else []
    return Section("glance", "At a glance", text, [report_tables.glance(stages, counts, apart), *absent])


def rejected(counts: Rejected, stages: Stages, table: pd.DataFrame) -> Section:
    """Which records are not usable, and why; `table` says what was read for them, if that is known."""
    text = f"{counts.usable:,} of {counted(counts.total, 'record')} {'is' if counts.total == 1 else 'are'} usable."
    if "catalog" in stages:
        n_events = stages["catalog"].sizes["event"]
        of = f"{counted(n_events, 'event')} at {counted(len(counts.station_id), 'station')}"
        text += f" The records are those of {of}." if n_events * len(counts.station_id) == counts.total else (
            f" The catalogue and the stations have {of}: not all of them are records here, or more are."
        )  # fmt: skip
    tables = [report_tables.read(table)] if "attempts" in table else []
    if counts.usable == counts.total:
        return Section("rejected", "What was rejected, and why", text + " None was rejected.", tables)
    text += " The others keep their place in every stage, with the reason, and belong to no cluster."
    rejected = [report_tables.quality(counts), report_tables.rejected_records(counts)]
    return Section("rejected", "What was rejected, and why", text, [*rejected, *tables])


def models(stages: Stages) -> Iterator[Section]:
    """How the models converged, and what they are."""
    nmf, hmm = stages.get("nmf"), stages.get("hmm")
    histories = [figures_model.convergence(m, s) for s, m in (("nmf", nmf), ("hmm", hmm)) if m is not None]
    drawn = [panel for panel in histories if panel is not None]
    if histories:
        text = "" if len(drawn) == len(histories) else "A model without a history here was given, not fitted."
        yield Section("convergence", "Convergence", text, panels=drawn)
    panels = []
    if nmf is not None:
        panels += [figures_model.dictionary(nmf), figures_model.weights(nmf)]
    if hmm is not None:
        same = nmf if nmf is not None and _share_patterns(nmf, hmm) else None
        panels += [figures_model.emission(hmm, same)]
        panels += [] if same is None else [figures_model.state_spectra(hmm, same)]
    if panels:
        yield Section("models", "Patterns and states", panels=panels)


def _share_patterns(nmf: xr.Dataset, hmm: xr.Dataset) -> bool:
    """Whether `hmm` was fitted with the patterns of `nmf`: the gains tell."""
    ours, theirs = nmf.gain.values, hmm.gain.values
    return ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=1e-5)


def clusters(clusters: xr.Dataset, counts: Rejected) -> Section:
    """The clusters of the records, in figures the largest ones."""
    drawn = [
        figures_clusters.silhouette_by_number(clusters),
        figures_clusters.silhouette_profile(clusters.cluster.values, clusters.silhouette.values),
        figures_clusters.mean_fingerprints(clusters.centroid.values),
        figures_tree.dendrogram(clusters),
    ]
    panels = [panel for panel in drawn if panel is not None]
    n_clusters = clusters.sizes["cluster_id"]
    text = f"Figures show the {SHOWN} largest of {n_clusters:,} clusters." if n_clusters > SHOWN else ""
    return Section("clusters", "Clusters", text, [report_tables.clusters(clusters, counts)], panels)


def where_and_when(stages: Stages, records: xr.Dataset | None) -> Section:
    """Map and time line of the events, by the cluster of each: the merged one, or else that of its records."""
    catalog = stages.get("catalog")
    title = "Where and when"
    if catalog is not None:
        event_id, time = catalog.event_id.values, catalog.origin_time.values
    elif records is not None:
        event_id, time = report_records.first_times(records)
    else:
        return Section("place", title, "No event is known: neither a catalog nor records are in the store.")
    merged = "events" in stages
    cluster = _merged(event_id, stages["events"]) if merged else None
    if not merged and records is not None and "cluster" in records:
        cluster = report_records.event_clusters(event_id, records)
    panels = []
    if catalog is not None:
        panels = figures_map.maps(catalog, cluster, stages.get("stations"), merged=merged)
    line = figures_time.time_line(time, cluster, merged=merged)
    panels += [] if line is None else [line]
    text = "" if catalog is not None else "No catalog is in the store: no map, and the time is that of the records."
    return Section("place", title, text, panels=panels)


def _merged(event_id: Array, events: xr.Dataset) -> Array:
    """The merged cluster of each of `event_id` (event,), -1 for none."""
    return np.asarray(np.append(events["cluster"].values, UNUSABLE)[places(event_id, events["event_id"].values)])


def typical(stages: Stages) -> Section:
    """The typical records of each cluster, of many clusters of the largest."""
    title = "Typical records"
    groups, scales = report_records.typical(stages)
    if scales is None:
        return Section("typical", title, "Neither spectrograms nor fingerprints are in the store to show them.")
    text = "" if "waveforms" in stages else "Waveforms are not stored: pass report(…, waveforms=…) to see them here."
    return Section(
        "typical", title, text, panels=[figures_records.typical_records(records, scales) for records in groups]
    )
