"""First arrivals in flat layers, traced exactly, and their derivatives with the place of the source."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, np.dtype[Any]]

_STEPS = 60
_CLOSE = 1e-13
_THINNEST_KM = 1e-9


@njit(cache=True, nogil=True)
def first_arrivals(distance: Array, depth: Array, receiver_depth: float, top: Array, velocity: Array) -> Array:
    """Travel time [s] and its slopes with distance and with the source's depth [s/km] of each ray (3, ray).

    The earliest of the direct ray and of the rays refracted at each interface below source and
    receiver (head waves), for sources at `depth` and `distance` (ray,) [km] from receivers at
    `receiver_depth` [km]. `top` (layer,) [km] is the depth of the top of each layer, ascending,
    and `velocity` (layer,) [km/s]; the first layer reaches up without end, the last one down.
    The first slope is the ray parameter p, the second ± sqrt(1/v² - p²) at the source.
    """
    result = np.empty((3, distance.size))
    thickness = np.empty(top.size)
    for ray in range(distance.size):
        _first(distance[ray], depth[ray], receiver_depth, top, velocity, thickness, result[:, ray])
    return result


@njit(cache=True, nogil=True)
def layer_of(depth: float, top: Array) -> int:
    """The layer in which `depth` [km] lies; the lower one at an interface."""
    layer = 0
    for i in range(1, top.size):
        if depth >= top[i]:
            layer = i
    return layer


@njit(cache=True, nogil=True)
def _first(
    distance: float, depth: float, receiver: float, top: Array, velocity: Array, thickness: Array, out: Array
) -> None:
    """Write time, ray parameter and vertical slowness of the first arrival into `out`."""
    upper, lower = min(depth, receiver), max(depth, receiver)
    _thicknesses(upper, lower, top, thickness)
    at_source = velocity[layer_of(depth, top)]
    time, parameter = _direct(distance, at_source, velocity, thickness)
    below = 1.0 if depth >= receiver else -1.0
    for m in range(layer_of(lower, top) + 1, top.size):
        _thicknesses(upper, top[m], top, thickness)  # the leg that both ends have, above the lower one once
        start = _head(distance, m, velocity, thickness, lower, top)
        if start < time:
            time, parameter, below = start, 1.0 / velocity[m], -1.0
    out[0], out[1] = time, parameter
    out[2] = below * math.sqrt(max(1.0 / at_source**2 - parameter**2, 0.0))


@njit(cache=True, nogil=True)
def _thicknesses(upper: float, lower: float, top: Array, thickness: Array) -> None:
    """What of each layer lies between two depths [km]."""
    for i in range(top.size):
        ceiling = upper if i == 0 else max(top[i], upper)
        floor = lower if i == top.size - 1 else min(top[i + 1], lower)
        thickness[i] = floor - ceiling if floor - ceiling > _THINNEST_KM else 0.0


@njit(cache=True, nogil=True)
def _direct(distance: float, at_source: float, velocity: Array, thickness: Array) -> tuple[float, float]:
    """Time and ray parameter of the direct ray."""
    fastest = 0.0
    for i in range(velocity.size):
        if thickness[i] > 0.0:
            fastest = max(fastest, velocity[i])
    if fastest == 0.0:  # source and receiver at one depth
        return distance / at_source, 1.0 / at_source
    tangent = _tangent(distance, fastest, velocity, thickness)
    parameter = tangent / math.sqrt(1.0 + tangent * tangent) / fastest
    time = parameter * distance
    for i in range(velocity.size):
        if thickness[i] == 0.0:
            continue
        ratio = velocity[i] / fastest
        cosine = math.sqrt((1.0 + (1.0 - ratio * ratio) * tangent * tangent) / (1.0 + tangent * tangent))
        time += thickness[i] * cosine / velocity[i]
    return time, parameter


@njit(cache=True, nogil=True)
def _tangent(distance: float, fastest: float, velocity: Array, thickness: Array) -> float:
    """Of the angle of the direct ray in the fastest layer that it crosses.

    Distance is a concave, rising function of it, so that Newton's method from the left of the root
    reaches it without a bracket.
    """
    reach = 0.0
    for i in range(velocity.size):
        reach += thickness[i] * velocity[i] / fastest
    tangent = distance / reach
    for _ in range(_STEPS):
        covered, slope = 0.0, 0.0
        for i in range(velocity.size):
            if thickness[i] == 0.0:
                continue
            ratio = velocity[i] / fastest
            root = math.sqrt(1.0 + (1.0 - ratio * ratio) * tangent * tangent)
            covered += thickness[i] * ratio * tangent / root
            slope += thickness[i] * ratio / root**3
        step = (distance - covered) / slope
        tangent += step
        if step <= _CLOSE * tangent:
            break
    return tangent


@njit(cache=True, nogil=True)
def _head(distance: float, m: int, velocity: Array, thickness: Array, lower: float, top: Array) -> float:
    """Time of the wave along the top of layer `m`; infinite where there is none at that distance."""
    parameter = 1.0 / velocity[m]
    time, critical = parameter * distance, 0.0
    for i in range(m):
        if thickness[i] == 0.0:
            continue
        vertical = velocity[m] ** 2 - velocity[i] ** 2
        if vertical <= 0.0:
            return math.inf
        ceiling = lower if i == 0 else max(lower, top[i])
        twice = thickness[i] + max(top[i + 1] - ceiling, 0.0)
        root = math.sqrt(vertical)
        time += twice * root / (velocity[i] * velocity[m])
        critical += twice * velocity[i] / root
    return time if distance >= critical else math.inf
