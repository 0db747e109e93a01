"""Relocate events by double differences (Waldhauser & Ellsworth 2000, Bull. Seism. Soc. Am. 90, 1353-1368).

The differential times of two events at a station tell how far they lie apart, as what their
paths share cancels. Each iteration traces the rays, weighs the differences between observed and
calculated ones, and moves all events of a cluster at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.blocks import one_blas_thread
from specufex_dask.kernels.double_difference import first_arrivals
from specufex_dask.local_frame import LocalFrame
from specufex_dask.relocation_errors import System, bootstrapped_errors
from specufex_dask.relocation_weights import weights_of

if TYPE_CHECKING:
    from specufex_dask.hypodd_files import Differences, Events, Stations
    from specufex_dask.hypodd_settings import Settings, Weights

Array = np.ndarray[Any, np.dtype[Any]]

N_KINDS = 4
"""P and S of correlations, P and S of picks."""

_SURFACE_KM = 0.0
_TOLERANCE = 1e-6
_MOST_STEPS = 2000
_LARGEST_SVD = 2**28


@dataclass(frozen=True)
class Solution:
    """Where events are, as columns (event,), NaN for those that are not relocated: their cluster is -1.

    `place` (event, 4) is east, north, depth [km] in the `frame` and the shift of the origin time
    [s], `centre` (event, 3) the mean of the cluster's first places, `error` (event, 3) [km].
    """

    frame: LocalFrame
    place: Array
    centre: Array
    error: Array
    n_data: Array
    rms: Array
    cluster: Array


@dataclass
class _Problem:
    """One cluster: its events' places (event, 4), stations (station, 2) [km], data, and what is known of the rays."""

    place: Array
    stations: Array
    data: Differences
    settings: Settings
    alive: Array = field(init=False)
    weighed: Array = field(init=False)
    rays: Array = field(init=False)
    ray_1: Array = field(init=False)
    ray_2: Array = field(init=False)

    def __post_init__(self) -> None:
        """Each ray once, however many differences it is part of: event, station, phase (3, ray)."""
        d = self.data
        ends = [(end * len(self.stations) + d.station) * 2 + d.phase for end in (d.first, d.second)]
        ray, inverse = np.unique(np.concatenate(ends), return_inverse=True)
        self.rays = np.stack([ray // 2 // len(self.stations), ray // 2 % len(self.stations), ray % 2])
        self.ray_1, self.ray_2 = np.split(inverse, 2)
        self.alive = np.ones(len(self.place), bool)
        self.weighed = np.ones(len(d.time), bool)


def relocate(
    events: Events, stations: Stations, data: Differences, settings: Settings, *, n_bootstrap: int, seed: int
) -> Solution:
    """Move `events` so that they explain `data`, cluster by cluster of linked events, the largest first.

    Raises
    ------
    ValueError
        A limit is asked for that is not known here, or a cluster is too large for singular values.
    """
    if settings.max_gap > 0:
        msg = f"got a largest azimuthal gap (MAXGAP) of {settings.max_gap:g}, expected none (-999): choose the events."
        raise ValueError(msg)
    frame = LocalFrame(float(events.latitude.mean()), float(events.longitude.mean()))
    n = len(events.number)
    start = np.stack([*frame.km(events.latitude, events.longitude), events.depth, np.zeros(n)], axis=1)
    at = np.stack(frame.km(stations.latitude, stations.longitude), axis=1)
    used = data.take(_within_limits(data, start, at, settings))
    cluster = clusters(used, n, settings)
    result = Solution(
        frame, np.full((n, 4), np.nan), np.full((n, 3), np.nan), np.full((n, 3), np.nan),
        np.zeros((n, N_KINDS), np.int64), np.full((n, 2), np.nan), np.full(n, -1),
    )  # fmt: skip
    wanted = range(cluster.max() + 1) if settings.cluster <= 0 else [settings.cluster - 1]
    for label in wanted:
        members = np.flatnonzero(cluster == label)
        with one_blas_thread():
            _relocate_cluster(
                members,
                start=start,
                stations=at,
                data=used,
                settings=settings,
                result=result,
                n_bootstrap=n_bootstrap,
                rng=np.random.default_rng([seed, label]),
            )
        done = members[np.isfinite(result.place[members, 0])]
        result.cluster[done] = label
    return result


def clusters(data: Differences, n_events: int, settings: Settings) -> Array:
    """Cluster of each event (event,): 0 the largest, -1 for one that is linked to no other."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pair = np.minimum(data.first, data.second) * n_events + np.maximum(data.first, data.second)
    linked, count = np.unique(pair, return_counts=True)
    linked = linked[count >= max(settings.min_links_cross + settings.min_links_catalog, 1)]
    shape = (n_events, n_events)
    graph = coo_array((np.ones(len(linked)), (linked // n_events, linked % n_events)), shape=shape)
    _, label = connected_components(graph, directed=False)
    sizes = np.bincount(label)
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(len(sizes), np.int64)
    rank[order] = np.where(sizes[order] > 1, np.arange(len(sizes)), -1)
    found: Array = rank[label]
    return found


def _within_limits(data: Differences, place: Array, stations: Array, settings: Settings) -> Array:
    """Which data are of the kinds and distances asked for."""
    centre = place[:, :2].mean(axis=0)
    apart = np.hypot(*((place[data.first, :2] + place[data.second, :2]) / 2 - stations[data.station]).T)
    kept = np.hypot(*(stations - centre).T)[data.station] <= settings.max_station_km
    kept &= np.where(data.cross, settings.cross, settings.catalog)
    kept &= np.isin(data.phase, ["PS".index(phase) for phase in settings.phases])
    if settings.min_pair_station_km >= 0:
        kept &= apart >= settings.min_pair_station_km
    if settings.max_pair_station_km >= 0:
        kept &= apart <= settings.max_pair_station_km
    chosen: Array = kept
    return chosen


def _relocate_cluster(
    members: Array,
    *,
    start: Array,
    stations: Array,
    data: Differences,
    settings: Settings,
    result: Solution,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> None:
    """Write the events of one cluster, the positions `members`, into `result`."""
    position = np.full(len(start), -1)
    position[members] = np.arange(len(members))
    own = data.take((position[data.first] >= 0) & (position[data.second] >= 0))
    own = type(own)(position[own.first], position[own.second], *(getattr(own, n) for n in _OTHERS))
    place = start[members].copy()
    centre = place[:, :3].mean(axis=0)
    if settings.from_centroid:
        place[:, :3] = centre
    problem = _Problem(place, stations, own, settings)
    system = _iterate(problem)
    if not problem.alive.any():
        return  # the cutoffs have left nothing
    errors = bootstrapped_errors(system, n_bootstrap, rng)
    kept = members[problem.alive]
    result.place[kept], result.centre[kept] = place[problem.alive], centre
    result.error[kept] = errors
    result.n_data[members], result.rms[members] = _quality(problem, system)


_OTHERS = ("station", "phase", "cross", "time", "weight")


def _iterate(problem: _Problem) -> System:
    """Move the events of a cluster through all iterations; the last system that was solved."""
    schedule = problem.settings.schedule(cross=bool(problem.data.cross.any()))
    total = sum(each.iterations for each in schedule)
    for weights in schedule:
        done = 0
        while done < weights.iterations:
            system = _system(problem, weights, total)
            if not problem.alive.any():
                return system
            step = _solved(system, svd=problem.settings.by_svd(int(problem.alive.sum())))
            moved = problem.place[problem.alive] + step
            above = moved[:, 2] < _SURFACE_KM
            if above.any() and problem.settings.remove_airquakes and not above.all():
                problem.alive[np.flatnonzero(problem.alive)[above]] = False
                continue
            moved[:, 2] = np.maximum(moved[:, 2], _SURFACE_KM)
            problem.place[problem.alive] = moved
            done += 1
    return system


def _system(problem: _Problem, weights: Weights, n_iterations: int) -> System:
    """The weighted, scaled equations of one iteration: W G m = W d, of the data that have weight."""
    from scipy.sparse import csr_array

    data, slopes, time = problem.data, *_traced(problem)
    moved = problem.place[data.first, 3] - problem.place[data.second, 3]
    residual = data.time - (time[problem.ray_1] - time[problem.ray_2]) - moved
    weight = weights_of(data, problem.place, residual, weights, alive=problem.alive, before=problem.weighed)
    problem.weighed = weight > 0
    used = np.flatnonzero(weight > 0)
    problem.alive &= (
        np.bincount(np.concatenate([data.first[used], data.second[used]]), minlength=len(problem.place)) > 0
    )
    column = np.cumsum(problem.alive) - 1
    ends = np.stack([column[data.first[used]], column[data.second[used]]], axis=1)
    values = np.stack([slopes[problem.ray_1[used]], -slopes[problem.ray_2[used]]], axis=1) * weight[used, None, None]
    columns = ends[:, :, None] * 4 + np.arange(4)
    shape = (len(used), 4 * int(problem.alive.sum()))
    matrix = csr_array((values.ravel(), columns.ravel(), np.arange(len(used) + 1) * 8), shape=shape)
    scale = np.sqrt(np.bincount(matrix.indices, matrix.data**2, minlength=shape[1]) / max(len(used), 1))
    scale[scale == 0] = 1.0
    matrix.data /= scale[matrix.indices]
    damping = 0.0 if problem.settings.by_svd(int(problem.alive.sum())) else weights.damping or 0.0
    rays = np.stack([problem.ray_1[used], problem.ray_2[used]])
    return System(matrix, scale, weight[used], residual[used], data.kind[used], rays, used, damping, n_iterations)


def _traced(problem: _Problem) -> tuple[Array, Array]:
    """Slopes (ray, 4) [s/km; s/s] with east, north, depth, origin time, and travel times [s] of all rays."""
    event, station, phase = problem.rays
    away = problem.place[event, :2] - problem.stations[station]
    distance = np.hypot(*away.T)
    arrival = np.empty((3, len(event)))
    model = problem.settings.model
    for i, velocity in enumerate((model.p_km_s, model.s_km_s)):
        rows = phase == i
        depth = problem.place[event[rows], 2]
        layers = np.array(model.top_km, float), np.array(velocity, float)
        arrival[:, rows] = first_arrivals(distance[rows], depth, _SURFACE_KM, *layers)
    across = away * (arrival[1] / np.maximum(distance, 1e-9))[:, None]
    return np.column_stack([across, arrival[2], np.ones(len(event))]), arrival[0]


def _solved(system: System, *, svd: bool) -> Array:
    """How far to move each event (event, 4): by singular values without a shift of the mean, or damped by LSMR."""
    from scipy.linalg import qr
    from scipy.sparse.linalg import lsmr

    right = system.weight * system.residual
    if not svd:
        found = lsmr(
            system.matrix, right, damp=system.damping, atol=_TOLERANCE, btol=_TOLERANCE, conlim=0, maxiter=_MOST_STEPS
        )
        return np.asarray(found[0] / system.scale).reshape(-1, 4)
    rows, columns = system.matrix.shape
    if rows * columns > _LARGEST_SVD:
        msg = (
            f"got {rows} differential times of {columns // 4} events for singular values, expected at most "
            f"{_LARGEST_SVD // columns}: pass svd=False."
        )
        raise ValueError(msg)
    mean = np.tile(np.eye(4), columns // 4) / system.scale
    whole = np.column_stack([np.vstack([system.matrix.toarray(), mean]), np.append(right, np.zeros(4))])
    triangle = qr(whole, mode="r", overwrite_a=True, check_finite=False)[0][: columns + 1]
    found = np.linalg.lstsq(triangle[:, :-1], triangle[:, -1], rcond=1e-10)[0]
    return np.asarray(found / system.scale).reshape(-1, 4)


def _quality(problem: _Problem, system: System) -> tuple[Array, Array]:
    """Data used (event, 4) of each kind and rms [s] (event, 2) of correlations and of picks, of each event."""
    n = len(problem.place)
    ends = np.concatenate([problem.data.first[system.used], problem.data.second[system.used]])
    kind = np.tile(system.kind, 2)
    count = np.bincount(ends * N_KINDS + kind, minlength=n * N_KINDS).reshape(n, N_KINDS)
    squares = np.bincount(ends * 2 + kind // 2, np.tile(system.residual**2, 2), minlength=n * 2).reshape(n, 2)
    number = count.reshape(n, 2, 2).sum(axis=2)
    return count, np.sqrt(squares / np.where(number > 0, number, np.nan))
