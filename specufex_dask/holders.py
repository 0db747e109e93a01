"""The process that writes to a store: who it is, whether it lives, and what is told to another one."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class BusyStoreError(RuntimeError):
    """Another process is writing to the store."""


class LostStoreError(BusyStoreError):
    """The process may no longer write to a store that it held."""


@dataclass(frozen=True)
class Holder:
    """The process that is writing to a store; `since` is ISO 8601, UTC."""

    pid: int
    host: str
    user: str
    since: str
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (user {self.user}) has been writing since {self.since}"

    @property
    def record(self) -> dict[str, Any]:
        """It, as JSON knows it."""
        return asdict(self)


UNKNOWN = Holder(0, "an unknown host", "unknown", "a moment ago", "")
"""A process that took a store so recently that it has not said who it is."""


def ourselves() -> Holder:
    """Who takes a store now: the process that asks."""
    return Holder(os.getpid(), socket.gethostname(), _user(), now(), _command())


def now() -> str:
    """The time as the log has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def kernel() -> str:
    """What a process id is unique in: the running kernel and the namespace; empty where that is not known.

    A name of a host may be that of many containers, so it does not say whether a process can be seen from here.
    """
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def birth(pid: int) -> str:
    """When the process `pid` began, in ticks of its kernel; empty of one that ended or may not be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()  # a name may hold blanks
    return "" if fields[0] in {"Z", "X"} else fields[19]


def is_dead(pid: int, born: str, where: str) -> bool:
    """Whether the process `pid`, `born` then in the kernel `where`, has ended for sure; False if it may be alive."""
    if not (born and where and where == kernel()):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's: alive, though perhaps not to be seen
        return False
    return birth(pid) != born


def _command() -> str:
    """The command line, but for storage options: these may hold credentials."""
    words = [word if "storage_options" not in word else "storage_options=..." for word in sys.argv[1:]]
    return shlex.join([Path(sys.argv[0]).name, *words])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return str(os.getuid())
