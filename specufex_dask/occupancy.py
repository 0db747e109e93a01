"""How many threads of this process are in a block of code."""

from __future__ import annotations

import threading


class Occupancy:
    """Counts those inside; who comes in is told how many there are then, itself included.

    Examples
    --------
    >>> occupancy = Occupancy()
    >>> with occupancy as first, occupancy as second:
    ...     first, second
    (1, 2)
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> int:
        with self._lock:
            self._inside += 1
            return self._inside

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
