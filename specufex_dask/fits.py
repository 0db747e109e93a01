"""A fit from its start to its end: many small steps on a sample, then large ones on all records.

The many small steps that prune would cost more on the way than in the computing: they are taken
on a sample, a look's worth in one task. Of larger minibatches each worker takes its share where
its records are. What the fit knows after each look is a few arrays, so it can be stored, and goes
on from there with the same bits.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from dask.base import compute, persist
from dask.delayed import Delayed, delayed

from specufex_dask import svi
from specufex_dask.blocks import one_blas_thread
from specufex_dask.minibatches import Minibatches
from specufex_dask.sample import Records, draw, together
from specufex_dask.workers import addresses, at_once, spread, threads_per_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from specufex_dask.history import History, State

Array = np.ndarray[Any, np.dtype[Any]]
Params = TypeVar("Params")

ALL_IN_SAMPLE = 64
"""A fit whose largest minibatch is no larger takes all of them from the sample."""

IN_SAMPLE = 16
"""Largest minibatch that any other fit takes from the sample."""

_LOOKS_MORE_OFTEN = 5
_RECORDS_TO_COMPARE = 2000
_PASSES = 20
_SCORED_TOGETHER = 32
_log = logging.getLogger("specufex_dask")


@dataclass(frozen=True)
class Sample:
    """The records (record, …) that the small steps need, and the held-out ones in lists of parts, where they are."""

    records: Delayed
    held_out: list[Delayed]


@dataclass(frozen=True)
class Fit(Generic[Params]):
    """A fit to be run: the model, its records, and how.

    Random numbers are keyed by the seed of the start (one of `seeds` each) and the epoch. With a
    `tol` the fit stops when the held-out score does not rise any more over `window` looks, one
    every `score_every` steps (five times as often where minibatches are large), and ends with
    the parameters of the best. `begun` is the number of the last step of the model that the fit
    goes on from.
    """

    model: svi.Model[Params]
    records: Records
    schedule: svi.Schedule
    seeds: list[list[int]]
    tol: float | None
    records_per_task: int
    score_every: int
    memory_limit: float
    window: int = 5
    begun: int = 0
    finish: bool = False

    @cached_property
    def n_sampled(self) -> int:
        """Records in the sample: all where memory holds them, else no more than its steps take."""
        n_fitted, most = len(self.records.fitted), self.records.within(self.memory_limit)
        if n_fitted <= most or self.finish:
            return min(n_fitted, most)
        steps = range(self.begun + 1, self.schedule.max_steps + 1)
        return min(most, max(1, sum(self.schedule.batch(step) for step in steps if not self._is_large(step))))

    def about(self, state: State[Params]) -> dict[str, str | int]:
        """What a model says of its fit: why it stopped, the step that it is of, and the records that steps took."""
        history = state.history
        streamed = sum(step.batch for step in history.steps if self._is_large(step.number))
        n_fitted = len(self.records.fitted)
        best = history.number if self.tol is None else history.best_step(self._first_look)
        n_sampled = max(self.n_sampled, min(streamed, n_fitted))
        return {"stopped": history.stopped, "best_step": best, "n_records": n_fitted, "n_sampled": n_sampled}

    def sample(self) -> Sample:
        """Read the sample; under a cluster it stays with a worker."""
        (records,) = persist(together(self.records, draw(self.records, self.n_sampled, self.seeds[0][0])))
        return Sample(records, self._held_out())

    def _held_out(self) -> list[Delayed]:
        hidden = self.records.held_out
        parts = [hidden[i : i + _SCORED_TOGETHER] for i in range(0, len(hidden), _SCORED_TOGETHER)]
        return [run.held for run in spread([together(self.records, part) for part in parts])]

    def run(
        self,
        states: list[State[Params]],
        sample: Sample,
        *,
        tell: Callable[[list[State[Params]]], object] = lambda _: None,
    ) -> State[Params]:
        """Fit from `states`, one of each start; the start that explains the sample best goes on alone.

        `tell` hears of each list of states that the fit could go on from.
        """
        with one_blas_thread():
            self._small_steps(states, sample, tell)
            state = self._best(states, sample)
            self._large_steps(state, sample, tell)
            if self.tol is not None:
                state.params = state.best
            if self.finish:
                self._finish(state, sample)
        return state

    def _has_small_step(self, state: State[Params]) -> bool:
        history = state.history
        last = history.stopped or history.number == self.schedule.max_steps
        return not last and not self._is_large(history.number + 1)

    def _small_steps(
        self, states: list[State[Params]], sample: Sample, tell: Callable[[list[State[Params]]], object]
    ) -> None:
        """The small steps of all starts, side by side, in bursts from look to look.

        A burst is scored while the next one runs, which is in vain where the fit had converged.
        """
        unscored: list[State[Params]] = []
        while unscored or any(self._has_small_step(state) for state in states):
            running = [pair for pair in zip(states, self.seeds, strict=False) if self._has_small_step(pair[0])]
            bursts = [self._burst(state, seed, sample) for state, seed in running]
            taken, scores = at_once(bursts, [self._score(state.params, sample) for state in unscored])
            for state, score in zip(unscored, scores, strict=True):
                self._look(state, score)
            if unscored:
                tell(states)
            unscored = [state for state, _ in running if not state.history.stopped]
            for (state, _), (params, steps) in zip(running, taken, strict=True):
                if not state.history.stopped:
                    state.params = params
                    for step, size in steps:
                        state.history.record(step, size, math.nan)

    def _burst(self, state: State[Params], seed: list[int], sample: Sample) -> Delayed:
        """The steps of `state` up to its next look, in one task."""
        steps = self._plan(state.history)
        burst: Delayed = _lazy(_stepped, self._sampled(seed), state.params, steps, state.history.seen)(sample.records)
        return burst

    def _sampled(self, seed: list[int]) -> Callable[..., svi.Sampled[Params]]:
        return partial(
            svi.Sampled, self.model, seed=seed, records_per_task=self.records_per_task, n_threads=threads_per_worker()
        )

    def _plan(self, history: History) -> list[svi.Step]:
        """The small steps up to the next look."""
        steps: list[svi.Step] = []
        seen, number, available = history.seen, history.number + 1, self.n_sampled
        while not self._is_large(number):
            steps.append(self.schedule.step(number, seen, available))
            seen += steps[-1].batch
            if number % self.score_every == 0 or number == self.schedule.max_steps:
                break
            number += 1
        return steps

    def _large_steps(self, state: State[Params], sample: Sample, tell: Callable[[list[State[Params]]], object]) -> None:
        """The steps whose records stream."""
        if state.history.stopped:
            return
        if len(addresses()) > 1:  # Dask has moved them to whoever took no small steps
            sample = replace(sample, held_out=self._held_out())
        stream = Minibatches(self.records, largest=self._largest, memory_limit=self.memory_limit, seed=self.seeds[0][0])
        _log.info("minibatches of up to %d records: %s", self._largest, stream.reading)
        every = max(1, self.score_every // _LOOKS_MORE_OFTEN)
        try:
            stream.skip(
                [self.schedule.batch(step.number) for step in state.history.steps if self._is_large(step.number)]
            )
            while not state.history.stopped:
                self._large_step(state, stream)
                if state.history.number % every == 0 or state.history.number == self.schedule.max_steps:
                    self._look(state, *at_once([self._score(state.params, sample)])[0])
                tell([state])
        finally:
            stream.close()

    def _score(self, params: Params, sample: Sample) -> Delayed:
        """The held-out score of `params`; each worker scores the parts that it holds."""
        scored = _lazy(_scored, self.model, params)
        score: Delayed = _lazy(_score)([scored(parts) for parts in sample.held_out])
        return score

    def _is_large(self, number: int) -> bool:
        """Whether the records of the step of that number stream."""
        in_sample = ALL_IN_SAMPLE if self._largest <= ALL_IN_SAMPLE else IN_SAMPLE
        return number > self.begun and self.schedule.batch(number) > in_sample

    @cached_property
    def _largest(self) -> int:
        """Records of the largest minibatch."""
        return self.schedule.batch(self.schedule.max_steps)

    @property
    def _first_look(self) -> int:
        """The first step whose score counts."""
        return max(self.schedule.settled, self.begun + 1)

    def _large_step(self, state: State[Params], stream: Minibatches) -> None:
        number = state.history.number + 1
        shares = stream.take(self.schedule.batch(number))
        step = self.schedule.step(number, state.history.seen, sum(len(rows) for _, rows in shares))
        total = stream.statistics(shares, self.model, state.params, step.temperature)
        state.params = self.model.prune(self.model.global_step(state.params, total, step))
        state.history.record(step, self.model.size(state.params), math.nan)

    def _look(self, state: State[Params], score: float) -> None:
        """Take note of the score after the last step, and whether it was the last of all."""
        history = state.history
        history.scores[-1] = score
        if self.tol is not None:
            if history.best_step(self._first_look) == history.number:
                state.best = state.params
            if history.settled(self.tol, self.window, self._first_look):
                history.stopped = "converged"
        if not history.stopped and history.number == self.schedule.max_steps:
            history.stopped = "max_steps"

    def _best(self, states: list[State[Params]], sample: Sample) -> State[Params]:
        """The start that explains the records of the sample best.

        Local optima differ by less than the noise of a held-out score of a hundred records, and
        a model has too few parameters to overfit thousands of frames.
        """
        if len(states) == 1:
            return states[0]
        last = [state.best if state.history.stopped and self.tol is not None else state.params for state in states]
        scores = compute(*(_lazy(_explained, self.model, params)(sample.records) for params in last))
        return states[int(np.argmax(scores))]

    def _finish(self, state: State[Params], sample: Sample) -> None:
        """Passes over the sample at rho = 1 while they raise the held-out score."""
        finished = _lazy(_finished, self._sampled(self.seeds[0]), state.params, state.history.number)
        state.params, rows = finished(sample.records, sample.held_out).compute()
        for row in rows:
            state.history.record(*row)


def _lazy(function: Callable[..., Any], *arguments: object) -> Delayed:
    """`function` with its first `arguments`, to be called with what is on a worker, and where that is."""
    # A partial, as dask would take lists and dataclasses among the arguments apart.
    made: Delayed = delayed(partial(function, *arguments), pure=False, traverse=False)
    return made


def _stepped(
    made: Callable[..., svi.Sampled[Params]], params: Params, steps: list[svi.Step], seen: int, records: Array
) -> tuple[Params, list[tuple[svi.Step, int]]]:
    params, sizes = made(records).run(params, steps, seen)
    return params, list(zip(steps, sizes, strict=True))


def _finished(
    made: Callable[..., svi.Sampled[Params]], params: Params, last: int, records: Array, held_out: list[list[Array]]
) -> tuple[Params, list[tuple[svi.Step, int, float]]]:
    return made(records).finish(params, last, list(chain.from_iterable(held_out)), _PASSES)


def _scored(model: svi.Model[Params], params: Params, parts: list[Array]) -> list[tuple[float, float]]:
    with one_blas_thread():
        return [model.score(part, params) for part in parts]


def _score(scored: list[list[tuple[float, float]]]) -> float:
    return svi.ratio(chain.from_iterable(scored))


def _explained(model: svi.Model[Params], params: Params, records: Array) -> float:
    return model.score(records[:: max(1, len(records) // _RECORDS_TO_COMPARE)], params)[0]
