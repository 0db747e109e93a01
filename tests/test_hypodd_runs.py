from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr
from relocated import MODEL, lines, swarm, write

import specufex_dask as sx
from specufex_dask.correlation import correlate
from specufex_dask.hypodd import read_hypodd, run_hypodd, write_hypodd
from specufex_dask.hypodd_pairs import Pairing
from specufex_dask.hypodd_settings import Settings
from specufex_dask.pairs import find_pairs
from specufex_dask.tables import texts

if TYPE_CHECKING:
    from pathlib import Path

    from relocated import Swarm


@pytest.fixture(scope="module")
def made() -> Swarm:
    return swarm(0, n_events=7, n_stations=6)


@pytest.fixture(scope="module")
def folder(made: Swarm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(made, tmp_path_factory.mktemp("hypodd"))


def test_sequences_have_folders_and_ids_come_back(made: Swarm, tmp_path: Path) -> None:
    long = made.catalog.assign_coords(event_id=("event", texts([f"long-{i:020d}" for i in range(7)])))
    ids = dict(zip(made.catalog.event_id.values.tolist(), long.event_id.values.tolist(), strict=True))
    picks = made.picks.assign(event_id=("pick", texts([ids[each] for each in made.picks.event_id.values.tolist()])))
    sequence = xr.DataArray([0, 0, 0, -1, 1, 1, 2], dims="event")
    folders = write_hypodd(
        long, made.stations, picks, tmp_path, settings=Settings(MODEL), sequence=sequence,
        pairing=Pairing(max_separation_km=50),
    )  # fmt: skip
    assert [each.name for each in folders] == ["sequence_0", "sequence_1"]
    relocation = run_hypodd(folders, external=False, n_bootstrap=20)
    assert relocation.event_id.values.tolist() == [f"long-{i:020d}" for i in (0, 1, 2, 4, 5)]
    assert relocation.cluster.values.tolist() == [0, 0, 0, 1, 1]
    assert relocation.attrs["stage"] == "relocation"
    assert [int(line.split()[0]) for line in lines(folders[0] / "hypoDD.reloc")] == [1, 2, 3]
    assert read_hypodd(folders[1] / "hypoDD.reloc").event_id.values.tolist() == [f"long-{i:020d}" for i in (4, 5)]
    with pytest.raises(ValueError, match="got 7 sequences, none of two events, expected one at least"):
        write_hypodd(long, made.stations, picks, tmp_path, settings=Settings(MODEL), sequence=np.arange(7))


def _program(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program `hypoDD` on PATH."""
    folder.mkdir()
    path = folder / "hypoDD"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_program_on_path_is_run_in_the_folder(
    made: Swarm, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shutil.copytree(folder, tmp_path / "own")
    ours = run_hypodd(own, external=False, n_bootstrap=20)
    theirs = shutil.copytree(folder, tmp_path / "theirs")
    # all but the first event, backwards, as a program may leave them
    _program(
        tmp_path / "bin", monkeypatch, f"test $1 = hypoDD.inp && tail -n +2 {own}/hypoDD.reloc | sort -r > hypoDD.reloc"
    )
    found = run_hypodd(theirs)
    assert found.event_id.values.tolist() == made.catalog.event_id.values.tolist()
    assert found.cluster.values.tolist() == [-1] + [0] * 6
    assert np.isnan(found.latitude.values[0])
    np.testing.assert_allclose(found.x[1:], ours.x[1:], atol=0.051)
    assert (found.n_data[1:] == ours.n_data[1:]).all()
    assert found.n_data[0].sum() == 0
    assert '"solver": "hypoDD"' in found.attrs["recipe"]


def test_a_program_that_fails_is_told_with_its_words(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(FileNotFoundError, match="got no program 'hypoDD' on PATH, expected it for external=True"):
            run_hypodd(folder, external=True)
    own = shutil.copytree(folder, tmp_path / "own")
    _program(tmp_path / "bin", monkeypatch, "echo '>>> ERROR: too many events'; exit 3")
    with pytest.raises(RuntimeError, match=r"got exit code 3 of .*/hypoDD and no hypoDD.reloc.*too many events"):
        run_hypodd(own)
    shutil.rmtree(tmp_path / "bin")
    _program(tmp_path / "bin", monkeypatch, "echo quiet; exit 0")
    with pytest.raises(RuntimeError, match=r"got exit code 0 of .* and no hypoDD.reloc, expected 0 and one.*'quiet'"):
        run_hypodd(own)


@pytest.mark.parametrize(
    ("name", "line", "told"),
    [
        ("event.sel", "20240101 0 36 -120", "got '20240101 0 36 -120' in line 1 of .*event.sel, expected 'YYYYMMDD"),
        ("station.sel", "XXS00 36.0", "got 'XXS00 36.0' in line 1 of .*station.sel, expected 'STA LAT LON'"),
        ("dt.cc", "#  202400000 202400001", "in line 1 of .*dt.cc, expected '# ID1 ID2 OTC' and 'STA DT WGHT PHA'"),
        ("hypoDD.inp", "hypoDD_2", "got 'the end of the file' in line 0 of .*hypoDD.inp, expected IDAT IPHA DIST"),
    ],
)
def test_a_line_in_no_format_is_told(folder: Path, tmp_path: Path, name: str, line: str, told: str) -> None:
    own = shutil.copytree(folder, tmp_path / "own")
    (own / name).write_text(f"{line}\n")
    with pytest.raises(ValueError, match=told):
        run_hypodd(own, external=False)


def test_what_cannot_be_relocated_is_told(made: Swarm, folder: Path, tmp_path: Path) -> None:
    own = shutil.copytree(folder, tmp_path / "own")
    (own / "dt.ct").write_text("")
    (own / "dt.cc").write_text("# 202400000 202400001 -999\nXXS00 0.01 1.0 P\n")
    with pytest.raises(ValueError, match="got 7 events of which no two are linked by data that have weight"):
        run_hypodd(own, external=False)
    (own / "dt.ct").unlink()
    with pytest.raises(FileNotFoundError, match=r"without dt.ct, expected it: see hypoDD.inp"):
        run_hypodd(own, external=False)
    with pytest.raises(ValueError, match="got no folder, expected one at least: pass what write_hypodd returned"):
        run_hypodd([])
    deep = made.catalog.assign(depth=made.catalog.depth.where(made.catalog.depth > 8))
    with pytest.raises(ValueError, match=r"got event '2024\d+' without a depth or place \(\d such\), expected both"):
        write_hypodd(deep, made.stations, made.picks, tmp_path, settings=Settings(MODEL))
    others = made.picks.assign(event_id=("pick", texts(["other"] * made.picks.sizes["pick"])))
    with pytest.raises(ValueError, match="got 84 picks, none of a P or S of the events at the stations"):
        write_hypodd(made.catalog, made.stations, others, tmp_path, settings=Settings(MODEL))
    with pytest.raises(ValueError, match=r"got correlations without \['lag'\], expected"):
        write_hypodd(
            made.catalog, made.stations, made.picks, tmp_path, settings=Settings(MODEL),
            correlations=made.correlations.drop_vars("lag"),
        )  # fmt: skip


def test_correlated_waveforms_set_right_what_picks_are_off_by(tmp_path: Path) -> None:
    study = sx.simulate(tmp_path / "study", n_events=12, n_stations=3, repeating=1.0, seed=0)
    catalog, stations = sx.read_catalog(study.catalog), sx.read_stations(study.stations)
    true = sx.read_picks(study.quakeml)
    waveforms = sx.open_waveforms(
        catalog, stations, archive=study.archive, window=(-3, 12), sampling_rate=study.sampling_rate
    )
    noise = np.random.default_rng(0).normal(0, 30e6, true.sizes["pick"]).astype("m8[ns]")
    picks = true.assign(time=true.time + noise)
    correlations = correlate(waveforms, find_pairs(catalog=catalog, reach=0.5), picks=picks, max_lag=0.3).compute()
    (written,) = write_hypodd(
        catalog, stations, picks, tmp_path / "hypodd", settings=Settings(MODEL), correlations=correlations
    )
    numbers = dict(line.split(",") for line in lines(written / "event_ids.csv"))
    travelled = [_travelled(each, catalog) for each in (true, picks)]
    off: list[list[float]] = []
    for line in lines(written / "dt.cc"):
        words = line.split()
        if words[0] == "#":
            first, second = (numbers[each] for each in words[1:3])
            continue
        exact, picked = (each[first, words[0]] - each[second, words[0]] for each in travelled)
        off.append([abs(float(words[1]) - exact), abs(picked - exact)])
    assert len(off) > 20
    by_correlation, by_pick = np.median(off, axis=0)
    assert by_correlation < 0.35 * by_pick


def _travelled(picks: xr.Dataset, catalog: xr.Dataset) -> dict[tuple[str, str], float]:
    """Travel time [s] of each P, by event and by HypoDD's name of the station."""
    origin = dict(zip(catalog.event_id.values.tolist(), catalog.origin_time.values, strict=True))
    columns = (picks[name].values.tolist() for name in ("event_id", "station_id", "phase"))
    return {
        (event, "".join(station.split(".")[:2])): float((time - origin[event]) / np.timedelta64(1, "ns")) / 1e9
        for event, station, phase, time in zip(*columns, picks.time.values, strict=True)
        if phase == "P"
    }
