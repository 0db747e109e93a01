"""Errors of relocated places, bootstrapped: relocated again and again with residuals drawn from those found.

The residuals of picks are not drawn by difference but by pick: each pick takes part in the
differences with all neighbours of its event, whose errors are therefore alike. Drawn one by one
they would average out, and the errors come out too small by a factor of two and more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, np.dtype[Any]]

_N_PILOT = 24
_LEAST_DAMPING = 1e-6
_LARGEST_DENSE = 12_000
_BLOCK = 2**25
"""Residuals drawn at once: 256 MB."""


@dataclass(frozen=True)
class System:
    """Weighted equations of double differences, columns scaled to equal norm.

    `matrix` (datum, 4 · event) is W G / `scale` (4 · event,); `weight` and `residual` [s] (datum,)
    are of the data with weight, `used` their positions among all, `kind` 0 to 3, `rays` (2, datum)
    the two picks of each.
    """

    matrix: Any
    scale: Array
    weight: Array
    residual: Array
    kind: Array
    rays: Array
    used: Array
    damping: float
    n_iterations: int


def bootstrapped_errors(system: System, n_draws: int, rng: np.random.Generator) -> Array:
    """Standard errors (event, 3) [km] of the places relative to the mean of all.

    The equations are those of the last iteration. A first round of draws tells how much smaller
    than errors residuals are, as part of each error has moved an event instead; the residuals of
    each kind are enlarged by that.
    """
    solve = _solver(system)
    pools = {kind: _pool(system, kind) for kind in np.unique(system.kind).tolist()}
    for kind, ratio in _enlargements(system, pools, solve, _draws(system, pools, min(n_draws, _N_PILOT), rng)).items():
        pools[kind] = pools[kind] * ratio
    block = max(_BLOCK // len(system.residual), 1)
    moved = np.concatenate(
        [solve(_draws(system, pools, min(block, n_draws - i), rng)) for i in range(0, n_draws, block)], axis=1
    )
    places = (moved / system.scale[:, None]).reshape(-1, 4, n_draws)[:, :3]
    error: Array = np.std(places - places.mean(axis=0), axis=2, ddof=1)
    return error


def _enlargements(
    system: System, pools: dict[int, Array], solve: Callable[[Array], Array], drawn: Array
) -> dict[int, float]:
    """By how much the errors of each kind are larger than the residuals that they leave, on draws of known size."""
    left = drawn - (system.matrix @ solve(drawn)) / system.weight[:, None]
    sums = {kind: [float((each[system.kind == kind] ** 2).sum()) for each in (drawn, left)] for kind in pools}
    return {kind: (made / remains) ** 0.5 if remains > 0 else 1.0 for kind, (made, remains) in sums.items()}


def _solver(system: System) -> Callable[[Array], Array]:
    """What moves the events for many residuals (datum, draw) at once, in scaled units (4 · event, draw).

    Damping by λ in each of k iterations is like damping by λ/√k once.
    """
    from scipy.linalg import cho_factor, cho_solve
    from scipy.sparse.linalg import lsmr

    matrix, n = system.matrix, system.matrix.shape[1]
    damping = max(system.damping**2 / system.n_iterations, _LEAST_DAMPING * matrix.shape[0])
    if n > _LARGEST_DENSE:

        def one_by_one(residual: Array) -> Array:
            right = (residual * system.weight[:, None]).T
            return np.stack([lsmr(matrix, each, damp=damping**0.5, conlim=0)[0] for each in right], axis=1)

        return one_by_one
    factors = cho_factor((matrix.T @ matrix).toarray() + damping * np.eye(n), overwrite_a=True, check_finite=False)

    def all_at_once(residual: Array) -> Array:
        found: Array = cho_solve(factors, matrix.T @ (residual * system.weight[:, None]), check_finite=False)
        return found

    return all_at_once


def _pool(system: System, kind: int) -> Array:
    """The residuals of a kind without their mean; of picks, what one of the two picks has in it."""
    pool = system.residual[system.kind == kind]
    pool = pool - pool.mean()
    result: Array = pool / np.sqrt(2) if kind >= 2 else pool  # noqa: PLR2004 - 0, 1 correlations; 2, 3 picks
    return result


def _draws(system: System, pools: dict[int, Array], n_draws: int, rng: np.random.Generator) -> Array:
    """Residuals (datum, draw): of correlations one by one, of picks from one error of each pick."""
    drawn = np.empty((len(system.residual), n_draws))
    for kind, pool in pools.items():
        rows = np.flatnonzero(system.kind == kind)
        if kind < 2:  # noqa: PLR2004 - correlations
            drawn[rows] = rng.choice(pool, (len(rows), n_draws))
            continue
        _, ends = np.unique(system.rays[:, rows], return_inverse=True)
        first, second = ends.reshape(2, -1)
        error = rng.choice(pool, (int(ends.max()) + 1, n_draws))
        drawn[rows] = error[first] - error[second]
    return drawn
