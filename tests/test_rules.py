"""The rules of docs/waveforms.md, a row of its table each, on day files under an SDS tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from archives import channels_table, events_table, write_trace

import specufex_dask as sx
from specufex_dask.schema import QUALITY

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

NAME, DAY, RATE = "XX.A..HHZ", "2019-12-31", 100.0
DATA = np.random.default_rng(0).integers(-1000, 1000, 12_000).astype(np.int32)
HALF = 6000
"""Samples of a minute, and the sample at which a second part of a day begins."""


def _file(root: Path, name: str = NAME, day: str = DAY) -> Path:
    network, station, location, channel = name.split(".")
    time = np.datetime64(day)
    julday = (time - time.astype("datetime64[Y]")).astype(int) + 1
    base = f"{network}.{station}.{location}.{channel}.D.{day[:4]}.{julday:03d}"
    return root / day[:4] / network / station / f"{channel}.D" / base


def _write(root: Path, *parts: tuple[float, Any], name: str = NAME, day: str = DAY, rate: float = RATE) -> None:
    """Parts (seconds after the start of the day, samples) as one day file."""
    path, content = _file(root, name, day), b""
    for seconds, samples in parts:
        at = np.datetime64(day, "ns") + np.timedelta64(round(seconds * 1e9), "ns")
        own = rate if not isinstance(samples, tuple) else samples[1]
        write_trace(path, name, str(at), samples if not isinstance(samples, tuple) else samples[0], own)
        content += path.read_bytes()
    path.write_bytes(content)


def _open(root: Path | str, *seconds: float, names: Any = (NAME,), day: str = DAY, **how: Any) -> xr.Dataset:
    """Records of 10 s that begin so many seconds after the start of the day."""
    times = [str(np.datetime64(day, "ns") + np.timedelta64(round(each * 1e9), "ns")) for each in seconds]
    options: dict[str, Any] = {"sampling_rate": RATE, "window": (0.0, 10.0), "archive": "sds", "root": root} | how
    events = events_table([f"e{i}" for i in range(len(times))], times)
    return sx.open_waveforms(events, channels_table(*names), **options).compute()


def _reasons(found: xr.Dataset) -> list[str]:
    return [QUALITY[flag] for flag in found.quality.values]


def _same(found: xr.Dataset, record: int, first: int, data: Any = DATA) -> bool:
    return bool(np.array_equal(found.waveform.values[record], data[first : first + 1000]))


def test_a_gap_flags_what_it_is_in_and_is_filled_on_request(tmp_path: Path) -> None:
    _write(tmp_path, (0, DATA[:HALF]), (60.5, DATA[HALF + 50 :]))
    found = _open(tmp_path, 40, 55, 60.2, 70)
    assert _reasons(found) == ["usable", "gappy", "short", "usable"]
    assert np.isnan(found.waveform.values[1]).all()
    assert _reasons(_open(tmp_path, 55, max_gap=0.49)) == ["gappy"]
    bridged = _open(tmp_path, 55, max_gap=0.5)
    assert _reasons(bridged) == ["usable"]
    line = np.interp(np.arange(50), [-1, 50], DATA[[HALF - 1, HALF + 50]])
    np.testing.assert_allclose(bridged.waveform.values[0, 500:550], line, rtol=1e-6)
    np.testing.assert_array_equal(bridged.waveform.values[0, 550:], DATA[HALF + 50 : 6500])


def test_an_overlap_of_equal_samples_is_one_and_of_others_a_gap(tmp_path: Path) -> None:
    _write(tmp_path, (0, DATA[:HALF]), (58, DATA[5800:]))
    found = _open(tmp_path, 55)
    assert _reasons(found) == ["usable"]
    assert _same(found, 0, 5500)
    _write(tmp_path, (0, DATA[:HALF]), (58, DATA[5800:] + 1))
    assert _reasons(_open(tmp_path, 40, 55, 70)) == ["usable", "gappy", "usable"]
    assert _reasons(_open(tmp_path, 55, max_gap=2.0)) == ["usable"], "what two clocks dispute is filled like a gap"


def test_a_clock_that_steps_by_less_than_half_a_sample_goes_on(tmp_path: Path) -> None:
    _write(tmp_path, (0, DATA[:HALF]), (60.004, DATA[HALF:]))
    found = _open(tmp_path, 55)
    assert _reasons(found) == ["usable"]
    assert _same(found, 0, 5500)
    assert found.start_time.values[0] == np.datetime64(f"{DAY}T00:00:55", "ns")


def test_a_rate_that_changes_in_a_day_flags_the_windows_of_the_other_rate(tmp_path: Path) -> None:
    slow = DATA[:3000]
    _write(tmp_path, (0, DATA[:HALF]), (60, (slow, 50.0)))
    found = _open(tmp_path, 40, 55, 70)
    assert _reasons(found) == ["usable", "wrong_sampling_rate", "wrong_sampling_rate"]
    assert _same(found, 0, 4000)
    resampled = _open(tmp_path, 40, 55, 70, preprocess={"resample": True})
    assert _reasons(resampled) == ["usable", "wrong_sampling_rate", "usable"], "a window of two rates is none"


def test_a_rate_within_a_thousandth_is_the_same(tmp_path: Path) -> None:
    _write(tmp_path, (0, DATA), rate=100.05)
    assert _reasons(_open(tmp_path, 20)) == ["usable"]
    _write(tmp_path, (0, DATA), rate=100.2)
    assert _reasons(_open(tmp_path, 20)) == ["wrong_sampling_rate"]


def test_orientation_codes_are_never_exchanged(tmp_path: Path) -> None:
    """Channel 1 is not north: the way it points is in the StationXML alone."""
    names = ("XX.A..HHE", "XX.A..HH2", "XX.A..HHZ", "XX.A..HH3")
    _write(tmp_path, (0, DATA), name="XX.A..HH2")
    _write(tmp_path, (0, DATA + 1), name="XX.A..HHZ")
    found = _open(tmp_path, 20, names=names)
    of = dict(zip(found.station_id.values, _reasons(found), strict=True))
    assert of == {"XX.A..HHE": "missing", "XX.A..HH2": "usable", "XX.A..HHZ": "usable", "XX.A..HH3": "missing"}
    for pattern, chosen in (("*Z", names[2:3]), ("XX.*.HH[Z3]", names[2:]), (["*E", "*2"], names[:2])):
        assert _open(tmp_path, 20, names=names, station_id=pattern).station_id.values.tolist() == list(chosen)
    with pytest.raises(ValueError, match=r"got station_id \['\*N'\], expected some of"):
        _open(tmp_path, 20, names=names, station_id="*N")


def test_each_location_is_a_channel_of_its_own(tmp_path: Path) -> None:
    names = ("XX.A..HHZ", "XX.A.00.HHZ", "XX.A.10.HHZ")
    for i, name in enumerate(names[:2]):
        _write(tmp_path, (0, DATA + i), name=name)
    found = _open(tmp_path, 20, names=names)
    assert _reasons(found) == ["usable", "usable", "missing"]
    assert _same(found, 0, 2000)
    assert _same(found, 1, 2000, DATA + 1)


@pytest.mark.parametrize("location", ["", "--", " "])
def test_two_dashes_are_an_empty_location(tmp_path: Path, location: str) -> None:
    head = "network,station,location,channel,latitude,longitude,elevation_m"
    (tmp_path / "s.csv").write_text(f"{head}\nXX,A,{location},HHZ,1,2,3\n")
    assert sx.read_stations(tmp_path / "s.csv").station_id.item() == NAME


def test_a_window_across_midnight_and_the_years_end_is_whole(tmp_path: Path) -> None:
    _write(tmp_path, (86_340, DATA[:HALF]))
    _write(tmp_path, (0, DATA[HALF:]), day="2020-01-01")
    found = _open(tmp_path, 86_395, 86_350)
    assert _reasons(found) == ["usable", "usable"]
    assert _same(found, found.event_id.values.tolist().index("e0"), 5500)
    _file(tmp_path, day="2020-01-01").unlink()
    assert sorted(_reasons(_open(tmp_path, 86_395, 86_350))) == ["short", "usable"]


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    _write(tmp_path, (0, DATA))
    found = _open(tmp_path, 20, 200, 86_400, names=(NAME, "XX.A..HHN"))
    of = {(e, s): r for e, s, r in zip(found.event_id.values, found.station_id.values, _reasons(found), strict=True)}
    assert [of[f"e{i}", NAME] for i in range(3)] == ["usable", "missing", "missing"], "its time is not in the file"
    assert {of[f"e{i}", "XX.A..HHN"] for i in range(3)} == {"missing"}


def test_a_file_that_ends_early_is_short_where_it_ends(tmp_path: Path) -> None:
    _write(tmp_path, (0, DATA[:HALF]))
    assert _reasons(_open(tmp_path, 20, 55, 70)) == ["usable", "short", "missing"]


def test_a_file_cut_within_a_record_is_damaged_behind_the_cut_and_not_missing(tmp_path: Path) -> None:
    _write(tmp_path, (0, DATA))
    content = _file(tmp_path).read_bytes()
    _file(tmp_path).write_bytes(content[: 4096 * 3 + 1000])
    found = _open(tmp_path, *range(0, 120, 10))
    order = np.argsort([int(name[1:]) for name in found.event_id.values])
    reasons = [_reasons(found)[i] for i in order]
    n_whole = reasons.index("unreadable")
    assert n_whole >= 2
    assert reasons == ["usable"] * n_whole + ["unreadable"] * (12 - n_whole)


@pytest.mark.parametrize("content", [b"", b"<Error><Code>SlowDown</Code></Error>", b"<html>404</html>", bytes(4096)])
def test_an_object_that_is_no_waveform_is_unreadable(tmp_path: Path, content: bytes) -> None:
    _write(tmp_path, (0, DATA))
    _file(tmp_path).write_bytes(content)
    assert _reasons(_open(tmp_path, 20)) == ["unreadable"]


def test_a_damaged_frame_flags_the_records_of_its_samples_alone(tmp_path: Path) -> None:
    _write(tmp_path, (0, DATA))
    content = bytearray(_file(tmp_path).read_bytes())
    content[4096 * 2 + 100] ^= 0x40  # records of 4096 bytes: a difference in the third
    _file(tmp_path).write_bytes(content)
    found = _open(tmp_path, *range(0, 110, 10))
    whole = [i for i in range(11) if _reasons(found)[i] == "usable"]
    assert 5 <= len(whole) < 11
    assert set(_reasons(found)) == {"usable", "unreadable"}
    order = [int(name[1:]) for name in found.event_id.values]
    assert all(_same(found, i, 1000 * order[i]) for i in whole)


def test_samples_that_say_nothing_are_named(tmp_path: Path) -> None:
    data = DATA.copy()
    data[2000:3000], data[3500:3900], data[7000:7100] = 7, 7, 1000
    data[9000:10_000] = np.clip(data[9000:10_000], -300, 300)
    _write(tmp_path, (0, data))
    found = _open(tmp_path, 20, 30, 70, 90)
    assert _reasons(found) == ["constant", "flat", "usable", "usable"], "clipping is not looked for"
    assert _reasons(_open(tmp_path, 70, max_flat=0.09)) == ["flat"]
    real = data.astype(np.float32)
    real[2500] = np.nan
    _write(tmp_path, (0, real))
    assert _reasons(_open(tmp_path, 20, 40)) == ["not_finite", "usable"]


def test_a_server_that_does_not_answer_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
    options: dict[str, Any] = {"anon": True, "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"}}
    options["config_kwargs"] = {"connect_timeout": 1, "retries": {"max_attempts": 0}}
    with pytest.raises(ConnectionError, match=r"got no answer for s3://scedc-pds/continuous_waveforms \(.*endpoint"):
        _open("s3://scedc-pds", 20, archive="scedc", storage_options=options)
