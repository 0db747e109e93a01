"""What was read for each record: it adds up, survives kills, tells of retries, and changes no data."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
from buckets import KEY, SECRET, Bucket
from fault_proxy import fault_proxy
from fault_rules import Fault, reads
from processes import cluster, running, wait_until

import specufex_dask as sx
from specufex_dask import ledger, places, runs, shards
from specufex_dask.schema import QUALITY

if TYPE_CHECKING:
    import xarray as xr
    from s3_server import Server

    from specufex_dask.simulate import Simulation

N_EVENTS, N_STATIONS = 24, 2
LAYOUTS: list[Any] = ["scedc", "events"]
_PROGRAM = """
import sys, time
import specufex_dask as sx
from specufex_dask import record_blocks
from test_ledger import opened
usual = record_blocks.cut
def slow(*arguments):
    time.sleep(0.01)
    return usual(*arguments)
record_blocks.cut = slow
from specufex_dask.simulate import Simulation
import json
print("begun", flush=True)
sx.save(opened(Simulation(**json.loads(sys.argv[1])), "scedc", records_per_task=8), sys.argv[2])
"""


@pytest.fixture(scope="module", params=LAYOUTS)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Simulation]:
    return request.param, made_as(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return made_as("scedc", tmp_path_factory.mktemp("days"))


def made_as(layout: Any, folder: Path) -> Simulation:
    per_day = 8 if layout == "scedc" else None
    return sx.simulate(
        folder, n_events=N_EVENTS, n_stations=N_STATIONS, sampling_rate=20.0, layout=layout, events_per_day=per_day,
        missing=0.1, seed=0,
    )  # fmt: skip


def opened(made: Simulation, layout: str, **how: Any) -> xr.Dataset:
    at: dict[str, Any] = {"archive": made.archive} if layout == "events" else {"archive": layout}
    if layout != "events":
        at["root"] = f"{made.folder}/waveforms"
    return sx.open_waveforms(
        sx.read_catalog(made.catalog), sx.read_stations(made.stations), window=(-2.0, 14.0),
        sampling_rate=made.sampling_rate, **(at | how),
    )  # fmt: skip


def _flags(store: Path) -> list[int]:
    flags: list[int] = sx.load(store, "spectrograms").quality.values.tolist()
    return flags


def _sizes(made: Simulation) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in Path(made.folder, "waveforms").rglob("*") if path.is_file()}


@pytest.mark.parametrize("records_per_task", [5, 256])
def test_every_record_of_catalogue_and_stations_has_a_row(
    study: tuple[str, Simulation], tmp_path: Path, records_per_task: int
) -> None:
    layout, made = study
    spectrograms = sx.compute_spectrograms(
        opened(made, layout, records_per_task=records_per_task), window_length=1.0, band=(1.0, 8.0)
    )
    sx.save(spectrograms, tmp_path / "s.zarr")
    table = sx.quality_table(tmp_path / "s.zarr")
    assert list(table.columns) == ["event_id", "station_id", "quality", "object", "n_bytes", "attempts"]
    pairs = set(zip(table.event_id, table.station_id, strict=True))
    assert len(pairs) == len(table) == N_EVENTS * N_STATIONS
    assert table.quality.tolist() == [QUALITY[flag] for flag in _flags(tmp_path / "s.zarr")]
    assert set(table.quality) == {"usable", "missing"}
    assert (table.attempts == 1).all()
    named = {name for each in table.object for name in each.split("; ")}
    sizes = _sizes(made)
    assert sizes.keys() <= named
    total = int(table.n_bytes.sum())
    if layout == "events" and records_per_task == 256:
        assert total == sum(sizes.values()), "each file was read once, and whole"
    else:
        assert total > 0


def test_a_dataset_and_a_store_without_a_ledger_have_the_first_columns(
    study: tuple[str, Simulation], tmp_path: Path
) -> None:
    waveforms = opened(study[1], study[0])
    sx.save(waveforms, tmp_path / "s.zarr")
    whole = sx.quality_table(tmp_path / "s.zarr")
    shutil.rmtree(tmp_path / "s.zarr.run")
    for source in (waveforms.compute(), waveforms, tmp_path / "s.zarr"):
        table = sx.quality_table(source)
        assert table.equals(whole[["event_id", "station_id", "quality"]])
    with pytest.raises(ValueError, match=r"got a Dataset of stage 'catalog' without records, expected one of clusters"):
        sx.quality_table(sx.read_catalog(study[1].catalog))
    sx.save(sx.read_catalog(study[1].catalog), tmp_path / "c.zarr")
    with pytest.raises(ValueError, match=r"with \['catalog'\], expected one of clusters, .* whole: save one there"):
        sx.quality_table(tmp_path / "c.zarr")


def test_no_data_depend_on_the_ledger(study: tuple[str, Simulation], tmp_path: Path) -> None:
    stores = {}
    for name, scheduler in (("a", "threads"), ("b", "sync")):
        with dask.config.set(scheduler=scheduler):
            sx.save(opened(study[1], study[0], records_per_task=5), tmp_path / f"{name}.zarr")
        files = (tmp_path / f"{name}.zarr").rglob("*")
        stores[name] = {str(p.relative_to(tmp_path / f"{name}.zarr")): p.read_bytes() for p in files if p.is_file()}
    assert stores["a"] == stores["b"]
    assert not any("ledger" in name for name in stores["a"])
    tables = [sx.quality_table(tmp_path / f"{name}.zarr") for name in stores]
    assert tables[0].equals(tables[1])


def test_a_selection_has_rows_of_its_own(study: tuple[str, Simulation], tmp_path: Path) -> None:
    some = opened(study[1], study[0]).isel(record=slice(3, 9))
    sx.save(some, tmp_path / "s.zarr")
    table = sx.quality_table(tmp_path / "s.zarr")
    assert table.event_id.tolist() == some.event_id.values.tolist()
    assert table.attempts.notna().all()


def test_what_is_lost_of_a_ledger_is_missing_in_the_table(study: tuple[str, Simulation], tmp_path: Path) -> None:
    sx.save(opened(study[1], study[0], records_per_task=5), tmp_path / "s.zarr")
    first, *rest = sorted((tmp_path / "s.zarr.run" / "ledger").rglob("*.json.gz"))
    assert rest
    first.unlink()
    table = sx.quality_table(tmp_path / "s.zarr")
    assert len(table) == N_EVENTS * N_STATIONS
    assert 0 < table.attempts.isna().sum() < len(table)
    assert (table.attempts.isna() == table.object.isna()).all()


def test_a_ledger_that_cannot_be_written_ends_no_run(
    study: tuple[str, Simulation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(places, "write", full)
        sx.save(opened(study[1], study[0]), tmp_path / "s.zarr")
    assert list(sx.quality_table(tmp_path / "s.zarr").columns) == ["event_id", "station_id", "quality"]


def test_bytes_are_shared_to_the_last_one() -> None:
    entries = ledger.Entries(4)
    entries.add("a.ms", [0, 1, 2], 100, 1)
    entries.add("https://me:hidden@b.org/c.ms?X-Amz-Signature=1", [2], 7, 3)
    assert entries.columns() == {
        "objects": ["a.ms", "https://b.org/c.ms"], "object": [[0], [0], [0, 1], []], "n_bytes": [33, 33, 41, 0],
        "attempts": [1, 1, 3, 0],
    }  # fmt: skip


def test_workers_of_a_cluster_write_the_ledger(days: Simulation, tmp_path: Path) -> None:
    with cluster(2):
        sx.save(opened(days, "scedc", records_per_task=5), tmp_path / "s.zarr")
    sx.save(opened(days, "scedc", records_per_task=5), tmp_path / "t.zarr")
    assert sx.quality_table(tmp_path / "s.zarr").equals(sx.quality_table(tmp_path / "t.zarr"))


def test_rows_of_what_a_killed_run_saved_are_there(days: Simulation, tmp_path: Path) -> None:
    made = days
    store = tmp_path / "s.zarr"
    with running(_PROGRAM, json.dumps(asdict(made)), store) as process:
        wait_until(
            lambda: len(list(store.glob("waveforms/quality/c/*"))) > 1 or process.poll() is not None, seconds=120
        )
        process.kill()
    done = {int(path.name) for path in store.glob("waveforms/quality/c/*") if path.name.isdigit()}
    whole = opened(made, "scedc", records_per_task=8)
    assert 0 < len(done) < 6
    held = shards.attributes(store, "waveforms") or {}
    rows = ledger.read(ledger.beside(store, held["identity"]))
    assert rows is not None
    told = set(zip(rows.event_id, rows.station_id, strict=True))
    pairs = list(zip(whole.event_id.values, whole.station_id.values, strict=True))
    assert {pair for i in done for pair in pairs[8 * i : 8 * i + 8]} <= told
    sx.save(whole, store)
    assert sx.quality_table(store).attempts.notna().all()


def test_the_ledger_of_a_store_in_a_bucket_lies_beside_it_without_a_secret(
    days: Simulation, bucket: Bucket, tmp_path: Path
) -> None:
    waveforms = opened(days, "scedc", records_per_task=16)
    store = bucket.url("s.zarr")
    sx.save(waveforms, store, storage_options=bucket.options)
    sx.save(waveforms, tmp_path / "s.zarr")
    table = sx.quality_table(store, storage_options=bucket.options)
    assert table.equals(sx.quality_table(tmp_path / "s.zarr"))
    files = bucket.objects("s.zarr.run/ledger")
    assert len(files) > 1
    texts = b"".join(gzip.decompress(content) for content in files.values()).decode()
    assert "attempts" in texts
    assert not {KEY, SECRET} & set(texts.split('"'))
    assert SECRET not in texts
    assert str(runs.folder(store)) == f"{store}.run"


def test_what_was_asked_for_again_is_counted(s3: Server, days: Simulation, tmp_path: Path) -> None:
    made = days
    s3.upload(f"{made.folder}/waveforms", "scedc-pds", "ledger")
    with fault_proxy(s3.endpoint, checksums=False) as proxy:
        waveforms = opened(
            made, "scedc", root="s3://scedc-pds/ledger",
            storage_options=s3.storage_options("anonymous", endpoint=proxy.endpoint),
        )  # fmt: skip
        proxy.rules.append(Fault("short", reads(r"2024002|_002"), times_each=1))
        sx.save(waveforms, tmp_path / "s.zarr")
        asked = Counter(path for kind, path in proxy.faults if kind == "short")
        sent = sum(size for (_, path), size in proxy.bytes_sent.items() if path.endswith(".ms"))
    table = sx.quality_table(tmp_path / "s.zarr")
    assert asked
    again = {name for each in table.object[table.attempts > 1] for name in each.split("; ")}
    assert {path.rpartition("/")[2] for path in asked} <= {name.rpartition("/")[2] for name in again}
    assert int(table.n_bytes.sum()) == sent
    assert np.isin(table.quality, ["usable", "missing"]).all()


def test_a_report_tells_what_was_read_and_that_no_record_is_missing(days: Simulation, tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    sx.save(sx.compute_spectrograms(opened(days, "scedc"), window_length=1.0, band=(1.0, 8.0)), store)
    page = Path(str(sx.report(store, tmp_path / "r.html", catalog=sx.read_catalog(days.catalog)))).read_text()
    assert "The records are those of 24 events at 2 stations." in page
    assert "What was read of the archive" in page
    assert "records asked for again" in page
