"""What a user may not show, keys and signed URLs, is in no store, log, page, output or error."""

from __future__ import annotations

import gzip
import logging
import traceback
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import buckets
import pytest
import xarray as xr
import yaml
from web_server import web_server

import specufex_dask as sx
from specufex_dask.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buckets import Bucket
    from s3_server import Server

    from specufex_dask.simulate import Simulation

SECRETS = (buckets.KEY, buckets.SECRET, "testsecret123", "not-it", "hidden-password", "0a1b2c3d")
STUDY: dict[str, Any] = {
    "seed": 0,
    "spectrograms": {"window_length": 0.5, "overlap": 0.5, "nfft": 64, "band": [2.0, 15.0]},
    "nmf": {"n_patterns": 4, "max_steps": 20},
    "hmm": {"n_states": 3, "max_steps": 20, "n_init": 1},
    "clusters": {"n_clusters": [2, 3]},
}


def _found(*texts: str) -> list[str]:
    return [secret for secret in SECRETS if any(secret in text for text in texts)]


def _told(error: BaseException) -> str:
    """The error as a log shows it, with its causes and the frames' code."""
    return "".join(traceback.format_exception(error))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    folder = tmp_path_factory.mktemp("made")
    return sx.simulate(folder, n_events=6, n_stations=2, sampling_rate=50.0, layout="scedc-events", seed=0)


def test_a_study_in_buckets_leaves_no_key_behind(
    made: Simulation, bucket: Bucket, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    files = [path for path in Path(made.folder).rglob("*") if path.is_file()]
    bucket.files.put(
        [str(path) for path in files], [f"{bucket.name}/{path.relative_to(made.folder)}" for path in files]
    )
    source = {"storage_options": bucket.options}
    study = {
        **STUDY, "store": {"store": bucket.url("s.zarr"), **source}, "report": bucket.url("s.html"),
        "catalog": {"source": bucket.url(Path(made.catalog).name), **source},
        "stations": {"source": bucket.url(Path(made.stations).name), **source},
        "waveforms": {"archive": "scedc-events", "root": bucket.url("waveforms"), "sampling_rate": 50.0,
                      "window": [-1, 5], **source},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    assert main(["run", str(tmp_path / "study.yaml")]) == 0
    assert main(["run", str(tmp_path / "study.yaml"), "--set", "nmf.seed=1"]) == 2
    output = capfd.readouterr()
    objects = {name: _plain(name, content) for name, content in bucket.objects().items() if name.startswith("s.")}
    assert {name.partition("/")[0] for name in objects} >= {"s.zarr", "s.zarr.run", "s.html"}
    assert "hmm" in output.out
    assert "seed" in output.err
    assert _found(*objects, *objects.values(), output.out, output.err, caplog.text) == []
    for stage in ("spectrograms", "nmf", "clusters"):  # chunks are compressed, so they are looked at as they are read
        held = sx.load(bucket.url("s.zarr"), stage, storage_options=bucket.options).compute()
        assert _found(_all_of(held)) == []


def _plain(name: str, content: bytes) -> str:
    return (gzip.decompress(content) if name.endswith(".gz") else content).decode("latin-1")


def _all_of(dataset: xr.Dataset) -> str:
    values = [str(array.values.tolist()) for array in dataset.variables.values() if array.dtype.kind in "OUST"]
    return " ".join([repr(dataset), str(dataset.attrs), *values, *(str(a.attrs) for a in dataset.variables.values())])


@pytest.mark.parametrize("kind", ["wrong", "admin"])
def test_an_error_of_a_bucket_shows_no_key(made: Simulation, s3: Server, tmp_path: Path, kind: Any) -> None:
    options = s3.storage_options(kind)
    bucket = "no-such-bucket" if kind == "admin" else "results"
    waveforms: dict[str, Any] = {"archive": "scedc-events", "sampling_rate": 50.0, "window": (-1, 5)}
    catalog, stations = sx.read_catalog(made.catalog), sx.read_stations(made.stations)
    for action in (
        lambda: sx.read_catalog(f"s3://{bucket}/c.csv", storage_options=options),
        lambda: sx.open_waveforms(catalog, stations, root=f"s3://{bucket}", storage_options=options, **waveforms),
        lambda: sx.save(catalog, f"s3://{bucket}/s.zarr", storage_options=options),
        lambda: sx.load(f"s3://{bucket}/s.zarr", "nmf", storage_options=options),
        lambda: sx.report(
            _store(catalog, tmp_path), "s3://results/p.html", storage_options=s3.storage_options("wrong")
        ),
    ):
        with pytest.raises((PermissionError, FileNotFoundError)) as caught:
            action()
        assert _found(_told(caught.value)) == []


def _store(catalog: xr.Dataset, folder: Path) -> Path:
    sx.save(catalog, folder / "s.zarr")
    return folder / "s.zarr"


class _Handler(SimpleHTTPRequestHandler):
    """Serves a folder to who signs, without listings of what is in it."""

    def do_GET(self) -> None:
        self.path, _, query = self.path.partition("?")
        allowed = "Signature=0a1b2c3d" in query and not self.path.endswith("/")
        super().do_GET() if allowed else self.send_error(403)

    def do_HEAD(self) -> None:
        self.path, _, query = self.path.partition("?")
        super().do_HEAD() if "Signature=0a1b2c3d" in query else self.send_error(403)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _website(folder: str) -> Iterator[str]:
    with web_server(partial(_Handler, directory=folder)) as host:
        yield host


def test_a_signed_website_is_read_and_its_signature_kept_to_itself(made: Simulation, tmp_path: Path) -> None:
    catalog, stations = sx.read_catalog(made.catalog), sx.read_stations(made.stations)
    path = "event_waveforms/{year}/{year}_{julday}/{event_id}.ms"
    how: dict[str, Any] = {"sampling_rate": 50.0, "window": (-1, 5)}
    local = sx.open_waveforms(catalog, stations, archive=f"{made.folder}/waveforms/{path}", **how)
    with _website(f"{made.folder}/waveforms") as host:
        signed = sx.open_waveforms(catalog, stations, archive=f"http://{host}/{path}?Signature=0a1b2c3d", **how)
        xr.testing.assert_identical(signed.compute().drop_attrs(), local.compute().drop_attrs())
        assert _found(_all_of(signed)) == []
        spectrograms = sx.save(sx.compute_spectrograms(signed, **STUDY["spectrograms"]), tmp_path / "s.zarr")
        texts = [p.read_text("latin-1") for p in tmp_path.rglob("*") if p.is_file()]
        assert _found(_all_of(spectrograms), *texts) == []
        denied = sx.open_waveforms(catalog, stations, archive=f"http://{host}/{path}?Signature=hidden-password", **how)
        with pytest.raises(PermissionError, match=rf"got access denied to http://{host}/event_waveforms/") as caught:
            denied.compute()
        assert _found(_told(caught.value)) == [], "and a page that is denied is not a missing one"
