"""Bayesian NMF of spectrograms: fit a dictionary of spectral patterns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask import checkpoints, fits, models, places, sample, schema, store, svi
from specufex_dask.blocks import one_blas_thread, record_chunked
from specufex_dask.history import State, after, begin, history_of, history_variables
from specufex_dask.kernels import nmf as kernel
from specufex_dask.recipe import recipe, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import xarray as xr
    from numpy.typing import DTypeLike

Array = np.ndarray[Any, np.dtype[Any]]

_PRUNED_BELOW = 1e-3
_ITERATIONS = 10
_USUAL_BATCH = 16
_SHARE_SEEN = 0.5


@dataclass(frozen=True)
class Posterior:
    """Gamma shapes and rates of the dictionary (frequency, pattern) and of the weight (pattern,), float64.

    While fitting, the rate of a pattern is the same at all frequencies: (1, pattern).
    """

    dictionary_shape: Array
    dictionary_rate: Array
    weight_shape: Array
    weight_rate: Array

    @property
    def dictionary(self) -> Array:
        """E W (frequency, pattern)."""
        return self.dictionary_shape / self.dictionary_rate

    @property
    def weight(self) -> Array:
        """E A (pattern,)."""
        return self.weight_shape / self.weight_rate

    def select(self, patterns: Array) -> Posterior:
        """The posterior of the chosen `patterns`, in that order."""
        return Posterior(
            self.dictionary_shape[:, patterns], self.dictionary_rate[:, patterns],
            self.weight_shape[patterns], self.weight_rate[patterns],
        )  # fmt: skip

    def weights(self, temperature: float, dtype: DTypeLike) -> kernel.Weights:
        """What a local step needs of the posterior."""
        return kernel.weights(
            self.dictionary_shape, self.dictionary_rate, self.weight_shape, self.weight_rate, temperature, dtype
        )


@dataclass(frozen=True)
class GammaPoisson:
    """The NMF as a model for `svi`: X ~ Poisson(sum_k W A V), with K0 = `n_patterns` patterns at the start.

    `n_frames` is N_eff, the number of frames that a minibatch stands for (100,000 in the
    published fit, however many there are).
    """

    n_patterns: int
    n_frames: float
    seed: int

    def start(self, n_frequencies: int) -> Posterior:
        """The published random start."""
        per_thousand = self.n_frames / 1000
        noise = np.random.default_rng([self.seed, 0]).gamma(10.0, 1 / 10, (n_frequencies, self.n_patterns))
        weight = np.full(self.n_patterns, 10 * per_thousand)
        rate = np.full((1, self.n_patterns), 100 * per_thousand)
        return Posterior(100 * per_thousand * noise, rate, weight, weight)

    def local_step(self, records: Array, params: Posterior, temperature: float) -> svi.Statistics:
        """Sums over `records` (record, frequency, time) of sum_t X P and sum_t E V, and their number of frames."""
        iterations = _ITERATIONS + round(1 + 5 * (temperature - 1)) - 1
        with one_blas_thread():
            weights = params.weights(temperature, records.dtype)
            counts, activation = kernel.local_step(records, weights, prior=1 / self.n_patterns, iterations=iterations)
        return counts, activation, np.array(len(records) * records.shape[2])

    def global_step(self, params: Posterior, total: svi.Statistics, step: svi.Step) -> Posterior:
        """The global step of Paisley, Blei & Jordan (2014): the new weight uses the new dictionary."""
        counts, activation, frames = total
        rho, tau, scale = step.size, step.temperature, self.n_frames / float(frames)
        target = 1 + (10 / len(counts) + scale * counts - 1) / tau
        shape = (1 - rho) * params.dictionary_shape + rho * target
        rate = (1 - rho) * params.dictionary_rate + rho * (1 + scale * params.weight * activation) / tau
        target = 1 + (1 / self.n_patterns + scale * counts.sum(axis=0) - 1) / tau
        weight_shape = (1 - rho) * params.weight_shape + rho * target
        gain = (shape / rate).sum(axis=0)
        weight_rate = (1 - rho) * params.weight_rate + rho * (1 + scale * gain * activation) / tau
        return Posterior(shape, rate, weight_shape, weight_rate)

    def prune(self, params: Posterior) -> Posterior:
        """The patterns whose weight is at least 1e-3, or the heaviest where there is none (silent records)."""
        alive = params.weight >= min(_PRUNED_BELOW, params.weight.max())
        return params if alive.all() else params.select(np.flatnonzero(alive))

    def score(self, records: Array, params: Posterior) -> tuple[float, float]:
        """Sums of X ln(lambda) - lambda and of X over a seeded half of the bins, V fitted on the other half."""
        shape: tuple[int, ...] = records.shape
        seen = np.random.default_rng([self.seed, 1]).random(shape, dtype=np.float32) < _SHARE_SEEN
        with one_blas_thread():
            return kernel.held_out_score(records, seen, params.weights(1.0, records.dtype), iterations=_ITERATIONS)

    def size(self, params: Posterior) -> int:
        """Patterns alive."""
        return len(params.weight)


def fit_nmf(
    spectrograms: xr.Dataset,
    *,
    n_patterns: int = 75,
    seed: int,
    batch_size: int | None = None,
    max_steps: int | None = None,
    tol: float | None = 1e-4,
    finish: str | None = None,
    schedule: str = "growing",
    held_out: float = 0.1,
    n_frames: float = 100_000,
    memory_limit: float = 256e6,
    start: xr.Dataset | None = None,
    checkpoint: str | Path | None = None,
    storage_options: Mapping[str, Any] | None = None,
    group: str | None = None,
    dtype: DTypeLike = "float32",
) -> xr.Dataset:
    """Fit a dictionary of spectral patterns to spectrograms by stochastic variational inference.

    The model is X_dt ~ Poisson(sum_k W_dk A_k V_kt) with W ~ Gamma(10/D, 1), A ~ Gamma(1/K0, 1)
    and V ~ Gamma(1/K0, 1) (Paisley, Blei & Jordan 2014; SpecUFEx: Holtzman et al. 2018).
    Patterns whose weight E A falls below 1e-3 are pruned as the fit goes.

    Parameters
    ----------
    spectrograms
        What `compute_spectrograms` returns: spectrogram (record, frequency, time) [dB].
    n_patterns
        K0, the number of patterns at the start.
    seed
        Seed of all random numbers; equal seeds give equal bits on one kind of processor.
    batch_size
        Largest number of records in a minibatch; None: 16, or a 200th of the records, at most 512.
        Up to 64 are taken from a sample in memory; larger minibatches stream from all records,
        each worker taking its share.
    max_steps
        Largest number of global steps: 2,950 for ``schedule="growing"`` (where minibatches grow
        beyond 16 records 250 of the largest, 3,800 in all for 512), 100,000 for ``"published"``;
        with `start` the number of further steps, 250.
    tol
        Stop when the best held-out score of the last five looks is not higher by this share of it,
        and return the parameters of the best look; None takes all steps and returns the last
        parameters, as ``schedule="published"`` always does.
    finish
        ``"memoised"`` adds passes over all sampled records at step size 1 while they raise the
        held-out score; None adds none.
    schedule
        ``"growing"`` begins with two records a step, which prunes, and lets them grow to
        `batch_size`; ``"published"`` is the schedule of the 2022 study (one record a step).
    held_out
        Share of the events, chosen by a hash of event_id, that is never fitted but scored.
    n_frames
        N_eff, the number of frames that the data stand for.
    memory_limit
        Bytes of spectrograms for a worker to hold: the sample for small minibatches (of larger
        data one of whole chunks), and the chunks that the large ones are taken from.
    start
        A model that `fit_nmf` returned, to go on from with these records.
    checkpoint, storage_options, group
        A store, what fsspec opens it with, and a group in it. Where it holds the model of this very recipe, that is
        returned; else the state of the fit is stored beside it (in ``<store>.run``) every ten
        seconds, and a fit that was killed goes on from there and ends with the same bits.
    dtype
        ``"float32"`` or ``"float64"``, the precision of the local steps.

    Returns
    -------
    xarray.Dataset
        Stage ``nmf``: dictionary (frequency, pattern), weight and gain (pattern,), their Gamma
        shapes and rates, and the history (step,). Patterns are sorted by the frequency of their maximum.

    Raises
    ------
    ValueError
        If no record is usable, or a parameter is out of its range.

    Examples
    --------
    >>> import numpy as np, xarray as xr, specufex_dask as sx
    >>> rng = np.random.default_rng(0)
    >>> levels = rng.gamma(1.0, 5.0, (40, 12, 20)).astype("float32")
    >>> spectrograms = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    >>> nmf = sx.fit_nmf(spectrograms, n_patterns=5, max_steps=20, seed=0)
    >>> nmf.dictionary.dims
    ('frequency', 'pattern')
    """
    schema.require(spectrograms, "spectrograms")
    parameters = {
        "n_patterns": n_patterns, "seed": seed, "batch_size": batch_size, "max_steps": max_steps, "tol": tol,
        "finish": finish, "schedule": schedule, "held_out": held_out, "n_frames": n_frames,
        "memory_limit": memory_limit, "dtype": np.dtype(dtype).name,
    }  # fmt: skip
    svi.check(parameters)
    inputs = {"spectrograms": spectrograms} | ({} if start is None else {"start": start})
    planned = recipe("nmf", parameters, **inputs)
    place = places.optional(checkpoint, storage_options)
    stored = store.find(place, "nmf", planned, group=group)
    if stored is not None:
        return stored
    records = sample.split(spectrograms, record_chunked(spectrograms["spectrogram"]), held_out=held_out, dtype=dtype)
    model = GammaPoisson(n_patterns, n_frames, seed)
    before = begin(model.start(records.array.shape[1])) if start is None else _read(start, spectrograms)
    steps = _schedule(schedule, svi.largest_batch(batch_size, _USUAL_BATCH, len(records.fitted)), max_steps)
    fit = fits.Fit(
        model, records, after(before.history, steps, max_steps), [[seed]], None if schedule == "published" else tol,
        8, 200, memory_limit, begun=before.history.number, finish=finish == "memoised",
    )  # fmt: skip
    with checkpoints.kept(place, "nmf", group, planned["recipe_id"], Posterior) as kept:
        state = checkpoints.run(fit, lambda _: [before], kept, title="fit nmf", unit="patterns")
    result = _dataset(state.params, spectrograms["frequency"].values).assign(history_variables(state.history))
    result.attrs.update(fit.about(state))
    return stamp(result, "nmf", parameters, **inputs)


def _dataset(params: Posterior, frequency: Array) -> xr.Dataset:
    """The model with its patterns sorted by the frequency of their maximum."""
    ordered = params.select(np.argsort(params.dictionary.argmax(axis=0), kind="stable"))
    return models.nmf_dataset(
        ordered.dictionary_shape, ordered.dictionary_rate, ordered.weight_shape, ordered.weight_rate, frequency
    )


def _read(start: xr.Dataset, spectrograms: xr.Dataset) -> State[Posterior]:
    """The state of a fit at the end of the model `start`."""
    schema.require(start, "nmf")
    models.require_same_frequencies(spectrograms, start)
    w1, w2, a1, a2 = (start[f"{name}_{kind}"].values for name in ("dictionary", "weight") for kind in ("shape", "rate"))
    return begin(Posterior(w1, w2, a1, a2), history_of(start))


def _schedule(name: str, batch_size: int, max_steps: int | None) -> svi.Schedule:
    if name == "published":
        return svi.Schedule(
            lambda step: round(1 + 3 * 0.75 ** (step - 1)),
            svi.annealing,
            lambda step: 250 / (1 + 5 * (svi.annealing(step) - 1)),
            max_steps or 100_000,
        )
    growth = {"first": min(2, batch_size), "hold": 2500, "double_every": 150, "last": batch_size}
    if batch_size <= _USUAL_BATCH:
        return svi.growing(**growth, offset=250, max_steps=max_steps or 2950, settled=0)
    grown = svi.grown(**growth)
    return svi.growing(**growth, offset=250, max_steps=max_steps or grown + svi.LAST_STEPS, settled=grown)
