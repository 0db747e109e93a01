"""What a network can do to requests, how often, to which: no record is wrong unless it says so."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import s3fs
from archives import channels_table, events_table
from fault_proxy import Fault, fault_proxy, reads
from fault_rules import Kind, _chance
from replica import replica

import specufex_dask as sx
from specufex_dask import objects
from specufex_dask.schema import QUALITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import xarray as xr
    from fault_proxy import Proxy, Request
    from s3_server import Server

pytestmark = pytest.mark.slow
HASTY = {"retries": {"total_max_attempts": 1}, "connect_timeout": 5, "read_timeout": 0.5}
"""As patient as a test can be; how patient a run is, `test_archive_s3` holds against the limits of the package."""
SHARES = (0.01, 0.1, 1.0)
"""Of the requests; 1.0 is of those for one object."""
PASSING: tuple[Kind, ...] = ("500", "503", "error_body", "reset", "cut", "short", "delay", "stall")
"""What is made good by asking again, or by waiting."""
UNREADABLE = {"unreadable", "short", "gappy"}
"""The flags of records of an object to whose requests it happens, where they are not these:"""
STAYING: dict[Kind, set[str]] = {
    "404": {"missing", "short", "gappy"},
    "corrupt": UNREADABLE | {"wrong_sampling_rate"},  # a byte of a header may be the rate's
}


@dataclass
class Way:
    """A way to read an archive: its records without any fault, and the requests for them."""

    name: str
    open: Callable[[Proxy], xr.Dataset]
    whole: xr.Dataset
    requests: list[Request]

    @property
    def victim(self) -> str:
        """The key of one of the objects."""
        return sorted({request.path for request in self.requests})[1]


@pytest.fixture(scope="module")
def proxy(s3: Server) -> Iterator[Proxy]:
    with fault_proxy(s3.endpoint, checksums=False) as made:
        yield made


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_PATIENCE_SECONDS", 20.0)
    monkeypatch.setattr(objects, "_LONGEST_PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)


@pytest.fixture(params=["event files, whole", "event files, ranges", "days, whole", "days, ranges"])
def way(
    request: pytest.FixtureRequest, s3: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Way:
    name = request.param
    if name == "event files, ranges":
        monkeypatch.setattr(objects, "_LEAST_PART", 500)
    opened = (_events if name.startswith("event") else _days)(s3, tmp_path, name)
    proxy.reset()
    whole = opened(proxy).compute()
    asked = [each for each in proxy.log if each.reads_object]
    assert (whole["quality"] == 0).all()
    assert any(each.range and each.range[0] for each in asked) == name.endswith("ranges")
    return Way(name, opened, whole, asked)


def _events(s3: Server, folder: Path, name: str) -> Callable[[Proxy], xr.Dataset]:
    made = sx.simulate(
        folder, n_events=40, n_stations=2, sampling_rate=20.0, duration=20.0, layout="ncedc-events", seed=0
    )
    prefix = name.replace(" ", "-")
    s3.upload(f"{made.folder}/waveforms", "ncedc-pds", prefix)
    catalog, stations = sx.read_catalog(made.catalog), sx.read_stations(made.stations)
    where = {
        "archive": "ncedc-events",
        "root": f"s3://ncedc-pds/{prefix}",
        "window": (-2.0, 15.0),
        "sampling_rate": 20.0,
    }
    return lambda proxy: _open(catalog, stations, s3.storage_options("anonymous", endpoint=proxy.endpoint), **where)


def _days(s3: Server, folder: Path, name: str) -> Callable[[Proxy], xr.Dataset]:
    """Small days, of which windows need all; or large ones, of which they need little."""
    is_large = name.endswith("ranges")
    rate, n_stations = (20.0, 4) if is_large else (1.0, 10)
    made, prefix = replica(folder, n_stations, 2, sampling_rate=rate), name.replace(" ", "-")
    s3.upload(folder, "scedc-pds", prefix)
    rng = np.random.default_rng(0)
    seconds = np.sort(rng.uniform(600, 86_000, (2, 1 if is_large else 5)))
    times = [
        f"{np.datetime64(day, 'ms') + int(1000 * s)}" for day, row in zip(made.days, seconds, strict=True) for s in row
    ]
    catalog = events_table([f"e{i}" for i in range(len(times))], times)
    stations = channels_table(*made.station_ids)
    window = (-5.0, 25.0) if is_large else (-50.0, 250.0)
    where = {"archive": "scedc", "root": f"s3://scedc-pds/{prefix}", "window": window, "sampling_rate": rate}
    return lambda proxy: _open(catalog, stations, s3.storage_options("anonymous", endpoint=proxy.endpoint), **where)


def _open(catalog: xr.Dataset, stations: xr.Dataset, options: dict[str, Any], **where: Any) -> xr.Dataset:
    hasty = {**options, "config_kwargs": HASTY}
    return sx.open_waveforms(catalog, stations, storage_options=hasty, records_per_task=8, **where)


def _fault(way: Way, kind: Kind, share: float) -> Fault:
    """The fault of a cell of the matrix, which happens at least once."""
    seconds = 0.1 if kind == "delay" else 30.0
    if share == 1.0:
        return Fault(kind, reads(re.escape(way.victim)), seconds=seconds)
    # Into how many ranges an object is parted depends on how many are being read: the first of them always comes.
    certain = {each.path: each for each in sorted(way.requests, key=lambda each: -each.first_byte)}.values()
    seed = next(i for i in range(10_000) if any(_chance(i, each, 1) < share for each in certain))
    return Fault(kind, reads(r"\.ms$"), probability=share, seed=seed, at=0.3, seconds=seconds)


def _of_victim(way: Way) -> np.ndarray[Any, Any]:
    """Which records (record,) need the object that is the victim."""
    event, station = way.whole["event_id"].values, way.whole["station_id"].values
    if way.name.startswith("event"):
        return np.array([name in way.victim for name in event])
    day = way.whole["start_time"].values.astype("datetime64[D]")
    julian = [f"{int((each - each.astype('datetime64[Y]')).astype(int)) + 1:03d}" for each in day]
    pairs = zip(station, julian, strict=True)
    return np.array([name.split(".")[1] in way.victim and f"2024_{number}" in way.victim for name, number in pairs])


def _judge(way: Way, kind: Kind, share: float, found: xr.Dataset) -> Counter[str]:
    """Flags of the records, after it is certain that none is wrong and says nothing, or is flagged without a cause."""
    flags = np.array(QUALITY)[found["quality"].values]
    usable = flags == "usable"
    for name in ("waveform", "start_time"):
        assert found[name].values[usable].tobytes() == way.whole[name].values[usable].tobytes(), name
    assert np.isnan(found["waveform"].values[~usable]).all()
    if share == 1.0:
        assert usable[~_of_victim(way)].all()
        if kind in PASSING and kind != "delay":
            assert not usable[_of_victim(way)].any()
    elif kind in PASSING:
        assert usable.all()
    assert set(flags[~usable].tolist()) <= STAYING.get(kind, UNREADABLE)
    return Counter(flags.tolist())


def _cell(way: Way, proxy: Proxy, kind: Kind, share: float) -> tuple[object, ...]:
    proxy.reset()
    waveforms, begin = way.open(proxy), time.perf_counter()
    proxy.rules.append(_fault(way, kind, share))
    often = "one object" if share == 1.0 else f"{share:.0%}"
    if kind == "403":
        with pytest.raises(PermissionError, match="got access denied"):
            waveforms.compute()
        outcome: list[object] = ["", "", "stopped: access denied"]
    else:
        flags = _judge(way, kind, share, waveforms.compute())
        right = flags.pop("usable", 0)
        outcome = [right, 0, ", ".join(f"{n} {name}" for name, n in sorted(flags.items()))]
    n_faults = sum(proxy.faults.values())
    assert n_faults > 0
    n_asked = len([each for each in proxy.log if each.reads_object])
    return (way.name, kind, often, n_asked, n_faults, *outcome, f"{time.perf_counter() - begin:.1f} s")


def test_no_fault_makes_a_record_wrong(way: Way, proxy: Proxy, show_table: Any) -> None:
    rows = [_cell(way, proxy, kind, share) for kind in get_args(Kind) for share in SHARES]
    head = ("read", "fault", "of requests", "asked", "faults", "right", "wrong", "flagged", "time")
    show_table(f"faults: {way.name}", [head, *rows])
