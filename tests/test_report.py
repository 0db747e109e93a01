from __future__ import annotations

import base64
import io
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from report_study import N_EVENTS, SHORT, STATIONS, make_study

import specufex_dask as sx
from specufex_dask import figures, report_tables
from specufex_dask.recipe import stamp
from specufex_dask.report import report
from specufex_dask.store import save

if TYPE_CHECKING:
    from pathlib import Path

    from report_study import Stages

FIGURES = 14


def store_of(stages: Stages, folder: Path, *, group: str | None = None) -> Path:
    for dataset in stages.values():
        save(dataset, folder / "study.zarr", group=group)
    return folder / "study.zarr"


class Page(HTMLParser):
    """What a test asks of a page: figures, headings, links, all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.images: list[dict[str, str]] = []
        self.captions = 0
        self.links: list[str] = []
        self.sections: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attrs}
        self.links += [value for key, value in named.items() if key in {"src", "href"}]
        if tag == "img":
            self.images.append(named)
        self.captions += tag == "figcaption"
        self.sections += [named["id"]] if tag == "section" else []

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def picture(self, word: str) -> np.ndarray[Any, Any]:
        """The pixels (row, column, RGB) of the figure whose alternative text holds `word`."""
        return pixels(base64.b64decode(next(i["src"] for i in self.images if word in i["alt"]).partition(",")[2]))


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def share(picture: np.ndarray[Any, Any], colour: str) -> float:
    """Share of the pixels that have exactly this colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return float((picture == rgb).all(axis=-1).mean())


@pytest.fixture(scope="module")
def study() -> Stages:
    return make_study()


@pytest.fixture(scope="module")
def store(study: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_of(study, tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def html(store: Path) -> str:
    return report(store, store.parent / "pages" / "report.html").read_text()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_is_whole_and_stands_alone(html: str, page: Page) -> None:
    assert page.sections == [
        "glance", "input", "rejected", "convergence", "models", "clusters", "place", "typical",
    ]  # fmt: skip
    assert len(page.images) == FIGURES
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert not re.search(r"https?:|@import|<script", html)
    assert len(html) < 5e6


def test_every_figure_says_what_it_shows(page: Page) -> None:
    assert page.captions == len(page.images)
    assert min(len(image["alt"]) for image in page.images) > 30
    assert len({image["alt"] for image in page.images}) == len(page.images)


def test_every_figure_is_a_picture_with_something_on_it(page: Page) -> None:
    for image in page.images:
        picture = pixels(base64.b64decode(image["src"].partition(",")[2]))
        assert picture.std() > 5


def test_what_went_in_is_told_with_units(page: Page) -> None:
    assert "80, of which 76 usable (95.0 %)" in page.text
    assert "frequency 1 to 20 Hz in steps of 1 Hz" in page.text
    assert "band 1, 20 Hz time_range not set" in page.text


def test_rejected_records_are_counted_by_reason_at_each_station(page: Page) -> None:
    assert "station records usable short too quiet" in page.text
    assert "XX.ONE..HHZ 40 38 1 1" in page.text
    assert "XX.TWO..HHZ 40 38 2 0" in page.text
    assert "all 2 stations 80 76 3 1" in page.text
    assert "ev010 XX.ONE..HHZ too quiet" in page.text


def test_a_cluster_has_its_colour_in_every_figure(study: Stages, page: Page) -> None:
    cluster = study["clusters"].cluster.values
    sizes = np.array([(cluster == number).sum() for number in range(3)])
    silhouette = np.array([share(page.picture("below zero"), figures.cluster_colour(number)) for number in range(3)])
    assert (silhouette > 0).all()
    assert np.corrcoef(sizes, silhouette)[0, 1] > 0.95, "the area of a cluster is its size times its mean silhouette"
    for number in range(3):
        assert share(page.picture("events from"), figures.cluster_colour(number)) > 1e-3
        assert share(page.picture(f"Typical records of cluster {number}"), figures.cluster_colour(number)) > 1e-3
        assert share(page.picture(f"Typical records of cluster {number}"), figures.cluster_colour(number + 1)) < 1e-4


def test_reports_made_in_threads_differ_in_the_footer_alone(store: Path, html: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        pages = list(pool.map(lambda name: report(store, tmp_path / name).read_text(), ["a.html", "b.html"]))
    assert {made.partition("<footer>")[0] for made in pages} == {html.partition("<footer>")[0]}


def test_text_from_the_data_cannot_break_the_page(tmp_path: Path) -> None:
    names = [f"<script>alert({i})</script>" if i % 2 else f"$\\frac{{{i}$_^" for i in range(N_EVENTS)]
    study = {name: dataset for name, dataset in make_study(event_id=names).items() if name not in {"nmf", "hmm"}}
    html = report(store_of(study, tmp_path), tmp_path / "report.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;alert(" in html
    assert len(Page(html).images) == FIGURES - 6


OWN_FIGURES = {"catalog": 2, "stations": 0, "spectrograms": 1, "nmf": 3, "hmm": 2, "fingerprints": 1, "clusters": 4}


@pytest.mark.parametrize("stage", OWN_FIGURES)
def test_a_store_of_one_stage_shows_it_and_names_what_makes_the_others(
    stage: str, study: Stages, tmp_path: Path
) -> None:
    page = Page(report(store_of({stage: study[stage]}, tmp_path), tmp_path / "report.html").read_text())
    assert len(page.images) == OWN_FIGURES[stage]
    for other, call in report_tables.MADE_BY.items():
        assert (f"{other} {report_tables.WITHOUT[other]} {call}" in page.text) == (other != stage)


def test_the_chain_itself_ends_in_a_whole_page(tmp_path: Path) -> None:
    made = sx.simulate(tmp_path / "data", n_events=30, n_stations=2, missing=0.1, seed=0)
    store = tmp_path / "study.zarr"
    catalog, stations = (
        sx.save(read, store) for read in (sx.read_catalog(made.catalog), sx.read_stations(made.stations))
    )
    waveforms = sx.open_waveforms(
        catalog, stations, archive=made.archive, sampling_rate=made.sampling_rate, n_samples=made.n_samples
    )
    spectrograms = sx.save(sx.compute_spectrograms(waveforms, window_length=1.0, band=(1.0, 20.0)), store)
    nmf = sx.save(sx.fit_nmf(spectrograms, n_patterns=10, max_steps=100, seed=0), store)
    activations = sx.compute_activations(spectrograms, nmf)
    hmm = sx.save(sx.fit_hmm(activations, nmf, n_states=5, max_steps=100, seed=0), store)
    fingerprints = sx.save(sx.compute_fingerprints(spectrograms, nmf, hmm), store)
    sx.save(sx.cluster_fingerprints(fingerprints, n_clusters=range(2, 4), seed=0), store)
    page = Page(sx.report(store, tmp_path / "report.html", waveforms=waveforms).read_text())
    missing = int((spectrograms.quality == 1).sum())
    assert missing > 0
    assert f"60, of which {60 - missing} usable" in page.text
    assert "Every stage of the chain is here." in page.text
    assert len(page.images) >= FIGURES - 1, "one figure of typical records for each of the two or three clusters"


@pytest.mark.slow
@pytest.mark.parametrize("stage", OWN_FIGURES)
def test_any_stage_may_be_missing(stage: str, study: Stages, tmp_path: Path) -> None:
    rest = {name: dataset for name, dataset in study.items() if name != stage}
    page = Page(report(store_of(rest, tmp_path), tmp_path / "report.html").read_text())
    lost = {"catalog": 1, "stations": 0, "spectrograms": 0, "nmf": 4, "hmm": 3, "fingerprints": 0, "clusters": 6}
    assert len(page.images) == FIGURES - lost[stage]
    assert report_tables.MADE_BY[stage] in page.text


def test_models_of_a_group_take_the_catalog_from_the_top(study: Stages, tmp_path: Path) -> None:
    store_of({name: study[name] for name in ("catalog", "stations", "nmf")}, tmp_path)
    store = store_of({"hmm": study["hmm"]}, tmp_path, group=STATIONS[0])
    page = Page(report(store, tmp_path / "report.html", group=STATIONS[0]).read_text())
    assert len(page.images) == OWN_FIGURES["catalog"] + OWN_FIGURES["hmm"], "the nmf at the top is not the group's"
    assert "study.zarr · XX.ONE..HHZ" in page.text


def test_catalog_stations_and_waveforms_may_be_given(study: Stages, tmp_path: Path) -> None:
    store = store_of({name: study[name] for name in ("fingerprints", "clusters")}, tmp_path)
    records = study["clusters"][["event_id", "station_id", "start_time", "quality"]].reset_coords("quality")
    waveform = np.random.default_rng(1).normal(size=(records.sizes["record"], 1200)).astype("f4")
    waveforms = records.assign(waveform=(("record", "sample"), waveform)).assign_attrs(sampling_rate=100.0)
    page = Page(
        report(
            store,
            tmp_path / "report.html",
            catalog=study["catalog"],
            stations=study["stations"],
            waveforms=stamp(waveforms, "waveforms", {"window": (-2.0, 10.0)}),
        ).read_text()
    )
    assert len(page.images) == FIGURES - OWN_FIGURES["nmf"] - OWN_FIGURES["hmm"] - 1
    assert "window -2, 10 s" in page.text
    assert "From the top: the waveform;" in page.text


def test_nothing_to_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got no stage in .*nothing\.zarr, expected at least one of .*check the path"):
        report(tmp_path / "nothing.zarr", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_half_written_stage_is_left_out_and_named(study: Stages, tmp_path: Path) -> None:
    """As a run that was killed leaves it: of five shards the last two have no quality yet."""
    lazy = study["spectrograms"].chunk(record=16).assign_coords(study["spectrograms"].coords)
    store = store_of({"catalog": study["catalog"], "spectrograms": lazy}, tmp_path)
    for shard in (3, 4):
        (store / "spectrograms" / "quality" / "c" / str(shard)).unlink()
    page = Page(report(store, tmp_path / "report.html").read_text())
    assert len(page.images) == OWN_FIGURES["catalog"]
    assert f"spectrograms (begun, 2 shards not written) {report_tables.WITHOUT['spectrograms']}" in page.text
    shutil.rmtree(store / "catalog")
    with pytest.raises(ValueError, match=r"got no whole stage but spectrograms \(begun, 2 shards not written\) in "):
        report(store, tmp_path / "report.html")


def test_a_dataset_of_another_stage_is_an_error(store: Path, study: Stages, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got a Dataset of stage 'nmf', expected 'catalog': pass what read_catalog"):
        report(store, tmp_path / "report.html", catalog=study["nmf"])


def test_no_usable_record_still_makes_a_page(study: Stages, tmp_path: Path) -> None:
    clusters = study["clusters"].copy()
    n = clusters.sizes["record"]
    clusters["cluster"], clusters["quality"] = ("record", np.full(n, -1)), ("record", np.full(n, SHORT, "int8"))
    clusters["distance"] = clusters["silhouette"] = ("record", np.full(n, np.nan))
    bad = {"fingerprints": study["fingerprints"], "clusters": stamp(clusters, "clusters", {"seed": 0})}
    page = Page(report(store_of(bad, tmp_path), tmp_path / "report.html").read_text())
    assert "80, of which 0 usable" in page.text
