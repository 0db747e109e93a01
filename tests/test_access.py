"""What keeps a run out of a bucket is told: what was got, what was expected, what to do; against a real server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import draws
import pytest
import xarray as xr

import specufex_dask as sx
from specufex_dask import access
from specufex_dask.cli import main
from specufex_dask.places import Remote, at
from specufex_dask.status import status

if TYPE_CHECKING:
    from pathlib import Path

    from s3_server import Kind, Server

STORE = "s3://results/access.zarr"
MAY_WRITE = (
    r"got access denied to s3://results/\S+, expected the right to write and delete there \(s3:PutObject, "
    r"s3:DeleteObject\): ask its owner for it, or name other credentials: set AWS_PROFILE"
)
MAY_READ = (
    r"got access denied to s3://results/\S+, expected the right to list and read there \(s3:ListBucket, s3:GetObject\)"
    r": check the URL, for what is not there may be denied too, ask its owner for it, or name other credentials: set"
)


def test_who_may_only_read_loads_and_asks_but_does_not_save(s3: Server) -> None:
    spectrograms = draws.spectrograms(16)
    sx.save(spectrograms, STORE, storage_options=s3.storage_options("admin"))
    reader = s3.storage_options("reader")
    loaded = sx.load(STORE, "spectrograms", storage_options=reader)
    xr.testing.assert_equal(loaded.compute(), spectrograms.compute())
    assert status(STORE, storage_options=reader).next == "nothing; all stages are whole"
    with pytest.raises(PermissionError, match=MAY_WRITE):
        sx.save(draws.spectrograms(8), STORE, overwrite=True, storage_options=reader)
    with pytest.raises(PermissionError, match=MAY_WRITE):
        sx.save(spectrograms, "s3://results/other.zarr", storage_options=reader)
    with pytest.raises(PermissionError, match=MAY_WRITE):
        sx.fit_nmf(loaded, n_patterns=3, max_steps=3, seed=0, checkpoint=STORE, storage_options=reader)


def test_what_is_stored_already_needs_no_right_to_write(s3: Server) -> None:
    spectrograms = draws.spectrograms(16, seed=1)
    store = "s3://results/whole.zarr"
    sx.save(spectrograms, store, storage_options=s3.storage_options("admin"))
    sx.save(spectrograms, store, storage_options=s3.storage_options("reader"))


@pytest.mark.parametrize(("kind", "told"), [("wrong", "got credentials refused for s3"), ("anonymous", MAY_READ)])
def test_who_may_nothing_is_told(s3: Server, kind: Kind, told: str) -> None:
    options = s3.storage_options(kind)
    for action in (
        lambda: sx.save(draws.spectrograms(8), STORE, storage_options=options),
        lambda: sx.load(STORE, "spectrograms", storage_options=options),
        lambda: status(STORE, storage_options=options),
    ):
        with pytest.raises(PermissionError, match=told) as error:
            action()
        assert not any(secret in str(error.value) for secret in ("testkey", "not-it", "testsecret123"))


def test_a_server_that_does_not_answer(s3: Server) -> None:
    options = s3.storage_options("admin", endpoint="http://127.0.0.1:9")
    options["config_kwargs"] = {"retries": {"max_attempts": 0}, "connect_timeout": 1}
    with pytest.raises(
        ConnectionError, match=r"got no answer for \S+ \([\w, ]*EndpointConnectionError\), expected .*endpoint_url"
    ):
        sx.load(STORE, "spectrograms", storage_options=options)


def test_a_url_whose_package_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from fsspec.registry import _registry

    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)
    assert main(["status", "s3://no/s.zarr"]) == 2
    told = capsys.readouterr().err
    assert "got s3://no/s.zarr.run/holder, expected a package that opens it" in told
    assert "pip install 'specufex_dask[s3]'" in told


def test_other_errors_pass_as_they_are() -> None:
    for error in (ValueError("one"), OSError(28, "full"), FileNotFoundError("no file")):
        with pytest.raises(type(error)) as raised, access.explained("s3://b/x"):
            raise error
        assert raised.value is error


def test_a_url_is_told_without_its_secrets() -> None:
    url = "https://me:hidden@host/s.zarr?X-Amz-Signature=0a1b"
    told = access.told(PermissionError(f"403 for {url}"), url)
    assert str(told).startswith("got access denied to https://host/s.zarr, expected the right to list and read there: ")
    assert "hidden" not in str(told)
    assert "0a1b" not in str(access.unread(OSError(url), url))


def test_a_place_is_what_was_meant(tmp_path: Path) -> None:
    assert at(f"file://{tmp_path}/s.zarr") == tmp_path / "s.zarr"
    assert at(tmp_path / "s.zarr", {"anon": True}) == tmp_path / "s.zarr"
    assert at("s3://b/s.zarr/") == at("s3://b/s.zarr", {"anon": True}) == Remote("s3://b/s.zarr")
    assert at(Remote("s3://b/s.zarr", {"anon": True})).options == {"anon": True}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("url", "told"),
    [("s3:/bucket/s.zarr", "got s3:/bucket/s.zarr, a URL that was made a path, expected one with two slashes"),
     ("sftp://me:hidden@host/s.zarr", "got a URL of sftp with a password in it, expected none.*in storage_options")],
)  # fmt: skip
def test_a_place_that_cannot_be_meant(url: str, told: str) -> None:
    for action in (sx.load, sx.report):
        arguments: Any = {"stage": "nmf"} if action is sx.load else {"path": "page.html"}
        with pytest.raises(ValueError, match=told) as error:
            action(url, **arguments)
        assert "hidden" not in str(error.value)
