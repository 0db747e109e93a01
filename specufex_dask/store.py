"""Save and load stages as Zarr groups: the template first, then whole shards, one task each.

A group is a stage; the shards of its arrays along `record` are the chunks of its Dataset, so no
two tasks touch one file, and a run that was killed anywhere writes what is missing and ends with
the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr

from specufex_dask import places, runs, schema, shards, stored
from specufex_dask.recipe import difference, identity
from specufex_dask.url_stores import require_chunks, zarr_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from specufex_dask.places import Location, Remote

_INNER_CHUNK_BYTES = 1e6
_RECORDS_PER_INNER_CHUNK = 16
_TIME = {"units": "nanoseconds since 1970-01-01", "dtype": "int64", "_FillValue": np.iinfo("int64").min}


def save(
    dataset: xr.Dataset,
    store: str | Path | Remote,
    *,
    group: str | None = None,
    overwrite: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Write the stage `dataset` to its group of the Zarr `store` and return it reopened, lazily.

    Lazy arrays are computed shard by shard, never as a whole. Where the group holds the same
    recipe already, only missing shards are computed; where it holds another one, the error says
    what differs. One process at a time writes to a store; what it does stands in the log of
    ``<store>.run``.

    Parameters
    ----------
    dataset
        What a stage function returned.
    store
        Path of the Zarr store, or its URL, such as ``"s3://bucket/study.zarr"``.
    group
        Group above the stage's, such as a station_id for a model of that station.
    overwrite
        Replace a stage of another recipe.
    storage_options
        What fsspec opens a URL with, such as ``{"profile": "me"}``; they are kept nowhere. Without
        them its own configuration holds, and the environment (``AWS_PROFILE``, ``FSSPEC_S3_ANON``),
        which each worker must have as well.

    Raises
    ------
    ValueError
        If the Dataset is of no stage, or the group holds another recipe.
    BusyStoreError
        If another process is writing to the store.
    OSError
        If the disk is full or a bucket denies access, among others; what is written stays, and
        saving again goes on from there.

    Examples
    --------
    >>> import tempfile, numpy as np, specufex_dask as sx
    >>> levels = np.random.default_rng(0).gamma(1.0, 5.0, (40, 12, 20))
    >>> spectrograms = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saved = sx.save(spectrograms, folder + "/study.zarr")
    ...     float(abs(saved.spectrogram - spectrograms.spectrogram).max())
    0.0
    """
    stage = dataset.attrs.get("stage")
    if stage not in schema.SCHEMAS or "recipe" not in dataset.attrs:
        msg = (
            f"got a Dataset of stage {stage!r}, expected one that a stage function returned: {sorted(schema.SCHEMAS)}."
        )
        raise ValueError(msg)
    path, store = _path(stage, group), places.at(store, storage_options)
    if not _is_whole(dataset, store, path):  # which is only read: that needs no lock
        with runs.holding(store):
            _write(dataset, store, path, overwrite=overwrite)
    checkpoint = runs.checkpoint_path(store, stage, group)
    if places.exists(checkpoint):  # who may only read a store is not asked to delete
        places.remove(checkpoint)  # the model is whole: what its fit had come to is in it
    return load(store, stage, group=group)


def load(
    store: str | Path | Remote,
    stage: str,
    *,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Open a stage of `store`, lazily, with its shards as chunks.

    Parameters
    ----------
    store
        Path of the Zarr store, or its URL.
    stage
        Name of the stage, such as ``"fingerprints"``.
    group, storage_options
        Group above the stage's, and what fsspec opens a URL with, as given to `save`.

    Raises
    ------
    ValueError
        If the store does not hold the stage, or holds it in the layout of another version.
    OSError
        If a file of it is torn, also when a shard is computed; the error says what to do.

    Examples
    --------
    >>> import tempfile, numpy as np, specufex_dask as sx
    >>> levels = np.random.default_rng(0).gamma(1.0, 5.0, (40, 12, 20))
    >>> spectrograms = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = sx.save(spectrograms, folder + "/study.zarr")
    ...     sx.load(folder + "/study.zarr", "spectrograms").sizes["record"]
    40
    """
    path, store = _path(stage, group), places.at(store, storage_options)
    attributes = shards.attributes(store, path)
    if attributes is None:
        places.names(runs.folder(store))  # which tells of a bucket that does not exist
        held = stages(store, group=group)
        msg = (
            f"got no stage {path!r} in {store}, which holds {held or 'no stage'}: save it first, or name one of these."
        )
        raise ValueError(msg)
    outdated = shards.outdated(store, path, attributes)
    if outdated:
        raise ValueError(outdated)
    unwritten = shards.missing(store, path, attributes)
    if unwritten:
        msg = (
            f"got {path!r} of {store} with {len(unwritten)} shards of {attributes['records_per_task']} records not "
            f"written yet, expected all: save it again, which computes just those."
        )
        raise ValueError(msg)
    place = f"{store}/{path}"
    with stored.readable(place):
        files = zarr_store(store)
        opened = xr.open_zarr(files, group=path, consolidated=False, chunks=None, zarr_format=3)
        arrays = dict(zarr.open_group(files, path=path, mode="r", zarr_format=3).arrays())
    declared = [variable.name for variable in schema.SCHEMAS[stage].variables]
    lost = [v.name for v in schema.SCHEMAS[stage].variables if not (v.optional or v.name in opened.variables)]
    if lost:
        raise stored.torn(place, f"without {', '.join(lost)}")
    ordered = opened[[name for name in declared if name in opened.data_vars]]
    ordered.attrs.pop("identity", None)
    parts = stored.parts(place, ordered, arrays, ordered.attrs.pop("records_per_task", None))
    require_chunks(files, [part.array.path for part in parts.values() if part.is_sharded])
    return _opened(ordered, place, parts)


def find(
    store: Location | None, stage: str, planned: Mapping[str, str], *, group: str | None = None
) -> xr.Dataset | None:
    """The stage of `store` if it was made by the recipe `planned`; None without a store or such a stage."""
    if store is None:
        return None
    path = _path(stage, group)
    written = shards.attributes(store, path)
    if written is None or written["recipe"] != planned["recipe"] or shards.missing(store, path, written):
        return None
    return load(places.at(store), stage, group=group)


def stages(store: Location, *, group: str | None = None) -> list[str]:
    """Names of the stages that `store` holds whole, in the order of the data flow."""
    return [stage for stage, n_missing in missing_shards(store, group=group).items() if n_missing == 0]


def missing_shards(store: Location, *, group: str | None = None) -> dict[str, int]:
    """Number of shards not yet written of each stage that `store` holds, 0 of a whole one, in the order of the flow."""
    paths = {stage: _path(stage, group) for stage in schema.SCHEMAS}
    found = {stage: shards.attributes(store, path) for stage, path in paths.items()}
    return {stage: len(shards.missing(store, paths[stage], held)) for stage, held in found.items() if held is not None}


def _path(stage: str, group: str | None) -> str:
    return stage if group is None else f"{group}/{stage}"


def _is_of(written: Mapping[str, Any], dataset: xr.Dataset) -> bool:
    """Whether a group with the attributes `written` holds `dataset`: the same recipe, and the same records in order."""
    return written["recipe"] == dataset.attrs["recipe"] and written.get("identity") == identity(dataset)


def _mismatch(store: Location, path: str, written: Mapping[str, Any], dataset: xr.Dataset) -> str:
    differences = "; ".join(difference(dataset.attrs["recipe"], written["recipe"]))
    differences = differences or "it is a selection or another order of the records"
    return (
        f"got a {path!r} of another recipe than the one that {store} holds: {differences}. "
        f"Expected the same: save to another store, or pass overwrite=True to replace it."
    )


def _is_whole(dataset: xr.Dataset, store: Location, path: str) -> bool:
    written = shards.attributes(store, path)
    return written is not None and _is_of(written, dataset) and not shards.missing(store, path, written)


def _write(dataset: xr.Dataset, store: Location, path: str, *, overwrite: bool) -> None:
    """Write the template, unless it is there, and then the shards that are missing."""
    written = shards.attributes(store, path)
    same = written is not None and _is_of(written, dataset)
    if written is not None and not same and not overwrite:
        raise ValueError(_mismatch(store, path, written, dataset))
    with shards.recorded(store, path) as journal:
        # Variables, not DataArrays: computing one of those computes its lazy coordinates as well.
        texts = {name: array.compute() for name, array in dataset.variables.items() if array.dtype.kind in "OT"}
        dataset = dataset.assign(texts)
        lazy = {name for name, array in dataset.variables.items() if array.chunks and "record" in array.dims}
        if lazy and "quality" not in lazy:
            # It says of each shard whether it is done, so it is written with it.
            dataset = dataset.assign(quality=dataset["quality"].chunk(record=_records_per_task(dataset)))
            lazy |= {"quality"}
        if not same:
            runs.still_held(store)
            with shards.layout:
                _write_template(dataset, lazy, store, path)
        shards.write(dataset, sorted(lazy, key=lambda name: name == "quality"), store, path, journal)


def _write_template(dataset: xr.Dataset, lazy: set[Any], store: Location, path: str) -> None:
    """Write all metadata and the arrays in memory; the recipe comes last and says that the template is whole."""
    attributes = dict(dataset.attrs)
    if lazy:
        attributes["records_per_task"] = _records_per_task(dataset)
    held_back = {name: attributes.pop(name) for name in ("recipe", "recipe_id")}
    template = dataset.drop_encoding().assign_attrs(attributes)
    template.attrs = attributes
    encoding = {name: _encoding(template[name], attributes.get("records_per_task")) for name in template.variables}
    files = zarr_store(store, mode="r+")
    template.to_zarr(
        files, group=path, mode="w", consolidated=False, zarr_format=3, compute=False, encoding=encoding,
        safe_chunks=False, write_empty_chunks=True,
    )  # fmt: skip
    written = zarr.open_group(files, path=path, mode="r+", zarr_format=3)
    written.attrs.update(held_back | {"identity": identity(dataset)})


def _encoding(array: xr.DataArray, records_per_task: int | None) -> dict[str, Any]:
    """Chunks of a task's records, cut into inner chunks of a megabyte where the task's share is larger."""
    encoding: dict[str, Any] = dict(_TIME) if array.dtype.kind == "M" else {}
    if array.chunks is None or records_per_task is None:
        return encoding | ({"chunks": array.shape} if array.size else {})
    tail = array.shape[1:]
    inner = records_per_task
    record_bytes = array.dtype.itemsize * int(np.prod(tail))
    while inner % (2 * _RECORDS_PER_INNER_CHUNK) == 0 and inner // 2 * record_bytes >= _INNER_CHUNK_BYTES:
        inner //= 2
    if inner < records_per_task:
        encoding["shards"] = (records_per_task, *tail)
    return encoding | {"chunks": (inner, *tail)}


def _records_per_task(dataset: xr.Dataset) -> int:
    sizes = {array.chunks[0] for array in dataset.variables.values() if array.chunks and "record" in array.dims}
    chunks = sizes.pop()
    if sizes or len(set(chunks[:-1])) > 1 or chunks[-1] > chunks[0]:
        msg = (
            f"got chunks of {chunks} records, expected equal ones in all variables (the last may be shorter): "
            f"rechunk it."
        )
        raise ValueError(msg)
    return max(1, int(chunks[0]))


def _opened(stage: xr.Dataset, place: str, parts: Mapping[str, stored.StoredVariable]) -> xr.Dataset:
    """`stage` with its shards as chunks; ids and axes in memory, for they say which records these are."""
    read: dict[Any, Any] = {}
    for name, array in stage.variables.items():
        if str(name) in parts:
            read[name] = array.dims, parts[str(name)].lazy(), array.attrs
            continue
        with stored.readable(place):
            values = array.values
        read[name] = array.dims, values.astype(object) if array.dtype.kind in "OT" else values, array.attrs
    return stage.assign(read)
