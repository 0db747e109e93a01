"""Fetch small files whole, from a disk or from a URL; what goes wrong is told without a credential in it."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specufex_dask import access
from specufex_dask.access import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_N_SHOWN = 3


@dataclass(frozen=True)
class File:
    """The bytes of one file, and the name to show for it: its path, or its URL without credentials."""

    name: str
    content: bytes

    @property
    def extension(self) -> str:
        """Of the name, lower case, with its dot."""
        return os.path.splitext(self.name)[1].lower()  # noqa: PTH122 - the name may be a URL

    def lines(self) -> Iterable[tuple[int, str]]:
        """The lines of a text file that are not blank, each with its number from 1."""
        text = self.content.decode("latin-1")
        return ((i, line) for i, line in enumerate(text.splitlines(), start=1) if line.strip())


def is_place(source: object) -> bool:
    """Whether `source` names files, rather than being what a file would hold."""
    return isinstance(source, (str, os.PathLike)) or (
        isinstance(source, (list, tuple)) and all(isinstance(each, (str, os.PathLike)) for each in source)
    )


def fetch(source: Any, storage_options: Mapping[str, Any] | None = None) -> list[File]:  # noqa: ANN401 - checked by is_place
    """Return the files of a path, a URL of fsspec, a pattern with ``*``, or a list of these; in that order.

    Objects are fetched side by side; the length of each is held against what the store says.

    Raises
    ------
    FileNotFoundError, PermissionError
        A file is not there, or may not be read.
    OSError
        A store does not answer, or sends less than it should.
    ImportError
        The package that speaks the URL's protocol is not installed.
    """
    places = [os.fspath(each) for each in (source if isinstance(source, (list, tuple)) else [source])]
    if not places:
        msg = "got an empty list of files, expected one or more: name them."
        raise ValueError(msg)
    return [file for place in _runs(places) for file in _fetch(place, storage_options)]


def _runs(places: Sequence[str]) -> list[list[str]]:
    """Neighbouring URLs of one protocol together, that they may be fetched at once; each path and pattern by itself."""
    runs: list[list[str]] = []
    for place in places:
        if runs and "://" in place and "*" not in place + runs[-1][-1] and _protocol(place) == _protocol(runs[-1][-1]):
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _protocol(url: str) -> str:
    return url.partition("://")[0]


def _fetch(places: list[str], storage_options: Mapping[str, Any] | None) -> list[File]:
    if "://" in places[0]:
        return _remote(places, dict(storage_options or {}))
    path = places[0]
    found = sorted(glob.glob(path, recursive=True)) if "*" in path and not Path(path).exists() else [path]  # noqa: PTH207 - a pattern may be absolute
    if not found:
        msg = f"got the pattern {path!r}, which no file fits, expected one or more: correct the pattern."
        raise FileNotFoundError(msg)
    return [File(each, _local(each)) for each in found]


def _local(path: str) -> bytes:
    if not Path(path).is_file():
        msg = f"got the path {path!r}, where there is no file, expected one: correct the path."
        raise FileNotFoundError(msg)
    try:
        return Path(path).read_bytes()
    except PermissionError:
        msg = (
            f"got 'permission denied' for {path}, expected a file that this user may read: change its permissions, or "
            f"run as a user that has them."
        )
        raise PermissionError(msg) from None


def _remote(urls: list[str], options: dict[str, Any]) -> list[File]:
    """The objects at `urls`, which may be one pattern; an error of the store becomes one of ours.

    It is raised without its cause: the text of a store's error may hold a signed URL.
    """
    try:
        return _objects(urls, options)
    # Stores raise OSErrors, and besides those of botocore and aiohttp, which have no class in common.
    except Exception as error:  # noqa: BLE001
        told = error if str(error).startswith("got ") else _told(error, urls)
    raise told


def _objects(urls: list[str], options: dict[str, Any]) -> list[File]:
    import fsspec  # type: ignore[import-untyped,unused-ignore]

    options = {"use_listings_cache": False, **options}  # a listing from before would not show what came since
    opened = [fsspec.core.url_to_fs(url, **options) for url in urls]
    fs, keys = opened[0][0], [key for _, key in opened]
    if "*" in urls[0]:
        found = fs.glob(keys[0], detail=True)
        keys, sizes = sorted(found), [found[key].get("size") for key in sorted(found)]
        names = [key if "://" in key else fs.unstrip_protocol(key) for key in keys]
    else:
        sizes, names = fs.sizes(keys), urls
    if not keys:
        raise FileNotFoundError
    contents = fs.cat(keys, on_error="raise")
    contents = contents if isinstance(contents, dict) else {keys[0]: contents}
    files = [File(shown(name), contents[key]) for name, key in zip(names, keys, strict=True)]
    _check_lengths(files, sizes)
    return files


def _check_lengths(files: list[File], sizes: Sequence[int | None]) -> None:
    for file, size in zip(files, sizes, strict=True):
        if size is not None and len(file.content) != size:
            msg = (
                f"got {len(file.content)} of the {size} bytes of {file.name}, expected all of them: try again, and "
                f"look at the connection if it comes back."
            )
            raise OSError(msg)


def _told(error: Exception, urls: list[str]) -> Exception:
    """What to raise in place of an error of a store: got, expected, what to do, and nothing of the error's own text."""
    names = ", ".join(map(shown, urls[:_N_SHOWN])) + (" …" if len(urls) > _N_SHOWN else "")
    if explanation := access.told(error, names):
        return explanation
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(
            f"got {names}, where there is no such object, expected one: correct the URL, or leave what is missing out."
        )
    if isinstance(error, (TypeError, ValueError)):
        return ValueError(
            f"got {names} with storage_options that its file system does not take ({type(error).__name__}), expected "
            f"a URL and options of fsspec, such as {{'anon': True}} for s3://: correct them."
        )
    return access.unread(error, names)
