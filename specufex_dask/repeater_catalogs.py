"""Bring in catalogues of repeating earthquakes: which event is in which sequence, as others have found it."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask.csv_tables import Column, csv_header, read_csv
from specufex_dask.fetching import fetch
from specufex_dask.plurals import counted
from specufex_dask.tables import texts

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from specufex_dask.fetching import File

Array = np.ndarray[Any, np.dtype[Any]]

_COLUMNS = ("event_id", "sequence")
_BLOCKS = ("YR", "MO", "DY", "HR", "MN", "SC")
_HEAD, _N_EVENTS, _NAME, _EVENT_ID = "#", 1, 14, 17
_CELLS = 18


def read_repeaters(
    source: str | os.PathLike[str] | Sequence[str],
    *,
    columns: Mapping[str, str | None] | None = None,
    none: str = "",
    storage_options: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    r"""Read which event is in which sequence of a catalogue of repeating earthquakes.

    Parameters
    ----------
    source : path, URL, pattern, or list of these
        As for `read_catalog`. Each is a CSV file with the columns ``event_id`` and ``sequence``; or
        the catalogue of Waldhauser & Schaff (2021) as they publish it, in which the line of a
        sequence, ``#`` with its number of events and its name, stands above those of its events.
    columns : dict, optional
        Names of the columns of a CSV file that differ, ours to theirs, such as
        ``{"event_id": "event_ID", "sequence": "RID"}``.
    none
        What a CSV file has for an event in no sequence, beside the empty cell, such as ``"0"``.
    storage_options : dict, optional
        Of fsspec, for URLs; not kept anywhere.

    Returns
    -------
    Dataset
        For `find_repeaters` as its reference: ``sequence`` (event,), the name of each event's
        sequence as it stands in the source, empty for none; coordinate ``event_id``.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        No such file or object, it may not be read, or its store fails.
    ValueError
        A column is missing, an event_id is empty or repeated, an event stands above the first sequence, or
        a sequence has another number of events than its line says.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "repeaters.csv"
    ...     _ = path.write_text("evid,family\n0017,R1\n0018,0\n0021,R1\n")
    ...     reference = read_repeaters(path, columns={"event_id": "evid", "sequence": "family"}, none="0")
    >>> reference.event_id.values.tolist(), reference.sequence.values.tolist()
    (['0017', '0018', '0021'], ['R1', '', 'R1'])
    """
    parts = [_rows(file, columns, none) for file in fetch(source, storage_options)]
    event_id, sequence = (np.concatenate(column) for column in zip(*parts, strict=True))
    names, counts = np.unique(event_id.astype(str), return_counts=True)
    if (counts > 1).any():
        msg = (
            f"got a catalogue of repeaters with the event {str(names[counts.argmax()])!r} {counts.max()} times, "
            f"expected each event once: remove all lines of it but one."
        )
        raise ValueError(msg)
    return xr.Dataset({"sequence": ("event", sequence)}, coords={"event_id": ("event", event_id)})


def _rows(file: File, columns: Mapping[str, str | None] | None, none: str) -> tuple[Array, Array]:
    """The event_id and the sequence of each event in `file`."""
    if columns is None and csv_header(file)[: len(_BLOCKS)] == list(_BLOCKS):
        return _blocks(file)
    table = read_csv(file, _COLUMNS, columns or {})
    event_id, sequence = (table.need(Column(name, may_be_empty=name == "sequence"), columns or {}) for name in _COLUMNS)
    return event_id, np.where(sequence == none, "", sequence).astype(object)


def _blocks(file: File) -> tuple[Array, Array]:
    """The events of the catalogue of Waldhauser & Schaff (2021), each with the name of the sequence above it."""
    event_id: list[str] = []
    sequence: list[str] = []
    name, left = "", 0
    lines = csv.reader(io.StringIO(file.content.decode("utf-8-sig")))
    next(lines)
    for cells in lines:
        head = cells[:1] == [_HEAD]
        if len(cells) != _CELLS or head == bool(left) or (head and not cells[_N_EVENTS].isdigit()):
            expected = f"{counted(left, 'more event')} of {name}" if left else "'#', a number of events, … and a name"
            msg = f"got {','.join(cells)!r} in line {lines.line_num} of {file.name}, expected {expected}: correct it."
            raise ValueError(msg)
        if head:
            name, left = cells[_NAME].strip(), int(cells[_N_EVENTS])
        else:
            left -= 1
            event_id.append(cells[_EVENT_ID].strip())
            sequence.append(name)
    if left:
        msg = f"got {file.name}, which ends in {name}, expected {counted(left, 'more event')} of it: get it again."
        raise ValueError(msg)
    return texts(event_id), texts(sequence)
