"""A save that was broken off, or killed, is completed by saving again, and ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import dask
import draws
import pytest
from draws import Counted

import specufex_dask as sx
from specufex_dask.store import find, stages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STATION = "4D.G7J1..SHZ"


@pytest.fixture
def one_at_a_time() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize("lazy_quality", [True, False])
@pytest.mark.parametrize("n_done", [0, 1, 3])
def test_a_broken_save_goes_on_where_it_was(tmp_path: Path, n_done: int, *, lazy_quality: bool) -> None:
    stage = Counted(38, 8, lazy_quality=lazy_quality)
    stage.fail_after = n_done
    with pytest.raises(RuntimeError, match="the power went off"):
        sx.save(stage.dataset, tmp_path / "s.zarr")
    assert stages(tmp_path / "s.zarr") == []
    assert find(tmp_path / "s.zarr", "spectrograms", stage.dataset.attrs) is None
    text = f"with {5 - n_done} shards of 8 records not written yet, expected all: save it again"
    with pytest.raises(ValueError, match=text):
        sx.load(tmp_path / "s.zarr", "spectrograms")
    done = set(stage.blocks)
    stage.blocks.clear()
    stage.fail_after = None
    sx.save(stage.dataset, tmp_path / "s.zarr")
    assert set(stage.blocks) == {0, 8, 16, 24, 32} - done
    assert len(stage.blocks) == 5 - n_done
    sx.save(Counted(38, 8, lazy_quality=lazy_quality).dataset, tmp_path / "unbroken.zarr")
    assert draws.files_of(tmp_path / "s.zarr") == draws.files_of(tmp_path / "unbroken.zarr")


@pytest.mark.usefixtures("one_at_a_time")
def test_a_broken_save_goes_on_in_other_chunks(tmp_path: Path) -> None:
    """The shards of the template stay, whatever tasks the second run would have cut."""
    stage = Counted(40, 8)
    stage.fail_after = 2
    with pytest.raises(RuntimeError):
        sx.save(stage.dataset, tmp_path / "s.zarr")
    saved = sx.save(Counted(40, 20).dataset, tmp_path / "s.zarr")
    assert saved.chunksizes["record"] == (8,) * 5
    sx.save(Counted(40, 8).dataset, tmp_path / "unbroken.zarr")
    assert draws.files_of(tmp_path / "s.zarr") == draws.files_of(tmp_path / "unbroken.zarr")


@pytest.mark.usefixtures("one_at_a_time")
def test_files_of_a_killed_write_do_not_stay(tmp_path: Path) -> None:
    stage = Counted(40, 8)
    stage.fail_after = 2
    with pytest.raises(RuntimeError):
        sx.save(stage.dataset, tmp_path / "s.zarr", group=STATION)
    held = tmp_path / "s.zarr" / STATION / "spectrograms"
    left = [held / "quality/c/2.0123.partial", held / "spectrogram/c/2/0/0.0123.partial", held / "zarr.0123.partial"]
    left += [tmp_path / "s.zarr/zarr.0123.partial", tmp_path / "s.zarr" / STATION / "zarr.0123.partial"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    stage.fail_after = None
    sx.save(stage.dataset, tmp_path / "s.zarr", group=STATION)
    sx.save(Counted(40, 8).dataset, tmp_path / "unbroken.zarr", group=STATION)
    assert draws.files_of(tmp_path / "s.zarr") == draws.files_of(tmp_path / "unbroken.zarr")


PROGRAM = """
import sys, dask, draws, specufex_dask as sx
with dask.config.set(scheduler="threads", num_workers=2):
    sx.save(draws.Counted({n_records}, 8, tail={tail}, seconds={seconds}).dataset, sys.argv[1])
"""


class Size(NamedTuple):
    """Records, and the frequencies and frames of each."""

    n_records: int
    tail: tuple[int, int]


def _killed(store: Path, size: Size, *, when: Callable[[Path], bool], seconds: float) -> int:
    """Save in another process, kill it as soon as `when`, and return the number of shards that were done."""
    program = PROGRAM.format(n_records=size.n_records, tail=size.tail, seconds=seconds)
    paths = [str(Path(sx.__file__).parent.parent), str(Path(draws.__file__).parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(store)], env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    )
    try:
        while not when(store):
            assert process.poll() is None, "the save ended before it could be killed"
            time.sleep(0.0005)
    finally:
        process.send_signal(signal.SIGKILL)
        ended = process.wait(60)
    assert ended == -signal.SIGKILL
    return len(_done(store))


def _done(store: Path) -> list[Path]:
    return [path for path in store.glob("spectrograms/quality/c/*") if path.suffix != ".partial"]


def _n_done(number: int) -> Callable[[Path], bool]:
    return lambda store: len(_done(store)) >= number


def _half_written(store: Path) -> bool:
    return any(store.glob("spectrograms/spectrogram/c/*/*/*.partial"))


def _assert_completed(store: Path, size: Size, *, n_done: int) -> None:
    again = Counted(size.n_records, 8, tail=size.tail)
    sx.save(again.dataset, store)
    assert len(again.blocks) == size.n_records // 8 - n_done
    unbroken = store.with_name("unbroken.zarr")
    sx.save(Counted(size.n_records, 8, tail=size.tail).dataset, unbroken)
    assert draws.files_of(store) == draws.files_of(unbroken)


def test_a_killed_save_goes_on(tmp_path: Path) -> None:
    size = Size(96, (4, 5))
    n_done = _killed(tmp_path / "s.zarr", size, when=_n_done(3), seconds=0.1)
    assert 3 <= n_done < 12
    with pytest.raises(ValueError, match=f"with {12 - n_done} shards of 8 records not written yet"):
        sx.load(tmp_path / "s.zarr", "spectrograms")
    _assert_completed(tmp_path / "s.zarr", size, n_done=n_done)


@pytest.mark.slow
@pytest.mark.parametrize(
    "when",
    [
        lambda store: store.exists(),
        lambda store: (store / "spectrograms").exists(),
        lambda store: (store / "spectrograms/event_id/c").exists(),
        lambda store: (store / "spectrograms/quality/zarr.json").exists(),
        _n_done(1),
        _n_done(7),
        _n_done(11),
        _half_written,
    ],
    ids=["store", "group", "ids", "template", "first", "middle", "last", "half-written"],
)
def test_a_save_may_be_killed_at_any_moment(tmp_path: Path, when: Callable[[Path], bool]) -> None:
    size = Size(96, (512, 256))
    n_done = _killed(tmp_path / "s.zarr", size, when=when, seconds=0.02)
    _assert_completed(tmp_path / "s.zarr", size, n_done=n_done)
