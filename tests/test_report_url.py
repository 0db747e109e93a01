"""A report at a URL: the page of the disk, whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fsspec
import pytest
import yaml
from report_study import make_study

import specufex_dask as sx
from specufex_dask.cli import main
from specufex_dask.config import run

if TYPE_CHECKING:
    from pathlib import Path

    from buckets import Bucket
    from s3_server import Server

FOOTER = "<footer"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for stage, dataset in make_study().items():
        if stage in {"catalog", "stations", "spectrograms", "nmf"}:
            sx.save(dataset, folder / "study.zarr")
    return folder / "study.zarr"


def test_a_page_in_a_bucket_is_that_of_the_disk(store: Path, bucket: Bucket, tmp_path: Path) -> None:
    local = sx.report(store, tmp_path / "page.html").read_text()
    written = sx.report(store, bucket.url("pages/page.html"), storage_options=bucket.options)
    assert str(written) == bucket.url("pages/page.html")
    there = bucket.objects("pages")["page.html"].decode()
    assert written.read_text() == there
    assert there.partition(FOOTER)[0] == local.partition(FOOTER)[0] != ""
    assert bucket.files.info(str(written))["ContentType"] == "text/html", "a browser shows it"


def test_a_page_is_written_over_the_last_one_at_any_url(store: Path) -> None:
    url = "memory://report-url/page.html"
    fsspec.filesystem("memory").pipe_file("/report-url/page.html", b"old")
    sx.report(store, url)
    assert fsspec.filesystem("memory").cat_file("/report-url/page.html").startswith(b"<!doctype html>")


def test_who_may_not_write_the_page_is_told(store: Path, s3: Server) -> None:
    told = r"got access denied to s3://results/page.html, expected the right to write and delete there \(s3:PutObject"
    with pytest.raises(PermissionError, match=told):
        sx.report(store, "s3://results/page.html", storage_options=s3.storage_options("reader"))


def test_the_command_takes_a_url(
    store: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(fsspec.config.conf, "s3", bucket.options)
    assert main(["report", str(store), "--output", bucket.url("page.html")]) == 0
    assert capsys.readouterr().out.strip() == bucket.url("page.html")
    assert bucket.objects()["page.html"].startswith(b"<!doctype html>")


def test_a_study_writes_its_page_with_the_options_of_its_store(bucket: Bucket, tmp_path: Path) -> None:
    made = sx.simulate(tmp_path / "made", n_events=6, n_stations=2, sampling_rate=50.0, seed=0)
    study: dict[str, Any] = {
        "seed": 0, "store": {"store": bucket.url("s.zarr"), "storage_options": bucket.options},
        "report": bucket.url("s.html"), "catalog": made.catalog, "stations": made.stations,
        "waveforms": {"archive": made.archive, "sampling_rate": 50.0},
        "spectrograms": {"window_length": 0.5, "overlap": 0.5, "nfft": 64, "band": [2.0, 15.0]},
        "nmf": {"n_patterns": 4, "max_steps": 20}, "hmm": {"n_states": 3, "max_steps": 20, "n_init": 1},
        "clusters": {"n_clusters": [2, 3]},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    checked = run(tmp_path / "study.yaml")
    assert checked.report == bucket.url("s.html")
    assert b"Every stage of the chain is here." in bucket.objects()["s.html"]
    elsewhere = ["--store", bucket.url("other.zarr"), "--report", bucket.url("other.html")]
    assert main(["run", str(tmp_path / "study.yaml"), *elsewhere]) == 0, "the options hold for another store as well"
    assert b"Every stage of the chain is here." in bucket.objects()["other.html"]
    assert sx.load(bucket.url("other.zarr"), "clusters", storage_options=bucket.options).sizes["record"] == 12
