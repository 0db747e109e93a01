"""First arrivals in flat layers by brute force: the literal form of Fermat's principle over ray parameters."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

N_PARAMETERS = 2_001


def first_arrival(distance: float, depth: float, receiver: float, top: Array, velocity: Array) -> float:
    """Travel time [s] of the earliest ray.

    For a ray that turns in layer m, or runs straight from source to receiver, the time is the
    largest p distance + sum thickness sqrt(1/v² - p²) over ray parameters p up to 1/v of the
    fastest layer it sees, as the derivative of that with p is zero where the ray arrives. A head
    wave is the largest p of all. Each is sought on a grid of angles.
    """
    upper, lower = min(depth, receiver), max(depth, receiver)
    source_layer = max(i for i in range(len(top)) if top[i] <= lower or i == 0)
    level = lower - upper < 1e-9
    legs = _legs(upper, lower, top)
    times = [distance / velocity[source_layer] if level else _latest(distance, legs, velocity, 0.0)]
    for m in range(source_layer + 1, len(top)):
        legs = _legs(upper, top[m], top) + _legs(lower, top[m], top)
        times.append(_latest(distance, legs, velocity, velocity[m]))
    return min(times)


def _legs(upper: float, lower: float, top: Array) -> Array:
    """Thickness of each layer between two depths."""
    edges = np.concatenate([[-np.inf], top[1:], [np.inf]])
    return np.array([max(min(b, lower) - max(a, upper), 0.0) for a, b in pairwise(edges.tolist())])


def _latest(distance: float, legs: Array, velocity: Array, below: float) -> float:
    """The largest time over ray parameters up to 1/v of the fastest layer, `below` among them."""
    crossed = velocity[legs > 0]
    fastest = max([*crossed.tolist(), below])
    angle = np.linspace(0, np.pi / 2, N_PARAMETERS)
    for _ in range(3):  # each grid finer than the last, around its largest
        time = _times(np.sin(angle) / fastest, distance, legs, velocity)
        best, step = angle[time.argmax()], angle[1] - angle[0]
        angle = np.linspace(max(best - step, 0), min(best + step, np.pi / 2), N_PARAMETERS)
    return float(time.max())


def _times(p: Array, distance: float, legs: Array, velocity: Array) -> Array:
    """p distance + the vertical part, for each ray parameter."""
    time = p * distance
    for thickness, speed in zip(legs, velocity, strict=True):
        if thickness > 0:
            time = time + thickness * np.sqrt(np.maximum(1 / speed**2 - p**2, 0))
    return time
