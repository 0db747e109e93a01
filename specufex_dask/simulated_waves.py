"""The ground motion of a synthetic earthquake: source spectrum, path, coda, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
VP_KM_S, VS_KM_S = 6.0, 3.5
"""Velocity of P and S waves [km/s]."""

_QUALITY_FACTOR = 150.0
_P_SHARE = 0.35
_REFERENCE_MAGNITUDE = 1.5
_RISE_SECONDS = 0.05


@dataclass(frozen=True)
class Ray:
    """From the source to a station: length of the ray [km]."""

    distance_km: float

    @property
    def p_seconds(self) -> float:
        """Travel time of the P wave [s]."""
        return self.distance_km / VP_KM_S

    @property
    def s_seconds(self) -> float:
        """Travel time of the S wave [s]."""
        return self.distance_km / VS_KM_S


@dataclass(frozen=True)
class Source:
    """One event's source: corner and resonance [Hz], decay of its coda [s], magnitude, seed of its scattering."""

    corner: float
    resonance: float
    coda: float
    magnitude: float
    scattering: int

    def spectrum(self, frequency: Array) -> Array:
        """Velocity spectrum (frequency,) of Brune (1970) with a weak resonance; its mean square is 1."""
        brune = (frequency / self.corner) / (1 + (frequency / self.corner) ** 2)
        bump = np.exp(-0.5 * (np.log(np.maximum(frequency, 1e-6) / self.resonance) / 0.15) ** 2)
        spectrum = brune * (1 + bump)
        return np.asarray(spectrum / np.sqrt(np.mean(spectrum**2)))

    def motion(self, ray: Ray, station: int, *, n_samples: int, sampling_rate: float, origin: float) -> Array:
        """Velocity (sample,) at a station: see `ground_motion`."""
        return ground_motion(self, ray, station, n_samples=n_samples, sampling_rate=sampling_rate, origin=origin)


@dataclass(frozen=True)
class Family:
    """Means of a family: corner and resonance [Hz], decay of the coda [s]."""

    corner: float
    resonance: float
    coda: float

    def source(self, shared: np.random.Generator, own: np.random.Generator) -> Source:
        """An event of the family: `shared` draws what repeaters have in common, `own` the rest."""
        corner, resonance, coda = np.exp(shared.normal(0, (0.12, 0.05, 0.15)))
        scattering = int(shared.integers(2**31))
        corner *= np.exp(own.normal(0, 0.03))
        # Gutenberg-Richter with b = 1 from 1.0 on, cut off at 2.5.
        magnitude = 1.0 - np.log10(1 - own.random() * (1 - 10**-1.5))
        return Source(self.corner * corner, self.resonance * resonance, self.coda * coda, float(magnitude), scattering)


def families(n_families: int, sampling_rate: float) -> tuple[Family, ...]:
    """Families from low and long to high and short; at 100 Hz, corners of 3 to 9 Hz and codas of 3 to 1 s."""
    place = np.linspace(0, 1, n_families) if n_families > 1 else np.array([0.5])
    return tuple(
        Family(0.03 * sampling_rate * 3.0**x, 0.05 * sampling_rate * 3.0**x, 3.0 * 3.0 ** (-x)) for x in place.tolist()
    )


def ground_motion(
    source: Source, ray: Ray, station: int, *, n_samples: int, sampling_rate: float, origin: float
) -> Array:
    """Velocity (sample,) at a station, relative to S of magnitude 1.5 at 1 km; `origin` in s after the first sample."""
    rng = np.random.default_rng([source.scattering, station])
    n = 2 * n_samples
    frequency = np.fft.rfftfreq(n, 1 / sampling_rate)
    total = np.zeros(n)
    for share, seconds, velocity in ((_P_SHARE, ray.p_seconds, VP_KM_S), (1.0, ray.s_seconds, VS_KM_S)):
        attenuation = np.exp(-np.pi * frequency * ray.distance_km / (_QUALITY_FACTOR * velocity))
        shape = source.spectrum(frequency) * attenuation
        scattered = _coda(n, sampling_rate, origin + seconds, source.coda * share**0.5, rng)
        total += share * np.fft.irfft(np.fft.rfft(scattered) * shape, n)
    size = 10 ** (source.magnitude - _REFERENCE_MAGNITUDE)
    return np.asarray(size / ray.distance_km * total[:n_samples])


def _coda(n_samples: int, sampling_rate: float, onset: float, decay: float, rng: np.random.Generator) -> Array:
    """Random scattering under an envelope that rises at `onset` [s] and decays in `decay` [s].

    The scattering is drawn along time after the onset, so that repeaters keep it when the window moves.
    """
    series = rng.standard_normal(n_samples)
    first = int(np.ceil(onset * sampling_rate))
    if first >= n_samples:
        return np.zeros(n_samples)
    after = (np.arange(first, n_samples) - onset * sampling_rate) / sampling_rate
    result = np.zeros(n_samples)
    result[first:] = series[: n_samples - first] * np.exp(-after / decay) * (1 - np.exp(-after / _RISE_SECONDS))
    return result


def noise_samples(n_samples: int, sampling_rate: float, rng: np.random.Generator) -> Array:
    """Coloured noise (sample,) of root mean square 1: white above a fiftieth of the sampling rate, louder below."""
    frequency = np.fft.rfftfreq(2 * n_samples, 1 / sampling_rate)
    shape = 1 + 2 / (0.2 + frequency / (0.02 * sampling_rate))
    shape[0] = 0.0
    coloured = np.fft.irfft(np.fft.rfft(rng.standard_normal(2 * n_samples)) * shape)[:n_samples]
    return np.asarray(coloured / np.sqrt(np.mean(coloured**2)))


def add_glitch(samples: Array, sampling_rate: float, rng: np.random.Generator) -> None:
    """Add to `samples`, in place, a step that decays: an instrument's glitch of 3 to 10 times the peak."""
    first = int(rng.integers(samples.size // 10, 9 * samples.size // 10))
    size = rng.choice((-1.0, 1.0)) * rng.uniform(3, 10) * np.abs(samples).max()
    samples[first:] += size * np.exp(-np.arange(samples.size - first) / (0.3 * sampling_rate))
