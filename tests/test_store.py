"""The store: what is written, what is computed for it, and what is refused."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from typing import TYPE_CHECKING

import dask
import draws
import numpy as np
import pytest
import xarray as xr
import zarr
from draws import Counted

import specufex_dask as sx
from specufex_dask.correlation import correlate
from specufex_dask.hypodd import read_hypodd
from specufex_dask.recipe import stamp
from specufex_dask.schema import SCHEMAS
from specufex_dask.store import find, stages

if TYPE_CHECKING:
    from pathlib import Path

STATION = "4D.G7J1..SHZ"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, xr.Dataset]:
    """One small Dataset of every stage."""
    study = sx.simulate(tmp_path_factory.mktemp("study"), n_events=6, n_stations=2, seed=0)
    catalog, stations = sx.read_catalog(study.catalog), sx.read_stations(study.stations)
    waveforms = sx.open_waveforms(catalog, stations, archive=study.archive, sampling_rate=study.sampling_rate)
    spectrograms = sx.compute_spectrograms(waveforms, band=(1, 20), window_length=0.64).compute()
    nmf = sx.fit_nmf(spectrograms, n_patterns=4, max_steps=10, seed=0)
    activations = sx.compute_activations(spectrograms, nmf)
    hmm = sx.fit_hmm(activations, nmf, n_states=3, max_steps=10, seed=0)
    fingerprints = sx.compute_fingerprints(spectrograms, nmf, hmm, keep=("initial", "state_probability"))
    found = [catalog, stations, _picks(), waveforms, spectrograms, nmf, activations, hmm, fingerprints]
    found.append(sx.cluster_fingerprints(fingerprints, n_clusters=[2, 3], seed=0))
    found.append(correlate(waveforms, found[-1], picks=sx.read_picks(study.quakeml)))
    events = sx.merge_stations(found[9], catalog)
    found += [events, sx.find_repeaters(events, catalog)]
    found.append(_relocation(tmp_path_factory.mktemp("hypodd") / "hypoDD.reloc"))
    return {dataset.attrs["stage"]: dataset for dataset in found}


def _relocation(path: Path) -> xr.Dataset:
    path.write_text(
        "    38542  37.878642 -122.244507     9.251      -48.7       62.3      -57.2      3.2      3.2     14.0 "
        "1985  1 24  2 19 58.740  1.40   106   103   177     0 -9.000  0.047   1"
    )
    return read_hypodd(path)


def _picks() -> xr.Dataset:
    texts = {
        name: ("pick", np.array(values, dtype=object))
        for name, values in (
            ("event_id", ["070614093058", "é"]),
            ("station_id", [STATION, "X.Y..Z"]),
            ("phase", ["P", "S"]),
        )
    }
    times = ("pick", np.array(["2007-06-14T09:30:58.123456789", "NaT"], "datetime64[ns]"))
    return stamp(xr.Dataset({**texts, "time": times, "weight": ("pick", [1.0, np.nan])}), "picks", {})


@pytest.mark.parametrize("stage", sorted(SCHEMAS))
@pytest.mark.parametrize("group", [None, STATION])
def test_a_stage_comes_back_as_it_was(
    made: dict[str, xr.Dataset], stage: str, group: str | None, tmp_path: Path
) -> None:
    dataset = made[stage]
    saved = sx.save(dataset, tmp_path / "study.zarr", group=group)
    again = sx.load(str(tmp_path / "study.zarr"), stage, group=group)
    for reopened in (saved, again):
        xr.testing.assert_identical(reopened.compute().drop_attrs(), dataset.compute().drop_attrs())
        assert dict(reopened.sizes) == dict(dataset.sizes)
        assert {name: array.dtype for name, array in reopened.variables.items()} == {
            name: array.dtype for name, array in dataset.variables.items()
        }
        assert reopened.attrs == dataset.attrs
        declared = [variable.name for variable in SCHEMAS[stage].variables]
        assert all(reopened[name].attrs["long_name"] for name in declared if name in reopened.variables)
    assert stages(tmp_path / "study.zarr", group=group) == [stage]
    assert stages(tmp_path / "study.zarr", group="elsewhere") == []


def test_stations_lie_side_by_side(tmp_path: Path) -> None:
    for group, n_records in ((STATION, 5), ("XX.B..HHZ", 7), (None, 9)):
        sx.save(draws.spectrograms(n_records), tmp_path / "s.zarr", group=group)
    assert sx.load(tmp_path / "s.zarr", "spectrograms", group=STATION).sizes["record"] == 5
    assert sx.load(tmp_path / "s.zarr", "spectrograms", group="XX.B..HHZ").sizes["record"] == 7
    assert sx.load(tmp_path / "s.zarr", "spectrograms").sizes["record"] == 9


def test_the_same_recipe_is_not_computed_again(tmp_path: Path) -> None:
    stage = Counted(40, 8)
    sx.save(stage.dataset, tmp_path / "s.zarr")
    assert sorted(stage.blocks) == [0, 8, 16, 24, 32]
    before = draws.files_of(tmp_path / "s.zarr")
    saved = sx.save(stage.dataset, tmp_path / "s.zarr")
    assert len(stage.blocks) == 5
    assert draws.files_of(tmp_path / "s.zarr") == before
    np.testing.assert_array_equal(np.floor(saved["spectrogram"][:, 0, 0]), np.arange(40.0))
    assert find(tmp_path / "s.zarr", "spectrograms", stage.dataset.attrs) is not None
    assert find(tmp_path / "s.zarr", "spectrograms", {"recipe": "another"}) is None


def test_a_save_never_holds_the_whole_array(tmp_path: Path) -> None:
    """64 shards of 1 MB: a few at a time, whatever their number."""
    stage = Counted(256, 4, tail=(256, 256))
    tracemalloc.start()
    try:
        with dask.config.set(scheduler="threads", num_workers=2):
            sx.save(stage.dataset, tmp_path / "s.zarr")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stage.dataset["spectrogram"].nbytes == 64 * 2**20
    assert peak < 24 * 2**20


def test_another_recipe_is_refused_unless_told(tmp_path: Path) -> None:
    waveforms = draws.waveforms(np.random.default_rng(0).normal(size=(20, 400)))
    first = sx.compute_spectrograms(waveforms, band=(1, 20), window_length=0.5)
    second = sx.compute_spectrograms(waveforms, band=(1, 30), window_length=0.5)
    sx.save(first, tmp_path / "s.zarr")
    with pytest.raises(ValueError, match=r"band is \[1, 30\] now and was \[1, 20\].*Expected the same.*overwrite=True"):
        sx.save(second, tmp_path / "s.zarr")
    unchanged = sx.load(tmp_path / "s.zarr", "spectrograms")
    xr.testing.assert_equal(unchanged.compute(), first.compute())
    fewer = second.isel(record=slice(0, 8))
    replaced = sx.save(fewer, tmp_path / "s.zarr", overwrite=True)
    xr.testing.assert_equal(replaced.compute(), fewer.compute())
    sx.save(fewer, tmp_path / "fresh.zarr")
    assert draws.files_of(tmp_path / "s.zarr") == draws.files_of(tmp_path / "fresh.zarr")


@pytest.mark.parametrize("chosen", [{"record": slice(0, 16)}, {"record": slice(None, None, -1)}, {"time": slice(3)}])
def test_a_selection_is_another_recipe(tmp_path: Path, chosen: dict[str, slice]) -> None:
    spectrograms = draws.spectrograms(40)
    sx.save(spectrograms, tmp_path / "s.zarr")
    with pytest.raises(ValueError, match="a selection or another order of the records"):
        sx.save(spectrograms.isel(chosen), tmp_path / "s.zarr")
    nmf = draws.unit_gain_nmf(3)
    four = draws.spectrograms(40, n_frequencies=4)
    sx.save(sx.compute_activations(four, nmf), tmp_path / "s.zarr")
    with pytest.raises(ValueError, match=r"spectrograms is '[0-9a-f]{32}' now and was"):
        sx.save(sx.compute_activations(four.isel(chosen), nmf), tmp_path / "s.zarr")


def test_a_dataset_of_no_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got a Dataset of stage None, expected one that a stage function returned"):
        sx.save(xr.Dataset({"x": ("record", [1.0])}), tmp_path / "s.zarr")


def test_chunks_of_unequal_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got chunks of \(3, 7, 10\) records, expected equal ones.*rechunk it"):
        sx.save(draws.spectrograms(20, chunk=None).chunk(record=(3, 7, 10)), tmp_path / "s.zarr")


def test_what_is_not_there_and_what_is_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got no stage 'nmf' in .*, which holds no stage: save it first"):
        sx.load(tmp_path / "s.zarr", "nmf")
    sx.save(draws.spectrograms(5), tmp_path / "s.zarr")
    with pytest.raises(ValueError, match=r"got no stage 'nmf' in .*, which holds \['spectrograms'\]"):
        sx.load(tmp_path / "s.zarr", "nmf")
    zarr.open_group(tmp_path / "s.zarr", path="spectrograms", mode="r+").attrs["schema_version"] = 99
    with pytest.raises(ValueError, match=r"in layout 99, expected 1: open it with the version"):
        sx.load(tmp_path / "s.zarr", "spectrograms")


def test_shards_are_tasks_and_their_pieces_a_megabyte(tmp_path: Path) -> None:
    sx.save(Counted(128, 64, tail=(128, 128)).dataset, tmp_path / "large.zarr")
    sx.save(Counted(40, 8).dataset, tmp_path / "small.zarr")
    large = zarr.open_array(tmp_path / "large.zarr", path="spectrograms/spectrogram", mode="r")
    assert large.shards == (64, 128, 128)
    assert large.chunks == (16, 128, 128)
    assert np.prod(large.chunks) * 4 >= 1e6
    small = zarr.open_array(tmp_path / "small.zarr", path="spectrograms/spectrogram", mode="r")
    assert (small.shards or small.chunks) == (8, 4, 5)
    for name, n_shards in (("large", 2), ("small", 5)):
        for array in ("spectrogram", "quality"):
            held = [p for p in (tmp_path / f"{name}.zarr/spectrograms/{array}/c").rglob("*") if p.is_file()]
            assert len(held) == n_shards


def test_a_task_brings_no_catalogue_along(tmp_path: Path) -> None:
    """What a worker is sent to read a shard is as large for a thousand records as for ten."""
    sizes = []
    for n_records in (10, 1000):
        stored = sx.save(draws.spectrograms(n_records, chunk=5), tmp_path / f"{n_records}.zarr")
        sizes.append(max(len(pickle.dumps(task)) for task in stored["spectrogram"].data.__dask_graph__().values()))
    assert sizes[1] <= 1.02 * sizes[0] < 10_000


def test_metadata_is_plain(tmp_path: Path) -> None:
    """No consolidated copy that could go stale; ids of any length; times in whole nanoseconds."""
    sx.save(draws.spectrograms(10), tmp_path / "s.zarr", group=STATION)
    for found in tmp_path.rglob("zarr.json"):
        text = json.loads(found.read_text())
        assert text["zarr_format"] == 3
        assert not text.get("consolidated_metadata")
        if found.parent.name in {"event_id", "station_id"}:
            assert text["data_type"] == "string"
    stored = zarr.open_array(tmp_path / "s.zarr", path=f"{STATION}/spectrograms/start_time", mode="r")
    assert stored.dtype == np.int64


def test_one_file_of_many_shards_is_read_once(tmp_path: Path) -> None:
    """Start times written from memory: each task of a shard would read those of all records."""
    stage = Counted(40, 8).dataset
    saved = sx.save(stage.assign_coords(start_time=stage["start_time"].compute()), tmp_path / "s.zarr")
    array = zarr.open_array(tmp_path / "s.zarr", path="spectrograms/start_time", mode="r")
    assert array.chunks == (40,)
    assert saved["start_time"].chunks is None
    assert saved["spectrogram"].chunksizes["record"] == (8,) * 5


def test_quality_in_memory_beside_lazy_arrays(tmp_path: Path) -> None:
    """It says which shards are done, so it must not be written before them."""
    stage = Counted(40, 8, lazy_quality=False)
    saved = sx.save(stage.dataset, tmp_path / "s.zarr")
    assert len(stage.blocks) == 5
    xr.testing.assert_equal(saved.compute(), Counted(40, 8).dataset.compute())
