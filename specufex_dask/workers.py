"""The workers of a Dask cluster, where a Client is active: who they are, and the same work for each."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple
from uuid import uuid4

import dask.base
import numpy as np
from dask.base import compute, persist
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull

from specufex_dask.blocks import in_runs, one_task_each

Array = np.ndarray[Any, np.dtype[Any]]

_MOMENT = 1.0  # seconds


def client() -> Any:  # noqa: ANN401 - a distributed.Client, whose package is not imported without one
    """The active Client of a Dask cluster, None without one."""
    active = getattr(dask.base.get_scheduler(), "__self__", None)
    return active if hasattr(active, "scheduler_info") else None


def addresses() -> list[str]:
    """Addresses of the workers of the active Client's cluster, in order; none without one."""
    active = client()
    return [] if active is None else sorted(active.ncores())


_LONGEST_RUN = 4
"""A scheduler spends a millisecond on each task; what is urgent waits for one that has begun."""


class Run(NamedTuple):
    """What is at these `places` of a list, in one list, on the worker of that number."""

    places: list[int]
    worker: int
    held: Delayed


def spread(lazy: list[Delayed]) -> list[Run]:
    """`lazy` on the workers of a cluster, the same number on each: Dask would send more to who is free just then.

    Returns when they are there, in runs that are a task each; without a cluster each is alone.
    That a run belongs to a worker ends with that: what goes lost with a worker later, any may make
    again. Where one dies before, all begin anew, as Dask waits for ever for workers that were
    named and have all died.
    """
    while names := addresses()[: len(lazy)]:
        shares = [
            np.array_split(each, -(-len(each) // _LONGEST_RUN))
            for each in np.array_split(np.arange(len(lazy)), len(names))
        ]
        futures, tasks = _sent(lazy, dict(zip(names, shares, strict=True)))
        while (live := _all_live(names)) and any(future.status == "pending" for future in futures):
            _wait(futures)
        if not live:  # the scheduler may not even know the tasks yet
            continue
        client().sync(client().scheduler.set_restrictions, worker=dict.fromkeys(tasks))
        if _all_live(names):  # after they were set free: of one that dies from now on others do the work
            runs = [(run.tolist(), worker) for worker, share in enumerate(shares) for run in share]
            held = [Delayed(future.key, {future.key: future}) for future in futures]
            return [Run(*run, each) for run, each in zip(runs, held, strict=True)]
    return [Run([place], place, held) for place, held in enumerate(persist(*(delayed([each]) for each in lazy)))]


def at_once(*urgent: list[Delayed]) -> list[list[Any]]:
    """The results of each list, which the workers of a cluster compute before all else, the first list first."""
    active = client()
    if active is None:
        return list(compute(*urgent))
    futures = [active.compute(lazy, priority=len(urgent) - place) for place, lazy in enumerate(urgent)]
    results: list[list[Any]] = active.gather(futures)
    return results


def _sent(lazy: list[Delayed], shares: dict[str, list[Array]]) -> tuple[list[Any], list[str]]:
    """A future of each run of `lazy`, sent to the worker in whose share it is; and all tasks that are theirs alone."""
    keys = [each.key for each in lazy]
    graph = one_task_each(HighLevelGraph.merge(*(each.__dask_graph__() for each in lazy)), keys)
    named = {key: f"piece-{uuid4()}" for key in graph}
    tasks = {named[key]: task.substitute(named, key=named[key]) for key, task in graph.items()}
    futures, sent = [], list[str]()
    for name, share in shares.items():
        runs = {f"run-{uuid4()}": [named[keys[place]] for place in run] for run in share}
        its = cull(in_runs(tasks, runs), list(runs))[0]
        futures += client().get(its, list(runs), workers=[name], sync=False)
        sent += its
    return futures, sent


def _all_live(names: list[str]) -> bool:
    return set(names) <= set(addresses())


def _wait(futures: list[Any]) -> None:
    """Wait until all `futures` have ended, but not longer than a moment."""
    from distributed import wait

    with suppress(TimeoutError):
        wait(futures, timeout=_MOMENT)  # type: ignore[no-untyped-call]


def threads_per_worker() -> int | None:
    """Threads of a worker of the active Client's cluster; None without one."""
    active = client()
    return min(active.ncores().values(), default=None) if active else None
