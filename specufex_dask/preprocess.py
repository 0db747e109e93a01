"""Prepare the samples of a record: demean, detrend, taper, band-pass, resample, in this order."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = np.ndarray[Any, Any]
_PERIODS_OF_PADDING = 4.0
_RESAMPLING_REACH = 12
_MOST_CORNERS = 10


@dataclass(frozen=True)
class Preprocess:
    """What happens to the samples of a record before they are used, in the order of the fields.

    Parameters
    ----------
    demean : bool
        Subtract the mean.
    detrend : bool
        Subtract the straight line of least squares.
    taper : float
        Length of a cosine taper at either end [s]; 0 for none.
    bandpass : (float, float), optional
        Corner frequencies of a Butterworth band-pass [Hz].
    corners : int
        Order of the filter; a zero-phase filter has twice the order.
    zero_phase : bool
        Filter forwards and backwards: no delay, and a little energy ahead of the onset.
        Off: forwards only, causal.
    resample : bool
        Bring a record of another sampling rate to the one asked for, by a polyphase filter
        that keeps out what would alias. Off: it is flagged ``wrong_sampling_rate``.

    Notes
    -----
    With a taper, a filter or resampling, a record cut by a window is read with `padding_seconds`
    more at either end, as far as the file has them; the padding is tapered and filtered with the
    window and cut off at the end, so that neither the taper nor the start of the filter lies in
    the window. A record that is a whole file has no padding.

    Examples
    --------
    >>> steps = Preprocess(demean=True, bandpass=(1.0, 20.0))
    >>> steps.padding_seconds
    4.0
    """

    demean: bool = False
    detrend: bool = False
    taper: float = 0.0
    bandpass: tuple[float, float] | None = None
    corners: int = 4
    zero_phase: bool = True
    resample: bool = False

    @property
    def padding_seconds(self) -> float:
        """What is read beyond either end of a window: the taper and four periods of the lower corner."""
        periods = _PERIODS_OF_PADDING / self.bandpass[0] if self.bandpass else 0.0
        return self.taper + periods

    @property
    def does_nothing(self) -> bool:
        """Whether samples at the right rate come out as they are."""
        return not (self.demean or self.detrend or self.taper or self.bandpass)

    def check(self, sampling_rate: float) -> Preprocess:
        """Return self, or raise ``ValueError`` for a value that cannot be used at `sampling_rate` [Hz]."""
        if not self.taper >= 0:
            msg = f"got taper={self.taper!r}, expected a length in seconds, 0 or more: correct it in preprocess."
            raise ValueError(msg)
        if not (isinstance(self.corners, int) and 1 <= self.corners <= _MOST_CORNERS):
            msg = f"got corners={self.corners!r}, expected a filter order of 1 to 10: correct it in preprocess."
            raise ValueError(msg)
        if self.bandpass is not None:
            _check_band(self.bandpass, sampling_rate)
        return self

    def padding(self, sampling_rate: float) -> int:
        """What is read beyond either end of a window [samples]."""
        reach = _RESAMPLING_REACH if self.resample else 0
        return int(np.ceil(self.padding_seconds * sampling_rate)) + reach


def make_preprocess(given: Preprocess | Mapping[str, Any] | None, sampling_rate: float) -> Preprocess:
    """The steps that the user asked for, by name or as a `Preprocess`, checked."""
    if given is None:
        return Preprocess()
    if isinstance(given, Preprocess):
        return given.check(sampling_rate)
    allowed = [each.name for each in fields(Preprocess)]
    if unknown := sorted(set(given) - set(allowed)):
        msg = f"got preprocess with {unknown}, expected some of {allowed}: correct the names."
        raise ValueError(msg)
    values = dict(given)
    if values.get("bandpass") is not None:
        values["bandpass"] = tuple(float(corner) for corner in values["bandpass"])
    return Preprocess(**values).check(sampling_rate)


def _check_band(bandpass: tuple[float, float], sampling_rate: float) -> None:
    low, high = bandpass if len(bandpass) == 2 else (0.0, 0.0)  # noqa: PLR2004 - two corners
    if not 0 < low < high < sampling_rate / 2:
        msg = (
            f"got bandpass={bandpass!r}, expected two frequencies with 0 < low < high < {sampling_rate / 2:g} Hz "
            f"(half of the sampling rate): correct it in preprocess."
        )
        raise ValueError(msg)


def condition(samples: Array, steps: Preprocess, sampling_rate: float) -> Array:
    """Return `samples` (sample,) after the steps up to the band-pass, in float64; the input is kept."""
    x = samples.astype(np.float64)
    if steps.demean:
        x -= x.mean()
    if steps.detrend:
        x = _detrended(x)
    if steps.taper:
        x *= _taper(x.size, min(round(steps.taper * sampling_rate), x.size // 2))
    if steps.bandpass:
        x = _filtered(x, steps, sampling_rate)
    return x


def resampled(samples: Array, from_rate: float, to_rate: float) -> Array:
    """Return `samples` (sample,) at `to_rate` [Hz]; the first sample stays the first.

    The ratio is the fraction nearest to ``to_rate / from_rate`` with a denominator of at most
    10,000. The line from the first to the last sample is taken off and put back, so that the
    ends do not ring.
    """
    from scipy.signal import resample_poly

    ratio = Fraction(to_rate / from_rate).limit_denominator(10_000)
    return np.asarray(resample_poly(samples, ratio.numerator, ratio.denominator, padtype="line"))


def _detrended(x: Array) -> Array:
    t = np.arange(x.size) - (x.size - 1) / 2
    slope = float(t @ x) / max(float(t @ t), 1.0)
    return np.asarray(x - x.mean() - slope * t)


@lru_cache(maxsize=32)
def _taper(n_samples: int, n_taper: int) -> Array:
    window = np.ones(n_samples)
    rise = 0.5 * (1 - np.cos(np.pi * np.arange(n_taper) / max(n_taper, 1)))
    window[:n_taper] = rise
    window[n_samples - n_taper :] = rise[::-1]
    window.flags.writeable = False
    return window


@lru_cache(maxsize=32)
def _sections(low: float, high: float, corners: int, sampling_rate: float) -> Array:
    from scipy.signal import butter

    return np.asarray(butter(corners, (low, high), btype="bandpass", fs=sampling_rate, output="sos"))


def _filtered(x: Array, steps: Preprocess, sampling_rate: float) -> Array:
    from scipy.signal import sosfilt, sosfiltfilt

    assert steps.bandpass is not None  # noqa: S101 - for the type checker
    sections = _sections(*steps.bandpass, steps.corners, sampling_rate)
    if not steps.zero_phase:
        return np.asarray(sosfilt(sections, x))
    # SciPy's own padding by odd reflection, as far as a very short record allows it.
    return np.asarray(sosfiltfilt(sections, x, padlen=min(3 * (2 * len(sections) + 1), x.size - 1)))
