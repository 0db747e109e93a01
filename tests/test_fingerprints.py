"""Fingerprints and activations as stages: what is kept, in which precision, and of which models."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import draws
import naive
import numpy as np
import pytest

import specufex_dask as sx
from specufex_dask.recipe import identity

if TYPE_CHECKING:
    import xarray as xr

N_STATES, N_PATTERNS, N_TIME = 4, 3, 20
UNUSABLE = [2, 9]
ALWAYS = ["fingerprint", "transition", "state_sequence", "quality"]


@cache
def _stages() -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """Spectrograms of 12 records, two of them unusable, and models with prior-like and with large shapes."""
    rng = np.random.default_rng(0)
    spectrograms = draws.with_quality(draws.spectrograms(12), UNUSABLE, variable="spectrogram")
    nmf = sx.nmf_model(
        dictionary_shape=rng.gamma(0.5, 90.0, (12, N_PATTERNS)) + 0.1, dictionary_rate=np.full((12, N_PATTERNS), 80.0),
        weight_shape=rng.gamma(9.0, 5.0, N_PATTERNS), weight_rate=np.full(N_PATTERNS, 30.0),
        frequency=spectrograms["frequency"],
    )  # fmt: skip
    shape = rng.gamma(0.5, 5e3, (N_STATES, N_PATTERNS)) + 0.1
    hmm = sx.hmm_model(emission_shape=shape, emission_rate=np.full(shape.shape, 90.0), nmf=nmf)
    return spectrograms, nmf, hmm


def _literal(record: xr.DataArray) -> dict[str, Any]:
    """The whole chain for one record, formula by formula."""
    _, nmf, hmm = _stages()
    names = ("dictionary_shape", "dictionary_rate", "weight_shape", "weight_rate")
    w1, w2, a1, a2 = (nmf[name].values for name in names)
    activation = naive.nmf_transform(record.values.astype(float), w1, w2, a1, a2)
    level = naive.hmm_level(
        activation * nmf["gain"].values[:, None], hmm["emission_shape"].values, hmm["emission_rate"].values
    )
    probability, initial, counts = naive.hmm_posterior(level)
    return {
        "activation": activation, "fingerprint": naive.fingerprint(initial, counts),
        "transition": counts + 0.1 / N_STATES, "initial": initial + 0.01 / N_STATES,
        "state_probability": probability.T, "state_sequence": probability.argmax(axis=1),
    }  # fmt: skip


def test_every_result_is_the_literal_one() -> None:
    spectrograms, nmf, hmm = _stages()
    found = sx.compute_fingerprints(
        spectrograms, nmf, hmm, keep=("initial", "state_probability"), dtype="float64"
    ).compute()
    activations = sx.compute_activations(spectrograms, nmf, dtype="float64").compute()
    for record in range(12):
        literal = _literal(spectrograms["spectrogram"][record])
        for name, expected in literal.items():
            values = (activations if name == "activation" else found)[name].values[record]
            if record in UNUSABLE:
                assert (values == -1).all() if name == "state_sequence" else np.isnan(values).all()
            else:
                np.testing.assert_allclose(values, expected, atol=1e-8, err_msg=f"{name} of record {record}")
    visited = {int(state) for state in found["state_sequence"].values.ravel()}
    assert len(visited - {-1}) > 1, "the test must see the states change"


def test_single_precision_is_the_default() -> None:
    spectrograms, nmf, hmm = _stages()
    single = sx.compute_fingerprints(spectrograms, nmf, hmm, keep=["initial"])
    double = sx.compute_fingerprints(spectrograms, nmf, hmm, keep=["initial"], dtype="float64")
    for name in ("fingerprint", "transition", "initial"):
        assert single[name].dtype == np.float32
        assert double[name].dtype == np.float64
        np.testing.assert_allclose(single[name], double[name], atol=1e-4)
    assert single["state_sequence"].dtype == double["state_sequence"].dtype == np.int8
    assert sx.compute_activations(spectrograms, nmf)["activation"].dtype == np.float32
    assert sx.compute_activations(spectrograms, nmf, dtype="float64")["activation"].dtype == np.float64


@pytest.mark.parametrize("keep", [(), ("initial",), ("state_probability",), ("state_probability", "initial")])
def test_what_is_asked_for_is_kept(keep: tuple[str, ...]) -> None:
    found = sx.compute_fingerprints(*_stages(), keep=keep).compute()
    assert sorted(map(str, found.data_vars)) == sorted([*ALWAYS, *keep])
    plain = sx.compute_fingerprints(*_stages()).compute()
    for name in ALWAYS:
        np.testing.assert_array_equal(found[name], plain[name])
    assert dict(found.sizes) == {"record": 12, "state": N_STATES, "next_state": N_STATES, "time": N_TIME}


def test_an_unknown_result_is_named() -> None:
    text = (
        r"got keep=\('initial', 'emission'\), expected names out of \('initial', 'state_probability'\): leave out \['em"
    )
    with pytest.raises(ValueError, match=text):
        sx.compute_fingerprints(*_stages(), keep=("initial", "emission"))


def test_probabilities_are_probabilities() -> None:
    found = sx.compute_fingerprints(*_stages(), keep=("initial", "state_probability"), dtype="float64")
    usable = found.isel(record=found["quality"].values == 0).compute()
    np.testing.assert_allclose(usable["state_probability"].sum("state"), 1)
    np.testing.assert_allclose(usable["initial"].sum("state"), 1 + 0.01)
    np.testing.assert_allclose(usable["transition"].sum(("state", "next_state")), N_TIME - 1 + 0.1 * N_STATES)
    np.testing.assert_array_equal(usable["state_probability"].argmax("state"), usable["state_sequence"])
    occupancy = (usable["fingerprint"] ** 2).sum("next_state") ** 0.5
    np.testing.assert_allclose(
        occupancy.sum("state"), 1, err_msg="v_i sqrt(A_ij): the rows of A sum to 1, and so does v"
    )


def test_the_stage_knows_its_records_and_its_models() -> None:
    spectrograms, nmf, hmm = _stages()
    found = sx.compute_fingerprints(spectrograms, nmf, hmm)
    for name in ("event_id", "station_id", "start_time", "time", "quality"):
        np.testing.assert_array_equal(found[name], spectrograms[name])
    assert found.attrs["nmf"] == identity(nmf)
    assert found.attrs["hmm"] == identity(hmm)
    assert found["fingerprint"].chunks
    activations = sx.compute_activations(spectrograms, nmf)
    assert activations.attrs["nmf"] == identity(nmf)
    assert activations["quality"].values.nonzero()[0].tolist() == UNUSABLE


def test_more_states_than_a_byte_counts() -> None:
    spectrograms, nmf, _ = _stages()
    rng = np.random.default_rng(0)
    shape = rng.gamma(0.5, 5e3, (200, N_PATTERNS)) + 0.1
    hmm = sx.hmm_model(emission_shape=shape, emission_rate=np.full(shape.shape, 90.0), nmf=nmf)
    found = sx.compute_fingerprints(spectrograms, nmf, hmm, keep=("state_probability",)).compute()
    usable = found["quality"].values == 0
    expected = found["state_probability"].values[usable].argmax(axis=1)
    assert expected.max() > 127, "the test must see a large number"
    np.testing.assert_array_equal(found["state_sequence"].values[usable], expected)


def test_an_hmm_of_another_nmf_is_refused() -> None:
    spectrograms = draws.spectrograms(4, n_frequencies=4)
    nmf = draws.unit_gain_nmf(3)
    fewer = draws.unit_gain_nmf(2)
    same_gain = sx.nmf_model(
        dictionary_shape=np.eye(4)[:, :3] * 0.6 + 0.1, dictionary_rate=np.ones((4, 3)),
        weight_shape=np.ones(3), weight_rate=np.ones(3), frequency=np.arange(4.0),
    )  # fmt: skip
    np.testing.assert_allclose(same_gain["gain"], nmf["gain"])
    for other, n_patterns in ((fewer, 2), (same_gain, 3)):
        hmm = sx.hmm_model(emission_shape=np.ones((2, n_patterns)), emission_rate=np.ones((2, n_patterns)), nmf=other)
        text = f"got an HMM of {n_patterns} patterns that was made with another NMF model than the given one of 3"
        with pytest.raises(ValueError, match=text):
            sx.compute_fingerprints(spectrograms, nmf, hmm)


def test_a_stored_pair_still_belongs_together(tmp_path: Any) -> None:
    spectrograms, nmf, hmm = _stages()
    stored = sx.save(nmf, tmp_path / "s.zarr"), sx.save(hmm, tmp_path / "s.zarr")
    for first in (nmf, stored[0]):
        for second in (hmm, stored[1]):
            found = sx.compute_fingerprints(spectrograms, first, second)
            assert found.attrs == sx.compute_fingerprints(spectrograms, nmf, hmm).attrs
