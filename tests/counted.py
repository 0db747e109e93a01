"""Tables of counts that tests leave behind: printed at the end of the run, also when all is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Rows = Sequence[Sequence[object]]
_tables = pytest.StashKey[list[tuple[str, list[str]]]]()


@pytest.fixture
def show_table(request: pytest.FixtureRequest) -> Callable[[str, Rows], None]:
    """Takes a title and rows, of which the first has the names of the columns."""

    def show(title: str, rows: Rows) -> None:
        request.config.stash.setdefault(_tables, []).append((title, _lines(rows)))

    return show


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for title, lines in config.stash.get(_tables, []):
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(line)


def _lines(rows: Rows) -> list[str]:
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]
