"""One self-contained HTML page about a study: what went in, what came out, and how well."""

from __future__ import annotations

import base64
import datetime as dt
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask import (
    figures_clusters,
    figures_map,
    figures_model,
    figures_records,
    figures_time,
    places,
    quality,
    report_records,
    report_tables,
)
from specufex_dask.schema import require
from specufex_dask.store import load, missing_shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    import xarray as xr

    from specufex_dask.figures import Panel
    from specufex_dask.places import Place, Remote
    from specufex_dask.report_records import Rejected
    from specufex_dask.report_tables import Table

_CHAIN = ("catalog", "stations", "waveforms", "spectrograms", "nmf", "activations", "hmm", "fingerprints", "clusters")
_SHARED = ("catalog", "stations")
_PACKAGES = ("specufex_dask", "numpy", "scipy", "xarray", "dask", "zarr", "scikit-learn", "matplotlib")

Stages = dict[str, "xr.Dataset"]


@dataclass(frozen=True)
class Section:
    """A part of the page: a sentence or two, tables, figures."""

    id: str
    title: str
    text: str = ""
    tables: list[Table] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)


def report(
    store: str | Path | Remote,
    path: str | Path | Remote,
    *,
    group: str | None = None,
    catalog: xr.Dataset | None = None,
    stations: xr.Dataset | None = None,
    waveforms: xr.Dataset | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Path | Remote:
    """Write one self-contained HTML page about the study in `store`; no stage is required, each whole one adds to it.

    What went in and was rejected, how the models converged, dictionary, weight and emission,
    silhouettes, map and time line of the events by cluster, and the typical records of each
    cluster: those nearest to its mean fingerprint, each of another event. Of a cube of records
    only these are read, so the cost hardly grows with the store. Two reports of one store differ
    in their footer at most.

    Parameters
    ----------
    store : str or path
        The Zarr store, or its URL.
    path : str or path
        The page to write, or its URL; a folder on a disk is made where it does not exist.
    group : str, optional
        Group of the models to report, such as a station_id; catalogue and stations are taken
        from the top of the store if the group has none.
    catalog : Dataset of stage ``catalog``, optional
        Events with their times [UTC] and locations [degrees]; instead of the store's.
    stations : Dataset of stage ``stations``, optional
        Stations with their locations [degrees]; instead of the store's.
    waveforms : Dataset of stage ``waveforms``, optional
        Adds the waveforms (record, sample) of the typical records and the settings that they
        were read with. May be lazy: only the tasks that hold typical records are run, so open
        them with few ``records_per_task``.
    storage_options : mapping, optional
        What fsspec opens the store and the page with, as far as they lie at a URL.

    Returns
    -------
    Path or Remote
        The page that was written; ``str`` of it is its path or URL.

    Raises
    ------
    ValueError
        Nothing to report is in the store (or its group), or a Dataset given is of another stage.
    PermissionError
        The page may not be written there.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import specufex_dask as sx
    >>> with TemporaryDirectory() as folder:
    ...     made = sx.simulate(f"{folder}/data", n_events=3, n_stations=2, seed=0)
    ...     _ = sx.save(sx.read_catalog(made.catalog), f"{folder}/study.zarr")
    ...     page = sx.report(f"{folder}/study.zarr", f"{folder}/report.html").read_text()
    >>> page.count("<img"), "fit_nmf" in page
    (2, True)
    """
    target, store = places.at(path, storage_options), places.at(store, storage_options)
    given = {"catalog": catalog, "stations": stations, "waveforms": waveforms}
    held = {place: missing_shards(store, group=place) for place in (None, group)}
    begun = {stage: n_missing for stage, n_missing in held[group].items() if n_missing}
    stages = _stages(store, group, {stage: dataset for stage, dataset in given.items() if dataset is not None}, held)
    title = Path(str(store).rstrip("/")).name + (f" · {group}" if group else "")
    places.write(target, _render(title, list(_sections(stages, begun, store, group))).encode())
    return target


def _stages(store: Place, group: str | None, given: Stages, held: Mapping[str | None, Mapping[str, int]]) -> Stages:
    """The stages that there are, lazily, in the order of the chain."""
    for stage, dataset in given.items():
        require(dataset, stage)
    stages: Stages = {}
    for stage in _CHAIN:
        places = (group, None) if stage in _SHARED else (group,)
        place = next((place for place in places if held[place].get(stage) == 0), "")
        if stage in given:
            stages[stage] = given[stage]
        elif place != "":
            stages[stage] = load(store, stage, group=place)
    if not stages:
        where = f"group {group!r} of {store}" if group else f"{store}"
        begun = ", ".join(f"{stage}{report_tables.unwritten(n_missing)}" for stage, n_missing in held[group].items())
        msg = (
            f"got no {f'whole stage but {begun}' if begun else 'stage'} in {where}, "
            f"expected at least one of {', '.join(_CHAIN)}: check the path"
            f"{' and the group' if group else ''}, or save a stage there first with sx.save(dataset, store)."
        )
        raise ValueError(msg)
    return stages


def _sections(stages: Stages, begun: Mapping[str, int], store: Place, group: str | None) -> Iterator[Section]:
    for stage in ("catalog", "stations", "nmf", "hmm"):
        if stage in stages:
            stages[stage] = stages[stage].compute()
    last = next((stage for stage in ("clusters", "fingerprints", "spectrograms") if stage in stages), None)
    if last is not None:
        stages[last] = report_records.small(stages[last])
    counts = report_records.rejected(stages[last]) if last is not None else None
    yield _glance(stages, counts, begun)
    yield Section("input", "What went in", tables=[report_tables.contents(stages), report_tables.settings(stages)])
    if counts is not None:
        table = quality.with_ledger(quality.quality_table(stages[last or ""]), store, group)
        yield _rejected(counts, stages, table)
    yield from _models(stages)
    if last == "clusters" and counts is not None:
        yield _clusters(stages["clusters"], counts)
    yield _where_and_when(stages, stages.get(last or ""))
    if last == "clusters":
        yield _typical(stages)


def _glance(stages: Stages, counts: Rejected | None, begun: Mapping[str, int]) -> Section:
    missing = [stage for stage in report_tables.MADE_BY if stage not in stages]
    text = "Every stage of the chain is here." if not missing else "This report shows what there is so far."
    absent = [report_tables.missing(missing, begun)] if missing else []
    return Section("glance", "At a glance", text, [report_tables.glance(stages, counts), *absent])


def _rejected(counts: Rejected, stages: Stages, table: pd.DataFrame) -> Section:
    text = f"{counts.usable:,} of {counts.total:,} records are usable."
    if "catalog" in stages:
        n_events = stages["catalog"].sizes["event"]
        of = f"{n_events:,} events at {len(counts.station_id):,} stations"
        text += f" The records are those of {of}." if n_events * len(counts.station_id) == counts.total else (
            f" The catalogue and the stations have {of}: not all of them are records here, or more are."
        )  # fmt: skip
    tables = [report_tables.read(table)] if "attempts" in table else []
    if counts.usable == counts.total:
        return Section("rejected", "What was rejected, and why", text + " None was rejected.", tables)
    text += " The others keep their place in every stage, with the reason, and belong to no cluster."
    rejected = [report_tables.quality(counts), report_tables.rejected_records(counts)]
    return Section("rejected", "What was rejected, and why", text, [*rejected, *tables])


def _models(stages: Stages) -> Iterator[Section]:
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


def _clusters(clusters: xr.Dataset, counts: Rejected) -> Section:
    drawn = [
        figures_clusters.silhouette_by_number(clusters),
        figures_clusters.silhouette_profile(clusters.cluster.values, clusters.silhouette.values),
        figures_clusters.mean_fingerprints(clusters.centroid.values),
    ]
    panels = [panel for panel in drawn if panel is not None]
    return Section("clusters", "Clusters", tables=[report_tables.clusters(clusters, counts)], panels=panels)


def _where_and_when(stages: Stages, records: xr.Dataset | None) -> Section:
    catalog = stages.get("catalog")
    clustered = records is not None and "cluster" in records
    title = "Where and when"
    if catalog is not None:
        event_id, time = catalog.event_id.values, catalog.origin_time.values
    elif records is not None:
        event_id, time = report_records.first_times(records)
    else:
        return Section("place", title, "No event is known: neither a catalog nor records are in the store.")
    cluster = report_records.event_clusters(event_id, records) if records is not None and clustered else None
    panels = figures_map.maps(catalog, cluster, stages.get("stations")) if catalog is not None else []
    line = figures_time.time_line(time, cluster)
    panels += [] if line is None else [line]
    text = "" if catalog is not None else "No catalog is in the store: no map, and the time is that of the records."
    return Section("place", title, text, panels=panels)


def _typical(stages: Stages) -> Section:
    title = "Typical records"
    groups, scales = report_records.typical(stages)
    if scales is None:
        return Section("typical", title, "Neither spectrograms nor fingerprints are in the store to show them.")
    text = "" if "waveforms" in stages else "Waveforms are not stored: pass report(…, waveforms=…) to see them here."
    return Section(
        "typical", title, text, panels=[figures_records.typical_records(records, scales) for records in groups]
    )


def _render(title: str, sections: list[Section]) -> str:
    """The page as HTML; every text is escaped by the template engine."""
    from jinja2 import Environment, StrictUndefined

    source = resources.files("specufex_dask").joinpath("templates/report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda picture: base64.b64encode(picture).decode("ascii")
    return environment.from_string(source).render(
        title=title,
        sections=sections,
        written=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions=[(name, _version(name)) for name in _PACKAGES],
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from its sources
        return "of no installed version"
