"""The options of a bucket: from the caller or the environment, and in no text; buckets that are not there."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import buckets
import draws
import pytest
import xarray as xr
from buckets import Bucket
from processes import ENVIRONMENT

import specufex_dask as sx
from specufex_dask import runs
from specufex_dask.cli import main
from specufex_dask.places import at
from specufex_dask.status import status

if TYPE_CHECKING:
    from pathlib import Path


def test_options_come_from_the_environment_too(bucket: Bucket) -> None:
    sx.save(draws.spectrograms(40), bucket.url("s.zarr"), storage_options=bucket.options)
    command = [sys.executable, "-m", "specufex_dask", "status", bucket.url("s.zarr")]
    done = subprocess.run(
        command, env=ENVIRONMENT | bucket.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"{bucket.url('s.zarr')}: nobody is writing"
    assert done.stdout.splitlines()[-1] == "next: nothing; all stages are whole"


def test_no_text_shows_the_options(bucket: Bucket) -> None:
    saved = sx.save(draws.spectrograms(40), bucket.url("s.zarr"), storage_options=bucket.options)
    place = at(bucket.url("s.zarr"), bucket.options)
    texts = [repr(saved), repr(saved.spectrogram.data), str(saved.encoding), repr(place), str(place)]
    texts += [str(dict(saved.spectrogram.data.dask)), str(saved.spectrogram.encoding), str(saved.attrs)]
    assert not any(buckets.SECRET in text for text in texts)
    assert buckets.SECRET in str(pickle.dumps(saved))  # which workers need, to read it


def test_the_command_of_a_run_is_told_without_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        sys, "argv", ["specufex-dask", "run", "s.yaml", "--set", f"store.storage_options={{{buckets.SECRET}}}"]
    )
    with runs.holding(tmp_path / "s.zarr"):
        holder = runs.holder(tmp_path / "s.zarr")
    assert holder is not None
    assert holder.command == "specufex-dask run s.yaml --set storage_options=..."


def test_a_mistake_in_the_options_is_told_without_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(f"store: {{store: 's3://b/s.zarr', storage_options: {buckets.SECRET}}}\nseed: 0\n")
    assert main(["run", str(file)]) == 2
    told = capsys.readouterr().err
    assert "got store.storage_options=…, expected a mapping" in told
    assert buckets.SECRET not in told


def test_a_bucket_that_does_not_exist(quick_s3: dict[str, Any]) -> None:
    told = r"got no bucket s3://no-such-bucket, expected one that exists: create it, or correct the name\."
    with pytest.raises(FileNotFoundError, match=told):
        sx.save(draws.spectrograms(8), "s3://no-such-bucket/s.zarr", storage_options=quick_s3)
    with pytest.raises(FileNotFoundError, match=told):
        sx.load("s3://no-such-bucket/s.zarr", "nmf", storage_options=quick_s3)
    with pytest.raises(FileNotFoundError, match=told):
        status("s3://no-such-bucket/s.zarr", storage_options=quick_s3)


def test_a_bucket_without_a_store(bucket: Bucket) -> None:
    with pytest.raises(ValueError, match=rf"got no stage 'nmf' in {bucket.url('s.zarr')}, which holds no stage"):
        sx.load(bucket.url("s.zarr"), "nmf", storage_options=bucket.options)
    with pytest.raises(ValueError, match="where there is no Zarr store, expected one that a run wrote"):
        status(bucket.url("s.zarr"), storage_options=bucket.options)


def test_a_run_without_credentials_says_what_to_set(bucket: Bucket, tmp_path: Path) -> None:
    program = "import sys, specufex_dask as sx, draws\nsx.save(draws.spectrograms(8), sys.argv[1])"
    bare = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("AWS_", "FSSPEC_"))}
    endpoint = bucket.options["client_kwargs"]["endpoint_url"]
    bare |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": endpoint}
    done = subprocess.run(
        [sys.executable, "-c", program, bucket.url("s.zarr")], env=bare, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1].startswith(f"PermissionError: got no credentials for {bucket.url('s.zarr')}"), (
        done.stderr
    )
    assert "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in done.stderr.splitlines()[-1]


def test_a_store_lies_at_any_url_that_fsspec_knows(tmp_path: Path) -> None:
    store, spectrograms = f"memory://{tmp_path.name}/s.zarr", draws.spectrograms(40)
    xr.testing.assert_equal(sx.save(spectrograms, store).compute(), spectrograms.compute())
    assert status(store).next == "nothing; all stages are whole"
    assert [entry["event"] for entry in runs.log(store)] == ["started", "finished"]
    sx.save(spectrograms, f"file://{tmp_path}/s.zarr")
    assert status(tmp_path / "s.zarr").next == "nothing; all stages are whole"
