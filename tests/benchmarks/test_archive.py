"""Windows of a day file against ObsPy: through a network like that of a cloud's region, and from the disk."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from distant_proxy import distant_proxy
from replica import channel_day

from specufex_dask import objects
from specufex_dask.continuous import read_windows
from specufex_dask.objects import Objects
from specufex_dask.reading import load_obspy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.conftest import Figures
    from distant_proxy import DistantProxy
    from s3_server import Server

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = pytest.mark.benchmark

STATION, DAY, RATE = "XX.R001..HHZ", "2024-01-01", 100.0
KEY = "benchmark/XXR001_HHZ___2024001.ms"
LATENCY_SECONDS, BANDWIDTH = 0.030, 85e6
WINDOW_SECONDS = 20
ROUNDS = 5


@pytest.fixture(scope="module")
def day() -> bytes:
    return channel_day(STATION, DAY, 0, sampling_rate=RATE)


@pytest.fixture(scope="module")
def network(s3: Server, day: bytes) -> Iterator[DistantProxy]:
    s3.put({KEY: day}, "scedc-pds")
    with distant_proxy(s3.endpoint) as proxy:
        proxy.limit(latency=LATENCY_SECONDS, bandwidth=BANDWIDTH)
        yield proxy


def _windows(n_windows: int) -> Array:
    start = int(np.datetime64(DAY, "ns").astype(np.int64))
    seconds = np.sort(np.random.default_rng(n_windows).uniform(60, 86_300, n_windows))
    first = start + np.rint(seconds * 1e9).astype(np.int64)
    return np.column_stack([first, first + WINDOW_SECONDS * 10**9])


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _compared(theirs: Callable[[], object], ours: Callable[[], object]) -> tuple[float, float]:
    """Best time of each, in turn, after one call of each that is not counted."""
    theirs()
    ours()
    pairs = [(_seconds(theirs), _seconds(ours)) for _ in range(ROUNDS)]
    best: tuple[float, float] = tuple(np.min(pairs, axis=0).tolist())
    return best


@pytest.mark.parametrize(("n_windows", "at_least"), [(1, 3.0), (200, 2.5), (2000, 2.5)])
def test_windows_of_a_day_from_a_bucket(
    s3: Server, network: DistantProxy, figures: Figures, n_windows: int, at_least: float
) -> None:
    options = s3.storage_options("anonymous", endpoint=network.endpoint)
    url, windows, names = f"s3://scedc-pds/{KEY}", _windows(n_windows), [STATION] * n_windows
    files = s3.filesystem("anonymous", endpoint=network.endpoint)
    obspy = load_obspy()

    def theirs() -> None:
        with files.open(f"scedc-pds/{KEY}") as file:
            (trace,) = obspy.read(file)
        for first, last in windows.tolist():
            trace.slice(obspy.UTCDateTime(ns=first), obspy.UTCDateTime(ns=last))

    def ours() -> None:
        objects._listings.clear()  # it counts: a run makes one for each folder
        stretches = read_windows(Objects(options), url, names, windows, in_order=True)
        assert all(stretch.segments and not stretch.damaged for stretch in stretches)

    slow, fast = _compared(theirs, ours)
    network.reset()
    ours()
    moved = sum(network.bytes_sent.values())
    what, detail = f"{n_windows} windows of a day at 100 Hz from S3", f"{1e3 * slow:.0f} ms / {1e3 * fast:.0f} ms"
    figures.add(f"{what}: obspy.read / ours", slow / fast, "{:.1f} ×", at_least=at_least, detail=detail)
    if n_windows == 1:
        size = len(channel_day(STATION, DAY, 0, sampling_rate=RATE))
        n_requests = sum(network.requests.values())
        figures.add(
            f"{what}: bytes moved / bytes of the object", moved / size, "{:.1%}", at_most=0.02,
            detail=f"{moved / 1e3:.0f} kB in {n_requests} requests",
        )  # fmt: skip
    assert not figures.missed


def test_windows_of_a_day_from_the_disk(tmp_path: Path, day: bytes, figures: Figures) -> None:
    path, windows = tmp_path / "day.ms", _windows(200)
    path.write_bytes(day)
    obspy = load_obspy()
    slow, fast = _compared(
        lambda: obspy.read(str(path)),
        lambda: read_windows(Objects(), str(path), [STATION] * len(windows), windows, in_order=True),
    )
    figures.add(
        "200 windows of a day from the disk: obspy.read of the file / ours", slow / fast, "{:.1f} ×", at_least=5.0,
        detail=f"{1e3 * slow:.0f} ms / {1e3 * fast:.0f} ms",
    )  # fmt: skip
    assert not figures.missed
