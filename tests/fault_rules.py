"""What a proxy may do to the requests for objects of a bucket, and to which of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["403", "404", "500", "503", "error_body", "reset", "cut", "short", "corrupt", "delay", "stall"]


@dataclass(frozen=True)
class Request:
    """What a client asked: the path is ``/bucket/key``, without its query; the ends of the range are bytes, or None."""

    method: str
    path: str
    query: str = ""
    range: tuple[int, int | None] | None = None

    @property
    def first_byte(self) -> int:
        """Of what it asks for."""
        return self.range[0] if self.range else 0

    @property
    def reads_object(self) -> bool:
        """Whether it asks for the content of an object, not for a list or for its size."""
        return self.method == "GET" and self.path.strip("/").count("/") > 0


@dataclass(frozen=True)
class reads:  # noqa: N801 - it is used as a function is
    """The predicate of reads of objects in whose path `pattern` is found; of ranges, of whole objects, or of both."""

    pattern: str = ""
    ranged: bool | None = field(default=None, kw_only=True)

    def __call__(self, request: Request) -> bool:
        right_kind = self.ranged is None or self.ranged == (request.range is not None)
        return right_kind and request.reads_object and re.search(self.pattern, request.path) is not None


@dataclass
class Fault:
    """What happens to the requests that `where` chooses; by default to all reads of objects, always.

    ``403``, ``404``, ``500`` (InternalError), ``503`` (SlowDown): the answer instead. ``error_body``:
    an answer that says that all is well, and has such an error for a body. ``reset``: the connection
    is reset before an answer. Of the answer's body, up to the share `at`: ``cut`` closes the
    connection there, ``short`` announces just that many bytes and sends them, ``corrupt`` turns over
    the byte there, ``stall`` waits there for `seconds`. ``delay`` waits for `seconds` before the
    first byte.

    `times`: the first so many requests, `times_each`: the first so many of each object. `probability`
    with `seed`: the n-th request for bytes of an object from the same one on has one fate, in whatever
    order requests come and however many bytes each wants. The first rule that applies acts, alone.
    """

    kind: Kind
    where: Callable[[Request], bool] = field(default_factory=reads)
    times: int | None = None
    times_each: int | None = None
    probability: float = 1.0
    seed: int = 0
    at: float = 0.5
    seconds: float = 1.0
    done: Counter[str] = field(default_factory=Counter)
    """How often it was done to each path."""

    def applies(self, request: Request, number: int) -> bool:
        """Whether it happens to the `number`-th such request."""
        if not self.where(request):
            return False
        spent = self.times is not None and self.done.total() >= self.times
        spent_here = self.times_each is not None and self.done[request.path] >= self.times_each
        return not spent and not spent_here and _chance(self.seed, request, number) < self.probability


def _chance(seed: int, request: Request, number: int) -> float:
    text = repr((seed, request.method, request.path, request.query, request.first_byte, number))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
