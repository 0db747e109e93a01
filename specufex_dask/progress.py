"""A progress bar for long work, drawn on a terminal and silent everywhere else."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from dask.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from rich.progress import Progress

_lock = threading.Lock()
_bars: list[Progress] = []  # the display in use: rich draws one at a time, nested work adds a line to it


class Advance(Protocol):
    """Report `amount` more units done; `note` is shown behind the bar until the next one."""

    def __call__(self, amount: float = 1, note: str = "") -> None:
        """Move the bar on."""


@contextmanager
def progress(
    title: str, *, total: float | None, unit: str, tasks: Mapping[Any, float] | None = None
) -> Iterator[Advance]:
    """Show how much of `total` (in `unit`, such as ``"records"``) is done while the block runs.

    The block calls the yielded ``advance(amount=1, note="")`` from any thread; or gives `tasks`,
    the units that each Dask key is worth, and the bar follows what the scheduler finishes.
    `total` None is work of unknown length. Nothing is drawn unless standard error is a terminal.

    Examples
    --------
    >>> with progress("fit nmf", total=600, unit="steps") as advance:
    ...     for step in range(600):
    ...         advance(1, note=f"step {step}")

    >>> import dask
    >>> squares = [dask.delayed(pow)(i, 2) for i in range(4)]
    >>> with progress("squares", total=4, unit="numbers", tasks={task.key: 1 for task in squares}):
    ...     dask.compute(*squares, scheduler="threads")
    (0, 1, 4, 9)
    """
    if not sys.stderr.isatty():
        yield _silent
        return
    with _line(title, total, unit) as advance, _Finished(tasks or {}, advance):
        yield advance


def _silent(amount: float = 1, note: str = "") -> None:
    """Advance nothing: there is no terminal to draw on."""


class _Finished(Callback):
    """Advance by what each finished task of a local scheduler is worth.

    A distributed scheduler calls no callbacks: its back end follows the futures of the same keys.
    """

    def __init__(self, tasks: Mapping[Any, float], advance: Advance) -> None:
        super().__init__(posttask=self._posttask)  # type: ignore[no-untyped-call]  # dask has no types here
        self._tasks, self._advance = tasks, advance

    def _posttask(self, key: Hashable, *_: Any) -> None:  # noqa: ANN401 - whatever dask passes
        if key in self._tasks:
            self._advance(self._tasks[key])


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
    line = display.add_task(title, total=total, of=of, note="")

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
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:,.0f}{task.fields[of]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=Console(stderr=True),
    )
