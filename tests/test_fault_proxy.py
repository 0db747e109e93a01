"""Each fault of the proxy, as a plain s3fs client meets it."""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from distant_proxy import distant_proxy
from fault_proxy import Fault, Proxy, fault_proxy, reads
from fault_rules import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3_server import Server

CONTENT = np.random.default_rng(0).bytes(300_000)
OBJECT = "scedc-pds/continuous_waveforms/2024/2024_001/XXS001_HHZ___2024001.ms"
OTHER = "scedc-pds/continuous_waveforms/2024/2024_001/XXS002_HHZ___2024001.ms"
FIRST, LAST = 100_000, 200_000
ONCE: dict[str, Any] = {"retries": {"total_max_attempts": 1}}


@pytest.fixture(scope="module")
def server(s3: Server) -> Iterator[Server]:
    s3.put({name.partition("/")[2]: CONTENT for name in (OBJECT, OTHER)}, "scedc-pds")
    yield s3
    s3.clear("scedc-pds")


@pytest.fixture(scope="module")
def running(server: Server) -> Iterator[Proxy]:
    with fault_proxy(server.endpoint) as made:
        yield made


@pytest.fixture
def proxy(running: Proxy) -> Iterator[Proxy]:
    running.reset()
    yield running
    running.reset()
    running.latency, running.bandwidth, running.checksums = 0.0, None, True


@pytest.fixture
def client(server: Server, proxy: Proxy) -> Any:
    return server.filesystem("anonymous", endpoint=proxy.endpoint)


def _whole(client: Any, name: str = OBJECT) -> bytes:
    return bytes(client.cat_file(name))


def _range(client: Any, name: str = OBJECT) -> bytes:
    (part,) = client.cat_ranges([name], [FIRST], [LAST], on_error="raise")
    return bytes(part)


def test_requests_and_bytes_are_counted_by_method_and_path(client: Any, proxy: Proxy) -> None:
    assert _whole(client) == CONTENT
    assert _range(client) == CONTENT[FIRST:LAST]
    assert {OBJECT, OTHER} <= set(client.ls(os.path.dirname(OBJECT)))  # noqa: PTH120 - a key, not a path
    path = f"/{OBJECT}"
    listing = next(key for key in proxy.requests if key[1].strip("/") == "scedc-pds")
    assert proxy.requests == {("HEAD", path): 1, ("GET", path): 2, listing: 1}
    assert proxy.bytes_sent["GET", path] == 300_000 + 100_000
    assert proxy.bytes_sent["HEAD", path] == 0
    assert proxy.bytes_sent[listing] > 100
    assert [asked.range for asked in proxy.log] == [None, None, (FIRST, LAST - 1), None]
    proxy.reset()
    assert proxy.requests.total() == proxy.bytes_sent.total() == 0


def test_signatures_hold_through_the_proxy_and_wrong_ones_do_not(server: Server, proxy: Proxy) -> None:
    admin = server.filesystem("admin", endpoint=proxy.endpoint)
    name = "results/a folder/ü+1.bin"
    admin.pipe_file(name, CONTENT)
    assert admin.cat_file(name) == CONTENT
    assert proxy.requests["GET", f"/{name}"] == 1
    assert proxy.bytes_received["PUT", f"/{name}"] >= 300_000
    with pytest.raises(PermissionError):
        server.filesystem("wrong", endpoint=proxy.endpoint).cat_file(name)
    server.clear("results")


def test_a_large_object_goes_up_in_parts(server: Server, proxy: Proxy) -> None:
    admin, large = server.filesystem("admin", endpoint=proxy.endpoint), CONTENT * 40
    with admin.open("results/large", "wb", block_size=6 << 20) as file:
        for i in range(0, len(large), 1 << 20):
            file.write(large[i : i + (1 << 20)])
    assert admin.cat_file("results/large") == large
    assert [asked.method for asked in proxy.log if "partNumber=" in asked.query] == ["PUT", "PUT"]
    server.clear("results")


@pytest.mark.parametrize(("kind", "error"), [("403", PermissionError), ("404", FileNotFoundError)])
def test_a_refusal_is_told_at_once(client: Any, proxy: Proxy, kind: Any, error: type[OSError]) -> None:
    proxy.rules.append(Fault(kind, reads("S001")))
    for read in (_whole, _range):
        with pytest.raises(error):
            read(client)
    assert _whole(client, OTHER) == CONTENT
    assert proxy.faults == {(kind, f"/{OBJECT}"): 2}


def test_a_refusal_is_an_element_of_the_list_unless_asked_to_raise(client: Any, proxy: Proxy) -> None:
    proxy.rules.append(Fault("403", reads("S001")))
    first, second = client.cat_ranges([OBJECT, OTHER], [0, 0], [100, 100])
    assert isinstance(first, PermissionError)
    assert second == CONTENT[:100]


@pytest.mark.parametrize("read", [_whole, _range])
@pytest.mark.parametrize(("kind", "times"), [("503", 2), ("500", 2), ("reset", 1), ("reset", 3), ("cut", 1)])
def test_a_passing_fault_is_overcome(client: Any, proxy: Proxy, read: Any, kind: Any, times: int) -> None:
    proxy.rules.append(Fault(kind, times=times))
    assert read(client) == (CONTENT if read is _whole else CONTENT[FIRST:LAST])
    assert proxy.faults[kind, f"/{OBJECT}"] == times
    assert proxy.requests["GET", f"/{OBJECT}"] == times + 1


@pytest.mark.slow
def test_a_lasting_slow_down_ends_after_25_tries(client: Any, proxy: Proxy) -> None:
    proxy.rules.append(Fault("503"))
    with pytest.raises(OSError, match="reduce your request rate"):
        _range(client)
    assert proxy.requests["GET", f"/{OBJECT}"] == 25


def test_a_short_body_of_a_range_is_not_noticed(client: Any, proxy: Proxy) -> None:
    proxy.rules.append(Fault("short"))
    assert _range(client) == CONTENT[FIRST : FIRST + 50_000]


def test_a_short_body_of_an_object_is_noticed_by_its_checksum_alone(client: Any, proxy: Proxy) -> None:
    proxy.rules.append(Fault("short", at=0.25))
    with pytest.raises(Exception, match="checksum"):
        _whole(client)
    proxy.checksums = False
    assert _whole(client) == CONTENT[:75_000]


def test_a_spoilt_byte_is_noticed_by_the_checksum_alone(client: Any, proxy: Proxy) -> None:
    proxy.rules.append(Fault("corrupt", at=0.1))
    with pytest.raises(Exception, match="checksum"):
        _whole(client)
    proxy.checksums = False
    spoilt = np.frombuffer(_whole(client), np.uint8)
    assert np.flatnonzero(spoilt != np.frombuffer(CONTENT, np.uint8)).tolist() == [30_000]
    part = np.frombuffer(_range(client), np.uint8)
    assert np.flatnonzero(part != np.frombuffer(CONTENT[FIRST:LAST], np.uint8)).tolist() == [10_000]


@pytest.mark.parametrize("kind", ["delay", "stall"])
def test_an_answer_can_be_late(client: Any, proxy: Proxy, kind: Any) -> None:
    proxy.rules.append(Fault(kind, seconds=0.6))
    start = time.perf_counter()
    assert _range(client) == CONTENT[FIRST:LAST]
    assert 0.6 <= time.perf_counter() - start < 5


def test_a_hanging_answer_runs_into_the_time_limit_of_the_client(server: Server, proxy: Proxy) -> None:
    client = server.filesystem("anonymous", endpoint=proxy.endpoint, config_kwargs=ONCE | {"read_timeout": 0.3})
    proxy.rules.append(Fault("stall", seconds=3600, times=1))
    assert _range(client) == CONTENT[FIRST:LAST]
    assert proxy.requests["GET", f"/{OBJECT}"] == 2


def test_a_proxy_ends_though_an_answer_hangs(server: Server) -> None:
    with ThreadPoolExecutor(1) as threads:
        with fault_proxy(server.endpoint) as proxy:
            proxy.rules.append(Fault("delay", seconds=3600))
            client = server.filesystem("anonymous", endpoint=proxy.endpoint, config_kwargs=ONCE)
            client.retries = 1
            waiting = threads.submit(_range, client)
            while not proxy.log:
                time.sleep(0.01)
            start = time.perf_counter()
        assert time.perf_counter() - start < 5
        with pytest.raises(Exception, match=r"closed|connect"):
            waiting.result()


def test_latency_is_of_each_request_and_bandwidth_of_each_connection(client: Any, proxy: Proxy) -> None:
    _range(client)
    proxy.latency, proxy.bandwidth = 0.1, 500_000.0
    for n_ranges in (1, 4):
        start = time.perf_counter()
        client.cat_ranges(
            [OBJECT] * n_ranges, [i * 50_000 for i in range(n_ranges)], [i * 50_000 + 50_000 for i in range(n_ranges)]
        )
        assert 0.2 <= time.perf_counter() - start < 0.45  # 0.1 s + 50,000 bytes, beside one another


def test_every_object_can_fail_the_first_time(client: Any, proxy: Proxy) -> None:
    proxy.rules.append(Fault("404", times_each=1))
    for name in (OBJECT, OTHER):
        with pytest.raises(FileNotFoundError):
            _range(client, name)
        assert _range(client, name) == CONTENT[FIRST:LAST]


def test_a_rule_may_choose_ranges_or_whole_objects_alone(client: Any, proxy: Proxy) -> None:
    proxy.rules.append(Fault("404", reads(ranged=True)))
    assert _whole(client) == CONTENT
    with pytest.raises(FileNotFoundError):
        _range(client)


def test_chance_depends_on_the_request_and_the_seed_not_on_the_order() -> None:
    asked = [Request("GET", f"/b/{i}", range=(j, j + 10)) for i in range(100) for j in range(10)]

    def struck(requests: list[Request], seed: int) -> set[Request]:
        rule = Fault("404", probability=0.1, seed=seed)
        return {request for request in requests if rule.applies(request, 1)}

    first = struck(asked, 0)
    assert struck(asked[::-1], 0) == first
    assert 70 <= len(first) <= 130  # 100 ± 3 standard deviations
    assert struck(asked, 1) != first
    assert len({request.path for request in first}) > 50
    again = {request for request in first if Fault("404", probability=0.1, seed=0).applies(request, 2)}
    assert len(again) < 30  # a second try has its own chance


def test_many_requests_at_once_are_passed_on(server: Server, proxy: Proxy) -> None:
    client = server.filesystem("anonymous", endpoint=proxy.endpoint)
    starts = [i * 500 for i in range(300)]
    parts = client.cat_ranges([OBJECT] * 300, starts, [i + 500 for i in starts], on_error="raise")
    assert b"".join(parts) == CONTENT[:150_000]
    assert proxy.requests.total() == 300


def test_a_proxy_without_a_server_says_502(server: Server) -> None:
    with fault_proxy("http://127.0.0.1:9") as proxy:
        client = server.filesystem("anonymous", endpoint=proxy.endpoint, config_kwargs=ONCE)
        client.retries = 1
        with pytest.raises(OSError, match="Bad Gateway"):
            _range(client)


def test_the_loop_of_the_proxy_is_its_own(running: Proxy) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    assert running.endpoint.startswith("http://127.0.0.1:")


def test_a_proxy_in_another_process_counts_and_spoils_too(server: Server) -> None:
    with distant_proxy(server.endpoint, latency=0.05) as proxy:
        client = server.filesystem("anonymous", endpoint=proxy.endpoint)
        start = time.perf_counter()
        assert _range(client) == CONTENT[FIRST:LAST]
        assert time.perf_counter() - start > 0.05
        assert proxy.requests == {("GET", f"/{OBJECT}"): 1}
        assert proxy.bytes_sent == {("GET", f"/{OBJECT}"): 100_000}
        proxy.reset()
        proxy.limit()
        proxy.set_rules([Fault("404", reads("S001", ranged=True))])
        with pytest.raises(FileNotFoundError):
            _range(client)
        assert _range(client, OTHER) == CONTENT[FIRST:LAST]
        assert proxy.faults == {("404", f"/{OBJECT}"): 1}
        assert [asked.range for asked in proxy.log] == [(FIRST, LAST - 1)] * 2
