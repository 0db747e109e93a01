"""Predict when a phase arrives, where nobody picked it: straight rays at one velocity, or a 1-D model of the Earth.

The 1-D times come from ObsPy's TauP (Crotwell, Owens & Ritsema 1999), tabulated. A row of the table
is one depth, every kilometre; it holds the first arrival every 0.01 degrees of distance below 10
degrees and every 0.1 beyond, interpolated along TauP's rays by cubics, whose slopes the rays' slownesses
are. Between rows and columns, T / R is interpolated linearly, R being the length of the straight ray:
near the source it hardly changes where T itself bends. Against TauP itself the times of P and S in
iasp91 differ by less than 0.002 s nearly everywhere; by up to 0.05 s within a kilometre of a
discontinuity, and of the distance at which one branch overtakes another.
"""

from __future__ import annotations

import numbers
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from specufex_dask import schema
from specufex_dask.reading import quiet_obspy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Array = np.ndarray[Any, Any]

_SEMI_MAJOR_M, _FLATTENING = 6_378_137.0, 1 / 298.257223563  # WGS84
_KM_PER_DEGREE = 6371.0 * np.pi / 180
_M_PER_KM = 1000.0
_DEEPEST_KM = 800.0
_FIRST = {"P": ("p", "P", "Pn", "Pdiff", "PKP", "PKiKP", "PKIKP"), "S": ("s", "S", "Sn", "Sdiff")}
_DEGREES = np.concatenate([np.arange(1000) * 0.01, 10 + np.arange(1701) * 0.1])
_NEAREST_DEGREES = 1e-4
_EVENTS_AT_ONCE = 4096


def predicted_times(
    catalog: xr.Dataset, stations: xr.Dataset, *, phase: str = "P", velocity_model: float | str
) -> xr.DataArray:
    """Return when `phase` would arrive from every event at every station, by a model of the velocity.

    Parameters
    ----------
    catalog : Dataset of stage ``catalog``
        The events. Where a depth is NaN there is no time; say what to assume before, such as with
        ``catalog.assign(depth=catalog.depth.fillna(8.0))``.
    stations : Dataset of stage ``stations``
        The channels.
    phase : str
        ``"P"`` and ``"S"`` are the first arrivals of the kind (in TauP's names: p, P, Pn, Pdiff,
        PKP, PKiKP, PKIKP; s, S, Sn, Sdiff); any other is TauP's name of one phase. Of no effect
        with a velocity.
    velocity_model : float or str
        The velocity of `phase` [km/s]: a straight ray from the hypocentre to the station, on the
        WGS84 ellipsoid, the elevation used (NaN is 0). Or a 1-D model that TauP knows, such as
        ``"iasp91"`` or ``"ak135"``: station elevations and heights of events above sea level are
        taken as 0, which costs about 0.2 s a kilometre.

    Returns
    -------
    DataArray (event, station)
        ``time`` (UTC), NaT where the phase does not arrive or a depth is not known; coordinates
        ``event_id`` and ``station_id``. Its values row by row are in the order of the records of
        `specufex_dask.open_waveforms`.

    Raises
    ------
    ValueError
        A velocity that is not above 0, a model or phase that TauP does not know, a depth beyond
        800 km (with a 1-D model).

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from specufex_dask import read_catalog, read_stations
    >>> from specufex_dask.simulate import simulate
    >>> with TemporaryDirectory() as folder:
    ...     made = simulate(folder, n_events=2, n_stations=2, seed=0)
    ...     catalog, stations = read_catalog(made.catalog), read_stations(made.stations)
    >>> times = predicted_times(catalog, stations, phase="P", velocity_model=5.8)
    >>> times.dims, bool((times > catalog.origin_time).all())
    (('event', 'station'), True)
    """
    schema.require(catalog, "catalog")
    schema.require(stations, "stations")
    _check_model(velocity_model)
    n_events = catalog.sizes["event"]
    parts = [
        _seconds(catalog.isel(event=slice(start, start + _EVENTS_AT_ONCE)), stations, phase, velocity_model)
        for start in range(0, n_events, _EVENTS_AT_ONCE)
    ]
    seconds = np.concatenate(parts) if parts else np.empty((0, stations.sizes["station"]))
    after = np.where(np.isnan(seconds), np.timedelta64("NaT"), np.rint(np.nan_to_num(seconds) * 1e9).astype("m8[ns]"))
    origin = catalog.origin_time.values.astype("datetime64[ns]")[:, None]
    coordinates = {
        "event_id": ("event", catalog.event_id.values),
        "station_id": ("station", stations.station_id.values),
    }
    return xr.DataArray(origin + after, coordinates, ("event", "station"), "time", {"phase": phase})


def travel_times(degrees: Array, depth_km: Array, *, phase: str, model: str) -> Array:
    """Return the travel times [s] of `phase` in TauP's `model`, by interpolation; NaN where it does not arrive.

    `degrees` is the distance on the sphere (0 to 180), `depth_km` that of the source (0 to 800), of one shape.
    """
    column = np.clip(np.searchsorted(_DEGREES, degrees, side="right") - 1, 0, _DEGREES.size - 2)
    low = np.floor(depth_km)
    total = np.zeros(np.shape(degrees))
    for depth in np.unique(low[~np.isnan(low)]).tolist():
        here = low == depth
        below = depth_km[here] - depth
        right = (degrees[here] - _DEGREES[column[here]]) / np.diff(_DEGREES)[column[here]]
        total[here] = sum(
            np.where(share > 0, share * _slowness_row(model, phase, row)[column[here] + step], 0.0)
            for row, in_depth in ((depth, 1 - below), (depth + 1, below))
            for step, share in ((0, in_depth * (1 - right)), (1, in_depth * right))
            if np.any(in_depth > 0)
        )
    ray_km = np.hypot(np.maximum(degrees, _NEAREST_DEGREES) * _KM_PER_DEGREE, depth_km)
    return total * np.where(np.isnan(depth_km), np.nan, ray_km)


def is_velocity_model(value: object) -> bool:
    """Whether `value` is a velocity above 0 [km/s], or the name of a 1-D model that TauP can load."""
    try:
        _check_model(value)
    except ValueError:
        return False
    return True


def _check_model(velocity_model: object) -> None:
    if isinstance(velocity_model, str):
        _taup(velocity_model)
        return
    if isinstance(velocity_model, numbers.Real) and 0 < float(velocity_model) < float("inf"):
        return
    msg = (
        f"got velocity_model={velocity_model!r}, expected a velocity above 0 km/s, or the name of a 1-D model of TauP "
        f"such as 'iasp91': pass one of these."
    )
    raise ValueError(msg)


def _seconds(catalog: xr.Dataset, stations: xr.Dataset, phase: str, velocity_model: float | str) -> Array:
    """Travel times (event, station) [s]."""
    event = [catalog[name].values.astype(np.float64)[:, None] for name in ("latitude", "longitude", "depth")]
    station = [stations[name].values.astype(np.float64)[None, :] for name in ("latitude", "longitude", "elevation")]
    if not isinstance(velocity_model, str):
        source = _cartesian_km(event[0], event[1], -event[2])
        receiver = _cartesian_km(station[0], station[1], np.nan_to_num(station[2]) / _M_PER_KM)
        return np.asarray(np.sqrt(sum((a - b) ** 2 for a, b in zip(source, receiver, strict=True))) / velocity_model)
    if (deep := event[2] > _DEEPEST_KM).any():
        msg = (
            f"got {int(deep.sum())} events deeper than {_DEEPEST_KM:g} km (the first: "
            f"{catalog.event_id.values[np.argmax(deep)]}), expected depths in km: correct the catalogue's unit."
        )
        raise ValueError(msg)
    degrees = _degrees(event[0], event[1], station[0], station[1])
    depth = np.broadcast_to(np.maximum(event[2], 0.0), degrees.shape)
    return travel_times(degrees, depth, phase=phase, model=velocity_model)


def _cartesian_km(latitude: Array, longitude: Array, height_km: Array) -> tuple[Array, Array, Array]:
    """Geocentric coordinates [km] of points `height_km` above the WGS84 ellipsoid."""
    phi, lam = np.radians(latitude), np.radians(longitude)
    squared = _FLATTENING * (2 - _FLATTENING)
    normal = _SEMI_MAJOR_M / _M_PER_KM / np.sqrt(1 - squared * np.sin(phi) ** 2)
    across = (normal + height_km) * np.cos(phi)
    return across * np.cos(lam), across * np.sin(lam), (normal * (1 - squared) + height_km) * np.sin(phi)


def _degrees(latitude: Array, longitude: Array, other_latitude: Array, other_longitude: Array) -> Array:
    """Angle at the Earth's centre [degrees] between points given by their geodetic coordinates."""
    flat = (1 - _FLATTENING) ** 2
    phi, psi = (np.arctan(flat * np.tan(np.radians(each))) for each in (latitude, other_latitude))
    half = np.radians(longitude - other_longitude) / 2
    square = np.sin((phi - psi) / 2) ** 2 + np.cos(phi) * np.cos(psi) * np.sin(half) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.minimum(square, 1.0)))))


@lru_cache(maxsize=4096)
def _slowness_row(model: str, phase: str, depth_km: float) -> Array:
    """T / R [s/km] at the distances of the table (distance,), for a source at `depth_km`."""
    distance = np.radians(np.maximum(_DEGREES, _NEAREST_DEGREES))
    first = np.full(distance.size, np.inf)
    for rays in _rays(model, _FIRST.get(phase, (phase,)), depth_km):
        _lower_to(first, distance, rays)
    first[np.isinf(first)] = np.nan
    row: Array = first / np.hypot(np.degrees(distance) * _KM_PER_DEGREE, depth_km)
    row.setflags(write=False)
    return row


def _lower_to(first: Array, distance: Array, rays: tuple[Array, Array, Array]) -> None:
    """Lower `first` to the times of a branch, between each two of its rays where they embrace a distance [radians].

    A time is a cubic of distance between two rays: dT / dΔ is the slowness p at both.
    """
    to, time, slowness = rays
    for left in range(to.size - 1):
        if slowness[left] == slowness[left + 1] and to.size > 2:  # noqa: PLR2004 - two rays are a head wave
            continue  # a shadow zone: nothing arrives between these two
        a, b = (left, left + 1) if to[left] <= to[left + 1] else (left + 1, left)
        width = to[b] - to[a]
        inside = slice(*np.searchsorted(distance, (to[a] - 1e-12, to[b] + 1e-12)))
        if width <= 0 or inside.start == inside.stop:
            continue
        x = (distance[inside] - to[a]) / width
        value = (1 + 2 * x) * (1 - x) ** 2 * time[a] + x**2 * (3 - 2 * x) * time[b]
        value += width * (x * (1 - x) ** 2 * slowness[a] + x**2 * (x - 1) * slowness[b])
        first[inside] = np.minimum(first[inside], value)


def _rays(model: str, names: Sequence[str], depth_km: float) -> Iterator[tuple[Array, Array, Array]]:
    """Distance [radians], time [s] and slowness [s/radian] of TauP's rays, each (ray,), of each phase, both ways."""
    taup, seismic_phase = _taup(model)
    corrected = taup.depth_correct(depth_km)
    for name in names:
        try:
            found = seismic_phase(name, corrected)
        # TauP raises ValueError, IndexError and its own classes for a name that it cannot parse.
        except Exception as error:
            msg = f"got phase={name!r}, expected 'P', 'S', or TauP's name of a phase, such as 'Pg': correct it."
            raise ValueError(msg) from error
        yield found.dist, found.time, found.ray_param
        yield 2 * np.pi - found.dist, found.time, -found.ray_param


@lru_cache(maxsize=8)
def _taup(model: str) -> tuple[Any, Any]:
    """TauP's model, and its class of a phase."""
    with quiet_obspy():
        from obspy.taup import TauPyModel
        from obspy.taup.seismic_phase import SeismicPhase

        try:
            return TauPyModel(model).model, SeismicPhase
        # TauP raises whatever the name leads it to.
        except Exception as error:
            msg = (
                f"got velocity_model={model!r}, which TauP cannot load ({type(error).__name__}), expected a model of "
                f"ObsPy's TauP such as 'iasp91', 'ak135' or 'prem', or a velocity in km/s: correct the name."
            )
            raise ValueError(msg) from error
