"""The store of a Zarr group at a place: zarr's own on a disk; at a URL one that tells what is missing and denied."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zarr.storage import FsspecStore

from specufex_dask import access
from specufex_dask.places import Location, Remote, at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


class UrlStore(FsspecStore):
    """A Zarr store at a `url` that says what keeps it from there, and reads an object by one request.

    Zarr reads a chunk that is missing as fill values. Of the arrays in `whole` (their paths) every
    chunk must be there: without one, ``ValueError``.
    """

    url: str
    whole: frozenset[str]
    _by_size: bool  # whether the file system would ask for the size of an object before it reads it

    @classmethod
    def of(cls, place: Remote, *, read_only: bool) -> UrlStore:
        """The store at `place`."""
        with access.explained(place.url):
            made = cast("UrlStore", cls.from_url(place.url, storage_options=place.arguments, read_only=read_only))
        made.url, made.whole = place.url, frozenset()
        made._by_size = "max_concurrency" in signature(made.fs._cat_file).parameters  # noqa: SLF001 - as zarr does
        return made

    def with_read_only(self, read_only: bool = False) -> UrlStore:  # noqa: FBT001, FBT002 - the signature is zarr's
        """The same store, to be written to or not."""
        made = UrlStore(self.fs, read_only=read_only, path=self.path, allowed_exceptions=self.allowed_exceptions)
        made.url, made.whole, made._by_size = self.url, self.whole, self._by_size
        return made

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The object `key`, or a part of it; None where there is none."""
        with access.explained(self.url):
            if byte_range is None and self._by_size:
                found = await self._at_once(key, prototype)
            else:
                found = await super().get(key, prototype, byte_range)
        array, _, chunk = key.partition("/c/")
        if chunk and not found and array in self.whole:
            msg = "empty or missing"
            raise ValueError(msg)
        return found

    async def _at_once(self, key: str, prototype: BufferPrototype) -> Buffer | None:
        """A whole object by one request: s3fs would ask for its size before, to read a large one in parts."""
        try:
            content = await self.fs._cat_file(f"{self.path}/{key}", max_concurrency=1)  # noqa: SLF001
        except self.allowed_exceptions:
            return None
        return prototype.buffer.from_bytes(content)

    async def set(self, key: str, value: Buffer, byte_range: tuple[int, int] | None = None) -> None:
        """Write the object `key`."""
        with access.explained(self.url, to_write=True):
            await super().set(key, value, byte_range)

    async def delete(self, key: str) -> None:
        """Delete the object `key`, if there is one."""
        with access.explained(self.url, to_write=True):
            await super().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Delete all objects below `prefix`: of a bucket, a thousand by a request."""
        found = [f"{self.path}/{key}" async for key in self.list_prefix(prefix)]
        with access.explained(self.url, to_write=True):
            if found:
                await self.fs._rm(found)  # noqa: SLF001

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys below `prefix`, by one listing (of a page for each thousand)."""
        with access.explained(self.url):
            found = [key async for key in super().list_prefix(prefix)]
        for key in found:
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names directly below `prefix`."""
        with access.explained(self.url):
            found = [name async for name in super().list_dir(prefix)]
        for name in found:
            yield name


def zarr_store(store: Location, *, mode: str = "r") -> Any:  # noqa: ANN401 - what zarr and xarray take for a store
    """What zarr opens the group at `store` with, to read it (``"r"``) or to write to it."""
    place = at(store)
    return str(place) if isinstance(place, Path) else UrlStore.of(place, read_only=mode == "r")


def require_chunks(store: Any, arrays: Iterable[str]) -> None:  # noqa: ANN401 - of zarr_store
    """Let a missing chunk of `arrays` (their paths) in the `store` of a URL be an error; on a disk it is looked for."""
    if isinstance(store, UrlStore):
        store.whole = frozenset(arrays)
