"""Other processes of the tests' own: programs that use the package and may be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import draws

import specufex_dask as sx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATHS = [str(Path(sx.__file__).parent.parent), str(Path(draws.__file__).parent)]
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
