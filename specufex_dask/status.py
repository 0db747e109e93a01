"""What a store holds, what is being written to it, and what saving again would do next."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from specufex_dask import places, runs, shards, stored
from specufex_dask.plurals import counted
from specufex_dask.schema import QUALITY, SCHEMAS
from specufex_dask.store_groups import stage_paths
from specufex_dask.url_stores import zarr_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from specufex_dask.places import Location, Place, Remote

_FLOW = list(SCHEMAS)
_REFUSED = {"torn", "outdated"}
_COLUMNS = ("stage", "records", "shards", "left", "records/s", "state")


@dataclass(frozen=True)
class Fit:
    """How far a fit that is not in the store yet has come, as its checkpoint says."""

    step: int
    max_steps: int
    score: float
    """Held-out score."""
    size: int
    """Patterns or states alive."""
    seconds: float

    @property
    def reached(self) -> str:
        """The step, and how many there may be."""
        return f"step {self.step:,} of {self.max_steps:,}"

    @property
    def told(self) -> str:
        """All of it in a line."""
        return f"{self.reached}, held-out score {self.score:.4f}, size {self.size}, {_duration(self.seconds)}"


@dataclass(frozen=True)
class StageStatus:
    """One stage of a store, at `path`; shards and records are counted where it has the dimension `record`."""

    path: str
    state: str
    """``whole``, ``being written``, ``broken off`` or ``failed``; ``fit`` of a model with a checkpoint alone;
    ``torn`` of one whose files cannot be read, ``outdated`` of one in the layout of another version."""
    shards: int = 0
    records: int = 0
    shards_left: int = 0
    records_left: int = 0
    flagged: dict[str, int] = field(default_factory=dict)
    """Records written that are not usable, by reason."""
    rate: float | None = None
    """Records a second of the last save, or of the one at work."""
    error: str = ""
    fit: Fit | None = None

    @property
    def todo(self) -> str:
        """What saving this stage again would do; empty if it is whole."""
        group, _, stage = self.path.rpartition("/")
        if self.state in _REFUSED:
            return self.error
        if self.fit:
            return f"fit_{stage}{f' of {group}' if group else ''} continues at {self.fit.reached}"
        if self.shards_left:
            left = f"{counted(self.shards_left, 'shard')} of {self.path} ({counted(self.records_left, 'record')})"
            if not self.rate:
                return left
            return f"{left}, about {_duration(self.records_left / self.rate)} at {self.rate:,.0f} records a second"
        return "" if self.state == "whole" else f"{self.path} from its beginning"

    def cells(self) -> tuple[str, ...]:
        """The stage as a line of the table."""
        flagged = ", ".join(f"{n:,} {reason}" for reason, n in self.flagged.items())
        error = "" if self.state in _REFUSED else self.error  # whose error is all that there is to do
        told = [self.state, error, self.fit.told if self.fit else "", f"flagged: {flagged}" if flagged else ""]
        counts = [f"{n:,}" for n in (self.records, self.shards, self.shards_left)] if self.records else [""] * 3
        return (self.path, *counts, f"{self.rate:,.0f}" if self.rate else "", "; ".join(text for text in told if text))


@dataclass(frozen=True)
class Status:
    """The stages of a store in the order of the data flow, and who is writing to it."""

    store: str
    holder: runs.Holder | None
    stages: list[StageStatus]

    @property
    def next(self) -> str:
        """What would happen next if what was begun were saved again."""
        waiting = [stage.todo for stage in self.stages if stage.todo]
        if not waiting:
            return "nothing; all stages are whole" if self.stages else "nothing; no stage was begun"
        return waiting[0] + (f"; then {len(waiting) - 1} more" if len(waiting) > 1 else "")

    def __str__(self) -> str:
        held = f"{self.holder}: {self.holder.command}" if self.holder else "nobody is writing"
        rows = [_COLUMNS, *(stage.cells() for stage in self.stages)] if self.stages else []
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(_padded(row, widths)).rstrip() for row in rows]
        return "\n".join([f"{self.store}: {held}", *lines, f"next: {self.next}"])


def status(
    store: str | Path | Remote, *, group: str | None = None, storage_options: Mapping[str, Any] | None = None
) -> Status:
    """Say of each stage of `store` what is written, left, flagged and failed, and at what rate it went.

    It reads metadata, `quality` and the log beside the store, and may do so while a run is writing.

    Parameters
    ----------
    store
        Path of the Zarr store, or its URL.
    group
        Only the stages in this group, such as a station_id; None is all of them.
    storage_options
        What fsspec opens a URL with; without them its own configuration holds.

    Raises
    ------
    ValueError
        If there is neither a store nor anything that a run began.

    Examples
    --------
    >>> import tempfile, numpy as np, specufex_dask as sx
    >>> levels = np.random.default_rng(0).gamma(1.0, 5.0, (40, 12, 20))
    >>> spectrograms = sx.spectrogram_dataset(levels, frequency=np.arange(12.0), time=np.arange(20.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = sx.save(spectrograms.chunk(record=8), folder + "/study.zarr")
    ...     found = status(folder + "/study.zarr")
    >>> found.stages[0].records, found.stages[0].shards, found.next
    (40, 5, 'nothing; all stages are whole')
    """
    store = places.at(store, storage_options)
    holder, log = runs.holder(store), runs.log(store)
    checkpoints, written = _checkpoints(store), stage_paths(store)
    last = {entry["stage"]: entry["event"] for entry in log}
    found = checkpoints.keys() | {path for path, event in last.items() if event != "finished"}
    if written is None and not (holder or found):
        msg = f"got {store}, where there is no Zarr store, expected one that a run wrote: check the path."
        raise ValueError(msg)
    found |= set(written or ())
    paths = sorted((path for path in found if group is None or path.startswith(f"{group}/")), key=_order)
    each = [_stage(store, path, log, checkpoints.get(path), holder) for path in paths]
    return Status(str(store), holder, each)


def _stage(
    store: Location, path: str, log: list[dict[str, Any]], fit: Fit | None, holder: runs.Holder | None
) -> StageStatus:
    entries = [entry for entry in log if entry["stage"] == path]
    try:
        held = shards.attributes(store, path)
        outdated = shards.outdated(store, path, held) if held else ""
        if outdated:
            return StageStatus(path, "outdated", error=outdated)
        return _described(store, path, held, entries, fit=fit, holder=holder)
    except OSError as error:
        return StageStatus(path, "torn", error=str(error))


def _described(
    store: Location,
    path: str,
    held: dict[str, Any] | None,
    entries: list[dict[str, Any]],
    *,
    fit: Fit | None,
    holder: runs.Holder | None,
) -> StageStatus:
    last = entries[-1] if entries else {}
    quality = None if held is None else _quality(store, path, held)
    records = 0 if quality is None else len(quality)
    sizes = shards.sizes(records, held or {})
    lacking = shards.missing(store, path, held) if held else []
    if held is not None and not lacking:
        state, fit = "whole", None  # a checkpoint that its run had no time to remove
    elif holder and last.get("event") in {"started", "progress"} and last["pid"] == holder.pid:
        state = "being written"
    elif last.get("event") == "failed":
        state = "failed"
    else:
        state = "broken off" if entries or held is not None else "fit"
    return StageStatus(
        path, state, len(sizes), records, len(lacking), sum(sizes[i] for i in lacking),
        _flagged(quality, sizes, lacking), _rate(entries), last["error"] if state == "failed" else "", fit,
    )  # fmt: skip


def _order(path: str) -> tuple[str, int]:
    group, _, stage = path.rpartition("/")
    return group, _FLOW.index(stage) if stage in _FLOW else len(_FLOW)


def _quality(store: Location, path: str, held: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[Any]] | None:
    """`quality` of a stage, of any value where it is not written; None for a stage without it."""
    if not any(variable.name == "quality" for variable in SCHEMAS[path.rpartition("/")[2]].variables):
        return None
    with stored.readable(f"{store}/{path}"):
        quality = zarr.open_array(zarr_store(store), path=f"{path}/quality", mode="r", zarr_format=3)
    return stored.values(f"{store}/{path}", quality, held.get("records_per_task"))


def _flagged(quality: np.ndarray[Any, np.dtype[Any]] | None, sizes: list[int], lacking: list[int]) -> dict[str, int]:
    """Records written that are not usable, by reason."""
    if quality is None:
        return {}
    written = np.ones(len(sizes), dtype=bool)
    written[lacking] = False
    flags, counts = np.unique(quality[np.repeat(written, sizes)], return_counts=True)
    return {QUALITY[flag]: int(n) for flag, n in zip(flags, counts, strict=True) if flag}


def _rate(entries: list[dict[str, Any]]) -> float | None:
    """Records a second of the last save, as far as it is logged."""
    counted = [entry for entry in entries if "records_done" in entry]  # a save may fail before it counts
    starts = [entry for entry in counted if entry["event"] == "started"]
    if not starts:
        return None
    start, last = starts[-1], counted[-1]
    seconds, n_records = last["seconds"] - start["seconds"], last["records_done"] - start["records_done"]
    return n_records / seconds if seconds > 0 and n_records else None


def _checkpoints(store: Location) -> dict[str, Fit]:
    """How far each fit with a checkpoint has come, by the path of its stage."""
    folder = runs.folder(store)
    stems = [name.removesuffix(".npz") for name in places.names(folder) if name.endswith(".npz")]
    found = {stem: _fit(folder / f"{stem}.npz") for stem in stems if stem.rpartition("/")[2] in SCHEMAS}
    return {path: fit for path, fit in found.items() if fit is not None}


def _fit(place: Place) -> Fit | None:
    """What the checkpoint at `place` says; None if it cannot be read, so that nothing can go on from it."""
    try:
        with np.load(BytesIO(places.read(place)), allow_pickle=False) as checkpoint:
            about: Mapping[str, Any] = json.loads(checkpoint["about"].tobytes())
        return Fit(*(about[name] for name in ("step", "max_steps", "score", "size", "seconds")))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _duration(seconds: float) -> str:
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _padded(row: tuple[str, ...], widths: list[int]) -> list[str]:
    """Cells of text at the left, of numbers at the right."""
    numbers = range(1, len(row) - 1)
    return [
        cell.rjust(width) if i in numbers else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
