"""The correlation kernel against its literal form, and the lags of shifted copies."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfiltfilt

from specufex_dask.kernels import correlation as kernel
from specufex_dask.reading import load_obspy

Array = np.ndarray[Any, np.dtype[Any]]

RATE, N_SAMPLES, MAX_LAG = 100.0, 200, 50


def _band_passed(noise: Array) -> Array:
    sections = butter(4, (1, 10), btype="bandpass", fs=RATE, output="sos")
    return np.asarray(sosfiltfilt(sections, noise, axis=-1))


def _shifted_pairs(n: int, signal_to_noise: float) -> tuple[Array, Array]:
    """Windows (2 n, sample) of signals and their copies, each after its signal, and the true delay of the copy [s]."""
    rng = np.random.default_rng(0)
    signal = _band_passed(rng.standard_normal((n, 1024)))
    delay = rng.uniform(-0.2, 0.2, n)
    phase = np.exp(-2j * np.pi * np.fft.rfftfreq(1024, 1 / RATE) * delay[:, None])
    both = np.stack([signal, np.fft.irfft(np.fft.rfft(signal) * phase, 1024)], axis=1)
    if np.isfinite(signal_to_noise):
        noise = _band_passed(rng.standard_normal(both.shape))  # of the signal's own band, in both
        both += noise * (both.std(axis=2, keepdims=True) / noise.std(axis=2, keepdims=True)) / signal_to_noise
    return both[:, :, 350 : 350 + N_SAMPLES + 2 * MAX_LAG].reshape(2 * n, -1).astype(np.float32), delay


def _kernel(windows: Array, max_lag: int, first: Array, second: Array) -> tuple[Array, Array]:
    found: tuple[Array, Array] = kernel.correlate(*kernel.prepare(windows, max_lag), first, second)
    return found


@settings(max_examples=60, deadline=None)
@given(
    n_samples=st.integers(3, 60),
    max_lag=st.integers(1, 20),
    scale=st.sampled_from([1e-20, 1.0, 1e20]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_kernel_is_its_literal_form(n_samples: int, max_lag: int, scale: float, seed: int) -> None:
    windows = np.random.default_rng(seed).standard_normal((5, n_samples + 2 * max_lag)).cumsum(axis=1) * scale
    windows = windows.astype(np.float32)
    first, second = np.triu_indices(5, 1)
    correlation, lag = _kernel(windows, max_lag, first, second)
    for i, (one, two) in enumerate(zip(first, second, strict=True)):
        still = windows[one, max_lag : max_lag + n_samples].astype(float) / scale
        sliding = windows[two].astype(float) / scale
        coefficients = naive.coefficients(still, sliding)
        wanted, wanted_lag = naive.correlation(still, sliding)
        np.testing.assert_allclose(correlation[i], wanted, atol=1e-5)
        gap = np.sort(coefficients)[-1] - np.sort(coefficients)[-2]
        if gap > 1e-5 and correlation[i] > 0 and abs(np.diff(coefficients, 2)).max() > 0.01:  # else the peak is flat
            np.testing.assert_allclose(lag[i], wanted_lag, atol=0.02)


def test_the_literal_form_is_what_obspy_calls_a_full_normalisation() -> None:
    load_obspy()
    from obspy.signal.cross_correlation import correlate_template

    sliding, still = _shifted_pairs(1, 10)[0].astype(float)
    still = still[MAX_LAG:-MAX_LAG]
    theirs = correlate_template(sliding, still, demean=False, normalize="full")
    np.testing.assert_allclose(naive.coefficients(still, sliding), theirs, atol=1e-9)


@pytest.mark.parametrize(
    ("signal_to_noise", "median_ms", "worst_ms"), [(np.inf, 0.03, 0.25), (100, 0.06, 0.6), (10, 0.5, 3)]
)
def test_the_lag_of_a_shifted_copy(signal_to_noise: float, median_ms: float, worst_ms: float) -> None:
    windows, delay = _shifted_pairs(1000, signal_to_noise)
    first = np.arange(0, 2000, 2)
    correlation, lag = _kernel(windows, MAX_LAG, first, first + 1)
    error_ms = 1e3 * np.abs(lag / RATE - delay)
    assert np.median(error_ms) <= median_ms
    assert error_ms.max() <= worst_ms
    if signal_to_noise == np.inf:
        assert correlation.min() > 0.998, "the height is that between the samples, not that of the nearest one"
        np.testing.assert_allclose(np.median(lag / RATE - delay), 0, atol=5e-6)


def test_a_pair_has_the_same_bits_whichever_others_there_are() -> None:
    windows, _ = _shifted_pairs(20, 10)
    prepared = kernel.prepare(windows, MAX_LAG)
    pairs = np.stack(np.triu_indices(40, 1), axis=1)
    whole = np.stack(kernel.correlate(*prepared, *pairs.T))
    order = np.random.default_rng(0).permutation(len(pairs))
    parts = [np.stack(kernel.correlate(*prepared, *pairs[order[i : i + 7]].T)) for i in range(0, len(order), 7)]
    assert np.concatenate(parts, axis=1).tobytes() == whole[:, order].tobytes()
    few = windows[[3, 17]]
    assert np.stack(_kernel(few, MAX_LAG, np.array([0]), np.array([1]))).tobytes() == (
        np.stack(kernel.correlate(*prepared, np.array([3]), np.array([17]))).tobytes()
    )


def test_windows_that_cannot_be_correlated_are_nan_and_harm_no_other() -> None:
    windows, _ = _shifted_pairs(3, np.inf)
    windows[1, 7], windows[2, 9], windows[3] = np.nan, -np.inf, 0
    windows[4, :MAX_LAG] = 0  # silence ahead of the onset is fine
    windows[4, MAX_LAG + N_SAMPLES :] = 0
    kept = windows.copy()
    first, second = np.divmod(np.arange(36), 6)
    correlation, lag = (each.reshape(6, 6) for each in _kernel(windows, MAX_LAG, first, second))
    usable = np.isin(np.arange(6), [0, 4, 5])
    np.testing.assert_array_equal(np.isfinite(correlation), usable[:, None] & usable)
    assert np.isnan(lag[~usable]).all()
    assert np.isnan(lag[:, ~usable]).all()
    np.testing.assert_allclose(correlation[usable, usable], 1, atol=1e-6)
    np.testing.assert_allclose(lag[usable, usable], 0, atol=0.02)
    np.testing.assert_array_equal(windows, kept)


def test_a_largest_correlation_at_an_end_has_no_lag() -> None:
    ramp = np.arange(1.0, 31.0) ** 3
    windows = np.stack([ramp, ramp[::-1]]).astype(np.float32)
    correlation, lag = _kernel(windows, 5, np.array([0, 1]), np.array([1, 0]))
    assert np.isfinite(correlation).all()
    assert np.isnan(lag).all()
