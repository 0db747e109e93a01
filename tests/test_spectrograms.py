"""Spectrograms: what is kept of a record, where, and why a record is not usable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import draws
import naive
import numpy as np
import pytest

import specufex_dask as sx
from specufex_dask.schema import QUALITY

if TYPE_CHECKING:
    import xarray as xr

Array = np.ndarray[Any, np.dtype[Any]]

RATE = 100.0
SETTINGS: dict[str, Any] = {"band": (2.0, 30.0), "window_length": 0.5, "overlap": 0.25, "nfft": 256}


def _samples(n_records: int = 6, n_samples: int = 1000, seed: int = 0) -> Array:
    """Noise that swells in the middle, on a large offset."""
    rng = np.random.default_rng(seed)
    swell = 1 + 5 * np.exp(-(((np.arange(n_samples) - n_samples / 2) / 100) ** 2))
    samples: Array = rng.normal(size=(n_records, n_samples)) * swell + 10_000.0
    return samples


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"time_range": (2.0, 8.0)},
        {"time_pool": 4},
        {"time_range": (1.9, 7.7), "time_pool": 3},
        {"overlap": 0.0, "nfft": None},
        {"overlap": 0.98, "time_range": (4, 6), "time_pool": 5},
        {"band": (0.0, 50.0)},
    ],
    ids=str,
)
def test_values_and_axes_are_the_literal_ones(case: dict[str, Any]) -> None:
    given = SETTINGS | case
    samples = _samples()
    found = sx.compute_spectrograms(draws.waveforms(samples), **given, dtype="float64").compute()
    length, nfft = 50, given["nfft"] or 50
    overlap = round(given["overlap"] * length)
    ranges = given.get("time_range"), given.get("time_pool", 1)
    literal = [naive.decibels(record, RATE, length, overlap, nfft, given["band"], *ranges) for record in samples]
    np.testing.assert_allclose(found["frequency"], literal[0][0], rtol=1e-14)
    np.testing.assert_allclose(found["time"], literal[0][1], rtol=1e-14)
    np.testing.assert_allclose(found["spectrogram"], np.stack([values for _, _, values in literal]), atol=1e-8)
    assert found["spectrogram"].dims == ("record", "frequency", "time")
    assert found["spectrogram"].attrs["units"] == "dB"
    assert (found["quality"] == 0).all()


def test_single_precision_is_the_default_and_close() -> None:
    waveforms = draws.waveforms(_samples())
    single = sx.compute_spectrograms(waveforms, **SETTINGS).compute()
    double = sx.compute_spectrograms(waveforms, **SETTINGS, dtype="float64").compute()
    assert single["spectrogram"].dtype == np.float32
    assert double["spectrogram"].dtype == np.float64
    # near the clip a weak bin carries the rounding of the loudest
    assert float(abs(single["spectrogram"] - double["spectrogram"]).max()) < 0.01


def test_integer_counts_are_taken() -> None:
    counts = (_samples() * 10).astype("int32")
    found = sx.compute_spectrograms(draws.waveforms(counts.astype("float32")), **SETTINGS).compute()
    exact = sx.compute_spectrograms(draws.waveforms(counts.astype("float64")), **SETTINGS).compute()
    np.testing.assert_allclose(found["spectrogram"], exact["spectrogram"], atol=0.01)


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    def fail(_: Array) -> Array:
        msg = "computed"
        raise AssertionError(msg)

    waveforms = draws.waveforms(_samples())
    trap = waveforms["waveform"].data.map_blocks(fail, dtype=float, meta=np.empty((0, 0)))
    lazy = sx.compute_spectrograms(waveforms.assign(waveform=(("record", "sample"), trap)), **SETTINGS)
    assert lazy["spectrogram"].chunks
    assert lazy["event_id"].values[0] == "event00000"
    with pytest.raises(AssertionError, match="computed"):
        lazy.compute()


def _flagged(samples: Array, quality: Array | None = None, **more: Any) -> xr.Dataset:
    return sx.compute_spectrograms(draws.waveforms(samples, quality=quality), **(SETTINGS | more)).compute()


def test_each_reason_keeps_its_place() -> None:
    samples = _samples(8)
    samples[1, 400] = np.nan
    samples[2, 10] = np.inf
    samples[3] = 7.5
    samples[4] = 0.0
    samples[5] = 0.0
    samples[5, 500:502] = 1.0, -1.0  # all but a frame or two are silent
    quality = np.zeros(8, "int8")
    quality[6] = QUALITY.index("gappy")
    found = _flagged(samples, quality)
    reasons = [QUALITY[flag] for flag in found["quality"].values]
    assert reasons == [
        "usable", "not_finite", "not_finite", "constant", "constant", "zero_median", "gappy", "usable",
    ]  # fmt: skip
    usable = found["quality"].values == 0
    np.testing.assert_array_equal(np.isnan(found["spectrogram"].values).all(axis=(1, 2)), ~usable)
    np.testing.assert_array_equal(np.isnan(found["spectrogram"].values).any(axis=(1, 2)), ~usable)
    clean = _flagged(_samples(8))
    np.testing.assert_array_equal(found["spectrogram"].values[usable], clean["spectrogram"].values[usable])
    assert found["quality"].attrs["flag_meanings"].split() == list(QUALITY)
    np.testing.assert_array_equal(found["quality"].attrs["flag_values"], np.arange(len(QUALITY)))


def test_a_constant_record_of_any_size_is_never_usable() -> None:
    """Rounding of the mean must not turn a constant record into a spectrogram of noise."""
    constants = np.repeat(np.array([0.0, 1.0, -3.3, 1e-3, 12345.678, 1e6, 3e8])[:, None], 1000, axis=1)
    for dtype in ("float32", "float64"):
        found = _flagged(constants.astype(dtype))
        assert {QUALITY[flag] for flag in found["quality"].values} == {"constant"}


def test_a_quiet_record_is_flagged_by_its_peak() -> None:
    steady, swelling = np.random.default_rng(1).normal(size=1000), _samples(1)[0]
    samples = np.stack([steady, swelling])
    peaks = _flagged(samples)["spectrogram"].max(("frequency", "time")).values
    assert peaks[0] + 3 < peaks[1]
    found = _flagged(samples, min_peak=float(peaks.mean()))
    assert [QUALITY[flag] for flag in found["quality"].values] == ["too_quiet", "usable"]
    assert np.isnan(found["spectrogram"].values[0]).all()
    exact = _flagged(samples, min_peak=float(peaks[0]))
    assert (exact["quality"] == 0).all(), "a peak of just min_peak is loud enough"


def test_the_first_reason_stands() -> None:
    samples = np.full((1, 1000), np.nan)
    found = _flagged(samples, np.array([QUALITY.index("missing")], "int8"), min_peak=10.0)
    assert QUALITY[int(found["quality"][0])] == "missing"
    assert QUALITY[int(_flagged(samples, min_peak=10.0)["quality"][0])] == "not_finite"


def test_frames_of_a_time_range_are_half_open() -> None:
    waveforms = draws.waveforms(_samples())
    whole = sx.compute_spectrograms(waveforms, **SETTINGS)
    centres = whole["time"].values
    part = sx.compute_spectrograms(waveforms, **SETTINGS, time_range=(centres[3], centres[7]))
    np.testing.assert_array_equal(part["time"], centres[3:7])


def test_a_rest_of_the_pool_is_dropped() -> None:
    waveforms = draws.waveforms(_samples())
    n_frames = sx.compute_spectrograms(waveforms, **SETTINGS).sizes["time"]
    assert n_frames % 4 != 0
    assert sx.compute_spectrograms(waveforms, **SETTINGS, time_pool=4).sizes["time"] == n_frames // 4


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"band": (30.0, 2.0)},
            r"got band=\(30.0, 2.0\) Hz, expected 0 <= low < high <= 50 Hz, half the sampling rate",
        ),
        ({"band": (-1.0, 2.0)}, r"got band=\(-1.0, 2.0\) Hz, expected 0 <= low"),
        ({"band": (1.0, 51.0)}, r"got band=\(1.0, 51.0\) Hz, expected 0 <= low < high <= 50 Hz"),
        (
            {"band": (2.01, 2.02)},
            r"got band=\(2.01, 2.02\) Hz, which holds no bin of nfft=256 at 100 Hz: widen it",
        ),
        (
            {"window_length": 0.01},
            r"got window_length of 1 samples, expected 2 to 1000 samples, the length of a record",
        ),
        ({"window_length": 11.0}, r"got window_length of 1100 samples, expected 2 to 1000"),
        (
            {"overlap": 1.0},
            r"got an overlap that moves frames by 0 samples, expected 1 to 50 samples: overlap",
        ),
        ({"overlap": -0.1}, r"got an overlap that moves frames by 55 samples, expected 1 to 50"),
        ({"nfft": 32}, r"got nfft=32, expected at least the 50 samples of a frame: correct it"),
        ({"time_pool": 0}, r"got time_pool=0, expected a whole number from 1: correct it"),
        (
            {"time_range": (20.0, 30.0)},
            r"got records of 10 s, frames of 0.5 s, time_range=\(20.0, 30.0\) and",
        ),
        ({"time_pool": 500}, r"time_pool=500, which leave no frame: shorten the frames or widen time_range"),
    ],
)
def test_a_wrong_parameter_is_named(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sx.compute_spectrograms(draws.waveforms(_samples()), **(SETTINGS | wrong))


def test_another_stage_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got a Dataset of stage 'spectrograms', expected 'waveforms': pass what "):
        sx.compute_spectrograms(draws.spectrograms(), **SETTINGS)


def test_each_parameter_enters_the_recipe() -> None:
    waveforms = draws.waveforms(_samples())
    changes: list[dict[str, Any]] = [
        {}, {"band": (2.0, 31.0)}, {"window_length": 0.4}, {"overlap": 0.5}, {"nfft": 512}, {"time_range": (0, 9)},
        {"time_pool": 2}, {"min_peak": 5.0}, {"dtype": "float64"},
    ]  # fmt: skip
    recipes = {sx.compute_spectrograms(waveforms, **(SETTINGS | change)).attrs["recipe_id"] for change in changes}
    assert len(recipes) == len(changes)
    again = sx.compute_spectrograms(draws.waveforms(_samples()), **SETTINGS)
    assert again.attrs["recipe_id"] in recipes
    other = sx.compute_spectrograms(draws.waveforms(_samples(seed=1)), **SETTINGS)
    assert other.attrs["recipe_id"] not in recipes


def test_spectrograms_made_elsewhere() -> None:
    values = draws.levels(5)
    values[2, 3, 4] = np.nan
    axes: dict[str, Any] = {"frequency": np.arange(12.0), "time": np.arange(20.0)}
    made = sx.spectrogram_dataset(values, **axes, event_id=list("abcde"), station_id="X.Y..Z")
    assert made["quality"].values.tolist() == [0, 0, QUALITY.index("not_finite"), 0, 0]
    assert made["event_id"].values.tolist() == list("abcde")
    assert set(made["station_id"].values) == {"X.Y..Z"}
    same = sx.spectrogram_dataset(values.copy(), **axes, event_id=list("abcde"), station_id="X.Y..Z")
    assert same.attrs["recipe_id"] == made.attrs["recipe_id"]
    assert sx.spectrogram_dataset(values + 1, **axes).attrs["recipe_id"] != made.attrs["recipe_id"]
    with pytest.raises(ValueError, match=r"got spectrograms with 1 values below 0, expected dB clipped at 0: clip"):
        sx.spectrogram_dataset(
            np.where(np.arange(20) == 3, -1.0, 0.0)[None, None, :], frequency=[1.0], time=axes["time"]
        )
