"""A store in a bucket is as one on a disk: the same bytes, resumed, refused, read and reported."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import buckets
import dask
import draws
import numpy as np
import pytest
import xarray as xr
from buckets import Bucket
from draws import Counted

import specufex_dask as sx
from specufex_dask import checkpoints, runs
from specufex_dask.config import run
from specufex_dask.places import at
from specufex_dask.status import status
from specufex_dask.store import find, stages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATION = "4D.G7J1..SHZ"


@pytest.fixture
def one_at_a_time() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def _chain(study: Any, **place: Any) -> dict[str, xr.Dataset]:
    """Every stage of a small study, saved and loaded again where `place` says, with checkpoints of the fits."""
    store = place.pop("store")
    options: dict[str, Any] = {"storage_options": place.get("storage_options")}
    kept = {"checkpoint": store, "seed": 0, "max_steps": 10, **options}
    catalog, stations = sx.read_catalog(study.catalog), sx.read_stations(study.stations)
    waveforms = sx.open_waveforms(catalog, stations, archive=study.archive, sampling_rate=study.sampling_rate)
    made = [sx.save(dataset, store, **options) for dataset in (catalog, stations, waveforms)]
    spectrograms = sx.save(sx.compute_spectrograms(waveforms, band=(1, 20), window_length=0.64), store, **options)
    nmf = sx.save(sx.fit_nmf(spectrograms, n_patterns=4, group=STATION, **kept), store, group=STATION, **options)
    activations = sx.save(sx.compute_activations(spectrograms, nmf), store, **options)
    hmm = sx.save(sx.fit_hmm(activations, nmf, n_states=3, **kept), store, **options)
    fingerprints = sx.save(sx.compute_fingerprints(spectrograms, nmf, hmm), store, **options)
    clusters = sx.cluster_fingerprints(fingerprints, n_clusters=[2, 3], seed=0, checkpoint=store, **options)
    made += [spectrograms, nmf, activations, hmm, fingerprints, sx.save(clusters, store, **options)]
    return {dataset.attrs["stage"]: dataset.compute() for dataset in made}


def test_every_stage_has_the_bytes_of_one_on_disk(bucket: Bucket, tmp_path: Path) -> None:
    study = sx.simulate(tmp_path / "study", n_events=6, n_stations=2, seed=0)
    there = _chain(study, store=bucket.url("s.zarr"), storage_options=bucket.options)
    here = _chain(study, store=tmp_path / "s.zarr")
    assert bucket.objects("s.zarr") == draws.files_of(tmp_path / "s.zarr")
    for stage, dataset in here.items():
        xr.testing.assert_identical(there[stage], dataset)
    assert stages(at(bucket.url("s.zarr"), bucket.options)) == stages(tmp_path / "s.zarr")
    texts = [str(status(bucket.url("s.zarr"), storage_options=bucket.options)), str(status(tmp_path / "s.zarr"))]
    assert _without_rates(texts[0].splitlines()[1:]) == _without_rates(texts[1].splitlines()[1:])
    held = b"".join(bucket.objects().values())
    assert b"records_per_task" in held
    assert not any(secret.encode() in held for secret in (buckets.KEY, buckets.SECRET))


def _without_rates(lines: list[str]) -> list[list[str]]:
    return [[word for word in line.split() if not word.replace(",", "").isdecimal()] for line in lines]


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize("n_done", [0, 1, 3])
def test_a_broken_save_goes_on_where_it_was(bucket: Bucket, tmp_path: Path, n_done: int) -> None:
    store, options = bucket.url("s.zarr"), bucket.options
    stage = Counted(38, 8)
    stage.fail_after = n_done
    with pytest.raises(RuntimeError, match="the power went off"):
        sx.save(stage.dataset, store, storage_options=options)
    assert stages(at(store, options)) == []
    assert find(at(store, options), "spectrograms", stage.dataset.attrs) is None
    with pytest.raises(ValueError, match=f"with {5 - n_done} shards of 8 records not written yet, expected all"):
        sx.load(store, "spectrograms", storage_options=options)
    (told,) = status(store, storage_options=options).stages
    assert (told.state, told.shards, told.shards_left, told.error) == (
        "failed", 5, 5 - n_done, "RuntimeError: the power went off",
    )  # fmt: skip
    done = set(stage.blocks)
    stage.blocks.clear()
    stage.fail_after = None
    sx.save(stage.dataset, store, storage_options=options)
    assert sorted(stage.blocks) == sorted({0, 8, 16, 24, 32} - done)
    sx.save(Counted(38, 8).dataset, tmp_path / "s.zarr")
    assert bucket.objects("s.zarr") == draws.files_of(tmp_path / "s.zarr")
    assert [(entry["event"], entry["shards_done"]) for entry in runs.log(at(store, options))] == [
        ("started", 0), ("failed", n_done), ("started", n_done), ("finished", 5),
    ]  # fmt: skip


@pytest.mark.slow
def test_shards_that_workers_write_in_other_processes(bucket: Bucket, tmp_path: Path) -> None:
    """The options go to the workers with the tasks; what these wrote is seen here at once."""
    spectrograms = draws.spectrograms(40)
    sx.save(spectrograms.isel(record=slice(0, 8)), bucket.url("s.zarr"), group="small", storage_options=bucket.options)
    with dask.config.set(scheduler="processes", num_workers=2):
        saved = sx.save(spectrograms, bucket.url("s.zarr"), storage_options=bucket.options)
        read = saved.compute()
    xr.testing.assert_equal(read, spectrograms.compute())
    sx.save(spectrograms.isel(record=slice(0, 8)), tmp_path / "s.zarr", group="small")
    sx.save(spectrograms, tmp_path / "s.zarr")
    assert bucket.objects("s.zarr") == draws.files_of(tmp_path / "s.zarr")


def test_another_recipe_is_refused_unless_told(bucket: Bucket) -> None:
    store, options = bucket.url("s.zarr"), bucket.options
    waveforms = draws.waveforms(np.random.default_rng(0).normal(size=(20, 400)))
    first = sx.compute_spectrograms(waveforms, band=(1, 20), window_length=0.5)
    second = sx.compute_spectrograms(waveforms, band=(1, 30), window_length=0.5).isel(record=slice(0, 8))
    sx.save(first, store, storage_options=options)
    with pytest.raises(ValueError, match=rf"than the one that {store} holds: band is \[1, 30\] now.*overwrite=True"):
        sx.save(second, store, storage_options=options)
    xr.testing.assert_equal(sx.load(store, "spectrograms", storage_options=options).compute(), first.compute())
    replaced = sx.save(second, store, overwrite=True, storage_options=options)
    xr.testing.assert_equal(replaced.compute(), second.compute())
    sx.save(second, bucket.url("fresh.zarr"), storage_options=options)
    assert bucket.objects("s.zarr") == bucket.objects("fresh.zarr")


def test_what_is_there_is_known_by_one_listing(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty shards or six: no request for each, but to write and to read it; no HEAD at all."""
    counts = {}
    for n_shards in (6, 60):
        store = bucket.url(f"{n_shards}.zarr")
        dataset = draws.spectrograms(2 * n_shards, chunk=2)
        with buckets.requests(monkeypatch) as saving:
            sx.save(dataset, store, storage_options=bucket.options)
        with buckets.requests(monkeypatch) as again:
            saved = sx.save(dataset, store, storage_options=bucket.options)
        with buckets.requests(monkeypatch) as asking:
            assert stages(at(store, bucket.options)) == ["spectrograms"]
        with buckets.requests(monkeypatch) as reading:
            saved["spectrogram"].data.compute()
        counts[n_shards] = saving, again, asking, reading
    small, large = counts[6], counts[60]
    assert large[0] - small[0] == {"put_object": 54 * 3}  # spectrogram, quality and start_time of each shard
    assert small[1] == large[1]
    assert small[2] == large[2]
    assert (large[2]["head_object"], large[2]["list_objects_v2"]) == (0, 1)
    assert (small[3], large[3]) == ({"get_object": 6}, {"get_object": 60})


@pytest.mark.parametrize("harm", ["lost", "empty", "cut"])
def test_a_shard_that_is_not_as_it_was_written_is_an_error(bucket: Bucket, harm: str) -> None:
    store, stage = bucket.url("s.zarr"), Counted(40, 8)
    saved = sx.save(stage.dataset, store, storage_options=bucket.options)
    key = f"{bucket.name}/s.zarr/spectrograms/spectrogram/c/2/0/0"
    if harm == "lost":
        bucket.files.rm_file(key)
    else:
        content = bucket.files.cat_file(key)
        bucket.files.pipe_file(key, content[: len(content) // 2] if harm == "cut" else b"")
    with pytest.raises(OSError, match=r"shard 2 of .*/spectrogram torn \(.*delete .*/quality/c/2, which says") as torn:
        saved["spectrogram"].compute()
    assert ("empty or missing" in str(torn.value)) == (harm != "cut")
    assert np.isfinite(saved["spectrogram"][24:].values).all()
    bucket.files.rm_file(f"{bucket.name}/s.zarr/spectrograms/quality/c/2")
    stage.blocks.clear()
    again = sx.save(stage.dataset, store, storage_options=bucket.options)
    assert stage.blocks == [16]
    xr.testing.assert_equal(again.compute(), Counted(40, 8).dataset.compute())


def test_a_fit_goes_on_from_its_checkpoint(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    store, spectrograms = bucket.url("s.zarr"), draws.spectrograms(40)
    fitted: dict[str, Any] = {"n_patterns": 5, "max_steps": 900, "seed": 0, "tol": None, "group": STATION}
    write, written = checkpoints.Checkpoint.write, 0

    def breaking(self: Any, *arguments: Any) -> None:
        nonlocal written
        write(self, *arguments)
        written += 1
        if written == 2:
            msg = "the power went off"
            raise RuntimeError(msg)

    monkeypatch.setattr(checkpoints, "EVERY_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoint, "write", breaking)
        with pytest.raises(RuntimeError, match="the power went off"):
            sx.fit_nmf(spectrograms, **fitted, checkpoint=store, storage_options=bucket.options)
    assert f"{STATION}/nmf.npz" in bucket.objects("s.zarr.run")
    (begun,) = status(store, storage_options=bucket.options).stages
    assert (begun.path, begun.state) == (f"{STATION}/nmf", "fit")
    assert begun.fit
    assert 0 < begun.fit.step < 900
    resumed = sx.fit_nmf(spectrograms, **fitted, checkpoint=store, storage_options=bucket.options)
    xr.testing.assert_identical(resumed, sx.fit_nmf(spectrograms, **fitted))
    sx.save(resumed, store, group=STATION, storage_options=bucket.options)
    assert f"{STATION}/nmf.npz" not in bucket.objects("s.zarr.run")
    again = sx.fit_nmf(spectrograms, **fitted, checkpoint=store, storage_options=bucket.options)
    assert "n_records" in again.attrs


@pytest.mark.slow
def test_a_study_runs_in_a_bucket(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = sx.simulate(tmp_path / "data", n_events=12, n_stations=2, seed=0)
    monkeypatch.setenv("SECRET_OF_THE_BUCKET", buckets.SECRET)
    study: dict[str, Any] = {
        "store": {
            "store": bucket.url("study.zarr"),
            "storage_options": bucket.options | {"secret": "${SECRET_OF_THE_BUCKET}"},
        },
        "report": str(tmp_path / "there.html"), "seed": 0,
        "catalog": str(data.catalog), "stations": str(data.stations),
        "waveforms": {"archive": str(data.archive), "sampling_rate": data.sampling_rate},
        "spectrograms": {"window_length": 0.64, "band": [1, 20]},
        "nmf": {"n_patterns": 5, "max_steps": 20}, "hmm": {"n_states": 3, "max_steps": 20},
        "clusters": {"n_clusters": [2, 3]},
    }  # fmt: skip
    run(study)
    run(study | {"store": str(tmp_path / "study.zarr"), "report": str(tmp_path / "here.html")})
    assert bucket.objects("study.zarr") == draws.files_of(tmp_path / "study.zarr")
    pages = [re.sub(r"\d+-\d+-\d+ \d+:\d+ UTC", "", (tmp_path / f"{n}.html").read_text()) for n in ("there", "here")]
    assert pages[0] == pages[1]
    assert buckets.SECRET not in pages[0]
    before = bucket.objects("study.zarr.run")
    run(study)
    after = bucket.objects("study.zarr.run")
    assert {name for name in before if name.startswith("log/")} == {name for name in after if name.startswith("log/")}
    assert not any(buckets.SECRET.encode() in content for content in bucket.objects().values())
