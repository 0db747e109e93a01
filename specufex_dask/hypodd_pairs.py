"""Differential times of the picks of neighbouring events, chosen as HypoDD's ph2dt chooses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.kernels.pick_links import links, shared
from specufex_dask.local_frame import LocalFrame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from specufex_dask.hypodd_files import Events, Stations

Array = np.ndarray[Any, np.dtype[Any]]

_SLOWEST_KM_S = np.array([4.0, 2.3])
_SLACK_S = 0.5


@dataclass(frozen=True)
class Pairing:
    """Which events are paired, by which picks: ph2dt's parameters, in its order."""

    min_weight: float = 0.0
    max_station_km: float = 200.0
    max_separation_km: float = 10.0
    max_neighbors: int = 10
    min_links: int = 8
    min_observations: int = 8
    max_observations: int = 50

    def lines(self, stations: str, phases: str) -> list[str]:
        """The lines of ph2dt.inp."""
        head = ["* station file", stations, "* phase file", phases]
        return [
            *head,
            "* MINWGHT MAXDIST MAXSEP MAXNGH MINLNK MINOBS MAXOBS",
            " ".join(f"{v:g}" for v in vars(self).values()),
        ]  # fmt: skip


def pick_differences(events: Events, stations: Stations, picks: Mapping[str, Array], how: Pairing) -> dict[str, Array]:
    """Times of the picks that two neighbours share: first, second, station, phase, time_1, time_2, weight (datum,).

    `picks` has event, station (positions), phase (0 P, 1 S), time [s after the origin] and weight
    (pick,), one of an event, station and phase at most, sorted by these. An event's neighbours are
    the nearest `max_neighbors` within `max_separation_km` with which it shares `min_links` picks;
    a pair is kept where either event has the other for a neighbour. A difference that is larger
    than slow waves explain is left out, and of the rest those of the nearest stations are kept.
    """
    frame = LocalFrame(float(events.latitude.mean()), float(events.longitude.mean()))
    places = np.stack([*frame.km(events.latitude, events.longitude), events.depth], axis=1)
    at = np.stack(frame.km(stations.latitude, stations.longitude), axis=1)
    near = np.hypot(*(places[picks["event"], :2] - at[picks["station"]]).T) <= how.max_station_km
    kept = {name: values[near & (picks["weight"] >= how.min_weight)] for name, values in picks.items()}
    code = kept["station"] * 2 + kept["phase"]
    starts = np.searchsorted(kept["event"], np.arange(len(places) + 1))
    first, second, apart = _neighbours(places, how.max_separation_km)
    slack = apart[:, None] / _SLOWEST_KM_S + _SLACK_S
    count = shared(first, second, slack, starts, code, kept["time"])
    chosen = _chosen(first, second, count, how)
    first, second, slack = first[chosen], second[chosen], slack[chosen]
    pair, one, two = links(first, second, slack, starts, code, kept["time"], int(count[chosen].sum()))
    middle = (places[first, :2] + places[second, :2])[pair] / 2
    far = np.hypot(*(middle - at[kept["station"][one]]).T)
    order = np.lexsort((kept["phase"][one], far, pair))
    rank = np.arange(len(pair)) - np.searchsorted(pair, pair)
    order = order[rank < how.max_observations]
    pair, one, two = pair[order], one[order], two[order]
    return {
        "first": first[pair], "second": second[pair], "station": kept["station"][one], "phase": kept["phase"][one],
        "time_1": kept["time"][one], "time_2": kept["time"][two],
        "weight": (kept["weight"][one] + kept["weight"][two]) / 2,
    }  # fmt: skip


def _neighbours(places: Array, reach: float) -> tuple[Array, Array, Array]:
    """Each event with each other one within `reach`, nearest first: two positions and the distance [km]."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(places).query_pairs(reach, output_type="ndarray")
    both = np.concatenate([pairs, pairs[:, ::-1]])
    apart = np.sqrt(((places[both[:, 0]] - places[both[:, 1]]) ** 2).sum(axis=1))
    order = np.lexsort((both[:, 1], apart, both[:, 0]))
    return both[order, 0], both[order, 1], apart[order]


def _chosen(first: Array, second: Array, count: Array, how: Pairing) -> Array:
    """Which of the pairs are kept, each once: of the two ways round the one that comes first."""
    strong = count >= how.min_links
    so_far: Array = np.cumsum(strong) - strong
    before: Array = so_far - so_far[np.searchsorted(first, first)]
    wanted = np.flatnonzero((count >= how.min_observations) & (before < how.max_neighbors))
    both = np.sort(np.stack([first[wanted], second[wanted]], axis=1), axis=1)
    _, once = np.unique(both, axis=0, return_index=True)
    chosen: Array = wanted[np.sort(once)]
    return chosen
