"""The workers of a Dask cluster, where a Client is active: who they are, and the same work for each."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import dask.base
from dask.base import persist
from dask.graph_manipulation import clone

if TYPE_CHECKING:
    from dask.delayed import Delayed

_MOMENT = 1.0  # seconds


def client() -> Any:  # noqa: ANN401 - a distributed.Client, whose package is not imported without one
    """The active Client of a Dask cluster, None without one."""
    active = getattr(dask.base.get_scheduler(), "__self__", None)
    return active if hasattr(active, "scheduler_info") else None


def addresses() -> list[str]:
    """Addresses of the workers of the active Client's cluster, in order; none without one."""
    active = client()
    return [] if active is None else sorted(active.ncores())


def spread(lazy: list[Delayed]) -> list[Delayed]:
    """`lazy` on the workers of a cluster, the same number on each: Dask would send more to who is free just then.

    Returns when they are there. That each belongs to a worker ends with that: what goes lost with a worker
    later, any may make again. Where one dies before, they go to any, as Dask waits for ever for
    workers that were named and have all died.
    """
    active, names = client(), addresses()[: len(lazy)]
    if len(names) > 1:
        result: list[Any] = [None] * len(lazy)
        for i, name in enumerate(names):
            result[i :: len(names)] = active.persist(lazy[i :: len(names)], workers=[name], allow_other_workers=True)
        if _all_there(active, names, result):
            return result
        lazy = list(clone(*lazy))  # by other names, or they would wait for the dead as well
    return list(persist(*lazy))


def _all_there(active: Any, names: list[str], pieces: list[Any]) -> bool:  # noqa: ANN401 - a distributed.Client
    """Wait for `pieces`, and then let go of the wish for workers; False if one of those named dies before."""
    from distributed import futures_of

    futures = futures_of(pieces)  # type: ignore[no-untyped-call]
    while any(future.status == "pending" for future in futures):
        _wait(futures)
        if not set(names) <= set(addresses()):
            return False
    active.sync(active.scheduler.set_restrictions, worker={future.key: None for future in futures})
    return True


def _wait(futures: list[Any]) -> None:
    """Wait until all `futures` have ended, but not longer than a moment."""
    from distributed import wait

    with suppress(TimeoutError):
        wait(futures, timeout=_MOMENT)  # type: ignore[no-untyped-call]


def threads_per_worker() -> int | None:
    """Threads of a worker of the active Client's cluster; None without one."""
    active = client()
    return min(active.ncores().values(), default=None) if active else None
