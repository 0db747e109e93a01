"""Buckets for the tests: a quick S3 server in this process, what a bucket holds, and the requests that were made."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY, SECRET = "the-key-of-the-tests", "the-secret-of-the-tests"


@dataclass(frozen=True)
class Bucket:
    """A bucket and the options that open it."""

    name: str
    options: dict[str, Any] = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The options as a program finds them in its environment."""
        return {"FSSPEC_S3": json.dumps(self.options)}

    @property
    def files(self) -> Any:
        """A file system on it."""
        import s3fs

        return s3fs.S3FileSystem(**self.options, use_listings_cache=False)

    def url(self, path: str) -> str:
        """The URL of `path` in the bucket."""
        return f"s3://{self.name}/{path}"

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """The content of every object below `prefix`, by its path from there."""
        files, start = self.files, f"{self.name}/{prefix}".rstrip("/")
        names = [name for name in files.find(start) if not name.endswith("/")]
        found = files.cat(names) if names else {}
        return {name.removeprefix(f"{start}/"): content for name, content in sorted(found.items())}


@contextmanager
def quick_server() -> Iterator[dict[str, Any]]:
    """The options that open an S3 server in this process, which checks no credentials."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        client = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-west-2"}
        yield {"key": KEY, "secret": SECRET, "client_kwargs": client}
    finally:
        server.stop()


@pytest.fixture(scope="session")
def quick_s3() -> Iterator[dict[str, Any]]:
    """The options that open the quick server."""
    with quick_server() as options:
        yield options


@pytest.fixture
def bucket(quick_s3: dict[str, Any]) -> Bucket:
    """A new bucket of the quick server."""
    made = Bucket(f"bucket-{os.urandom(6).hex()}", quick_s3)
    made.files.mkdir(made.name)
    return made


@contextmanager
def requests(patch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count the requests to S3 that this process makes in the block, by their kind."""
    import s3fs

    counted: Counter[str] = Counter()
    call = s3fs.S3FileSystem._call_s3

    async def counting(self: Any, method: str, *arguments: Any, **options: Any) -> Any:
        counted[method] += 1
        return await call(self, method, *arguments, **options)

    with patch.context() as patched:
        patched.setattr(s3fs.S3FileSystem, "_call_s3", counting)
        yield counted
