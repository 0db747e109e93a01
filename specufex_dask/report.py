"""One self-contained HTML page about a study: what went in, what came out, and how well."""

from __future__ import annotations

import base64
import datetime as dt
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specufex_dask import (
    places,
    quality,
    report_events,
    report_records,
    report_repeaters,
    report_sections,
    report_settings,
    report_stations,
    report_tables,
)
from specufex_dask.report_sections import Section, Stages
from specufex_dask.schema import require
from specufex_dask.store import load, missing_shards
from specufex_dask.store import stages as whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import xarray as xr

    from specufex_dask.places import Place, Remote

_CHAIN = (
    "catalog", "stations", "waveforms", "spectrograms", "nmf", "activations", "hmm", "fingerprints", "clusters",
    "events", "relocation", "repeaters",
)  # fmt: skip
_SMALL = {"catalog", "stations", "nmf", "hmm", "events", "candidates", "relocation", "repeaters"}
_CANDIDATES = "candidates"
"""The group in which a study has the sequences before they are relocated."""
_SHARED = ("catalog", "stations")
_PACKAGES = ("specufex_dask", "numpy", "scipy", "xarray", "dask", "zarr", "scikit-learn", "matplotlib")


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
    silhouettes and tree of the clusters, map and time line of the events by cluster, and the typical
    records of each cluster: those nearest to its mean fingerprint, each of another event. Of a cube
    of records only these are read, so the cost hardly grows with the store. Of several stations, how
    far they agree on the merged events, and of repeaters, each sequence: where, when, how often and
    how large. Figures show the largest of many clusters and sequences. Two reports of one store
    differ in their footer at most.

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
    if group is None and "repeaters" in stages and "repeaters" in whole(store, group=_CANDIDATES):
        stages[_CANDIDATES] = load(store, "repeaters", group=_CANDIDATES)
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
    for stage in _SMALL & stages.keys():
        stages[stage] = stages[stage].compute()
    last = next((stage for stage in ("clusters", "fingerprints", "spectrograms") if stage in stages), None)
    if last is not None:
        stages[last] = report_records.small(stages[last])
    counts = report_records.rejected(stages[last]) if last is not None else None
    stations = report_stations.of_stations(store) if group is None and last is None else {}
    yield report_sections.glance(stages, counts, begun, stations)
    held = [report_tables.contents(stages), report_settings.settings(stages, stations)]
    yield Section("input", "What went in", tables=held)
    if counts is not None:
        table = quality.with_ledger(quality.quality_table(stages[last or ""]), store, group)
        yield report_sections.rejected(counts, stages, table)
    yield from report_sections.models(stages)
    if last == "clusters" and counts is not None:
        yield report_sections.clusters(stages["clusters"], counts)
    yield from _of_events(stages, stations)
    yield report_sections.where_and_when(stages, stages.get(last or ""))
    if last == "clusters":
        yield report_sections.typical(stages)


def _of_events(stages: Stages, stations: Mapping[str, Stages]) -> Iterator[Section]:
    """Stations with models of their own, and what was made of the clusters of all."""
    if stations:
        yield report_stations.section(stations)
    if "events" in stages:
        yield report_events.section(stages, stations)
    if "repeaters" in stages:
        yield report_repeaters.section(stages)


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
