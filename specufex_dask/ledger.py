"""What was read for each record: from which objects, how many bytes, and how often they were asked for.

These are facts of a run and not of the data, so they lie in ``<store>.run``, in a small file for
each task that reads, which it writes before anything is made of what it read: whatever kills the
run, the rows of what it has saved are there. Files of one Dataset lie in a folder of its identity.
A record that was read again has the rows of the last time.
"""

from __future__ import annotations

import gzip
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask._task_spec import DataNode  # no public name
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from specufex_dask import places
from specufex_dask.access import shown
from specufex_dask.recipe import digest

if TYPE_CHECKING:
    import pandas as pd

    from specufex_dask.places import Location, Place

Array = np.ndarray[Any, Any]
COLUMNS = ("object", "n_bytes", "attempts")
"""What a ledger tells of a record; `object` may be several, with ``; `` between them."""

_KEY = ["event_id", "station_id"]
_SUFFIX = ".json.gz"


@dataclass
class Entries:
    """What was read for each record of a block: numbers of `objects`, bytes, attempts (record,)."""

    n_records: int
    objects: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._object: list[list[int]] = [[] for _ in range(self.n_records)]
        self._n_bytes, self._attempts = np.zeros((2, self.n_records), np.int64)

    def add(self, source: str, records: list[int], n_bytes: int, attempts: int) -> None:
        """Note that the object `source` was read for `records`, which share its bytes evenly."""
        for record in records:
            self._object[record].append(len(self.objects))
        self.objects.append(shown(source))
        edges = n_bytes * np.arange(len(records) + 1) // len(records)
        self._n_bytes[records] += np.diff(edges)
        self._attempts[records] = np.maximum(self._attempts[records], attempts)

    def columns(self) -> dict[str, Any]:
        """The entries as JSON knows them."""
        numbers = {"n_bytes": self._n_bytes.tolist(), "attempts": self._attempts.tolist()}
        return {"objects": self.objects, "object": self._object, **numbers}


@dataclass(frozen=True)
class Ledger:
    """The folder in which tasks write what they read; without one they write nothing."""

    folder: Place | None = None

    def write(self, event_id: Array, station_id: Array, entries: Entries) -> None:
        """Write the `entries` of records; what cannot be written is left out, as a ledger ends no run."""
        if self.folder is None or not len(event_id):
            return
        names = {"event_id": event_id.tolist(), "station_id": station_id.tolist()}
        content = json.dumps({"time_ns": time.time_ns(), **names, **entries.columns()}, separators=(",", ":")).encode()
        file = digest(*names["event_id"], *names["station_id"]) + _SUFFIX
        with suppress(OSError):
            places.write(self.folder / file, gzip.compress(content, compresslevel=6, mtime=0))


def beside(store: Location, identity: str) -> Place:
    """The folder of the ledger of the Dataset `identity` in `store`."""
    return places.beside(places.at(store), ".run") / "ledger" / identity


def directed(lazy: da.Array, folder: Place) -> da.Array:
    """`lazy`, whose tasks write their ledger to `folder`."""
    graph = lazy.dask
    layers = {
        name: MaterializedLayer({name: DataNode(name, Ledger(folder))}) if _is_ledger(layer) else layer
        for name, layer in graph.layers.items()
    }
    made = HighLevelGraph(layers, graph.dependencies)
    return da.Array(made, lazy.name, chunks=lazy.chunks, meta=np.empty((0,) * lazy.ndim, lazy.dtype))


def _is_ledger(layer: Any) -> bool:  # noqa: ANN401 - a layer of dask
    if not isinstance(layer, MaterializedLayer) or len(layer.mapping) != 1:
        return False
    (node,) = layer.mapping.values()
    return isinstance(node.value if isinstance(node, DataNode) else node, Ledger)


def read(folder: Place) -> pd.DataFrame | None:
    """The ledger in `folder`, a row for each record: its event_id, station_id and `COLUMNS`; None without one."""
    import pandas as pd

    names = [name for name in places.names(folder) if name.endswith(_SUFFIX)]
    if isinstance(folder, Path):
        contents = [(folder / name).read_bytes() for name in names]
    else:
        contents = places.read_all(folder, names)
    blocks = sorted((json.loads(gzip.decompress(each)) for each in contents), key=lambda block: int(block["time_ns"]))
    if not blocks:
        return None
    columns: dict[str, list[Any]] = {name: [] for name in (*_KEY, *COLUMNS)}
    for block in blocks:
        block["object"] = ["; ".join(block["objects"][i] for i in each) for each in block["object"]]
        for name in columns:
            columns[name] += block[name]
    rows = pd.DataFrame(columns).astype({"n_bytes": "Int64", "attempts": "Int64"})
    return rows.drop_duplicates(_KEY, keep="last", ignore_index=True)
