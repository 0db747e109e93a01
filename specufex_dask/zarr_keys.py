"""Which files a Zarr store holds: the chunks of an array, and what a killed write left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zarr.core.sync import sync  # zarr's own event loop: a notebook runs one of its own already

if TYPE_CHECKING:
    import zarr

_PARTIAL = ".partial"


def chunks_of(array: zarr.Array[Any]) -> set[str]:
    """Names of the chunks (shards, where it has them) of `array` that its store holds, by one listing."""
    prefix = array.store_path.path + "/"

    async def listed() -> set[str]:
        return {key.removeprefix(prefix) async for key in array.store_path.store.list_prefix(prefix)}

    return sync(listed())


def size_of(array: zarr.Array[Any], chunk: tuple[int, ...]) -> int:
    """Bytes that the store holds of a chunk (a shard, where `array` has them); 0 if it holds none."""
    key = f"{array.store_path.path}/{array.metadata.encode_chunk_key(chunk)}"

    async def measured() -> int:
        try:
            return await array.store_path.store.getsize(key)
        except FileNotFoundError:
            return 0

    return sync(measured())


def remove_partial(group: zarr.Group) -> None:
    """Delete the half-written files in `group` and directly in the groups above it.

    On a file system zarr writes beside the chunk and renames what is whole; a write that was
    killed leaves such a file, under a name that no later write uses again.
    """
    path, store = group.store_path.path, group.store_path.store
    parts = path.split("/")
    above = ["/".join(parts[:i]) for i in range(len(parts))]

    async def removed() -> None:
        keys = [key async for key in store.list_prefix(f"{path}/")]
        for parent in above:
            keys += [f"{parent}/{name}".lstrip("/") async for name in store.list_dir(parent)]
        for key in keys:
            if key.endswith(_PARTIAL):
                await store.delete(key)

    sync(removed())
