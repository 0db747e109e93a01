"""Figures of where: maps of events, by cluster, and stations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.figures import (
    INK,
    SHOWN,
    TEXT,
    UNUSABLE,
    Array,
    Entry,
    Margins,
    Panel,
    at_most,
    cluster_colour,
    cluster_marker,
    cluster_name,
    grid,
    label,
    legend,
    legend_room,
    png,
)
from specufex_dask.plurals import counted

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_KM_PER_DEGREE = 111.195
_POINTS = 20_000
"""Events drawn at most on a map."""
_NAMED_STATIONS = 30
_CROWD = 4
_FAR = 4
"""A map that holds all stations may be this many times as wide as one of the events alone."""
_VOTE = "An event has the cluster that most of its usable records have; grey: no usable record."
_MERGED = "An event has the cluster that its records were merged into; grey: none."

Limits = list[tuple[float, float]]


@dataclass(frozen=True)
class Plane:
    """A map plane: m or km east and north of a centre (equirectangular, true to scale there), or degrees."""

    latitude: float
    longitude: float
    unit: str

    @classmethod
    def around(cls, latitude: Array, longitude: Array) -> Plane:
        """The plane around the middle of the points: m below a span of 2 km, degrees beyond 1000 km."""
        first = cls(float(np.median(latitude)), float(longitude[0]), "degrees")
        centre = float(np.median(first.project(latitude, longitude)[0]))
        middle = cls(first.latitude, (centre + 180) % 360 - 180, "km")
        span = max(np.ptp(np.percentile(values, [1, 99])) for values in middle.project(latitude, longitude))
        unit = "m" if span < 2 else "km" if span < 1000 else "degrees"  # noqa: PLR2004 - kilometres, as the docstring says
        return cls(middle.latitude, middle.longitude, unit)

    @property
    def aspect(self) -> float:
        """Length on the page of one unit north over one unit east."""
        return 1 / float(np.cos(np.radians(self.latitude))) if self.unit == "degrees" else 1.0

    def project(self, latitude: Array, longitude: Array) -> tuple[Array, Array]:
        """Coordinates east and north in the plane's unit; the date line is no border."""
        east = (longitude - self.longitude + 180) % 360 - 180
        if self.unit == "degrees":
            return self.longitude + east, latitude
        scale = _KM_PER_DEGREE * (1000 if self.unit == "m" else 1)
        return east * scale * np.cos(np.radians(self.latitude)), (latitude - self.latitude) * scale

    def labels(self) -> tuple[str, str]:
        """The labels of the axes, with the centre that they count from."""
        if self.unit == "degrees":
            return "longitude (degrees east)", "latitude (degrees north)"
        east = f"{abs(self.longitude):.4f}° {'EW'[self.longitude < 0]}"
        return (
            f"east of {east} ({self.unit})",
            f"north of {abs(self.latitude):.4f}° {'NS'[self.latitude < 0]} ({self.unit})",
        )


@dataclass(frozen=True)
class Sites:
    """Stations by name, with their places (station) [degrees]; channels of one station are one site."""

    names: list[str]
    latitude: Array
    longitude: Array

    @classmethod
    def of(cls, stations: xr.Dataset | None) -> Sites:
        """The sites of a Dataset of stage ``stations``; none without one."""
        if stations is None:
            return cls([], np.empty(0), np.empty(0))
        places = zip(stations.latitude.values, stations.longitude.values, strict=True)
        names = [".".join(str(name).split(".")[:2]) for name in stations.station_id.values]
        known = {name: place for name, place in zip(names, places, strict=True) if np.isfinite(place).all()}
        latitude, longitude = np.array(list(known.values()), dtype=float).reshape(-1, 2).T
        return cls([name.split(".")[-1] for name in known], latitude, longitude)


@dataclass(frozen=True)
class Events:
    """Located events: places (event) [degrees], cluster (event); and how many have no location."""

    latitude: Array
    longitude: Array
    cluster: Array | None
    unlocated: int
    merged: bool

    @classmethod
    def of(cls, catalog: xr.Dataset, cluster: Array | None, *, merged: bool) -> Events:
        """The located events of a Dataset of stage ``catalog``."""
        latitude, longitude = catalog.latitude.values, catalog.longitude.values
        known = np.isfinite(latitude) & np.isfinite(longitude)
        shown = None if cluster is None else cluster[known]
        return cls(latitude[known], longitude[known], shown, int((~known).sum()), merged)


def maps(
    catalog: xr.Dataset, cluster: Array | None, stations: xr.Dataset | None, *, merged: bool = False
) -> list[Panel]:
    """Maps of the events (event) by `cluster` (event); a second one of all stations if these lie far away.

    The clusters are those that most records of an event have, unless they were `merged`.
    """
    events, sites = Events.of(catalog, cluster, merged=merged), Sites.of(stations)
    if not events.latitude.size:
        return []
    plane = Plane.around(events.latitude, events.longitude)
    near = _near(plane, events, sites)
    panels = [_map("Map", plane, _limits(plane, events, sites if near else None), events, sites)]
    if not near:
        whole = Plane.around(np.append(events.latitude, sites.latitude), np.append(events.longitude, sites.longitude))
        panels.append(_map("Map with all stations", whole, _limits(whole, events, sites), events, sites))
    return panels


def _near(plane: Plane, events: Events, sites: Sites) -> bool:
    """Whether events stay more than a dot on a map that holds all stations."""
    spans = [max(np.ptp(ends) for ends in _limits(plane, events, given)) for given in (None, sites)]
    return bool(spans[1] <= _FAR * spans[0])


def _limits(plane: Plane, events: Events, sites: Sites | None) -> Limits:
    """Frame of nearly all events, and of the stations if given."""
    frame = [np.percentile(values, [1, 99]) for values in plane.project(events.latitude, events.longitude)]
    if sites is not None:
        places = plane.project(sites.latitude, sites.longitude)
        frame = [np.append(ends, place) for ends, place in zip(frame, places, strict=True)]
    room = 0.08 * max(np.ptp(frame[0]), np.ptp(frame[1]), 1e-3)
    return [(float(ends.min() - room), float(ends.max() + room)) for ends in frame]


def _map(title: str, plane: Plane, limits: Limits, events: Events, sites: Sites) -> Panel:
    x, y = plane.project(events.latitude, events.longitude)
    kinds = groups(events.cluster, x.size, merged=events.merged)
    entries = [entry for entry, _ in kinds] + ([Entry("station", INK, "^")] if sites.names else [])
    margins = Margins(left=0.66, top=legend_room(entries))
    box, limits = framed(limits, plane.aspect, 4.6 - margins.left - margins.right)
    figure, ((ax,),) = grid(4.6, [box], margins=margins)
    _draw_events(ax, x, y, kinds)
    hidden = _draw_stations(ax, plane, sites, limits)
    ax.set(xlim=limits[0], ylim=limits[1])
    ax.set_aspect(plane.aspect, adjustable="box")
    label(ax, x=plane.labels()[0], y=plane.labels()[1])
    legend(ax, entries)
    outside = int((~(_inside(x, limits[0]) & _inside(y, limits[1]))).sum())
    return Panel(title, _caption(events, outside, hidden), _alt(x, y, plane), png(figure))


def framed(limits: Limits, aspect: float, across: float) -> tuple[float, Limits]:
    """Height [inches] of a map `across` inches wide, and limits widened so that the map fills it."""
    (left, right), (bottom, top) = limits
    height = float(np.clip(across * aspect * (top - bottom) / (right - left), 2.2, 4.6))
    per_inch = max((right - left) / across, aspect * (top - bottom) / height)
    half = per_inch * across / 2, per_inch * height / 2 / aspect
    middle = (left + right) / 2, (bottom + top) / 2
    return height, [(m - h, m + h) for m, h in zip(middle, half, strict=True)]


def _inside(values: Array, limits: tuple[float, float]) -> Array:
    return np.asarray((values >= limits[0]) & (values <= limits[1]))


def groups(cluster: Array | None, count: int, *, merged: bool = False) -> list[tuple[Entry, Array]]:
    """Legend and positions of each group of events: the largest clusters, the others together, and events of none."""
    if cluster is None:
        return [(Entry("event", "#444444", "o"), np.arange(count))]
    found = [(_entry(number), np.flatnonzero(cluster == number)) for number in range(SHOWN)]
    rest = np.flatnonzero(cluster >= SHOWN)
    found.append((Entry(f"{len(np.unique(cluster[rest])):,} smaller ones", "#b8b8b8", "."), rest))
    none = "in no cluster" if merged else "no usable record"
    found.append((Entry(none, cluster_colour(UNUSABLE), cluster_marker(UNUSABLE)), np.flatnonzero(cluster < 0)))
    return [(entry, places) for entry, places in found if places.size]


def _entry(cluster: int) -> Entry:
    return Entry(cluster_name(cluster), cluster_colour(cluster), cluster_marker(cluster))


def told(cluster: Array | None, *, merged: bool) -> str:
    """How the events come by their clusters; nothing of those without."""
    return "" if cluster is None else _MERGED if merged else _VOTE


def _draw_events(ax: Axes, x: Array, y: Array, groups: list[tuple[Entry, Array]]) -> None:
    """Draw small clusters over large ones, and all over the events without a usable record."""
    size = float(np.clip(8000 / x.size, 2, 16))
    for entry, places in sorted(groups, key=lambda group: group[0].marker != "x"):
        shown = at_most(places, max(_POINTS * places.size // x.size, 1))
        style: dict[str, Any] = (
            {"alpha": 0.4, "linewidths": 0.5} if entry.marker == "x" else {"alpha": 0.75, "linewidths": 0}
        )
        ax.scatter(x[shown], y[shown], s=size, c=entry.colour, marker=entry.marker, **style)


def _draw_stations(ax: Axes, plane: Plane, sites: Sites, limits: Limits) -> int:
    """Triangles with names; returns how many stations lie outside of the frame."""
    x, y = plane.project(sites.latitude, sites.longitude)
    shown = _inside(x, limits[0]) & _inside(y, limits[1])
    ax.scatter(x[shown], y[shown], s=42, c="white", marker="^", edgecolors=INK, linewidths=1.1, zorder=3)
    names = [name for name, inside in zip(sites.names, shown, strict=True) if inside]
    if len(names) <= _NAMED_STATIONS:
        _name_stations(ax, names, x[shown], y[shown], 0.08 * (limits[0][1] - limits[0][0]))
    return int((~shown).sum())


_SIDES = (
    ((4, 4), "left", "bottom"),
    ((-4, 4), "right", "bottom"),
    ((4, -4), "left", "top"),
    ((-4, -4), "right", "top"),
)


def _name_stations(ax: Axes, names: list[str], x: Array, y: Array, near: float) -> None:
    """Write each name beside its triangle, on another side for each neighbour that is `near`; none in a crowd."""
    for place, name in enumerate(names):
        neighbours = int((np.hypot(x[:place] - x[place], y[:place] - y[place]) < near).sum())
        if neighbours >= _CROWD:
            continue
        offset, ha, va = _SIDES[neighbours]
        style: dict[str, Any] = {"ha": ha, "va": va, "fontsize": TEXT - 1.5, "color": INK, "parse_math": False}
        ax.annotate(name, (x[place], y[place]), offset, textcoords="offset points", zorder=4, **style)


def _caption(events: Events, outside: int, hidden: int) -> str:
    left_out = [
        f"{counted(number, noun)} {what}"
        for number, noun, what in (
            (outside, "event", "outside the frame"),
            (hidden, "station", "outside the frame"),
            (events.unlocated, "event", "without a location"),
        )
        if number
    ]
    return (
        "Epicentres seen from above, north up, the same scale on both axes. "
        + (told(events.cluster, merged=events.merged) or "The events are not clustered yet.")
        + (f" Drawn: about {_POINTS:,} of the events, evenly picked." if events.latitude.size > _POINTS else "")
        + (f" Not shown: {', '.join(left_out)}." if left_out else "")
    )


def _alt(x: Array, y: Array, plane: Plane) -> str:
    spans = [np.ptp(np.percentile(values, [1, 99])) for values in (x, y)]
    return f"Map of {counted(x.size, 'event')}, most within {spans[0]:.3g} by {spans[1]:.3g} {plane.unit}."
