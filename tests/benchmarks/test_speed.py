"""The kernels against the literal oracles and against a plain matrix product, one thread each, in one run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import naive
import numpy as np
import pytest
from benchmarks import drawn
from threadpoolctl import threadpool_info

from specufex_dask import hmm, nmf, svi
from specufex_dask.blocks import one_blas_thread
from specufex_dask.kernels import fingerprint
from specufex_dask.kernels import nmf as nmf_kernel
from specufex_dask.kernels.gamma import digamma

if TYPE_CHECKING:
    from benchmarks.conftest import Figures
    from pytest_benchmark.fixture import BenchmarkFixture

Array = np.ndarray[Any, np.dtype[Any]]
Stages = dict[str, Callable[[], Any]]

N_PATTERNS, N_STATES, BLOCK, N_FRAMES = 75, 15, 16, 100_000
ROUNDS = 5
STEP = svi.Step(number=300, batch=BLOCK, temperature=1.0, size=0.05)
REQUIRED = {"308 x 200": 70, "61 x 51": 25}

pytestmark = pytest.mark.benchmark


class Case:
    """Drawn waveforms (record, sample) of one setting, what the stages make of them, and the models."""

    def __init__(self, setting: drawn.Setting) -> None:
        self.setting = setting
        matrix, _ = setting.matrix()
        self.matrix = matrix.astype("float32")
        self.waveforms = drawn.waveforms(setting, 64, np.random.default_rng(0)).astype("float32")
        self.levels = setting.spectrograms(self.waveforms, self.matrix)
        models = drawn.models(setting, self.levels, n_patterns=N_PATTERNS, n_states=N_STATES)
        names = ("dictionary_shape", "dictionary_rate", "weight_shape", "weight_rate")
        self.nmf = nmf.Posterior(*(models[0][name].values for name in names))
        self.gain = self.nmf.dictionary.sum(axis=0)
        self.emission = models[1]["emission_shape"].values, models[1]["emission_rate"].values
        uniform = np.full((N_STATES, N_STATES), 1 / N_STATES)
        self.hmm = hmm.Posterior(*self.emission, uniform[0], uniform)


@pytest.fixture(scope="module", params=REQUIRED)
def size(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def case(size: str) -> Case:
    return Case(drawn.SETTINGS[size])


def _fast(case: Case) -> Stages:
    """The stages of a block of records by the package, each from what the one before it made."""
    waveforms, levels = case.waveforms[:BLOCK], case.levels[:BLOCK]
    factors, states = nmf.GammaPoisson(N_PATTERNS, N_FRAMES, 0), hmm.GammaPoissonHMM(N_STATES, len(case.levels))
    weights = case.nmf.weights(1.0, np.float32)
    loudness = nmf_kernel.transform(levels, weights) * case.gain.astype("float32")[:, None]
    log_emission, emission_sum = digamma(case.hmm.shape) - np.log(case.hmm.rate), case.hmm.emission.sum(axis=1)
    return {
        "spectrogram": lambda: case.setting.spectrograms(waveforms, case.matrix),
        "NMF fit step": lambda: factors.global_step(case.nmf, factors.local_step(levels, case.nmf, 1.0), STEP),
        "NMF transform": lambda: nmf_kernel.transform(levels, weights),
        "HMM fit step": lambda: states.global_step(case.hmm, states.local_step(loudness, case.hmm, 1.0), STEP),
        "HMM transform and fingerprint": lambda: fingerprint.fingerprints(loudness, log_emission, emission_sum),
    }


def _literal(case: Case, record: int) -> Stages:
    """The same stages of one record by the oracles, in float64; their global steps are left out."""
    s, waveform, x = case.setting, case.waveforms[record].astype(float), case.levels[record].astype(float)
    p = case.nmf
    model = p.dictionary_shape, p.dictionary_rate, p.weight_shape, p.weight_rate
    loudness = naive.nmf_transform(x, *model) * case.gain[:, None]
    return {
        "spectrogram": lambda: naive.decibels(
            waveform, s.sampling_rate, s.window, s.overlap, s.nfft, s.band, s.time_range, s.pool
        ),
        "NMF fit step": lambda: naive.nmf_local(x, *model, n_start=N_PATTERNS, tau=1.0, iterations=10),
        "NMF transform": lambda: naive.nmf_transform(x, *model),
        "HMM fit step": lambda: naive.hmm_local(loudness, *case.emission),
        "HMM transform and fingerprint": lambda: naive.fingerprint(
            *naive.hmm_posterior(naive.hmm_level(loudness, *case.emission))[1:]
        ),
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """One BLAS thread, as in a task, and no doubt about it."""
    with one_blas_thread():
        threads = {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
        assert threads == {1}, f"BLAS runs {threads} threads inside one_blas_thread()"
        yield


def _timed(stages: Stages, seconds: dict[str, list[float]]) -> None:
    for name, stage in stages.items():
        start = time.perf_counter()
        stage()
        seconds[name].append(time.perf_counter() - start)


def test_the_stages_timed_agree_with_the_oracle(case: Case) -> None:
    """What is compared does the same work: the spectrogram, the activation and the fingerprint of a record."""
    fast, literal = _fast(case), _literal(case, 3)
    level = literal["spectrogram"]()[2]
    np.testing.assert_allclose(fast["spectrogram"]()[3], level, atol=0.1)
    activation = literal["NMF transform"]()
    assert np.abs(fast["NMF transform"]()[3] - activation).max() <= 1e-4 * np.max(activation)
    got = fast["HMM transform and fingerprint"]()["fingerprint"][3]
    np.testing.assert_allclose(got, literal["HMM transform and fingerprint"](), atol=1e-3)


def test_the_chain_against_the_literal_oracle(
    case: Case, size: str, benchmark: BenchmarkFixture, figures: Figures
) -> None:
    """The best of several rounds; the oracle takes its turn before each, so that a busy machine slows both alike."""
    ours: dict[str, list[float]] = defaultdict(list)
    oracle: dict[str, list[float]] = defaultdict(list)
    stages, records = _fast(case), iter(range(ROUNDS))
    benchmark.group = f"one block of {BLOCK} records through the chain"
    with _one_thread():
        _timed(stages, defaultdict(list))
        benchmark.pedantic(
            lambda: _timed(stages, ours),
            setup=lambda: _timed(_literal(case, next(records)), oracle),
            rounds=ROUNDS,
        )
    ours_ms = {name: 1e3 * min(times) / BLOCK for name, times in ours.items()}
    oracle_ms = {name: 1e3 * min(times) for name, times in oracle.items()}
    for name, one in ours_ms.items():
        detail = f"{oracle_ms[name]:.1f} ms / {one:.3f} ms a record"
        figures.add(f"{size}: {name}, oracle / ours", oracle_ms[name] / one, "{:.0f} ×", detail=detail)
    whole, literal = sum(ours_ms.values()), sum(oracle_ms.values())
    detail = f"{literal:.0f} ms / {whole:.2f} ms a record"
    figures.add(
        f"{size}: whole chain, oracle / ours", literal / whole, "{:.0f} ×", at_least=REQUIRED[size], detail=detail
    )
    benchmark.extra_info.update(ratio=literal / whole, ours_ms=ours_ms, oracle_ms=oracle_ms)
    assert not figures.missed


@pytest.mark.parametrize("size", ["308 x 200"], indirect=True)
def test_nmf_local_step_against_a_matrix_product(
    case: Case, size: str, benchmark: BenchmarkFixture, figures: Figures
) -> None:
    """Ten iterations and the statistics are 21 products: the first iteration starts from equal V and needs one."""
    levels, products = case.levels[:BLOCK], 2 * 10 + 1
    weights = case.nmf.weights(1.0, np.float32)
    factor = np.ascontiguousarray(weights.relative)
    columns = nmf_kernel.transform(levels, weights).swapaxes(0, 1).reshape(N_PATTERNS, -1)
    result = np.empty((len(factor), columns.shape[1]), np.float32)
    benchmark.group = "NMF local step"
    seconds: dict[str, list[float]] = defaultdict(list)
    step = {"step": lambda: nmf_kernel.local_step(levels, weights, prior=1 / N_PATTERNS, iterations=10)}
    plain = {"product": lambda: [np.matmul(factor, columns, out=result) for _ in range(products)]}
    with _one_thread():
        benchmark.pedantic(lambda: _timed(step, seconds), setup=lambda: _timed(plain, seconds), rounds=3 * ROUNDS)
    best = {name: min(times) for name, times in seconds.items()}
    rate = 2 * products * factor.size * columns.shape[1] / best["product"] / 1e9
    share = best["product"] / best["step"]
    figures.add(
        f"{size}: NMF local step of {BLOCK} records, share of the rate of a matrix product", share, at_least=0.40,
        detail=f"{1e3 * best['step']:.1f} ms; product {rate:.0f} GFLOP/s",
    )  # fmt: skip
    benchmark.extra_info.update(share=share, product_gflops=rate)
    assert not figures.missed
