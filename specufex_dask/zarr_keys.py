"""Which files a Zarr store holds: the chunks of an array, and what a killed write left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zarr.core.sync import sync  # zarr's own event loop: a notebook runs one of its own already
from zarr.storage import LocalStore

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store
    from zarr.storage import StorePath

_PARTIAL = ".partial"


def is_on_disk(node: zarr.Array[Any] | zarr.Group) -> bool:
    """Whether `node` lies in files, of which there may be halves, and not in objects at a URL."""
    return isinstance(node.store_path.store, LocalStore)


def chunks_of(array: zarr.Array[Any]) -> set[str]:
    """Names of the chunks (shards, where it has them) of `array` that its store holds, by one listing."""
    prefix = array.store_path.path + "/"

    async def listed() -> set[str]:
        return {key.removeprefix(prefix) async for key in array.store_path.store.list_prefix(prefix)}

    return sync(listed())


def key_of(array: zarr.Array[Any], number: int) -> str:
    """Key of the chunk (the shard, where `array` has them) of that number along the first dimension."""
    return f"{array.store_path.path}/{array.metadata.encode_chunk_key((number, *(0,) * (array.ndim - 1)))}"


def size_of(array: zarr.Array[Any], number: int) -> int:
    """Bytes that the store holds of the chunk of that number along the first dimension; 0 if it holds none."""
    key = key_of(array, number)

    async def measured() -> int:
        try:
            return await array.store_path.store.getsize(key)
        except FileNotFoundError:
            return 0

    return sync(measured())


def names_in(place: StorePath) -> list[str]:
    """Names of what lies at `place` in a store and is not half-written, whether or not it can be read."""

    async def listed() -> list[str]:
        return sorted([name async for name in place.store.list_dir(place.path)])

    return [name for name in sync(listed()) if not name.endswith(_PARTIAL)]


def remove_partial(group: zarr.Group, begun: set[str]) -> None:
    """Delete the half-written files in `group` and directly in the groups above it, and the keys `begun`.

    On a file system zarr writes beside the chunk and renames what is whole; a write that was
    killed leaves such a file, under a name that no later write uses again. An object at a URL is
    there whole or not at all: only those `begun` are looked for, by one listing.
    """
    path, store = group.store_path.path, group.store_path.store
    if not is_on_disk(group):
        if begun:
            sync(_remove_begun(store, path, begun))
        return
    parts = path.split("/")
    above = ["/".join(parts[:i]) for i in range(len(parts))]

    async def removed() -> None:
        keys = [key async for key in store.list_prefix(f"{path}/")]
        for parent in above:
            keys += [f"{parent}/{name}".lstrip("/") async for name in store.list_dir(parent)]
        for key in keys:
            if key.endswith(_PARTIAL) or key in begun:
                await store.delete(key)

    sync(removed())


async def _remove_begun(store: Store, path: str, begun: set[str]) -> None:
    for key in [key async for key in store.list_prefix(f"{path}/") if key in begun]:
        await store.delete(key)
