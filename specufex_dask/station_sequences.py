"""The sequences that one station tells, by the number of clusters that lets most events pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from specufex_dask import schema
from specufex_dask.pairs import places
from specufex_dask.similarity import Measured, converged, expanded, split
from specufex_dask.validation import IN_SEQUENCE, VERDICTS, verdicts

if TYPE_CHECKING:
    import xarray as xr

    from specufex_dask.patches import Criteria, Sources

Array = np.ndarray[Any, np.dtype[Any]]

_OF_ANOTHER = VERDICTS.index("too_far"), VERDICTS.index("other_magnitude")


@dataclass(frozen=True)
class Waveforms:
    """Correlations, and from which values on they add an event, join two clusters, and connect two events."""

    measured: Measured
    expand_above: float
    converge_above: float
    min_correlation: float | None

    def at(self, station_id: str | None) -> Waveforms | None:
        """Those of one station, None if there are none; or all of them."""
        measured = self.measured.at(station_id)
        return None if measured is None else replace(self, measured=measured)


@dataclass(frozen=True)
class Found:
    """The sequence and the verdict of each event (event,) at a station, by one number of clusters."""

    label: Array
    verdict: Array
    n_clusters: int


@dataclass(frozen=True)
class Tried:
    """The cluster (number, event) of each event for each of `n_clusters` (number,), at a station or over all (None)."""

    station_id: str | None
    n_clusters: Array
    label: Array

    def best(self, sources: Sources, criteria: Criteria, waveforms: Waveforms | None) -> Found:
        """The sequences by the number that lets most events pass; of equally good ones, that which stands first."""
        own = None if waveforms is None else waveforms.at(self.station_id)
        best, most = Found(np.empty(0), np.empty(0), 0), -1
        for n_clusters, clusters in zip(self.n_clusters.tolist(), self.label, strict=True):
            label, verdict = judged(clusters, sources, criteria, own)
            if own is not None:
                label = expanded(label, sources, own.measured.pairs, criteria, above=own.expand_above)
            passed = int((label >= 0).sum())
            if passed > most:
                best, most = Found(label, verdict, n_clusters), passed
        if own is None:
            return best
        label = converged(best.label, sources, own.measured.pairs, criteria, least=own.converge_above)
        return replace(best, label=label)


def judged(
    clusters: Array,
    sources: Sources,
    criteria: Criteria,
    waveforms: Waveforms | None,
    *,
    n_stations: int = 1,
    every_patch: bool = False,
) -> tuple[Array, Array]:
    """What is left of `clusters` (event,), -1 for none, and the verdict (event,) on each event.

    With `every_patch` the events that do not belong to the patch of their cluster are judged by themselves, again
    and again: what links has chained may be several.
    """
    label = clusters
    if waveforms is not None and waveforms.min_correlation is not None:
        label = split(clusters, *waveforms.measured.linked(waveforms.min_correlation, n_stations))
    verdict = verdicts(label, sources, criteria)
    verdict[(clusters >= 0) & (label < 0)] = VERDICTS.index("not_alike")
    left = np.where(verdict == IN_SEQUENCE, label, -1)
    rest = np.where(np.isin(verdict, _OF_ANOTHER), label, -1)
    while every_patch:
        found = verdicts(rest, sources, criteria) == IN_SEQUENCE
        if not found.any():
            break
        left[found] = rest[found] + left.max() + 1
        verdict[found], rest[found] = IN_SEQUENCE, -1
    return left, verdict


def tried_at(clusters: xr.Dataset, event_id: Array) -> list[Tried]:
    """What was tried at each station of `clusters`, or over all stations, for the events `event_id` (event,)."""
    place = places(clusters["event_id"].values, event_id)
    if (place < 0).any():
        stranger = clusters["event_id"].values[place.argmin()]
        msg = (
            f"got clusters of events that the catalogue does not hold, such as {stranger!r}, expected none: pass the "
            f"catalogue that the records were cut with."
        )
        raise ValueError(msg)
    if clusters.attrs["stage"] != "clusters":
        name = "cluster" if clusters.attrs["stage"] == "events" else "sequence"
        label = np.full(len(event_id), -1)
        label[place] = clusters[name].values
        return [Tried(None, np.array([int(label.max(initial=-1)) + 1]), label[None])]
    codes, names = pd.factorize(clusters["station_id"].values.astype(object))
    return [_at_station(clusters, name, np.flatnonzero(codes == code), place, len(event_id))
            for code, name in enumerate(names.tolist())]  # fmt: skip


def _at_station(clusters: xr.Dataset, station_id: str, record: Array, place: Array, n_events: int) -> Tried:
    again = np.flatnonzero(np.bincount(place[record], minlength=n_events) > 1)
    if len(again):
        twice = clusters["event_id"].values[record][place[record] == again[0]][0]
        msg = f"got the event {twice!r} twice at {station_id}, expected one record of an event: leave one out."
        raise ValueError(msg)
    tried = clusters["labels"].values
    label = np.full((len(tried), n_events), -1, dtype=np.int64)
    label[:, place[record]] = tried[:, record]
    return Tried(station_id, clusters["n_clusters"].values, label)


def require_clusters(dataset: xr.Dataset) -> None:
    """Raise ``ValueError`` unless `dataset` says which events belong together."""
    if dataset.attrs.get("stage") not in ("events", "repeaters"):
        schema.require(dataset, "clusters")
