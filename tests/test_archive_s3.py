"""Archives behind URLs: the same records as on a disk, whatever the network does, and none of the user's secrets."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import pytest
import xarray as xr
from fault_proxy import fault_proxy
from fault_rules import Fault, reads

import specufex_dask as sx
from specufex_dask.schema import QUALITY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fault_proxy import Proxy
    from s3_server import Server

    from specufex_dask.simulate import Simulation

N_EVENTS, N_STATIONS = 24, 2
USABLE, MISSING, UNREADABLE, SHORT = map(QUALITY.index, ("usable", "missing", "unreadable", "short"))
BUCKETS: dict[str, str] = {"scedc": "scedc-pds", "ncedc-events": "ncedc-pds"}


@pytest.fixture(scope="module", params=list(BUCKETS))
def study(
    request: pytest.FixtureRequest, s3: Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Simulation]:
    """A simulated archive, on the disk and in the bucket of its network."""
    layout = request.param
    made = sx.simulate(
        tmp_path_factory.mktemp(layout), n_events=N_EVENTS, n_stations=N_STATIONS, sampling_rate=50.0, layout=layout,
        seed=0, events_per_day=8 if layout == "scedc" else None,
    )  # fmt: skip
    s3.upload(f"{made.folder}/waveforms", BUCKETS[layout])
    return layout, made


@pytest.fixture
def proxy(s3: Server) -> Iterator[Proxy]:
    with fault_proxy(s3.endpoint, checksums=False) as made:
        yield made


def _open(study: tuple[str, Simulation], root: str, options: dict[str, Any] | None = None, **how: Any) -> xr.Dataset:
    layout, made = study
    return sx.open_waveforms(
        sx.read_catalog(made.catalog), sx.read_stations(made.stations), archive=layout, root=root,
        storage_options=options, window=(-2.0, 15.0), sampling_rate=made.sampling_rate, **how,
    )  # fmt: skip


def _local(study: tuple[str, Simulation], **how: Any) -> xr.Dataset:
    return _open(study, f"{study[1].folder}/waveforms", **how)


def _remote(study: tuple[str, Simulation], s3: Server, proxy: Proxy | None = None, **how: Any) -> xr.Dataset:
    options = s3.storage_options("anonymous", endpoint=proxy.endpoint if proxy else None)
    return _open(study, f"s3://{BUCKETS[study[0]]}", options, **how)


def _values(waveforms: xr.Dataset) -> xr.Dataset:
    return waveforms.compute().drop_attrs()


def test_a_bucket_gives_the_records_of_the_disk(study: tuple[str, Simulation], s3: Server) -> None:
    local = _values(_local(study))
    xr.testing.assert_identical(_values(_remote(study, s3)), local)
    assert (local["quality"] == USABLE).all()


@pytest.mark.parametrize("records_per_task", [1, 7])
def test_records_do_not_depend_on_the_task(study: tuple[str, Simulation], s3: Server, records_per_task: int) -> None:
    xr.testing.assert_identical(_values(_remote(study, s3, records_per_task=records_per_task)), _values(_local(study)))


def test_an_object_is_touched_once(study: tuple[str, Simulation], s3: Server, proxy: Proxy) -> None:
    layout, made = study
    _remote(study, s3, proxy).compute()
    objects = {entry.path for entry in proxy.log if entry.reads_object}
    n_objects = len([path for path in _files(made) if path.is_file()])
    assert len(objects) == n_objects
    lists = [entry for entry in proxy.log if not entry.reads_object]
    n_folders = len({path.parent for path in _files(made) if path.is_file()})
    assert len(lists) <= n_folders + 2, "one listing a folder, one of the bucket, no question for a size"
    assert layout == "scedc" or len([entry for entry in proxy.log if entry.reads_object]) == n_objects


def _files(made: Simulation) -> list[Path]:
    from pathlib import Path

    return list(Path(made.folder, "waveforms").rglob("*"))


_slow = pytest.mark.slow


@pytest.mark.parametrize(
    "kind", ["cut", "corrupt", *(pytest.param(kind, marks=_slow) for kind in ("reset", "short", "500", "503"))]
)
def test_what_the_network_does_once_is_mended(
    study: tuple[str, Simulation], s3: Server, proxy: Proxy, kind: Any
) -> None:
    proxy.rules.append(Fault(kind, reads(r"\.ms$"), times_each=1))
    xr.testing.assert_identical(_values(_remote(study, s3, proxy)), _values(_local(study)))
    assert sum(proxy.faults.values()) >= 3


@pytest.mark.parametrize(
    ("kind", "flag"), [("404", MISSING), *(pytest.param(kind, UNREADABLE, marks=_slow) for kind in ("short", "500"))]
)
def test_an_object_that_stays_bad_flags_its_records_alone(
    study: tuple[str, Simulation], s3: Server, proxy: Proxy, kind: Any, flag: int
) -> None:
    layout, made = study
    victim = sorted(path for path in _files(made) if path.is_file())[1]
    proxy.rules.append(Fault(kind, reads(victim.name.replace(".", r"\."))))
    local, found = _values(_local(study)), _values(_remote(study, s3, proxy))
    bad = found["quality"].values != USABLE
    assert 0 < bad.sum() <= (N_STATIONS if layout == "ncedc-events" else 8)
    assert flag in found["quality"].values[bad]
    assert set(found["quality"].values[bad].tolist()) <= {flag, SHORT}, "a window across midnight has a part"
    np.testing.assert_array_equal(found["waveform"].values[~bad], local["waveform"].values[~bad])
    assert np.isnan(found["waveform"].values[bad]).all()
    assert found["event_id"].values.tolist() == local["event_id"].values.tolist()


def test_access_denied_stops_at_once_and_says_what_to_do(study: tuple[str, Simulation], s3: Server) -> None:
    with pytest.raises(PermissionError, match="got credentials refused"):
        _open(study, f"s3://{BUCKETS[study[0]]}", s3.storage_options("wrong"))


def test_denied_objects_stop_the_run(study: tuple[str, Simulation], s3: Server, proxy: Proxy) -> None:
    waveforms = _remote(study, s3, proxy)
    proxy.rules.append(Fault("403", reads(r"\.ms$")))
    with pytest.raises(PermissionError, match="got access denied"):
        waveforms.compute()


def test_a_bucket_that_is_not_there_is_named(study: tuple[str, Simulation], s3: Server) -> None:
    with pytest.raises(FileNotFoundError, match="got no bucket s3://no-such-bucket, expected one that exists"):
        _open(study, "s3://no-such-bucket/below", s3.storage_options("admin"))


def test_secrets_are_in_no_text(study: tuple[str, Simulation], s3: Server) -> None:
    options = s3.storage_options("admin")
    waveforms = _open(study, f"s3://{BUCKETS[study[0]]}", options)
    assert options["secret"] not in repr(waveforms) + str(waveforms.attrs) + dask.base.tokenize(waveforms)
    again = _remote(study, s3)
    assert again.attrs == waveforms.attrs, "who reads is not part of the recipe"
    assert pickle.loads(pickle.dumps(waveforms.isel(record=[0]))).compute()["quality"].item() == USABLE  # noqa: S301
