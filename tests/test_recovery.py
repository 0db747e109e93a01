"""What the models find again in data that were drawn from them."""

from __future__ import annotations

from typing import Any

import draws
import families
import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

import specufex_dask as sx
from specufex_dask import hmm as hmm_module
from specufex_dask import models, svi
from specufex_dask import nmf as nmf_module
from specufex_dask.hmm import GammaPoissonHMM
from specufex_dask.kernels import fingerprint
from specufex_dask.nmf import GammaPoisson

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


@pytest.mark.slow
def test_a_catalogue_in_order_of_families_is_fitted_like_a_shuffled_one() -> None:
    """Both streamed in little memory; scored on the same records, which neither has seen.

    The HMMs are of one NMF: their score is per unit of its activations.
    """
    unseen = families.spectrograms(6400, in_order=False, n_frequencies=24, n_time=20).isel(record=slice(None, None, 32))
    levels = np.ascontiguousarray(unseen["spectrogram"].values)
    scores: list[tuple[float, float]] = []
    common = None
    for in_order in (True, False):
        given = families.spectrograms(8000, in_order=in_order, chunk=128, n_frequencies=24, n_time=20)
        nmf = sx.fit_nmf(given, seed=0, n_patterns=30, batch_size=128, memory_limit=2e6)
        common = nmf if common is None else common
        hmm = sx.fit_hmm(sx.compute_activations(given, common), common, seed=0, batch_size=128, memory_limit=1e6)
        assert nmf.attrs["n_sampled"] > 4000, "the larger minibatches streamed"
        names = ("dictionary_shape", "dictionary_rate", "weight_shape", "weight_rate")
        posterior = nmf_module.Posterior(*(nmf[name].values for name in names))
        factors = svi.ratio([GammaPoisson(30, 1e5, 0).score(levels, posterior)])
        loudness = sx.compute_activations(unseen, common)["activation"].values * common["gain"].values[:, None]
        names = ("emission_shape", "emission_rate", "mean_initial", "mean_transition")
        found = hmm_module.Posterior(*(hmm[name].values for name in names))
        states = svi.ratio([GammaPoissonHMM(15, 8000).score(loudness, found)])
        scores.append((factors, states))
    np.testing.assert_allclose(scores[0], scores[1], rtol=0.01)
