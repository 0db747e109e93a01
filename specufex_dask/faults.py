"""What ends a computation from outside, and what to do then: a full disk, workers that die under a task."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def explained(
    work: str, left: Callable[[], str], again: str, *, part: Callable[[Any], str] = lambda _: "one task"
) -> Iterator[None]:
    """Let the block say what ended it, if that was a full disk or a task that killed its workers.

    `work` is what the block does (``"'nmf' of study.zarr"``), ``left()`` what of it is left to do,
    `again` how to go on, and ``part(key)`` what the task of that key does. Raises ``OSError`` of a
    full disk, ``RuntimeError`` of dead workers (of which a neighbour of the guilty task may be told).

    Examples
    --------
    >>> with explained("'nmf' of study.zarr", lambda: "it", "save again."):
    ...     raise OSError(errno.ENOSPC, "full")
    Traceback (most recent call last):
        ...
    OSError: [Errno 28] got no space left on device for 'nmf' of study.zarr, expected room for it: free space and save
    again.
    """
    try:
        yield
    except Exception as error:
        number, killed = full_disk(error), _killed(error)
        if number is not None:
            full = f"got {os.strerror(errno.ENOSPC).lower()} for {work}, expected room for {left()}"
            raise OSError(number, f"{full}: free space and {again}") from error
        if killed is not None:
            died = f"got {killed.allowed_failures + 1} workers killed, one after the other, at {part(killed.task)}"
            more = "give the workers more memory, or the input smaller chunks of records"
            msg = f"{died} of {work}, expected it to fit in the memory of a worker: {more}, and {again}"
            raise RuntimeError(msg) from error
        raise


def full_disk(error: BaseException) -> int | None:
    """The number of the error of a full disk, or of a quota used up, that led to `error`."""
    return next((e.errno for e in _causes(error) if isinstance(e, OSError) and e.errno in _FULL), None)


def _killed(error: BaseException) -> Any:  # noqa: ANN401 - distributed is not imported where there is no cluster
    """The distributed.KilledWorker that led to `error`."""
    return next((e for e in _causes(error) if type(e).__name__ == "KilledWorker"), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
