"""The part of the report on stations that have models of their own, each in its group of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specufex_dask import figures_tree
from specufex_dask.plurals import counted
from specufex_dask.report_records import small
from specufex_dask.report_sections import Section, Stages
from specufex_dask.report_tables import Table
from specufex_dask.store import load
from specufex_dask.store_groups import whole_in_groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr

    from specufex_dask.places import Place

_ROWS = 50
"""Stations at most in the table."""
_TREES = 4
"""Stations at most whose tree is drawn."""
_CHAIN = ("spectrograms", "nmf", "hmm", "fingerprints", "clusters")


def of_stations(store: Place) -> dict[str, Stages]:
    """The stages of each station of `store` that has clusters of its own, small variables in memory."""
    held = whole_in_groups(store, _CHAIN)
    stations = {group: stages for group, stages in held.items() if "clusters" in stages}
    return {group: {stage: _opened(store, stage, group) for stage in stages} for group, stages in stations.items()}


def _opened(store: Place, stage: str, group: str) -> xr.Dataset:
    dataset = load(store, stage, group=group)
    return small(dataset) if stage == "clusters" else dataset


def section(stations: Mapping[str, Stages]) -> Section:
    """A row of each station, and the trees of the first of them, if they were clustered by one."""
    shown = list(stations.items())
    text = (
        f"{counted(len(shown), 'station')} with models and clusters of {'their' if len(shown) > 1 else 'its'} own: "
        "cluster 0 of one is not cluster 0 of another. More of a station: sx.report(store, path, group=station)."
    )
    drawn = [figures_tree.dendrogram(stages["clusters"], name) for name, stages in shown[:_TREES]]
    panels = [panel for panel in drawn if panel is not None]
    if panels and len(shown) > _TREES:
        text += f" The trees of the first {_TREES} are drawn."
    rows = [_row(name, stages) for name, stages in shown[:_ROWS]]
    which = f"The first {_ROWS} of {len(shown):,} stations." if len(shown) > _ROWS else "The stations."
    head = ("station", "records (number)", "usable (number)", "patterns (number)", "states (number)",
            "clusters (number)", "mean silhouette (1)")  # fmt: skip
    return Section("stations", "Stations", text, [Table(which, head, rows)], panels)


def _row(name: str, stages: Stages) -> tuple[str, ...]:
    clusters = stages["clusters"]
    usable = int((clusters.quality.values == 0).sum())
    sizes = (f"{stages[s].sizes[dim]:,}" if s in stages else "" for s, dim in (("nmf", "pattern"), ("hmm", "state")))
    silhouette = clusters.silhouette.values
    known = silhouette[np.isfinite(silhouette)]
    mean = f"{known.mean():.3f}" if known.size else "not known"
    counts = (f"{clusters.sizes['record']:,}", f"{usable:,}")
    return (name, *counts, *sizes, f"{clusters.sizes['cluster_id']:,}", mean)
