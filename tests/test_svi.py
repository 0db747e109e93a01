"""The loop of stochastic variational inference, on a model as small as one can be: the mean of the records."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specufex_dask import hmm, nmf, svi

if TYPE_CHECKING:
    from types import ModuleType

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Mean:
    """Params are the mean (entry,) of the records (record, entry); `seen` notes the minibatches."""

    seen: list[list[float]] = field(default_factory=list)

    def local_step(self, records: Array, params: Array, temperature: float) -> svi.Statistics:
        assert temperature >= 1
        assert params.shape == records.shape[1:]
        self.seen.append(records[:, 0].tolist())
        return records.sum(axis=0), np.array(len(records))

    def global_step(self, params: Array, total: svi.Statistics, step: svi.Step) -> Array:
        summed, number = total
        moved: Array = (1 - step.size) * params + step.size * summed / number
        return moved

    def prune(self, params: Array) -> Array:
        return params

    def score(self, records: Array, params: Array) -> tuple[float, float]:
        return -float(((records - params) ** 2).sum()), float(records.size)

    def size(self, params: Array) -> int:
        return len(params)


def _fit(n_records: int = 20, **changed: Any) -> svi.Fit[Array]:
    """A fit to the numbers 0, 1, …, all of them held out too."""
    records = np.arange(float(n_records))[:, None]
    schedule = svi.Schedule(lambda _: 4, lambda _: 1.0, lambda _: 1.0, 10)
    fixed: dict[str, Any] = {
        "model": Mean(), "records": records, "held_out": records, "schedule": schedule, "seed": [0], "tol": None,
        "records_per_task": 3, "score_every": 1,
    }  # fmt: skip
    return svi.Fit(**(fixed | changed))


@given(
    n_records=st.integers(1, 40), batches=st.lists(st.integers(1, 50), min_size=1, max_size=30), seed=st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_each_epoch_takes_every_record_once(n_records: int, batches: list[int], seed: int) -> None:
    fit = _fit(n_records, seed=[seed])
    seen = 0
    taken: list[int] = []
    for asked in batches:
        batch = min(asked, n_records)
        chosen = fit.minibatch(seen, batch)
        assert len(chosen) == batch
        assert (np.diff(chosen) >= 0).all()
        taken += chosen.tolist()
        seen += batch
        n_epochs, rest = divmod(len(taken), n_records)
        times = np.bincount(taken, minlength=n_records)
        assert times.sum() == seen
        assert times.min() >= n_epochs - 1
        assert times.max() <= n_epochs + 1 + (rest > 0)
        if rest == 0:
            assert set(times) == {n_epochs}


def test_an_epoch_has_its_own_order() -> None:
    fit = _fit(40)
    epochs = [[fit.minibatch(start, 1)[0] for start in range(first, first + 40)] for first in (0, 40)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert epochs[0] != epochs[1]
    again = replace(fit, _orders={})
    assert [again.minibatch(start, 1)[0] for start in range(40)] == epochs[0]
    assert [_fit(40, seed=[1]).minibatch(start, 1)[0] for start in range(40)] != epochs[0]


@given(st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_the_tree_is_a_sum(n_parts: int) -> None:
    parts = [(np.arange(4.0) * i, np.array(i)) for i in range(n_parts)]
    summed, number = svi._tree_sum(list(parts))
    np.testing.assert_allclose(summed, sum(part[0] for part in parts))
    assert number == sum(range(n_parts))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_pieces_add_up_to_the_minibatch(scheduler: str) -> None:
    fit = _fit(20)
    with dask.config.set(scheduler=scheduler):
        summed, number = fit.statistics(np.arange(3, 14), np.zeros(1), 1.0)
    assert summed.tolist() == [sum(range(3, 14))]
    assert number == 11
    assert isinstance(fit.model, Mean)
    assert sorted(len(piece) for piece in fit.model.seen) == [2, 3, 3, 3]


def test_bits_of_a_sum_do_not_depend_on_the_scheduler() -> None:
    records = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
    found = []
    for scheduler in ("synchronous", "threads"):
        with dask.config.set(scheduler=scheduler, num_workers=5):
            found.append(_fit(records=records, held_out=records).statistics(np.arange(64), np.zeros(5), 1.0)[0])
    np.testing.assert_array_equal(found[0], found[1])


def test_published_schedule_of_the_nmf() -> None:
    schedule = nmf._schedule("published", 16, None)
    assert schedule.max_steps == 100_000
    steps = {number: schedule.step(number, 0, 1000) for number in (1, 2, 3, 4, 10, 1000, 100_000)}
    assert [steps[number].batch for number in (1, 2, 3, 4, 10, 1000)] == [4, 3, 3, 2, 1, 1]
    for number, step in steps.items():
        tau = 1 + 0.75 ** (number - 1)
        assert step.temperature == pytest.approx(tau, rel=1e-14)
        assert step.size == pytest.approx((250 / (1 + 5 * (tau - 1)) + number) ** -0.51, rel=1e-14)
    assert steps[1].size == pytest.approx(0.14745, abs=1e-5)
    assert steps[100_000].size == pytest.approx(0.0028144, abs=1e-6)


def test_published_schedule_of_the_hmm() -> None:
    schedule = hmm._schedule("published", 32, None)
    assert schedule.max_steps == 75_000
    for number in (1, 2, 3, 5, 10, 100, 75_000):
        step = schedule.step(number, 0, 1000)
        n = round(1 + 10 * 0.75 ** (number - 1))
        assert step.batch == n
        assert step.temperature == 1.0
        assert step.size == pytest.approx((250 / (1 + 5 * (n - 1)) + number) ** -0.51, rel=1e-14)
    assert [schedule.step(number, 0, 1000).batch for number in (1, 2, 3, 100)] == [11, 8, 7, 1]
    assert schedule.step(1, 0, 5).batch == 5


@pytest.mark.parametrize("module", [nmf, hmm], ids=["nmf", "hmm"])
@pytest.mark.parametrize("batch_size", [1, 2, 7, None])
def test_the_default_schedule_begins_small_and_grows(module: ModuleType, batch_size: int | None) -> None:
    fit = nmf.fit_nmf if module is nmf else hmm.fit_hmm
    batch_size = batch_size or int(inspect.signature(fit).parameters["batch_size"].default)
    schedule = module._schedule("growing", batch_size, None)
    steps, seen = [], 0
    for number in range(1, schedule.max_steps + 1):
        steps.append(schedule.step(number, seen, 10_000))
        seen += steps[-1].batch
    batches = [step.batch for step in steps]
    assert batches[0] <= 4
    assert batches == sorted(batches)
    assert batches[-1] == batch_size
    assert all(later <= 2 * earlier for earlier, later in pairwise(batches))
    assert all(0 < step.size <= 1 for step in steps)
    assert all(step.temperature >= 1 for step in steps)
    constant = [step.size for step in steps if step.batch == batches[0]]
    assert constant == sorted(constant, reverse=True)
    assert schedule.step(5, 0, 1).batch == 1
    assert module._schedule("growing", batch_size, 12).max_steps == 12


def test_growing_doubles_after_the_hold() -> None:
    schedule = svi.growing(first=1, hold=3, double_every=2, last=6, offset=20, max_steps=99, settled=0)
    assert [schedule.batch(step) for step in range(1, 11)] == [1, 1, 1, 2, 2, 4, 4, 6, 6, 6]
    assert schedule.batch(10**6) == 6
    # a minibatch of B records counts as B steps of one record, and its own step is as large as theirs together
    assert schedule.step(1, 0, 99).size == pytest.approx((20 + 1) ** -0.51)
    assert schedule.step(4, 3, 99).size == pytest.approx(((20 + 3 + 2) / 2) ** -0.51)


def test_a_step_is_never_larger_than_one() -> None:
    schedule = svi.Schedule(lambda _: 8, lambda _: 1.0, lambda _: 0.0, 5, counts_records=True)
    assert schedule.step(1, 0, 8).size == 1.0
    assert svi.Schedule(lambda _: 1, lambda _: 1.0, lambda _: -0.9, 5).step(1, 0, 8).size == 1.0


def test_the_history_has_a_row_a_step() -> None:
    rows: list[tuple[int, int]] = []
    params, history = _fit(score_every=4).run(np.zeros(1), lambda step, size, _: rows.append((step.number, size)))
    assert rows == [(number, 1) for number in range(1, 11)]
    assert [step.number for step in history.steps] == list(range(1, 11))
    assert [math.isnan(score) for score in history.scores] == [number not in {4, 8, 10} for number in range(1, 11)]
    variables = svi.history_variables(history)
    assert set(variables) == {f"history_{name}" for name in ("step", "step_size", "batch", "size", "score")}
    assert all(dims == "step" and len(values) == 10 for dims, values in variables.values())
    assert params[0] == pytest.approx(9.5, abs=2)


def test_the_steps_are_the_formula() -> None:
    """A literal loop over the same minibatches ends at the same number."""
    fit = _fit()
    params, history = fit.run(np.zeros(1))
    assert history.stopped == "max_steps"
    literal = 0.0
    for number in range(1, 11):
        rho = (1 + number) ** -0.51
        literal = (1 - rho) * literal + rho * fit.minibatch(4 * (number - 1), 4).mean()
    assert params[0] == pytest.approx(literal, rel=1e-12)


def test_a_fit_stops_where_the_score_does_not_rise() -> None:
    schedule = svi.Schedule(lambda _: 20, lambda _: 1.0, lambda _: 0.0, 400)  # all records: rho = 1, 0.70, 0.57 …
    fit = _fit(schedule=schedule, tol=1e-6, window=3)
    params, history = fit.run(np.zeros(1))
    assert history.stopped == "converged"
    assert len(history.steps) == 4
    assert params[0] == pytest.approx(9.5)
    _, patient = _fit(schedule=schedule, tol=None).run(np.zeros(1))
    assert patient.stopped == "max_steps"
    assert len(patient.steps) == 400
    _, later = _fit(schedule=replace(schedule, settled=50), tol=1e-6, window=3).run(np.zeros(1))
    assert len(later.steps) == 53
    assert len(_fit(schedule=schedule, tol=1e-6, window=3, score_every=10).run(np.zeros(1))[1].steps) == 40


def test_with_a_tol_the_best_look_is_returned() -> None:
    """Minibatches of one record jump about; the held-out score knows which jump came nearest."""
    schedule = svi.Schedule(lambda _: 1, lambda _: 1.0, lambda _: 0.0, 30, decay=0.1)
    params, history = _fit(schedule=schedule, tol=0.0, window=99).run(np.zeros(1))
    wandering, _ = _fit(schedule=schedule, tol=None).run(np.zeros(1))
    fit = _fit(schedule=schedule)
    assert fit.score(params) == pytest.approx(max(history.scores))
    assert fit.score(params) > fit.score(wandering)


def test_without_held_out_records_all_steps_are_taken() -> None:
    params, history = _fit(held_out=np.empty((0, 1)), tol=1e-3).run(np.zeros(1))
    assert history.stopped == "max_steps"
    assert len(history.steps) == 10
    assert np.isnan(history.scores).all()
    same, _ = _fit(held_out=np.empty((0, 1)), tol=None).run(np.zeros(1))
    assert params == same


def test_finishing_raises_the_score() -> None:
    fit = _fit(schedule=svi.Schedule(lambda _: 1, lambda _: 1.0, lambda _: 0.0, 3, decay=0.1))
    params, history = fit.run(np.zeros(1))
    before = fit.score(params)
    finished = fit.finish(params, history, passes=20)
    assert finished[0] == pytest.approx(9.5)
    assert fit.score(finished) > before
    assert history.steps[-1].size == 1.0
    assert history.steps[-1].batch == 20
    assert history.scores[-1] == pytest.approx(fit.score(finished))


def test_finishing_goes_through_all_parts() -> None:
    """More records than one part: each part's statistics are remembered, and none is lost."""
    fit = _fit(1500, records_per_task=400)
    history = svi.History([svi.Step(1, 1, 1.0, 1.0)], [1], [0.0])
    finished = fit.finish(np.zeros(1), history, passes=3)
    assert finished[0] == pytest.approx(np.arange(1500).mean())


def test_finishing_leaves_a_model_that_it_would_make_worse() -> None:
    fit = _fit(held_out=np.array([[3.0]]))  # the held-out records are elsewhere
    history = svi.History([svi.Step(1, 1, 1.0, 1.0)], [1], [0.0])
    finished = fit.finish(np.array([3.0]), history, passes=20)
    assert finished.tolist() == [3.0]
    assert len(history.steps) == 1


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ("batch_size", 0, "a whole number from 1"),
        ("max_steps", 0, "None or a whole number from 1"),
        ("tol", -1e-3, "None or a number from 0"),
        ("finish", "polish", "None or 'memoised'"),
        ("schedule", "fast", "'growing' or 'published'"),
        ("held_out", 1.0, "a share from 0 to below 1"),
        ("held_out", -0.1, "a share from 0 to below 1"),
        ("n_patterns", 0, "a whole number from 1"),
        ("n_states", 1, "a whole number from 2"),
        ("n_init", 0, "a whole number from 1"),
        ("n_frames", 0, "a number above 0"),
        ("memory_limit", 0, "a number of bytes above 0"),
        ("dtype", "float16", "'float32' or 'float64'"),
    ],
)
def test_a_parameter_out_of_range_is_named(parameter: str, value: object, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"^got {parameter}={value!r}, expected {expected}: correct it\.$"):
        svi.check({parameter: value})


def test_parameters_in_range_pass() -> None:
    svi.check({"batch_size": 1, "max_steps": None, "tol": None, "finish": "memoised", "held_out": 0, "unknown": -1})
