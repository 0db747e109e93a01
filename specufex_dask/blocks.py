"""Map a function over blocks of records, with several named results a block.

`record` is the only chunked dimension in every stage, so a stage is one call of `map_blocks`.
"""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from inspect import Parameter, signature
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import dask.array as da
import dask.base
import dask.blockwise
import dask.config
import dask.local
import dask.threaded
import numpy as np
from dask._task_spec import Task, TaskRef, convert_legacy_graph  # no public name
from dask.delayed import delayed
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArrayValuesDep
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    import xarray as xr
    from numpy.typing import DTypeLike

RECORDS_PER_TASK = 256
"""Records in a task, and in a shard of the store, unless the user says otherwise."""

LONGEST_RUN, _LONGEST_FIRST_RUN = 8, 2

Results = dict[str, np.ndarray[Any, Any]]
Outputs = dict[str, tuple[tuple[int, ...], "DTypeLike"]]

_nobody, _several = object(), object()

_TAKEN = {"function"} | {
    name
    for call in (da.blockwise, dask.blockwise.blockwise)
    for name, parameter in signature(call).parameters.items()
    if parameter.kind is not Parameter.VAR_POSITIONAL and parameter.kind is not Parameter.VAR_KEYWORD
}
"""Names that dask takes for its own parameters, so that a constant of that name would never reach its task."""


def in_blocks(values: np.ndarray[Any, Any], sizes: tuple[int, ...]) -> ArrayValuesDep:
    """`values` (record,) for `map_records` in blocks of `sizes`: each lies in its own task, and is none to be sent."""
    edges = np.cumsum((0, *sizes)).tolist()
    blocks = {(i,): values[first:last] for i, (first, last) in enumerate(pairwise(edges))}
    return ArrayValuesDep((sizes,), blocks)


def map_records(
    function: Callable[..., Results],
    arrays: Sequence[da.Array | ArrayValuesDep],
    outputs: Outputs,
    /,
    *,
    regrouped: tuple[int, ...] | None = None,
    **constants: object,
) -> dict[str, da.Array]:
    """Apply `function` to each block of records of `arrays`; return one lazy array an output.

    `arrays` (record, …), lazy or `in_blocks`, have the first one's chunks along `record` and one chunk elsewhere;
    lazy ones are given them.
    `function(*blocks, **constants)` returns a dict of arrays (record of the block, …), whose
    trailing shapes and dtypes `outputs` declares. The function runs once a block, however many
    of its results are computed together; `regrouped` are the records of each block of these, where
    other ones are wanted. A constant reaches every task as one shared node of the graph, not as a
    copy in each. Raises ``ValueError`` for a constant named like a parameter of dask's.
    """
    taken = sorted(constants.keys() & _TAKEN)
    if taken:
        msg = f"got constants named {taken}, expected names that dask does not take for itself: rename them."
        raise ValueError(msg)
    shared = {name: delayed(value, traverse=False) for name, value in constants.items()}
    records = arrays[0].chunks[0]
    arrays = [each if isinstance(each, ArrayValuesDep) else each.rechunk({0: records}) for each in arrays]
    axes = [("record", *(f"{i}_{k}" for k in range(1, len(a.numblocks)))) for i, a in enumerate(arrays)]
    operands = [item for pair in zip(arrays, axes, strict=True) for item in pair]
    packed = da.blockwise(
        _pack,
        ("record",),
        *operands,
        adjust_chunks={"record": 1},
        align_arrays=False,
        concatenate=True,
        dtype=object,
        meta=np.empty(0, dtype=object),
        name=f"{function.__name__}-{dask.base.tokenize(function, outputs, arrays, constants)}",
        function=function,
        **shared,
    )
    if regrouped and regrouped != records:
        packed, records = _regrouped(packed, records, regrouped), regrouped
    return {name: _unpacked(packed, name, records, tail, dtype) for name, (tail, dtype) in outputs.items()}


def _regrouped(packed: da.Array, had: tuple[int, ...], wanted: tuple[int, ...]) -> da.Array:
    """`packed`, whose blocks `had` so many records, in blocks of as many as are `wanted`.

    Each is one task that takes slices of the blocks before, so of one that several need each takes its part.
    """
    name = f"regrouped-{dask.base.tokenize(packed.name, wanted)}"
    edges = np.cumsum((0, *had))
    graph: dict[Any, Any] = {}
    first = 0
    for i, n_records in enumerate(wanted):
        last = first + n_records
        sources = range(int(np.searchsorted(edges, first, side="right")) - 1, int(np.searchsorted(edges, last)))
        parts = [slice(max(first - edges[j], 0), last - edges[j]) for j in sources]
        graph[name, i] = Task((name, i), partial(_joined, parts), *(TaskRef((packed.name, j)) for j in sources))
        first = last
    layers = HighLevelGraph.from_collections(name, graph, dependencies=(cast("Any", packed),))
    return da.Array(layers, name, chunks=((1,) * len(wanted),), dtype=object, meta=np.empty(0, dtype=object))


def _joined(parts: list[slice], *packed: Any) -> Any:  # noqa: ANN401 - object arrays of dicts
    """A copy of the `parts` of blocks, side by side: what these lie in is free when all have theirs."""
    joined = np.empty(1, dtype=object)
    joined[0] = {
        name: np.concatenate([block[0][name][part] for block, part in zip(packed, parts, strict=True)])
        for name in packed[0][0]
    }
    return joined


def _unpacked(
    packed: da.Array, name: str, records: tuple[int, ...], tail: tuple[int, ...], dtype: DTypeLike
) -> da.Array:
    axes = tuple(f"axis_{k}" for k in range(len(tail)))
    unpacked: da.Array = da.blockwise(
        _unpack,
        ("record", *axes),
        packed,
        ("record",),
        new_axes=dict(zip(axes, tail, strict=True)),
        adjust_chunks={"record": records},
        dtype=dtype,
        meta=np.empty((0,) * (1 + len(tail)), dtype=dtype),
        variable=name,
    )
    return unpacked


def _pack(*blocks: np.ndarray[Any, Any], function: Callable[..., Results], **constants: object) -> Any:  # noqa: ANN401 - an object array of dicts
    packed = np.empty(1, dtype=object)
    with one_blas_thread():
        packed[0] = function(*blocks, **constants)
    return packed


def _unpack(packed: Any, variable: str) -> Any:  # noqa: ANN401 - an object array of dicts
    return packed[0][variable]


def record_chunked(array: xr.DataArray) -> da.Array:
    """The lazy array of `array`, chunked along `record` alone; an array in memory is cut into tasks."""
    first = array.transpose("record", ...)
    data = first.data if first.chunks else da.from_array(first.values, chunks=(RECORDS_PER_TASK, *first.shape[1:]))
    rechunked: da.Array = data.rechunk(dict.fromkeys(range(1, data.ndim), -1))
    return rechunked


def one_task_each(graph: Mapping[Any, Any], keys: list[Any]) -> dict[Any, Any]:
    """`graph` with all that only one of `keys` needs in the task of that key.

    A scheduler spends as long on a slice as on a fingerprint; what several keys need stays apart,
    with all that it alone needs.
    """
    nodes = convert_legacy_graph(graph)
    owner: dict[Any, Any] = {}
    for key in keys:
        waiting = [key]
        while waiting:
            needed = waiting.pop()
            if owner.get(needed, _nobody) not in (key, _several):
                owner[needed] = _several if needed in owner else key
                waiting.extend(nodes[needed].dependencies)
    shared = {needed for needed, whose in owner.items() if whose is _several}
    n_users = Counter(below for needed in owner for below in nodes[needed].dependencies)
    user = {below: needed for needed in shared for below in nodes[needed].dependencies}
    asked, own = set(keys), dict[Any, list[Any]]()
    for needed, whose in owner.items():
        head = needed
        while whose is _several and n_users[head] == 1 and head in user and head not in asked:
            head = user[head]
        own.setdefault(head if whose is _several else whose, []).append(nodes[needed])
    return {key: Task.fuse(*tasks, key=key) if len(tasks) > 1 else tasks[0] for key, tasks in own.items()}


def runs_of(keys: list[Any], n_slots: int, n_first: int) -> dict[Any, list[Any]]:
    """The `keys` in runs, each to be one task, by the names of these.

    A scheduler spends milliseconds on each task. So a run has up to 8 keys while there are many
    for each of `n_slots` tasks at a time, fewer towards the end, where all shall end together, and
    two at most in the `n_first` runs, which are soon made: all wait for them.
    The name of a run ends with its first and its last key.
    """
    runs: dict[Any, list[Any]] = {}
    rest, token = list(keys), f"run-{uuid4()}"
    while rest:
        longest = LONGEST_RUN if len(runs) >= n_first else _LONGEST_FIRST_RUN
        length = max(1, min(longest, len(rest) // (3 * n_slots)))
        runs[token, rest[0], rest[length - 1]], rest = rest[:length], rest[length:]
    return runs


def in_runs(graph: dict[Any, Any], runs: Mapping[Any, list[Any]]) -> dict[Any, Any]:
    """`graph` with each of `runs` as one task, whose result is the list of those of its keys."""
    joined = dict(graph)
    for name, keys in runs.items():
        run = _Run(name, [joined.pop(key) for key in keys])
        joined[name] = Task(name, run, *map(TaskRef, run.shared))
    return joined


class _Run:
    """Calls tasks one after the other, with the results of the tasks that they share."""

    def __init__(self, name: tuple[Any, ...], tasks: list[Any]) -> None:
        self._name, self._tasks = name, tasks
        self.shared = sorted({needed for task in tasks for needed in task.dependencies}, key=str)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self._name  # the only one of that name: to hash its tasks takes longer than to send them

    def __call__(self, *values: object) -> list[Any]:
        given = dict(zip(self.shared, values, strict=True))
        return [task(given) for task in self._tasks]


def run_tasks(calls: list[tuple[Any, ...]], n_threads: int | None = None) -> list[Any]:
    """Results of `calls` (function, argument, …) in their order, on `n_threads` of this process (None: one a core).

    The steps of a fit are too short for ``dask.compute``, which spends a millisecond on each.
    """
    keys = [f"task-{uuid4()}" for _ in calls]
    # The configuration, not the active scheduler: inside a task of a cluster that is the cluster again.
    in_turn = dask.config.get("scheduler", None) in {"sync", "synchronous", "single-threaded"}
    graph = dict(zip(keys, calls, strict=True))
    if in_turn or n_threads == 1:
        return list(dask.local.get_sync(graph, keys))
    return list(dask.threaded.get(graph, keys, num_workers=n_threads))


class _OneThread:
    """Holds BLAS at one thread while any task of this process is inside: the number is the process's own."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._limit: Any = None
        self._controller: ThreadpoolController | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._controller = self._controller or ThreadpoolController().select(user_api="blas")
                self._release()
                self._limit = self._controller.limit(limits=1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._release()
                self._limit.restore_original_limits()
                self._release()

    def _release(self) -> None:
        """Let the calling thread set the number: from threadpoolctl 3.8 on, all but the first to do so are ignored."""
        for library in self._controller.lib_controllers if self._controller else ():
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)


_one_thread = _OneThread()


def one_blas_thread() -> AbstractContextManager[None]:
    """One BLAS thread while a task runs: the tasks are what runs in parallel, and bits do not depend on the cores."""
    return _one_thread
