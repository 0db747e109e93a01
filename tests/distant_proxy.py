"""The proxy of `fault_proxy` in a process of its own, so that a benchmark shares no interpreter with it."""

from __future__ import annotations

import multiprocessing
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fault_proxy import Fault, Request, fault_proxy

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection


@dataclass
class DistantProxy:
    """A proxy in another process: what it counted can be asked for, and what it does can be changed."""

    endpoint: str
    _pipe: Connection

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """(method, path) → how many requests."""
        return self._ask("get", "requests")  # type: ignore[no-any-return]

    @property
    def bytes_sent(self) -> Counter[tuple[str, str]]:
        """(method, path) → bytes of the bodies of answers."""
        return self._ask("get", "bytes_sent")  # type: ignore[no-any-return]

    @property
    def faults(self) -> Counter[tuple[str, str]]:
        """(kind, path) → how often."""
        return self._ask("get", "faults")  # type: ignore[no-any-return]

    @property
    def log(self) -> list[Request]:
        """All requests, as they came."""
        return self._ask("get", "log")  # type: ignore[no-any-return]

    def limit(self, *, latency: float = 0.0, bandwidth: float | None = None) -> None:
        """Set the seconds to the first byte of an answer, and the bytes a second of a connection."""
        self._ask("set", "latency", latency)
        self._ask("set", "bandwidth", bandwidth)

    def set_rules(self, rules: Sequence[Fault]) -> None:
        """Have these faults and no others; a predicate must be `reads` or a function at the top of a module."""
        self._ask("set", "rules", list(rules))

    def reset(self) -> None:
        """Forget rules and counts; latency and bandwidth stay."""
        self._ask("reset")

    def _ask(self, *command: Any) -> Any:
        self._pipe.send(command)
        return self._pipe.recv()


@contextmanager
def distant_proxy(
    endpoint: str, *, latency: float = 0.0, bandwidth: float | None = None, checksums: bool = True
) -> Iterator[DistantProxy]:
    """Run the proxy before the server at `endpoint` in another process beside the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    options = {"latency": latency, "bandwidth": bandwidth, "checksums": checksums}
    process = context.Process(target=_serve, args=(theirs, endpoint, options), daemon=True)
    process.start()
    theirs.close()
    try:
        yield DistantProxy(ours.recv(), ours)
    finally:
        ours.close()
        process.join()


def _serve(pipe: Connection, endpoint: str, options: dict[str, Any]) -> None:
    with fault_proxy(endpoint, **options) as proxy:
        pipe.send(proxy.endpoint)
        while True:
            try:
                command, *arguments = pipe.recv()
            except EOFError:  # the other end is closed, or its process is no more
                return
            if command == "set":
                setattr(proxy, *arguments)
            elif command == "reset":
                proxy.reset()
            pipe.send(getattr(proxy, arguments[0]) if command == "get" else None)
