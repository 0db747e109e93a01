"""Normalised cross-correlation of pairs of windows, with a lag between the samples.

One window is held still, the other, which is longer by the largest lag at both ends, slides
below it. Each lag is normalised by the energy of the samples that meet there: real ones at every
lag, no zeros, so that a large lag is not made smaller. ObsPy's ``correlate_template`` with
``normalize="full"`` does the same; full energies of cut windows, as in
``xcorr_pick_correction``, pull lags to 0 and correlations down.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_SAMPLES_AT_ONCE = 8
_NO_ENERGY = 1e-30


def prepare(windows: Array, max_lag: int) -> tuple[Array, Array]:
    """Scaled windows (event, sample), float32, and the inverse norm of each (event, lag) over what each lag meets.

    `windows` are longer by `max_lag` samples at either end than what is correlated. A window that
    is not finite, or zero throughout its middle, is NaN, and so is each of its correlations.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        peak = np.abs(windows).max(axis=1, keepdims=True).astype(np.float64)
        scaled = (windows / peak).astype(np.float32)
    scaled[~np.isfinite(scaled).all(axis=1)] = np.nan
    return scaled, _inverse_norms(scaled, max_lag)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _inverse_norms(windows: Array, max_lag: int) -> Array:
    n_events, n_lags = len(windows), 2 * max_lag + 1
    n_samples = windows.shape[1] - 2 * max_lag
    inverse = np.zeros((n_events, n_lags), np.float32)
    for event in range(n_events):
        for lag in range(n_lags):
            # A running sum would be faster, and leave a residue where there is silence after a large sample.
            energy = 0.0
            for i in range(lag, lag + n_samples):
                energy += np.float64(windows[event, i]) ** 2
            if not energy <= _NO_ENERGY:
                inverse[event, lag] = 1 / np.sqrt(energy)
        if inverse[event, max_lag] == 0:
            inverse[event] = np.nan
    return inverse


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def correlate(windows: Array, inverse: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Largest correlation of each pair (pair,) and its lag [samples] (pair,), float32.

    `windows` (event, sample) and `inverse` (event, lag) are of `prepare`, `first` and `second`
    (pair,) the events of each pair. The lag tells how much later the second event's waveform
    comes in its window. It is that of the cosine through the largest correlation and its two neighbours,
    which has half of the bias of a parabola and is exact for one frequency; the correlation is
    the cosine's, at most 1. Where the largest correlation lies at an end of the lags, or is not
    positive, the lag is NaN. Each pair has the same bits whichever others there are.
    """
    n_lags = inverse.shape[1]
    middle = (n_lags - 1) // 2
    n_samples = windows.shape[1] - 2 * middle
    correlation = np.empty(first.size, np.float32)
    lag = np.empty(first.size, np.float32)
    products = np.empty(n_lags, np.float32)
    for pair in range(first.size):
        still = windows[first[pair], middle : middle + n_samples]
        norms = inverse[second[pair]]
        _slide(still, windows[second[pair]], products)
        best = 0
        for k in range(n_lags):
            products[k] *= norms[k]
            if products[k] > products[best]:
                best = k
        scale = np.float64(inverse[first[pair], middle])
        offset, height = _peak(products, best)
        correlation[pair] = min(height * scale, 1.0) if height == height and scale == scale else np.nan  # noqa: PLR0124 - NaN
        lag[pair] = best - middle + offset if correlation[pair] > 0 else np.nan
    return correlation, lag


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _slide(still: Array, sliding: Array, products: Array) -> None:
    """Sum of products at each lag; the lags are side by side in the registers, each summed in the order of samples."""
    products[:] = 0
    whole = still.size // _SAMPLES_AT_ONCE * _SAMPLES_AT_ONCE
    for i in range(0, whole, _SAMPLES_AT_ONCE):
        a, b, c, d, e, f, g, h = still[i : i + _SAMPLES_AT_ONCE]
        for k in range(products.size):
            at = i + k
            total = products[k] + a * sliding[at] + b * sliding[at + 1] + c * sliding[at + 2] + d * sliding[at + 3]
            total += e * sliding[at + 4] + f * sliding[at + 5] + g * sliding[at + 6] + h * sliding[at + 7]
            products[k] = total
    for i in range(whole, still.size):
        for k in range(products.size):
            products[k] += still[i] * sliding[i + k]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _peak(values: Array, best: int) -> tuple[float, float]:
    """Offset from `best` [samples], NaN at an end, and height of the cosine through the largest of `values`."""
    height = np.float64(values[best])
    if best in (0, values.size - 1):
        return np.nan, height
    before, after = np.float64(values[best - 1]), np.float64(values[best + 1])
    cosine = (before + after) / (2 * height) if height > 0 else 1.0
    if not -1 < cosine < 1:
        return 0.0, height
    step = np.arccos(cosine)
    phase = np.arctan((after - before) / (2 * height * np.sin(step)))
    return phase / step, height / np.cos(phase)
