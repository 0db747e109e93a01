"""Windows of many channel-days in a bucket: memory of the workers, requests, and speed against a download.

100,000 windows of 500 channel-days for memory and requests: scaled, as the days are sampled at
20 Hz, so that an object has 3 MB and not 14. For the speed, 20,000 windows of 100 days at 100 Hz, of
full size. All else is as it would be: each object has its own key, codes, times and samples, and
of each 200 windows of 20 s are read.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from distant_proxy import distant_proxy
from processes import cluster
from replica import FIRST_DAY, channel_day
from test_record_rows import catalog_of, stations_of

import specufex_dask as sx
from specufex_dask.simulated_layouts import key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import xarray as xr
    from benchmarks.conftest import Figures
    from distant_proxy import DistantProxy
    from s3_server import Server

Array = np.ndarray[Any, np.dtype[Any]]

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

BUCKET = "scedc-pds"
EVENTS_PER_DAY, WINDOW_SECONDS = 200, 20
LATENCY_SECONDS, BANDWIDTH = 0.030, 85e6
N_WORKERS, N_THREADS = 2, 4
ROUNDS = 3
STATIONS = [f"XX.R{i + 1:03d}..HHZ" for i in range(5)]


@dataclass(frozen=True)
class Days:
    """Channel-days in the bucket behind a network like that of a cloud's region, and all windows of them."""

    keys: list[str]
    options: dict[str, Any]
    network: DistantProxy
    waveforms: xr.Dataset


@pytest.fixture
def network(s3: Server) -> Iterator[DistantProxy]:
    with distant_proxy(s3.endpoint, checksums=False) as proxy:
        proxy.limit(latency=LATENCY_SECONDS, bandwidth=BANDWIDTH)
        yield proxy
    s3.clear(BUCKET)


def _days(s3: Server, network: DistantProxy, n_days: int, sampling_rate: float) -> Days:
    files = s3.filesystem("admin")
    days = [np.datetime64(FIRST_DAY) + i for i in range(n_days)]
    keys = []
    for day in days:
        keys += [key("scedc", int(day.astype("datetime64[ns]").astype(np.int64)), station_id=name) for name in STATIONS]
        contents = [channel_day(station, str(day), 0, sampling_rate=sampling_rate) for station in STATIONS]
        files.pipe({f"{BUCKET}/{k}": each for k, each in zip(keys[-len(STATIONS) :], contents, strict=True)})
    options = s3.storage_options("anonymous", endpoint=network.endpoint)
    waveforms = sx.open_waveforms(
        catalog_of(_times(days)), stations_of(STATIONS), archive="scedc", root=f"s3://{BUCKET}",
        storage_options=options, window=(0.0, WINDOW_SECONDS), sampling_rate=sampling_rate,
    )  # fmt: skip
    assert waveforms.sizes["record"] == len(keys) * EVENTS_PER_DAY
    return Days(keys, options, network, waveforms)


def _times(days: list[np.datetime64]) -> Array:
    """Times that are drawn; some windows cross midnight, but for that into the first day and out of the last."""
    seconds = np.random.default_rng(0).uniform(0, 86_400, (len(days), EVENTS_PER_DAY))
    seconds[0] = seconds[0].clip(60)
    seconds[-1] = seconds[-1].clip(None, 86_300)
    since = np.rint(np.sort(seconds, axis=1) * 1e9).astype("timedelta64[ns]")
    times: Array = (np.array(days)[:, None].astype("datetime64[ns]") + since).ravel()
    return times


def test_memory_and_requests_of_a_hundred_thousand_windows(
    s3: Server, network: DistantProxy, tmp_path: Path, figures: Figures
) -> None:
    days = _days(s3, network, 100, 20.0)
    network.reset()
    with cluster(N_WORKERS, threads_per_worker=N_THREADS) as client:
        seconds = _seconds(lambda: sx.save(days.waveforms, tmp_path / "s.zarr"))
        peaks = client.run(_peak_gib)
    what, detail = "100,000 windows of 500 channel-days", f"saved in {seconds:.0f} s, {N_THREADS} tasks at a time"
    figures.add(f"{what}: largest memory of a worker, GiB", max(peaks.values()), at_most=1.0, detail=detail)
    log = network.log
    reads = [request for request in log if request.reads_object]
    assert {request.path for request in reads} == {f"/{BUCKET}/{name}" for name in days.keys}
    ranges = {(request.path, request.range) for request in reads}
    detail = f"{len(log):,} for {len(days.keys)} objects and {len(ranges):,} ranges; {len(log) - len(reads)} are lists"
    figures.add(f"{what}: requests / (objects + ranges)", len(log) / (len(days.keys) + len(ranges)), at_most=1.3,
                detail=detail)  # fmt: skip
    table = sx.quality_table(tmp_path / "s.zarr")
    assert len(table) == 100_000
    assert (table.quality == "usable").all()
    sent = sum(size for (_, path), size in network.bytes_sent.items() if path.endswith(".ms"))
    # A block is read again where a worker has let it go that another still needs: its last reading is told of.
    assert 0.99 * sent <= table.n_bytes.sum() <= sent
    assert not figures.missed


def test_speed_against_a_download(s3: Server, network: DistantProxy, figures: Figures) -> None:
    days = _days(s3, network, 20, 100.0)
    with cluster(N_WORKERS, threads_per_worker=N_THREADS) as client:
        client.wait_for_workers(N_WORKERS)

        def plainly() -> None:
            parts = [days.keys[i::N_WORKERS] for i in range(N_WORKERS)]
            assert sum(client.gather(client.map(_downloaded, [days.options] * N_WORKERS, parts, pure=False))) > 1e9

        def ours() -> None:
            assert (days.waveforms["quality"].drop_vars("start_time").compute() == 0).all()

        pairs = [(_seconds(plainly), _seconds(ours)) for _ in range(ROUNDS)]
    download, read = np.min(pairs, axis=0).tolist()
    figures.add(
        "20,000 windows of 100 channel-days of 14 MB: time of a download / ours", download / read, "{:.0%}",
        at_least=0.70, detail=f"{download:.1f} s / {read:.1f} s, best of {ROUNDS}",
    )  # fmt: skip
    assert not figures.missed


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _downloaded(options: dict[str, Any], keys: list[str]) -> int:
    """Fetch objects whole, 16 at a time, as plainly as s3fs does it; how many bytes came."""
    import s3fs

    files = s3fs.S3FileSystem(**options, use_listings_cache=False)

    def fetch(name: str) -> int:
        return len(files.cat_file(f"{BUCKET}/{name}", max_concurrency=1))

    with ThreadPoolExecutor(16) as pool:
        return sum(pool.map(fetch, keys))


def _peak_gib() -> float:
    """The largest memory of this process so far [GiB]."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
