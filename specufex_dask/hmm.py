"""Bayesian HMM of activations: fit the states that the spectral patterns move through."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import compute
from dask.delayed import Delayed, delayed
from threadpoolctl import threadpool_limits

from specufex_dask import checkpoints, fits, models, places, sample, schema, store, svi
from specufex_dask.blocks import one_blas_thread, record_chunked
from specufex_dask.history import History, State, after, begin, history_of, history_variables
from specufex_dask.kernels import hmm as kernel
from specufex_dask.kernels.gamma import digamma
from specufex_dask.recipe import recipe, stamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import xarray as xr
    from numpy.typing import DTypeLike

Array = np.ndarray[Any, np.dtype[Any]]

_EMISSION_PRIOR = 0.1
_START_FRAMES = 4000
_USUAL_BATCH = 32


@dataclass(frozen=True)
class Posterior:
    """Gamma shape and rate of the emission (state, pattern), float64, and the mean of the records' distributions.

    `initial` (state,) and `transition` (state, next state) average the expected counts of the
    fitted records with the same step sizes.
    """

    shape: Array
    rate: Array
    initial: Array
    transition: Array

    @property
    def emission(self) -> Array:
        """E B (state, pattern)."""
        return self.shape / self.rate


@dataclass(frozen=True)
class GammaPoissonHMM:
    """The HMM as a model for `svi`: loudness_kt ~ Poisson(B_sk) in state s; `n_records` are to be fitted."""

    n_states: int
    n_records: int
    published_start: bool = False

    def start(self, loudness: Array, seed: list[int]) -> Posterior:
        """The start of a fit to `loudness` (record, pattern, time)."""
        if self.published_start:
            return self.start_published(loudness.shape[1], seed)
        return self.start_from_data(loudness, seed)

    def start_from_data(self, loudness: Array, seed: list[int]) -> Posterior:
        """States from k-means on the roots of some frames of `loudness` (record, pattern, time)."""
        from sklearn.cluster import KMeans

        rng = np.random.default_rng(seed)
        n_records, n_patterns, n_time = loudness.shape
        n_frames = min(_START_FRAMES, n_records * n_time)
        record, frame = np.divmod(rng.choice(n_records * n_time, n_frames, replace=False), n_time)
        frames = loudness[record, :, frame].astype(float)
        # The root of a Poisson count has the same variance at any level, so no loud state takes all the means.
        n_states = min(self.n_states, len(np.unique(frames, axis=0)))
        means = KMeans(n_states, n_init=1, random_state=int(rng.integers(2**31)))
        # Threads of OpenMP add up centres in the order in which they finish: one thread keeps the bits.
        with threadpool_limits(limits=1, user_api="openmp"):
            labels = means.fit_predict(np.sqrt(frames))
        weight = np.bincount(labels, minlength=self.n_states) / n_frames * self.n_records * n_time
        mean = np.array(
            [
                frames[labels == s].mean(axis=0) if (labels == s).any() else frames.mean(axis=0)
                for s in range(self.n_states)
            ]
        )
        rate = np.repeat((_EMISSION_PRIOR + weight)[:, None], n_patterns, axis=1)
        return self._unmoved(_EMISSION_PRIOR + mean * weight[:, None], rate)

    def start_published(self, n_patterns: int, seed: list[int]) -> Posterior:
        """The published start: a mean of about 33 in every state, whatever the data."""
        noise = np.random.default_rng(seed).gamma(1.0, 1.0, (self.n_states, n_patterns))
        return self._unmoved(self.n_records * 1000 * noise, np.full(noise.shape, self.n_records * 30.0))

    def _unmoved(self, shape: Array, rate: Array) -> Posterior:
        uniform = np.full((self.n_states, self.n_states), 1 / self.n_states)
        return Posterior(shape, rate, uniform[0], uniform)

    def local_step(self, records: Array, params: Posterior, temperature: float) -> svi.Statistics:  # noqa: ARG002 - the HMM is not annealed
        """Sums over `records` (record, pattern, time) of the expected counts, and their number."""
        log_emission = digamma(params.shape) - np.log(params.rate)
        with one_blas_thread():
            statistics = kernel.local_step(records, log_emission, params.emission.sum(axis=1))
        return (*statistics, np.array(len(records)))

    def global_step(self, params: Posterior, total: svi.Statistics, step: svi.Step) -> Posterior:
        """The global step of B; the mean initial distribution and transition follow at the same rate."""
        emission, occupancy, initial, transition, n_records = total
        rho, scale = step.size, self.n_records / float(n_records)
        rows = transition + kernel.TRANSITION_PRIOR / self.n_states
        return Posterior(
            (1 - rho) * params.shape + rho * (_EMISSION_PRIOR + scale * emission),
            (1 - rho) * params.rate + rho * (_EMISSION_PRIOR + scale * occupancy[:, None]),
            (1 - rho) * params.initial + rho * initial / initial.sum(),
            (1 - rho) * params.transition + rho * rows / rows.sum(axis=1, keepdims=True),
        )

    def prune(self, params: Posterior) -> Posterior:
        """All states stay: the fingerprint has a fixed size."""
        return params

    def score(self, records: Array, params: Posterior) -> tuple[float, float]:
        """Sums of the log-normaliser of a forward pass with the posterior means, and of gain x activation."""
        return kernel.held_out_score(records, params.emission, params.initial, params.transition)

    def size(self, params: Posterior) -> int:
        """States."""
        return len(params.shape)


def fit_hmm(
    activations: xr.Dataset,
    nmf: xr.Dataset,
    *,
    n_states: int = 15,
    seed: int,
    batch_size: int | None = None,
    max_steps: int | None = None,
    tol: float | None = 1e-5,
    finish: str | None = None,
    schedule: str = "growing",
    n_init: int = 4,
    held_out: float = 0.1,
    memory_limit: float = 256e6,
    start: xr.Dataset | None = None,
    checkpoint: str | Path | None = None,
    storage_options: Mapping[str, Any] | None = None,
    group: str | None = None,
    dtype: DTypeLike = "float32",
) -> xr.Dataset:
    """Fit the emission of `n_states` states to activations by stochastic variational inference.

    In state s, gain_k V_kt ~ Poisson(B_sk) with B ~ Gamma(0.1, 0.1); each record has its own
    transition matrix (rows Dirichlet(0.1/S)) and initial distribution (Dirichlet(0.01/S)), as in
    SpecUFEx (Holtzman et al. 2018). The fit starts from k-means on the data, `n_init` times, and
    the one that explains the fitted records best is kept.

    Parameters
    ----------
    activations
        What `compute_activations` returns: activation (record, pattern, time) [dB].
    nmf
        The model that the activations were computed with; its gain scales them.
    n_states
        S, the number of states; a fingerprint has S x S entries.
    seed
        Seed of all random numbers; equal seeds give equal bits on one kind of processor.
    batch_size
        Largest number of records in a minibatch; None: 32, or a 200th of the records, at most 512.
        Up to 64 are taken from a sample in memory; larger minibatches stream from all records,
        each worker taking its share.
    max_steps
        Largest number of global steps: 3,110 for ``schedule="growing"`` (where minibatches grow
        beyond 32 records 250 of the largest, 3,330 in all for 512), 75,000 for ``"published"``;
        with `start` the number of further steps, 250.
    tol
        Stop when the best held-out score of the last five looks is not higher by this share of it,
        and return the parameters of the best look; None takes all steps and returns the last
        parameters, as ``schedule="published"`` always does.
    finish
        ``"memoised"`` adds passes over all sampled records at step size 1 while they raise the
        held-out score; None adds none.
    schedule
        ``"growing"`` begins with one record a step and lets them grow to `batch_size`;
        ``"published"`` is the start and schedule of the 2022 study, once, whatever `n_init`.
    n_init
        Number of starts.
    held_out
        Share of the events, chosen by a hash of event_id, that is never fitted but scored.
    memory_limit
        Bytes of activations for a worker to hold: the sample for small minibatches (of larger
        data one of whole chunks), and the chunks that the large ones are taken from.
    start
        A model that `fit_hmm` returned, to go on from with these records.
    checkpoint, storage_options, group
        A store, what fsspec opens it with, and a group in it. Where it holds the model of this very recipe, that is
        returned; else the state of the fit is stored beside it (in ``<store>.run``) every ten
        seconds, and a fit that was killed goes on from there and ends with the same bits.
    dtype
        ``"float32"`` or ``"float64"``, the precision of the activations; the recursions are float64.

    Returns
    -------
    xarray.Dataset
        Stage ``hmm``: emission (state, pattern), its Gamma shape and rate, the mean initial
        distribution and transition, and the history (step,). States are sorted by their summed
        emission, largest first.

    Raises
    ------
    ValueError
        If no record is usable, a parameter is out of its range, or the activations are of
        another model.

    Examples
    --------
    >>> import numpy as np, specufex_dask as sx
    >>> levels = np.random.default_rng(0).gamma(1.0, 5.0, (40, 12, 20))
    >>> spectrograms = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    >>> nmf = sx.fit_nmf(spectrograms, n_patterns=5, max_steps=20, seed=0)
    >>> hmm = sx.fit_hmm(sx.compute_activations(spectrograms, nmf), nmf, n_states=3, max_steps=20, seed=0)
    >>> hmm.emission.dims
    ('state', 'pattern')
    """
    schema.require(activations, "activations")
    schema.require(nmf, "nmf")
    models.require_activations_of(activations, nmf)
    parameters = {
        "n_states": n_states, "seed": seed, "batch_size": batch_size, "max_steps": max_steps, "tol": tol,
        "finish": finish, "schedule": schedule, "n_init": n_init, "held_out": held_out,
        "memory_limit": memory_limit, "dtype": np.dtype(dtype).name,
    }  # fmt: skip
    svi.check(parameters)
    inputs = {"activations": activations, "nmf": nmf} | ({} if start is None else {"start": start})
    planned = recipe("hmm", parameters, **inputs)
    place = places.optional(checkpoint, storage_options)
    stored = store.find(place, "hmm", planned, group=group)
    if stored is not None:
        return stored
    loudness = record_chunked(activations["activation"]) * nmf["gain"].values[:, None].astype(dtype)
    records = sample.split(activations, loudness, held_out=held_out, dtype=dtype)
    model = GammaPoissonHMM(n_states, len(records.fitted), published_start=schedule == "published")
    before = None if start is None else _read(start, nmf)
    seeds = [[seed, number] for number in range(n_init if schedule == "growing" and before is None else 1)]
    begun = before.history if before else History()
    steps = _schedule(schedule, svi.largest_batch(batch_size, _USUAL_BATCH, len(records.fitted)), max_steps)
    fit = fits.Fit(
        model, records, after(begun, steps, max_steps), seeds, None if schedule == "published" else tol,
        32, 100, memory_limit, begun=begun.number, finish=finish == "memoised",
    )  # fmt: skip
    with checkpoints.kept(place, "hmm", group, planned["recipe_id"], Posterior) as kept:
        starts = (lambda _: [before]) if before else partial(_starts, model, seeds)
        state = checkpoints.run(fit, starts, kept, title="fit hmm", unit="states")
    result = _dataset(state.params, nmf).assign(history_variables(state.history))
    result.attrs.update(fit.about(state))
    return stamp(result, "hmm", parameters, **inputs)


def _starts(model: GammaPoissonHMM, seeds: list[list[int]], loudness: Delayed) -> list[State[Posterior]]:
    """A start of each of `seeds`, made where the sample `loudness` is."""
    start = delayed(model.start, pure=False, traverse=False)
    return [begin(params) for params in compute(*(start(loudness, [*seed, 0]) for seed in seeds))]


def _read(start: xr.Dataset, nmf: xr.Dataset) -> State[Posterior]:
    """The state of a fit at the end of the model `start`."""
    schema.require(start, "hmm")
    models.require_same_patterns(nmf, start)
    history = history_of(start)
    names = ("emission_shape", "emission_rate", "mean_initial", "mean_transition")
    return begin(Posterior(*(start[name].values for name in names)), history)


def _dataset(params: Posterior, nmf: xr.Dataset) -> xr.Dataset:
    """The model with its states sorted by their summed emission, the loudest first."""
    order = np.argsort(-params.emission.sum(axis=1), kind="stable")
    means = {
        "mean_initial": ("state", params.initial[order]),
        "mean_transition": (("state", "next_state"), params.transition[np.ix_(order, order)]),
    }
    return models.hmm_dataset(params.shape[order], params.rate[order], nmf).assign(means)


def _schedule(name: str, batch_size: int, max_steps: int | None) -> svi.Schedule:
    if name == "published":

        def joined(step: int) -> int:
            return round(1 + 10 * 0.75 ** (step - 1))

        return svi.Schedule(joined, lambda _: 1.0, lambda step: 250 / (1 + 5 * (joined(step) - 1)), max_steps or 75_000)
    growth = {"first": 1, "hold": 3000, "double_every": 10, "last": batch_size}
    if batch_size <= _USUAL_BATCH:
        return svi.growing(**growth, offset=20, max_steps=max_steps or 3110, settled=3050)
    grown = svi.grown(**growth)
    return svi.growing(**growth, offset=20, max_steps=max_steps or grown + svi.LAST_STEPS, settled=grown)
