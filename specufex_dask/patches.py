"""Sources of events as places and sizes, and the patch of the fault that the events of a sequence share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.kernels.groups import firsts, means, medians
from specufex_dask.local_frame import LocalFrame
from specufex_dask.pairs import places
from specufex_dask.rupture import source_radius

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

Array = np.ndarray[Any, np.dtype[Any]]

_ROUNDING = 1e-6
_M_A_KM = 1000.0


@dataclass(frozen=True)
class Criteria:
    """What the events of a sequence have in common.

    Magnitudes lie within `magnitude_window` of their median, either way, and places within
    `n_radii` source radii of their centroid, for a `stress_drop` [bar]; `min_events` do so at least.
    """

    magnitude_window: float = 0.3
    stress_drop: float = 30.0
    n_radii: float = 2.0
    min_events: int = 2
    use_depth: bool = True


@dataclass(frozen=True)
class Sources:
    """Where and how large the events are: degrees, depth [m], magnitude, and an error [m] of the place (event,)."""

    latitude: Array
    longitude: Array
    depth: Array
    magnitude: Array
    error: Array

    @classmethod
    def of_catalog(cls, catalog: xr.Dataset, *, use_depth: bool) -> Sources:
        """The places of the catalogue, taken as they are."""
        depth = catalog["depth"].values * _M_A_KM if use_depth else np.zeros(catalog.sizes["event"])
        latitude, longitude, magnitude = (catalog[n].values for n in ("latitude", "longitude", "magnitude"))
        return cls(latitude, longitude, depth, magnitude, np.zeros(len(depth)))

    @classmethod
    def of_relocation(
        cls, relocation: xr.Dataset, catalog: xr.Dataset, *, use_depth: bool, min_error: float
    ) -> Sources:
        """Relocated places of the events of the catalogue, with the largest of their errors, `min_error` [m] at least.

        An error that is not known counts as `min_error`; events that were not relocated have no place.
        """
        row = places(catalog["event_id"].values, relocation["event_id"].values)

        def of(values: Array) -> Array:
            return np.where(row >= 0, np.append(values, np.nan)[row], np.nan)

        depth = of(relocation["depth"].values) * _M_A_KM if use_depth else np.zeros(len(row))
        axes = "xyz" if use_depth else "xy"
        errors = np.nan_to_num([of(relocation[f"error_{axis}"].values) for axis in axes])
        error = np.maximum(errors.max(axis=0), min_error)
        latitude, longitude = (of(relocation[name].values) for name in ("latitude", "longitude"))
        return cls(latitude, longitude, depth, catalog["magnitude"].values, error)

    @property
    def known(self) -> Array:
        """Whether place and magnitude are known (event,)."""
        return np.asarray(np.isfinite(self.latitude + self.longitude + self.depth + self.magnitude))

    def offsets(self, event: Array, origin: Array) -> Array:
        """East, north and down [m] (pair, 3) of each `event` (pair,) from the event `origin` (pair,)."""
        frame = LocalFrame(self.latitude[origin], self.longitude[origin])
        east, north = frame.km(self.latitude[event], self.longitude[event])
        return np.stack([east * _M_A_KM, north * _M_A_KM, self.depth[event] - self.depth[origin]], axis=1)


@dataclass(frozen=True)
class Patches:
    """The patch of each cluster: median magnitude, source radius [m], and centroid (cluster, 3) [m].

    The centroid is told from the place of the event `origin` (cluster,). A cluster without events
    has NaN for all of them, and nothing fits it.
    """

    origin: Array
    centre: Array
    magnitude: Array
    radius: Array

    @classmethod
    def of(
        cls,
        members: tuple[Array, Array],
        n_clusters: int,
        sources: Sources,
        criteria: Criteria,
        *,
        middle: Callable[[Array, Array, int], Array] = means,
    ) -> Patches:
        """The patches of `members`: events whose place is known (member,), and the cluster of each (member,)."""
        event, cluster = members
        origin = np.append(event, 0)[firsts(cluster, n_clusters)]
        offset = sources.offsets(event, origin[cluster])
        centre = np.stack([middle(axis, cluster, n_clusters) for axis in offset.T], axis=1)
        magnitude = medians(sources.magnitude[event], cluster, n_clusters)
        return cls(origin, centre, magnitude, source_radius(magnitude, stress_drop=criteria.stress_drop))

    def away(self, event: Array, cluster: Array, sources: Sources) -> Array:
        """Distance [m] of each `event` (pair,) from the centroid of its `cluster` (pair,)."""
        return np.asarray(np.linalg.norm(sources.offsets(event, self.origin[cluster]) - self.centre[cluster], axis=1))

    def at_an_event(self, event: Array, cluster: Array, sources: Sources) -> Patches:
        """The same at the place of that `event` (member,) of each `cluster` (member,) that lies nearest, to 1 mm."""
        nearest = np.lexsort((self.away(event, cluster, sources).round(3), cluster))
        chosen = np.append(event, 0)[np.append(nearest, -1)[firsts(cluster[nearest], len(self.origin))]]
        return replace(self, origin=chosen, centre=np.where(np.isnan(self.centre), np.nan, 0.0))

    def fit(self, event: Array, cluster: Array, sources: Sources, criteria: Criteria) -> Array:
        """Whether each `event` (pair,) fits its `cluster` (pair,) in place and in magnitude (2, pair)."""
        near = self.away(event, cluster, sources) <= criteria.n_radii * self.radius[cluster] + sources.error[event]
        other = np.abs(sources.magnitude[event] - self.magnitude[cluster])
        return np.stack([near, other <= criteria.magnitude_window + _ROUNDING])

    def coincide(self, one: Array, other: Array, sources: Sources, criteria: Criteria) -> Array:
        """Whether the clusters `one` and `other` (pair,) are of one size, and their centroids less than a radius apart.

        The radius is that of the mean of their two magnitudes.
        """
        away = sources.offsets(self.origin[other], self.origin[one]) + self.centre[other] - self.centre[one]
        radius = source_radius((self.magnitude[one] + self.magnitude[other]) / 2, stress_drop=criteria.stress_drop)
        alike = np.abs(self.magnitude[one] - self.magnitude[other]) <= criteria.magnitude_window + _ROUNDING
        return np.asarray(alike & (np.linalg.norm(away, axis=1) < radius))
