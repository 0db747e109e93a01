"""Studies of several stations: merged events, with one model and with one each; sequences; and their reports."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import repeating
import xarray as xr

import specufex_dask as sx
from specufex_dask import report_events, report_repeaters
from specufex_dask.config import run
from specufex_dask.recipe import stamp
from specufex_dask.status import status
from specufex_dask.store import load
from specufex_dask.study import read_study
from specufex_dask.summary import summary

if TYPE_CHECKING:
    from specufex_dask.report_tables import Table
    from specufex_dask.simulate import Simulation

STATIONS = [f"XX.S00{i}..BHZ" for i in (1, 2, 3)]


class Words(HTMLParser):
    """All text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return sx.simulate(
        tmp_path_factory.mktemp("made"), n_events=24, n_stations=3, sampling_rate=50.0, missing=0.1, seed=0
    )


def _study(made: Simulation, folder: Path, models: str) -> dict[str, Any]:
    return {
        "store": f"{folder}/{models}.zarr", "report": f"{folder}/{models}.html", "seed": 0, "models": models,
        "catalog": made.catalog, "stations": made.stations,
        "waveforms": {"archive": made.archive, "sampling_rate": 50.0},
        "spectrograms": {"window_length": 0.5, "overlap": 0.5, "nfft": 64, "band": [2.0, 15.0]},
        "nmf": {"n_patterns": 4, "max_steps": 20}, "hmm": {"n_states": 3, "max_steps": 20, "n_init": 1},
        "clusters": {"n_clusters": [2, 3], "method": "ward"}, "events": {"min_stations": 2, "n_families": 2},
    }  # fmt: skip


@pytest.mark.parametrize("models", ["shared", "station"])
def test_a_study_merges_its_stations(made: Simulation, tmp_path: Path, models: str) -> None:
    told: dict[str, str] = {}
    study = run(_study(made, tmp_path, models), announce=lambda s, dataset, _: told.update({s: summary(s, dataset)}))
    events = load(study.store, "events").compute()
    if models == "shared":
        expected = sx.merge_stations(load(study.store, "clusters"), load(study.store, "catalog"))
    else:
        apart = [load(study.store, "clusters", group=station) for station in STATIONS]
        expected = sx.merge_stations(apart, load(study.store, "catalog"), min_stations=2, n_families=2)
    xr.testing.assert_equal(events, expected.compute())
    inside = int((events.cluster >= 0).sum())
    assert re.fullmatch(
        rf"{inside} of 24 events in \d clusters, agreement 0\.\d\d over 2\.\d stations in the mean: \d+(, \d+)+ events",
        told["events"],
    )
    assert [stage.state for stage in status(study.store).stages if stage.path == "events"] == ["whole"]
    page = Words(Path(study.report).read_text()).text
    assert f"{inside} of 24 events are in a merged cluster: " in page
    assert "An event has the cluster that its records were merged into" in page
    assert "Every stage of the chain is here." in page
    for station in STATIONS:
        n_usable = sum(int(u) for u in _usable(study.store, models, station))
        assert re.search(rf"{station} 24 {n_usable} {100 * n_usable / 24:.1f} % \d+\.\d %", page)
    assert ("3 stations with models and clusters of their own" in page) == (models == "station")
    assert page.count("Dendrogram") == (3 if models == "station" else 1)


def _usable(store: str, models: str, station: str) -> np.ndarray[Any, Any]:
    clusters = load(store, "clusters", group=station if models == "station" else None)
    return np.asarray((clusters.quality.values == 0) & (clusters.station_id.values == station))


def test_a_study_without_the_section_merges_nothing(made: Simulation, tmp_path: Path) -> None:
    study = _study(made, tmp_path, "shared")
    assert read_study(study).arguments["events"] == {"min_stations": 2, "n_families": 2}
    del study["events"]
    assert "events" not in read_study(study).arguments


def test_a_mistake_in_the_section_is_told_at_once(made: Simulation, tmp_path: Path) -> None:
    study = _study(made, tmp_path, "shared") | {"events": {"min_station": 2}}
    with pytest.raises(ValueError, match=r"got events\.min_station=2, expected one of .*Did you mean 'min_stations'\?"):
        run(study)


def test_one_station_is_one_station(made: Simulation, tmp_path: Path) -> None:
    study = _study(made, tmp_path, "shared") | {"events": None}
    study["waveforms"]["station_id"] = STATIONS[:1]
    told: dict[str, str] = {}
    ran = run(study, announce=lambda s, dataset, _: told.update({s: summary(s, dataset)}))
    assert told["waveforms"].startswith("24 records from 1 station, ")
    assert " over 1 station in the mean: " in told["events"]
    page = Words(Path(ran.report).read_text())
    assert "The records are those of 24 events at 1 station." in page.text
    wrong = re.compile(r"(?<![\d.,])1 (?:stations|records|events|clusters|sequences|frequencies|shards)\b")
    assert [word for word in page.words if wrong.search(word)] == []


def _cells(table: Table) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in table.rows}


def test_stations_agree_where_their_usual_cluster_is() -> None:
    """The third station has another cluster for the last event of the first family, and none of the fifth event."""
    labels = np.array([[5, 7, 1], [5, 7, 1], [5, 7, 1], [5, 7, 0], [2, 3, -1], [2, 3, 0]])
    catalog = repeating.catalog(np.arange(6.0), 2.0)
    clusters = [repeating.station(f"XX.{i}..Z", [column]) for i, column in enumerate(labels.T)]
    clusters[2]["quality"] = ("record", np.where(labels[:, 2] < 0, 1, 0).astype("int8"))
    events = sx.merge_stations(clusters, catalog, min_stations=2)
    apart = {str(i): {"clusters": each} for i, each in enumerate(clusters)}
    section = report_events.section({"events": events}, apart)
    sizes, seen = map(_cells, section.tables)
    assert sizes == {"cluster 0": ("4", "66.7 %", "3.00", "0.92"), "cluster 1": ("2", "33.3 %", "2.50", "1.00")}
    assert seen == {
        "XX.0..Z": ("6", "6", "100.0 %", "100.0 %"), "XX.1..Z": ("6", "6", "100.0 %", "100.0 %"),
        "XX.2..Z": ("6", "5", "83.3 %", "80.0 %"),
    }  # fmt: skip
    assert section.text.endswith("which shares its cluster with another at 2 stations or more; the rest do not.")
    agreement = events.agreement.values * events.n_stations.values
    assert agreement.sum() == pytest.approx(6 + 6 + 4), "what the stations agree on adds up to what the events do"


def test_the_report_of_repeaters(tmp_path: Path) -> None:
    cluster = np.array([0, 0, 0, 1, 1, -1, 0, 1])
    catalog = repeating.catalog(cluster * 3000.0, np.array([2.0, 2.0, 2.0, 1.5, 1.5, 2.0, 2.9, 1.5]))
    reference = repeating.reference(["a", "a", "", "b", "b", "", "", "b"])
    repeaters = sx.find_repeaters(repeating.merged(cluster), catalog, reference=reference)
    candidates = sx.find_repeaters(repeating.merged(cluster), catalog, magnitude_window=1.0)
    store = tmp_path / "study.zarr"
    for dataset, group in ((catalog, None), (repeaters, None), (candidates, "candidates")):
        sx.save(dataset, store, group=group)
    html = sx.report(store, tmp_path / "page.html").read_text()
    page = Words(html).text
    assert "6 of 8 events in 2 sequences repeat on patches of a fault." in page
    assert "there were 7 of 8 events in 2 sequences." in page
    assert "what became of the event events before relocation (number) events at last (number)" in page
    assert "in sequence 7 6 no cluster 1 1 other magnitude 0 1" in page
    assert "events in sequences of the reference (number) 5" in page
    assert html.count("<img") == 5
    for title in ("Sequences on the map and in depth", "Sequences over time", "Recurrence against moment"):
        assert title in page
    (first, second) = report_repeaters.sequences(repeaters).rows
    assert first[:5] == ("0", "3", "365.0", "0.000", "2.00")
    assert second[:3] == ("1", "3", f"{repeaters.recurrence.values[1]:,.1f}")
    assert float(first[-1]) == pytest.approx(3 * 8.67, abs=0.05), "three times 10^-2.36 (10^19.4)^0.17 cm"


def test_no_sequence_is_told(tmp_path: Path) -> None:
    catalog = repeating.catalog([0.0, 9000.0], 2.0)
    sx.save(catalog, tmp_path / "s.zarr")
    sx.save(sx.find_repeaters(repeating.merged([0, 0]), catalog), tmp_path / "s.zarr")
    page = Words(sx.report(tmp_path / "s.zarr", tmp_path / "page.html").read_text()).text
    assert "No sequence was found. 0 of 2 events in 0 sequences" in page


def test_of_many_clusters_the_largest_are_shown(tmp_path: Path) -> None:
    """A page of 300 clusters, as of Ward's at one station, is no longer than that of 15."""
    labels = np.repeat(np.arange(300), 2)
    clusters = repeating.station("XX.A..Z", [labels]).drop_vars("centroid")
    clusters = clusters.assign(centroid=(("cluster_id", "state", "next_state"), np.ones((300, 2, 2))))
    n_records = len(labels)
    fingerprint = np.ones((n_records, 2, 2), "f4")
    square = ("record", "state", "next_state")
    fingerprints = clusters[["quality"]].assign(
        fingerprint=(square, fingerprint), transition=(square, fingerprint),
        state_sequence=(("record", "time"), np.zeros((n_records, 3), "int8")),
    ).assign_coords(time=np.arange(3.0))  # fmt: skip
    catalog = repeating.catalog(np.zeros(200), 2.0)
    sx.save(catalog, tmp_path / "s.zarr")
    sx.save(stamp(clusters, "clusters", {}), tmp_path / "s.zarr")
    sx.save(stamp(fingerprints, "fingerprints", {}), tmp_path / "s.zarr")
    html = sx.report(tmp_path / "s.zarr", tmp_path / "page.html").read_text()
    page = Words(html).text
    assert "Figures show the 15 largest of 300 clusters." in page
    assert "The 50 largest of 300 clusters. Distance" in page
    assert html.count('alt="Typical records of cluster') == 15
    assert len(html) < 5e6
