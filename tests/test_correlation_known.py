"""Correlations that are known are not computed again; what cannot be correlated is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from paired_study import N_STATIONS, Study, opened, simulated, values_of

import specufex_dask as sx
from specufex_dask import phase_windows
from specufex_dask.kernels import correlation as kernel

if TYPE_CHECKING:
    from pathlib import Path

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return opened(simulated(tmp_path_factory.mktemp("study")))


@pytest.fixture(scope="module")
def whole(study: Study) -> xr.Dataset:
    return study.correlate().compute()


def test_what_is_known_is_not_computed_again(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the archive gone: what is known needs no waveform, and one more pair needs those of its two events."""
    counted: list[int] = []
    cut = phase_windows._window_block

    def counting(samples: Array, *about: Any, **how: Any) -> Any:
        counted.append(len(samples))
        return cut(samples, *about, **how)

    made = simulated(tmp_path / "copy")
    moved = opened(made, records_per_task=N_STATIONS)
    store = tmp_path / "s.zarr"
    known = sx.save(moved.correlate(moved.pairs.isel(pair=slice(0, 300)), pairs_per_task=100), store)
    last = moved.pairs.isel(pair=[-1])
    needed = {last["event_id_1"].item(), last["event_id_2"].item()}
    for file in (tmp_path / "copy" / "waveforms").iterdir():
        if file.stem not in needed:
            file.unlink()
    again = moved.pairs.isel(pair=[*range(299, 49, -1), -1])
    monkeypatch.setattr(phase_windows, "_window_block", counting)
    found = sx.save(moved.correlate(again, known=known, pairs_per_task=64), store, overwrite=True).compute()
    assert counted == [N_STATIONS] * 2
    wanted = study.correlate(again).compute()
    assert values_of(found) == values_of(wanted)
    assert np.isfinite(found["correlation"].values).sum() > 500


def test_only_pairs_that_are_not_known_reach_the_kernel(
    study: Study, whole: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    compute = kernel.correlate

    def counting(windows: Array, inverse: Array, first: Array, second: Array) -> Any:
        counted.append(len(first))
        return compute(windows, inverse, first, second)

    monkeypatch.setattr(kernel, "correlate", counting)
    parts = [whole.isel(record=whole["station_id"].values == s) for s in np.unique(whole["station_id"].values)[:2]]
    found = study.correlate(known=[parts[0], parts[1].isel(record=slice(0, 200))], pairs_per_task=100)
    assert values_of(found.compute()) == values_of(whole)
    assert sum(counted) == whole.sizes["record"] - 435 - 200
    assert found.attrs["recipe_id"] == whole.attrs["recipe_id"]


def test_known_correlations_of_another_recipe_are_refused(study: Study, whole: xr.Dataset) -> None:
    with pytest.raises(ValueError, match=r"got known correlations of another recipe: max_lag is 0\.4 now and was 0\.5"):
        study.correlate(known=whole, max_lag=0.4)
    with pytest.raises(ValueError, match=r"waveforms is .* leave known= out"):
        study.correlate(known=whole, waveforms=opened(study.made, start=-4.0).waveforms)
    with pytest.raises(ValueError, match="expected 'correlations'"):
        study.correlate(known=study.waveforms)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase": "origin"}, r"got phase='origin', expected the name of a phase in the picks, such as 'P'"),
        ({"phase": "Pn"}, r"got anchor='Pn', expected one of"),
        ({"window": (1.0, 1.0)}, r"got window=\(1\.0, 1\.0\), expected \(start, end\) in s"),
        ({"max_lag": 0.001}, r"got max_lag=0\.001, expected a lag in s of one sample \(0\.01 s\) or more"),
        ({"band": (5, 60)}, r"got band=\(5, 60\), expected None, or two corners in Hz with 0 < low < high < 50"),
        ({"pairs_per_task": 0}, r"got pairs_per_task=0, expected 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(study: Study, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study.correlate(**changes)


@pytest.mark.parametrize(
    ("two", "message"),
    [
        (["nobody", "sim000002"], r"got pairs of 1 events that the waveforms do not hold, the first 'nobody'"),
        (["sim000000", "sim000002"], r"got the pair 'sim000000', 'sim000000' of an event with itself"),
        (["sim000001", "sim000000"], r"got the pair 'sim000001', 'sim000000' that comes more than once"),
    ],
)
def test_pairs_that_cannot_be_are_refused(study: Study, two: list[str], message: str) -> None:
    one = ["sim000000", "sim000001"]
    names = {f"event_id_{i + 1}": ("pair", np.array(ids, dtype=object)) for i, ids in enumerate((one, two))}
    with pytest.raises(ValueError, match=message):
        study.correlate(xr.Dataset(names))
