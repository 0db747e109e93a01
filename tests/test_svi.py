"""The loop of stochastic variational inference, on a model as small as one can be: the mean of the records."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from means import Mean

from specufex_dask import hmm, nmf, svi

if TYPE_CHECKING:
    from types import ModuleType

Array = np.ndarray[Any, np.dtype[Any]]


def _sampled(n_records: int = 20, **changed: Any) -> svi.Sampled[Array]:
    """The numbers 0, 1, …"""
    records = np.arange(float(n_records))[:, None]
    fixed: dict[str, Any] = {
        "model": Mean(), "records": records, "seed": [0], "records_per_task": 3
    }  # fmt: skip
    return svi.Sampled(**(fixed | changed))


@given(
    n_records=st.integers(1, 40), batches=st.lists(st.integers(1, 50), min_size=1, max_size=30), seed=st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_each_epoch_takes_every_record_once(n_records: int, batches: list[int], seed: int) -> None:
    fit = _sampled(n_records, seed=[seed])
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
    fit = _sampled(40)
    epochs = [[fit.minibatch(start, 1)[0] for start in range(first, first + 40)] for first in (0, 40)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert epochs[0] != epochs[1]
    again = replace(fit, _orders={})
    assert [again.minibatch(start, 1)[0] for start in range(40)] == epochs[0]
    assert [_sampled(40, seed=[1]).minibatch(start, 1)[0] for start in range(40)] != epochs[0]


@given(st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_the_tree_is_a_sum(n_parts: int) -> None:
    parts = [(np.arange(4.0) * i, np.array(i)) for i in range(n_parts)]
    summed, number = svi.tree_sum(list(parts))
    np.testing.assert_allclose(summed, sum(part[0] for part in parts))
    assert number == sum(range(n_parts))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=70))
@settings(max_examples=50, deadline=None)
def test_whoever_has_the_parts_they_add_up_to_the_same_bits(holder: list[int]) -> None:
    """Each holder adds what it has of the tree, then one adds what these have left."""
    rng = np.random.default_rng(len(holder))
    parts: list[svi.Statistics] = [(rng.normal(size=3).astype("float32"), np.array(1)) for _ in holder]
    added: svi.Branches = {}
    for one in set(holder):
        own: svi.Branches = {(0, i): parts[i] for i in range(len(parts)) if holder[i] == one}
        added |= svi.add_branches(own, len(parts))
    ((summed, number),) = svi.add_branches(added, len(parts)).values()
    np.testing.assert_array_equal(summed, svi.tree_sum(parts)[0])
    assert number == len(parts)


def test_neighbours_are_added_at_once() -> None:
    """Of eight parts, whoever has the first four hands on one sum."""
    branches = svi.add_branches({(0, i): (np.array(i),) for i in range(4)}, 8)
    assert list(branches) == [(2, 0)]
    assert branches[2, 0][0] == 0 + 1 + 2 + 3


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_pieces_add_up_to_the_minibatch(scheduler: str) -> None:
    fit = _sampled(20)
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
            found.append(_sampled(records=records).statistics(np.arange(64), np.zeros(5), 1.0)[0])
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
@pytest.mark.parametrize("batch_size", [1, 2, 7, 16, 32, 100, 512])
def test_the_default_schedule_begins_small_and_grows(module: ModuleType, batch_size: int) -> None:
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


def test_finishing_raises_the_score() -> None:
    fit = _sampled()
    held_out = [fit.records[:7], fit.records[7:]]
    params, rows = fit.finish(np.array([3.0]), 7, held_out, 20)
    assert params[0] == pytest.approx(9.5)
    assert rows[-1][0] == svi.Step(8, 20, 1.0, 1.0)
    assert rows[-1][2] == pytest.approx(-((fit.records - params) ** 2).mean())
    assert rows[-1][2] > -((fit.records - 3.0) ** 2).mean()


def test_finishing_goes_through_all_parts() -> None:
    """More records than one part: each part's statistics are remembered, and none is lost."""
    fit = _sampled(1500, records_per_task=400)
    params, _ = fit.finish(np.zeros(1), 0, [fit.records], 3)
    assert params[0] == pytest.approx(np.arange(1500).mean())


def test_finishing_leaves_a_model_that_it_would_make_worse() -> None:
    params, rows = _sampled().finish(np.array([3.0]), 0, [np.array([[3.0]])], 20)
    assert params.tolist() == [3.0]
    assert rows == []


def test_the_steps_are_the_formula() -> None:
    """A literal loop over the same minibatches ends at the same number."""
    fit = _sampled()
    steps = [svi.Step(number, 4, 1.0, (1 + number) ** -0.51) for number in range(1, 11)]
    params, sizes = fit.run(np.zeros(1), steps, 0)
    literal = 0.0
    for step in steps:
        literal = (1 - step.size) * literal + step.size * fit.minibatch(4 * (step.number - 1), 4).mean()
    assert params[0] == pytest.approx(literal, rel=1e-12)
    assert sizes == [1] * 10


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ("batch_size", 0, "None or a whole number from 1"),
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


def test_the_largest_minibatch_follows_the_records() -> None:
    assert svi.largest_batch(None, 16, 1313) == 16
    assert svi.largest_batch(None, 16, 20_000) == 100
    assert svi.largest_batch(None, 16, 10**6) == svi.largest_batch(None, 32, 10**7) == 512
    assert svi.largest_batch(7, 16, 10**6) == 7


def test_parameters_in_range_pass() -> None:
    svi.check({"batch_size": 1, "max_steps": None, "tol": None, "finish": "memoised", "held_out": 0, "unknown": -1})
