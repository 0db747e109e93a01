"""Kilodegrees east and north of a place, on the ellipsoid of WGS84, and degrees again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_SEMI_MAJOR_KM = 6378.137
_ECCENTRICITY_SQUARED = 0.00669437999014


@dataclass(frozen=True)
class LocalFrame:
    """A flat frame around a place, or around one for each point, true to 1e-4 at 150 km from it.

    Distances are along the ellipsoid at the latitude halfway between the place and the point.

    Examples
    --------
    >>> frame = LocalFrame(36.0, 179.99)
    >>> east, north = frame.km(np.array([36.01]), np.array([-179.99]))
    >>> east.round(3), north.round(3), *frame.degrees(east, north)
    (array([1.803]), array([1.11]), array([36.01]), array([-179.99]))
    """

    latitude: float | Array
    longitude: float | Array

    def km(self, latitude: Array, longitude: Array) -> tuple[Array, Array]:
        """East and north [km] of points [degrees]."""
        east = (longitude - self.longitude + 180.0) % 360.0 - 180.0
        along, across = self._km_per_degree(latitude)
        return east * across, (latitude - self.latitude) * along

    def degrees(self, east: Array, north: Array) -> tuple[Array, Array]:
        """Latitude and longitude of points [km]."""
        latitude = self.latitude + north / self._km_per_degree(np.full_like(north, self.latitude))[0]
        for _ in range(3):
            latitude = self.latitude + north / self._km_per_degree(latitude)[0]
        longitude = self.longitude + east / self._km_per_degree(latitude)[1]
        return latitude, (longitude + 180.0) % 360.0 - 180.0

    def _km_per_degree(self, latitude: Array) -> tuple[Array, Array]:
        middle = np.deg2rad((latitude + self.latitude) / 2)
        root = np.sqrt(1 - _ECCENTRICITY_SQUARED * np.sin(middle) ** 2)
        degree = np.deg2rad(_SEMI_MAJOR_KM)
        return degree * (1 - _ECCENTRICITY_SQUARED) / root**3, degree * np.cos(middle) / root
