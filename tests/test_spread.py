"""Pieces that are spread over the workers of a cluster: the same number on each, and read again where workers die."""

from __future__ import annotations

import operator
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dask.delayed import delayed
from processes import cluster, meanwhile, wait_until

from specufex_dask import workers
from specufex_dask.workers import Run, addresses, spread, where_held

if TYPE_CHECKING:
    from collections.abc import Iterator

N_PIECES = 10


@pytest.fixture(scope="module")
def both() -> Iterator[Any]:
    with cluster() as made:
        yield made


@pytest.fixture
def client(both: Any) -> Any:
    """The Client of two workers that live, whatever the test before has killed."""
    both.wait_for_workers(2)
    wait_until(lambda: all(nanny.pid for nanny in both.cluster.workers.values()))
    return both


def _piece(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return number


def _lazy(seconds: float) -> list[Any]:
    """Pieces of an array: each is several tasks, and they share one."""
    numbers = delayed(np.arange, pure=False)(N_PIECES)
    return [
        delayed(_piece, pure=False)(delayed(operator.getitem, pure=False)(numbers, i), seconds) for i in range(N_PIECES)
    ]


def _values(runs: list[Run]) -> list[int]:
    """What the pieces are, in the order in which they were given."""
    found = {place: value for run in runs for place, value in zip(run.places, run.held.compute(), strict=True)}
    return [found[place] for place in range(len(found))]


def test_each_worker_has_as_many_though_one_is_busy(client: Any) -> None:
    busy = client.submit(time.sleep, 2, workers=[addresses()[0]], pure=False)
    runs = spread(_lazy(0.02))
    assert [run.places for run in runs] == [[0, 1, 2], [3, 4], [5, 6, 7], [8, 9]]
    for run in runs:
        assert set(client.who_has(client.futures_of(run.held)).values()) == {(run.worker,)}
    assert _values(runs) == list(range(N_PIECES))
    assert busy.result() is None


@pytest.mark.parametrize("first", [0, 1, 2])
def test_workers_take_turns_in_having_one_more(client: Any, first: int) -> None:  # noqa: ARG001 - the cluster in use
    runs = spread(_lazy(0.0)[:9], first=first)
    held = {name: sum(len(run.places) for run in runs if run.worker == name) for name in addresses()}
    assert list(held.values()) == [[5, 4], [4, 5], [5, 4]][first]
    assert _values(runs) == list(range(9))


def test_what_is_held_is_worked_on_where_it_is(client: Any) -> None:
    runs = spread(_lazy(0.0))
    pids = client.run(os.getpid)
    answers = where_held(_worked, [(place, [run]) for place, run in enumerate(runs)])
    assert answers is not None
    assert sorted(place for place, _, _ in answers) == list(range(len(runs)))
    for place, pid, held in answers:
        assert (pid, held) == (pids[runs[place].worker], runs[place].places)


def test_what_fails_where_it_is_held_is_left_to_tasks(client: Any) -> None:  # noqa: ARG001 - the cluster in use
    runs = spread(_lazy(0.0))
    assert where_held(operator.truediv, [(1, runs[:1])]) is None
    lost = runs[0]._replace(held=delayed(list, pure=False)())
    assert where_held(_worked, [(0, [lost])]) is None


def test_without_a_cluster_all_is_left_to_tasks() -> None:
    assert where_held(_worked, [(0, spread(_lazy(0.0)))]) is None


def _worked(argument: int, held: list[int]) -> tuple[int, int, list[int]]:
    return argument, os.getpid(), held


@pytest.mark.parametrize("n_pieces", [0, 1])
def test_fewer_pieces_than_workers(client: Any, n_pieces: int) -> None:  # noqa: ARG001 - the cluster in use
    assert _values(spread(_lazy(0.0)[:n_pieces])) == list(range(n_pieces))


@pytest.mark.slow
@pytest.mark.parametrize("n_killed", [1, 2])
def test_pieces_are_read_though_workers_die_meanwhile(client: Any, n_killed: int) -> None:
    started = time.monotonic()
    with meanwhile(lambda: time.monotonic() > started + 1.5, lambda: _kill(client, n_killed)):
        pieces = spread(_lazy(0.5))
    assert _values(pieces) == list(range(N_PIECES))


@pytest.mark.slow
def test_a_worker_that_dies_before_its_pieces_are_sent(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pieces are named for it, but the scheduler has let it go and does not know them yet."""
    sent = workers._sent
    chosen: list[list[str]] = []

    def late(lazy: list[Any], shares: dict[str, list[Any]]) -> tuple[list[Any], list[str]]:
        if not chosen:
            _kill(client, 1)
            wait_until(lambda: set(shares) - set(addresses()))
        chosen.append(list(shares))
        return sent(lazy, shares)

    monkeypatch.setattr(workers, "_sent", late)
    assert _values(spread(_lazy(0.1))) == list(range(N_PIECES))
    assert chosen, "two workers were there to choose from"


@pytest.mark.slow
def test_a_worker_that_died_is_not_waited_for(client: Any) -> None:
    runs = spread(_lazy(0.0))
    _kill(client, 1)
    wait_until(lambda: {run.worker for run in runs} - set(addresses()))
    started = time.monotonic()
    assert where_held(_worked, [(0, runs[:1]), (1, runs[-1:])]) is None
    assert time.monotonic() < started + 5


@pytest.mark.slow
@pytest.mark.parametrize("n_killed", [1, 2])
def test_a_worker_that_dies_at_work_is_not_waited_for(client: Any, n_killed: int) -> None:
    runs = spread(_lazy(0.0))
    started = time.monotonic()
    with meanwhile(lambda: time.monotonic() > started + 0.5, lambda: _kill(client, n_killed)):
        assert where_held(_slowly, [(2.0, runs[:1]), (2.0, runs[-1:])]) is None
    assert time.monotonic() < started + 10


def _slowly(seconds: float, held: list[int]) -> int:
    time.sleep(seconds)
    return len(held)


@pytest.mark.slow
def test_pieces_outlive_all_workers(client: Any) -> None:
    pieces = spread(_lazy(0.1))
    _kill(client, 2)
    assert _values(pieces) == list(range(N_PIECES))


def _kill(client: Any, n_workers: int) -> None:
    for nanny in list(client.cluster.workers.values())[:n_workers]:
        os.kill(nanny.pid, signal.SIGKILL)
