"""What the models find again in data that were drawn from them."""

from __future__ import annotations

from typing import Any

import draws
import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

import specufex_dask as sx
from specufex_dask import models
from specufex_dask.kernels import fingerprint

SCALES = (2, 6, 20, 60)
TO_FIT, TO_DECODE = 300, 100


def _recovered(scale: float, seed: int, **parameters: Any) -> tuple[float, float]:
    """Normalised mutual information of true and decoded states: of the fitted model, and of the true emissions."""
    drawn = draws.states(TO_FIT + TO_DECODE, scale=scale, seed=seed)
    nmf = draws.unit_gain_nmf(drawn.counts.shape[1])
    np.testing.assert_array_equal(nmf["gain"], 1.0)
    fitted = sx.fit_hmm(draws.activations(drawn.counts[:TO_FIT], nmf), nmf, n_states=10, seed=seed, **parameters)
    certain = 1e6  # a Gamma so narrow that it is the true emission
    shape = (drawn.emission + 1e-3) * certain
    true = sx.hmm_model(emission_shape=shape, emission_rate=np.full(shape.shape, certain), nmf=nmf)
    counts, states = drawn.counts[TO_FIT:], drawn.states[TO_FIT:].ravel()

    def information(hmm: object) -> float:
        found = fingerprint.fingerprints(counts, *models.emission_of(hmm))["state_sequence"]  # type: ignore[arg-type]
        return float(normalized_mutual_info_score(states, found.ravel()))

    return information(fitted), information(true)


def test_states_of_one_draw() -> None:
    """One start, a fifth of the steps: enough to tell a fit that works from one that collapses."""
    found, reachable = _recovered(20, 1, n_init=1, max_steps=600)
    assert reachable > 0.95
    assert found >= 0.80


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_states_of_all_draws() -> None:
    found, reachable = np.array([_recovered(scale, seed) for scale in SCALES for seed in range(6)]).T
    share = found / reachable
    for scale, rows in zip(SCALES, found.reshape(len(SCALES), -1), strict=True):
        print(f"scale {scale:2d}: information on the states", *(f"{value:.3f}" for value in rows))
    print(f"smallest {found.min():.3f}; median share of what the true emissions reach {np.median(share):.3f}")
    assert found.min() >= 0.80
    assert np.median(share) >= 0.95


def _matched(seed: int) -> tuple[np.ndarray, int]:
    """Best cosine of each true pattern with a fitted one, and the number of patterns kept."""
    drawn, dictionary = draws.mixtures(300, seed=seed)
    spectrograms = sx.spectrogram_dataset(
        drawn, frequency=np.arange(float(drawn.shape[1])), time=np.arange(float(drawn.shape[2]))
    )
    fitted = sx.fit_nmf(spectrograms, seed=seed)["dictionary"].values
    true, found = (w / np.linalg.norm(w, axis=0) for w in (dictionary, fitted))
    return (true.T @ found).max(axis=1), fitted.shape[1]


def _assert_recovered(seed: int) -> None:
    cosines, n_patterns = _matched(seed)
    print(f"seed {seed}: {n_patterns} patterns kept of 75; cosines", *(f"{value:.4f}" for value in np.sort(cosines)))
    assert len(cosines) == 12
    assert cosines.min() >= 0.98
    assert 12 <= n_patterns <= 40


def test_patterns_of_one_draw() -> None:
    _assert_recovered(0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_patterns_of_more_draws(seed: int) -> None:
    _assert_recovered(seed)
