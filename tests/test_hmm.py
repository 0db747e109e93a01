"""The HMM fit against a literal loop, and what it does with few, bad and silent records."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import dask
import draws
import naive
import numpy as np
import pytest
import xarray as xr

import specufex_dask as sx
from specufex_dask import hmm, sample, svi
from specufex_dask.kernels.hmm import TRANSITION_PRIOR
from specufex_dask.schema import validate

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

N_STATES, SEED = 4, 3
SHORT: dict[str, Any] = {"n_states": N_STATES, "max_steps": 40, "seed": SEED, "n_init": 2}
PUBLISHED = SHORT | {"schedule": "published", "max_steps": 60, "dtype": "float64"}


@cache
def _nmf() -> xr.Dataset:
    """Five patterns of unequal gain."""
    rng = np.random.default_rng(0)
    return sx.nmf_model(
        dictionary_shape=rng.gamma(2.0, 1.0, (4, 5)), dictionary_rate=np.full((4, 5), 3.0),
        weight_shape=np.ones(5), weight_rate=np.ones(5), frequency=np.arange(4.0),
    )  # fmt: skip


@cache
def _activations(n_records: int = 40, *, scale: float = 20, seed: int = 0) -> xr.Dataset:
    """Activations whose gain x activation are drawn from the model."""
    drawn = draws.states(n_records, scale=scale, seed=seed, n_patterns=5, n_states=3, n_time=25)
    return draws.activations(drawn.counts / _nmf()["gain"].values[:, None], _nmf()).chunk(record=draws.CHUNK)


def _fit(activations: xr.Dataset, **parameters: Any) -> xr.Dataset:
    return sx.fit_hmm(activations, _nmf(), **parameters)


def test_the_global_step_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    shape, rate = rng.gamma(2.0, 9.0, (3, 5)), rng.gamma(2.0, 9.0, (3, 5))
    initial, transition = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), 3)
    emission, occupancy = rng.gamma(1.0, 30.0, (3, 5)), rng.gamma(1.0, 30.0, 3)
    counts = rng.gamma(1.0, 3.0, 3), rng.gamma(1.0, 3.0, (3, 3))
    model, rho = hmm.GammaPoissonHMM(3, 200), 0.3
    before = hmm.Posterior(shape, rate, initial, transition)
    moved = model.global_step(before, (emission, occupancy, *counts, np.array(8)), svi.Step(2, 8, 1.0, rho))
    np.testing.assert_allclose(moved.shape, 0.7 * shape + rho * (0.1 + 200 / 8 * emission), rtol=1e-14)
    np.testing.assert_allclose(moved.rate, 0.7 * rate + rho * (0.1 + 200 / 8 * occupancy[:, None]), rtol=1e-14)
    np.testing.assert_allclose(moved.initial, 0.7 * initial + rho * counts[0] / counts[0].sum(), rtol=1e-14)
    rows = counts[1] + TRANSITION_PRIOR / 3
    np.testing.assert_allclose(moved.transition, 0.7 * transition + rho * (rows.T / rows.sum(axis=1)).T, rtol=1e-14)
    assert moved.initial.sum() == pytest.approx(1)
    np.testing.assert_allclose(moved.transition.sum(axis=1), 1)


def _literal_fit(fit: svi.Sampled[Any], n_steps: int, n_records: int) -> tuple[Array, Array]:
    """The published fit as the paper writes it, on the minibatches of `fit`: shape and rate of the emission."""
    noise = np.random.default_rng([SEED, 0, 0]).gamma(1.0, 1.0, (N_STATES, fit.records.shape[1]))
    b1, b2 = n_records * 1000 * noise, np.full(noise.shape, n_records * 30.0)
    seen = 0
    for number in range(1, n_steps + 1):
        n = round(1 + 10 * 0.75 ** (number - 1))
        rho = (250 / (1 + 5 * (n - 1)) + number) ** -0.51
        parts = [naive.hmm_local(record, b1, b2) for record in fit.records[fit.minibatch(seen, n)]]
        emission, occupancy = np.sum([e for e, _ in parts], axis=0), np.sum([o for _, o in parts], axis=0)
        b1 = (1 - rho) * b1 + rho * (0.1 + n_records / n * emission)
        b2 = (1 - rho) * b2 + rho * (0.1 + n_records / n * occupancy[:, None])
        seen += n
    return b1, b2


def test_a_published_fit_is_the_literal_loop() -> None:
    activations = _activations(scale=60)
    found = _fit(activations, **PUBLISHED)
    records = sample.split(activations, activations["activation"].data, held_out=0.1, dtype="float64")
    assert 0 < len(records.held_out) < 20
    loudness = sample.read(records.array, records.fitted, float) * _nmf()["gain"].values[:, None]
    model = hmm.GammaPoissonHMM(N_STATES, len(loudness), published_start=True)
    fit = svi.Sampled(model, loudness, [SEED, 0], 32)
    b1, b2 = _literal_fit(fit, 60, len(loudness))
    order = np.argsort(-(b1 / b2).sum(axis=1), kind="stable")
    np.testing.assert_allclose(found["emission_shape"], b1[order], rtol=1e-7)
    np.testing.assert_allclose(found["emission_rate"], b2[order], rtol=1e-7)
    np.testing.assert_allclose(found["emission"], (b1 / b2)[order], rtol=1e-7)
    np.testing.assert_array_equal(found["gain"], _nmf()["gain"])
    starts = np.random.default_rng([SEED, 0, 0]).gamma(1.0, 1.0, (N_STATES, 5)) * 1000 / 30
    assert np.abs(np.sort(starts.sum(axis=1))[::-1] - found["emission"].sum("pattern").values).max() > 1, "it moved"


def test_the_published_fit_has_one_start() -> None:
    one, six = (_fit(_activations(), **(PUBLISHED | {"n_init": n})) for n in (1, 6))
    np.testing.assert_array_equal(one["emission_shape"], six["emission_shape"])


def test_the_start_is_the_means_of_the_data() -> None:
    """Three states far apart: k-means finds them before the first step."""
    emission = np.array([[100.0, 1, 1, 1, 1], [1, 100, 1, 1, 1], [1, 1, 100, 100, 1]])
    states = np.random.default_rng(0).integers(3, size=(30, 25))
    loudness = emission[states].swapaxes(1, 2)
    start = hmm.GammaPoissonHMM(3, 30).start(loudness, [0])
    order = np.lexsort(start.emission.round(3).T[::-1])[::-1]
    np.testing.assert_allclose(start.emission[order], emission[[0, 1, 2]], rtol=1e-2)
    n_frames = np.bincount(states.ravel())
    np.testing.assert_allclose(np.sort(start.rate[:, 0]), np.sort(n_frames) + 0.1)
    np.testing.assert_allclose(start.initial, 1 / 3)
    np.testing.assert_allclose(start.transition, 1 / 3)


def test_more_states_than_different_frames() -> None:
    loudness = np.repeat(np.array([[1.0, 5.0], [3.0, 2.0]])[:, :, None], 4, axis=2)
    start = hmm.GammaPoissonHMM(6, 2).start(loudness, [0])
    assert (start.shape > 0).all()
    assert (start.rate > 0).all()
    assert start.emission.shape == (6, 2)


def test_single_precision_follows_double() -> None:
    single, double = (_fit(_activations(), **SHORT, dtype=kind) for kind in ("float32", "float64"))
    np.testing.assert_allclose(single["emission"], double["emission"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("schedule", ["growing", "published"])
def test_a_seed_is_a_model(schedule: str) -> None:
    first, again, other = (_fit(_activations(), **(SHORT | {"seed": s, "schedule": schedule})) for s in (1, 1, 2))
    xr.testing.assert_identical(first, again)
    assert not (first["emission_shape"].values == other["emission_shape"].values).all()


def test_bits_do_not_depend_on_scheduler_or_chunks() -> None:
    """Finishing sums over all records, in several tasks."""
    found = []
    for scheduler, chunk in (("synchronous", 8), ("threads", 8), ("threads", 32), ("threads", 120)):
        with dask.config.set(scheduler=scheduler, num_workers=4):
            found.append(_fit(_activations(120).chunk(record=chunk), **SHORT, finish="memoised"))
    for other in found[1:]:
        for name in ("emission_shape", "emission_rate", "mean_initial", "mean_transition", "history_score"):
            np.testing.assert_array_equal(found[0][name], other[name])


def test_finishing_raises_the_held_out_score() -> None:
    plain, finished = (_fit(_activations(80), **(SHORT | {"n_init": 1}), finish=how) for how in (None, "memoised"))
    assert finished["history_score"].values[-1] > plain["history_score"].values[-1]
    assert finished["history_step_size"].values[-1] == 1.0
    assert finished.sizes["step"] > plain.sizes["step"] == 40


def test_the_best_start_is_kept() -> None:
    """Of several starts the one that explains the fitted records best."""
    activations = _activations(60, scale=2, seed=5)
    loudness = (activations["activation"].values * _nmf()["gain"].values[:, None]).astype("float32")
    model = hmm.GammaPoissonHMM(N_STATES, 60)

    def explained(fitted: xr.Dataset) -> float:
        names = ("emission_shape", "emission_rate", "mean_initial", "mean_transition")
        return model.score(loudness, hmm.Posterior(*(fitted[name].values for name in names)))[0]

    scores = [explained(_fit(activations, **(SHORT | {"n_init": n, "held_out": 0.0}))) for n in (1, 2, 4, 8)]
    assert scores == sorted(scores)
    assert scores[-1] > scores[0]


def test_states_are_sorted_by_their_summed_emission() -> None:
    fitted = _fit(_activations(), **SHORT)
    assert (np.diff(fitted["emission"].sum("pattern")) < 0).all()


def test_the_mean_distributions_follow_their_states() -> None:
    """The states are sorted, and with them the rows and the columns of their transitions."""
    rate, transition = np.full((3, 5), 2.0), np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.6, 0.25, 0.15]])
    shape = np.outer([4.0, 16.0, 8.0], np.ones(5))
    found = hmm._dataset(hmm.Posterior(shape, rate, np.array([0.2, 0.5, 0.3]), transition), _nmf())
    assert found["emission"].values[:, 0].tolist() == [8.0, 4.0, 2.0]
    assert found["mean_initial"].values.tolist() == [0.5, 0.3, 0.2]
    assert found["mean_transition"].values.tolist() == [[0.3, 0.4, 0.3], [0.25, 0.15, 0.6], [0.2, 0.7, 0.1]]


def test_the_mean_distributions_are_distributions() -> None:
    fitted = _fit(_activations(60), **SHORT)
    np.testing.assert_allclose(fitted["mean_initial"].sum(), 1)
    np.testing.assert_allclose(fitted["mean_transition"].sum("next_state"), 1)
    most_visited = int(fitted["emission_rate"].values[:, 0].argmax())
    assert fitted["mean_transition"].values[most_visited, most_visited] > 0.5, "the states were drawn to stay"


def test_the_history_tells_the_fit() -> None:
    fitted = _fit(_activations(), **SHORT)
    assert fitted["history_step"].values.tolist() == list(range(1, 41))
    assert fitted["history_batch"].values.tolist() == [1] * 40
    assert fitted["history_size"].values.tolist() == [N_STATES] * 40
    assert np.isfinite(fitted["history_score"].values[-1])
    assert fitted.attrs["stopped"] == "max_steps"
    assert fitted.attrs["n_records"] == fitted.attrs["n_sampled"]
    validate(fitted, "hmm")


def test_a_fit_says_that_it_converged() -> None:
    fitted = _fit(_activations(20), **(SHORT | {"n_init": 1, "max_steps": 6000, "batch_size": 2}), tol=10.0)
    assert fitted.attrs["stopped"] == "converged"
    assert fitted.sizes["step"] < 6000


def test_a_checkpoint_is_the_model_without_the_fit(tmp_path: Path) -> None:
    activations, store = _activations(), str(tmp_path / "s.zarr")
    fitted = sx.save(_fit(activations, **SHORT, checkpoint=store), store)

    def fail(_: Array) -> Array:
        msg = "read"
        raise AssertionError(msg)

    trap = activations["activation"].data.map_blocks(fail, dtype=float, meta=np.empty((0, 0, 0)))
    trapped = activations.assign(activation=(activations["activation"].dims, trap))
    xr.testing.assert_identical(_fit(trapped, **SHORT, checkpoint=store), fitted)
    for changed in ({"seed": SEED + 1}, {"n_states": 5}, {"n_init": 3}):
        with pytest.raises(AssertionError, match="read"):
            _fit(trapped, **(SHORT | changed), checkpoint=store)


@pytest.mark.parametrize("n_records", [1, 2])
@pytest.mark.parametrize("schedule", ["growing", "published"])
def test_few_records_are_enough(n_records: int, schedule: str) -> None:
    fitted = _fit(_activations(n_records), **(SHORT | {"schedule": schedule}), finish="memoised")
    assert np.isfinite(fitted["emission"]).all()
    assert fitted["history_batch"].max() <= n_records


def test_unusable_records_leave_no_trace() -> None:
    whole, bad = _activations(40), [0, 1, 13, 39]
    good = [record for record in range(40) if record not in bad]
    flagged = _fit(draws.with_quality(whole, bad, variable="activation"), **SHORT)
    alone = _fit(whole.isel(record=good).chunk(record=8), **SHORT)
    np.testing.assert_array_equal(flagged["emission_shape"], alone["emission_shape"])
    assert flagged.attrs["n_records"] == alone.attrs["n_records"]


def test_no_usable_record_is_an_error() -> None:
    unusable = draws.with_quality(_activations(10), range(10), variable="activation")
    with pytest.raises(ValueError, match="got 10 records of which none is usable, expected at least one: look"):
        _fit(unusable, **SHORT)


@pytest.mark.parametrize("level", [0.0, 1e-6, 5.0, 1e4])
def test_constant_activations_end_in_a_model(level: float) -> None:
    constant = draws.activations(np.full((20, 5, 25), level), _nmf())
    fitted = _fit(constant, **SHORT, finish="memoised")
    assert np.isfinite(fitted["emission"]).all()
    assert (fitted["emission_shape"] > 0).all()
    expected = level * _nmf()["gain"].values
    occupied = int(fitted["emission_rate"].values[:, 0].argmax())
    np.testing.assert_allclose(fitted["emission"][occupied], expected, rtol=0.05, atol=0.01)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="got a Dataset of stage 'spectrograms', expected 'activations': pass what c"):
        _fit(draws.spectrograms(), **SHORT)
    with pytest.raises(ValueError, match="got a Dataset of stage 'activations', expected 'nmf': pass what fit_nmf or"):
        sx.fit_hmm(_activations(), _activations(), **SHORT)
    with pytest.raises(ValueError, match="got n_states=1, expected a whole number from 2: correct it"):
        _fit(_activations(), **(SHORT | {"n_states": 1}))
    other = draws.unit_gain_nmf(5)
    text = "got activations of 5 patterns of another NMF model, expected those of the given one with 5: pass compute_ac"
    with pytest.raises(ValueError, match=text):
        sx.fit_hmm(_activations(), other, **SHORT)
