"""Bayesian HMM with a transition matrix for each record, compiled, one record at a time.

What does not depend on the transition matrix, the emission likelihood, is computed once. The
expected transition counts are kept apart from their prior, which enters the digammas alone:
subtracting it again later would leave rounding noise in the rows of states that are never left.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from specufex_dask.kernels.gamma import FASTMATH, constants, tail

Array = np.ndarray[Any, np.dtype[Any]]

TRANSITION_PRIOR = 0.1
INITIAL_PRIOR = 0.01
MAX_ITERATIONS = 20
TOLERANCE = 1e-12
_jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=FASTMATH)


def frames_of(loudness: Array) -> Array:
    """`loudness` (record, pattern, time) as (record, time, pattern) in float64."""
    return np.ascontiguousarray(loudness.swapaxes(1, 2), dtype=np.float64)


def log_likelihood(frames: Array, log_emission: Array, emission_sum: Array) -> Array:
    """ln p (record, time, state) of `frames` (record, time, pattern), less its largest of a frame.

    `log_emission` (state, pattern) is E ln B, `emission_sum` (state,) the sum of E B over patterns.
    """
    level: Array = np.matmul(frames, log_emission.T) - emission_sum
    level -= level.max(axis=2, keepdims=True)
    return level


def local_step(loudness: Array, log_emission: Array, emission_sum: Array) -> tuple[Array, Array, Array, Array]:
    """Sums over the records: gamma (gain V)' (state, pattern), gamma (state,), initial and transition counts.

    `loudness` (record, pattern, time) is gain x activation.
    """
    frames = frames_of(loudness)
    emission = np.zeros(log_emission.shape)
    initial, transition = np.zeros(len(emission)), np.zeros((len(emission), len(emission)))
    occupancy = _sum_counts(log_likelihood(frames, log_emission, emission_sum), frames, emission, initial, transition)
    return emission, occupancy, initial, transition


@_jit
def posterior(level: Array) -> tuple[Array, Array, Array]:
    """State probability (time, state), and expected initial (state,) and transition (state, next state) counts.

    `level` (time, state) is ln p of one record. Iterates until no entry of the counts moves by
    more than 1e-12, at most 20 times; the counts are without their priors.
    """
    n_time, n_states = level.shape
    likelihood = np.exp(level)
    probability, forward = np.empty((n_time, n_states)), np.empty((n_time, n_states))
    initial, counts, previous = np.ones(n_states), np.ones((n_states, n_states)), np.empty((n_states, n_states))
    prior, initial_prior = 0.0, 0.0
    for _ in range(MAX_ITERATIONS):
        transition = _exp_expected_log(counts, prior)
        start = _exp_expected_log(initial.reshape(1, n_states), initial_prior)[0]
        previous[:] = counts
        _forward(likelihood, start, transition, forward)
        counts = _backward(likelihood, transition, forward, probability)
        moved = max(
            np.abs(counts + (TRANSITION_PRIOR / n_states - prior) - previous).max(),
            np.abs(probability[0] - initial).max(),
        )
        initial = probability[0].copy()
        prior, initial_prior = TRANSITION_PRIOR / n_states, INITIAL_PRIOR / n_states
        if moved <= TOLERANCE:
            break
    return probability, initial, counts


@_jit
def _sum_counts(level: Array, frames: Array, emission: Array, initial: Array, transition: Array) -> Array:
    """Add the expected counts of all records; one call a block, so that threads do not queue for the interpreter."""
    n_records, n_time, n_states = level.shape
    occupancy = np.zeros(n_states)
    for r in range(n_records):
        probability, first, counts = posterior(level[r])
        initial += first
        transition += counts
        for t in range(n_time):
            for s in range(n_states):
                weight = probability[t, s]
                occupancy[s] += weight
                for k in range(frames.shape[2]):
                    emission[s, k] += weight * frames[r, t, k]
    return occupancy


@_jit
def _exp_expected_log(counts: Array, prior: float) -> Array:
    """exp(digamma(a) - digamma(sum of a's row)) of a = counts + prior (row, entry)."""
    numbers = constants(counts)
    result = np.empty_like(counts)
    for i in range(counts.shape[0]):
        total = 0.0
        for j in range(counts.shape[1]):
            total += counts[i, j] + prior
        of_total = tail(total, numbers)
        for j in range(counts.shape[1]):
            entry = counts[i, j] + prior
            result[i, j] = (entry + 8.0) / (total + 8.0) * math.exp(tail(entry, numbers) - of_total)
    return result


@_jit
def _forward(likelihood: Array, start: Array, transition: Array, forward: Array) -> None:
    n_time, n_states = likelihood.shape
    ahead = start.copy()
    for t in range(n_time):
        total = 0.0
        for j in range(n_states):
            ahead[j] *= likelihood[t, j]
            total += ahead[j]
        for j in range(n_states):
            forward[t, j] = ahead[j] / total
        ahead[:] = 0.0
        for i in range(n_states):
            weight = forward[t, i]
            for j in range(n_states):
                ahead[j] += weight * transition[i, j]


@_jit
def _backward(likelihood: Array, transition: Array, forward: Array, probability: Array) -> Array:
    """Write the state probabilities; return the expected transition counts."""
    n_time, n_states = likelihood.shape
    reverse = transition.T.copy()
    outer = np.zeros((n_states, n_states))
    message, behind = np.ones(n_states), np.empty(n_states)
    for t in range(n_time - 1, -1, -1):
        total = 0.0
        for i in range(n_states):
            probability[t, i] = forward[t, i] * message[i]
            total += probability[t, i]
        for i in range(n_states):
            probability[t, i] /= total
        if t == 0:
            break
        behind[:] = 0.0
        for j in range(n_states):
            message[j] *= likelihood[t, j]
            weight = message[j]
            for i in range(n_states):
                behind[i] += weight * reverse[j, i]
        _add_moves(forward, t - 1, behind, message, outer)
    return outer * transition


@numba.njit(inline="always")  # a call here would cost a tenth of the whole recursion
def _add_moves(forward: Array, t: int, behind: Array, message: Array, outer: Array) -> None:
    """Add the moves into one frame to `outer`, and put the message of the frame before, `behind`, in its place."""
    n_states = len(message)
    together = scale = 0.0
    for i in range(n_states):
        together += forward[t, i] * behind[i]
        scale += behind[i]
    for i in range(n_states):
        weight = forward[t, i] / together
        for j in range(n_states):
            outer[i, j] += weight * message[j]
    for i in range(n_states):
        message[i] = behind[i] / scale


@_jit
def log_normaliser(likelihood: Array, start: Array, transition: Array) -> float:
    """ln p of one record's `likelihood` (time, state), by a plain forward pass with given probabilities."""
    n_time, n_states = likelihood.shape
    ahead, total_log = start.copy(), 0.0
    for t in range(n_time):
        ahead = ahead * likelihood[t]
        total = ahead.sum()
        total_log += math.log(total)
        ahead /= total
        following = np.zeros(n_states)
        for i in range(n_states):
            for j in range(n_states):
                following[j] += ahead[i] * transition[i, j]
        ahead = following
    return total_log


def held_out_score(loudness: Array, emission: Array, start: Array, transition: Array) -> tuple[float, float]:
    """Sums over the records of `loudness` (record, pattern, time) of ln p and of the loudness itself.

    `emission` (state, pattern) is E B; `start` (state,) and `transition` (state, next state)
    are the mean distributions of the fitted records. The held-out score is the first sum over
    the second.
    """
    level = np.matmul(frames_of(loudness), np.log(emission).T) - emission.sum(axis=1)
    largest = level.max(axis=2, keepdims=True)
    likelihood = np.exp(level - largest)
    normalisers = sum(log_normaliser(record, start, transition) for record in likelihood)
    return float(normalisers + largest.sum()), float(loudness.sum(dtype=np.float64))
