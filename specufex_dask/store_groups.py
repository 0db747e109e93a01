"""Which stages lie where in a store: at its top, and in groups, such as those of stations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zarr

from specufex_dask import shards, stored
from specufex_dask.schema import SCHEMAS
from specufex_dask.url_stores import zarr_store
from specufex_dask.zarr_keys import names_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zarr.storage import StorePath

    from specufex_dask.places import Location


def stage_paths(store: Location) -> list[str] | None:
    """Paths of the stages in `store`, by name, as any may be torn or half-written; None where there is no store."""
    with stored.readable(f"{store}/zarr.json"):
        try:
            top = zarr.open_group(zarr_store(store), mode="r", zarr_format=3)
        except (FileNotFoundError, zarr.errors.GroupNotFoundError):
            return None
    return list(_paths(top.store_path))


def whole_in_groups(store: Location, stages: Sequence[str]) -> dict[str, list[str]]:
    """Which of `stages` each group of `store` holds whole, in their order; the top of a store is no group."""
    found: dict[str, list[str]] = {}
    for path in sorted(stage_paths(store) or []):
        group, _, stage = path.rpartition("/")
        if group and stage in stages and _is_whole(store, path):
            found.setdefault(group, []).append(stage)
    return {group: sorted(held, key=list(stages).index) for group, held in found.items()}


def _is_whole(store: Location, path: str) -> bool:
    held = shards.attributes(store, path)
    return held is not None and not shards.outdated(store, path, held) and not shards.missing(store, path, held)


def _paths(place: StorePath) -> Iterator[str]:
    for name in names_in(place):
        if name in SCHEMAS:
            yield (place / name).path
        else:
            yield from _paths(place / name)
