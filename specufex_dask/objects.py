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
from typing import TYPE_CHECKING, Any, TypeVar

from specufex_dask import access

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Result = TypeVar("Result")

_PATIENCE_SECONDS = 60.0
_MOST_ATTEMPTS = 6
_LONGEST_PAUSE_SECONDS = 8.0
_REQUESTS_AT_A_TIME = 16
_WHOLE_PARTS = 4
_LEAST_PART = 1_000_000
_MOST_LISTINGS = 64
_LISTING_SECONDS = 600.0
_PATIENT: dict[str, Any] = {
    # botocore tries twice and s3fs five times; what is left is ours, and counted.
    "config_kwargs": {"retries": {"total_max_attempts": 2}, "connect_timeout": 10, "read_timeout": 30},
}
_requests = threading.BoundedSemaphore(_REQUESTS_AT_A_TIME)
_listings: dict[tuple[str, str], tuple[float, dict[str, int]]] = {}
_listings_lock = threading.Lock()


class DamagedObjectError(Exception):
    """The object is there, and its bytes cannot be had whole, however often they are asked for."""


@dataclass(frozen=True)
class Objects:
    """The objects that paths or URLs name; `options` open the file system of a URL, and stand in no text."""

    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __dask_tokenize__(self) -> str:
        return "objects"

    def read(self, path: str) -> bytes:
        """The whole object.

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
            return Path(path).read_bytes()
        size = self.size(path)
        if size is None:
            return _persevering(lambda: _checked(self._file(path).cat_file(path), None, path), path)
        if size == 0:
            return b""
        n_parts = max(1, min(_WHOLE_PARTS, size // _LEAST_PART))
        edges = [size * i // n_parts for i in range(n_parts + 1)]
        return b"".join(self.read_ranges(path, list(pairwise(edges))))

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes from the first to before the last of each of `ranges`; errors are those of `read`."""
        if not is_url(path):
            with Path(path).open("rb") as file:
                return [_range(file, *each) for each in ranges]
        found: dict[tuple[int, int], bytes] = {}

        def ask() -> list[bytes]:
            missing = [each for each in ranges if each not in found]
            starts, ends = zip(*missing, strict=True)
            with _requests:
                answers = self._file(path).cat_ranges([path] * len(missing), starts, ends, on_error="return")
            whole = zip(missing, answers, strict=True)
            found.update((each, got) for each, got in whole if isinstance(got, bytes) and len(got) == each[1] - each[0])
            for each, got in zip(missing, answers, strict=True):
                if isinstance(got, BaseException):
                    raise got
                _checked(got, each[1] - each[0], path)
            return [found[each] for each in ranges]

        return _persevering(ask, path) if ranges else []

    def size(self, path: str) -> int | None:
        """Bytes of the object; None where its store does not tell. ``FileNotFoundError`` without one."""
        if not is_url(path):
            return Path(path).stat().st_size
        if path.startswith(("http://", "https://")):  # these have no folders
            size = _persevering(lambda: self._file(path).info(path), path).get("size")
            return None if size is None else int(size)
        folder, _, name = path.rpartition("/")
        try:
            sizes = self._listing(folder)
        except PermissionError:  # a bucket may let its objects be read and not be listed
            return int(_persevering(lambda: self._file(path).info(path), path)["size"])
        if name not in sizes:
            raise FileNotFoundError(path)
        return sizes[name]

    def check(self, folder: str) -> None:
        """Raise unless something answers for the URL `folder`, and lets this user read."""
        with access.explained(folder):
            try:
                self._file(folder).ls(folder, detail=False)
            except FileNotFoundError as error:
                if access.without_bucket(error):
                    raise

    def _listing(self, folder: str) -> dict[str, int]:
        key = (folder, repr(sorted(self.options.items(), key=str)))
        with _listings_lock:
            when, sizes = _listings.get(key, (0.0, {}))
            if when and time.monotonic() - when < _LISTING_SECONDS:
                return sizes
            sizes = _persevering(lambda: self._list(folder), folder)
            _listings.pop(key, None)
            _listings[key] = (time.monotonic(), sizes)
            while len(_listings) > _MOST_LISTINGS:
                _listings.pop(next(iter(_listings)))
        return sizes

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


def _range(file: Any, first: int, last: int) -> bytes:  # noqa: ANN401 - an open file
    file.seek(first)
    content = file.read(last - first)
    if len(content) != last - first:
        raise DamagedObjectError(file.name)
    return bytes(content)


def _checked(content: bytes, length: int | None, path: str) -> bytes:
    if length is not None and len(content) != length:
        msg = f"{len(content)} of {length} bytes of {path}"
        raise OSError(msg)
    return content


def _persevering(action: Callable[[], Result], path: str) -> Result:
    """The result of `action`, tried again while its errors may pass."""
    until, pause, attempts = time.monotonic() + _PATIENCE_SECONDS, 0.2, 1
    while True:
        try:
            return action()
        except FileNotFoundError as error:
            if access.without_bucket(error):
                raise access.told(error, path) or error from None
            raise FileNotFoundError(path) from None
        # A store raises OSErrors, and besides them those of botocore and aiohttp, which have no class in common.
        except Exception as error:  # noqa: BLE001
            told = access.told(error, path)
            if isinstance(told, (PermissionError, ImportError)):
                raise told from None
            if attempts == _MOST_ATTEMPTS or time.monotonic() + pause > until:
                raise told if isinstance(told, ConnectionError) else DamagedObjectError(path) from None
        time.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - so that workers do not ask all at once again
        pause, attempts = min(2 * pause, _LONGEST_PAUSE_SECONDS), attempts + 1
