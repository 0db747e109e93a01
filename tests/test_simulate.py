from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from specufex_dask.catalog import read_catalog, read_picks, read_stations
from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.schema import QUALITY
from specufex_dask.simulate import Simulation, simulate
from specufex_dask.waveforms import open_waveforms


def _bytes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return simulate(tmp_path_factory.mktemp("simulated"), n_events=120, seed=0)


def _waveforms(made: Simulation) -> Any:
    catalog, stations = read_catalog(made.catalog), read_stations(made.stations)
    return open_waveforms(catalog, stations, archive=made.archive, sampling_rate=made.sampling_rate).compute()


def test_equal_seeds_give_equal_bytes_and_another_seed_others(tmp_path: Path) -> None:
    options: dict[str, Any] = {"n_events": 8, "missing": 0.1, "contaminated": 0.3}
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    simulate(first, seed=1, **options)
    simulate(again, seed=1, **options)
    simulate(other, seed=2, **options)
    assert _bytes(first) == _bytes(again)
    assert len(_bytes(first)) == 8 + 5
    different = {name for name, value in _bytes(first).items() if _bytes(other).get(name) != value}
    assert different == set(_bytes(first))


def test_every_record_can_be_used(made: Simulation) -> None:
    waveforms = _waveforms(made)
    assert dict(waveforms.sizes) == {"record": 360, "sample": made.n_samples}
    assert (waveforms.quality == 0).all()
    origin = read_catalog(made.catalog).origin_time.values.repeat(3)
    assert (waveforms.start_time.values == origin - np.timedelta64(3, "s")).all()


def test_the_files_are_valid(made: Simulation) -> None:
    load_obspy()
    with quiet_obspy():
        from obspy.io.quakeml.core import _validate
        from obspy.io.stationxml.core import validate_stationxml

        assert _validate(made.quakeml)
        assert validate_stationxml(made.stations)[0]
        (first, *_), headers = (load_obspy().read(made.archive.format(event_id=f"sim{i:06d}")) for i in (0, 1))
    assert first.stats.mseed.encoding == "STEIM2"
    assert [trace.id for trace in headers] == read_stations(made.stations).station_id.values.tolist()
    assert read_picks(made.quakeml).sizes["pick"] == 120 * 3 * 2


def test_the_picks_lie_on_the_onsets(made: Simulation) -> None:
    waveforms, picks = _waveforms(made), read_picks(made.quakeml)
    x = waveforms.waveform.values
    at = ((picks.time.values.reshape(-1, 2) - waveforms.start_time.values[:, None]) / np.timedelta64(10, "ms")).astype(
        int
    )
    for phase, least in ((0, 1.3), (1, 3.0)):
        before = [np.std(row[i - 60 : i - 5]) for row, i in zip(x, at[:, phase], strict=True)]
        after = [np.std(row[i : i + 60]) for row, i in zip(x, at[:, phase], strict=True)]
        assert np.median(np.array(after) / np.array(before)) > least


def test_the_truth_names_families_and_repeaters(made: Simulation) -> None:
    truth = _rows(made.truth)
    assert [row["event_id"] for row in truth] == read_catalog(made.catalog).event_id.values.tolist()
    assert set(Counter(row["family"] for row in truth)) == {"0", "1", "2"}
    sequences = Counter(row["sequence"] for row in truth if row["sequence"] != "-1")
    assert set(sequences.values()) <= set(range(2, 7))
    assert 55 <= sum(sequences.values()) <= 60
    assert {(row["kind"], row["sequence"] == "-1") for row in truth} == {("single", True), ("repeater", False)}
    families: dict[str, str] = {}
    for row in truth:
        if row["kind"] == "repeater":
            assert families.setdefault(row["sequence"], row["family"]) == row["family"]


def test_repeaters_correlate_and_families_differ_in_spectrum(made: Simulation) -> None:
    waveforms, truth = _waveforms(made), _rows(made.truth)
    nearest = waveforms.waveform.values[::3, 300:1300]
    sequence = np.array([int(row["sequence"]) for row in truth])
    family = np.array([int(row["family"]) for row in truth])
    spectra = np.abs(np.fft.rfft(nearest * np.hanning(1000)))
    spectra[:, :10] = 0  # noise below 1 Hz
    whitened = np.fft.rfft(nearest, 2000) * (np.fft.rfftfreq(2000, 0.01) > 1)
    unit = whitened / np.linalg.norm(whitened, axis=1, keepdims=True)
    within: list[float] = []
    between: list[float] = []
    for i in range(120):
        for j in range(i):
            peak = np.fft.irfft(unit[i] * unit[j].conj()).max() * 1000
            (within if sequence[i] == sequence[j] >= 0 else between).append(peak)
    assert np.median(within) > 0.85
    assert np.percentile(between, 99) < 0.6
    centre = (spectra * np.fft.rfftfreq(1000, 0.01)).sum(axis=1) / spectra.sum(axis=1)
    means = [centre[family == k].mean() for k in range(3)]
    spread = max(centre[family == k].std() for k in range(3))
    assert means[0] < means[1] < means[2]
    assert means[2] - means[0] > 2 * spread  # told apart in the mean, not one by one
    assert centre[family == 0].max() > centre[family == 1].min()


def test_missing_and_contaminated_records_are_as_many_as_asked_and_told_of(tmp_path: Path) -> None:
    made = simulate(tmp_path / "a", n_events=60, missing=0.2, contaminated=0.3, seed=4)
    clean = simulate(tmp_path / "b", n_events=60, seed=4)
    kinds = np.array([row["kind"] for row in _rows(made.truth_records)])
    counts = Counter(kinds.tolist())
    assert 20 <= counts["missing"] <= 52  # 36 ± 3 standard deviations
    assert 25 <= counts["glitch"] + counts["other_event"] <= 62  # 43 ± 3
    assert min(counts.values()) > 5
    spoilt, whole = _waveforms(made), _waveforms(clean)
    assert [QUALITY[flag] for flag in spoilt.quality.values[kinds == "missing"]] == ["missing"] * counts["missing"]
    same = (spoilt.waveform.values == whole.waveform.values).all(axis=1)
    np.testing.assert_array_equal(same, kinds == "plain")


def test_an_event_without_any_record_has_no_file(tmp_path: Path) -> None:
    made = simulate(tmp_path, n_events=3, missing=1.0, seed=0)
    assert list(Path(made.archive).parent.iterdir()) == []
    assert len(_rows(made.truth_records)) == 9


@pytest.mark.parametrize(("sampling_rate", "channel"), [(20.0, "BHZ"), (200.0, "HHZ")])
def test_other_rates_lengths_and_numbers(tmp_path: Path, sampling_rate: float, channel: str) -> None:
    made = simulate(
        tmp_path, n_events=2, n_stations=1, n_families=1, sampling_rate=sampling_rate, duration=30.0, seed=0
    )
    assert made.n_samples == 30 * sampling_rate
    assert read_stations(made.stations).station_id.values.tolist() == [f"XX.S001..{channel}"]
    assert (_waveforms(made).quality == 0).all()


def test_a_simulation_is_not_written_over_another_by_mistake(tmp_path: Path) -> None:
    simulate(tmp_path, n_events=3, n_stations=1, seed=0)
    with pytest.raises(FileExistsError, match="there is a catalogue or a simulation already, expected a new folder"):
        simulate(tmp_path, n_events=2, n_stations=1, seed=0)
    made = simulate(tmp_path, n_events=2, n_stations=1, seed=0, overwrite=True)
    assert len(list(Path(made.archive).parent.iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_events": 0}, "got n_events=0, expected 1 or more"),
        ({"missing": 1.5}, "got missing=1.5, expected a share from 0 to 1"),
        ({"noise": 0.0}, "got noise=0.0, expected a number above 0"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(tmp_path, seed=0, **options)
    assert list(tmp_path.iterdir()) == []
