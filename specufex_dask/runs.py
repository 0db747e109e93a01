"""What a run keeps beside its store: who is writing, what was done when, checkpoints of its fits.

All of it lies in ``<store>.run``, so that the data in the store compare byte for byte: a folder
on a disk, a prefix in a bucket.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specufex_dask import holders, leases, places
from specufex_dask.holders import BusyStoreError, Holder, LostStoreError
from specufex_dask.run_logs import log, note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from filelock import BaseFileLock

    from specufex_dask.leases import Lease
    from specufex_dask.places import Location, Place

__all__ = ["BusyStoreError", "Holder", "LostStoreError", "checkpoint_path", "folder", "holder", "holding", "log",
           "note", "still_held"]  # fmt: skip

_PATIENCE = 0.5
"""Seconds for which a run tries to take a store: whoever asks only whether it is held lets it go at once."""


@dataclass
class _Held:
    lock: BaseFileLock | Lease
    pid: int
    times: int = 0


_guard = threading.Lock()
_held: dict[Place, _Held] = {}


def folder(store: Location) -> Place:
    """Where runs keep what is beside `store`; it may not exist yet.

    Examples
    --------
    >>> folder("study.zarr").name
    'study.zarr.run'
    >>> folder("s3://bucket/study.zarr")
    Remote(url='s3://bucket/study.zarr.run')
    """
    return places.beside(places.at(store), ".run")


@contextmanager
def holding(store: Location) -> Iterator[None]:
    """Let no other process write to `store` while the block runs; all threads of this process may.

    On a disk the lock is the operating system's, so that it goes with its process, however that
    ends. At a URL it is a lease (see `specufex_dask.leases`), renewed while the block runs.

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
    with _guard:
        held = _held.get(place)
        if held is None or held.pid != os.getpid():  # a fork has its parent's table, but not its lock
            lock = _locked(place, store) if isinstance(place, Path) else leases.take(store, place / "holder")
            held = _held[place] = _Held(lock, os.getpid())
        held.times += 1
    try:
        yield
    finally:
        with _guard:
            held.times -= 1
            if held.times == 0:
                del _held[place]
                if isinstance(place, Path):
                    with suppress(OSError):  # it says something only as long as the lock is taken
                        _holder_file(place).unlink()
                held.lock.release()


def still_held(store: Location) -> None:
    """Raise ``LostStoreError`` if this process held `store` and may do so no more, as only at a URL."""
    held = _held.get(folder(store))
    if held is not None and isinstance(held.lock, leases.Lease):
        held.lock.check()


def holder(store: Location) -> Holder | None:
    """Who is writing to `store` now; None if nobody is."""
    from filelock import FileLock, Timeout

    place = folder(store)
    if not isinstance(place, Path):
        return leases.holder(place / "holder")
    if not (place / "lock").exists():
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


def checkpoint_path(store: Location, stage: str, group: str | None = None) -> Place:
    """Where the fit of `stage` (in `group`) keeps its checkpoint.

    Examples
    --------
    >>> checkpoint_path("study.zarr", "nmf", "4D.G7J1..SHZ").parts[-3:]
    ('study.zarr.run', '4D.G7J1..SHZ', 'nmf.npz')
    >>> checkpoint_path("s3://bucket/study.zarr", "nmf")
    Remote(url='s3://bucket/study.zarr.run/nmf.npz')
    """
    place = folder(store)
    return place / (f"{group}/{stage}.npz" if group else f"{stage}.npz")


def _locked(place: Path, store: Location) -> BaseFileLock:
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
    _sign(place, holders.ourselves())
    return lock


def _sign(place: Path, ours: Holder) -> None:
    """Say who took the lock; where there is no room for that, nobody, rather than the run before."""
    part = _holder_file(place).with_suffix(".part")
    try:
        part.write_text(json.dumps(ours.record), encoding="utf-8")
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
        return holders.UNKNOWN
