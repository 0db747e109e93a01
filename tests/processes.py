"""Other processes of the tests' own: programs that use the package and may be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import draws

import specufex_dask as sx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATHS = [str(Path(sx.__file__).parent.parent), str(Path(draws.__file__).parent)]
_SETTINGS = Path(__file__).parent.parent / "deploy" / "dask.yaml"
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([*_PATHS, os.environ.get("PYTHONPATH", "")])}
"""What a program needs to import the package and the modules of the tests."""


@contextmanager
def running(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run the text `program` beside the block, and kill it where it still runs then."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def cluster(n_workers: int = 2, **options: Any) -> Iterator[Any]:
    """The Client of a LocalCluster of processes with a thread each, which listen on the loopback alone.

    Its settings are those that users are told to take.
    """
    import dask.config
    import yaml
    from distributed import Client, LocalCluster

    fixed = {"n_workers": n_workers, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set(dask.config.merge(dask.config.config, yaml.safe_load(_SETTINGS.read_text()))),
        LocalCluster(**(fixed | options)) as made,  # type: ignore[no-untyped-call]
        Client(made) as client,  # type: ignore[no-untyped-call]
    ):
        yield client


@contextmanager
def meanwhile(condition: Callable[[], object], action: Callable[[], object]) -> Iterator[None]:
    """Wait for `condition` beside the block, and act once it holds: while the block still runs, or the test fails."""
    ended = threading.Event()
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            wait_until(lambda: condition() or ended.is_set(), seconds=120)
            assert not ended.is_set(), "the block ended before it came to that"
            action()
        except BaseException as error:  # noqa: BLE001 - it is raised where the test sees it
            failures.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    try:
        yield
    finally:
        ended.set()
        waiter.join()
    for failure in failures:
        raise failure


def says(process: subprocess.Popen[str]) -> str:
    """The next line that `process` prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def wait_until(condition: Callable[[], object], *, seconds: float = 30) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)
