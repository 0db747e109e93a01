"""Follow long work: what the scheduler finishes, and a line on a terminal that shows it."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import dask.base
import dask.config
import dask.threaded
from dask.base import annotate
from dask.callbacks import Callback
from dask.core import flatten
from dask.system import CPU_COUNT

from specufex_dask.blocks import LONGEST_RUN, in_runs, one_task_each, runs_of
from specufex_dask.workers import client

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from rich.progress import Progress, Task

_POLL = 0.2  # seconds between two looks at the futures of a cluster
_RUNS_AT_ONCE = 64
_RUNS_PER_SLOT = 3
"""Of the runs sent at once: up to 2 a slot, Dask sends them to the one worker that has what they share."""
_lock = threading.Lock()
_bars: list[Progress] = []  # the display in use: rich draws one at a time, nested work adds a line to it


class Advance(Protocol):
    """Report `amount` more units done; `note` is shown behind the bar until the next one."""

    def __call__(self, amount: float = 1, note: str = "") -> None:
        """Move the bar on."""


@contextmanager
def progress(title: str, *, total: float | None, unit: str) -> Iterator[Advance]:
    """Show how much of `total` (in `unit`, such as ``"records"``) is done while the block runs.

    The block calls the yielded ``advance(amount=1, note="")`` from any thread. `total` None is
    work of unknown length. The line has the units a second, the time passed and left, the memory
    that this process has resident, and the note. Nothing is drawn unless standard error is a
    terminal.

    Examples
    --------
    >>> with progress("fit nmf", total=600, unit="steps") as advance:
    ...     for step in range(600):
    ...         advance(1, note=f"step {step}")
    """
    if not sys.stderr.isatty():
        yield _silent
        return
    with _line(title, total, unit) as advance:
        yield advance


def compute_followed(
    collection: Any,  # noqa: ANN401 - dask has no type for it
    advance: Callable[[float], object],
    *,
    tasks: Mapping[Any, float],
) -> list[Any]:
    """Compute a Dask `collection`; as each key of `tasks` is finished, call `advance` with what it is worth.

    On a local scheduler it is called after each task, under a distributed Client a few times a
    second, both whether or not anything is drawn. Where a task fails on threads, those that run
    beside it have ended when its error is raised.

    Returns
    -------
    list
        The result of each key of the collection, in their order.

    Examples
    --------
    >>> import dask.array as da
    >>> squares = da.arange(6, chunks=2) ** 2
    >>> finished = []
    >>> blocks = compute_followed(squares, finished.append, tasks={(squares.name, i): 2 for i in range(3)})
    >>> sum(finished), [block.tolist() for block in blocks]
    (6, [[0, 1], [4, 9], [16, 25]])
    """
    # Not dask.compute, which would ask for one key that gathers all of these: a Client sees only the keys asked for.
    keys = list(flatten([collection.__dask_keys__()]))
    get, active = dask.base.get_scheduler(collections=[collection]), client()
    if active is not None:
        return _on_cluster(active, collection, keys, tasks, advance)
    graph = _graph(collection, keys)
    callbacks = [*Callback.active, _finished(tasks, advance)]
    if get is not dask.threaded.get or dask.config.get("pool", None) is not None:
        return list(get(graph, keys, callbacks=callbacks))
    # Threads of its own, which end here: after an error dask's would go on with what they had begun.
    with ThreadPoolExecutor(dask.config.get("num_workers", None) or CPU_COUNT) as pool:
        return list(get(graph, keys, callbacks=callbacks, pool=pool))


def _on_cluster(
    active: Any,  # noqa: ANN401 - a distributed.Client
    collection: Any,  # noqa: ANN401 - dask has no type for it
    keys: list[Any],
    tasks: Mapping[Any, float],
    advance: Callable[[float], object],
) -> list[Any]:
    from distributed import wait

    n_slots = max(1, sum(active.ncores().values()))
    n_runs = max(_RUNS_AT_ONCE, _RUNS_PER_SLOT * n_slots)
    runs = runs_of(keys, n_slots, n_runs)
    worth = {name: sum(tasks.get(key, 0) for key in run) for name, run in runs.items()}
    names, futures, results = list(runs), list[Any](), list[Any]()
    sent: list[Any] = []
    try:
        with _watching(active.futures, worth, advance):
            # Sent in parts: workers begin while the rest is not made yet, and no graph grows with the catalogue.
            for part in (names[i : i + n_runs] for i in range(0, len(names), n_runs)):
                graph = _graph(collection, [key for name in part for key in runs[name]])
                before, one_task = sent, in_runs(graph, {name: runs[name] for name in part})
                with annotate(priority=partial(_longest_first, {name: len(runs[name]) for name in part})):
                    sent = active.get(one_task, part, sync=False, fifo_timeout=0)
                futures += sent
                wait(sent, return_when="FIRST_COMPLETED")  # type: ignore[no-untyped-call]
                if any(future.status == "error" for future in sent):
                    break
                results += active.gather(before)  # nearly all are there: in the end only those of the last part are not
            results += active.gather(sent)
            return [result for run in results for result in run]
    finally:
        for future in futures:
            future.release()


def _longest_first(lengths: Mapping[Any, int], key: Hashable) -> int:
    """The priority of a task: of runs by their lengths, that all workers end together; before them what they share."""
    return lengths.get(key, LONGEST_RUN + 1)


def _graph(collection: Any, keys: list[Any]) -> dict[Any, Any]:  # noqa: ANN401 - dask has no type for it
    """The tasks of a Dask `collection` that make up `keys`, one for each."""
    return one_task_each(collection.__dask_optimize__(collection.__dask_graph__(), keys), keys)


def _silent(amount: float = 1, note: str = "") -> None:
    """Advance nothing: there is no terminal to draw on."""


def _finished(tasks: Mapping[Any, float], advance: Callable[[float], object]) -> Any:  # noqa: ANN401 - as dask has it
    """What a local scheduler calls after each task.

    Given to the scheduler, not to dask's list of active callbacks: that one is for one thread at a time.
    """

    def posttask(key: Hashable, *_: object) -> None:
        if key in tasks:
            advance(tasks[key])

    return Callback(posttask=posttask)._callback  # noqa: SLF001


@contextmanager
def _watching(
    futures: Mapping[Any, Any], tasks: Mapping[Any, float], advance: Callable[[float], object]
) -> Iterator[None]:
    """Look again and again which of `tasks` a cluster has finished; a block that ends well has finished all."""
    waiting = dict(tasks)
    ended = threading.Event()

    def look() -> None:
        for key in [key for key in waiting if getattr(futures.get(key), "status", None) == "finished"]:
            advance(waiting.pop(key))

    def watch() -> None:
        while not ended.wait(_POLL):
            look()

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    for amount in waiting.values():  # the Client lets its futures go as soon as it has their results
        advance(amount)


@contextmanager
def _line(title: str, total: float | None, unit: str) -> Iterator[Advance]:
    """One line of the display, which appears with its first line and ends with its last."""
    with _lock:
        outermost = not _bars
        if outermost:
            _bars.append(_display())
            _bars[0].start()
        display = _bars[0]
    of = f" {unit}" if total is None else f"/{total:,.0f} {unit}"
    line = display.add_task(title, total=total, of=of, unit=unit, note="")

    def advance(amount: float = 1, note: str = "") -> None:
        display.update(line, advance=amount, note=note)

    try:
        yield advance
    finally:
        if outermost:
            with _lock:
                _bars.remove(display)
            display.stop()


def _display() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    class Column(ProgressColumn):
        def __init__(self, text: Callable[[Task], str]) -> None:
            self._text = text
            super().__init__()

        def render(self, task: Task) -> Text:
            return Text(self._text(task))

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.completed:,.0f}{task.fields[of]}"),
        Column(_rate),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        Column(_memory),
        TextColumn("[dim]{task.fields[note]}"),
        console=Console(stderr=True),
    )


def _rate(task: Task) -> str:
    speed = task.finished_speed or task.speed
    return f"{speed:,.{0 if speed >= 10 else 1}f} {task.fields['unit']}/s" if speed else ""  # noqa: PLR2004


def _memory(_: Task) -> str:
    """The memory that this process has resident, where psutil is installed: `distributed` brings it."""
    try:
        import psutil
    except ImportError:
        return ""
    return f"{psutil.Process().memory_info().rss / 2**30:.1f} GiB"
