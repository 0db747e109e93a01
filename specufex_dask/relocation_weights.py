"""How much each differential time counts in an iteration (Waldhauser & Ellsworth 2000, eq. 15 and 16).

The forms are those of the program HypoDD, whose relocations they repeat to half a metre: the power
of the residual is 3 where the paper's biweight has 2, and the deviation is that of the data that had weight
in the iteration before. With the paper's forms the example of 16 events comes out 2.5 m apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from specufex_dask.hypodd_files import Differences
    from specufex_dask.hypodd_settings import Weights

Array = np.ndarray[Any, np.dtype[Any]]

_MAD = 0.67449
"""The median absolute deviation of a normal distribution of unit variance."""
_DISTANCE_POWERS = {True: 5, False: 3}


def weights_of(
    data: Differences, place: Array, residual: Array, weights: Weights, *, alive: Array, before: Array
) -> Array:
    """The a priori weight, times that of the distance of the two events, times that of the residual (datum,).

    `place` (event, 4) [km] is where the events are, `residual` (datum,) [s]; `alive` (event,)
    tells which events still take part, `before` (datum,) which data had weight the last time.
    Distance counts as (1 - (d / cutoff)^a)^a, a = 5 for correlations and 3 for picks, the
    residual as (1 - |r / cutoff|³)³, its cutoff so many deviations (MAD / 0.67449).
    """
    first = np.array([weights.cross_p, weights.cross_s, weights.catalog_p, weights.catalog_s])
    weight: Array = data.weight * first[data.kind] * (alive[data.first] & alive[data.second])
    apart = np.sqrt(((place[data.first, :3] - place[data.second, :3]) ** 2).sum(axis=1))
    cutoffs = {
        True: (weights.cross_distance_km, weights.cross_residual),
        False: (weights.catalog_distance_km, weights.catalog_residual),
    }
    for cross, (reach, limit) in cutoffs.items():
        rows = data.cross == cross
        if reach > 0:
            power = _DISTANCE_POWERS[cross]
            weight[rows] *= np.maximum(1 - (apart[rows] / reach) ** power, 0) ** power
        counted = rows & (weight > 0) & before
        if limit > 0 and counted.any():
            weight[rows] *= _of_residuals(residual[rows], residual[counted], limit)
    return weight


def _of_residuals(residual: Array, counted: Array, limit: float) -> Array:
    """All or nothing within `limit` [s] below 1; from 1 on it falls to 0 at so many deviations of those `counted`."""
    if limit < 1:
        return (np.abs(residual) <= limit).astype(float)
    deviation = float(np.median(np.abs(counted - np.median(counted)))) / _MAD
    if deviation == 0:
        return np.ones(len(residual))
    weight: Array = np.maximum(1 - np.abs(residual / (limit * deviation)) ** 3, 0) ** 3
    return weight
