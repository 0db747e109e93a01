"""Open HDF5 files, on a disk or behind a URL, through h5py, which never waits for a network.

h5py holds one lock for all of HDF5 while it reads. A thread that waits for bytes under that lock can
wait for ever: the thread that fetches them may be collecting garbage, and need the lock to let go of
an old file. So h5py is given a file as blocks of bytes in memory. Where one is not there, the
reading stops, the blocks are fetched side by side outside of the lock, with every length checked,
and the reading begins again.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from specufex_dask.kept import Kept
from specufex_dask.objects import is_url
from specufex_dask.reading import once_more
from specufex_dask.segments import UnreadableFileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from specufex_dask.objects import Objects

Result = TypeVar("Result")

_BLOCK_BYTES = 1 << 18
_KEPT_BYTES = 64_000_000
_TRUSTED_SECONDS = 600.0  # what is behind a URL may change, and a listing does not say
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_blocks: Kept[bytes] = Kept(_KEPT_BYTES, len)


def read_hdf5(path: str, read: Callable[[Any], Result], objects: Objects) -> Result:
    """What `read` makes of the open file `path`; it may be called more than once.

    Raises
    ------
    FileNotFoundError, PermissionError, ConnectionError
        No such file, it may not be read, or nobody answers.
    UnreadableFileError
        It is no HDF5 file, or a damaged one.
    ImportError
        h5py is not installed.
    """
    h5py = load_h5py()
    return once_more(path, lambda: _read(h5py, path, read, objects), lambda _: True)


def read_at(first: int, last: int, key: tuple[Any, ...], objects: Objects) -> bytes:
    """Bytes `first` to before `last` of the file of the version `key`; ``ValueError`` if it has not so many."""
    if not 0 <= first <= last <= key[-1]:
        msg = f"bytes {first} to {last} of a file of {key[-1]}"
        raise ValueError(msg)
    source, buffer = _Source(key, {}), bytearray(last - first)
    source.seek(first)
    try:
        source.readinto(buffer)
    except _MissingBlockError:
        _fetch(source, key[0], objects)
        source.missing.clear()
        source.readinto(buffer)
    return bytes(buffer)


def version(path: str, objects: Objects) -> tuple[Any, ...]:
    """What tells the file from another, or from itself when it is written again; the last is its size in bytes."""
    try:
        size = objects.size(path)
        changed = int(time.time() // _TRUSTED_SECONDS) if is_url(path) else Path(path).stat().st_mtime_ns
    except NotADirectoryError as error:
        raise FileNotFoundError(path) from error
    return (path, repr(sorted(objects.options.items(), key=str)), changed, size)


def load_h5py() -> Any:  # noqa: ANN401 - a module without types
    """The module h5py, which is optional."""
    try:
        import h5py
    except ImportError as error:
        msg = "got an HDF5 file without the package h5py, expected it: pip install 'specufex_dask[hdf5]'."
        raise ImportError(msg) from error
    return h5py


def _read(h5py: Any, path: str, read: Callable[[Any], Result], objects: Objects) -> Result:  # noqa: ANN401
    key, have = version(path, objects), dict[int, bytes]()
    if key[-1] is None:
        msg = "its server does not tell how long it is"
        raise UnreadableFileError(msg)
    while True:
        source = _Source(key, have)
        failed: Exception | None = None
        try:
            source.check_signature()
            with h5py.File(source, "r") as file:
                result = read(file)
        # A damaged file makes h5py raise whatever the damage leads to: OSError, KeyError, RuntimeError, MemoryError.
        except Exception as error:  # noqa: BLE001
            failed = error
        if source.missing:  # whatever was made of it: h5py may take what cannot be read for what is not there
            _fetch(source, path, objects)
        elif failed:
            for number in have:
                _blocks.forget((key, number))
            raise UnreadableFileError(path) from failed
        else:
            return result


def _cut(content: bytes) -> list[bytes]:
    return [content[at : at + _BLOCK_BYTES] for at in range(0, len(content), _BLOCK_BYTES)]


def _fetch(source: _Source, path: str, objects: Objects) -> None:
    """Fetch the blocks that `source` lacked: neighbours in one range."""
    runs: list[list[int]] = []
    for number in sorted(source.missing):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    ranges = [(run[0] * _BLOCK_BYTES, min((run[-1] + 1) * _BLOCK_BYTES, source.size)) for run in runs]
    try:
        contents = objects.read_ranges(path, ranges)
    except (FileNotFoundError, PermissionError, ConnectionError):
        raise
    except OSError as error:
        raise UnreadableFileError(path) from error
    for run, content in zip(runs, contents, strict=True):
        for number, block in zip(run, _cut(content), strict=True):
            source.have[number] = _blocks.put((source.key, number), block)


class _MissingBlockError(Exception):
    """A block of the file is not in memory."""


class _Source(io.RawIOBase):
    """A file of which the blocks `have` and those kept are in memory; others are noted as `missing`."""

    def __init__(self, key: tuple[Any, ...], have: dict[int, bytes]) -> None:
        self.key, self.size, self.have = key, int(key[-1]), have
        self.missing: set[int] = set()
        self._at = 0

    def check_signature(self) -> None:
        """Raise ``UnreadableFileError`` unless the file begins as HDF5 does."""
        begin = bytearray(len(_SIGNATURE))
        self.readinto(begin)
        self._at = 0
        if begin != _SIGNATURE:
            msg = f"it begins with {bytes(begin)!r}, not with {_SIGNATURE!r}"
            raise UnreadableFileError(msg)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - of any type that holds bytes
        begin, end = self._at, min(self._at + len(buffer), self.size)
        if begin >= end:
            return 0
        numbers = range(begin // _BLOCK_BYTES, -(-end // _BLOCK_BYTES))
        self._look_for(numbers)
        for number in numbers:
            low, high = max(begin, number * _BLOCK_BYTES), min(end, (number + 1) * _BLOCK_BYTES)
            start = number * _BLOCK_BYTES
            buffer[low - begin : high - begin] = self.have[number][low - start : high - start]
        self._at = end
        return end - begin

    def _look_for(self, numbers: range) -> None:
        for number in numbers:
            kept = self.have.get(number) or _blocks.get((self.key, number))
            if kept is None:
                self.missing.add(number)
            else:
                self.have[number] = kept
        if self.missing:
            raise _MissingBlockError
