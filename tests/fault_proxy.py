"""A proxy before an S3 server that counts what is asked, slows it down, and spoils some of the answers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import ClientConnectionError, ClientResponse, ClientSession, ClientTimeout, TCPConnector, web
from fault_rules import Fault, Kind, Request, reads
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["Fault", "Proxy", "Request", "fault_proxy", "reads"]

_REFUSALS = {
    "403": (403, "AccessDenied", "Access Denied"),
    "404": (404, "NoSuchKey", "The specified key does not exist."),
    "500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "error_body": (200, "InternalError", "We encountered an internal error. Please try again."),
}
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect"}
_PIECE = 1 << 16  # bytes passed on at once
_CONNECTIONS = 512
_LEAST_WAIT = 0.002  # seconds: what a loop can keep to


@dataclass
class Proxy:
    """A proxy that runs; everything may be changed while it does.

    ``latency``: seconds from the request to the first byte of the answer. ``bandwidth``: bytes a
    second of one connection. ``checksums``: whether answers keep their ``x-amz-checksum-*``, which
    objects written long ago do not have.
    """

    upstream: str
    latency: float = 0.0
    bandwidth: float | None = None
    checksums: bool = True
    rules: list[Fault] = field(default_factory=list)
    endpoint: str = ""
    log: list[Request] = field(default_factory=list)
    """All requests, as they came."""
    bytes_sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(method, path) → bytes of the bodies of answers."""
    bytes_received: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(method, path) → bytes of the bodies of requests."""
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(kind, path) → how often."""
    _numbers: Counter[Request] = field(default_factory=Counter)

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """(method, path) → how many requests."""
        return Counter((request.method, request.path) for request in self.log)

    def reset(self) -> None:
        """Forget rules and counts; latency and bandwidth stay."""
        self.rules.clear()
        for counts in (self.log, self.bytes_sent, self.bytes_received, self.faults, self._numbers):
            counts.clear()

    def fault_for(self, request: Request) -> Fault | None:
        """Count the request, and say what shall happen to it."""
        self.log.append(request)
        self._numbers[request] += 1
        for rule in self.rules:
            if rule.applies(request, self._numbers[request]):
                rule.done[request.path] += 1
                self.faults[rule.kind, request.path] += 1
                return rule
        return None


@contextmanager
def fault_proxy(
    endpoint: str, *, latency: float = 0.0, bandwidth: float | None = None, checksums: bool = True
) -> Iterator[Proxy]:
    """Run a proxy before the server at `endpoint` beside the block, in a thread with a loop of its own."""
    proxy = Proxy(endpoint.rstrip("/"), latency, bandwidth, checksums)
    ready: threading.Event = threading.Event()
    failures: list[BaseException] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        try:
            loop.run_until_complete(_serve(proxy, ready, stop))
        except BaseException as error:  # noqa: BLE001 - it is raised where the test sees it
            failures.append(error)
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, name="fault proxy", daemon=True)
    thread.start()
    ready.wait()
    try:
        if not failures:
            yield proxy
    finally:
        with contextlib.suppress(RuntimeError):  # the loop ended by itself
            loop.call_soon_threadsafe(stop.set)
        thread.join()
    if failures:
        raise failures[0]


async def _serve(proxy: Proxy, ready: threading.Event, stop: asyncio.Event) -> None:
    connector = TCPConnector(limit=_CONNECTIONS)
    async with ClientSession(connector=connector, auto_decompress=False, timeout=ClientTimeout(total=None)) as session:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            return await _Exchange(proxy, session, request).run()

        runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await stop.wait()
        await runner.cleanup()


class _Exchange:
    """One request and its answer."""

    def __init__(self, proxy: Proxy, session: ClientSession, request: web.BaseRequest) -> None:
        self.proxy, self.session, self.request = proxy, session, request
        path, _, query = request.raw_path.partition("?")
        self.asked = Request(request.method, unquote(path), query, _range(request.headers.get("Range")))
        self.key = (self.asked.method, self.asked.path)

    async def run(self) -> web.StreamResponse:
        fault = self.proxy.fault_for(self.asked)
        await asyncio.sleep(self.proxy.latency + (fault.seconds if fault and fault.kind == "delay" else 0.0))
        if fault and fault.kind in _REFUSALS:
            return self.refuse(fault.kind)
        if fault and fault.kind == "reset":
            return self.drop(reset=True)
        try:
            return await self.forward(fault)
        except ClientConnectionError:
            return web.Response(status=502)

    def refuse(self, kind: Kind) -> web.Response:
        status, code, message = _REFUSALS[kind]
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
            f"<RequestId>FAULT0000000001</RequestId></Error>"
        )
        answer = web.Response(status=status, text=body, content_type="application/xml")
        self.proxy.bytes_sent[self.key] += 0 if self.request.method == "HEAD" else len(body)
        return answer

    def drop(self, *, reset: bool) -> web.StreamResponse:
        """Leave the client alone: with a reset at once, else with the end of the stream after what was sent."""
        transport = self.request.transport
        if transport is not None and reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        elif transport is not None:
            transport.close()
        return web.Response(status=500)  # which nobody gets

    async def forward(self, fault: Fault | None) -> web.StreamResponse:
        # The path goes on as it came, and so does Host, or a signature would not fit.
        address = URL(self.proxy.upstream + self.request.raw_path, encoded=True)
        headers = [(name, value) for name, value in self.request.headers.items() if name.lower() not in _HOP_BY_HOP]
        body = await self.body() if self.request.body_exists else None
        automatic = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
        async with self.session.request(
            self.request.method, address, headers=headers, data=body, allow_redirects=False, skip_auto_headers=automatic
        ) as upstream:
            size = upstream.content_length or 0
            answer = self.answer(upstream, int(size * fault.at) if fault and fault.kind == "short" else size)
            await answer.prepare(self.request)
            if self.request.method != "HEAD":
                await self.send(answer, _spoilt(upstream.content.iter_any(), fault, size))
                if fault and fault.kind == "cut":
                    return self.drop(reset=False)
            await answer.write_eof()
        return answer

    def answer(self, upstream: ClientResponse, size: int) -> web.StreamResponse:
        """The answer of the server without its body, of which it promises `size` bytes."""
        answer = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for name, value in upstream.headers.items():
            is_checksum = name.lower().startswith("x-amz-checksum-")
            if name.lower() not in _HOP_BY_HOP and (self.proxy.checksums or not is_checksum):
                answer.headers.add(name, value)
        if "Content-Length" in answer.headers:
            answer.headers["Content-Length"] = str(size)
        return answer

    async def send(self, answer: web.StreamResponse, body: AsyncIterator[bytes]) -> None:
        """Send the body no faster than the bandwidth allows."""
        start, sent, bandwidth = time.monotonic(), 0, self.proxy.bandwidth
        async for piece in body:
            for i in range(0, len(piece), _PIECE):
                part = piece[i : i + _PIECE]
                sent += len(part)
                ahead = sent / bandwidth - (time.monotonic() - start) if bandwidth else 0.0
                if ahead > _LEAST_WAIT:
                    await asyncio.sleep(ahead)
                # Counted before: once the client has the last byte, the counts are read.
                self.proxy.bytes_sent[self.key] += len(part)
                await answer.write(part)

    async def body(self) -> AsyncIterator[bytes]:
        """The body that the client sends, once it was told that it may."""
        if self.request.headers.get("Expect", "").lower() == "100-continue":
            await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.request.writer.output_size = 0
        return self.received()

    async def received(self) -> AsyncIterator[bytes]:
        async for piece in self.request.content.iter_any():
            self.proxy.bytes_received[self.key] += len(piece)
            yield piece


async def _spoilt(pieces: AsyncIterator[bytes], fault: Fault | None, size: int) -> AsyncIterator[bytes]:
    """A body of `size` bytes, and what the fault makes of it."""
    kind, at, position = fault.kind if fault else "", int(size * fault.at) if fault else 0, 0
    async for piece in pieces:
        here = at - position  # where in this piece it happens
        position += len(piece)
        if not 0 <= here < len(piece) or fault is None:
            yield piece
            continue
        yield piece[:here]
        if kind in {"cut", "short"}:
            return
        if kind == "stall":
            await asyncio.sleep(fault.seconds)
        yield bytes([piece[here] ^ 0xFF]) if kind == "corrupt" else piece[here : here + 1]
        yield piece[here + 1 :]


def _range(header: str | None) -> tuple[int, int | None] | None:
    """First and last byte of a Range header."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", header or "")
    return (int(found[1]), int(found[2]) if found[2] else None) if found else None
