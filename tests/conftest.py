"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from buckets import bucket, quick_s3
from counted import pytest_terminal_summary, show_table
from s3_server import s3

__all__ = ["bucket", "data_dir", "pytest_terminal_summary", "quick_s3", "s3", "show_table"]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data, named by SPECUFEX_DASK_DATA; outside CI their absence skips the test."""
    named = os.environ.get("SPECUFEX_DASK_DATA", "")
    if named and Path(named).is_dir():
        return Path(named)
    reason = f"real data not found: SPECUFEX_DASK_DATA is {named!r}, expected a folder that holds gorner2007"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
