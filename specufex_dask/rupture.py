"""Size, slip and repeat time of small ruptures from their magnitudes, by published formulas."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

DAYS_A_YEAR = 365.25
_SECONDS_A_DAY = 86_400.0
_DYN_CM2_A_BAR = 1e6
_CM_A_M = 100.0


def source_radius(magnitude: Array, *, stress_drop: float = 30.0) -> Array:
    """Radius [m] of a circular rupture of constant `stress_drop` [bar] (Eshelby 1957).

    The moment is 10^(1.5 M + 16) dyn·cm, and the radius is (7 M0 / (16 Δσ))^(1/3).

    Examples
    --------
    >>> source_radius(np.array([1.0, 1.4, 3.0])).round(1)
    array([ 16.6,  26.4, 166.5])
    """
    moment = 10 ** (1.5 * magnitude + 16)
    radius: Array = np.cbrt(7 * moment / (16 * stress_drop * _DYN_CM2_A_BAR)) / _CM_A_M
    return radius


def seismic_moment(magnitude: Array) -> Array:
    """Moment [dyn·cm] of a local magnitude, 10^(1.2 M + 17) for 1.5 < M < 3.5 (Bakun 1984).

    Examples
    --------
    >>> np.log10(seismic_moment(np.array([2.0]))).round(3)
    array([19.4])
    """
    return np.asarray(10 ** (1.2 * magnitude + 17))


def slip(moment: Array) -> Array:
    """Slip [cm] of a repeating earthquake of a moment [dyn·cm], 10^-2.36 M0^0.17 (Nadeau & Johnson 1998).

    Examples
    --------
    >>> slip(np.array([10**19.4])).round(2)
    array([8.67])
    """
    return np.asarray(10**-2.36 * moment**0.17)


def recurrence_line(moment: Array, *, loading_rate: float | None = None) -> Array:
    """Repeat time [days] of sequences of a moment [dyn·cm]: the line of Parkfield, with which faults are compared.

    There log10 of the time [s] is 4.85 + 0.17 log10 M0 (Nadeau & Johnson 1998, eq. 16), which is the
    `slip` of an event at 1.95 cm a year. Chen, Nadeau & Rau (2007, Geophys. Res. Lett. 34, L16308)
    find sequences repeat twice as often in Taiwan and four times in Japan, and on this line once
    times are scaled by the rates at which the faults are loaded; with a `loading_rate` [cm/year]
    the time is therefore the `slip` over the rate.

    Examples
    --------
    >>> recurrence_line(np.array([10**19.4])).round()
    array([1627.])
    >>> recurrence_line(np.array([10**19.4]), loading_rate=4.0).round()
    array([792.])
    """
    if loading_rate is None:
        return np.asarray(10**4.85 * moment**0.17 / _SECONDS_A_DAY)
    return slip(moment) / loading_rate * DAYS_A_YEAR
