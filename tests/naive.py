"""Slow, literal forms of every kernel: the formulas as a careful person would type them into NumPy.

float64 throughout, one record at a time; the array (pattern, frequency, time) exists here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.signal import spectrogram
from scipy.special import digamma

Array = np.ndarray[Any, np.dtype[Any]]


def decibels(
    waveform: Array, rate: float, length: int, overlap: int, nfft: int, band: tuple[float, float],
    time_range: tuple[float, float] | None = None, pool: int = 1,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Frequencies, times and spectrogram (frequency, time) in dB above the median of one record."""
    frequency, time, magnitude = spectrogram(
        waveform, rate, nperseg=length, noverlap=overlap, nfft=nfft, scaling="spectrum", mode="magnitude"
    )
    inside = (frequency >= band[0]) & (frequency <= band[1])
    frequency, magnitude = frequency[inside], magnitude[inside]
    if time_range is not None:
        kept = (time >= time_range[0]) & (time < time_range[1])
        time, magnitude = time[kept], magnitude[:, kept]
    n = magnitude.shape[1] // pool
    magnitude = magnitude[:, : n * pool].reshape(len(frequency), n, pool).mean(axis=2)
    time = time[: n * pool].reshape(n, pool).mean(axis=1)
    with np.errstate(divide="ignore"):
        return frequency, time, np.maximum(20 * np.log10(magnitude / np.median(magnitude)), 0)


def responsibility(log_weight: Array, log_activation: Array, tau: float) -> Array:
    """P (pattern, frequency, time) in proportion to exp{(E ln W + E ln A + E ln V) / tau}."""
    exponent = (log_weight.T[:, :, None] + log_activation[:, None, :]) / tau
    exponent -= exponent.max(axis=0)
    p = np.exp(exponent)
    p /= p.sum(axis=0)
    return p


def nmf_local(
    x: Array, w1: Array, w2: Array, a1: Array, a2: Array, *, n_start: int, tau: float, iterations: int
) -> tuple[Array, Array]:
    """sum_t X P (frequency, pattern) and sum_t E V (pattern,) of one record x (frequency, time), in a fit."""
    n_patterns = len(a1)
    log_weight = digamma(w1) - np.log(w2) + digamma(a1) - np.log(a2)
    v1 = np.full((n_patterns, x.shape[1]), 1 / n_patterns)
    v2 = np.ones((n_patterns, 1))
    for _ in range(iterations):
        p = responsibility(log_weight, digamma(v1) - np.log(v2), tau)
        v1 = 1 + (1 / n_start + (p * x).sum(axis=1) - 1) / tau
        v2 = ((1 + (w1 / w2 * (a1 / a2)).sum(axis=0)) / tau)[:, None]
    p = responsibility(log_weight, digamma(v1) - np.log(v2), tau)
    return (p * x).sum(axis=2).T, (v1 / v2).sum(axis=1)


def nmf_transform(x: Array, w1: Array, w2: Array, a1: Array, a2: Array) -> Array:
    """Activation V1/V2 (pattern, time) of one record x (frequency, time)."""
    n_patterns = len(a1)
    log_weight = digamma(w1) - np.log(w2) + digamma(a1) - np.log(a2)
    v1, v2 = np.ones((n_patterns, x.shape[1])), np.ones((n_patterns, 1))
    for _ in range(5):
        p = responsibility(log_weight, digamma(v1) - np.log(v2), 1.0)
        v1 = 1 / n_patterns + (p * x).sum(axis=1)
        v2 = (1 + (w1 / w2 * (a1 / a2)).sum(axis=0))[:, None]
    return v1 / v2


def nmf_global(
    w1: Array, w2: Array, a1: Array, a2: Array, counts: Array, activation: Array,
    *, n_start: int, rho: float, tau: float, scale: float,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """The global step: w1, w2 (frequency, pattern), a1, a2 (pattern,) after it; scale is N_eff / frames."""
    n_frequencies = len(w1)
    new_w1 = (1 - rho) * w1 + rho * (1 + (10 / n_frequencies + scale * counts - 1) / tau)
    new_w2 = (1 - rho) * w2 + rho * (1 + scale * (a1 / a2) * activation) / tau
    new_a1 = (1 - rho) * a1 + rho * (1 + (1 / n_start + scale * counts.sum(axis=0) - 1) / tau)
    new_a2 = (1 - rho) * a2 + rho * (1 + scale * (new_w1 / new_w2).sum(axis=0) * activation) / tau
    return new_w1, new_w2, new_a1, new_a2


def nmf_held_out(
    x: Array, seen: Array, w1: Array, w2: Array, a1: Array, a2: Array, iterations: int
) -> tuple[float, float]:
    """Sums of X ln(lambda) - lambda and of X over the bins of one record x (frequency, time) that are not `seen`."""
    n_patterns = len(a1)
    expected = w1 / w2 * (a1 / a2)
    log_weight = digamma(w1) - np.log(w2) + digamma(a1) - np.log(a2)
    v1 = np.full((n_patterns, x.shape[1]), 1 / n_patterns)
    v2 = np.ones((n_patterns, x.shape[1]))
    for _ in range(iterations):
        p = responsibility(log_weight, digamma(v1) - np.log(v2), 1.0)
        v1 = 1 / n_patterns + (p * (x * seen)).sum(axis=1)
        v2 = 1 + expected.T @ seen.astype(float)
    rate = expected @ (v1 / v2)
    return float((x * np.log(rate) - rate)[~seen].sum()), float(x[~seen].sum())


def hmm_posterior(log_likelihood: Array, iterations: int = 20) -> tuple[Array, Array, Array]:
    """State probability (time, state), expected initial (state,) and transition (state, state) counts of one record."""
    n_time, n_states = log_likelihood.shape
    p = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    transition, initial = np.ones((n_states, n_states)), np.ones(n_states)
    for _ in range(iterations):
        a = np.exp(digamma(transition) - digamma(transition.sum(axis=1, keepdims=True)))
        start = np.exp(digamma(initial) - digamma(initial.sum()))
        alpha, beta = np.empty((n_time, n_states)), np.ones((n_time, n_states))
        alpha[0] = start * p[0]
        alpha[0] /= alpha[0].sum()
        for t in range(1, n_time):
            alpha[t] = (a.T @ alpha[t - 1]) * p[t]
            alpha[t] /= alpha[t].sum()
        counts = np.zeros((n_states, n_states))
        for t in range(n_time - 1, 0, -1):
            xi = a * np.outer(alpha[t - 1], beta[t] * p[t])
            counts += xi / xi.sum()
            beta[t - 1] = a @ (beta[t] * p[t])
            beta[t - 1] /= beta[t - 1].sum()
        gamma = alpha * beta
        gamma /= gamma.sum(axis=1, keepdims=True)
        transition, initial = 0.1 / n_states + counts, 0.01 / n_states + gamma[0]
    return gamma, gamma[0], counts


def hmm_level(loudness: Array, b1: Array, b2: Array) -> Array:
    """ln p (time, state) of one record's gain x activation (pattern, time)."""
    level: Array = (digamma(b1) - np.log(b2)) @ loudness - (b1 / b2).sum(axis=1)[:, None]
    return level.T


def hmm_local(loudness: Array, b1: Array, b2: Array) -> tuple[Array, Array]:
    """sum gamma (gain V)' (state, pattern) and sum gamma (state,) of one record."""
    gamma, _, _ = hmm_posterior(hmm_level(loudness, b1, b2))
    return gamma.T @ loudness.T, gamma.sum(axis=0)


def fingerprint(initial: Array, counts: Array) -> Array:
    """v_i sqrt(A_ij), with the occupancy by the closed form of the geometric sum."""
    n_states = len(initial)
    a = counts + np.finfo(float).eps / n_states
    a /= a.sum(axis=1, keepdims=True)
    g = 100 / 101
    power = np.linalg.matrix_power(g * a, 101)
    v = (initial / initial.sum()) @ np.linalg.inv(np.eye(n_states) - g * a) @ (np.eye(n_states) - power)
    result: Array = (v / v.sum())[:, None] * np.sqrt(a)
    return result


def log_normaliser(loudness: Array, emission: Array, start: Array, transition: Array) -> float:
    """ln of the sum over all state paths of one short record, path by path."""
    n_time, n_states = loudness.shape[1], len(start)
    level = (np.log(emission) @ loudness - emission.sum(axis=1)[:, None]).T
    total = -np.inf
    for path in np.ndindex(*(n_states,) * n_time):
        term = np.log(start[path[0]]) + level[0, path[0]]
        for t in range(1, n_time):
            term += np.log(transition[path[t - 1], path[t]]) + level[t, path[t]]
        total = np.logaddexp(total, term)
    return float(total)


def coefficients(still: Array, sliding: Array) -> Array:
    """Correlation coefficient (lag,) of `still` with each stretch of `sliding` of its length."""
    n = len(still)
    found = np.zeros(len(sliding) - n + 1)
    for lag in range(len(found)):
        below = sliding[lag : lag + n]
        found[lag] = np.sum(still * below) / np.sqrt(np.sum(still**2) * np.sum(below**2))
    return found


def correlation(still: Array, sliding: Array) -> tuple[float, float]:
    """Largest coefficient, and its lag from the middle [samples], of the cosine through it and its neighbours.

    y(k) = A cos(w (k - d)) at k = -1, 0, 1: y(-1) + y(1) = 2 A cos(w) cos(w d), y(1) - y(-1) = 2 A sin(w) sin(w d).
    """
    found = coefficients(still, sliding)
    best, middle = int(found.argmax()), (len(found) - 1) // 2
    if best in (0, len(found) - 1) or found[best] <= 0:
        return float(found[best]), np.nan
    before, at, after = found[best - 1 : best + 2]
    if not -2 * at < before + after < 2 * at:  # no cosine
        return float(at), best - middle
    w = np.arccos((before + after) / (2 * at))
    d = np.arctan((after - before) / np.sin(w) / (2 * at)) / w
    return min(float(at / np.cos(w * d)), 1.0), best - middle + d
