"""The log of the runs on a store, in ``<store>.run``: lines of JSON, appended to a file on a disk.

Nothing is appended to an object of a bucket: there each process has an object of its own, which it
writes again with each entry, and begins another one after `_LONGEST` entries.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specufex_dask import holders, places

if TYPE_CHECKING:
    from specufex_dask.places import Location, Remote

_LONGEST = 200  # entries of an object


@dataclass
class _Own:
    """The object of the log to which this process writes."""

    file: Remote
    pid: int = field(default_factory=os.getpid)
    lines: list[bytes] = field(default_factory=list)


_guard = threading.Lock()
_own: dict[Remote, _Own] = {}


def note(store: Location, stage: str, event: str, **numbers: object) -> None:
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
    place = places.beside(places.at(store), ".run")
    entry = {"time": holders.now(), "host": socket.gethostname(), "pid": os.getpid(), "stage": stage, "event": event}
    line = json.dumps(entry | numbers).encode() + b"\n"
    with suppress(OSError):
        if isinstance(place, Path):
            _append(place, line)
        else:
            _write_own(place, line)


def log(store: Location) -> list[dict[str, Any]]:
    """The entries of the log of `store`, oldest first; a line that a killed run left half-written is no entry."""
    place = places.beside(places.at(store), ".run")
    if isinstance(place, Path):
        content = (place / "log.jsonl").read_bytes() if (place / "log.jsonl").exists() else b""
        return _entries(content)
    files = place / "log"
    each = places.read_all(files, [name for name in places.names(files) if name.endswith(".jsonl")])
    return sorted((entry for content in each for entry in _entries(content)), key=lambda entry: str(entry["time"]))


def _entries(content: bytes) -> list[dict[str, Any]]:
    entries = []
    for line in content.splitlines():
        with suppress(ValueError):
            entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict)]


def _append(place: Path, line: bytes) -> None:
    place.mkdir(parents=True, exist_ok=True)
    with (place / "log.jsonl").open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read() == b"\n" else b"\n" + line  # what a killed run left is no part of it
        file.write(line)


def _write_own(place: Remote, line: bytes) -> None:
    """Add `line` to the object of this process; one that could not be written is written with the next."""
    with _guard:
        own = _own.get(place)
        if own is None or own.pid != os.getpid() or len(own.lines) >= _LONGEST:
            name = f"log/{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}.jsonl"
            own = _own[place] = _Own(place / name)
        own.lines.append(line)
        places.write(own.file, b"".join(own.lines))
