from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from archives import channels_table, events_table, write_trace

from specufex_dask.reading import load_obspy
from specufex_dask.schema import QUALITY
from specufex_dask.waveforms import open_waveforms

if TYPE_CHECKING:
    from pathlib import Path


def test_a_window_may_cross_midnight_in_day_files(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(-1000, 1000, 12000).astype(np.int32)
    name = "XX.A.00.HHZ"
    write_trace(tmp_path / "2019" / "XX.A.00.HHZ.365", name, "2019-12-31T23:59:00", data[:6000])
    write_trace(tmp_path / "2020" / "XX.A.00.HHZ.001", name, "2020-01-01T00:00:00", data[6000:])
    template = f"{tmp_path}/{{year}}/{{network}}.{{station}}.{{location}}.{{channel}}.{{julday}}"
    times = ["2019-12-31T23:59:30", "2019-12-31T23:59:58", "2020-01-01T00:00:01", "2020-01-01T00:00:59", "2020-01-05"]
    catalog = events_table(["a", "b", "c", "d", "e"], times)
    found = open_waveforms(
        catalog, channels_table(name), archive=template, sampling_rate=100.0, window=(-3.0, 7.0)
    ).compute()
    assert [QUALITY[flag] for flag in found.quality.values] == ["usable"] * 3 + ["short", "missing"]
    for i, begin in enumerate((2700, 5500, 5800)):
        np.testing.assert_array_equal(found.waveform[i], data[begin : begin + 1000])
    (tmp_path / "2020" / "XX.A.00.HHZ.001").write_bytes(b"damaged")
    again = open_waveforms(
        catalog, channels_table(name), archive=template, sampling_rate=100.0, window=(-3.0, 7.0)
    ).compute()
    reasons = [QUALITY[flag] for flag in again.quality.values]
    assert reasons == ["usable", "unreadable", "unreadable", "unreadable", "missing"]


def test_every_kind_of_defect_keeps_its_place(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(-1000, 1000, 1000).astype(np.int32)
    name, start = "XX.A..HHZ", "2020-01-01"
    kinds = {
        "usable": data,
        "short": data[:900],
        "constant": np.full(1000, 3, np.int32),
        "flat": np.concatenate([data[:600], np.full(400, 3, np.int32)]),
        "not_finite": np.where(np.arange(1000) == 5, np.nan, data),
    }
    for kind, samples in kinds.items():
        write_trace(tmp_path / kind, name, start, samples)
    write_trace(tmp_path / "wrong_sampling_rate", name, start, data, rate=50.0)
    (tmp_path / "unreadable").write_bytes(b"nothing of use")
    write_trace(tmp_path / "part", name, "2020-01-01T00:00:06", data[600:])
    write_trace(tmp_path / "gappy", name, start, data[:500])
    (tmp_path / "gappy").write_bytes((tmp_path / "gappy").read_bytes() + (tmp_path / "part").read_bytes())
    write_trace(tmp_path / "other_channel", "XX.A..HHN", start, data)
    reasons = [*kinds, "wrong_sampling_rate", "unreadable", "gappy", "missing"]
    catalog = events_table([*reasons, "other_channel"], [start] * (len(reasons) + 1))
    found = open_waveforms(
        catalog, channels_table(name), archive=f"{tmp_path}/{{event_id}}", sampling_rate=100.0, n_samples=1000
    ).compute()
    assert [QUALITY[flag] for flag in found.quality.values] == [*reasons, "missing"]
    np.testing.assert_array_equal(found.waveform[0], data)
    assert np.isnan(found.waveform[1:]).all()
    known = ~np.isnat(found.start_time.values)
    assert known.tolist() == [reason not in {"unreadable", "missing"} for reason in reasons] + [False]


@pytest.mark.parametrize(("dtype", "value"), [("float32", 2**24), ("float64", 2**28 - 1)])
def test_integers_arrive_exactly(tmp_path: Path, dtype: Any, value: int) -> None:
    data = np.array([value, -value, 1, -1] * 10, dtype=np.int32)
    write_trace(tmp_path / "a", "XX.A..HHZ", "2020-01-01", data)
    options: dict[str, Any] = {"archive": f"{tmp_path}/{{event_id}}", "sampling_rate": 100.0, "dtype": dtype}
    found = open_waveforms(events_table(["a"], ["2020-01-01"]), channels_table("XX.A..HHZ"), **options)
    assert found.waveform.dtype == dtype
    assert found.waveform.values[0].astype(int).tolist() == data.tolist()


def test_the_length_is_the_most_frequent_one(tmp_path: Path) -> None:
    names = [f"e{i}" for i in range(8)]
    for name, length in zip(names, (900, 1000, 1000, 1001, 1001, 1200, 1000, 1001), strict=True):
        write_trace(tmp_path / name, "XX.A..HHZ", "2020-01-01", np.arange(length, dtype=np.int32) % 97)
    options: dict[str, Any] = {"archive": f"{tmp_path}/{{event_id}}", "sampling_rate": 100.0}
    found = open_waveforms(events_table(names, ["2020-01-01"] * 8), channels_table("XX.A..HHZ"), **options)
    assert found.sizes["sample"] == 1000
    assert found.quality.values.tolist() == [QUALITY.index("short")] + [0] * 7
    late = events_table([*(f"x{i}" for i in range(400)), "e1", "e2", "e6", "e0"], ["2020-01-01"] * 404)
    assert open_waveforms(late, channels_table("XX.A..HHZ"), **options).sizes["sample"] == 1000
    options["sampling_rate"] = 50.0
    with pytest.raises(ValueError, match=r"got sampling_rate=50 Hz, expected that of the files, \[100.0\] Hz: pass"):
        open_waveforms(late, channels_table("XX.A..HHZ"), **options)
    half = open_waveforms(late, channels_table("XX.A..HHZ"), preprocess={"resample": True}, **options)
    assert half.sizes["sample"] == 500
    assert half.isel(record=slice(400, None)).quality.values.tolist() == [0] * 3 + [QUALITY.index("short")]


def test_an_odd_file_is_opened_or_flagged(data_dir: Path) -> None:
    folder = data_dir / "odd_files" / "pnw"
    with (data_dir / "odd_files" / "pnw_manifest.csv").open(encoding="utf-8") as file:
        kinds = {row["file"]: row["category"] for row in csv.DictReader(file)}
    found: dict[str, set[str]] = {}
    for name, kind in kinds.items():
        channel = load_obspy().read(str(folder / name), headonly=True)[0].id
        record = open_waveforms(
            events_table([name], ["2020-01-01"]), channels_table(channel), archive=f"{folder}/{{event_id}}",
            sampling_rate=100.0, window=(0.0, 148.0), anchor="file_start",
        )  # fmt: skip
        found.setdefault(kind, set()).add(QUALITY[int(record.quality.values[0])])
    usable_or_slow = {"usable", "wrong_sampling_rate"}
    assert found.pop("flat") == {"constant"}
    assert found.pop("few_levels_bit_noise") == found.pop("clipped") | {"wrong_sampling_rate"} == usable_or_slow
    assert found.pop("multi_trace_gap_or_loc") == {"gappy", "wrong_sampling_rate"}
    assert found.pop("short") == {"short", "wrong_sampling_rate"}
    assert found.pop("sr_100") == found.pop("sr_99.9997") == {"usable"}
    assert set.union(*found.values()) == {"wrong_sampling_rate"}


def test_odd_formats_are_opened_or_flagged(data_dir: Path) -> None:
    folder = data_dir / "odd_files" / "obspy"
    expected = {
        "GRF_031102_0225.GSE.wrong_chksum": "unreadable",
        "LICENSE_obspy_LGPLv3.txt": "unreadable",
        "gaps.mseed": "gappy",
        "QFILE-TEST-ASC.ASC": "constant",  # its first channel is zero for twelve seconds
    }
    for path in sorted(folder.iterdir()):
        headers = [] if expected.get(path.name) == "unreadable" else load_obspy().read(str(path), headonly=True)
        channel, rate = (headers[0].id, headers[0].stats.sampling_rate) if headers else ("XX.A..HHZ", 100.0)
        record = open_waveforms(
            events_table([path.name], ["2020-01-01"]), channels_table(channel), archive=f"{folder}/{{event_id}}",
            sampling_rate=rate, window=(0.0, 12 / rate if rate < 2 else 1.9), anchor="file_start",
        )  # fmt: skip
        if path.name == "gaps.mseed":
            record = open_waveforms(
                events_table([path.name], ["2020-01-01"]), channels_table(channel), archive=f"{folder}/{{event_id}}",
                sampling_rate=rate,
            )  # fmt: skip
        assert QUALITY[int(record.quality.values[0])] == expected.get(path.name, "usable"), path.name
