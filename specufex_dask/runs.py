"""What a run keeps beside its store: who is writing, what was done when, checkpoints of its fits.

All of it lies in the folder ``<store>.run``, so that the data in the store compare byte for byte.
A store at a URL has no such folder: nothing is locked or logged there.
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import socket
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from filelock import BaseFileLock

_PATIENCE = 0.5
"""Seconds for which a run tries to take a store: whoever asks only whether it is held lets it go at once."""


class BusyStoreError(RuntimeError):
    """Another process is writing to the store."""


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


@dataclass
class _Held:
    lock: BaseFileLock
    pid: int
    times: int = 0


_guard = threading.Lock()
_held: dict[Path, _Held] = {}


def folder(store: str | Path) -> Path | None:
    """The folder of what runs keep beside `store`, which may not exist yet; None for a store at a URL.

    Examples
    --------
    >>> folder("study.zarr").name
    'study.zarr.run'
    >>> folder("s3://bucket/study.zarr")
    """
    if "://" in str(store):
        return None
    path = Path(store).resolve()  # by whichever name it is reached, a store has one lock
    return path.with_name(f"{path.name}.run")


@contextmanager
def holding(store: str | Path) -> Iterator[None]:
    """Let no other process write to `store` while the block runs; all threads of this process may.

    The lock is the operating system's, so that it goes with its process, however that ends.

    Raises
    ------
    BusyStoreError
        If another process is writing to the store; the error says which, and since when.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place, holding(f"{place}/study.zarr"):
    ...     holder(f"{place}/study.zarr").pid == os.getpid()
    True
    """
    place = folder(store)
    if place is None:
        yield
        return
    with _guard:
        held = _held.get(place)
        if held is None or held.pid != os.getpid():  # a fork has its parent's table, but not its lock
            held = _held[place] = _Held(_locked(place, store), os.getpid())
        held.times += 1
    try:
        yield
    finally:
        with _guard:
            held.times -= 1
            if held.times == 0:
                del _held[place]
                with suppress(OSError):  # it says something only as long as the lock is taken
                    _holder_file(place).unlink()
                held.lock.release()


def holder(store: str | Path) -> Holder | None:
    """Who is writing to `store` now; None if nobody is, or for a store at a URL."""
    from filelock import FileLock, Timeout

    place = folder(store)
    if place is None or not (place / "lock").exists():
        return None
    with _guard:
        held = _held.get(place)
        if held is not None and held.pid == os.getpid():
            return _read_holder(place)
        try:
            with FileLock(place / "lock", thread_local=False, timeout=0):
                return None
        except Timeout:
            return _read_holder(place)
        except OSError:  # a lock that may not be tried, such as another user's: a run that ends well takes its name off
            return _read_holder(place) if _holder_file(place).exists() else None


def note(store: str | Path, stage: str, event: str, **numbers: object) -> None:
    """Append to the log of `store` that `event` happened to `stage`, its path in the store, with `numbers`.

    An entry that cannot be written is left out: the log tells of a run, it does not end one.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     note(f"{place}/study.zarr", "nmf", "finished", seconds=2.5)
    ...     [(entry["event"], entry["seconds"]) for entry in log(f"{place}/study.zarr")]
    [('finished', 2.5)]
    """
    place = folder(store)
    if place is None:
        return
    entry = {"time": _now(), "host": socket.gethostname(), "pid": os.getpid(), "stage": stage, "event": event}
    line = json.dumps(entry | numbers).encode() + b"\n"
    with suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        with (place / "log.jsonl").open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else b"\n" + line  # what a killed run left is no part of it
            file.write(line)


def log(store: str | Path) -> list[dict[str, Any]]:
    """The entries of the log of `store`, oldest first; a line that a killed run left half-written is no entry."""
    place = folder(store)
    if place is None or not (place / "log.jsonl").exists():
        return []
    entries = []
    for line in (place / "log.jsonl").read_bytes().splitlines():
        with suppress(ValueError):
            entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict)]


def checkpoint_path(store: str | Path, stage: str, group: str | None = None) -> Path | None:
    """Where the fit of `stage` (in `group`) keeps its checkpoint; None for a store at a URL.

    Examples
    --------
    >>> checkpoint_path("study.zarr", "nmf", "4D.G7J1..SHZ").parts[-3:]
    ('study.zarr.run', '4D.G7J1..SHZ', 'nmf.npz')
    """
    place = folder(store)
    return None if place is None else place / (group or "") / f"{stage}.npz"


def _locked(place: Path, store: str | Path) -> BaseFileLock:
    from filelock import FileLock, Timeout

    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / "lock", thread_local=False)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        msg = (
            f"got {store}, to which {_read_holder(place)}; expected no other run on it: wait for that one to end, "
            f"or stop it."
        )
        raise BusyStoreError(msg) from None
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    ours = Holder(os.getpid(), socket.gethostname(), _user(), _now(), command)
    _sign(place, ours)
    return lock


def _sign(place: Path, ours: Holder) -> None:
    """Say who took the lock; where there is no room for that, nobody, rather than the run before."""
    part = _holder_file(place).with_suffix(".part")
    try:
        part.write_text(json.dumps(asdict(ours)), encoding="utf-8")
        part.replace(_holder_file(place))
    except OSError:
        part.unlink(missing_ok=True)
        _holder_file(place).unlink(missing_ok=True)


def _holder_file(place: Path) -> Path:
    return place / "holder.json"


def _read_holder(place: Path) -> Holder:
    """Who took the lock; it may have been taken so recently that the file is not there yet."""
    try:
        return Holder(**json.loads(_holder_file(place).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Holder(0, "an unknown host", "unknown", "a moment ago", "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return str(os.getuid())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
