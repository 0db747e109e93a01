"""Read a table of text into typed columns; say which line, which column and what to do when it cannot be."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.tables import texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from specufex_dask.fetching import File

Array = np.ndarray[Any, Any]
NO_COLUMNS = "got columns= for something other than a CSV file, expected none: leave columns out."
"""What to say when names of columns come with a file that has none."""

_N_SHOWN = 3
_SECONDS_IN_MINUTE = 60


@dataclass(frozen=True)
class Column:
    """One column: its name, what it holds (``text``, ``number`` or ``time``), and whether a cell may be empty."""

    name: str
    holds: str = "text"
    may_be_empty: bool = False


@dataclass(frozen=True)
class CsvFile:
    """The cells of a file, as text, by the names that the package uses; None for a column that is not there."""

    path: str
    cells: Mapping[str, list[str]]
    lines: list[int]

    def get(self, column: Column) -> Array | None:
        """The typed values of `column` (row,), or None if the file lacks it."""
        if column.name not in self.cells:
            return None
        values = self.cells[column.name]
        if not column.may_be_empty:
            self._check(column, [not value for value in values], "expected a value in every line: fill it in.")
        if column.holds == "text":
            return texts(values)
        return self._times(column, values) if column.holds == "time" else self._numbers(column, values)

    def need(self, column: Column, columns: Mapping[str, str | None]) -> Array:
        """The typed values of `column`; NaN throughout if the user said that there is none; else an error."""
        values = self.get(column)
        if values is not None:
            return values
        if column.may_be_empty and columns.get(column.name, "") is None:
            return np.full(len(self.lines), np.nan)
        without = f", or columns={{{column.name!r}: None}} if there is none" if column.may_be_empty else ""
        msg = (
            f"got {self.path} with the columns {list(self.cells)}, expected {column.name!r} among them: "
            f"name the column with columns={{{column.name!r}: 'name in the file'}}{without}."
        )
        raise ValueError(msg)

    def _numbers(self, column: Column, values: list[str]) -> Array:
        import pandas as pd

        filled = [value or "nan" for value in values]
        numbers = np.asarray(pd.to_numeric(np.array(filled, dtype=object), errors="coerce"), dtype=np.float64)
        wrong = [bool(bad) and text.lower() != "nan" for bad, text in zip(np.isnan(numbers), filled, strict=True)]
        self._check(column, wrong, "expected a number: correct it, or leave the cell empty.")
        return numbers

    def _times(self, column: Column, values: list[str]) -> Array:
        import pandas as pd

        parsed = pd.DatetimeIndex(pd.to_datetime(values, format="ISO8601", utc=True, errors="coerce")).tz_localize(None)
        hint = "expected an ISO 8601 time in UTC such as 2007-06-14T09:30:58.886, from 1678 to 2261: convert it."
        outside = (parsed < pd.Timestamp("1678-01-01")) | (parsed > pd.Timestamp("2262-01-01"))
        self._check(column, (parsed.isna() | outside).tolist(), hint)
        return np.asarray(parsed, dtype="datetime64[ns]")

    def _check(self, column: Column, wrong: Sequence[bool], hint: str) -> None:
        places = [i for i, bad in enumerate(wrong) if bad]
        if places:
            values = self.cells[column.name]
            shown = ", ".join(f"{values[i]!r} in line {self.lines[i]}" for i in places[:_N_SHOWN])
            more = f" and {len(places) - _N_SHOWN} more" if len(places) > _N_SHOWN else ""
            msg = f"got {column.name} {shown}{more} of {self.path}, {hint}"
            raise ValueError(msg)


def read_csv(
    file: File, known: Sequence[str], columns: Mapping[str, str | None], *, encoding: str = "utf-8-sig"
) -> CsvFile:
    """Read a CSV file with one header line; `columns` maps names of the package to names in the file."""
    if unknown := sorted(set(columns) - set(known)):
        msg = f"got columns with the keys {unknown}, expected some of {list(known)}: map our name to the file's name."
        raise ValueError(msg)
    header, rows, lines = _rows(file, encoding)
    named = {name: theirs for name, theirs in columns.items() if theirs is not None}
    if absent := sorted(set(named.values()) - set(header)):
        msg = (
            f"got columns that name {absent}, expected some of the columns of {file.name}, {header}: correct the names."
        )
        raise ValueError(msg)
    taken = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(header, ())
    cells = {name: list(values) for name, values in taken.items() if name not in columns}
    cells.update({name: list(taken[theirs]) for name, theirs in named.items()})
    return CsvFile(file.name, cells, lines)


def csv_header(file: File) -> list[str]:
    """The names of the columns of a CSV file, in whatever encoding."""
    first = file.content.split(b"\n", 1)[0].decode("latin-1").removeprefix("\u00ef\u00bb\u00bf")
    return [cell.strip() for cell in next(csv.reader([first]), [])]


def rolled(minute: str, seconds: str) -> str:
    """An ISO 8601 time from its minute and its seconds, which may be 60 and more, or below 0: they roll over.

    Text that is not a time comes back as it stands, for the reader of times to refuse.

    Examples
    --------
    >>> rolled("2019-12-31T23:59", "60.17"), rolled("2019-12-31T23:59", "8.5")
    ('2020-01-01T00:00:00.170000000', '2019-12-31T23:59:08.5')
    """
    whole, _, part = seconds.partition(".")
    if whole.isdigit() and int(whole) < _SECONDS_IN_MINUTE:
        return f"{minute}:{whole:0>2}" + (f".{part}" if part else "")
    try:
        added = float(seconds)
        if abs(added) > 2 * _SECONDS_IN_MINUTE:
            return f"{minute}:{seconds}"
        return str(np.datetime64(minute, "ns") + np.timedelta64(round(added * 1e9), "ns"))
    except ValueError:
        return f"{minute}:{seconds}"


def _rows(file: File, encoding: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Header, cells without surrounding blanks, and the line number of each row; blank lines are left out."""
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        reader = csv.reader(io.StringIO(file.content.decode(encoding), newline=""))
        header = [cell.strip() for cell in next(reader, [])]
        for row in reader:
            if not any(row):
                continue
            if len(row) != len(header):
                msg = (
                    f"got {len(row)} cells in line {reader.line_num} of {file.name}, expected {len(header)} as in its "
                    f"header: correct the line (a comma inside a cell needs quotes)."
                )
                raise ValueError(msg)
            rows.append([cell.strip() for cell in row])
            lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"got {file.name}, which is not CSV in UTF-8 ({error}), expected a table with a header line: convert it."
        raise ValueError(msg) from error
    return header, rows, lines
