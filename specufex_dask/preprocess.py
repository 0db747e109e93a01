"""Prepare the samples of a record: demean, detrend, taper, response, band-pass, resample, in this order."""

from __future__ import annotations

from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = np.ndarray[Any, Any]
_PERIODS_OF_PADDING = 4.0
_RESAMPLING_REACH = 12
_MOST_CORNERS = 10
_UNFILTERED_PADDING_SECONDS = 40.0
_TAPERED_SHARE = 0.03
_OF_RESPONSE = ("response", "inventory", "pre_filt", "water_level")


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
    response : {"DISP", "VEL", "ACC"}, optional
        Divide by the instrument's response: displacement [m], velocity [m/s] or acceleration
        [m/s2] instead of counts, as ObsPy's ``Trace.remove_response`` with its mean and taper has
        it, bit for bit. Of several epochs the one at the start of the record counts; a record
        without one is ``no_response``.
    inventory : path, URL, pattern, list of these, or ObsPy Inventory, optional
        Where the responses are, such as StationXML; opened with the storage options of the archive.
        Needed with `response`, unless the stations are an ObsPy Inventory.
    pre_filt : (float, float, float, float), optional
        Corners of the band that is kept [Hz], with a cosine between the first and the last two.
    water_level : float, optional
        The response is not let fall more than this below its maximum [dB]; None: as it is.
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
    With a taper, a response, a filter or resampling, a record cut by a window is read with `padding_seconds`
    more at either end, as far as the file has them; the padding is tapered and filtered with the
    window and cut off at the end, so that neither the taper nor the start of the filter lies in
    the window. For a response these are four periods of the second corner of `pre_filt`, or 40 s
    without one, and 3 % of the window. A record that is a whole file has no padding.

    Examples
    --------
    >>> steps = Preprocess(demean=True, bandpass=(1.0, 20.0))
    >>> steps.padding_seconds
    4.0
    """

    demean: bool = False
    detrend: bool = False
    taper: float = 0.0
    response: Literal["DISP", "VEL", "ACC"] | None = None
    inventory: str | Any | None = None
    pre_filt: tuple[float, float, float, float] | None = None
    water_level: float | None = 60.0
    bandpass: tuple[float, float] | None = None
    corners: int = 4
    zero_phase: bool = True
    resample: bool = False

    @cached_property
    def padding_seconds(self) -> float:
        """What is read beyond either end of a window: the taper and four periods of the lower corners."""
        periods = _PERIODS_OF_PADDING / self.bandpass[0] if self.bandpass else 0.0
        if self.response:
            periods += _PERIODS_OF_PADDING / self.pre_filt[1] if self.pre_filt else _UNFILTERED_PADDING_SECONDS
        return self.taper + periods

    @property
    def parameters(self) -> dict[str, Any]:
        """What a recipe says of the steps; nothing of a response that stays in, nor of where its inventory was."""
        absent = ("inventory",) if self.response else _OF_RESPONSE
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in absent}

    @cached_property
    def does_nothing(self) -> bool:
        """Whether samples at the right rate come out as they are."""
        return not (self.demean or self.detrend or self.taper or self.response or self.bandpass)

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
        _check_response(self)
        return self

    def padding(self, sampling_rate: float, window_seconds: float) -> int:
        """What is read beyond either end of a window of `window_seconds` [samples]."""
        reach = _RESAMPLING_REACH if self.resample else 0
        # Taking out a response tapers 2.5 % of what it is given, at either end.
        seconds = self.padding_seconds + (_TAPERED_SHARE * window_seconds if self.response else 0.0)
        return int(np.ceil(seconds * sampling_rate)) + reach


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
    for name in ("pre_filt", "bandpass"):
        if values.get(name) is not None:
            values[name] = tuple(float(corner) for corner in values[name])
    return Preprocess(**values).check(sampling_rate)


def _check_band(bandpass: tuple[float, float], sampling_rate: float) -> None:
    low, high = bandpass if len(bandpass) == 2 else (0.0, 0.0)  # noqa: PLR2004 - two corners
    if not 0 < low < high < sampling_rate / 2:
        msg = (
            f"got bandpass={bandpass!r}, expected two frequencies with 0 < low < high < {sampling_rate / 2:g} Hz "
            f"(half of the sampling rate): correct it in preprocess."
        )
        raise ValueError(msg)


def _check_response(steps: Preprocess) -> None:
    if steps.response not in {None, "DISP", "VEL", "ACC"}:
        msg = f"got response={steps.response!r}, expected 'DISP', 'VEL' or 'ACC': correct it in preprocess."
        raise ValueError(msg)
    if steps.response is None and (steps.inventory is not None or steps.pre_filt is not None):
        msg = "got an inventory or pre_filt without response, expected it too: say response='VEL' in preprocess."
        raise ValueError(msg)
    corners = steps.pre_filt
    if corners is not None and not (len(corners) == 4 and 0 <= corners[0] < corners[1] < corners[2] < corners[3]):  # noqa: PLR2004
        msg = f"got pre_filt={corners!r}, expected four rising frequencies in Hz: correct it in preprocess."
        raise ValueError(msg)
    if steps.water_level is not None and not steps.water_level >= 0:
        msg = f"got water_level={steps.water_level!r}, expected a level in dB, 0 or more: correct it in preprocess."
        raise ValueError(msg)


def condition(
    samples: Array, steps: Preprocess, sampling_rate: float, without_response: Callable[[Array], Array] | None = None
) -> Array:
    """Return `samples` (sample,) after the steps up to the band-pass, in float64; the input is kept.

    `without_response` takes out the response of the channel, where the steps say so.
    """
    x = samples.astype(np.float64)
    if steps.demean:
        x -= x.mean()
    if steps.detrend:
        x = _detrended(x)
    if steps.taper:
        x *= _taper(x.size, min(round(steps.taper * sampling_rate), x.size // 2))
    if without_response:
        x = without_response(x)
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
