"""A fit from start to end, small steps and large ones: its history, its end, and going on after a break."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from means import Mean

from specufex_dask import svi
from specufex_dask.fits import Fit
from specufex_dask.history import History, State, after, begin, history_of, history_variables, model_score
from specufex_dask.sample import Records

Array = np.ndarray[Any, np.dtype[Any]]

FOUR = svi.Schedule(lambda _: 4, lambda _: 1.0, lambda _: 1.0, 10)
GROWING = svi.growing(first=2, hold=20, double_every=5, last=128, offset=20, max_steps=90, settled=0)


def _records(n_records: int, held_out: Array | None = None) -> Records:
    array = da.from_array(np.arange(float(n_records))[:, None], chunks=(8, 1))
    everyone = np.arange(n_records)
    return Records(array, everyone, everyone if held_out is None else held_out, np.dtype(float))


def _fit(n_records: int = 20, **changed: Any) -> Fit[Array]:
    """A fit to the numbers 0, 1, …, all of them held out too."""
    fixed: dict[str, Any] = {
        "model": Mean(), "records": _records(n_records), "schedule": FOUR, "seeds": [[0]], "tol": None,
        "records_per_task": 3, "score_every": 1, "memory_limit": 1e9,
    }  # fmt: skip
    return Fit(**(fixed | changed))


def _run(fit: Fit[Array], tell: Any = lambda _: None) -> State[Array]:
    return fit.run([begin(np.zeros(1)) for _ in fit.seeds], fit.sample(), tell=tell)


def test_the_history_has_a_row_a_step() -> None:
    told: list[int] = []
    state = _run(_fit(score_every=4), lambda states: told.append(states[0].history.number))
    history = state.history
    assert told == [4, 8, 10]
    assert [step.number for step in history.steps] == list(range(1, 11))
    assert [math.isnan(score) for score in history.scores] == [number not in {4, 8, 10} for number in range(1, 11)]
    variables = history_variables(history)
    assert set(variables) == {f"history_{name}" for name in ("step", "step_size", "batch", "size", "score")}
    assert all(dims == "step" and len(values) == 10 for dims, values in variables.values())
    assert history.seen == 40
    assert state.params[0] == pytest.approx(9.5, abs=2)


def test_a_fit_stops_where_the_score_does_not_rise() -> None:
    schedule = svi.Schedule(lambda _: 20, lambda _: 1.0, lambda _: 0.0, 400)  # all records: rho = 1, 0.70, 0.57 …
    state = _run(_fit(schedule=schedule, tol=1e-6, window=3))
    assert state.history.stopped == "converged"
    assert state.history.number == 4
    assert state.params[0] == pytest.approx(9.5)
    patient = _run(_fit(schedule=schedule)).history
    assert (patient.stopped, patient.number) == ("max_steps", 400)
    later = _run(_fit(schedule=replace(schedule, settled=50), tol=1e-6, window=3)).history
    assert later.number == 53
    assert _run(_fit(schedule=schedule, tol=1e-6, window=3, score_every=10)).history.number == 40


def test_with_a_tol_the_best_look_is_returned() -> None:
    """Minibatches of one record jump about; the held-out score knows which jump came nearest."""
    schedule = svi.Schedule(lambda _: 1, lambda _: 1.0, lambda _: 0.0, 30, decay=0.1)
    best = _run(_fit(schedule=schedule, tol=0.0, window=99))
    wandering = _run(_fit(schedule=schedule))

    def score(params: Array) -> float:
        return svi.ratio([Mean().score(np.arange(20.0)[:, None], params)])

    assert score(best.params) == pytest.approx(max(best.history.scores))
    assert _fit(tol=0.0).about(best)["best_step"] == 1 + int(np.argmax(best.history.scores))
    assert _fit().about(wandering)["best_step"] == 30
    assert score(best.params) > score(wandering.params)


@pytest.mark.parametrize(
    ("about", "scores", "expected"),
    [
        ({"best_step": 2}, [1.0, 3.0, 2.0], (3.0, "after 2 of 3 steps")),
        ({"best_step": 3}, [math.nan, 1.0, 2.0], (2.0, "after 3 steps")),
        ({}, [1.0, 3.0, 2.0], (2.0, "after 3 steps")),
        ({"best_step": 3}, [math.nan, math.nan, math.nan], (math.nan, "")),
    ],
)
def test_the_score_that_is_told_is_of_the_model(
    about: dict[str, int], scores: list[float], expected: tuple[float, str]
) -> None:
    model = xr.Dataset({"history_step": ("step", [1, 2, 3]), "history_score": ("step", scores)}, attrs=about)
    assert model_score(model) == pytest.approx(expected, nan_ok=True)


def test_the_score_is_of_all_held_out_records() -> None:
    """More than are scored together: the parts add up."""
    fit = _fit(records=_records(100, held_out=np.arange(70)))
    state = _run(fit)
    assert state.history.scores[-1] == pytest.approx(-((np.arange(70.0) - state.params) ** 2).mean())


def test_without_held_out_records_all_steps_are_taken() -> None:
    nobody = _records(20, held_out=np.empty(0, int))
    state = _run(_fit(records=nobody, tol=1e-3))
    assert (state.history.stopped, state.history.number) == ("max_steps", 10)
    assert np.isnan(state.history.scores).all()
    assert state.params == _run(_fit(records=nobody)).params


def test_large_minibatches_stream_and_count_alike() -> None:
    """Small steps from the sample, then large ones from all records, in one history."""
    fit = _fit(3000, schedule=GROWING, score_every=10, memory_limit=2000 * 8)
    assert fit.n_sampled == 20 * 2 + 5 * (4 + 8 + 16), "no more than the small steps take"
    state = _run(fit)
    batches = [step.batch for step in state.history.steps]
    assert batches[:20] == [2] * 20
    assert batches[25:26] == [8]
    assert max(batches) == 128
    assert len(batches) == 90
    looks = [step.number for step, score in zip(state.history.steps, state.history.scores, strict=True) if score < 0]
    assert looks[:4] == [10, 20, 30, 35], "the end of the small steps is a look"
    assert looks[-3:] == [86, 88, 90], "five times as often"
    assert state.params[0] == pytest.approx(1499.5, rel=0.1)
    assert fit.about(state)["n_sampled"] == 3000


def test_an_epoch_of_large_steps_is_exact() -> None:
    """Steps of all records at rho = 1 end at the mean, however the pieces are shared."""
    everything = svi.Schedule(lambda _: 3000, lambda _: 1.0, lambda _: 0.0, 1, counts_records=True)
    assert _run(_fit(3000, schedule=everything)).params[0] == pytest.approx(1499.5, rel=1e-12)


@pytest.mark.parametrize("n_starts", [1, 3])
def test_a_fit_goes_on_from_any_state_with_the_same_bits(n_starts: int) -> None:
    seeds = [[0, i] for i in range(n_starts)]
    told: list[list[State[Array]]] = []
    fit = _fit(3000, schedule=GROWING, score_every=10, seeds=seeds, tol=1e-9)
    whole = _run(fit, lambda states: told.append(copy.deepcopy(states)))
    assert {len(states) for states in told} == {1, n_starts}
    assert len(told) > 8
    for states in told[::3]:
        again = fit.run(copy.deepcopy(states), fit.sample())
        np.testing.assert_array_equal(again.params, whole.params)
        np.testing.assert_array_equal(again.history.scores, whole.history.scores)
        assert again.history.steps == whole.history.steps
        assert again.history.stopped == whole.history.stopped


def test_finishing_is_of_the_sample() -> None:
    one = svi.Schedule(lambda _: 1, lambda _: 1.0, lambda _: 0.0, 3, decay=0.1)
    fit = _fit(schedule=one, finish=True)
    assert fit.n_sampled == 20
    state = _run(fit)
    assert state.params[0] == pytest.approx(9.5)
    assert state.history.steps[-1].size == 1.0


def test_the_start_that_explains_the_records_best_goes_on() -> None:
    starts = [begin(np.full(1, value)) for value in (500.0, 10.0, -70.0)]
    short = svi.Schedule(lambda _: 1, lambda _: 1.0, lambda _: 1e9, 3)
    fit = _fit(schedule=short, seeds=[[0, 0], [0, 1], [0, 2]])
    assert fit.run(starts, fit.sample()).params[0] == pytest.approx(10, abs=1)


def test_a_fit_goes_on_after_another() -> None:
    first = _run(_fit())
    schedule = after(first.history, FOUR, 5)
    assert schedule.max_steps == 15
    longer = _fit(schedule=schedule, begun=10)
    second = longer.run([begin(first.params, replace(first.history, stopped=""))], longer.sample())
    assert [step.number for step in second.history.steps] == list(range(1, 16))
    assert second.history.steps[-1].size == pytest.approx(16**-0.51)
    assert after(History(), FOUR, 5) is FOUR


def test_a_model_that_was_given_has_no_history() -> None:
    import xarray as xr

    with pytest.raises(ValueError, match="got start=a model without a history, expected one that a fit returned"):
        history_of(xr.Dataset())
