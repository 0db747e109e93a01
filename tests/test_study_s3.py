"""A study from archive to fingerprints with everything in buckets: the numbers of the same study on a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import xarray as xr
import yaml

import specufex_dask as sx
from specufex_dask.config import run

if TYPE_CHECKING:
    from pathlib import Path

    from s3_server import Server

BUCKETS = {"scedc": "scedc-pds", "ncedc-events": "ncedc-pds"}
SETTINGS: dict[str, Any] = {
    "seed": 0,
    "spectrograms": {"window_length": 0.5, "overlap": 0.5, "nfft": 64, "band": [2.0, 15.0]},
    "nmf": {"n_patterns": 8, "max_steps": 300},
    "hmm": {"n_states": 4, "max_steps": 100, "n_init": 1},
    "clusters": {"n_clusters": [2, 3]},
}


@pytest.mark.parametrize("layout", list(BUCKETS))
def test_a_study_in_buckets_gives_the_numbers_of_the_disk(s3: Server, tmp_path: Path, layout: Any) -> None:
    made = sx.simulate(
        tmp_path / "made", n_events=40, n_stations=2, sampling_rate=50.0, layout=layout, seed=1,
        events_per_day=20 if layout == "scedc" else None,
    )  # fmt: skip
    s3.upload(f"{made.folder}/waveforms", BUCKETS[layout], f"study-{layout}")
    public, admin = s3.storage_options("anonymous"), s3.storage_options("admin")
    store = f"s3://results/{layout}.zarr"
    url = f"s3://{BUCKETS[layout]}/study-{layout}"
    _run(tmp_path / "disk.yaml", layout, made, {"root": "made/waveforms"}, "disk.zarr")
    in_bucket = {"store": store, "storage_options": admin}
    _run(tmp_path / "bucket.yaml", layout, made, {"root": url, "storage_options": public}, in_bucket)
    for stage in ("spectrograms", "nmf", "hmm", "fingerprints", "clusters"):
        ours = sx.load(store, stage, storage_options=admin).load().drop_attrs()
        xr.testing.assert_identical(ours, sx.load(tmp_path / "disk.zarr", stage).load().drop_attrs())
    assert (ours["quality"] == 0).all()


def _run(path: Path, layout: str, made: Any, archive: dict[str, Any], store: object) -> None:
    waveforms = {"archive": layout, **archive, "window": [-2.0, 14.0], "sampling_rate": made.sampling_rate}
    study = {**SETTINGS, "store": store, "catalog": made.catalog, "stations": made.stations, "waveforms": waveforms}
    path.write_text(yaml.safe_dump(study))
    run(path)
