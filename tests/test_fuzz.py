"""20,000 damaged files: none ends the process, none hangs, and no record is wrong that does not say so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import fuzz_runner
import numpy as np
import pytest
from fuzz_inputs import DAMAGE, NAMES, damaged, small_bases
from fuzz_runner import READERS, Tally, chosen, examine
from processes import ENVIRONMENT

N_INPUTS = 20_000
N_PROCESSES = 2


def _data() -> Path | None:
    """The real files; without them there are those that are made here and ObsPy's."""
    named = os.environ.get("SPECUFEX_DASK_DATA", "")
    return Path(named) if named and Path(named).is_dir() else None


def _ran(folder: Path, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The tallies of a process; where it died, what it died of is kept beside."""
    process.wait()
    log = (folder / "log").read_text(errors="replace")
    if process.returncode:
        number = int((folder / "number").read_bytes() or -1)
        (folder / f"input_{number}").write_bytes(chosen(number, _data())[2])
        pytest.fail(f"input {number} ended the process with {process.returncode}; it is in {folder}\n{log[-3000:]}")
    assert log == ""
    return dict(json.loads((folder / "tally.json").read_text()))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_damage_is_survived_and_told(tmp_path: Path, show_table: Any) -> None:
    edges = np.linspace(0, N_INPUTS, N_PROCESSES + 1).astype(int).tolist()
    begun = []
    for first, last in pairwise(edges):
        folder = tmp_path / f"{first}"
        folder.mkdir()
        arguments = [folder, first, last, *filter(None, [_data()])]
        command = [sys.executable, fuzz_runner.__file__, *map(str, arguments)]
        with (folder / "log").open("wb") as log:
            begun.append((folder, subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log)))
    tallies = [_ran(*each) for each in begun]
    rows = []
    for reader, how in READERS.items():
        counts: Counter[str] = sum((Counter(each[reader]["counts"]) for each in tallies), Counter())
        n_inputs = counts.pop("inputs")
        rows += [(reader, n_inputs, name, n) for name, n in counts.most_common()]
        assert counts["right"] > 0.3 * counts.total()
        assert counts["unreadable"] > 0.1 * n_inputs
        assert counts["as the damaged file says"] < how.most_excused * counts.total()
    show_table("damaged files", [("reader", "inputs", "outcome", "records"), *rows])
    failures = [failure for each in tallies for tally in each.values() for failure in tally["failures"]]
    assert not failures, "\n".join(failures[:20])


def test_damage_is_the_same_every_time_and_of_every_kind() -> None:
    sound, kinds = small_bases(None)[1], set()
    for number in range(60):
        first, found = damaged(sound, np.random.default_rng(number))
        assert (first, found) == damaged(sound, np.random.default_rng(number))
        kinds.update(found)
    assert kinds == set(DAMAGE)


def test_a_wrong_sample_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for wrong records finds one: a decoder that changes a sample."""
    from specufex_dask.record_blocks import read_block

    def wrong(*arguments: Any, **options: Any) -> Any:
        block = read_block(*arguments, **options)
        block["waveform"][:, 7] += 1
        return block

    monkeypatch.setattr("fuzz_runner.read_block", wrong)
    tally = Tally()
    for number in range(20):
        examine(number, tmp_path, None, tally)
    assert any("wrong samples" in failure for failure in tally.failures)
    assert tally.counts["right"] == 0


@pytest.mark.parametrize("number", range(0, 48, 3))
def test_a_few_damaged_files(tmp_path: Path, number: int) -> None:
    tally = Tally()
    examine(number, tmp_path, None, tally)
    assert not tally.failures
    assert tally.counts.total() > 1


def test_all_kinds_of_files_are_there() -> None:
    names = [base.name for base in small_bases(None)]
    assert len(names) == len(set(names)) >= 10
    assert {window.station_id for base in small_bases(None) for window in base.windows} >= set(NAMES)
