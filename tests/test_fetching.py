from __future__ import annotations

import base64
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from web_server import web_server

from specufex_dask.catalog import read_catalog, read_picks, read_stations
from specufex_dask.fetching import fetch
from specufex_dask.simulate import Simulation, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3_server import Server

EVENTS = b"event_id,origin_time,latitude,longitude,depth_km,magnitude\n007,2020-01-01T00:00:00,45,7,1.5,2\n"
PHASE = """{} eq  l 2016/01/01,00:12:50.650   34.1822   -117.4162   7.38  0.85  l 1.0
\tCI    CJM HHZ --   34.2712  -117.4245  1616.0 P d. i  0.8    9.92   2.228
"""
PASSWORD, SIGNATURE = "secret-of-mine", "0a1b2c3d"
SECRETS = (PASSWORD, SIGNATURE, "not-it", "testkey")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate(tmp_path_factory.mktemp("simulated"), n_events=3, n_stations=2, seed=3)


@contextmanager
def _website(content: bytes, *, promised: int | None = None) -> Iterator[str]:
    """A site that gives /events.csv to who knows the password, and says that it has `promised` bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "").removeprefix("Basic ")
            known = base64.b64decode(given) == f"me:{PASSWORD}".encode()
            found = self.path.partition("?")[0] == "/events.csv"
            status = (200 if found else 404) if known else 403
            self.send_response(status)
            body = content if status == 200 else b""
            length = len(body) if promised is None or self.command == "GET" else promised
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the name is the server's

        def log_message(self, *_: Any) -> None:
            pass

    with web_server(Handler) as host:
        yield host


def _assert_secretive(caught: pytest.ExceptionInfo[Any]) -> None:
    """Neither the error nor its traceback, which a log may show, tells who asked."""
    told = "".join(traceback.format_exception(caught.value))
    assert not [secret for secret in SECRETS if secret in told]


def test_a_simulated_study_is_read_from_memory_as_from_disk(made: Simulation) -> None:
    fs = fsspec.filesystem("memory")
    for path in (made.catalog, made.quakeml, made.stations):
        fs.pipe_file(f"/study/{Path(path).name}", Path(path).read_bytes())
    url = "memory://study/"
    assert read_catalog(url + Path(made.catalog).name).identical(read_catalog(made.catalog))
    assert read_picks(url + Path(made.quakeml).name).identical(read_picks(made.quakeml))
    assert read_stations(url + Path(made.stations).name).identical(read_stations(made.stations))
    with pytest.raises(FileNotFoundError, match=r"got memory://study/absent.csv, where there is no such object, expec"):
        read_catalog("memory://study/absent.csv")
    with pytest.raises(FileNotFoundError, match=r"got memory://study/\*.none, where there is no such object"):
        read_catalog("memory://study/*.none")
    with pytest.raises(ValueError, match=r"got nowhere://a.csv with storage_options that .*: correct them"):
        read_catalog("nowhere://a.csv")


def test_anyone_reads_a_public_bucket(s3: Server) -> None:
    texts = {f"{i}.phase": PHASE.format(i).encode() for i in (1, 2, 3)}
    s3.put({f"event_phases/2016/2016_001/{name}": text for name, text in texts.items()}, "scedc-pds")
    options = s3.storage_options("anonymous")
    picks = read_picks("s3://scedc-pds/event_phases/2016/2016_001/*.phase", storage_options=options)
    assert picks.event_id.values.tolist() == ["1", "2", "3"]
    named = [f"s3://scedc-pds/event_phases/2016/2016_001/{i}.phase" for i in (3, 1)]
    assert read_picks(named, storage_options=options).event_id.values.tolist() == ["3", "1"]
    assert [file.name for file in fetch(named, options)] == named


@pytest.mark.parametrize("kind", ["anonymous", "wrong"])
def test_a_private_bucket_is_denied_without_a_word_about_who_asked(s3: Server, kind: Any) -> None:
    s3.put({"events.csv": EVENTS}, "results")
    url = "s3://results/events.csv"
    assert read_catalog(url, storage_options=s3.storage_options("reader")).event_id.item() == "007"
    expected = r"got access denied to s3://results/events.csv, expected the right to list and read .*: set AWS_PROFILE"
    with pytest.raises(PermissionError, match=expected) as caught:
        read_catalog(url, storage_options=s3.storage_options(kind))
    _assert_secretive(caught)


def test_a_missing_object_or_server_is_told(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
    options = s3.storage_options("anonymous")
    with pytest.raises(FileNotFoundError, match=r"got s3://scedc-pds/none.csv, where there is no such object"):
        read_catalog("s3://scedc-pds/none.csv", storage_options=options)
    nobody = {"anon": True, "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
    nobody["config_kwargs"] = {"connect_timeout": 1, "retries": {"max_attempts": 0}}
    with pytest.raises(OSError, match=r"got no answer for s3://scedc-pds/a.csv \(.*\), expected one of its server"):
        read_catalog("s3://scedc-pds/a.csv", storage_options=nobody)


def test_a_website_is_read_and_its_refusals_are_told() -> None:
    with _website(EVENTS) as host:
        signed = f"http://me:{PASSWORD}@{host}/{{}}?X-Amz-Signature={SIGNATURE}"
        with pytest.raises(
            PermissionError, match=f"got access denied to http://{host}/events.csv, expected the"
        ) as caught:
            read_catalog(f"http://{host}/events.csv?X-Amz-Signature={SIGNATURE}")
        _assert_secretive(caught)
        assert read_catalog([signed.format("events.csv")]).event_id.item() == "007"
        with pytest.raises(FileNotFoundError, match=f"got http://{host}/none.csv, where there is no") as missed:
            read_catalog(signed.format("none.csv"))
        _assert_secretive(missed)


def test_half_a_file_is_refused() -> None:
    with _website(EVENTS, promised=len(EVENTS) + 9) as host:
        url = f"http://me:{PASSWORD}@{host}/events.csv"
        with pytest.raises(OSError, match=rf"got {len(EVENTS)} of the {len(EVENTS) + 9} bytes of http://{host}/events"):
            read_catalog(url)


def test_a_protocol_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(ImportError, match=r"got gs://b/a.csv, expected a package that opens it .*: install what"):
        read_catalog("gs://b/a.csv")
