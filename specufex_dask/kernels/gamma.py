"""Compiled digamma, and exp(digamma) without a logarithm.

With y = x + 8, digamma(x) = ln y + tail(x), where the tail gathers the recurrence
digamma(x) = digamma(x + 1) - 1/x and the asymptotic series in 1/y (Abramowitz & Stegun 6.3.5,
6.3.18). So exp(digamma(x)) = y exp(tail(x)): one exponential for what the updates need.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

FASTMATH = {"contract", "arcp", "nsz"}
"""Liberties that vectorise the loops and keep NaN and infinity as they are."""


@numba.njit(inline="always")
def constants(like: Array) -> Any:  # noqa: ANN401 - float32 or float64, as the caller
    """The numbers of `tail` in the precision of `like`: a Python number would make every operation float64."""
    kind = like.dtype.type
    return (
        (kind(1), kind(2), kind(3), kind(4), kind(5), kind(6), kind(8)),
        (kind(1 / 2), kind(1 / 12), kind(1 / 120), kind(1 / 252), kind(1 / 240), kind(1 / 132), kind(691 / 32760)),
    )


@numba.njit(inline="always")
def tail(x: Any, numbers: Any) -> Any:  # noqa: ANN401 - float32 or float64, as the caller
    """digamma(x) - ln(x + 8), for x > 0, to the last bits of the type of x."""
    (one, two, three, four, five, six, eight), (half, c2, c4, c6, c8, c10, c12) = numbers
    # Two quotients of three neighbours and one of two: three divisions instead of eight.
    a, b, c, d, e, f, g = x + one, x + two, x + three, x + four, x + five, x + six, x + six + one
    first = (a * b + x * b + x * a) / (x * a * b)
    second = (d * e + c * e + c * d) / (c * d * e)
    third = (f + g) / (f * g)
    y = one / (x + eight)
    z = y * y
    series = z * (c2 - z * (c4 - z * (c6 - z * (c8 - z * (c10 - z * (c12 - z * c2))))))
    return -(first + second + third) - half * y - series


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=FASTMATH)
def digamma(x: Array) -> Array:
    """digamma of each entry of `x` (any shape, > 0), in its precision."""
    numbers = constants(x)
    entries = np.ascontiguousarray(x).ravel()
    result = np.empty_like(entries)
    for i in range(entries.size):
        result[i] = tail(entries[i], numbers)
    result += np.log(entries + numbers[0][6])
    return result.reshape(x.shape)
