"""Every kernel against its literal oracle in `naive`."""

from __future__ import annotations

from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma as scipy_digamma

from specufex_dask.kernels import fingerprint, gamma, hmm, nmf, stft

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 2e-15), ("float32", 1e-6)])
def test_digamma_is_scipys(dtype: str, tolerance: float) -> None:
    x = np.geomspace(1e-4, 1e8, 4001).astype(dtype)
    expected = scipy_digamma(x.astype(float))
    error = np.abs(gamma.digamma(x) - expected) / np.maximum(1, np.abs(expected))
    assert error.max() <= tolerance


def test_digamma_of_a_transposed_array_keeps_its_order() -> None:
    x = np.arange(1.0, 7.0).reshape(2, 3).T
    np.testing.assert_allclose(gamma.digamma(x), scipy_digamma(x), rtol=1e-14)


@pytest.mark.parametrize("case", [(1000, 80, 20, 4096, (15, 80), None, 1), (100, 50, 49, 2048, (2, 17), (4, 14), 5)])
def test_spectrogram_is_scipys(case: tuple[Any, ...]) -> None:
    rate, length, overlap, nfft, band, time_range, pool = case
    waveforms = np.random.default_rng(0).normal(30_000, 500, (3, 2001))
    matrix, frequency = stft.band_matrix(length, nfft, rate, band)
    expected = [naive.decibels(w, rate, length, overlap, nfft, band, time_range, pool) for w in waveforms]
    centre = (np.arange((2001 - length) // (length - overlap) + 1) * (length - overlap) + length / 2) / rate
    inside = (
        np.flatnonzero((centre >= time_range[0]) & (centre < time_range[1])) if time_range else [0, len(centre) - 1]
    )
    frames = slice(int(inside[0]), int(inside[-1]) + 1)
    got, _ = stft.spectrograms(waveforms, matrix, hop=length - overlap, frames=frames, pool=pool)
    np.testing.assert_array_equal(frequency, expected[0][0])
    np.testing.assert_allclose(got, np.stack([e[2] for e in expected]), atol=1e-9)
    single, _ = stft.spectrograms(
        waveforms.astype("float32"), matrix.astype("float32"), hop=length - overlap, frames=frames, pool=pool
    )
    assert single.dtype == np.float32
    # dB near 0 of weak bins: the float32 error is relative to the loudest bin of the record.
    assert np.abs(single - got).max() < 0.05


def _model(rng: np.random.Generator, n_frequencies: int, n_patterns: int) -> tuple[Array, Array, Array, Array]:
    w1 = rng.gamma(1.0, 1e3, (n_frequencies, n_patterns)) + 0.05
    w2 = rng.gamma(5.0, 20.0, (n_frequencies, n_patterns))
    return w1, w2, rng.gamma(2.0, 50.0, n_patterns), rng.gamma(5.0, 20.0, n_patterns)


@pytest.mark.parametrize("tau", [1.0, 1.3, 2.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 3e-5)])
def test_nmf_local_step(tau: float, dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(1)
    x, model = rng.gamma(0.6, 8.0, (5, 30, 21)), _model(rng, 30, 7)
    parts = [naive.nmf_local(r, *model, n_start=9, tau=tau, iterations=10) for r in x]
    counts, activation = nmf.local_step(x.astype(dtype), nmf.weights(*model, tau, dtype), prior=1 / 9, iterations=10)
    expected_counts, expected_activation = (np.sum(terms, axis=0) for terms in zip(*parts, strict=True))
    assert np.abs(counts - expected_counts).max() <= tolerance * expected_counts.max()
    assert np.abs(activation - expected_activation).max() <= tolerance * expected_activation.max()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_nmf_transform(dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(2)
    x, model = rng.gamma(0.6, 8.0, (5, 30, 21)), _model(rng, 30, 7)
    x[2, :, 4] = 0  # a silent frame leaves only the prior
    expected = np.stack([naive.nmf_transform(r, *model) for r in x])
    got = nmf.transform(x.astype(dtype), nmf.weights(*model, 1.0, dtype))
    assert got.dtype == np.dtype(dtype)
    assert np.abs(got - expected).max() <= tolerance * expected.max()


def test_nmf_keeps_weak_frames_of_many_patterns_in_float32() -> None:
    """E ln V of 200 patterns reaches -200, far below what float32 holds: no count may be lost."""
    rng = np.random.default_rng(3)
    model = _model(rng, 20, 200)
    x = np.full((1, 20, 5), 1e-3)
    counts, _ = nmf.local_step(x.astype("float32"), nmf.weights(*model, 1.0, "float32"), prior=1 / 200, iterations=10)
    assert counts.sum() == pytest.approx(x.sum(), rel=1e-4)


def test_nmf_held_out_score() -> None:
    rng = np.random.default_rng(4)
    x, model = rng.gamma(0.6, 8.0, (4, 30, 21)), _model(rng, 30, 7)
    seen = rng.random(x.shape) < 0.5
    expected = np.sum([naive.nmf_held_out(r, s, *model, 10) for r, s in zip(x, seen, strict=True)], axis=0)
    got = nmf.held_out_score(x, seen, nmf.weights(*model, 1.0, "float64"), iterations=10)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def _loudness(rng: np.random.Generator, n_records: int, n_time: int) -> tuple[Array, Array, Array]:
    b1, b2 = rng.gamma(0.5, 500.0, (6, 8)) + 0.1, rng.gamma(5.0, 10.0, (6, 8))
    return rng.gamma(0.5, 20.0, (n_records, 8, n_time)), b1, b2


@pytest.mark.parametrize("n_time", [1, 2, 40])
def test_hmm_posterior(n_time: int) -> None:
    loudness, b1, b2 = _loudness(np.random.default_rng(5), 4, n_time)
    level = hmm.log_likelihood(hmm.frames_of(loudness), gamma.digamma(b1) - np.log(b2), (b1 / b2).sum(axis=1))
    for record, levels in zip(loudness, level, strict=True):
        expected = naive.hmm_posterior(naive.hmm_level(record, b1, b2))
        for got, literal in zip(hmm.posterior(levels), expected, strict=True):
            np.testing.assert_allclose(got, literal, atol=1e-9)


def test_hmm_local_step_sums_over_records() -> None:
    loudness, b1, b2 = _loudness(np.random.default_rng(6), 5, 30)
    parts = [naive.hmm_local(record, b1, b2) for record in loudness]
    emission, occupancy, initial, transition = hmm.local_step(
        loudness, gamma.digamma(b1) - np.log(b2), (b1 / b2).sum(axis=1)
    )
    np.testing.assert_allclose(emission, sum(e for e, _ in parts), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(occupancy, sum(o for _, o in parts), rtol=1e-8, atol=1e-8)
    assert initial.sum() == pytest.approx(5)
    assert transition.sum() == pytest.approx(5 * 29)


def test_hmm_survives_likelihoods_far_apart() -> None:
    """Counts of thousands put the states e^-1000s apart, below what a float holds."""
    loudness, b1, b2 = _loudness(np.random.default_rng(7), 2, 20)
    level = hmm.log_likelihood(hmm.frames_of(loudness * 200), gamma.digamma(b1) - np.log(b2), (b1 / b2).sum(axis=1))
    for levels in level:
        assert all(np.isfinite(part).all() for part in hmm.posterior(levels))


def test_log_normaliser_sums_over_all_paths() -> None:
    rng = np.random.default_rng(8)
    loudness, emission = rng.gamma(1.0, 3.0, (2, 4, 5)), rng.gamma(1.0, 3.0, (3, 4)) + 0.1
    start, transition = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), 3)
    expected = sum(naive.log_normaliser(record, emission, start, transition) for record in loudness)
    got, total = hmm.held_out_score(loudness, emission, start, transition)
    assert got == pytest.approx(expected, rel=1e-12)
    assert total == pytest.approx(loudness.sum())


@given(st.integers(2, 8), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_fingerprint_is_the_closed_form(n_states: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.gamma(0.3, 5.0, (n_states, n_states))
    counts[rng.integers(n_states)] = 0  # a state that is never left
    initial = rng.dirichlet(np.full(n_states, 0.3)) + 1e-9
    np.testing.assert_allclose(fingerprint.fingerprint(initial, counts), naive.fingerprint(initial, counts), atol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_leave_their_input_alone(dtype: str) -> None:
    rng = np.random.default_rng(9)
    x = rng.gamma(0.6, 8.0, (5, 30, 21)).astype(dtype)
    before = x.copy()
    weights = nmf.weights(*_model(rng, 30, 7), 1.0, dtype)
    nmf.local_step(x, weights, prior=1 / 7, iterations=10)
    loudness = nmf.transform(x, weights)
    kept = loudness.copy()
    hmm.local_step(loudness, np.zeros((3, 7)), np.ones(3))
    fingerprint.fingerprints(loudness, np.zeros((3, 7)), np.ones(3))
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(loudness, kept)
