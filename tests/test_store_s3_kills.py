"""Runs in a bucket of a real server that are killed, and begun again: the same objects as of an unbroken run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import chain
import draws
import pytest
from buckets import Bucket
from processes import running, says, wait_until

from specufex_dask.places import Remote
from specufex_dask.runs import log
from specufex_dask.status import status

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3_server import Server

N_RECORDS = 2000
PROGRAM = """
import os, sys
os.environ["FSSPEC_S3"] = sys.argv[4]
import chain
chain.main(sys.argv[1], n_records=int(sys.argv[2]), n_workers=int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run on a disk, on threads, that nothing broke."""
    store = tmp_path_factory.mktemp("unbroken") / "s.zarr"
    chain.run(store, n_records=N_RECORDS)
    return draws.files_of(store)


def _n_written(bucket: Bucket, stage: str) -> int:
    return sum(name.isdecimal() for name in _names(bucket, f"kills.zarr/{stage}/quality/c"))


def _names(bucket: Bucket, prefix: str) -> list[str]:
    return [str(name).rpartition("/")[2] for name in bucket.files.find(f"{bucket.name}/{prefix}")]


def _step(bucket: Bucket, stage: str) -> int:
    try:
        found = status(bucket.url("kills.zarr"), storage_options=bucket.options).stages
    except ValueError:  # there is nothing yet
        return 0
    return next((known.fit.step for known in found if known.path == stage and known.fit), 0)


MOMENTS: dict[str, Callable[[Bucket], object]] = {
    "template": lambda bucket: "zarr.json" in _names(bucket, "kills.zarr/spectrograms/quality"),
    "first records": lambda bucket: _n_written(bucket, "spectrograms") >= 3,
    "small steps": lambda bucket: _step(bucket, "first/nmf") >= 800,
    "large steps": lambda bucket: _step(bucket, "nmf") >= 3255,
    "its large steps": lambda bucket: _step(bucket, "hmm") >= 3045,
    "fingerprints": lambda bucket: _n_written(bucket, "fingerprints") >= 3,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_workers", "moments"),
    [(0, list(MOMENTS)), (2, ["first records", "its large steps"])],
    ids=["threads", "cluster"],
)
def test_a_run_in_a_bucket_survives_its_driver(
    s3: Server, unbroken: dict[str, bytes], n_workers: int, moments: list[str]
) -> None:
    bucket = Bucket(f"kills-{n_workers}", s3.storage_options("admin"))
    s3.create_bucket(bucket.name)
    store, told = bucket.url("kills.zarr"), list[str]()
    arguments: tuple[Any, ...] = (store, N_RECORDS, n_workers, json.dumps(bucket.options))
    for moment in [*moments, None]:
        with running(PROGRAM, *arguments) as process:
            assert says(process) == "ready"
            if moment is not None:
                wait_until(lambda when=moment: process.poll() is not None or MOMENTS[when](bucket), seconds=120)  # type: ignore[misc]
                assert process.poll() is None, f"it ended before {moment}"
                process.kill()
            told += process.communicate()[0].splitlines()
    assert told[-1] == "done"
    resumed = [line for line in told if " goes on from step " in line]
    assert len(resumed) == sum("steps" in moment for moment in moments)
    assert bucket.objects("kills.zarr") == unbroken
    left = bucket.objects("kills.zarr.run")
    assert {name.partition("/")[0] for name in left} == {"holder", "log"}
    assert [json.loads(left[name])["released"] for name in left if name.startswith("holder/")] == [True]
    entries = log(Remote(store, bucket.options))
    assert {entry["stage"] for entry in entries} == set(chain.STAGES)
    assert len({entry["pid"] for entry in entries}) >= len(moments)
