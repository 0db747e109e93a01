"""The hold of a run on a store at a URL: a lease, for nobody takes a lock back from a dead process there.

In ``<store>.run/holder`` lies one object a hold, named by its number, which says who took it.

- A hold is taken by creating the object of the next number, on the condition that there is none
  (``If-None-Match: *``): of several that try at once, one succeeds. Whoever then finds a higher
  number was too late, and withdraws. The highest number is never deleted, so that none comes twice.
- The holder writes its object again every `RENEWED` seconds. When `GIVEN_UP` seconds went by since
  it last did so with success, it has lost its hold for good, and ends (``LostStoreError``).
- Another process takes the next number only once the holder has released the store, or its object
  is older than `STALE` seconds, or it is known to be dead (it ran under the same kernel, where no
  such process is left). The age is taken by the clock of the server alone: against a probe that was
  just written there.

As `GIVEN_UP` is less than `STALE`, two clocks may run by half faster or slower than each other
before two processes hold a store at once. What workers were writing when a hold was lost is not
called back: it is of the recipe of the store, and thus what the next run would write, unless that
run replaces the stage. A server that does not know the condition gives a store to both of two runs that
ask for it in the same second; Amazon's and most others know it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from specufex_dask import holders, places
from specufex_dask.holders import BusyStoreError, Holder, LostStoreError

if TYPE_CHECKING:
    from specufex_dask.places import Location, Remote

RENEWED, GIVEN_UP, STALE = 15.0, 60.0, 90.0  # seconds
_log = logging.getLogger("specufex_dask")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # it goes on while a laptop sleeps


@dataclass(frozen=True)
class _Hold:
    """What the object of a hold says."""

    holder: Holder
    token: str
    kernel: str
    born: str
    released: bool = False

    def content(self, *, released: bool = False) -> bytes:
        about = {"token": self.token, "kernel": self.kernel, "born": self.born, "released": released}
        return json.dumps(self.holder.record | about).encode()

    @property
    def is_dead(self) -> bool:
        return holders.is_dead(self.holder.pid, self.born, self.kernel)


class Lease:
    """The hold of this process on a store, renewed in a thread until it is released."""

    def __init__(self, store: Location, file: Remote, hold: _Hold, *, begun: float) -> None:
        self._store, self._file, self._hold = store, file, hold
        self._renewed = begun
        self._lost = False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {store}", daemon=True)
        self._thread.start()

    @property
    def holder(self) -> Holder:
        """The process that holds it, which is this one."""
        return self._hold.holder

    def check(self) -> None:
        """Raise ``LostStoreError`` if another process may have taken the store meanwhile."""
        lapsed = time.clock_gettime(_CLOCK) - self._renewed
        self._lost = self._lost or lapsed > GIVEN_UP
        if self._lost:
            msg = (
                f"got no answer of {self._store} for {lapsed:.0f} s, so that another run may have taken it; expected "
                f"to renew the hold on it every {RENEWED:g} s: check the network and run again, which goes on from "
                f"what is written."
            )
            raise LostStoreError(msg)

    def release(self) -> None:
        """Let others have the store."""
        self._released.set()
        self._thread.join()
        if not self._lost:
            with suppress(OSError):  # then it ends by itself
                places.write(self._file, self._hold.content(released=True))

    def _renew(self) -> None:
        while not self._released.wait(RENEWED):
            begun = time.clock_gettime(_CLOCK)
            try:
                self.check()
                places.write(self._file, self._hold.content())
                self.check()  # written late, it may have been taken for dead before
            except LostStoreError:
                return
            except Exception as error:  # noqa: BLE001 - the next renewal may succeed; if none does, the hold is lost
                # By its name alone: a store's text may hold a signed URL.
                _log.warning("the hold on %s was not renewed (%s); trying again", self._store, type(error).__name__)
                continue
            self._renewed = begun


def take(store: Location, folder: Remote) -> Lease:
    """Take the hold on `store`, told in its `folder`; ``BusyStoreError`` if another process has it."""
    last = _last(folder)
    if last is not None and _holds(folder, *last):
        raise BusyStoreError(_busy(store, last[1].holder))
    number = 1 if last is None else last[0] + 1
    holder = holders.ourselves()
    ours = _Hold(holder, uuid.uuid4().hex, holders.kernel(), holders.birth(holder.pid))
    begun = time.clock_gettime(_CLOCK)
    created = places.create(_file(folder, number), ours.content())
    numbers = _numbers(folder)
    if not created or max(numbers) != number:
        if created:
            places.remove(_file(folder, number))
        winner = _last(folder)
        raise BusyStoreError(_busy(store, holders.UNKNOWN if winner is None else winner[1].holder))
    for outdated in numbers[:-1]:
        places.remove(_file(folder, outdated))
    return Lease(store, _file(folder, number), ours, begun=begun)


def holder(folder: Remote) -> Holder | None:
    """Who has the hold told in `folder`, None if nobody; only read, so its age is by the clock of this machine."""
    last = _last(folder)
    if last is None or last[1].released or last[1].is_dead:
        return None
    age = datetime.now(UTC) - _aware(places.modified(_file(folder, last[0])))
    return last[1].holder if age.total_seconds() <= STALE else None


def _holds(folder: Remote, number: int, hold: _Hold) -> bool:
    """Whether the `hold` of that number may still be one."""
    if hold.released or hold.is_dead:
        return False
    probe = folder / f"probe-{uuid.uuid4().hex}"
    places.write(probe, b"")
    try:
        age = places.modified(probe) - places.modified(_file(folder, number))
    except FileNotFoundError:  # a later holder has removed it
        return True
    finally:
        places.remove(probe)
    return age.total_seconds() <= STALE


def _last(folder: Remote) -> tuple[int, _Hold] | None:
    """The highest number in `folder` and what its object says; None where there is none."""
    numbers = _numbers(folder)
    if not numbers:
        return None
    try:
        about: dict[str, Any] = json.loads(places.read(_file(folder, numbers[-1])))
    except FileNotFoundError:  # removed since, by the holder of a higher one
        return _last(folder)
    own = {name: about.pop(name) for name in ("token", "kernel", "born", "released")}
    return numbers[-1], _Hold(Holder(**about), **own)


def _numbers(folder: Remote) -> list[int]:
    """The numbers of the holds in `folder`, ascending."""
    stems = [name.removesuffix(".json") for name in places.names(folder) if name.endswith(".json")]
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def _file(folder: Remote, number: int) -> Remote:
    return folder / f"{number:08d}.json"


def _busy(store: Location, who: Holder) -> str:
    return (
        f"got {store}, to which {who}; expected no other run on it: wait for that one to end, or stop it. If it was "
        f"killed or its machine is gone, its hold ends {STALE:g} s after it last renewed it."
    )


def _aware(time_of: datetime) -> datetime:
    """A time with its zone: some file systems give UTC without saying so."""
    return time_of if time_of.tzinfo else time_of.replace(tzinfo=UTC)
