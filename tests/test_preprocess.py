from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import signal

from specufex_dask.preprocess import Preprocess, condition, make_preprocess, resampled
from specufex_dask.reading import load_obspy

X = np.random.default_rng(0).normal(5.0, 2.0, 2000) + 0.01 * np.arange(2000)


def test_nothing_asked_is_nothing_done() -> None:
    assert make_preprocess(None, 100.0).does_nothing
    np.testing.assert_array_equal(condition(X, Preprocess(), 100.0), X)


def test_mean_and_line_are_taken_off_as_scipy_does() -> None:
    np.testing.assert_allclose(condition(X, Preprocess(demean=True), 100.0), signal.detrend(X, type="constant"))
    np.testing.assert_allclose(
        condition(X, Preprocess(detrend=True), 100.0), signal.detrend(X, type="linear"), atol=1e-12
    )


@pytest.mark.parametrize("zero_phase", [True, False])
def test_the_filter_is_that_of_obspy_inside(zero_phase: bool) -> None:  # noqa: FBT001 - parametrised
    """ObsPy filters forwards and backwards without SciPy's padding, so the ends differ, the middle does not."""
    trace = load_obspy().Trace(X - X.mean(), {"sampling_rate": 100.0})
    trace.filter("bandpass", freqmin=2.0, freqmax=20.0, corners=4, zerophase=zero_phase)
    ours = condition(X - X.mean(), Preprocess(bandpass=(2.0, 20.0), zero_phase=zero_phase), 100.0)
    np.testing.assert_allclose(ours[500:1500], trace.data[500:1500], atol=1e-6)


def test_the_taper_reaches_as_far_as_it_says() -> None:
    ones = condition(np.ones(1000), Preprocess(taper=2.0), 100.0)
    assert ones[0] == ones[-1] == 0
    assert (ones[200:800] == 1).all()
    assert ones[100] == pytest.approx(0.5)
    assert (ones[1:200] < 1).all()
    np.testing.assert_array_equal(ones, ones[::-1])


def test_the_order_is_that_of_the_fields() -> None:
    steps = Preprocess(demean=True, detrend=True, taper=1.0, bandpass=(1.0, 10.0))
    x = signal.detrend(X)
    x = condition(x, Preprocess(taper=1.0), 100.0)
    np.testing.assert_allclose(condition(X, steps, 100.0), condition(x, Preprocess(bandpass=(1.0, 10.0)), 100.0))


def test_what_would_alias_is_kept_out() -> None:
    high = np.sin(2 * np.pi * 80 * np.arange(4000) / 200)
    assert np.abs(resampled(high, 200.0, 100.0)[200:-200]).max() < 2e-3
    ramp = np.arange(1000.0)
    np.testing.assert_allclose(resampled(ramp, 100.0, 50.0), ramp[::2], atol=1e-9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low_pass": 3}, r"got preprocess with \['low_pass'\], expected some of \['demean', .*: correct the names"),
        ({"bandpass": (1, 50)}, r"got bandpass=\(1.0, 50.0\), expected two frequencies with 0 < low < high < 50 Hz"),
        ({"bandpass": (5, 1)}, "expected two frequencies with 0 < low < high"),
        ({"bandpass": (5,)}, "expected two frequencies with 0 < low < high"),
        ({"taper": -1.0}, "got taper=-1.0, expected a length in seconds, 0 or more"),
        ({"corners": 0}, "got corners=0, expected a filter order of 1 to 10"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_preprocess(given, 100.0)


def test_names_and_the_dataclass_mean_the_same() -> None:
    assert make_preprocess({"bandpass": [1, 20]}, 100.0) == make_preprocess(Preprocess(bandpass=(1.0, 20.0)), 100.0)
