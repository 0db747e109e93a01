"""Waves of earthquakes on a fault in a layered Earth: what two events share falls off with their distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from specufex_dask.hypodd_settings import LayeredModel
from specufex_dask.kernels.double_difference import first_arrivals
from specufex_dask.local_frame import LocalFrame
from specufex_dask.simulated_files import Event, Station
from specufex_dask.simulated_waves import Ray, Source

Array = np.ndarray[Any, np.dtype[Any]]

FRAME = LocalFrame(37.0, -121.5)
"""The middle of the fault."""
MODEL = LayeredModel(top_km=(0.0, 1.0, 4.0, 10.0), p_km_s=(3.8, 5.0, 5.8, 6.4), vp_vs=1.73)
"""Velocities with which all travel times are made."""

_SHARES = np.array([[0.35], [1.0]])  # of P and S
_VELOCITIES_KM_S = np.array([[5.8], [3.35]])
_QUALITY_FACTOR = 150.0
_RISE_SECONDS, _DIRECT_SECONDS = 0.05, 0.4
_REFERENCE_MAGNITUDE = 1.5
_MECHANISM, _PATH, _KNOTS = 0.4, 0.6, 8  # standard deviations of the logarithms of amplitudes
_SITE_GAIN, _SITE_WIDTH = 0.8, 0.25


@dataclass(frozen=True)
class LayeredRay(Ray):
    """A ray by the times [s] after the catalogue's origin time at which P and S arrive."""

    p: float
    s: float

    @property
    def p_seconds(self) -> float:
        """Arrival of P [s]."""
        return self.p

    @property
    def s_seconds(self) -> float:
        """Arrival of S [s]."""
        return self.s


@dataclass(frozen=True)
class FaultEvent(Event):
    """An event as the catalogue has it, with what is true of it: kind, how `late` [s], rays; and what was picked."""

    truth: str
    late: float
    rays: dict[str, LayeredRay]
    picked: dict[str, tuple[float, float]]

    @property
    def kind(self) -> str:
        """What the event is among the others."""
        return self.truth

    def ray_to(self, station: Station) -> LayeredRay:
        """The true ray to `station`."""
        return self.rays[station.station_id]

    def picks_at(self, station: Station) -> tuple[float, float]:
        """Picks of P and S [s after the catalogue's origin time], off by their errors."""
        return self.picked[station.station_id]


@dataclass(frozen=True)
class FaultSource(Source):
    """A source whose scattering is that of a patch of the fault, or of another patch nearby.

    Scattering is drawn from `scattering` for the patch that it resembles, and from `own` for
    itself; `apart_km` tells how far the two lie apart, 0 for events of one patch.
    """

    own: int
    apart_km: float

    def motion(self, ray: Ray, station: int, *, n_samples: int, sampling_rate: float, origin: float) -> Array:
        """Velocity (sample,) at a station, relative to S of magnitude 1.5 at 1 km; `origin` in s after the first."""
        frequency = np.fft.rfftfreq(2 * n_samples, 1 / sampling_rate)
        seconds = np.arange(n_samples) / sampling_rate
        series, levels = self._scattered(station, seconds, frequency)
        onset = np.array([[ray.p_seconds], [ray.s_seconds]])
        envelope = np.exp(-seconds / (self.coda * _SHARES**0.5)) * (1 - np.exp(-seconds / _RISE_SECONDS))
        envelope[(origin + onset[:, 0]) * sampling_rate >= n_samples] = 0.0
        # A phase that is turned shifts the wave by parts of a sample, which correlations can tell.
        path = np.exp(-np.pi * frequency * onset / _QUALITY_FACTOR - 2j * np.pi * frequency * (origin + onset))
        path *= _SHARES * _response(levels, frequency, sampling_rate)
        waves = (np.fft.rfft(series * envelope, 2 * n_samples) * path).sum(axis=0)
        total = np.fft.irfft(waves * self.spectrum(frequency) * _site(station, frequency, sampling_rate), 2 * n_samples)
        return np.asarray(10 ** (self.magnitude - _REFERENCE_MAGNITUDE) / ray.distance_km * total[:n_samples])

    def _scattered(self, station: int, seconds: Array, frequency: Array) -> tuple[Array, Array]:
        """Scattering of P and S after their onsets (2, sample), and how the path colours them (2, knot).

        Of waves from all directions the coherence of two sources is exp(-(k d)²/6), k the
        wavenumber; the direct wave, from one direction, stays as it is.
        """
        rng = np.random.default_rng([self.scattering, station])
        levels = rng.normal(0, _MECHANISM, (2, 1)) + rng.normal(0, _PATH, (2, _KNOTS))
        series = rng.standard_normal((2, seconds.size))
        if not self.apart_km:
            return series, levels
        wavenumber = 2 * np.pi * frequency / _VELOCITIES_KM_S
        coherence = np.exp(-((wavenumber * self.apart_km) ** 2) / 6)
        others = np.random.default_rng([self.own, station]).standard_normal(series.shape)
        n = 2 * seconds.size
        mixed = np.fft.rfft(series, n) * coherence + np.fft.rfft(others, n) * np.sqrt(1 - coherence**2)
        direct = np.exp(-seconds / _DIRECT_SECONDS)
        return direct * series + (1 - direct) * np.fft.irfft(mixed, n)[:, : seconds.size], levels


def _response(levels: Array, frequency: Array, sampling_rate: float) -> Array:
    """Amplitudes (phase, frequency) that go through the logarithmic `levels` (phase, knot), evenly in octaves."""
    knots = np.log(sampling_rate * np.geomspace(0.01, 0.4, levels.shape[1]))
    at = np.log(np.maximum(frequency, 1e-6))
    return np.exp([np.interp(at, knots, each) for each in levels])


def _site(station: int, frequency: Array, sampling_rate: float) -> Array:
    """What the ground below a station amplifies (frequency,): each another band."""
    centre = sampling_rate * 0.04 * 4 ** ((station * 0.618) % 1)
    return 1 + _SITE_GAIN * np.exp(-0.5 * (np.log(np.maximum(frequency, 1e-6) / centre) / _SITE_WIDTH) ** 2)


def rays(place: Array, stations: tuple[Station, ...], late: float) -> dict[str, LayeredRay]:
    """The rays from `place` (3,) [km east, north, down], of an event that was `late` [s] against its catalogue time."""
    found = {}
    for station in stations:
        east, north = FRAME.km(np.array([station.latitude]), np.array([station.longitude]))
        away = np.hypot(east - place[0], north - place[1])
        height = station.elevation / 1000
        times = [
            float(first_arrivals(away, place[2:], -height, np.array(MODEL.top_km), np.array(velocity))[0, 0])
            for velocity in (MODEL.p_km_s, MODEL.s_km_s)
        ]
        distance = float(np.hypot(away[0], place[2] + height))
        found[station.station_id] = LayeredRay(distance, times[0] + late, times[1] + late)
    return found
