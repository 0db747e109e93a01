from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from specufex_dask.config import run
from specufex_dask.simulate import simulate
from specufex_dask.store import load, stages
from specufex_dask.study import Study, read_study
from specufex_dask.summary import summary

if TYPE_CHECKING:
    from specufex_dask.simulate import Simulation

STUDY = Path(__file__).parent.parent / "notebooks" / "repeaters.yaml"
STATIONS = [f"XX.S00{i}..HHZ" for i in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate(tmp_path_factory.mktemp("archive"), n_events=60, n_stations=4, n_sequences=5, missing=0.05, seed=3)


def _settings(folder: Path) -> dict[str, Any]:
    """What the study is given here: this archive, fewer clusters, short fits."""
    return {
        "overrides": [
            f"store={folder}/study.zarr", f"report={folder}/study.html", f"relocation.folder={folder}/hypodd",
            "clusters.n_clusters=[20, 30, 40]", "nmf.max_steps=300", "hmm.max_steps=300", "hmm.n_states=8",
            "relocation.n_bootstrap=20",
        ]
    }  # fmt: skip


@pytest.fixture(scope="module")
def ran(made: Simulation, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[str]]:
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECUFEX_DASK_REPEATERS", made.folder)
        options = _settings(tmp_path_factory.mktemp("study"))
        return run(
            STUDY, announce=lambda stage, dataset, _: told.append(f"{stage}: {summary(stage, dataset)}"), **options
        ), told


def _truth(made: Simulation) -> dict[str, tuple[int, str]]:
    with Path(made.truth).open(encoding="utf-8") as file:
        return {row["event_id"]: (int(row["sequence"]), row["kind"]) for row in csv.DictReader(file)}


def test_all_stages_are_made_and_saved(ran: tuple[Study, list[str]]) -> None:
    study, told = ran
    names = [each.partition(":")[0] for each in told]
    assert names.count("nmf") == names.count("clusters") == len(STATIONS)
    assert names[-5:] == ["pairs", "correlations", "candidates", "relocation", "repeaters"]
    assert re.fullmatch(r"correlations: [\d,]+ of [\d,]+ correlations of P, S, median 0\.\d+", told[-4])
    assert re.fullmatch(r"repeaters: \d+ of 60 events in \d+ sequences", told[-1])
    assert set(stages(study.store)) == {"catalog", "stations", "picks", "relocation", "repeaters"}
    for station in STATIONS:
        assert set(stages(study.store, group=station)) == {"spectrograms", "nmf", "hmm", "fingerprints", "clusters"}
        assert set(load(study.store, "clusters", group=station).station_id.values.tolist()) == {station}
    assert [stages(study.store, group=group) for group in ("P", "S", "candidates")] == [
        ["correlations"], ["correlations"], ["repeaters"]
    ]  # fmt: skip
    assert Path(study.report).is_file()


def test_the_sequences_are_the_true_ones(made: Simulation, ran: tuple[Study, list[str]]) -> None:
    repeaters, truth = load(ran[0].store, "repeaters").compute(), _truth(made)
    found = dict(zip(repeaters.event_id.values.tolist(), repeaters.sequence.values.tolist(), strict=True))
    true = [event for event, (_, kind) in truth.items() if kind == "repeater"]
    assert np.mean([found[event] >= 0 for event in true]) > 0.8
    others = [event for event, (_, kind) in truth.items() if kind != "repeater" and found[event] >= 0]
    assert len(others) <= 1
    for number in range(repeaters.sizes["sequence_id"]):
        assert len({truth[event][0] for event, own in found.items() if own == number} - {-1}) == 1
    assert set(json.loads(load(ran[0].store, "repeaters", group="candidates").attrs["n_clusters"])) == set(STATIONS)


def test_relocation_brings_the_events_of_a_sequence_together(made: Simulation, ran: tuple[Study, list[str]]) -> None:
    repeaters, relocation = (load(ran[0].store, stage).compute() for stage in ("repeaters", "relocation"))
    catalog = load(ran[0].store, "catalog").compute()
    sequence = xr.DataArray(repeaters.sequence.values, {"event": repeaters.event_id.values}, "event")
    truth = _truth(made)

    def spread(places: xr.Dataset) -> float:
        """Median distance [m] in depth of true repeaters from the mean of their sequence."""
        own = np.array([truth[event][0] for event in places.event_id.values.tolist()])
        kept = np.array([int(sequence.sel(event=event)) >= 0 for event in places.event_id.values.tolist()]) & (own >= 0)
        depth = places.depth.values * 1000
        return float(np.median([abs(depth[i] - depth[kept & (own == own[i])].mean()) for i in np.flatnonzero(kept)]))

    assert spread(relocation) < 0.7 * spread(catalog)


def test_a_second_run_computes_nothing_again(
    made: Simulation, ran: tuple[Study, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECUFEX_DASK_REPEATERS", made.folder)
    monkeypatch.setattr("specufex_dask.fits.Fit.run", lambda *_, **__: pytest.fail("a model was fitted"))
    folder = Path(ran[0].report).parent
    before = {path: path.stat().st_mtime_ns for path in Path(ran[0].store).rglob("*") if path.is_file()}
    run(STUDY, **_settings(folder))
    assert {path: path.stat().st_mtime_ns for path in Path(ran[0].store).rglob("*") if path.is_file()} == before


def test_a_stage_without_what_it_is_made_from_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECUFEX_DASK_REPEATERS", "archive")
    content = {"store": "s.zarr", "seed": 0, "catalog": "c.csv", "stations": "s.csv", "models": "each",
               "waveforms": {"archive": "x", "sampling_rate": 1}, "spectrograms": {"window_length": 1, "band": [1, 2]},
               "correlations": {"phase": ["P", 1]}}  # fmt: skip
    with pytest.raises(ValueError, match="mistakes") as error:
        read_study(content)
    told = str(error.value)
    assert "got models='each', expected one of shared, station." in told
    assert "got correlations without pairs, which it is made from: add pairs." in told
    assert "got correlations without picks, which it is made from: add picks." in told
    assert "got correlations.phase=['P', 1], expected text or a list of texts." in told
    assert read_study(STUDY).by_station
