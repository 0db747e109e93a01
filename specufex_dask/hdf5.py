"""Archives in HDF5, as SpecUFEx's tutorials and workflows write them: where a record's samples lie in a file.

Of two layouts, which the file itself tells:

- the tutorials': ``waveforms`` (event, sample) and ``event_ids`` (event,) of one channel, with
  ``otime``, ``lat``, ``lon``, ``depth`` (event,) in some;
- the workflows': a dataset (sample,) at ``waveforms/<station>/<channel>/<event_id>``, and the rate
  at ``<station>/processing_info/sampling_rate_Hz``.

No file says when a record begins, and the tutorials' do not say at what rate it was sampled.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import numpy as np

from specufex_dask.cutting import NOT_A_TIME
from specufex_dask.hdf5_files import read_hdf5, version
from specufex_dask.hdf5_texts import read_texts
from specufex_dask.kept import Kept
from specufex_dask.reading import Contents
from specufex_dask.segments import Segment, UnreadableFileError
from specufex_dask.tables import texts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from specufex_dask.anchors import Rows
    from specufex_dask.archive import PathTemplate
    from specufex_dask.objects import Objects

Result = TypeVar("Result")

Array = np.ndarray[Any, Any]
SUFFIXES = (".h5", ".hdf5", ".hdf")
"""Endings of the names of HDF5 files."""
LAYOUTS = "datasets 'waveforms' (event, sample) and 'event_ids' (event,), or waveforms/STATION/CHANNEL/EVENT_ID"

_BETWEEN = "::"
_EVENTS = {"origin_time": "otime", "latitude": "lat", "longitude": "lon", "depth": "depth"}
_MOST_COMPRESSED = 1100  # gzip comes to 1032
_N_SHOWN = 3
_ONE_CHANNEL = "files hold one channel each"
_Index = dict[str, list[int]]
_indices: Kept[_Index] = Kept(10_000_000, len)  # so many events


@dataclass(frozen=True)
class Hdf5Archive:
    """Files named by a template; `sampling_rate` [Hz] is that of files which do not tell theirs.

    `is_shared`: several channels have the same file, so one that does not tell them apart is of no use.
    """

    names: PathTemplate
    sampling_rate: float
    is_shared: bool = False

    @property
    def identity(self) -> str:
        """What a recipe says of the archive: the template, as it was given."""
        return self.names.identity

    def sources(self, event_id: str, station_id: str, times_ns: Iterable[int]) -> tuple[str, ...]:
        """The file of a record, and the event in it."""
        return (f"{self.names.sources(event_id, station_id, times_ns)[0]}{_BETWEEN}{event_id}",)

    def read(
        self,
        source: str,
        wanted: Collection[str],
        *,
        span_ns: tuple[int, int] | None,  # noqa: ARG002 - the parameters are those of PathTemplate
        header_only: bool = False,
    ) -> Contents:
        """The channels `wanted` of the event of `source`; errors are those of `hdf5_files.read_hdf5`."""
        path, _, event_id = source.rpartition(_BETWEEN)
        key = version(path, self.names.objects)

        def read(file: Any) -> Contents:  # noqa: ANN401 - h5py has no types
            segments: dict[str, list[Segment]] = {}
            damaged = set()
            if self.is_shared and _index(file, key, self.names.objects) is not None:
                raise ValueError(_ONE_CHANNEL)
            for name in wanted:
                found = _rows(file, key, self.names.objects, event_id, name, header_only=header_only)
                segments |= {name: [self._segment(file, name, found[0])]} if found else {}
                # One event may be there twice, with the same samples; with others nobody knows which are its own.
                damaged |= {name} if any(not np.array_equal(found[0], other) for other in found[1:]) else set()
            return Contents(segments, frozenset(damaged))

        return read_hdf5(path, read, self.names.objects)

    def check(self) -> None:
        """Raise unless the folder, or the one file, is there and may be read."""
        if self.names.fields:
            self.names.check()
        else:
            self._probe(self.names.text)

    def checked(self, rows: Rows, *, by_time: bool) -> Hdf5Archive:
        """The archive of the records of `rows`; ``ValueError`` where they cannot be had from these files.

        `by_time`: a record is to be cut at a time, which no file tells.
        """
        if by_time:
            msg = (
                f"got a window that hangs on a time, with archive={self.identity!r}, expected whole records or parts "
                f"of them, as its files do not say when a record begins: pass window=None, or anchor='file_start'."
            )
            raise ValueError(msg)
        files = {
            name: self.names.sources(rows.event_id[0], name, rows.origin_ns[:1].tolist())[0]
            for name in dict.fromkeys(rows.station_id.tolist())
        }
        known = next((index for path in files.values() if (index := self._probe_quietly(path)) is not None), None)
        is_shared = len(set(files.values())) < len(files)
        if is_shared and known is not None:
            msg = (
                f"got {len(files)} channels ({', '.join([*files][:_N_SHOWN])} …) for archive={self.identity!r}, whose "
                f"{_ONE_CHANNEL}, expected one channel a file: pass station_id= with the one that it "
                f"is of, or a template with {{station}} and {{channel}}."
            )
            raise ValueError(msg)
        if known is not None and "event_id" not in self.names.fields and not known.keys() & set(rows.event_id.tolist()):
            msg = (
                f"got archive={self.identity!r} with events such as {[*known][:_N_SHOWN]}, none of which is in the "
                f"catalogue ({rows.event_id[:_N_SHOWN].tolist()} …), expected the same event_id in both: use the "
                f"catalogue that the file was made with, and keep leading zeros."
            )
            raise ValueError(msg)
        return replace(self, is_shared=is_shared)

    def _probe_quietly(self, path: str) -> _Index | None:
        try:
            return self._probe(path)
        except (FileNotFoundError, ValueError):
            return None

    def _probe(self, path: str) -> _Index | None:
        """The events of the file `path`, None if each channel has its own; errors are those of `_explained`."""
        objects = self.names.objects
        return _explained(path, lambda file: _index(file, version(path, objects), objects), objects)

    def _segment(self, file: Any, station_id: str, samples: Array) -> Segment:  # noqa: ANN401 - h5py has no types
        stated = file.get(f"{station_id.split('.')[1]}/processing_info/sampling_rate_Hz")
        rate = self.sampling_rate if stated is None else float(stated[()])
        return Segment(NOT_A_TIME, rate, samples.size, samples)


def is_hdf5(path: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether the name `path` is that of HDF5 files."""
    return isinstance(path, (str, os.PathLike)) and os.fspath(path).lower().endswith(SUFFIXES)


def read_events(path: str, objects: Objects) -> dict[str, Array]:
    """The columns of stage ``catalog`` in a file of the tutorials; an event that is there twice, once.

    Raises
    ------
    FileNotFoundError, PermissionError, ConnectionError
        No such file, it may not be read, or nobody answers.
    ValueError
        It cannot be read, or does not say where and when its events were.
    """

    def read(file: Any) -> dict[str, Array]:  # noqa: ANN401 - h5py has no types
        if lacking := [name for name in ("event_ids", *_EVENTS.values()) if name not in file]:
            msg = f"it has no {', '.join(lacking)}"
            raise ValueError(msg)
        key = version(path, objects)
        index = _index(file, key, objects) or {}
        rows = [each[0] for each in index.values()]
        times = np.array(read_texts(file["otime"], key, objects), "datetime64[ns]")[rows]
        columns = {name: file[theirs][()][rows] for name, theirs in _EVENTS.items() if name != "origin_time"}
        magnitude = file["magnitude"][()][rows] if "magnitude" in file else np.full(len(rows), np.nan)
        return {**columns, "event_id": texts([*index]), "origin_time": times, "magnitude": magnitude}

    return _explained(path, read, objects)


def _explained(path: str, read: Callable[[Any], Result], objects: Objects) -> Result:
    """What `read` makes of the file `path`; ``ValueError`` if it cannot be used, ``FileNotFoundError`` without one."""
    try:
        return read_hdf5(path, read, objects)
    except FileNotFoundError:
        msg = f"got {path!r}, where there is no file, expected one: correct the path."
        raise FileNotFoundError(msg) from None
    except UnreadableFileError as error:
        reason = error if error.__cause__ is None else error.__cause__
        msg = (
            f"got {path!r}, which cannot be read as HDF5 of SpecUFEx ({reason}), expected a file with {LAYOUTS}, and "
            f"for a catalogue with {', '.join(_EVENTS.values())}: correct the path, or make the file again."
        )
        raise ValueError(msg) from error


def _index(file: Any, key: tuple[Any, ...], objects: Objects) -> _Index | None:  # noqa: ANN401 - h5py has no types
    """The rows of each event in a file of the tutorials; None for one of the workflows."""
    kept = _indices.get(key)
    if kept is not None:
        return kept
    waveforms = file["waveforms"]
    if not hasattr(waveforms, "shape"):
        return None
    _check_length(file["event_ids"], file["event_ids"].shape, key)
    ids = read_texts(file["event_ids"], key, objects)
    if waveforms.ndim != 2 or len(waveforms) != len(ids) or waveforms.dtype.kind not in "iuf":  # noqa: PLR2004
        msg = f"waveforms {waveforms.shape} of the dtype {waveforms.dtype} do not fit {len(ids)} event_ids"
        raise ValueError(msg)
    _check_length(waveforms, waveforms.shape[1:], key)
    index: _Index = {}
    for row, each in enumerate(ids):
        index.setdefault(each, []).append(row)
    return _indices.put(key, index)


def _rows(
    file: Any,  # noqa: ANN401 - h5py has no types
    key: tuple[Any, ...],
    objects: Objects,
    event_id: str,
    station_id: str,
    *,
    header_only: bool,
) -> list[Array]:
    """The samples (sample,) of a record, as often as they are there."""
    index = _index(file, key, objects)
    waveforms = file["waveforms"]
    if index is not None:
        rows = index.get(event_id, [])
        return [np.broadcast_to(np.zeros(1), waveforms.shape[1:]) if header_only else waveforms[row] for row in rows]
    _, station, _, channel = station_id.split(".")
    found = waveforms.get(f"{station}/{channel}/{event_id}")
    if found is None:
        return []
    if found.ndim != 1 or found.dtype.kind not in "iuf":
        msg = f"{found.name} has the shape {found.shape} and the dtype {found.dtype}"
        raise ValueError(msg)
    _check_length(found, found.shape, key)
    return [np.broadcast_to(np.zeros(1), found.shape) if header_only else found[()]]


def _check_length(dataset: Any, shape: tuple[int, ...], key: tuple[Any, ...]) -> None:  # noqa: ANN401 - h5py has no types
    """Raise ``ValueError`` where `dataset` says that it holds more than can lie in its file, however compressed."""
    n_bytes = math.prod(shape) * dataset.dtype.itemsize
    if n_bytes > _MOST_COMPRESSED * key[-1]:
        msg = f"{dataset.name} of {n_bytes} bytes in a file of {key[-1]}"
        raise ValueError(msg)
