"""Pairs of events as positions, with the record of each event at each station, and what is known of them already."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from specufex_dask import schema
from specufex_dask.pairs import find_pairs, places
from specufex_dask.recipe import difference, recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Array = np.ndarray[Any, np.dtype[Any]]

RESULTS = {"correlation": "float32", "lag": "float32", "quality": "int8"}
"""What is computed of each pair at each station, and how it is stored."""


@dataclass(frozen=True)
class Paired:
    """Events that are in a pair, in the order of the waveforms, and their pairs at every station.

    `positions` (pair, 2) are those of the events in `event_id` (event,), `record` (station, event)
    the record of each in the waveforms, -1 where there is none.
    """

    event_id: Array
    station_id: Array
    positions: Array
    record: Array

    @property
    def n_records(self) -> int:
        """Pairs times stations."""
        return len(self.positions) * len(self.station_id)

    def dataset(self, phase: str) -> xr.Dataset:
        """Who each record is: all pairs at the first station, then at the second."""
        one, two = (np.tile(self.event_id[self.positions[:, i]], len(self.station_id)) for i in range(2))
        station = np.repeat(self.station_id, len(self.positions))
        named = {"event_id_1": one, "event_id_2": two, "station_id": station}
        named["phase"] = np.full(self.n_records, phase, dtype=object)
        return xr.Dataset(coords={name: ("record", values) for name, values in named.items()})

    def codes(self, first: Array, second: Array) -> Array:
        """A number for each pair of positions (pair,)."""
        return np.asarray(first.astype(np.int64) * len(self.event_id) + second)


def paired_events(pairs: xr.Dataset | Sequence[xr.Dataset], waveforms: xr.Dataset) -> Paired:
    """Find the events of `pairs`, or of the pairs that share a cluster, among the records of `waveforms`."""
    if not (isinstance(pairs, xr.Dataset) and "event_id_1" in pairs):
        pairs = find_pairs(pairs)
    names = np.stack([pairs[f"event_id_{i}"].values.astype(object) for i in (1, 2)], axis=1)
    codes, events = pd.factorize(waveforms["event_id"].values.astype(object))
    stations, station_id = pd.factorize(waveforms["station_id"].values.astype(object))
    place = places(names.ravel(), events)
    _check(names, place.reshape(-1, 2), len(events))
    used = np.flatnonzero(np.bincount(place, minlength=len(events)))
    number = np.zeros(len(events), dtype=np.int32)
    number[used] = np.arange(len(used))
    record = np.full((len(station_id), len(events)), -1)
    record[stations, codes] = np.arange(len(codes))
    return Paired(events[used], station_id, number[place].reshape(-1, 2), record[:, used])


def _check(names: Array, place: Array, n_events: int) -> None:
    """Raise ``ValueError`` for the first of the pairs `names` (pair, 2) that cannot be."""
    unknown = names[place < 0]
    if unknown.size:
        msg = (
            f"got pairs of {len(set(unknown.tolist()))} events that the waveforms do not hold, the first "
            f"{unknown[0]!r}, expected none: open the waveforms with the catalogue of the pairs."
        )
        raise ValueError(msg)
    codes = place.min(axis=1) * n_events + place.max(axis=1)
    order = np.argsort(codes, kind="stable")
    again = order[1:][np.diff(codes[order]) == 0]
    wrong = np.concatenate([np.flatnonzero(place[:, 0] == place[:, 1]), again])
    if wrong.size:
        one, two = names[wrong[0]].tolist()
        what = "of an event with itself" if one == two else "that comes more than once"
        msg = f"got the pair {one!r}, {two!r} {what}, expected two events, once: leave it out of the pairs."
        raise ValueError(msg)


@dataclass(frozen=True)
class Known:
    """What is known of the records (record,) of a `Paired`: which these are, and their results."""

    is_known: Array
    results: dict[str, Array]

    def between(self, first: int, last: int) -> dict[str, Array] | None:
        """Which of the records `first` to `last` are known, and the results; None where none is."""
        rows = slice(first, last)
        if not self.is_known[rows].any():
            return None
        return {"is_known": self.is_known[rows], **{name: values[rows] for name, values in self.results.items()}}


def known_results(paired: Paired, known: Iterable[xr.Dataset]) -> Known:
    """Look the records of `paired` up in the correlations `known`, which are read whole."""
    found = Known(
        np.zeros(paired.n_records, dtype=bool),
        {name: np.zeros(paired.n_records, dtype) for name, dtype in RESULTS.items()},
    )
    n_pairs = len(paired.positions)
    ours = paired.codes(*paired.positions.T)
    order = np.argsort(ours)
    for each in known:
        one, two = (places(each[f"event_id_{i}"].values, paired.event_id) for i in (1, 2))
        station = places(each["station_id"].values, paired.station_id)
        theirs = np.where((one >= 0) & (two >= 0) & (station >= 0), paired.codes(one, two), -1)
        place = order[np.searchsorted(ours, theirs, sorter=order).clip(max=max(n_pairs - 1, 0))] if n_pairs else one
        same = np.flatnonzero(ours[place] == theirs) if n_pairs else np.empty(0, dtype=int)
        rows = station[same] * n_pairs + place[same]
        found.is_known[rows] = True
        for name, values in found.results.items():
            values[rows] = each[name].values[same]
    return found


def require_same(known: xr.Dataset, parameters: Mapping[str, object], waveforms: xr.Dataset) -> None:
    """Raise ``ValueError`` unless `known` was made with these parameters from these waveforms, of whatever pairs."""
    schema.require(known, "correlations")
    theirs = known.attrs["recipe"]
    planned = recipe("correlations", parameters, waveforms=waveforms, pairs=json.loads(theirs)["inputs"]["pairs"])
    if different := difference(planned["recipe"], theirs):
        msg = (
            f"got known correlations of another recipe: {'; '.join(different)}. Expected those of the same waveforms, "
            f"picks and parameters: leave known= out, or pass what it was made with."
        )
        raise ValueError(msg)
