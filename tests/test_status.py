"""What a store says of itself: whole, half-written, failed, killed, and while another process writes to it."""

from __future__ import annotations

import json
from pathlib import Path

import dask
import numpy as np
import pytest
from draws import Counted
from processes import running, wait_until

import specufex_dask as sx
from specufex_dask.cli import main
from specufex_dask.runs import checkpoint_path, note
from specufex_dask.status import StageStatus, Status, status

STATION = "4D.G7J1..SHZ"
SAVING = """
import sys, draws, specufex_dask as sx
from specufex_dask import shards
shards._EVERY = 0.0
sx.save(draws.Counted(160, 8, seconds=0.1).dataset, sys.argv[1])
"""


def _broken(store: Path, n_done: int, *, group: str | None = None) -> None:
    """38 records in shards of 8, a fifth of them flagged, of which the first `n_done` tasks are done."""
    stage = Counted(38, 8)
    stage.fail_after = n_done
    with dask.config.set(scheduler="synchronous"), pytest.raises(RuntimeError, match="the power went off"):
        sx.save(stage.dataset, store, group=group)


def _checkpoint(store: Path, stage: str, group: str | None = None, **about: object) -> Path:
    path = checkpoint_path(store, stage, group)
    assert isinstance(path, Path)
    path.parent.mkdir(parents=True, exist_ok=True)
    said = {"step": 1200, "max_steps": 3110, "score": -12.34567, "size": 38, "seconds": 65.0} | about
    np.savez(path, about=np.frombuffer(json.dumps(said).encode(), "uint8"), dictionary=np.ones((3, 2)))
    return path


def test_a_whole_store(tmp_path: Path) -> None:
    with dask.config.set(scheduler="synchronous"):
        sx.save(Counted(38, 8, seconds=0.01).dataset, tmp_path / "s.zarr")
    found = status(tmp_path / "s.zarr")
    (stage,) = found.stages
    assert found.holder is None
    assert (stage.path, stage.state, stage.records, stage.shards) == ("spectrograms", "whole", 38, 5)
    assert (stage.shards_left, stage.records_left, stage.error, stage.fit) == (0, 0, "", None)
    assert stage.flagged == {"missing": 8}
    assert stage.rate is not None
    assert 38 / 5 < stage.rate < 38 / 0.05
    assert found.next == "nothing; all stages are whole"


def test_a_store_whose_save_failed(tmp_path: Path) -> None:
    _broken(tmp_path / "s.zarr", 3)
    (stage,) = status(tmp_path / "s.zarr").stages
    written = 38 - stage.records_left
    assert (stage.state, stage.records, stage.shards, stage.shards_left) == ("failed", 38, 5, 2)
    assert stage.records_left in {16, 14}  # the short shard may come first
    assert stage.error == "RuntimeError: the power went off"
    assert stage.flagged["missing"] in {-(-written // 5) - 1, -(-written // 5), -(-written // 5) + 1}
    assert stage.flagged["missing"] < 8
    assert stage.todo.startswith(f"2 shards of spectrograms ({stage.records_left} records), about ")
    assert stage.todo.endswith(" records a second")


def test_only_written_records_are_counted_as_flagged(tmp_path: Path) -> None:
    _broken(tmp_path / "s.zarr", 2)
    done = [int(path.name) for path in (tmp_path / "s.zarr/spectrograms/quality/c").iterdir()]
    (stage,) = status(tmp_path / "s.zarr").stages
    flagged = sum(record % 5 == 0 for shard in done for record in range(8 * shard, min(8 * shard + 8, 38)))
    assert stage.flagged == {"missing": flagged}


def test_what_failed_before_a_shard_was_written_has_no_rate(tmp_path: Path) -> None:
    _broken(tmp_path / "s.zarr", 0)
    (stage,) = status(tmp_path / "s.zarr").stages
    assert (stage.rate, stage.flagged) == (None, {})
    assert status(tmp_path / "s.zarr").next == "5 shards of spectrograms (38 records)"


def test_a_store_that_is_being_written_and_then_was_killed(tmp_path: Path) -> None:
    store = tmp_path / "s.zarr"
    with running(SAVING, store) as process:
        wait_until(lambda: len(list(store.glob("spectrograms/quality/c/*"))) >= 3)
        found = status(store)
        (stage,) = found.stages
        assert found.holder is not None
        assert found.holder.pid == process.pid
        assert str(found).startswith(f"{store}: process {process.pid} on {found.holder.host} (user ")
        assert (stage.state, stage.records, stage.shards) == ("being written", 160, 20)
        assert 10 <= stage.shards_left <= 17
        assert stage.rate is not None
        assert 8 < stage.rate < 8 / 0.1 * 4
        process.kill()
        process.wait(30)
    (store / "spectrograms/quality/c/19.0123.partial").write_bytes(b"half")
    (store / "zarr.0123.partial").write_bytes(b"half")
    found = status(store)
    (stage,) = found.stages
    n_left = 20 - len(list(store.glob("spectrograms/quality/c/?"))) - len(list(store.glob("spectrograms/quality/c/1?")))
    assert found.holder is None
    assert (stage.state, stage.shards_left, stage.records_left) == ("broken off", n_left, 8 * n_left)
    assert found.next.startswith(f"{n_left} shards of spectrograms ({8 * n_left} records), about ")


def test_stages_of_stations_stand_in_the_order_of_the_flow(tmp_path: Path) -> None:
    _broken(tmp_path / "s.zarr", 4, group=STATION)
    sx.save(Counted(16, 8).dataset, tmp_path / "s.zarr")
    sx.save(Counted(16, 8).dataset, tmp_path / "s.zarr", group="XX.AAA..HHZ")
    _checkpoint(tmp_path / "s.zarr", "nmf", "XX.AAA..HHZ")
    found = status(tmp_path / "s.zarr")
    assert [(stage.path, stage.state) for stage in found.stages] == [
        ("spectrograms", "whole"),
        (f"{STATION}/spectrograms", "failed"),
        ("XX.AAA..HHZ/spectrograms", "whole"),
        ("XX.AAA..HHZ/nmf", "fit"),
    ]
    assert found.next.startswith(f"1 shard of {STATION}/spectrograms (")
    assert found.next.endswith("; then 1 more")
    only = status(tmp_path / "s.zarr", group="XX.AAA..HHZ")
    assert [stage.path for stage in only.stages] == ["XX.AAA..HHZ/spectrograms", "XX.AAA..HHZ/nmf"]
    assert only.next == "fit_nmf of XX.AAA..HHZ continues at step 1,200 of 3,110"


def test_a_fit_under_way(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "s.zarr", "hmm", size=15)
    found = status(tmp_path / "s.zarr")  # there is nothing else yet
    assert found.next == "fit_hmm continues at step 1,200 of 3,110"
    assert "step 1,200 of 3,110, held-out score -12.3457, size 15, 65 s" in str(found)


def test_a_checkpoint_of_a_whole_stage_is_no_fit(tmp_path: Path) -> None:
    sx.save(Counted(16, 8).dataset, tmp_path / "s.zarr")
    _checkpoint(tmp_path / "s.zarr", "spectrograms")
    assert status(tmp_path / "s.zarr").next == "nothing; all stages are whole"


@pytest.mark.parametrize("content", [b"", b"half", None])
def test_a_checkpoint_that_cannot_be_read_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = _checkpoint(tmp_path / "s.zarr", "nmf")
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    path.with_name("nmf.part.npz").write_bytes(b"being written")
    sx.save(Counted(16, 8).dataset, tmp_path / "s.zarr")
    assert [stage.path for stage in status(tmp_path / "s.zarr").stages] == ["spectrograms"]


def test_what_failed_before_its_template_was_whole(tmp_path: Path) -> None:
    sx.save(Counted(16, 8).dataset, tmp_path / "s.zarr")
    note(tmp_path / "s.zarr", "fingerprints", "failed", error="OSError: no", seconds=0.1)
    found = status(tmp_path / "s.zarr")
    assert [(stage.path, stage.state, stage.error) for stage in found.stages] == [
        ("spectrograms", "whole", ""),
        ("fingerprints", "failed", "OSError: no"),
    ]
    assert found.next == "fingerprints from its beginning"


def test_a_stage_that_was_removed_is_gone(tmp_path: Path) -> None:
    note(tmp_path / "s.zarr", "nmf", "finished", seconds=0.1)
    with pytest.raises(ValueError, match=r"where there is no Zarr store"):
        status(tmp_path / "s.zarr")


def test_a_missing_store_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = rf"^got {tmp_path}/no\.zarr, where there is no Zarr store, expected one that a run wrote: check the path\.$"
    with pytest.raises(ValueError, match=text):
        status(tmp_path / "no.zarr")
    assert main(["status", str(tmp_path / "no.zarr")]) == 2
    assert "where there is no Zarr store" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sx.save(Counted(38, 8).dataset, tmp_path / "s.zarr")
    _broken(tmp_path / "s.zarr", 4, group=STATION)
    _checkpoint(tmp_path / "s.zarr", "nmf")
    assert main(["status", str(tmp_path / "s.zarr")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path}/s.zarr: nobody is writing"
    assert lines[1].split() == ["stage", "records", "shards", "left", "records/s", "state"]
    assert lines[2].split()[:4] == ["spectrograms", "38", "5", "0"]
    assert lines[2].endswith("whole; flagged: 8 missing")
    assert " ".join(lines[3].split()) == "nmf fit; step 1,200 of 3,110, held-out score -12.3457, size 38, 65 s"
    assert lines[4].split()[:4] == [f"{STATION}/spectrograms", "38", "5", "1"]
    assert "failed; RuntimeError: the power went off; flagged: " in lines[4]
    assert lines[5] == "next: fit_nmf continues at step 1,200 of 3,110; then 1 more"
    assert main(["status", str(tmp_path / "s.zarr"), "--group", STATION]) == 0
    assert "nmf" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("n_left", "rate", "expected"),
    [
        (3072, 77.0, "12 shards of fingerprints (3,072 records), about 40 s at 77 records a second"),
        (90_000, 100.0, "12 shards of fingerprints (90,000 records), about 15.0 min at 100 records a second"),
        (900_000, 100.0, "12 shards of fingerprints (900,000 records), about 2.5 h at 100 records a second"),
        (3072, None, "12 shards of fingerprints (3,072 records)"),
    ],
)
def test_what_is_next(n_left: int, rate: float | None, expected: str) -> None:
    stage = StageStatus("fingerprints", "broken off", shards=20, shards_left=12, records_left=n_left, rate=rate)
    assert Status("s.zarr", None, [stage]).next == expected
