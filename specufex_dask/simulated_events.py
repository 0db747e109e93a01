"""Draw the stations, the events and the records of a simulation from one seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.simulated_files import Event, Station
from specufex_dask.simulated_waves import Family, Source, add_glitch, noise_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specufex_dask.simulated_layouts import Layout

FIRST_DAY_NS = int(np.datetime64("2024-01-01T00:00:00", "ns").astype(np.int64))
"""Begin of the first day [ns since 1970]."""
DAY_NS = 86_400 * 10**9
"""A day [ns]."""
COUNTS = 2500.0
"""The S wave of magnitude 1.5 at the nearest station [counts]."""

_LATITUDE, _LONGITUDE, _DEPTH_M = 37.0, -121.5, 6000
_KM_PER_DEGREE = 111.195
_SEQUENCE_LENGTHS = (2, 6)
_MIDNIGHT_SHARE = (-0.6, 0.1)  # the last event of a day, in lengths of a window after midnight


@dataclass(frozen=True)
class Plan:
    """The choices of the user, and what follows from them for all events."""

    n_events: int
    families: tuple[Family, ...]
    stations: tuple[Station, ...]
    missing: float
    contaminated: float
    sampling_rate: float
    n_samples: int
    lead: float
    noise: float
    repeating: float
    seed: int
    layout: Layout
    events_per_day: int
    defects: float

    def nearest_km(self, event: Event) -> float:
        """Length of the shortest ray from the event [km]."""
        return min(event.ray_to(each).distance_km for each in self.stations)


def draw_stations(n_stations: int, sampling_rate: float, rng: np.random.Generator) -> tuple[Station, ...]:
    """Channels around the source, 5 to 15 km away."""
    channel = "HHZ" if sampling_rate >= 80 else "BHZ"  # noqa: PLR2004 - the band code of the SEED manual
    azimuths = 2 * np.pi * (np.arange(n_stations) + rng.uniform(-0.3, 0.3, n_stations)) / n_stations
    distances = np.linspace(5, 15, n_stations) if n_stations > 1 else np.array([8.0])
    heights = rng.integers(100, 900, n_stations)
    return tuple(
        Station(
            f"XX.S{i + 1:03d}..{channel}",
            round(_LATITUDE + float(distance * np.cos(azimuth)) / _KM_PER_DEGREE, 5),
            round(_LONGITUDE + float(distance * np.sin(azimuth) / np.cos(np.radians(_LATITUDE))) / _KM_PER_DEGREE, 5),
            float(height),
        )
        for i, (azimuth, distance, height) in enumerate(zip(azimuths, distances, heights, strict=True))
    )


def draw_events(plan: Plan, rng: np.random.Generator) -> Iterator[tuple[Event, Source]]:
    """The events in time order; a sequence's events lie anywhere in the catalogue."""
    sequences = _sequences(plan, rng)
    family_of = rng.integers(len(plan.families), size=plan.n_events)
    origin_ns = FIRST_DAY_NS
    for i, sequence in enumerate(sequences.tolist()):
        # What the events of a sequence share comes from the sequence's own random numbers.
        shared = np.random.default_rng([plan.seed, 1, sequence if sequence >= 0 else plan.n_events + i])
        own = np.random.default_rng([plan.seed, 2, i])
        family = int(family_of[sequence] if sequence >= 0 else family_of[i])
        origin_ns = _origin_ns(plan, i, origin_ns, own)
        north, east, down = shared.normal(0, 150, 3) + own.normal(0, 10, 3)
        source = plan.families[family].source(shared, own)
        yield (
            Event(
                f"sim{i:06d}",
                origin_ns,
                round(_LATITUDE + float(north) / 1000 / _KM_PER_DEGREE, 6),
                round(_LONGITUDE + float(east / np.cos(np.radians(_LATITUDE))) / 1000 / _KM_PER_DEGREE, 6),
                round(_DEPTH_M + float(down)),
                round(source.magnitude, 2),
                family,
                sequence,
            ),
            source,
        )


def _origin_ns(plan: Plan, i: int, earlier_ns: int, rng: np.random.Generator) -> int:
    """The time of event `i`: six hours or so after the one before, or in its share of a day."""
    if not plan.events_per_day:
        return earlier_ns + round(rng.exponential(6 * 3600) * 1000 + 120_000) * 1_000_000
    day, place = divmod(i, plan.events_per_day)
    if place == plan.events_per_day - 1:
        seconds = 86_400 + rng.uniform(*_MIDNIGHT_SHARE) * plan.n_samples / plan.sampling_rate
    else:
        seconds = (place + rng.uniform(0.25, 0.75)) * 86_400 / plan.events_per_day
    return FIRST_DAY_NS + day * DAY_NS + round(seconds * 1000) * 1_000_000


def _sequences(plan: Plan, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """The sequence of each event (event,), -1 for none."""
    sequences = np.full(plan.n_events, -1)
    order = rng.permutation(plan.n_events)[: round(plan.repeating * plan.n_events)]
    number = 0
    while order.size >= _SEQUENCE_LENGTHS[0]:
        length = int(rng.integers(_SEQUENCE_LENGTHS[0], _SEQUENCE_LENGTHS[1], endpoint=True))
        sequences[order[:length]] = number
        order, number = order[length:], number + 1
    return sequences


def draw_record(
    plan: Plan, event: Event, source: Source, place: tuple[int, int], *, lead: float, noise: bool
) -> tuple[str, np.ndarray[Any, Any]]:
    """The kind, and the samples (sample,) [counts] that begin `lead` s before the origin, at a station.

    `place` holds the numbers of the event and of the station, which choose the random numbers.
    """
    index, number = place
    nearest, ray = plan.nearest_km(event), event.ray_to(plan.stations[number])
    rng = np.random.default_rng([plan.seed, 3, index, number])
    kind = _kind(plan, rng)
    shape: dict[str, Any] = {"n_samples": plan.n_samples, "sampling_rate": plan.sampling_rate}
    x = source.motion(ray, number, **shape, origin=lead)
    if kind == "other_event":
        other = plan.families[(event.family + 1) % len(plan.families)].source(rng, rng)
        later = lead + rng.uniform(0.1, 0.5) * plan.n_samples / plan.sampling_rate
        x += other.motion(ray, number, **shape, origin=later)
    if noise:
        x += plan.noise / nearest * noise_samples(plan.n_samples, plan.sampling_rate, rng)
    if kind == "glitch":
        add_glitch(x, plan.sampling_rate, rng)
    return kind, x * (COUNTS * nearest)


def _kind(plan: Plan, rng: np.random.Generator) -> str:
    absent, spoilt, glitch = rng.random(3)
    if absent < plan.missing:
        return "missing"
    if spoilt < plan.contaminated:
        return "glitch" if glitch < 0.5 else "other_event"  # noqa: PLR2004 - one half each
    return "plain"
