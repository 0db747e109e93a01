"""Where things lie: a local path, or a URL of any file system that fsspec knows, such as ``s3://bucket/study.zarr``.

What is written is written whole or not at all: an object of a bucket by nature, a file under
another name first. Storage options open a file system and go nowhere else: no text holds them.
"""

from __future__ import annotations

import mimetypes
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specufex_dask import access

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_LOCAL = ("file://", "local://")
_SHORTENED = re.compile(r"[A-Za-z][A-Za-z0-9+.]+:/[^/]")
_WITH_PASSWORD = re.compile(r"://[^/@]*:[^/@]*@")


@dataclass(frozen=True)
class Remote:
    """A place at a `url`, and what opens its file system; two of one URL are the same place.

    Examples
    --------
    >>> Remote("s3://bucket/study.zarr", {"key": "me", "secret": "hidden"}) / "nmf"
    Remote(url='s3://bucket/study.zarr/nmf')
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url}/{name}", self.options)

    def __dask_tokenize__(self) -> object:
        return "place", self.url

    @property
    def arguments(self) -> dict[str, Any]:
        """What fsspec is opened with: a listing kept from before would not show what other processes have written."""
        return {"use_listings_cache": False, **self.options}

    def read_text(self, encoding: str = "utf-8") -> str:
        """The content of the file at this place, as of a ``Path``."""
        return read(self).decode(encoding)

    def opened(self) -> tuple[Any, str]:
        """The file system of this place, and its path there."""
        from fsspec.core import url_to_fs

        with access.explained(self.url):
            filesystem, path = url_to_fs(self.url, **self.arguments)
        return filesystem, str(path)


Place = Path | Remote
Location = str | os.PathLike[str] | Remote
"""What a user gives for a place."""


def at(location: Location, storage_options: Mapping[str, Any] | None = None) -> Place:
    """The place that `location` names; `storage_options` are for fsspec and have no meaning for a local path.

    Raises
    ------
    ValueError
        For a URL that was made a path, or one that holds a password.

    Examples
    --------
    >>> at("s3://bucket/study.zarr/", {"anon": True})
    Remote(url='s3://bucket/study.zarr')
    >>> at("file:///data/study.zarr").parts[1:]
    ('data', 'study.zarr')
    """
    if isinstance(location, Remote):
        return location if storage_options is None else Remote(location.url, storage_options)
    text = os.fspath(location)
    for scheme in _LOCAL:
        text = text.removeprefix(scheme)
    if "://" in text:
        if _WITH_PASSWORD.search(text):
            msg = (
                f"got a URL of {text.partition('://')[0]} with a password in it, expected none, for it would be "
                f"shown in logs: pass it in storage_options."
            )
            raise ValueError(msg)
        return Remote(text.rstrip("/"), dict(storage_options or {}))
    if _SHORTENED.match(text):
        msg = f"got {text}, a URL that was made a path, expected one with two slashes: pass it as text."
        raise ValueError(msg)
    return Path(text)


def optional(location: Location | None, storage_options: Mapping[str, Any] | None) -> Place | None:
    """The place that `location` names, if it names one."""
    return None if location is None else at(location, storage_options)


def beside(place: Place, suffix: str) -> Place:
    """The neighbour of `place` whose name ends with `suffix`; one for a local path by whichever name it is reached."""
    if isinstance(place, Remote):
        return Remote(f"{place.url}{suffix}", place.options)
    path = place.resolve()
    return path.with_name(f"{path.name}{suffix}")


def read(place: Place) -> bytes:
    """The content of the file at `place`; ``FileNotFoundError`` if there is none."""
    if isinstance(place, Path):
        return place.read_bytes()
    filesystem, path = place.opened()
    with access.explained(place.url):
        content: bytes = filesystem.cat_file(path)
    return content


def write(place: Place, content: bytes) -> None:
    """Write the file at `place` whole or not at all, in the place of one that is there."""
    if isinstance(place, Path):
        _write_file(place, content)
        return
    filesystem, path = place.opened()
    kind = mimetypes.guess_type(path)[0]  # without which a browser does not show a page
    told = {"ContentType": kind} if kind and place.url.startswith(("s3://", "s3a://")) else {}
    with access.explained(place.url, to_write=True):
        filesystem.pipe_file(path, content, **told)


def create(place: Remote, content: bytes) -> bool:
    """Write the file at `place` unless there is one, and say whether it is the one that was to be written.

    Of several that try at once, one succeeds. Where an answer gets lost on the way, the file system
    asks again, and hears that there is one: so what is there is read, and `content` should be like
    no other.
    """
    filesystem, path = place.opened()
    failed: Exception | None = None
    try:
        with access.explained(place.url, to_write=True):
            filesystem.pipe_file(path, content, mode="create")
    except OSError as error:
        failed = error
    try:
        return read(place) == content
    except FileNotFoundError:
        raise failed or FileNotFoundError(str(place)) from None


def exists(place: Place) -> bool:
    """Whether there is a file at `place`."""
    if isinstance(place, Path):
        return place.is_file()
    filesystem, path = place.opened()
    with access.explained(place.url):
        try:
            return bool(filesystem.info(path)["type"] == "file")
        except FileNotFoundError as error:
            if access.without_bucket(error):
                raise
            return False


def remove(place: Place) -> None:
    """Delete the file at `place`, if there is one."""
    if isinstance(place, Path):
        place.unlink(missing_ok=True)
        return
    filesystem, path = place.opened()
    with access.explained(place.url, to_write=True):
        try:
            filesystem.rm_file(path)
        except FileNotFoundError as error:
            if access.without_bucket(error):
                raise


def names(place: Place) -> list[str]:
    """The files at any depth below `place`, as paths from there, sorted: of a bucket by one listing."""
    if isinstance(place, Path):
        return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    filesystem, path = place.opened()
    with access.explained(place.url):
        try:
            found = filesystem.find(path)
        except FileNotFoundError as error:
            if access.without_bucket(error):
                raise
            found = []
    prefix = path.rstrip("/") + "/"
    return sorted(name.removeprefix(prefix) for name in found if name.startswith(prefix) and not name.endswith("/"))


def read_all(folder: Remote, files: list[str]) -> list[bytes]:
    """The content of `files` in `folder`, read side by side; without those that are not there any more."""
    filesystem, path = folder.opened()
    with access.explained(folder.url):
        found = filesystem.cat([f"{path}/{name}" for name in files], on_error="return") if files else {}
        for content in found.values():
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise content
    return [content for _, content in sorted(found.items()) if isinstance(content, bytes)]


def modified(place: Remote) -> datetime:
    """When the file at `place` was last written, by the clock of its server."""
    filesystem, path = place.opened()
    with access.explained(place.url):
        found: datetime = filesystem.modified(path)
    return found


def _write_file(path: Path, content: bytes) -> None:
    """Write to another file first, which then takes the place of the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")  # one run holds the store, so one writes here
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)  # of a full disk not even the half is kept
        raise
