"""What may be wrong with a store: torn files, another run, another layout, a disk without room for a checkpoint."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import draws
import numpy as np
import pytest
from draws import Counted
from processes import ENVIRONMENT, wait_until

import specufex_dask as sx
from specufex_dask import checkpoints, schema
from specufex_dask.cli import main
from specufex_dask.demo import _STUDY
from specufex_dask.runs import holder
from specufex_dask.status import status
from specufex_dask.store import find

if TYPE_CHECKING:
    from pathlib import Path

LARGE, SMALL = (96, 128), (4, 5)  # frequencies and frames; the large ones' shards have inner chunks
N_RECORDS, CHUNK = 192, 64


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Path]:
    """Stores of three shards, of large records and of small ones."""
    stores = {tail: tmp_path_factory.mktemp("whole") / "s.zarr" for tail in (LARGE, SMALL)}
    for tail, store in stores.items():
        sx.save(Counted(N_RECORDS, CHUNK, tail=tail).dataset, store)
    return stores


def _torn(path: Path, share: float | None) -> None:
    """Leave the `share` of a file at its beginning, or zeros in its place; nothing for None."""
    content = path.read_bytes()
    path.unlink()
    if share is not None:
        path.write_bytes(content[: int(share * len(content))] if share < 1 else bytes(len(content)))


@pytest.mark.parametrize("share", [None, 0, 0.5, 0.999, 1])
@pytest.mark.parametrize("name", ["spectrogram", "quality"])
@pytest.mark.parametrize("tail", [LARGE, SMALL])
def test_a_torn_shard_is_told_and_computed_again(
    whole: dict[tuple[int, int], Path], tmp_path: Path, tail: tuple[int, int], name: str, share: float | None
) -> None:
    """A shard that is missing, empty, cut short or of zeros is never read as fill values, nor as records to use."""
    store, again = tmp_path / "s.zarr", Counted(N_RECORDS, CHUNK, tail=tail)
    shutil.copytree(whole[tail], store)
    done = store / "spectrograms/quality/c/1"
    _torn(store / "spectrograms" / name / ("c/1" if name == "quality" else "c/1/0/0"), share)
    if name == "quality" and share is None:  # which says itself that the shard is missing
        with pytest.raises(ValueError, match="with 1 shards of 64 records not written yet"):
            sx.load(store, "spectrograms")
    else:
        told = rf"got shard 1 of {store}/spectrograms/{name} torn \(.+\), expected it as it was written: "
        told += rf"delete {done}, which says that it is done, and save the stage again: only this shard is computed\.$"
        loaded = sx.load(store, "spectrograms")[name]
        with pytest.raises(OSError, match=told):
            loaded.compute()
        np.testing.assert_array_equal(loaded[:64].values, sx.load(whole[tail], "spectrograms")[name][:64].values)
        done.unlink()
    sx.save(again.dataset, store)
    assert again.blocks == [64]
    assert draws.files_of(store) == draws.files_of(whole[tail])


def test_a_torn_shard_is_told_where_it_is_used(whole: dict[tuple[int, int], Path], tmp_path: Path) -> None:
    """A stage that is computed from it, and a fit, break off; what is whole is saved."""
    shutil.copytree(whole[SMALL], tmp_path / "s.zarr")
    _torn(tmp_path / "s.zarr/spectrograms/spectrogram/c/1/0/0", 0.5)
    spectrograms, nmf = sx.load(tmp_path / "s.zarr", "spectrograms"), draws.unit_gain_nmf(3)
    with pytest.raises(OSError, match=r"got shard 1 of .*/spectrograms/spectrogram torn"):
        sx.save(sx.compute_activations(spectrograms, nmf), tmp_path / "s.zarr")
    assert status(tmp_path / "s.zarr").stages[1].state == "failed"
    with pytest.raises(OSError, match=r"got shard 1 of .*/spectrograms/spectrogram torn"):
        sx.fit_nmf(spectrograms, n_patterns=3, seed=0, max_steps=10)


@pytest.mark.parametrize("share", [0, 0.5])
@pytest.mark.parametrize("name", ["zarr.json", "quality/zarr.json", "frequency/c/0", "event_id/c/0"])
def test_torn_metadata_and_ids_are_told(
    whole: dict[tuple[int, int], Path], tmp_path: Path, name: str, share: float
) -> None:
    store = tmp_path / "s.zarr"
    shutil.copytree(whole[SMALL], store)
    _torn(store / "spectrograms" / name, share)
    told = rf"got {store}/spectrograms torn \(.+\), expected it as it was written: "
    told += rf"delete {store}/spectrograms and save the stage again\.$"
    with pytest.raises(OSError, match=told):
        sx.load(store, "spectrograms")
    with pytest.raises(OSError, match=told):
        sx.save(Counted(N_RECORDS, CHUNK).dataset, store)
    shutil.rmtree(store / "spectrograms")
    sx.save(Counted(N_RECORDS, CHUNK).dataset, store)
    assert draws.files_of(store) == draws.files_of(whole[SMALL])


def test_a_lost_variable_is_told(whole: dict[tuple[int, int], Path], tmp_path: Path) -> None:
    shutil.copytree(whole[SMALL], tmp_path / "s.zarr")
    shutil.rmtree(tmp_path / "s.zarr/spectrograms/frequency")
    with pytest.raises(OSError, match=r"got .*/s\.zarr/spectrograms torn \(without frequency\), expected it as it was"):
        sx.load(tmp_path / "s.zarr", "spectrograms")


@pytest.mark.parametrize(
    ("name", "told"), [("zarr.json", "delete {stage} and"), ("quality/c/2", "delete {stage}/quality/c/2, which")]
)
def test_status_tells_of_torn_files(
    whole: dict[tuple[int, int], Path], tmp_path: Path, name: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "s.zarr"
    shutil.copytree(whole[SMALL], store)
    _torn(store / "spectrograms" / name, 0.5)
    (stage,) = status(store).stages
    assert stage.state == "torn"
    assert main(["status", str(store)]) == 0
    output = capsys.readouterr().out
    assert f"next: got {'shard 2 of ' if 'quality' in name else ''}{store}/spectrograms" in output
    assert told.format(stage=f"{store}/spectrograms") in output


class Leaving(Counted):
    """A stage of which a worker is killed while it writes: what it had begun stays, another one does its task."""

    def __init__(self, store: Path, n_records: int, chunk: int) -> None:
        super().__init__(n_records, chunk)
        self._left = store / "spectrograms/spectrogram/c/3/0/0.0123.partial"

    def _block(self, number: draws.Array) -> dict[str, draws.Array]:
        self._left.parent.mkdir(parents=True, exist_ok=True)
        self._left.write_bytes(b"half")
        return super()._block(number)


def test_what_a_worker_left_that_was_killed_on_the_way_does_not_stay(
    whole: dict[tuple[int, int], Path], tmp_path: Path
) -> None:
    sx.save(Leaving(tmp_path / "s.zarr", N_RECORDS, CHUNK).dataset, tmp_path / "s.zarr")
    left = draws.files_of(tmp_path / "s.zarr")
    assert left == draws.files_of(whole[SMALL])


FIT_ON_A_SMALL_DISK = """
import logging, sys, threading, numpy as np, draws, specufex_dask as sx
from pathlib import Path
from specufex_dask import checkpoints
from specufex_dask.runs import holder, holding
from specufex_dask.status import status
disk, checkpoints.EVERY_SECONDS = Path(sys.argv[1]), 0.0
messages, ended = [], threading.Event()
class Kept(logging.Handler):
    def emit(self, record): messages.append(record.getMessage())
logging.getLogger("specufex_dask").addHandler(Kept())
spectrograms = draws.spectrograms(300, chunk=None)
checkpoint = disk / "s.zarr.run/nmf.npz"
def fill():
    while not checkpoint.exists() and not ended.wait(0.001): pass
    with (disk / "filler").open("wb", buffering=0) as filler:
        while not messages and not ended.is_set():
            try: filler.write(bytes(4096))
            except OSError: ended.wait(0.001)
filling = threading.Thread(target=fill)
filling.start()
options = {"n_patterns": 30, "seed": 0, "tol": None}
nmf = sx.fit_nmf(spectrograms, **options, checkpoint=disk / "s.zarr")
ended.set()
filling.join()
print(nmf.identical(sx.fit_nmf(spectrograms, **options)))
print(status(disk / "s.zarr").stages[0].fit.step)
print(sorted(path.name for path in checkpoint.parent.iterdir()))
print(len(messages), *messages)
with (disk / "filler").open("ab", buffering=0) as filler:
    try:
        while True: filler.write(bytes(4096))
    except OSError:
        pass
with holding(disk / "s.zarr"):
    print(holder(disk / "s.zarr"))
(disk / "filler").unlink()
logging.getLogger("specufex_dask").setLevel(logging.INFO)
print(nmf.identical(sx.fit_nmf(spectrograms, **options, checkpoint=disk / "s.zarr")), messages[-1])
"""


def test_a_disk_without_room_for_a_checkpoint_does_not_end_a_fit(tmp_path: Path) -> None:
    """A file system of 2 MB that fills up once there is a checkpoint, in a namespace of its own."""
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o size=2m none {tmp_path}/disk"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("no namespace may be made here in which to mount a small disk")
    program = [sys.executable, "-c", FIT_ON_A_SMALL_DISK, str(tmp_path / "disk")]
    command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", *program]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    same, reached, left, told, held, resumed = done.stdout.splitlines()
    assert same == "True"
    assert 200 <= int(reached) < 2950, "the checkpoint before the disk was full is whole"
    assert left == "['lock', 'nmf.npz']"
    assert re.fullmatch(
        rf"1 got \[Errno 28\] No space left on device for the checkpoint of fit nmf, expected to write "
        rf"{tmp_path}/disk/s\.zarr\.run/nmf\.npz: free space there\. The fit goes on; if it were killed, it would "
        r"begin again at the last checkpoint that was written\.",
        told,
    )
    assert held == "process 0 on an unknown host (user unknown) has been writing since a moment ago"
    assert resumed == f"True fit nmf goes on from step {reached}"


@pytest.mark.slow
def test_a_second_run_of_the_command_is_refused(tmp_path: Path) -> None:
    """While the first one, stopped by a signal, holds the store; it goes on unharmed."""
    made = sx.simulate(tmp_path / "data", n_events=30, seed=0)
    nearest = str(sx.read_stations(made.stations)["station_id"].values[0])
    (tmp_path / "study.yaml").write_text(_STUDY.format(seed=0, sampling_rate=made.sampling_rate, station_id=nearest))
    command = [sys.executable, "-m", "specufex_dask", "run", str(tmp_path / "study.yaml")]
    store = tmp_path / "study.zarr"
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as first:
        try:
            wait_until(lambda: (found := holder(store)) is not None and found.pid == first.pid)  # named at last
            first.send_signal(signal.SIGSTOP)
            second = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
            first.send_signal(signal.SIGCONT)
            output = first.communicate(timeout=120)[0]
        finally:
            first.kill()
    assert (second.returncode, second.stdout) == (2, "")
    who = f"process {first.pid} on {os.uname().nodename} "
    assert second.stderr.startswith(f"specufex-dask: error: got {store}, to which {who}")
    assert "expected no other run on it: wait for that one to end, or stop it." in second.stderr
    assert "Traceback" not in second.stderr
    assert first.returncode == 0
    assert "30 of 30 records usable" in output
    assert (
        sx.load(store, "clusters")["event_id"].values.tolist() == sx.load(store, "catalog")["event_id"].values.tolist()
    )


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A store as a version with another layout would have written it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "VERSION", 0)
        spectrograms = draws.spectrograms(40)
        sx.save(sx.fit_nmf(spectrograms, n_patterns=4, max_steps=10, seed=0), tmp_path / "s.zarr")
    return tmp_path / "s.zarr"


def test_a_store_of_an_older_layout_is_refused(older: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of it is read as if it were of this layout; it can be replaced, or another store be written."""
    spectrograms = draws.spectrograms(40)
    nmf = sx.fit_nmf(spectrograms, n_patterns=4, max_steps=10, seed=0)
    told = (
        rf"^got 'nmf' of {older} in layout 0, expected 1: open it with the version of specufex_dask that wrote it, or "
        r"compute it again with overwrite=True\.$"
    )
    with pytest.raises(ValueError, match=told):
        sx.load(older, "nmf")
    with pytest.raises(ValueError, match=r"schema_version is 1 now and was 0\. Expected the same: save to another"):
        sx.save(nmf, older)
    assert find(older, "nmf", nmf.attrs) is None
    again = sx.fit_nmf(spectrograms, n_patterns=4, max_steps=10, seed=0, checkpoint=older)
    assert again.identical(nmf), "it is fitted, not taken from the store"
    (stage,) = status(older).stages
    assert stage.state == "outdated"
    assert main(["status", str(older)]) == 0
    assert re.search(told.replace("^", "^next: "), capsys.readouterr().out, re.MULTILINE)
    sx.save(nmf, older, overwrite=True)
    sx.save(nmf, tmp_path / "fresh.zarr")
    assert draws.files_of(older) == draws.files_of(tmp_path / "fresh.zarr")


def test_a_checkpoint_of_an_older_layout_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spectrograms = draws.spectrograms(40)
    monkeypatch.setattr(checkpoints, "EVERY_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "VERSION", 0)
        sx.fit_nmf(spectrograms, n_patterns=4, max_steps=400, seed=0, checkpoint=tmp_path / "s.zarr")
    about = tmp_path / "s.zarr.run/nmf.npz"
    assert status(tmp_path / "s.zarr").stages[0].fit is not None
    before = about.read_bytes()
    monkeypatch.setattr(checkpoints, "EVERY_SECONDS", 1e9)
    fitted = sx.fit_nmf(spectrograms, n_patterns=4, max_steps=400, seed=0, checkpoint=tmp_path / "s.zarr")
    assert fitted.identical(sx.fit_nmf(spectrograms, n_patterns=4, max_steps=400, seed=0))
    assert fitted.sizes["step"] == 400
    assert about.read_bytes() == before
