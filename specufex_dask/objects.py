"""Bytes of an archive's objects, on a disk or behind a URL: whole or in ranges, every length checked.

A store may answer with fewer bytes than asked and raise nothing, so each length is held against
the size that the listing of its folder tells. One listing serves all objects of a folder, and says
which are missing. Requests that fail are made again, with pauses of random length, for a minute at
most; few are under way at a time.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from specufex_dask import access
from specufex_dask.occupancy import Occupancy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

Result = TypeVar("Result")

_PATIENCE_SECONDS = 60.0
_MOST_ATTEMPTS = 6
_LONGEST_PAUSE_SECONDS = 8.0
_REQUESTS_AT_A_TIME = 16
_CONNECTIONS = 7
"""For the parts of whole objects, shared by those that the process is reading at the time."""
_LEAST_PART = 1_000_000
_AHEAD = 4_000_000
_MOST_LISTINGS = 64
_LISTING_SECONDS = 600.0
_PATIENT: dict[str, Any] = {
    # botocore tries twice and s3fs five times; what is left is ours, and counted.
    "config_kwargs": {"retries": {"total_max_attempts": 2}, "connect_timeout": 10, "read_timeout": 30},
}


class Counts(threading.local):
    """What the running thread has read so far: bytes, and how often it had to ask again; both only grow."""

    n_bytes = 0
    n_again = 0


counts = Counts()
_requests = threading.BoundedSemaphore(_REQUESTS_AT_A_TIME)
_whole_reads = Occupancy()
_Key: TypeAlias = "tuple[str, str]"  # a folder, and the options that open it
_listings: dict[_Key, tuple[float, dict[str, int]]] = {}
_DENIED: dict[str, int] = {}
"""Stands for the listing of a folder whose objects may be read, and which may not be listed."""
_turns: dict[_Key, threading.Lock] = {}
_listings_lock = threading.Lock()


class DamagedObjectError(Exception):
    """The object is there, and its bytes cannot be had whole, however often they are asked for."""


@dataclass(frozen=True)
class Objects:
    """The objects that paths or URLs name; `options` open the file system of a URL, and stand in no text."""

    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __dask_tokenize__(self) -> str:
        return "objects"

    def read_parts(self, path: str) -> list[bytes]:
        """The parts that make up the whole object: to join them takes as long as to decode what is in them.

        Raises
        ------
        FileNotFoundError
            There is none.
        PermissionError, ConnectionError
            Nothing may be read there, or nobody answers: no fault of one object.
        DamagedObjectError
            What comes is not whole.
        """
        if not is_url(path):
            return [_counted(Path(path).read_bytes())]
        with _whole_reads as at_once:
            return self._whole(path, max(1, _CONNECTIONS // at_once))

    def _whole(self, path: str, most_parts: int) -> list[bytes]:
        ahead = self._ahead(path) if most_parts > 1 else None  # others have work meanwhile
        size = self.size(path)
        if size is None:
            return [_counted(_persevering(lambda: bytes(self._file(path).cat_file(path)), path))]
        first = min(size, _AHEAD) if ahead else 0
        n_parts = max(1, min(most_parts - bool(first), (size - first) // _LEAST_PART))
        edges = [first + (size - first) * i // n_parts for i in range(n_parts + 1)]
        rest = self.read_ranges(path, [each for each in pairwise(edges) if each[0] < each[1]])
        begun = [_counted(_come(ahead, first)) or self.read_ranges(path, [(0, first)])[0]] if ahead and first else []
        return begun + rest

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes from the first to before the last of each of `ranges`; errors are those of `read_parts`."""
        if not is_url(path):
            with Path(path).open("rb", buffering=0) as file:
                return [_counted(_range(file, *each)) for each in ranges]
        found: dict[tuple[int, int], bytes] = {}

        def ask() -> list[bytes]:
            missing = [each for each in ranges if each not in found]
            starts, ends = (list(each) for each in zip(*missing, strict=True))  # tuples are for S3 alone
            with _requests:
                answers = self._file(path).cat_ranges([path] * len(missing), starts, ends, on_error="return")
            counts.n_bytes += sum(len(got) for got in answers if isinstance(got, bytes))
            whole = zip(missing, answers, strict=True)
            found.update((each, got) for each, got in whole if isinstance(got, bytes) and len(got) == each[1] - each[0])
            for each, got in zip(missing, answers, strict=True):
                if isinstance(got, BaseException):
                    raise got
                _check_length(got, each[1] - each[0], path)
            return [found[each] for each in ranges]

        try:
            return _persevering(ask, path) if ranges else []
        except ConnectionError:
            if self._is_answered(path):
                raise DamagedObjectError(path) from None  # the connection ends at this object alone
            raise

    def size(self, path: str) -> int | None:
        """Bytes of the object; None where its store does not tell. ``FileNotFoundError`` without one."""
        if not is_url(path):
            return Path(path).stat().st_size
        if _is_website(path):
            size = _persevering(lambda: self._file(path).info(path), path).get("size")
            return None if size is None else int(size)
        folder, _, name = path.rpartition("/")
        sizes = self._listing(folder)
        if sizes is _DENIED:
            return int(_persevering(lambda: self._file(path).info(path), path)["size"])
        if name not in sizes:
            raise FileNotFoundError(path)
        return sizes[name]

    def knows_size(self, path: str) -> bool:
        """Whether `size` asks nobody."""
        if not is_url(path):
            return True
        sizes = self._listed(self._folder_key(path.rpartition("/")[0]))
        return sizes is not None and sizes is not _DENIED

    def check(self, folder: str) -> None:
        """Raise unless something answers for the URL `folder`, and lets this user read."""
        filesystem = self._file(folder)
        if _is_website(folder):
            return
        with access.explained(folder):
            try:
                filesystem.ls(folder, detail=False)
            except FileNotFoundError as error:
                if access.without_bucket(error):
                    raise

    def _ahead(self, path: str) -> Future[bytes] | None:
        """The beginning of an object, on its way while the folder is listed; None where the size is known."""
        import asyncio

        if _is_website(path) or self.knows_size(path):
            return None
        filesystem = self._file(path)
        if not filesystem.async_impl:
            return None
        begun = filesystem._cat_file(path, start=0, end=_AHEAD)  # noqa: SLF001 - as fsspec names what is asynchronous
        return asyncio.run_coroutine_threadsafe(begun, filesystem.loop)

    def _folder_key(self, folder: str) -> _Key:
        return folder, repr(sorted(self.options.items(), key=str))

    def _listed(self, key: _Key) -> dict[str, int] | None:
        """The sizes in a folder by the last listing, unless that is old."""
        when, sizes = _listings.get(key, (0.0, {}))
        return sizes if when and time.monotonic() - when < _LISTING_SECONDS else None

    def _listing(self, folder: str) -> dict[str, int]:
        key = self._folder_key(folder)
        with _listings_lock:
            turn = _turns.setdefault(key, threading.Lock())
        with turn:  # whoever else wants this folder waits for one listing, and who wants another does not
            sizes = self._listed(key)
            if sizes is None:
                try:
                    sizes = _persevering(lambda: self._list(folder), folder)
                except PermissionError:
                    sizes = _DENIED
                with _listings_lock:
                    _listings.pop(key, None)
                    _listings[key] = (time.monotonic(), sizes)
                    while len(_listings) > _MOST_LISTINGS:
                        _listings.pop(next(iter(_listings)))
        return sizes

    def _is_answered(self, path: str) -> bool:
        """Whether the server of the object `path` answers at all."""
        try:
            self._file(path).ls(path.rpartition("/")[0], detail=False)
        except (FileNotFoundError, PermissionError):
            return True
        except Exception:  # noqa: BLE001 - of the store's libraries, of which nothing came
            return False
        return True

    def _list(self, folder: str) -> dict[str, int]:
        try:
            found = self._file(folder).ls(folder, detail=True)
        except FileNotFoundError as error:
            if access.without_bucket(error):
                raise access.told(error, folder) or error from None
            return {}
        return {
            entry["name"].rstrip("/").rpartition("/")[2]: int(entry["size"])
            for entry in found
            if entry["type"] == "file"
        }

    def _file(self, url: str) -> Any:  # noqa: ANN401 - fsspec has no types
        import fsspec  # type: ignore[import-untyped,unused-ignore]

        scheme = url.partition("://")[0]
        patient = _PATIENT if scheme in {"s3", "s3a"} else {}
        with access.explained(url):
            return fsspec.filesystem(scheme, use_listings_cache=False, **{**patient, **self.options})


def is_url(path: str) -> bool:
    """Whether `path` is a URL rather than a path of this machine."""
    return "://" in path


def _is_website(path: str) -> bool:
    """Whether `path` is of a website: these have no folders that list what is in them."""
    return path.startswith(("http://", "https://"))


def _counted(content: bytes) -> bytes:
    counts.n_bytes += len(content)
    return content


def _come(ahead: Future[bytes], length: int) -> bytes:
    """What was asked for ahead, if it came whole: else it is asked for as if it had not been."""
    try:
        content = ahead.result(_PATIENCE_SECONDS)
    except Exception:  # noqa: BLE001 - as of `_persevering`
        return b""
    return content if len(content) == length else b""


def _range(file: Any, first: int, last: int) -> bytes:  # noqa: ANN401 - an open file
    file.seek(first)
    content = file.read(last - first)
    if len(content) != last - first:
        raise DamagedObjectError(file.name)
    return bytes(content)


def _check_length(content: bytes, length: int, path: str) -> None:
    if len(content) != length:
        msg = f"{len(content)} of {length} bytes of {path}"
        raise OSError(msg)


def _persevering(action: Callable[[], Result], path: str) -> Result:
    """The result of `action`, tried again while its errors may pass: those of a network, not of who asks."""
    until, pause, attempts = time.monotonic() + _PATIENCE_SECONDS, 0.2, 1
    while True:
        try:
            return action()
        except FileNotFoundError as error:
            raise access.told(error, path) or FileNotFoundError(path) from None
        # A store raises OSErrors, and besides them those of botocore and aiohttp, which have no class in common.
        except Exception as error:
            told = access.told(error, path)
            if isinstance(told, (PermissionError, ImportError)):
                raise told from None
            if type(error).__module__ == "builtins" and not isinstance(error, OSError):
                raise
            if attempts == _MOST_ATTEMPTS or time.monotonic() + pause > until:
                raise told if isinstance(told, ConnectionError) else DamagedObjectError(path) from None
        counts.n_again += 1
        time.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - so that workers do not ask all at once again
        pause, attempts = min(2 * pause, _LONGEST_PAUSE_SECONDS), attempts + 1
