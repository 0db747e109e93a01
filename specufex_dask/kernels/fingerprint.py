"""Fingerprints of records: decode the HMM, then the occupancy of its states and their transitions."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from specufex_dask.kernels import hmm
from specufex_dask.kernels.gamma import FASTMATH

Array = np.ndarray[Any, np.dtype[Any]]

_DISCOUNT = 100 / 101
_FRAMES = 100
_jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=FASTMATH)


@_jit
def fingerprint(initial: Array, counts: Array) -> Array:
    """Fingerprint (state, next state) = v_i sqrt(A_ij) of expected counts without their priors.

    A has the rows of `counts` (state, next state) in proportion (a state that is never left:
    uniform); v is the occupancy sum_n g^n pi A^n, n = 0 ... 100, g = 100/101, in proportion.
    """
    n_states = len(initial)
    transition = counts + np.finfo(np.float64).eps / n_states
    for i in range(n_states):
        transition[i] /= transition[i].sum()
    start = initial / initial.sum()
    # Horner's rule: only sums of positive terms, so no digit is lost where (I - g A) is nearly singular.
    occupancy = start.copy()
    for _ in range(_FRAMES):
        following = start.copy()
        for i in range(n_states):
            weight = _DISCOUNT * occupancy[i]
            for j in range(n_states):
                following[j] += weight * transition[i, j]
        occupancy = following
    occupancy /= occupancy.sum()
    result: Array = np.sqrt(transition) * occupancy.reshape(n_states, 1)
    return result


def fingerprints(loudness: Array, log_emission: Array, emission_sum: Array) -> dict[str, Array]:
    """Fingerprint, transition, initial, state probability and sequence of `loudness` (record, pattern, time).

    ``transition`` and ``initial`` are expected counts with their priors; ``state_sequence``
    is the most probable state of each frame.
    """
    level = hmm.log_likelihood(hmm.frames_of(loudness), log_emission, emission_sum)
    n_records, n_time, n_states = level.shape
    square = (n_records, n_states, n_states)
    result = {
        "fingerprint": np.empty(square),
        "transition": np.empty(square),
        "initial": np.empty((n_records, n_states)),
        "state_probability": np.empty((n_records, n_states, n_time)),
    }
    _decode(level, *result.values())
    result["state_sequence"] = result["state_probability"].argmax(axis=1)
    return result


@_jit
def _decode(level: Array, fingerprints: Array, transition: Array, initial: Array, state_probability: Array) -> None:
    n_states = level.shape[2]
    for r in range(level.shape[0]):
        probability, first, counts = hmm.posterior(level[r])
        fingerprints[r] = fingerprint(first, counts)
        transition[r] = counts + hmm.TRANSITION_PRIOR / n_states
        initial[r] = first + hmm.INITIAL_PRIOR / n_states
        state_probability[r] = probability.T
