"""Values that are made once and used often, kept in memory up to a number of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The values that were used last, as many as take up `most_bytes`; for all threads of a process.

    Examples
    --------
    >>> kept = Kept(10, len)
    >>> kept.put("a", b"1234"), kept.put("b", b"12345678"), kept.get("a"), kept.get("b")
    (b'1234', b'12345678', None, b'12345678')
    """

    def __init__(self, most_bytes: int, n_bytes: Callable[[Value], int]) -> None:
        self._most, self._n_bytes, self._sum = most_bytes, n_bytes, 0
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """The value of `key`, if it is still kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: Value) -> Value:
        """Keep `value`, and let go what was used longest ago; return it."""
        with self._lock:
            self._forget(key)
            self._values[key] = value
            self._sum += self._n_bytes(value)
            while self._sum > self._most:
                self._forget(next(iter(self._values)))
        return value

    def forget(self, key: Hashable) -> None:
        """Keep the value of `key` no longer."""
        with self._lock:
            self._forget(key)

    def _forget(self, key: Hashable) -> None:
        if key in self._values:
            self._sum -= self._n_bytes(self._values.pop(key))
