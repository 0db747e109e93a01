"""HDF5 archives: the tutorials' file as it is, both layouts, what is missing, broken or not HDF5, and buckets."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from archives import channels_table, events_table
from buckets import SECRET, Bucket, requests
from hypothesis import given, settings
from hypothesis import strategies as st

import specufex_dask as sx
from specufex_dask import hdf5_files
from specufex_dask.archive import PathTemplate, open_archive
from specufex_dask.hdf5 import Hdf5Archive
from specufex_dask.hdf5_files import read_hdf5
from specufex_dask.objects import Objects
from specufex_dask.schema import QUALITY
from specufex_dask.segments import UnreadableFileError

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

NAMES = ("007", "008", "009")
SAMPLES = np.random.default_rng(0).integers(-500, 500, (3, 50)).astype(float)
EVENTS = events_table(list(NAMES), ["2020-01-01", "2020-01-02", "2020-01-03"])
CHANNEL = channels_table("XX.S..HHZ")


def tutorial(path: Path, names: tuple[str, ...] = NAMES, samples: np.ndarray[Any, Any] = SAMPLES) -> Path:
    with h5py.File(path, "w") as file:
        file["waveforms"], file["event_ids"] = samples, list(names)
    return path


def workflow(path: Path, rate: float = 100.0) -> Path:
    with h5py.File(path, "w") as file:
        for i, name in enumerate(NAMES):
            file[f"waveforms/S/HHZ/{name}"] = SAMPLES[i]
            file[f"waveforms/S/HHN/{name}"] = -SAMPLES[i]
        del file["waveforms/S/HHN/008"]
        file["S/processing_info/sampling_rate_Hz"] = rate
    return path


def opened(archive: object, stations: xr.Dataset = CHANNEL, events: xr.Dataset = EVENTS, **options: Any) -> xr.Dataset:
    chosen = {"sampling_rate": 100.0, "dtype": "float64", "max_flat": 1.0, **options}
    return sx.open_waveforms(events, stations, archive=archive, **chosen)


def flags(waveforms: xr.Dataset) -> list[str]:
    return [QUALITY[flag] for flag in waveforms.quality.values]


def test_the_tutorials_records_come_as_they_stand_in_the_file(data_dir: Path) -> None:
    path = data_dir / "amatrice2016_100" / "waveforms_100.h5"
    catalog = sx.read_catalog(path)
    waveforms = opened(path, channels_table("IV.T1214..EHZ"), catalog, max_flat=1 / 3, records_per_task=30)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(waveforms.waveform, file["waveforms"][()])
        assert waveforms.event_id.values.tolist() == file["event_ids"].asstr()[()].tolist()
        np.testing.assert_array_equal(catalog.depth, file["depth"][()])
    assert str(catalog.origin_time.values[0]) == "2016-10-13T00:12:15.130000000"
    assert np.isnan(catalog.magnitude).all()
    assert set(flags(waveforms)) == {"usable"}
    assert np.isnat(waveforms.start_time).all()
    spectrograms = sx.compute_spectrograms(waveforms, band=(5, 20), window_length=0.64, overlap=0.25, nfft=512)
    assert dict(spectrograms.sizes) == {"record": 100, "frequency": 77, "time": 41}
    assert not spectrograms.quality.values.any()


def test_records_are_found_by_their_event_and_what_is_not_there_is_missing(tmp_path: Path) -> None:
    events = events_table(["009", "1", "007"], ["2020-01-03", "2020-01-04", "2020-01-01"])
    waveforms = opened(tutorial(tmp_path / "a.h5"), events=events).compute()
    assert flags(waveforms) == ["usable", "missing", "usable"]
    np.testing.assert_array_equal(waveforms.waveform[[0, 2]], SAMPLES[[2, 0]])
    assert np.isnan(waveforms.waveform[1]).all()


def test_a_part_of_each_record_can_be_had(tmp_path: Path) -> None:
    waveforms = opened(tutorial(tmp_path / "a.h5"), window=(0.1, 0.3), anchor="file_start").compute()
    np.testing.assert_array_equal(waveforms.waveform, SAMPLES[:, 10:30])
    assert np.isnat(waveforms.start_time).all()


def test_the_workflows_files_hold_channels_and_their_rate(tmp_path: Path) -> None:
    path = workflow(tmp_path / "a.h5")
    waveforms = opened(path, channels_table("XX.S..HHZ", "XX.S..HHN", "XX.T..HHZ")).compute()
    assert flags(waveforms) == [
        "usable",
        "usable",
        "missing",
        "usable",
        "missing",
        "missing",
        "usable",
        "usable",
        "missing",
    ]
    np.testing.assert_array_equal(waveforms.waveform[1], -SAMPLES[0])
    with pytest.raises(ValueError, match=r"got sampling_rate=50 Hz, expected that of the files, \[100.0\] Hz"):
        opened(path, sampling_rate=50.0)
    assert set(flags(opened(path, sampling_rate=50.0, n_samples=20).compute())) == {"wrong_sampling_rate"}


def test_samples_that_cannot_be_used_are_flagged_as_anywhere(tmp_path: Path) -> None:
    samples = SAMPLES.copy()
    samples[0, 5], samples[1] = np.nan, 7.0
    assert flags(opened(tutorial(tmp_path / "a.h5", samples=samples)).compute()) == ["not_finite", "constant", "usable"]
    assert set(flags(opened(tutorial(tmp_path / "b.h5"), n_samples=51).compute())) == {"short"}


def test_an_event_that_is_there_twice_counts_if_it_is_the_same(tmp_path: Path) -> None:
    samples = np.stack([SAMPLES[0], SAMPLES[0], SAMPLES[1], SAMPLES[2]])
    waveforms = opened(tutorial(tmp_path / "a.h5", ("007", "007", "008", "008"), samples)).compute()
    assert flags(waveforms) == ["usable", "unreadable", "missing"]


def test_a_template_names_a_file_an_event(tmp_path: Path) -> None:
    tutorial(tmp_path / "007.h5", NAMES[:1], SAMPLES[:1])
    (tmp_path / "008.h5").write_bytes(tutorial(tmp_path / "b.h5").read_bytes()[:3000])
    assert flags(opened(tmp_path / "{event_id}.h5").compute()) == ["usable", "unreadable", "missing"]


def test_a_file_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    path = tutorial(tmp_path / "a.h5")
    first = opened(path).waveform.values
    tutorial(path, samples=2 * SAMPLES)
    np.testing.assert_array_equal(opened(path).waveform.values, 2 * first)


def test_what_is_no_hdf5_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("event_id,origin_time")
    (tmp_path / "b.h5").write_bytes(tutorial(tmp_path / "c.h5").read_bytes()[:3000])
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["waveforms"] = SAMPLES
    expected = "expected a file with datasets 'waveforms' (event, sample) and 'event_ids' (event,), or"
    for name, reason in (("a", "it begins with b'event_id'"), ("b", "truncated file"), ("d", "event_ids")):
        with pytest.raises(ValueError, match=rf"a?.h5', which cannot be read as HDF5 .*{reason}") as caught:
            opened(tmp_path / f"{name}.h5")
        assert expected in str(caught.value)
    with pytest.raises(FileNotFoundError, match="where there is no file, expected one: correct the path"):
        opened(tmp_path / "e.h5")
    with pytest.raises(ValueError, match="it has no otime, lat, lon, depth"):
        sx.read_catalog(tmp_path / "c.h5")


def test_what_a_file_cannot_tell_is_not_guessed(tmp_path: Path) -> None:
    path = tutorial(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="do not say when a record begins: pass window=None, or anchor='file_start'"):
        opened(path, window=(0, 1))
    with pytest.raises(ValueError, match="whose files hold one channel each, expected one channel a file"):
        opened(path, channels_table("XX.S..HHZ", "XX.S..HHN"))
    late = tutorial(tmp_path / "009.h5")
    shared = opened(tmp_path / "{event_id}.h5", channels_table("XX.S..HHZ", "XX.S..HHN"), n_samples=50).compute()
    assert flags(shared) == ["missing"] * 4 + ["unreadable"] * 2
    late.unlink()
    stripped = events_table(["7", "8", "9"], ["2020-01-01"] * 3)
    with pytest.raises(ValueError, match=r"such as \['007', '008', '009'\], none of which is in the catalogue"):
        opened(path, events=stripped)


def test_without_h5py_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tutorial(tmp_path / "a.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"expected it: pip install 'specufex_dask\[hdf5\]'"):
        opened(path)


def test_a_bucket_gives_the_same_in_few_requests(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(f"e{i}" for i in range(200))
    samples = np.random.default_rng(1).normal(size=(200, 500))
    content = tutorial(tmp_path / "a.h5", names, samples).read_bytes()
    bucket.files.pipe_file(f"{bucket.name}/a.h5", content)
    bucket.files.pipe_file(f"{bucket.name}/b.h5", content[: len(content) // 2])
    events = events_table(list(names), ["2020-01-01"] * 200)
    with requests(monkeypatch) as made:
        waveforms = opened(bucket.url("a.h5"), events=events, storage_options=bucket.options, records_per_task=20)
        np.testing.assert_array_equal(waveforms.compute(scheduler="threads").waveform, samples)
    assert made["get_object"] <= 2 * len(content) / hdf5_files._BLOCK_BYTES + 2
    assert not any(SECRET in text for text in (repr(waveforms), str(waveforms.attrs)))
    with pytest.raises(ValueError, match=r"b\.h5', which cannot be read as HDF5"):
        opened(bucket.url("b.h5"), events=events, storage_options=bucket.options)


def test_no_more_than_needed_is_read_of_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tutorial(tmp_path / "a.h5", samples=np.random.default_rng(0).normal(size=(3, 400_000)))
    fetched: list[int] = []
    usual = Objects.read_ranges

    def noting(self: Objects, name: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        fetched.extend(last - first for first, last in ranges)
        return usual(self, name, ranges)

    monkeypatch.setattr(Objects, "read_ranges", noting)
    part = read_hdf5(str(path), lambda file: file["waveforms"][1, 200_000:200_010], Objects())
    with h5py.File(path) as file:
        np.testing.assert_array_equal(part, file["waveforms"][1, 200_000:200_010])
    assert sum(fetched) <= 4 * hdf5_files._BLOCK_BYTES < path.stat().st_size / 9


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    folder = tmp_path_factory.mktemp("mutated")
    return folder, [tutorial(folder / "a.h5").read_bytes(), workflow(folder / "b.h5").read_bytes()]


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_file_gives_a_record_or_is_unreadable(whole: tuple[Path, list[bytes]], seed: int) -> None:
    folder, contents = whole
    rng = random.Random(seed)  # noqa: S311 - repeatable
    content = bytearray(rng.choice(contents))
    if rng.random() < 0.1:
        del content[rng.randrange(len(content)) :]
    for _ in range(min(rng.choice([1, 2, 16]), len(content))):
        content[rng.randrange(len(content))] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
    path = folder / f"{seed}.h5"
    path.write_bytes(content)
    archive = Hdf5Archive(PathTemplate(str(path)), 100.0)
    try:
        read = archive.read(f"{path}::009", {"XX.S..HHZ"}, span_ns=None)
    except UnreadableFileError:
        return
    finally:
        path.unlink()
    assert all(part.samples.ndim == 1 for parts in read.segments.values() for part in parts)


def test_a_text_longer_than_its_file_takes_no_memory(tmp_path: Path) -> None:
    path = tutorial(tmp_path / "a.h5")
    with h5py.File(path) as file:
        at = file["event_ids"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[at : at + 4] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a text of 4294967295 bytes of /event_ids is not in the file"):
        open_archive(path, sampling_rate=100.0)
