from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from itertools import pairwise, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from specufex_dask.catalog import read_catalog, read_picks, read_stations
from specufex_dask.hypodd_settings import LayeredModel
from specufex_dask.kernels.double_difference import first_arrivals
from specufex_dask.local_frame import LocalFrame
from specufex_dask.simulate import Simulation, simulate
from specufex_dask.waveforms import open_waveforms

if TYPE_CHECKING:
    import xarray as xr

N_EVENTS, N_STATIONS, N_SEQUENCES = 120, 2, 10
RATE = 100.0
FRAME = LocalFrame(37.0, -121.5)


def _rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _bytes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    folder = tmp_path_factory.mktemp("sequences")
    return simulate(folder, n_events=N_EVENTS, n_stations=N_STATIONS, n_sequences=N_SEQUENCES, noise=0.002, seed=1)


@pytest.fixture(scope="module")
def truth(made: Simulation) -> dict[str, np.ndarray[Any, Any]]:
    """The columns of the truth, and true places (event, 3) [m east, north, down]."""
    rows, sources = _rows(made.truth), _rows(made.truth_sources)
    assert [row["event_id"] for row in rows] == [row["event_id"] for row in sources]
    latitude, longitude, depth, magnitude, radius = (
        np.array([float(row[name]) for row in sources])
        for name in ("latitude", "longitude", "depth_km", "magnitude", "radius_m")
    )
    east, north = FRAME.km(latitude, longitude)
    return {
        "kind": np.array([row["kind"] for row in rows]),
        "sequence": np.array([int(row["sequence"]) for row in rows]),
        "family": np.array([int(row["family"]) for row in rows]),
        "resembles": np.array([int(row["resembles"]) for row in sources]),
        "time": np.array([row["origin_time"] for row in sources], "datetime64[us]"),
        "place": np.stack([east, north, depth], axis=1) * 1000,
        "magnitude": magnitude,
        "radius": radius,
    }


@pytest.fixture(scope="module")
def aligned(made: Simulation) -> np.ndarray[Any, Any]:
    """Records (event, station, sample) from 0.5 s before the true arrival of S on, shifted by parts of a sample."""
    catalog, stations = read_catalog(made.catalog), read_stations(made.stations)
    waveforms = open_waveforms(catalog, stations, archive=made.archive, sampling_rate=RATE).compute()
    x = waveforms.waveform.values.reshape(N_EVENTS, N_STATIONS, -1)
    start = waveforms.start_time.values.reshape(N_EVENTS, N_STATIONS)
    late = (_arrivals(made, stations)[..., 1] - start) / np.timedelta64(1, "s") - 0.5
    frequency = np.fft.rfftfreq(x.shape[2], 1 / RATE)
    turned = np.fft.rfft(x) * np.exp(2j * np.pi * frequency * late[..., None])
    turned[..., (frequency < 1.5) | (frequency > 15)] = 0
    return np.fft.irfft(turned, x.shape[2])[..., :600]


def _arrivals(made: Simulation, stations: xr.Dataset) -> np.ndarray[Any, Any]:
    """True times (event, station, phase) of P and S by the layers that were written."""
    layers, sources = _rows(made.velocities), _rows(made.truth_sources)
    top = np.array([float(row["top_km"]) for row in layers])
    origin = np.array([row["origin_time"] for row in sources], "datetime64[ns]")
    latitude, longitude, depth = (
        np.array([float(row[name]) for row in sources]) for name in ("latitude", "longitude", "depth_km")
    )
    here, there = FRAME.km(latitude, longitude), FRAME.km(stations.latitude.values, stations.longitude.values)
    away = np.hypot(here[0][:, None] - there[0], here[1][:, None] - there[1])
    found = np.empty((len(origin), len(there[0]), 2), "datetime64[ns]")
    for phase, name in enumerate(("p_km_s", "s_km_s")):
        velocity = np.array([float(row[name]) for row in layers])
        for k, height in enumerate(stations.elevation.values.tolist()):
            seconds = first_arrivals(np.ascontiguousarray(away[:, k]), depth, -height / 1000, top, velocity)[0]
            found[:, k, phase] = origin + np.rint(seconds * 1e9).astype("timedelta64[ns]")
    return found


def _correlation(aligned: np.ndarray[Any, Any], i: int, j: int) -> np.ndarray[Any, Any]:
    a, b = aligned[i], aligned[j]
    return np.asarray((a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)))


def _pairs(truth: dict[str, np.ndarray[Any, Any]]) -> dict[str, list[tuple[int, int]]]:
    """Pairs of a repeater with others: of its sequence, with a near one, an impostor, or a single event."""
    found = defaultdict(list)
    for i, j in permutations(range(N_EVENTS), 2):
        kind = truth["kind"][j]
        if truth["kind"][i] != "repeater" or (kind == "repeater" and j < i):
            continue
        if kind == "single" or truth["resembles"][j] == truth["sequence"][i]:
            found[kind].append((i, j))
    return found


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    options: dict[str, Any] = {"n_events": 8, "n_stations": 2, "n_sequences": 2, "contaminated": 0.3}
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    simulate(first, seed=1, **options)
    simulate(again, seed=1, **options)
    simulate(other, seed=2, **options)
    assert _bytes(first) == _bytes(again)
    assert len(_bytes(first)) == 8 + 7
    different = {name for name, value in _bytes(first).items() if _bytes(other).get(name) != value}
    assert different == set(_bytes(first)) - {"velocities.csv"}


def test_a_simulation_without_sequences_is_what_it_was(tmp_path: Path) -> None:
    """The digest of a simulation written before there were sequences."""
    made = simulate(tmp_path, n_events=8, missing=0.1, contaminated=0.3, seed=1)
    assert (made.truth_sources, made.velocities) == ("", "")
    found = hashlib.sha256(Path(made.catalog).read_bytes() + Path(made.quakeml).read_bytes())
    waves = sorted(Path(made.archive).parent.iterdir())
    found.update(b"".join(path.read_bytes() for path in waves))
    assert found.hexdigest() == "3f10f2e71faf13e2fe811091f2ae80a6cc4757f910a5ffaf100d4b93074c8f6b"


def test_kinds_and_numbers_are_told(truth: dict[str, np.ndarray[Any, Any]]) -> None:
    kind, sequence = truth["kind"], truth["sequence"]
    numbers = {name: int((kind == name).sum()) for name in ("near", "impostor")}
    assert numbers == {"near": 2 * N_SEQUENCES, "impostor": N_SEQUENCES}
    np.testing.assert_array_equal(kind == "repeater", sequence >= 0)
    lengths = np.bincount(sequence[sequence >= 0])
    assert lengths.size == N_SEQUENCES
    assert lengths.min() >= 2
    assert 4 < lengths.mean() < 7  # 6 were asked for
    for number in range(N_SEQUENCES):
        assert len(set(truth["family"][truth["resembles"] == number].tolist())) == 1
    np.testing.assert_array_equal(truth["resembles"][kind == "repeater"], sequence[kind == "repeater"])


def test_ruptures_overlap_in_sequences_alone(truth: dict[str, np.ndarray[Any, Any]]) -> None:
    apart = np.linalg.norm(truth["place"][:, None] - truth["place"], axis=2)
    reach = truth["radius"][:, None] + truth["radius"]
    pairs = _pairs(truth)
    assert all(apart[i, j] < 0.5 * reach[i, j] for i, j in pairs["repeater"])
    assert all(apart[i, j] > reach[i, j] for kind in ("near", "impostor") for i, j in pairs[kind])
    assert all(apart[i, j] > 500 for i, j in pairs["impostor"])
    assert np.median([apart[i, j] / reach[i, j] for i, j in pairs["near"]]) < 4
    near = np.flatnonzero(truth["kind"] == "near").tolist()
    assert all(apart[i, j] > reach[i, j] for i, j in permutations(near, 2))
    magnitude = truth["magnitude"]
    assert max(abs(magnitude[i] - magnitude[j]) for i, j in pairs["repeater"]) < 0.31


def test_intervals_scatter_about_their_mean(truth: dict[str, np.ndarray[Any, Any]]) -> None:
    ratios = []
    for number in range(N_SEQUENCES):
        times = np.sort(truth["time"][truth["sequence"] == number]).astype(np.int64)
        intervals = np.diff(times)
        if len(intervals) > 2:
            ratios.append(intervals.std() / intervals.mean())
    assert 0.15 < np.mean(ratios) < 0.45
    assert (np.diff(truth["time"].astype(np.int64)) > -1_000_000).all()  # by the catalogue's times, 0.03 s off


def test_waves_are_equal_on_a_patch_and_part_with_distance(
    truth: dict[str, np.ndarray[Any, Any]], aligned: np.ndarray[Any, Any]
) -> None:
    median = {
        kind: np.median([_correlation(aligned, *pair) for pair in pairs[:80]]) for kind, pairs in _pairs(truth).items()
    }
    assert median["repeater"] > 0.97
    assert 0.5 < median["near"] < median["repeater"] - 0.02
    assert 0.8 < median["impostor"] < median["repeater"]
    assert abs(median["single"]) < 0.2


def test_the_coda_parts_first(truth: dict[str, np.ndarray[Any, Any]], aligned: np.ndarray[Any, Any]) -> None:
    near = _pairs(truth)["near"]
    early, late = (
        np.median([_correlation(part, *pair) for pair in near]) for part in (aligned[..., 50:100], aligned[..., 200:])
    )
    assert early > late + 0.1


def test_catalogue_and_picks_are_off_by_their_errors(made: Simulation, truth: dict[str, np.ndarray[Any, Any]]) -> None:
    catalog, stations, picks = read_catalog(made.catalog), read_stations(made.stations), read_picks(made.quakeml)
    east, north = FRAME.km(catalog.latitude.values, catalog.longitude.values)
    error = np.stack([east, north, catalog.depth.values], axis=1) * 1000 - truth["place"]
    np.testing.assert_allclose(error.std(axis=0), [8, 8, 12], rtol=0.3)
    late = (catalog.origin_time.values - truth["time"]) / np.timedelta64(1, "s")
    assert 0.02 < late.std() < 0.04
    off = picks.time.values.reshape(N_EVENTS, N_STATIONS, 2) - _arrivals(made, stations)
    seconds = off / np.timedelta64(1, "s")
    np.testing.assert_allclose(seconds.std(axis=(0, 1)), [0.02, 0.04], rtol=0.2)
    assert abs(seconds.mean()) < 0.01
    assert picks.phase.values.reshape(-1, 2).tolist() == [["P", "S"]] * (N_EVENTS * N_STATIONS)


def test_the_layers_can_be_used_to_relocate(made: Simulation) -> None:
    layers = _rows(made.velocities)
    top, p, s = (tuple(float(row[name]) for row in layers) for name in ("top_km", "p_km_s", "s_km_s"))
    model = LayeredModel(top_km=top, p_km_s=p, vp_vs=tuple(a / b for a, b in zip(p, s, strict=True)))
    np.testing.assert_allclose(model.s_km_s, s)
    assert all(a < b for a, b in pairwise(p))


def test_few_events_suffice(tmp_path: Path) -> None:
    made = simulate(tmp_path, n_events=4, n_stations=1, n_sequences=1, layout="ncedc-events", seed=0)
    kinds = [row["kind"] for row in _rows(made.truth)]
    assert kinds.count("repeater") >= 2
    assert len(list(Path(made.folder, "waveforms").rglob("*.ms"))) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_events": 11, "n_sequences": 3}, "got n_sequences=3, expected 0 to 2 of 11 events: correct it."),
        ({"n_events": 11, "n_sequences": -1}, "got n_sequences=-1, expected 0 to 2"),
        ({"n_events": 8, "n_sequences": 2, "layout": "sds"}, "got n_sequences=2 with layout='sds', expected 0 for fi"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(tmp_path, seed=0, **options)
    assert list(tmp_path.iterdir()) == []
