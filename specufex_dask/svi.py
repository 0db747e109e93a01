"""Stochastic variational inference (Hoffman et al. 2013): one loop that knows no model.

A `Model` gives additive statistics of a block of records (`local_step`) and folds them into its
parameters (`global_step`); this module sets the step sizes and takes the steps that are too
small to share: those of a few records of a sample in memory. The larger ones, whose records
stream from many chunks, are in `minibatches`; `fits` goes from one to the other, and `history`
knows when to stop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from specufex_dask.blocks import one_blas_thread, run_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Array = np.ndarray[Any, np.dtype[Any]]
Params = TypeVar("Params")
Statistics = tuple[Array, ...]

Branches = dict[tuple[int, int], Statistics]
"""Sums of a binary tree over the parts of a minibatch, by level (0: one part) and place in it."""

LAST_STEPS = 250
"""Steps at the largest minibatch that a model needs, whatever its size (measured: 100 to 250)."""

_FEWEST_STATES = 2
_LARGEST_BATCH = 512


class Model(Protocol[Params]):
    """What the loop asks of a model."""

    def local_step(self, records: Array, params: Params, temperature: float) -> Statistics:
        """Additive statistics of `records` (record, …)."""

    def global_step(self, params: Params, total: Statistics, step: Step) -> Params:
        """New parameters from the statistics of a minibatch."""

    def prune(self, params: Params) -> Params:
        """The parameters without the components that died."""

    def score(self, records: Array, params: Params) -> tuple[float, float]:
        """Numerator and denominator of the held-out score, additive over records."""

    def size(self, params: Params) -> int:
        """Components alive."""


@dataclass(frozen=True)
class Step:
    """One global step: its number from 1, its minibatch, its temperature and its step size rho."""

    number: int
    batch: int
    temperature: float
    size: float


@dataclass(frozen=True)
class Schedule:
    """Minibatch, temperature and step size of each step.

    ``batch(step)`` records are joined in step 1, 2, …; ``temperature(step)`` is tau. The step
    size is rho = (offset / damping + elapsed)^-decay. Where minibatches grow, one record a step
    is the unit: elapsed = records seen / batch and the offset shrinks alike, so that a minibatch
    of B records moves the model as far as its B records deserve. `settled` is the first step
    whose score counts for stopping and for the best parameters.
    """

    batch: Callable[[int], int]
    temperature: Callable[[int], float]
    offset: Callable[[int], float]
    max_steps: int
    settled: int = 0
    decay: float = 0.51
    counts_records: bool = False

    def step(self, number: int, seen: int, available: int) -> Step:
        """The step `number`, after `seen` records, of a fit that has `available` records."""
        batch = min(self.batch(number), available)
        elapsed = (self.offset(number) + seen + batch) / batch if self.counts_records else self.offset(number) + number
        return Step(number, batch, self.temperature(number), min(1.0, elapsed**-self.decay))


def growing(
    *, first: int, hold: int, double_every: int, last: int, offset: float, max_steps: int, settled: int
) -> Schedule:
    """The default schedule: `first` records a step for `hold` steps, doubled every `double_every`, up to `last`.

    The temperature is 1 throughout: on draws from the model annealing found fewer of the true patterns.
    """

    def batch(step: int) -> int:
        doublings = 0 if step <= hold else 1 + (step - hold - 1) // double_every
        return int(min(max(first, last), first * 2 ** min(doublings, 60)))

    return Schedule(batch, lambda _: 1.0, lambda _: offset, max_steps, settled, counts_records=True)


def grown(*, first: int, hold: int, double_every: int, last: int) -> int:
    """The last step before minibatches of `last` records, in the schedule `growing`."""
    return hold + double_every * max(0, math.ceil(math.log2(last / first)) - 1)


def largest_batch(asked: int | None, least: int, n_records: int) -> int:
    """The largest minibatch: what was asked for, or `least`, or a 200th of the records, at most 512."""
    return asked or min(max(least, n_records // 200), _LARGEST_BATCH)


def annealing(step: int) -> float:
    """The published temperature tau = 1 + 0.75^(step - 1)."""
    return 1.0 + 0.75 ** (step - 1)


@dataclass(frozen=True)
class Sampled(Generic[Params]):
    """Steps on `records` (record, …) in memory; many of them are one task, run where the sample is.

    Random numbers are keyed by (*seed, epoch), never by who computes. The pieces of a minibatch
    run side by side on `n_threads` (None: one a core), `records_per_task` each: a number of the
    fit, so that the sums do not depend on the cores.
    """

    model: Model[Params]
    records: Array
    seed: list[int]
    records_per_task: int
    n_threads: int | None = None
    _orders: dict[int, Array] = field(default_factory=dict, compare=False, repr=False)

    def run(self, params: Params, steps: list[Step], seen: int) -> tuple[Params, list[int]]:
        """Parameters after `steps`, and their size after each step.

        `seen` is the number of records that the steps before these took.
        """
        # Held for the whole run: switching BLAS between one thread and many costs more than a step.
        with one_blas_thread():
            sizes = []
            for step in steps:
                total = self.statistics(self.minibatch(seen, step.batch), params, step.temperature)
                params = self.model.prune(self.model.global_step(params, total, step))
                seen += step.batch
                sizes.append(self.model.size(params))
            return params, sizes

    def finish(
        self, params: Params, last: int, held_out: list[Array], passes: int
    ) -> tuple[Params, list[tuple[Step, int, float]]]:
        """Parameters after passes over all records at rho = 1, while they raise the held-out score; a row of each.

        The statistics of each part of the records are remembered and replaced when its turn
        comes (memoised inference, Hughes & Sudderth 2013), so every part moves the model.
        `last` is the number of the step before; the score is that of the parts of `held_out`.
        """
        with one_blas_thread():
            rows: list[tuple[Step, int, float]] = []
            best = self._score(held_out, params)
            parts = np.array_split(np.arange(len(self.records)), max(1, len(self.records) // 512))
            memory = [self.statistics(part, params, 1.0) for part in parts]
            for _ in range(passes):
                trial = params
                for i, part in enumerate(parts):
                    last += 1
                    step = Step(last, len(self.records), 1.0, 1.0)
                    trial = self.model.global_step(trial, tree_sum(memory), step)
                    memory[i] = self.statistics(part, trial, 1.0)
                reached = self._score(held_out, trial)
                if not reached > best:
                    break
                best, params = reached, trial
                rows.append((step, self.model.size(params), reached))
            return self.model.prune(params), rows

    def _score(self, held_out: list[Array], params: Params) -> float:
        return ratio(run_tasks([(self.model.score, part, params) for part in held_out], self.n_threads))

    def minibatch(self, seen: int, batch: int) -> Array:
        """The next `batch` records after `seen` ones: each epoch takes all records once, in its own seeded order."""
        epoch, first = divmod(seen, len(self.records))
        order = self._order(epoch)[first : first + batch]
        rest = batch - len(order)
        return np.sort(order if rest == 0 else np.concatenate([order, self._order(epoch + 1)[:rest]]))

    def _order(self, epoch: int) -> Array:
        if epoch not in self._orders:
            self._orders.clear()
            self._orders[epoch] = np.random.default_rng([*self.seed, 1, epoch]).permutation(len(self.records))
        return self._orders[epoch]

    def statistics(self, chosen: Array, params: Params, temperature: float) -> Statistics:
        """Statistics of the `chosen` records, summed in a fixed tree."""
        pieces = [chosen[i : i + self.records_per_task] for i in range(0, len(chosen), self.records_per_task)]
        if len(pieces) == 1:
            return self.model.local_step(self.records[pieces[0]], params, temperature)
        calls = [(self.model.local_step, self.records[piece], params, temperature) for piece in pieces]
        return tree_sum(run_tasks(calls, self.n_threads))


def ratio(scores: Iterable[tuple[float, float]]) -> float:
    """The held-out score from numerator and denominator of each part; NaN without parts, or where all are silent."""
    numerator, denominator = (math.fsum(each) for each in zip((0.0, 0.0), *scores, strict=True))
    return numerator / denominator if denominator > 0 else math.nan


def tree_sum(parts: list[Statistics]) -> Statistics:
    """The sum of `parts`, neighbours first: an order that does not depend on who finished when."""
    (total,) = add_branches({(0, i): part for i, part in enumerate(parts)}, len(parts)).values()
    return total


def add_branches(branches: Branches, n_parts: int) -> Branches:
    """`branches` of the tree over `n_parts` parts, added as far as they are neighbours.

    So whoever has some of the parts adds what the tree adds of them, in its order, and no more.
    """
    added, level, width = dict(branches), 0, n_parts
    while width > 1:
        for left in range(0, width, 2):
            pair = [(level, place) for place in range(left, min(left + 2, width))]
            if all(place in added for place in pair):
                added[level + 1, left // 2] = _sum(*(added.pop(place) for place in pair))
        level, width = level + 1, -(-width // 2)
    return added


def _sum(first: Statistics, second: Statistics | None = None) -> Statistics:
    return first if second is None else tuple(a + b for a, b in zip(first, second, strict=True))


def check(parameters: dict[str, Any]) -> None:
    """Raise ``ValueError`` for a parameter of a fit that is out of its range."""
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "batch_size": (lambda v: v is None or v >= 1, "None or a whole number from 1"),
        "max_steps": (lambda v: v is None or v >= 1, "None or a whole number from 1"),
        "tol": (lambda v: v is None or v >= 0, "None or a number from 0"),
        "finish": (lambda v: v in (None, "memoised"), "None or 'memoised'"),
        "schedule": (lambda v: v in ("growing", "published"), "'growing' or 'published'"),
        "held_out": (lambda v: 0 <= v < 1, "a share from 0 to below 1"),
        "n_patterns": (lambda v: v >= 1, "a whole number from 1"),
        "n_states": (lambda v: v >= _FEWEST_STATES, f"a whole number from {_FEWEST_STATES}"),
        "n_init": (lambda v: v >= 1, "a whole number from 1"),
        "n_frames": (lambda v: v > 0, "a number above 0"),
        "memory_limit": (lambda v: v > 0, "a number of bytes above 0"),
        "dtype": (lambda v: v in ("float32", "float64"), "'float32' or 'float64'"),
    }
    for name, value in parameters.items():
        if name in rules and not rules[name][0](value):
            msg = f"got {name}={value!r}, expected {rules[name][1]}: correct it."
            raise ValueError(msg)
