"""The S3 server of the tests: who may do what, whom it listens to, and that it ends."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from processes import running, says, wait_until
from s3_server import PRIVATE, PUBLIC, s3_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3_server import Kind, Server

PROGRAM = """
import sys, time, psutil, s3_server
with s3_server.s3_server(sys.argv[1]) as server:
    (weed,) = [each for each in psutil.Process().children(recursive=True) if each.name() == "weed"]
    print(weed.pid, flush=True)
    time.sleep(600)
"""

ACTS: dict[str, Callable[[Any, str], object]] = {
    "read": lambda files, bucket: files.cat_file(f"{bucket}/a/b.ms"),
    "list": lambda files, bucket: files.ls(f"{bucket}/a"),
    "write": lambda files, bucket: files.pipe_file(f"{bucket}/a/c.ms", b"more"),
    "delete": lambda files, bucket: files.rm_file(f"{bucket}/a/c.ms"),
}
ALLOWED: dict[Kind, dict[str, set[str]]] = {
    "anonymous": {PUBLIC[0]: {"read", "list"}, PUBLIC[1]: {"read", "list"}, PRIVATE: set()},
    "reader": {PUBLIC[0]: set(), PUBLIC[1]: set(), PRIVATE: {"read", "list"}},
    "admin": {bucket: set(ACTS) for bucket in (*PUBLIC, PRIVATE)},
    "wrong": {bucket: set() for bucket in (*PUBLIC, PRIVATE)},
}


@pytest.mark.parametrize("kind", list(ALLOWED))
def test_each_user_may_do_what_is_said_and_no_more(s3: Server, kind: Kind) -> None:
    files, done = s3.filesystem(kind), {}
    for bucket in (*PUBLIC, PRIVATE):
        s3.put({"a/b.ms": b"content", "a/c.ms": b"more"}, bucket)
        done[bucket] = {name for name, act in ACTS.items() if _is_allowed(act, files, bucket)}
        s3.clear(bucket)
    assert done == ALLOWED[kind]


def _is_allowed(act: Callable[[Any, str], object], files: Any, bucket: str) -> bool:
    try:
        act(files, bucket)
    except PermissionError:
        return False
    return True


def test_a_folder_is_uploaded_with_its_tree(s3: Server, tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i % 3}").mkdir(exist_ok=True)
        (tmp_path / f"{i % 3}" / f"{i}.ms").write_bytes(bytes([i]) * 1000)
    assert s3.upload(tmp_path, "ncedc-pds", "some/where") == 20
    files = s3.filesystem("anonymous")
    found = files.cat(files.find("ncedc-pds/some/where"))
    assert found == {f"ncedc-pds/some/where/{i % 3}/{i}.ms": bytes([i]) * 1000 for i in range(20)}
    s3.clear("ncedc-pds")
    assert files.find("ncedc-pds") == []


def test_the_server_takes_a_condition_for_a_write(s3: Server) -> None:
    """What stores on S3 need so that of two writers one knows that it was the second."""
    admin = s3.filesystem("admin")
    admin.pipe_file("results/lock", b"first", mode="create")
    with pytest.raises(OSError, match="pre-conditions"):
        admin.pipe_file("results/lock", b"second", mode="create")
    assert admin.cat_file("results/lock") == b"first"
    s3.clear("results")


@pytest.mark.slow
def test_a_server_hears_the_loopback_alone_and_ends_with_the_process_that_began_it(tmp_path: Path) -> None:
    with running(PROGRAM, tmp_path) as process:
        weed = psutil.Process(int(says(process)))
        heard = {each.laddr.ip for each in weed.net_connections() if each.status == psutil.CONN_LISTEN}
        assert heard == {"127.0.0.1"}
        process.kill()
        wait_until(lambda: not weed.is_running() or weed.status() == psutil.STATUS_ZOMBIE, seconds=10)


@pytest.mark.slow
def test_a_server_is_gone_after_its_block(tmp_path: Path) -> None:
    with s3_server(tmp_path) as server:
        address = ("127.0.0.1", int(server.endpoint.rpartition(":")[2]))
        socket.create_connection(address).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
