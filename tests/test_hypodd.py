from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from relocated import MODEL, lines, swarm, write

from specufex_dask.catalog import read_catalog, read_picks
from specufex_dask.hypodd import read_hypodd, write_hypodd, write_relocation
from specufex_dask.hypodd_pairs import Pairing
from specufex_dask.hypodd_settings import Settings
from specufex_dask.tables import stations_table, texts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from relocated import Swarm

EVENT = "i8,2x,i8,2x,f8.4,2x,f9.4,2x,f9.3,2x,f5.2,2x,f6.2,2x,f6.2,2x,f5.2,1x,i10"
RELOC = (
    "i9,1x,f10.6,1x,f11.6,1x,f9.3," + "1x,f10.1," * 3 + "1x,f8.1," * 3 + "1x,i4," + "1x,i2," * 4
    + "1x,f6.3,1x,f5.2," + "1x,i5," * 4 + "1x,f6.3,1x,f6.3,1x,i3"
)  # fmt: skip
PAIR, CATALOG = "a1,1x,i9,1x,i9", "a7,1x,f7.3,1x,f7.3,1x,f6.4,1x,a1"


def fortran(layout: str, line: str) -> list[Any]:
    """The values of a line in a Fortran format, each in its columns and with its decimals, and nothing else."""
    values: list[Any] = []
    at = 0
    for count, kind, width, decimals in re.findall(r"(\d*)([aifx])(\d*)(?:\.(\d+))?", layout):
        size = int(count if kind == "x" else width)
        text, at = line[at : at + size], at + size
        assert len(text) == size, line
        if kind == "x":
            assert text == " " * size, line
        elif kind == "a":
            values.append(text.rstrip())
        elif kind == "i":
            values.append(int(text))
        else:
            assert text[-int(decimals) - 1] == ".", line
            values.append(float(text))
    assert at == len(line), line
    return values


@pytest.fixture(scope="module")
def made() -> Swarm:
    return swarm(0, n_events=7, n_stations=6)


@pytest.fixture(scope="module")
def folder(made: Swarm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(made, tmp_path_factory.mktemp("hypodd"))


def test_events_and_stations_stand_in_their_columns(made: Swarm, folder: Path) -> None:
    assert lines(folder / "event.sel") == lines(folder / "event.dat")
    rows = [fortran(EVENT, line) for line in lines(folder / "event.dat")]
    catalog = made.catalog
    assert [row[9] for row in rows] == [int(each) for each in catalog.event_id.values]
    times = [f"{d // 10000}-{d // 100 % 100:02d}-{d % 100:02d}" for d in (row[0] for row in rows)]
    seconds = [(c // 10**6) * 3600 + c // 10**4 % 100 * 60 + c % 10**4 / 100 for c in (row[1] for row in rows)]
    found = np.array(times, "M8[ns]") + np.rint(np.array(seconds) * 1e9).astype("m8[ns]")
    assert np.abs((found - catalog.origin_time.values).astype(np.int64)).max() <= 5_000_000
    for column, name, half in ((2, "latitude", 5e-5), (3, "longitude", 5e-5), (4, "depth", 5e-4), (5, "magnitude", 0)):
        np.testing.assert_allclose([row[column] for row in rows], catalog[name], atol=half * 1.01)
    stations = [line.split() for line in lines(folder / "station.dat")]
    assert [row[0] for row in stations] == [f"XXS{i:02d}" for i in range(6)]
    np.testing.assert_allclose([float(row[1]) for row in stations], made.stations.latitude, atol=6e-7)
    np.testing.assert_allclose([float(row[2]) for row in stations], made.stations.longitude, atol=6e-7)


def _blocks(path: Path, head: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Each ``#`` line and the lines below it, in words."""
    text = path.read_text()
    for block in text.split(head)[1:]:
        first, *rest = block.splitlines()
        yield first.split(), [line.split() for line in rest]


def test_phases_are_travel_times_after_the_origin(made: Swarm, folder: Path) -> None:
    blocks = list(_blocks(folder / "phase.pha", "#"))
    assert [row[13] for row, _ in blocks] == made.catalog.event_id.values.tolist()
    picks = made.picks
    for i, (row, phases) in enumerate(blocks):
        year, month, day, hour, minute = (int(each) for each in row[:5])
        origin = np.datetime64(f"{year}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}", "ns")
        own = picks.isel(pick=np.flatnonzero(picks.event_id.values == row[13]))
        expected = (own.time.values - origin).astype(np.int64) / 1e9 - float(row[5])
        assert [(each[0], each[3]) for each in phases] == [
            ("XX" + name.split(".")[1], phase)
            for name, phase in zip(own.station_id.values, own.phase.values, strict=True)
        ]
        np.testing.assert_allclose([float(each[1]) for each in phases], expected, atol=5.1e-5)
        assert {float(each[2]) for each in phases} == {1.0}
        assert float(row[6]) == pytest.approx(float(made.catalog.latitude[i]), abs=5.1e-5)
    again = read_picks(folder / "phase.pha")
    assert again.sizes["pick"] == picks.sizes["pick"]


def test_differences_of_picks_stand_in_their_columns(made: Swarm, folder: Path) -> None:
    times = {
        (int(event), "XX" + name.split(".")[1], phase): time
        for event, name, phase, time in zip(
            *(made.picks[name].values for name in ("event_id", "station_id", "phase", "time")), strict=True
        )
    }
    seen: set[frozenset[int]] = set()
    for line in lines(folder / "dt.ct"):
        if line.startswith("#"):
            _, first, second = fortran(PAIR, line)
            assert frozenset((first, second)) not in seen
            seen.add(frozenset((first, second)))
            continue
        name, one, two, weight, phase = fortran(CATALOG, line)
        apart = (times[first, name, phase] - times[second, name, phase]) / np.timedelta64(1, "ns") / 1e9
        hours = round((apart - (one - two)) / 3600)
        origins = [_origin(made, each) for each in (first, second)]
        assert one - two == pytest.approx(apart - (origins[0] - origins[1]), abs=1.1e-3), hours
        assert weight == 1.0
    assert len(seen) >= 7


def _origin(made: Swarm, number: int) -> float:
    """Origin time [s] as HypoDD has it, to 0.01 s."""
    row = made.catalog.event_id.values.tolist().index(str(number))
    return round(int(made.catalog.origin_time.values[row].astype(np.int64)) / 1e9, 2)


def test_differences_of_correlations_are_travel_time_of_the_first_less_that_of_the_second(
    made: Swarm, folder: Path
) -> None:
    true = {name: i for i, name in enumerate(made.catalog.event_id.values.tolist())}
    n = 0
    for pair, rows in _blocks(folder / "dt.cc", "#"):
        assert float(pair[2]) == 0.0
        i, j = true[pair[0]], true[pair[1]]
        for name, difference, weight, phase in rows:
            k, p = int(name.removeprefix("XXS")), "PS".index(phase)
            slope = made.slopes[i, k, p, :3]
            shift = [_origin(made, int(each)) for each in pair[:2]]
            hours = 3600 * (i - j)
            # the true difference, to first order, and what the catalogue's origin times are off by
            expected = slope @ (made.truth[i] - made.truth[j]) + hours - (shift[0] - shift[1])
            assert float(difference) == pytest.approx(expected, abs=0.012)
            assert float(weight) == pytest.approx(0.81)
            n += 1
    assert n == 21 * 6 * 2


def test_correlations_too_low_or_without_a_lag_are_left_out(made: Swarm, tmp_path: Path) -> None:
    weak = made.correlations.copy(deep=True)
    weak.correlation[:10] = 0.5
    weak.lag[10:15] = np.nan
    (written,) = write_hypodd(
        made.catalog, made.stations, made.picks, tmp_path, settings=Settings(MODEL), correlations=weak
    )
    kept = [line for line in lines(written / "dt.cc") if not line.startswith("#")]
    assert len(kept) == weak.sizes["record"] - 15


def test_pairs_of_events_are_those_of_ph2dt(data_dir: Path, tmp_path: Path) -> None:
    example = data_dir / "relocation/example1"
    stations = np.array([line.split()[:3] for line in lines(example / "station.dat")])
    network = stations_table(
        {
            "station_id": texts([f"{each[:2]}.{each[2:]}..EHZ" for each in stations[:, 0]]),
            "latitude": stations[:, 1].astype(float), "longitude": stations[:, 2].astype(float),
            "elevation": np.full(len(stations), np.nan),
        },
        "example1",
    )  # fmt: skip
    how = Pairing(0, 120, 10, 10, 8, 1, 100)
    (written,) = write_hypodd(
        read_catalog(example / "El16.pha"), network, read_picks(example / "El16.pha"), tmp_path,
        settings=Settings(MODEL), pairing=how,
    )  # fmt: skip
    ours, theirs = (dict(_both_ways(path / "dt.ct")) for path in (written, example))
    assert len(ours) == len(theirs) == 101
    assert ours == theirs
    assert how.lines("station.dat", "El16.pha")[-1].split() == lines(example / "ph2dt.inp")[13].split()


def _both_ways(path: Path) -> Iterator[tuple[tuple[str, ...], list[tuple[object, ...]]]]:
    """Pairs in the order of their numbers, and what they share."""
    for (first, second), rows in _blocks(path, "#"):
        turned = int(first) > int(second)
        yield (
            tuple(sorted((first, second), key=int)),
            sorted(
                (name, phase, float(two if turned else one), float(one if turned else two))
                for name, one, two, _, phase in rows
            ),
        )


def test_a_relocation_read_and_written_again_is_byte_equal(data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "relocation/amatrice2016/hypoDD.reloc"
    relocation = read_hypodd(source)
    write_relocation(relocation, tmp_path / "again.reloc")
    assert (tmp_path / "again.reloc").read_bytes() == source.read_bytes()
    rows = [fortran(RELOC, line) for line in lines(source)]
    names = ["latitude", "longitude", "depth", "x", "y", "z", "error_x", "error_y", "error_z"]
    for column, name in enumerate(names, start=1):
        assert relocation[name].values.tolist() == [row[column] for row in rows]
    assert relocation.n_data.values.tolist() == [row[17:21] for row in rows]
    assert relocation.rms.sel(source=relocation.source == "catalog").values.ravel().tolist() == [r[22] for r in rows]
    assert np.isnan(relocation.rms.values[:, 0]).all()
    assert np.isnan(relocation.magnitude.values).all()


def test_first_locations_are_read_too(data_dir: Path) -> None:
    first = read_hypodd(data_dir / "relocation/example3/hypoDD.loc")
    assert first.sizes["event"] == 517
    assert (first.x[0].item(), first.error_z[0].item(), first.cluster[0].item()) == (-1597.9, 280.0, 0)
    assert int(first.n_data.sum()) == 0
