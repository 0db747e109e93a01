"""Save and load stages as Zarr groups: the template first, then whole shards, one task each.

A group is a stage; the shards of its arrays along `record` are the chunks of its Dataset, so no
two tasks touch one file. A shard is done when its `quality`, which is written last, is there:
a run that was killed anywhere writes what is missing and ends with the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.base import compute

from specufex_dask import schema
from specufex_dask.blocks import record_chunked
from specufex_dask.progress import progress
from specufex_dask.recipe import difference, identity
from specufex_dask.zarr_keys import chunks_of, remove_partial

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]

_INNER_CHUNK_BYTES = 1e6
_RECORDS_PER_INNER_CHUNK = 16
_TIME = {"units": "nanoseconds since 1970-01-01", "dtype": "int64", "_FillValue": np.iinfo("int64").min}


def save(dataset: xr.Dataset, store: str | Path, *, group: str | None = None, overwrite: bool = False) -> xr.Dataset:
    """Write the stage `dataset` to its group of the Zarr `store` and return it reopened, lazily.

    Lazy arrays are computed shard by shard, never as a whole. Where the group holds the same
    recipe already, only missing shards are computed; where it holds another one, the error says
    what differs.

    Parameters
    ----------
    dataset
        What a stage function returned.
    store
        Path of the Zarr store.
    group
        Group above the stage's, such as a station_id for a model of that station.
    overwrite
        Replace a stage of another recipe.

    Raises
    ------
    ValueError
        If the Dataset is of no stage, or the group holds another recipe.

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
    path = _path(stage, group)
    written = _attributes(store, path)
    same = written is not None and _is_of(written, dataset)
    if written is not None and not same and not overwrite:
        raise ValueError(_mismatch(store, path, written, dataset))
    # Variables, not DataArrays: computing one of those computes its lazy coordinates as well.
    texts = {name: array.compute() for name, array in dataset.variables.items() if array.dtype.kind in "OT"}
    dataset = dataset.assign(texts)
    lazy = {name for name, array in dataset.variables.items() if array.chunks and "record" in array.dims}
    if lazy and "quality" not in lazy:
        # It says of each shard whether it is done, so it is written with it.
        dataset = dataset.assign(quality=dataset["quality"].chunk(record=_records_per_task(dataset)))
        lazy |= {"quality"}
    if not same:
        _write_template(dataset, lazy, store, path)
    _write_shards(dataset, sorted(lazy, key=lambda name: name == "quality"), store, path)
    return load(store, stage, group=group)


def load(store: str | Path, stage: str, *, group: str | None = None) -> xr.Dataset:
    """Open a stage of `store`, lazily, with its shards as chunks.

    Parameters
    ----------
    store
        Path of the Zarr store.
    stage
        Name of the stage, such as ``"fingerprints"``.
    group
        Group above the stage's, as given to `save`.

    Raises
    ------
    ValueError
        If the store does not hold the stage, or holds it in the layout of another version.

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
    path = _path(stage, group)
    attributes = _attributes(store, path)
    if attributes is None:
        held = stages(store, group=group)
        msg = (
            f"got no stage {path!r} in {store}, which holds {held or 'no stage'}: save it first, or name one of these."
        )
        raise ValueError(msg)
    if attributes.get("schema_version") != schema.VERSION:
        msg = (
            f"got {path!r} of {store} in layout {attributes.get('schema_version')!r}, expected {schema.VERSION}: "
            f"open it with the version of specufex_dask that wrote it, or compute it again with overwrite=True."
        )
        raise ValueError(msg)
    unwritten = _missing(store, path, attributes)
    if unwritten:
        msg = (
            f"got {path!r} of {store} with {len(unwritten)} shards of {attributes['records_per_task']} records not "
            f"written yet, expected all: save it again, which computes just those."
        )
        raise ValueError(msg)
    opened = xr.open_zarr(str(store), group=path, consolidated=False, chunks=None, zarr_format=3)
    declared = [variable.name for variable in schema.SCHEMAS[stage].variables]
    ordered = opened[[name for name in declared if name in opened.data_vars]]
    ordered.attrs.pop("identity", None)
    return _opened(ordered, ordered.attrs.pop("records_per_task", None))


def find(
    store: str | Path | None, stage: str, planned: Mapping[str, str], *, group: str | None = None
) -> xr.Dataset | None:
    """The stage of `store` if it was made by the recipe `planned`; None without a store or such a stage."""
    if store is None:
        return None
    path = _path(stage, group)
    written = _attributes(store, path)
    if written is None or written["recipe"] != planned["recipe"] or _missing(store, path, written):
        return None
    return load(store, stage, group=group)


def stages(store: str | Path, *, group: str | None = None) -> list[str]:
    """Names of the stages that `store` holds whole, in the order of the data flow."""
    return [stage for stage, n_missing in missing_shards(store, group=group).items() if n_missing == 0]


def missing_shards(store: str | Path, *, group: str | None = None) -> dict[str, int]:
    """Number of shards not yet written of each stage that `store` holds, 0 of a whole one, in the order of the flow."""
    paths = {stage: _path(stage, group) for stage in schema.SCHEMAS}
    found = {stage: _attributes(store, path) for stage, path in paths.items()}
    return {stage: len(_missing(store, paths[stage], held)) for stage, held in found.items() if held is not None}


def _path(stage: str, group: str | None) -> str:
    return stage if group is None else f"{group}/{stage}"


def _attributes(store: str | Path, path: str) -> dict[str, Any] | None:
    """Attributes of a group whose template is whole: its recipe is written last."""
    try:
        attributes = dict(zarr.open_group(str(store), path=path, mode="r").attrs)
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        return None
    return attributes if "recipe" in attributes else None


def _is_of(written: Mapping[str, Any], dataset: xr.Dataset) -> bool:
    """Whether a group with the attributes `written` holds `dataset`: the same recipe, and the same records in order."""
    return written["recipe"] == dataset.attrs["recipe"] and written.get("identity") == identity(dataset)


def _mismatch(store: str | Path, path: str, written: Mapping[str, Any], dataset: xr.Dataset) -> str:
    differences = "; ".join(difference(dataset.attrs["recipe"], written["recipe"]))
    differences = differences or "it is a selection or another order of the records"
    return (
        f"got a {path!r} of another recipe than the one that {store} holds: {differences}. "
        f"Expected the same: save to another store, or pass overwrite=True to replace it."
    )


def _write_template(dataset: xr.Dataset, lazy: set[Any], store: str | Path, path: str) -> None:
    """Write all metadata and the arrays in memory; the recipe comes last and says that the template is whole."""
    attributes = dict(dataset.attrs)
    if lazy:
        attributes["records_per_task"] = _records_per_task(dataset)
    held_back = {name: attributes.pop(name) for name in ("recipe", "recipe_id")}
    template = dataset.drop_encoding().assign_attrs(attributes)
    template.attrs = attributes
    encoding = {name: _encoding(template[name], attributes.get("records_per_task")) for name in template.variables}
    template.to_zarr(
        str(store), group=path, mode="w", consolidated=False, zarr_format=3, compute=False, encoding=encoding,
        safe_chunks=False,
    )  # fmt: skip
    zarr.open_group(str(store), path=path, mode="r+").attrs.update(held_back | {"identity": identity(dataset)})


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


def _write_shards(dataset: xr.Dataset, names: list[Any], store: str | Path, path: str) -> None:
    """Compute and write the shards that are missing, each by one task."""
    attributes = _attributes(store, path) or {}
    missing = _missing(store, path, attributes)
    if not missing:
        return
    remove_partial(zarr.open_group(str(store), path=path, mode="r+"))
    # In the chunks of the template: those of a run that goes on where another was killed may be others.
    arrays = [record_chunked(dataset[name]).rechunk({0: attributes["records_per_task"]}) for name in names]
    first = da.from_array(np.arange(dataset.sizes["record"]), chunks=(arrays[0].chunks[0],))
    operands = [item for i, a in enumerate([first, *arrays]) for item in (a.blocks[missing], _axes(i, a.ndim))]
    written = da.blockwise(
        _write_block, ("record",), *operands, concatenate=True, dtype=np.int64, meta=np.empty(0, np.int64),
        adjust_chunks={"record": 1}, names=names, store=str(store), path=path,
    )  # fmt: skip
    sizes = [arrays[0].chunks[0][i] for i in missing]
    tasks = {(written.name, i): size for i, size in enumerate(sizes)}
    with progress(f"save {path}", total=sum(sizes), unit="records", tasks=tasks):
        compute(written)


def _axes(number: int, ndim: int) -> tuple[str, ...]:
    return ("record", *(f"{number}_{axis}" for axis in range(1, ndim)))


def _write_block(records: Array, *blocks: Array, names: list[str], store: str, path: str) -> Array:
    group = zarr.open_group(store, path=path, mode="r+")
    region = slice(int(records[0]), int(records[-1]) + 1)
    for name, block in zip(names, blocks, strict=True):
        # A chunk of zeros must be written too: that it is there says that it is done.
        array = cast("zarr.Array[Any]", group[name]).with_config({"write_empty_chunks": True})
        array[region] = block.astype("datetime64[ns]").view("int64") if block.dtype.kind == "M" else block
    return np.array([len(records)])


def _missing(store: str | Path, path: str, attributes: Mapping[str, Any]) -> list[int]:
    """Numbers of the shards whose `quality`, the last to be written, is not there."""
    if "records_per_task" not in attributes:
        return []
    quality = zarr.open_array(str(store), path=f"{path}/quality", mode="r")
    present = chunks_of(quality)
    return [i for i in range(-(-quality.shape[0] // attributes["records_per_task"])) if f"c/{i}" not in present]


def _opened(stage: xr.Dataset, records_per_task: int | None) -> xr.Dataset:
    """`stage` with its shards as chunks; ids and axes in memory, for they say which records these are."""
    small = {}
    for name, array in stage.variables.items():
        if array.dtype.kind in "OT":
            small[name] = stage[name].astype(object)
        elif "record" not in array.dims:
            small[name] = stage[name].load()
    chunked = stage.chunk({"record": records_per_task or -1}) if "record" in stage.dims else stage
    return chunked.assign(small)
