"""The NMF fit against a literal loop, and what it does with few, bad and silent records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import draws
import naive
import numpy as np
import pytest
import xarray as xr

import specufex_dask as sx
from specufex_dask import nmf, sample, svi
from specufex_dask.schema import validate

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

N_PATTERNS, SEED = 9, 3
SHORT: dict[str, Any] = {"n_patterns": N_PATTERNS, "max_steps": 40, "seed": SEED}
SHAPES = ("dictionary_shape", "dictionary_rate", "weight_shape", "weight_rate")


@pytest.mark.parametrize(("rho", "tau", "scale"), [(0.2, 1.0, 50.0), (0.05, 1.75, 3.0), (1.0, 1.0, 1e4)])
def test_the_global_step_is_the_literal_one(rho: float, tau: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    w1, w2, a1, a2 = (rng.gamma(5.0, 2.0, shape) for shape in ((11, 4), (1, 4), 4, 4))
    counts, activation, n_frames = rng.gamma(1.0, 3.0, (11, 4)), rng.gamma(1.0, 3.0, 4), 200
    model = nmf.GammaPoisson(N_PATTERNS, scale * n_frames, 0)
    total = counts, activation, np.array(n_frames)
    moved = model.global_step(nmf.Posterior(w1, w2, a1, a2), total, svi.Step(5, 4, tau, rho))
    literal = naive.nmf_global(
        w1, np.repeat(w2, 11, axis=0), a1, a2, counts, activation, n_start=N_PATTERNS, rho=rho, tau=tau, scale=scale
    )
    for name, expected in zip(SHAPES, literal, strict=True):
        found = np.broadcast_to(getattr(moved, name), expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-13, err_msg=name)


def _literal_fit(fit: svi.Sampled[Any], n_steps: int, n_frames: float) -> tuple[tuple[Array, ...], list[int]]:
    """The published fit as the papers write it, on the minibatches of `fit`: Gamma parameters, and sizes by step."""
    n_frequencies, n_time = fit.records.shape[1:]
    noise = np.random.default_rng([SEED, 0]).gamma(10.0, 1 / 10, (n_frequencies, N_PATTERNS))
    unit = n_frames / 1000 * 100
    w1, w2 = unit * noise, np.full(noise.shape, unit)
    a1 = a2 = np.full(N_PATTERNS, unit / 10)
    seen, sizes = 0, []
    for number in range(1, n_steps + 1):
        tau = 1 + 0.75 ** (number - 1)
        batch = min(round(1 + 3 * 0.75 ** (number - 1)), len(fit.records))
        rho = (250 / (1 + 5 * (tau - 1)) + number) ** -0.51
        iterations = 10 + round(1 + 5 * (tau - 1)) - 1
        records = fit.records[fit.minibatch(seen, batch)]
        parts = [
            naive.nmf_local(x, w1, w2, a1, a2, n_start=N_PATTERNS, tau=tau, iterations=iterations) for x in records
        ]
        counts, activation = np.sum([c for c, _ in parts], axis=0), np.sum([v for _, v in parts], axis=0)
        scale = n_frames / (batch * n_time)
        w1, w2, a1, a2 = naive.nmf_global(
            w1, w2, a1, a2, counts, activation, n_start=N_PATTERNS, rho=rho, tau=tau, scale=scale
        )
        alive = a1 / a2 >= 1e-3
        w1, w2, a1, a2 = w1[:, alive], w2[:, alive], a1[alive], a2[alive]
        seen += batch
        sizes.append(int(alive.sum()))
    return (w1, w2, a1, a2), sizes


def test_a_published_fit_is_the_literal_loop() -> None:
    spectrograms, n_steps, n_frames = draws.spectrograms(40), 250, 3000.0
    found = sx.fit_nmf(
        spectrograms, n_patterns=N_PATTERNS, seed=SEED, schedule="published", max_steps=n_steps, n_frames=n_frames,
        dtype="float64",
    )  # fmt: skip
    records = sample.split(spectrograms, spectrograms["spectrogram"].data, held_out=0.1, dtype="float64")
    assert 0 < len(records.held_out) < 20
    fitted, held_out = (sample.read(records.array, chosen, float) for chosen in (records.fitted, records.held_out))
    model = nmf.GammaPoisson(N_PATTERNS, n_frames, SEED)
    fit = svi.Sampled(model, fitted, [SEED], 8)
    params, sizes = _literal_fit(fit, n_steps, n_frames)
    w1, w2, a1, a2 = params
    assert sizes[-1] < N_PATTERNS, "the test must see a pattern die"
    np.testing.assert_array_equal(found["history_size"], sizes)
    order = np.argsort((w1 / w2).argmax(axis=0), kind="stable")
    for name, values in zip(SHAPES, params, strict=True):
        np.testing.assert_allclose(found[name], values[..., order], rtol=1e-7, err_msg=name)
    np.testing.assert_allclose(found["dictionary"], (w1 / w2)[:, order], rtol=1e-7)
    np.testing.assert_allclose(found["weight"], (a1 / a2)[order], rtol=1e-7)
    np.testing.assert_allclose(found["gain"], found["dictionary"].sum("frequency"), rtol=1e-12)
    # the score of the last step, from the literal form too
    shape: tuple[int, ...] = held_out.shape
    shown = np.random.default_rng([SEED, 1]).random(shape, dtype=np.float32) < 0.5
    parts = [naive.nmf_held_out(x, s, w1, w2, a1, a2, 10) for x, s in zip(held_out, shown, strict=True)]
    likelihood, total = np.sum(parts, axis=0)
    assert found["history_score"].values[-1] == pytest.approx(likelihood / total, rel=1e-7)


def test_single_precision_follows_double() -> None:
    single, double = (sx.fit_nmf(draws.spectrograms(40), **SHORT, dtype=kind) for kind in ("float32", "float64"))
    assert single.sizes == double.sizes
    np.testing.assert_allclose(single["dictionary"], double["dictionary"], rtol=1e-3, atol=1e-5)
    assert double["dictionary"].dtype == np.float64


def _equal(left: xr.Dataset, right: xr.Dataset) -> bool:
    return left.sizes == right.sizes and all((left[name].values == right[name].values).all() for name in SHAPES)


@pytest.mark.parametrize("schedule", ["growing", "published"])
def test_a_seed_is_a_model(schedule: str) -> None:
    first, again, other = (
        sx.fit_nmf(draws.spectrograms(40), **(SHORT | {"seed": seed, "schedule": schedule})) for seed in (1, 1, 2)
    )
    xr.testing.assert_identical(first, again)
    assert not _equal(first, other)


def test_bits_do_not_depend_on_scheduler_or_chunks() -> None:
    """Finishing sums over all records, in several tasks."""
    found = []
    for scheduler, chunk in (("synchronous", 8), ("threads", 8), ("threads", 32), ("threads", None)):
        with dask.config.set(scheduler=scheduler, num_workers=4):
            found.append(sx.fit_nmf(draws.spectrograms(70, chunk=chunk), **SHORT, finish="memoised"))
    assert all(_equal(found[0], other) for other in found[1:])


def test_finishing_raises_the_held_out_score() -> None:
    plain, finished = (sx.fit_nmf(draws.spectrograms(70), **SHORT, finish=finish) for finish in (None, "memoised"))
    assert finished["history_score"].values[-1] > plain["history_score"].values[-1]
    assert finished["history_step_size"].values[-1] == 1.0
    assert finished.sizes["step"] > plain.sizes["step"] == 40


def test_patterns_are_sorted_by_the_frequency_of_their_maximum() -> None:
    fitted = sx.fit_nmf(draws.spectrograms(40), **SHORT)
    peaks = fitted["dictionary"].values.argmax(axis=0)
    assert (np.diff(peaks) >= 0).all()
    assert peaks[-1] > peaks[0]


def test_the_history_tells_the_fit() -> None:
    fitted = sx.fit_nmf(draws.spectrograms(40), **SHORT)
    assert fitted["history_step"].values.tolist() == list(range(1, 41))
    assert fitted["history_batch"].values.tolist() == [2] * 40
    assert fitted["history_size"].values[-1] == fitted.sizes["pattern"]
    assert (np.diff(fitted["history_size"]) <= 0).all()
    assert ((fitted["history_step_size"] > 0) & (fitted["history_step_size"] <= 1)).all()
    assert np.isfinite(fitted["history_score"].values[-1])
    assert fitted.attrs["stopped"] == "max_steps"
    validate(fitted, "nmf")


def test_a_fit_says_that_it_converged() -> None:
    fitted = sx.fit_nmf(draws.spectrograms(40, n_time=5), **(SHORT | {"max_steps": None}), tol=10.0)
    assert fitted.attrs["stopped"] == "converged"
    looks = fitted["history_score"].values[~np.isnan(fitted["history_score"].values)]
    assert len(looks) == 6, "the last five looks are no better than the one before"


def test_it_says_what_it_was_fitted_to() -> None:
    spectrograms = draws.with_quality(draws.spectrograms(200), [0, 3, 4], variable="spectrogram")
    record_bytes = 4 * 12 * 20
    fitted = sx.fit_nmf(spectrograms, **SHORT, held_out=0.0, memory_limit=50 * record_bytes)
    assert fitted.attrs["n_records"] == 197
    assert fitted.attrs["n_sampled"] == 50


def test_a_checkpoint_is_the_model_without_the_fit(tmp_path: Path) -> None:
    spectrograms, store = draws.spectrograms(40), str(tmp_path / "s.zarr")
    fitted = sx.save(sx.fit_nmf(spectrograms, **SHORT, checkpoint=store, group="XX.A"), store, group="XX.A")

    def fail(_: Array) -> Array:
        msg = "read"
        raise AssertionError(msg)

    trap = spectrograms["spectrogram"].data.map_blocks(fail, dtype="f4", meta=np.empty((0, 0, 0), "f4"))
    trapped = spectrograms.assign(spectrogram=(spectrograms["spectrogram"].dims, trap))
    again = sx.fit_nmf(trapped, **SHORT, checkpoint=store, group="XX.A")
    xr.testing.assert_identical(again, fitted)
    for changed in ({"seed": SEED + 1}, {"max_steps": 41}, {"tol": 1e-3}):
        with pytest.raises(AssertionError, match="read"):
            sx.fit_nmf(trapped, **(SHORT | changed), checkpoint=store, group="XX.A")
    with pytest.raises(AssertionError, match="read"):
        sx.fit_nmf(trapped, **SHORT, checkpoint=store)
    with pytest.raises(AssertionError, match="read"):
        sx.fit_nmf(trapped.isel(record=slice(0, 32)), **SHORT, checkpoint=store, group="XX.A")


@pytest.mark.parametrize("n_records", [1, 2])
@pytest.mark.parametrize("finish", [None, "memoised"])
def test_few_records_are_enough(n_records: int, finish: str | None) -> None:
    fitted = sx.fit_nmf(draws.spectrograms(n_records), **SHORT, finish=finish)
    assert np.isfinite(fitted["dictionary"]).all()
    assert fitted["history_batch"].max() <= n_records
    assert fitted.attrs["n_records"] >= 1


def test_unusable_records_leave_no_trace() -> None:
    """NaN and all: the fit is that of the usable ones alone."""
    whole = draws.spectrograms(40)
    bad = [0, 1, 13, 39]
    good = [record for record in range(40) if record not in bad]
    flagged = sx.fit_nmf(draws.with_quality(whole, bad, variable="spectrogram"), **SHORT)
    alone = sx.fit_nmf(whole.isel(record=good).chunk(record=8), **SHORT)
    assert _equal(flagged, alone)
    assert flagged.attrs["n_records"] == alone.attrs["n_records"]


def test_no_usable_record_is_an_error() -> None:
    unusable = draws.with_quality(draws.spectrograms(10), range(10), variable="spectrogram")
    with pytest.raises(ValueError, match="got 10 records of which none is usable, expected at least one: look"):
        sx.fit_nmf(unusable, **SHORT)


@pytest.mark.parametrize("level", [0.0, 1e-6, 5.0, 1e4])
@pytest.mark.parametrize("schedule", ["growing", "published"])
def test_constant_spectrograms_end_in_a_model(level: float, schedule: str) -> None:
    axes: dict[str, Any] = {"frequency": np.arange(12.0), "time": np.arange(20.0)}
    constant = sx.spectrogram_dataset(np.full((20, 12, 20), level, "float32"), **axes)
    fitted = sx.fit_nmf(constant, **(SHORT | {"max_steps": 120, "schedule": schedule}), finish="memoised")
    assert fitted.sizes["pattern"] >= 1
    assert all((np.isfinite(fitted[name]) & (fitted[name] > 0)).all() for name in SHAPES)
    activations = sx.compute_activations(constant, fitted).compute()
    assert np.isfinite(activations["activation"]).all()
    if level >= 5:
        reconstructed = (fitted["dictionary"] * fitted["weight"] * activations["activation"]).sum("pattern")
        np.testing.assert_allclose(reconstructed, level, rtol=0.2)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="got a Dataset of stage 'waveforms', expected 'spectrograms': pass what c"):
        sx.fit_nmf(draws.waveforms(np.zeros((3, 10))), **SHORT)
    with pytest.raises(ValueError, match="got n_patterns=0, expected a whole number from 1: correct it"):
        sx.fit_nmf(draws.spectrograms(), **(SHORT | {"n_patterns": 0}))
    with pytest.raises(ValueError, match="got dtype='float16', expected 'float32' or 'float64': correct it"):
        sx.fit_nmf(draws.spectrograms(), **SHORT, dtype="float16")
