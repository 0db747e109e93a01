"""The workers of a Dask cluster, where a Client is active: who they are, and the same work for each."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import dask.base
import numpy as np
from dask.base import compute, persist
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull

from specufex_dask.blocks import in_runs, one_task_each

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, np.dtype[Any]]

_MOMENT = 1.0  # seconds

_LONGEST_RUN = 4
"""A scheduler spends a millisecond on each task; what is urgent waits for one that has begun."""


def client() -> Any:  # noqa: ANN401 - a distributed.Client, whose package is not imported without one
    """The active Client of a Dask cluster, None without one."""
    active = getattr(dask.base.get_scheduler(), "__self__", None)
    return active if hasattr(active, "scheduler_info") else None


def addresses() -> list[str]:
    """Addresses of the workers of the active Client's cluster, in order; none without one."""
    return sorted(_threads())


def _threads() -> dict[str, int]:
    """Threads of each worker of the active Client's cluster, by its address; none without one."""
    active = client()
    return {} if active is None else active.ncores()


class Run(NamedTuple):
    """What is at these `places` of a list, in one list, on the worker of that address."""

    places: list[int]
    worker: str
    held: Delayed


def spread(lazy: list[Delayed], first: int = 0) -> list[Run]:
    """`lazy` on the workers of a cluster, the same number on each: Dask would send more to who is free just then.

    What cannot be shared out evenly goes to the worker of the number `first` and those after it.

    Returns when they are there, in runs that are a task each; without a cluster each is alone.
    That a run belongs to a worker ends with that: what goes lost with a worker later, any may make
    again. Where one dies before, all begin anew, as Dask waits for ever for workers that were
    named and have all died.
    """
    while lazy and (threads := _threads()):
        names = np.roll(sorted(threads), -first).tolist()[: len(lazy)]
        split = np.array_split(np.arange(len(lazy)), len(names))
        shares = {name: _in_runs(share, threads[name]) for name, share in zip(names, split, strict=True)}
        futures, tasks = _sent(lazy, shares)
        while (live := _all_live(names)) and any(future.status == "pending" for future in futures):
            _wait(futures)
        if not live:  # the scheduler may not even know the tasks yet
            continue
        client().sync(client().scheduler.set_restrictions, worker=dict.fromkeys(tasks))
        if _all_live(names):  # after they were set free: of one that dies from now on others do the work
            runs = [(run.tolist(), name) for name, share in shares.items() for run in share]
            held = [Delayed(future.key, {future.key: future}) for future in futures]
            return [Run(*run, each) for run, each in zip(runs, held, strict=True)]
    return [Run([place], str(place), held) for place, held in enumerate(persist(*(delayed([each]) for each in lazy)))]


def _in_runs(share: Array, n_threads: int) -> list[Array]:
    """The share of one worker in runs, at least one for each of its threads."""
    n_runs = max(-(-len(share) // _LONGEST_RUN), n_threads)
    return np.array_split(share, min(n_runs, len(share)))


def at_once(*urgent: list[Delayed]) -> list[list[Any]]:
    """The results of each list, which the workers of a cluster compute before all else, the first list first."""
    active = client()
    if active is None:
        return list(compute(*urgent))
    futures = [active.compute(lazy, priority=len(urgent) - place) for place, lazy in enumerate(urgent)]
    results: list[list[Any]] = active.gather(futures)
    return results


def where_held(function: Callable[..., Any], calls: list[tuple[Any, list[Run]]]) -> list[Any] | None:
    """``function(argument, *held)`` of each argument and runs of one worker, there, past the scheduler.

    To hand out tasks takes the scheduler five times as long. None where there is no cluster, or a
    worker has died, lost what it held or failed: tasks make that again, or tell why they cannot.
    """
    active = client()
    if active is None:
        return None
    by_worker: dict[str, list[tuple[Any, list[Any]]]] = {}
    for argument, runs in calls:
        by_worker.setdefault(runs[0].worker, []).append((argument, [run.held.key for run in runs]))
    # Asked of all that the scheduler knows: to call one that has died would take until a timeout.
    answers = active.run(_run_where_held, function, by_worker, on_error="return")
    found = [answers.get(name) for name in by_worker]
    return None if any(not isinstance(each, list) for each in found) else list(chain.from_iterable(found))


async def _run_where_held(
    function: Callable[..., Any],
    by_worker: dict[str, list[tuple[Any, list[Any]]]],
    dask_worker: Any,  # noqa: ANN401 - a distributed.Worker, whose package is not imported without one
) -> list[Any] | None:
    """The part of `where_held` of one worker, in the threads that it has for tasks; its log names each call."""
    calls, data = by_worker.get(dask_worker.contact_address, []), dask_worker.data
    if any(key not in data for _, keys in calls for key in keys):
        return None
    loop, threads = asyncio.get_running_loop(), dask_worker.executors["default"]
    held = [(argument, *(data[key] for key in keys)) for argument, keys in calls]
    return await asyncio.gather(*(loop.run_in_executor(threads, function, *each) for each in held))


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
    return min(_threads().values(), default=None)
