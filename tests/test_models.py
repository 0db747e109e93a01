"""Models made of given parameters, and pairs that do not belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import draws
import numpy as np
import pytest
from scipy.special import digamma

import specufex_dask as sx
from specufex_dask import models
from specufex_dask.recipe import identity

if TYPE_CHECKING:
    from collections.abc import Callable

NMF: dict[str, Any] = {
    "dictionary_shape": np.arange(1.0, 13.0).reshape(4, 3), "dictionary_rate": np.full((4, 3), 2.0),
    "weight_shape": [3.0, 1.0, 2.0], "weight_rate": [1.0, 2.0, 4.0], "frequency": [2.0, 3.0, 4.0, 5.0],
}  # fmt: skip


def test_an_nmf_model_keeps_the_order_of_its_patterns() -> None:
    model = sx.nmf_model(**NMF)
    np.testing.assert_array_equal(model["dictionary"], NMF["dictionary_shape"] / 2)
    np.testing.assert_array_equal(model["weight"], [3.0, 0.5, 0.5])
    np.testing.assert_array_equal(model["gain"], NMF["dictionary_shape"].sum(axis=0) / 2)
    np.testing.assert_array_equal(model["frequency"], NMF["frequency"])
    assert model.attrs["stage"] == "nmf"
    assert dict(model.sizes) == {"frequency": 4, "pattern": 3}


def test_weights_in_a_row_are_taken_too() -> None:
    rows = {name: np.array([NMF[name]]) for name in ("weight_shape", "weight_rate")}
    assert sx.nmf_model(**(NMF | rows)).attrs["recipe_id"] == sx.nmf_model(**NMF).attrs["recipe_id"]


@pytest.mark.parametrize("name", sorted(NMF))
def test_every_parameter_makes_another_model(name: str) -> None:
    changed = NMF | {name: np.array(NMF[name]) * 1.5}
    assert sx.nmf_model(**changed).attrs["recipe_id"] != sx.nmf_model(**NMF).attrs["recipe_id"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"dictionary_shape": np.ones((3, 4))},
            r"got dictionary_shape of shape \(3, 4\), expected \(4, 3\) \(frequency, p",
        ),
        ({"dictionary_rate": np.ones((4, 1))}, r"got dictionary_rate of shape \(4, 1\), expected \(4, 3\)"),
        ({"weight_rate": [1.0, 2.0]}, r"got weight_rate of shape \(2,\), expected \(3,\)"),
        (
            {"frequency": [1.0, 2.0]},
            r"got dictionary_shape of shape \(4, 3\), expected \(2, 3\) .*: transpose or cut it",
        ),
        (
            {"weight_shape": [1.0, 0.0, 2.0]},
            r"got weight_shape with 1 entries that are not above 0 and finite, expected a",
        ),
        ({"weight_shape": [1.0, np.nan, np.inf]}, r"got weight_shape with 2 entries .* Gamma parameter: correct them"),
        ({"dictionary_rate": -np.ones((4, 3))}, r"got dictionary_rate with 12 entries that are not above 0"),
    ],
)
def test_an_nmf_model_of_wrong_parameters(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sx.nmf_model(**(NMF | wrong))


def test_an_hmm_model_keeps_the_order_of_its_states() -> None:
    nmf = sx.nmf_model(**NMF)
    shape, rate = np.array([[1.0, 2, 3], [50, 60, 70]]), np.full((2, 3), 10.0)
    model = sx.hmm_model(emission_shape=shape, emission_rate=rate, nmf=nmf)
    np.testing.assert_array_equal(model["emission"], shape / rate)
    np.testing.assert_array_equal(model["gain"], nmf["gain"])
    assert model.attrs["nmf"] == identity(nmf)
    log_emission, emission_sum = models.emission_of(model)
    np.testing.assert_allclose(log_emission, digamma(shape) - np.log(rate), rtol=1e-14)
    np.testing.assert_allclose(emission_sum, [0.6, 18.0])
    other = sx.hmm_model(
        emission_shape=shape, emission_rate=rate, nmf=sx.nmf_model(**(NMF | {"weight_rate": [1, 2, 3]}))
    )
    assert other.attrs["recipe_id"] != model.attrs["recipe_id"]


@pytest.mark.parametrize(
    ("shape", "rate", "text"),
    [
        (
            np.ones((2, 4)),
            np.ones((2, 4)),
            r"got emission_shape of shape \(2, 4\), expected \(state, 3 patterns\): trans",
        ),
        (np.ones((2, 3)), np.ones((3, 3)), r"got emission_rate of shape \(3, 3\), expected \(state, 3 patterns\)"),
        (np.ones(3), np.ones(3), r"got emission_shape of shape \(3,\), expected \(state, 3 patterns\)"),
        (np.zeros((2, 3)), np.ones((2, 3)), r"got emission_shape with 6 entries that are not above 0 and finite"),
        (np.ones((2, 3)), np.full((2, 3), np.nan), r"got emission_rate with 6 entries that are not above 0 and finite"),
    ],
)
def test_an_hmm_model_of_wrong_parameters(shape: Any, rate: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sx.hmm_model(emission_shape=shape, emission_rate=rate, nmf=sx.nmf_model(**NMF))


def test_an_hmm_model_needs_an_nmf_model() -> None:
    with pytest.raises(
        ValueError, match="got a Dataset of stage 'spectrograms', expected 'nmf': pass what fit_nmf or nmf"
    ):
        sx.hmm_model(emission_shape=np.ones((2, 3)), emission_rate=np.ones((2, 3)), nmf=draws.spectrograms())


@pytest.mark.parametrize("frequency", [[2.0, 3.0, 4.0, 5.1], [2.0, 3.0, 4.0]])
def test_spectrograms_at_other_frequencies_are_refused(frequency: list[float]) -> None:
    n = len(frequency)
    spectrograms = sx.spectrogram_dataset(np.ones((2, n, 5)), frequency=frequency, time=np.arange(5.0))
    nmf = sx.nmf_model(**NMF)
    hmm = sx.hmm_model(emission_shape=np.ones((2, 3)), emission_rate=np.ones((2, 3)), nmf=nmf)
    text = (
        f"got spectrograms of {n} bins from 2 to {frequency[-1]:g} Hz, expected those of the model, "
        "4 bins from 2 to 5 Hz: compute them with the band, nfft and sampling rate"
    )
    with pytest.raises(ValueError, match=text):
        sx.compute_activations(spectrograms, nmf)
    with pytest.raises(ValueError, match=text):
        sx.compute_fingerprints(spectrograms, nmf, hmm)


def test_rounding_of_the_frequencies_is_forgiven() -> None:
    nmf = sx.nmf_model(**NMF)
    bins = np.array(NMF["frequency"]) * (1 + 1e-9)
    spectrograms = sx.spectrogram_dataset(np.ones((2, 4, 5)), frequency=bins, time=np.arange(5.0))
    assert sx.compute_activations(spectrograms, nmf).sizes["pattern"] == 3


def test_stages_in_each_others_place_are_refused() -> None:
    spectrograms, nmf = draws.spectrograms(4, n_frequencies=4), draws.unit_gain_nmf(3)
    hmm = sx.hmm_model(emission_shape=np.ones((2, 3)), emission_rate=np.ones((2, 3)), nmf=nmf)
    activations = sx.compute_activations(spectrograms, nmf)
    cases: list[tuple[Callable[[], object], str, str]] = [
        (lambda: sx.compute_activations(activations, nmf), "activations", "spectrograms"),
        (lambda: sx.compute_activations(spectrograms, hmm), "hmm", "nmf"),
        (lambda: sx.compute_fingerprints(activations, nmf, hmm), "activations", "spectrograms"),
        (lambda: sx.compute_fingerprints(spectrograms, hmm, nmf), "hmm", "nmf"),
        (lambda: sx.compute_fingerprints(spectrograms, nmf, nmf), "nmf", "hmm"),
        (lambda: sx.cluster_fingerprints(activations, seed=0), "activations", "fingerprints"),
    ]
    for call, got, expected in cases:
        with pytest.raises(ValueError, match=f"got a Dataset of stage '{got}', expected '{expected}': pass what "):
            call()
