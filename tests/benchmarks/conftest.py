"""A table of figures, one line each, printed at the end of the benchmarks and written to a file."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import specufex_dask

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGES = ("numpy", "scipy", "numba", "dask", "xarray", "zarr", "scikit-learn", "obspy")
_COLUMNS = ("what", "measured", "required", "in detail")
_Row = tuple[str, str, str, str]
_rows = pytest.StashKey[list[_Row]]()


@dataclass
class Figures:
    """The figures of one test: each line says what, what was measured and what is required."""

    rows: list[_Row] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def add(
        self,
        what: str,
        measured: float,
        shown: str = "{:.2f}",
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        detail: str = "",
    ) -> None:
        """Add a line; `shown` formats `measured` and its limit, `detail` ends the line."""
        sign, limit = ("≥", at_least) if at_least is not None else ("≤", at_most)
        required = "" if limit is None else f"{sign} {shown.format(limit)}"
        met = (at_least is None or measured >= at_least) and (at_most is None or measured <= at_most)
        self.rows.append((what, shown.format(measured), required if met else f"{required} MISSED", detail))
        if not met:
            self.missed.append(f"{what}: {shown.format(measured)}, required {required}")


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """Collects the figures of a test, which asserts ``not figures.missed`` at its end."""
    collected = Figures()
    yield collected
    request.config.stash.setdefault(_rows, []).extend(collected.rows)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, help="file for the table (default: .benchmarks/figures.txt)")


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_rows, [])
    if not rows:
        return
    table = "\n".join([*_head(), "", *_lines([_COLUMNS, *rows])])
    path = config.getoption("--figures", None) or config.rootpath / ".benchmarks" / "figures.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{table}\n", encoding="utf-8")
    terminalreporter.section("figures")
    terminalreporter.write_line(table)


def _head() -> list[str]:
    """The kind of machine and the versions, without the name of either a host or a path."""
    import cpuinfo

    processor = cpuinfo.get_cpu_info().get("brand_raw", platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    return [
        f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()}",
        f"specufex_dask {specufex_dask.__version__}, Python {platform.python_version()}, {packages}",
    ]


def _lines(rows: list[_Row]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
