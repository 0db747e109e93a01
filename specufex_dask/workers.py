"""The workers of a Dask cluster, where a Client is active: who they are, and the same work for each."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import uuid4

import dask.base
import numpy as np
from dask.base import persist
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull

from specufex_dask.blocks import one_task_each

_MOMENT = 1.0  # seconds


def client() -> Any:  # noqa: ANN401 - a distributed.Client, whose package is not imported without one
    """The active Client of a Dask cluster, None without one."""
    active = getattr(dask.base.get_scheduler(), "__self__", None)
    return active if hasattr(active, "scheduler_info") else None


def addresses() -> list[str]:
    """Addresses of the workers of the active Client's cluster, in order; none without one."""
    active = client()
    return [] if active is None else sorted(active.ncores())


def spread(lazy: list[Delayed]) -> list[list[Delayed]]:
    """`lazy` on the workers of a cluster, the same number on each: Dask would send more to who is free just then.

    Returns when they are there: the run of each worker in a list, or, without a cluster, each alone.
    That each belongs to a worker ends with that: what goes lost with a worker later, any may make
    again. Where one dies before, all begin anew, as Dask waits for ever for workers that were
    named and have all died.
    """
    while len(names := addresses()[: len(lazy)]) > 1:
        futures, tasks = _sent(lazy, names)
        while (live := _all_live(names)) and any(each.status == "pending" for run in futures for each in run):
            _wait(futures)
        if not live:  # the scheduler may not even know the tasks yet
            continue
        client().sync(client().scheduler.set_restrictions, worker=dict.fromkeys(tasks))
        if _all_live(names):  # after they were set free: of one that dies from now on others do the work
            return [[Delayed(future.key, {future.key: future}) for future in run] for run in futures]
    held = list(persist(*lazy))
    return [held] if names else [[piece] for piece in held]


def _sent(lazy: list[Delayed], names: list[str]) -> tuple[list[list[Any]], list[str]]:
    """Futures of the run of `lazy` that is sent to each of the workers `names`, and all tasks that are theirs alone."""
    keys = [each.key for each in lazy]
    graph = one_task_each(HighLevelGraph.merge(*(each.__dask_graph__() for each in lazy)), keys)
    named = {key: f"piece-{uuid4()}" for key in graph}
    tasks = {named[key]: task.substitute(named, key=named[key]) for key, task in graph.items()}
    futures = []
    for name, places in zip(names, np.array_split(np.arange(len(keys)), len(names)), strict=True):
        run = [named[keys[place]] for place in places]
        futures.append(client().get(cull(tasks, run)[0], run, workers=[name], sync=False))
    return futures, list(tasks)


def _all_live(names: list[str]) -> bool:
    return set(names) <= set(addresses())


def _wait(futures: list[list[Any]]) -> None:
    """Wait until all `futures` have ended, but not longer than a moment."""
    from distributed import wait

    with suppress(TimeoutError):
        wait([each for run in futures for each in run], timeout=_MOMENT)  # type: ignore[no-untyped-call]


def threads_per_worker() -> int | None:
    """Threads of a worker of the active Client's cluster; None without one."""
    active = client()
    return min(active.ncores().values(), default=None) if active else None
