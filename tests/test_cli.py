from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import specufex_dask as sx
from specufex_dask.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of a small demo, run as a user runs it."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "specufex_dask", "demo", "--path", str(folder), "--n-events", "60", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def test_demo_says_what_each_step_did(demo: tuple[Path, str]) -> None:
    folder, output = demo
    steps = [line.split()[0] for line in output.splitlines()]
    assert steps == [
        "simulate", "catalog", "stations", "picks", "waveforms", "spectrograms", "nmf", "activations", "hmm",
        "fingerprints", "clusters", "report", "truth",
    ]  # fmt: skip
    assert "60 of 60 records usable" in output
    assert re.search(r"^nmf +\d+ of 30 patterns kept", output, re.MULTILINE)
    assert re.search(r"^clusters +K = \d of 2 to 6, best silhouette 0\.\d{3}: ", output, re.MULTILINE)
    assert str(folder / "report.html") in output


def test_demo_finds_the_simulated_families(demo: tuple[Path, str]) -> None:
    found = re.search(r"adjusted Rand index of clusters and simulated families (\S+)", demo[1])
    assert found
    assert float(found[1]) > 0.5


def test_run_computes_nothing_again(
    demo: tuple[Path, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for function in ("fits.Fit.run", "clusters.partitions", "fingerprints._fingerprint_block"):
        monkeypatch.setattr(f"specufex_dask.{function}", lambda *_, **__: pytest.fail("a stored stage is made again"))
    folder, _ = demo
    before = sx.load(folder / "study.zarr", "nmf").load()
    written = {path: path.stat().st_mtime_ns for path in (folder / "study.zarr").rglob("*") if path.is_file()}
    assert main(["run", str(folder / "study.yaml")]) == 0
    assert "report.html" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (folder / "study.zarr").rglob("*") if path.is_file()} == written
    assert sx.load(folder / "study.zarr", "nmf").load().identical(before)


def test_run_refuses_another_recipe_in_the_same_store(
    demo: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    study = str(demo[0] / "study.yaml")
    assert main(["run", study, "--set", "spectrograms.overlap=0.5"]) == 2
    told = capsys.readouterr().err
    assert "overlap is 0.5 now and was 0.75" in told
    assert "or pass --overwrite to replace it" in told
    assert "overwrite=True" not in told


def test_run_writes_where_it_is_told(demo: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--store", "other.zarr", "--report", "other.html", "--set", "clusters.n_clusters=3"]
    options += ["--set", "nmf.max_steps=100", "--set", "hmm.max_steps=50"]
    assert main(["run", str(demo[0] / "study.yaml"), *options]) == 0
    assert sx.load(tmp_path / "other.zarr", "clusters")["cluster"].max() == 2
    assert "<html" in (tmp_path / "other.html").read_text()


def test_report_of_a_store(demo: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(demo[0] / "study.zarr"), "--output", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert "<html" in page.read_text()


def test_a_mistake_is_one_message_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("store: s.zarr\nseed: 0\nnfm: {n_patterns: 30}\n")
    assert main(["run", str(file)]) == 2
    output, told = capsys.readouterr()
    assert output == ""
    assert told.startswith(f"specufex-dask: error: {file} has mistakes")
    assert "Did you mean 'nmf'?" in told
    assert "Traceback" not in told


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has mistakes"):
        main(["--debug", "run", str(_empty(tmp_path))])


def _empty(folder: Path) -> Path:
    file = folder / "empty.yaml"
    file.write_text("{}")
    return file


def test_a_missing_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "no.yaml")]) == 2
    assert "no.yaml" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"specufex-dask {sx.__version__}\n"


def test_misuse_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["rum"])
    assert "invalid choice: 'rum'" in capsys.readouterr().err
