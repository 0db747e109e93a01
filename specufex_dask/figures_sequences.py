"""Figure of where sequences of repeating earthquakes are: on the map, and in depth along their fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.figures import GREY, INK, MAP, Array, Margins, Panel, at_most, colour_bar, grid, label, note, png
from specufex_dask.figures_map import Plane, framed
from specufex_dask.kernels.groups import means
from specufex_dask.pairs import places
from specufex_dask.plurals import counted
from specufex_dask.rupture import DAYS_A_YEAR

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

_POINTS = 5_000
"""Other events drawn at most."""
_LEAST_FOR_A_STRIKE = 3
_HEIGHTS = 1.5, 3.6
"""Least and largest height of the depth section [inches]."""
_TAILS = 0.05, 0.95
"""Quantiles of the intervals at which the colours end."""
_M_PER_KM = 1000.0


@dataclass(frozen=True)
class _Points:
    """Points in a plane's unit: east, north and down (point,)."""

    x: Array
    y: Array
    z: Array

    @classmethod
    def of(cls, plane: Plane, latitude: Array, longitude: Array, depth_km: Array) -> _Points:
        return cls(*plane.project(latitude, longitude), depth_km * (_M_PER_KM if plane.unit == "m" else 1.0))

    def along(self, strike: float) -> Array:
        """Distance (point,) in the direction of `strike` [radians from north to east]."""
        return np.asarray(self.x * np.sin(strike) + self.y * np.cos(strike))


def sequences_in_place(
    repeaters: xr.Dataset, catalog: xr.Dataset, relocation: xr.Dataset | None = None
) -> Panel | None:
    """Sequences on the map and in depth, by their mean interval; None where no sequence has a place.

    Parameters
    ----------
    repeaters, catalog, relocation
        Datasets of these stages. With a relocation a sequence lies at the mean of its relocated events.
    """
    latitude, longitude, depth = _centroids(repeaters, relocation)
    known = np.isfinite(latitude) & np.isfinite(longitude)
    if not known.any():
        return None
    plane = Plane.around(latitude[known], longitude[known])
    plane = Plane(plane.latitude, plane.longitude, "m" if plane.unit == "m" else "km")
    sequences = _Points.of(plane, latitude[known], longitude[known], depth[known])
    others = _others(plane, repeaters, catalog)
    years = repeaters["recurrence"].values[known] / DAYS_A_YEAR
    style = {"s": (4 + 4 * np.sqrt(repeaters["n_events"].values[known])).clip(8, 60), "c": years}
    strike, scale, picture = _drawn(plane, sequences, others, style)
    relocated = "their relocated events" if relocation is not None else "their events in the catalogue"
    sampled = f" Of the others about {_POINTS:,} are drawn, evenly picked." if _few(repeaters) else ""
    return Panel(
        "Sequences on the map and in depth",
        f"Each dot is a sequence, at the mean of {relocated}, coloured by its mean interval (the colours "
        "end where one in twenty is shorter, or longer) and the larger the more events it has; grey: events in no "
        f"sequence.{sampled} Top: seen from above, north up. Bottom: in depth, against the "
        f"distance along their strike, {round(np.degrees(strike)) % 180} degrees east of north; the scale of "
        f"depth is {scale:.2g} times that along strike."
        + (f" {counted(int((~known).sum()), 'sequence')} without a place." if not known.all() else ""),
        f"{counted(int(known.sum()), 'sequence')} within {np.ptp(sequences.x):.3g} by {np.ptp(sequences.y):.3g} "
        f"{plane.unit}, {np.nanmin(depth):.3g} to {np.nanmax(depth):.3g} km deep.",
        picture,
        wide=True,
    )


def _centroids(repeaters: xr.Dataset, relocation: xr.Dataset | None) -> tuple[Array, Array, Array]:
    """Latitude, longitude [degrees] and depth [km] (sequence,)."""
    names = ("latitude", "longitude", "depth")
    if relocation is None:
        latitude, longitude, depth = (repeaters[name].values for name in names)
        return latitude, longitude, depth
    row = places(relocation["event_id"].values, repeaters["event_id"].values)
    sequence = np.append(repeaters["sequence"].values, -1)[row]
    inside = (sequence >= 0) & np.isfinite(relocation["latitude"].values)
    n_sequences = repeaters.sizes["sequence_id"]
    latitude, longitude, depth = (
        means(relocation[name].values[inside], sequence[inside], n_sequences) for name in names
    )
    return latitude, longitude, depth


def _few(repeaters: xr.Dataset) -> bool:
    return int((repeaters["sequence"].values < 0).sum()) > _POINTS


def _others(plane: Plane, repeaters: xr.Dataset, catalog: xr.Dataset) -> _Points:
    """The events in no sequence."""
    row = places(catalog["event_id"].values, repeaters["event_id"].values)
    alone = np.append(repeaters["sequence"].values, -1)[row] < 0
    shown = at_most(np.flatnonzero(alone & np.isfinite(catalog["latitude"].values)), _POINTS)
    return _Points.of(plane, *(catalog[name].values[shown] for name in ("latitude", "longitude", "depth")))


def _strike(points: _Points) -> float:
    """The direction in which points spread the most [radians from north to east]; north of a few points."""
    if len(points.x) < _LEAST_FOR_A_STRIKE:
        return 0.0
    axes = np.linalg.svd(np.stack([points.x - points.x.mean(), points.y - points.y.mean()], axis=1))[2]
    return float(np.arctan2(axes[0, 0], axes[0, 1]) % np.pi)


def _drawn(plane: Plane, sequences: _Points, others: _Points, style: dict[str, Any]) -> tuple[float, float, bytes]:
    """The strike [radians], the scale of depth over that along strike, and the picture."""
    margins = Margins(left=0.75, right=0.95, top=0.22)
    across = 6.8 - margins.left - margins.right
    box, limits = framed([_room(sequences.x), _room(sequences.y)], 1.0, across)
    strike = _strike(sequences)
    along, beside = sequences.along(strike), others.along(strike)
    wide, deep = _room(along), _room(sequences.z)
    true = across * (deep[1] - deep[0]) / (wide[1] - wide[0])
    height = float(np.clip(true, *_HEIGHTS))
    figure, ((top,), (bottom,)) = grid(6.8, [box, height], margins=margins, gaps=[0.62])
    drawn = _points(top, (sequences.x, sequences.y), (others.x, others.y), style)
    top.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    label(top, x=plane.labels()[0], y=plane.labels()[1])
    colour_bar(top, drawn, "mean interval (years)", log=True)
    _points(bottom, (along, sequences.z), (beside, others.z), style)
    bottom.set(xlim=wide, ylim=(deep[1], deep[0]))
    label(bottom, x=f"distance along strike ({plane.unit})", y=f"depth ({plane.unit})")
    note(top, 0, 1.02, "map")
    note(bottom, 0, 1.02, "depth section")
    return strike, height / true, png(figure)


def _room(values: Array) -> tuple[float, float]:
    """Limits of nearly all values, with room around."""
    first, last = np.nanpercentile(values, [0.5, 99.5]) if np.isfinite(values).any() else (0.0, 1.0)
    room = 0.08 * max(last - first, 1e-2)
    return float(first - room), float(last + room)


def _points(
    ax: Axes, sequences: tuple[Array, Array], others: tuple[Array, Array], style: dict[str, Any]
) -> PathCollection:
    """Draw the others as specks and the sequences over them, those of the longest intervals first."""
    from matplotlib.colors import LogNorm

    ax.scatter(*others, s=4, color=GREY, alpha=0.6, linewidths=0)
    years = style["c"]
    known = years[years > 0]
    norm = LogNorm(*(np.quantile(known, _TAILS) * (1.0, 1.001)) if len(known) else (1.0, 2.0))
    order = np.argsort(-years)
    return ax.scatter(
        sequences[0][order], sequences[1][order], s=style["s"][order], c=years[order], cmap=MAP,
        norm=norm, edgecolors=INK, linewidths=0.3, plotnonfinite=True, zorder=2,
    )  # fmt: skip
