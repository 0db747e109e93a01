from __future__ import annotations

import io
import re
import sys

import pytest
from dask.base import compute
from dask.delayed import delayed

from specufex_dask.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue())


def _terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal as standard error; set in the test itself, since pytest sets its own before each."""
    drawn = Terminal()
    monkeypatch.setattr(sys, "stderr", drawn)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    return drawn


def test_is_silent_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("fit nmf", total=3, unit="steps") as advance:
        advance()
    assert capfd.readouterr() == ("", "")


def test_draws_what_is_done_and_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress("fit nmf", total=2000, unit="steps") as advance:
        advance(500, note="75 patterns")
        advance(1000, note="38 patterns")
    last = terminal.text.rstrip().splitlines()[-1]
    assert last.startswith("fit nmf")
    assert "1,500/2,000 steps" in last
    assert last.endswith("38 patterns")


def test_work_of_unknown_length_counts_up(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress("read", total=None, unit="files") as advance:
        advance(7)
    assert " 7 files" in terminal.text.rstrip().splitlines()[-1]


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_follows_the_tasks_of_the_scheduler(monkeypatch: pytest.MonkeyPatch, scheduler: str) -> None:
    terminal = _terminal(monkeypatch)
    tasks = [delayed(abs)(-number) for number in range(5)]
    worth = {task.key: 100 for task in tasks[:-1]} | {tasks[-1].key: 30}
    with progress("spectrograms", total=430, unit="records", tasks=worth):
        compute(*tasks, scheduler=scheduler)
    assert "430/430 records" in terminal.text.rstrip().splitlines()[-1]


def test_nested_work_shares_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    with progress("outer", total=1, unit="stages") as advance:
        with progress("inner", total=2, unit="records") as inner:
            inner(2)
        advance()
    lines = terminal.text.rstrip().splitlines()[-2:]
    assert [line.split()[0] for line in lines] == ["outer", "inner"]


def _fail_halfway() -> None:
    with progress("fit", total=2, unit="steps") as advance:
        advance()
        raise KeyError


def test_an_error_ends_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _terminal(monkeypatch)
    for _ in range(2):  # the second needs the display that the first gave back
        with pytest.raises(KeyError):
            _fail_halfway()
    assert terminal.text.count("1/2 steps") >= 2
