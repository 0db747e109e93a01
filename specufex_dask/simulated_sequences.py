"""Draw a catalogue of repeating earthquakes and of those that are easily taken for them, on one fault."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.rupture import recurrence_line, seismic_moment, source_radius
from specufex_dask.simulated_events import FIRST_DAY_NS, Plan
from specufex_dask.simulated_patches import FRAME, MODEL, FaultEvent, FaultSource, rays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specufex_dask.simulated_files import Event
    from specufex_dask.simulated_waves import Source

Array = np.ndarray[Any, np.dtype[Any]]

KINDS = ("repeater", "near", "impostor", "single")
"""What an event is: of a sequence; beside one, without overlap; alike but elsewhere; or none of these."""

_DAY_S, _SECOND_NS, _M_PER_KM = 86_400.0, 10**9, 1000.0
_REFERENCE_KM = 20.0
_STRIKE = np.array([np.sin(np.radians(140)), np.cos(np.radians(140)), 0.0])
_DOWN = np.array([0.0, 0.0, 1.0])
_HALF_LENGTH_KM, _DEPTHS_KM, _THICKNESS_KM = 6.0, (3.0, 9.0), 0.03
_MAGNITUDES = 1.2, 2.7
_LARGEST_MEAN_LENGTH = 7.0
_INTERVAL_SCATTER, _LOADING_SCATTER = 0.3, 0.2
_IN_PATCH = 0.1  # standard deviation of a repeater's place, in radii
_NEIGHBOURS = 3.0, 8.0  # distances in radii: rupture areas do not overlap
_NEIGHBOUR_SHARE = 0.15  # of the sequences, beside another one
_GOLDEN = 0.618
_ELSEWHERE_KM = 0.6, 3.0
_IMPOSTOR_KM = 0.04  # an impostor's waves are as alike as at this distance
_BIAS_KM = np.array([0.12, -0.2, 0.3])
_PLACE_KM = np.array([0.008, 0.008, 0.012])
_LATE_S, _PICK_S = 0.03, np.array([0.02, 0.04])
_MAGNITUDE_ERROR = 0.04


@dataclass(frozen=True)
class FaultPlan(Plan):
    """A plan with sequences: their number, and the file for what is true of each source."""

    n_sequences: int
    sources: str

    def nearest_km(self, event: Event) -> float:  # noqa: ARG002 - amplitudes hang on distance alone
        """The distance at which an event of magnitude 1.5 has the amplitude that noise is relative to."""
        return _REFERENCE_KM


@dataclass
class _Sources:
    """All sources, in order of time: `like` is the patch that a source resembles, `patch` its own."""

    seconds: Array
    kind: Array
    patch: Array
    like: Array
    apart_km: Array
    place: Array
    magnitude: Array

    def ordered(self) -> _Sources:
        """The earliest first."""
        order = np.argsort(self.seconds, kind="stable")
        return _Sources(**{name: values[order] for name, values in vars(self).items()})

    @classmethod
    def joined(cls, parts: list[_Sources]) -> _Sources:
        """All of several."""
        return cls(**{name: np.concatenate([getattr(each, name) for each in parts]) for name in vars(parts[0])})


def draw_fault_events(plan: FaultPlan, rng: np.random.Generator) -> Iterator[tuple[Event, Source]]:
    """The events in time order; what is true of each is written as it passes."""
    found = _sources(plan, rng)
    family = rng.integers(len(plan.families), size=int(found.patch.max()) + 1)
    with Path(plan.sources).open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(
            ["event_id", "origin_time", "latitude", "longitude", "depth_km", "magnitude", "radius_m", "resembles"]
        )
        for i in range(plan.n_events):
            own = np.random.default_rng([plan.seed, 2, i])
            event = _event(plan, found, i, int(family[found.like[i]]), own)
            out.writerow(_true_row(event, found, i, plan.n_sequences))
            yield event, _source(plan, found, i, event.family, own)


def write_velocities(path: str) -> None:
    """Write the layers that the travel times were made with."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["top_km", "p_km_s", "s_km_s"])
        out.writerows(zip(MODEL.top_km, MODEL.p_km_s, (round(s, 6) for s in MODEL.s_km_s), strict=True))


def _sources(plan: FaultPlan, rng: np.random.Generator) -> _Sources:
    """Sequences, then neighbours and impostors of them, then single events up to the number asked for."""
    mean_length = min(_LARGEST_MEAN_LENGTH, plan.n_events / plan.n_sequences / 2)
    span = mean_length * float(recurrence_line(seismic_moment(np.array(1.5)))) * _DAY_S
    patches = _patches(plan.n_sequences, rng)
    repeaters = _repeaters(patches, span, plan.n_events, rng)
    left = plan.n_events - len(repeaters.seconds)
    n_near, n_impostors = min(2 * plan.n_sequences, left // 2), min(plan.n_sequences, left // 4)
    parts = [repeaters]
    for kind, number in ((1, n_near), (2, n_impostors), (3, left - n_near - n_impostors)):
        first = plan.n_sequences + sum(len(each.seconds) for each in parts[1:])
        parts.append(_others(patches, kind, np.arange(first, first + number), span, rng))
    return _Sources.joined(parts).ordered()


def _patches(n: int, rng: np.random.Generator) -> _Sources:
    """The patches of the sequences, some beside another one; their times are mean intervals [s]."""
    magnitude, place = _magnitudes(n, rng), _places(n, rng)
    like, apart = np.arange(n), np.zeros(n)
    n_beside = int(_NEIGHBOUR_SHARE * n)
    beside = rng.permutation(n - n_beside)[:n_beside]
    if n_beside:
        magnitude[-n_beside:] = magnitude[beside]
        place[-n_beside:], apart[-n_beside:] = _beside(place[beside], magnitude[beside], beside + 2 * n, n, rng)
        like[-n_beside:] = beside
    interval = recurrence_line(seismic_moment(magnitude)) * np.exp(rng.normal(0, _LOADING_SCATTER, n)) * _DAY_S
    return _Sources(interval, np.zeros(n, np.int64), np.arange(n), like, apart, place, magnitude)


def _repeaters(patches: _Sources, span: float, n_events: int, rng: np.random.Generator) -> _Sources:
    """The events of the sequences: their patch, with some scatter, again and again."""
    times = [_recurring(interval, span, rng) for interval in patches.seconds.tolist()]
    while sum(map(len, times)) > n_events:
        longest = int(np.argmax([len(each) for each in times]))
        times[longest] = times[longest][:-1]
    patch = np.repeat(np.arange(len(times)), [len(each) for each in times])
    radius = source_radius(patches.magnitude[patch]) / _M_PER_KM
    scatter = rng.normal(0, _IN_PATCH, (len(patch), 2)) * radius[:, None]
    place = patches.place[patch] + scatter[:, :1] * _STRIKE + scatter[:, 1:] * _DOWN
    magnitude = patches.magnitude[patch] + np.clip(rng.normal(0, 0.07, len(patch)), -0.15, 0.15)
    return _Sources(
        np.concatenate(times), np.zeros(len(patch), np.int64), patch, patches.like[patch], patches.apart_km[patch],
        place, magnitude,
    )  # fmt: skip


def _recurring(interval: float, span: float, rng: np.random.Generator) -> Array:
    """Times [s] at which a patch ruptures within `span` [s], two at least."""
    intervals = interval * np.exp(rng.normal(0, _INTERVAL_SCATTER, 4 + int(3 * span / interval)))
    times = np.cumsum(intervals) - interval * rng.uniform(0, 2)
    inside = times[(times >= 0) & (times < span)]
    return inside if len(inside) > 1 else span * np.array([rng.uniform(0, 0.4), rng.uniform(0.6, 1)])


def _others(patches: _Sources, kind: int, patch: Array, span: float, rng: np.random.Generator) -> _Sources:
    """Sources that do not repeat: `kind` is the position in `KINDS`, `patch` their own patches."""
    n = len(patch)
    if KINDS[kind] == "single":
        like, apart, place, magnitude = patch, np.zeros(n), _places(n, rng), _magnitudes(n, rng)
    else:
        turn = np.arange(n)
        model = turn % len(patches.patch)
        like, magnitude = patches.like[model], patches.magnitude[model] + rng.normal(0, 0.1, n)
        place, apart = _beside(patches.place[model], patches.magnitude[model], turn, len(patches.patch), rng)
        if KINDS[kind] == "impostor":
            away = rng.uniform(*_ELSEWHERE_KM, n) * rng.choice([-1, 1], n)
            place, apart = patches.place[model] + away[:, None] * _STRIKE, np.full(n, _IMPOSTOR_KM)
        apart = np.hypot(apart, patches.apart_km[model])
    return _Sources(rng.uniform(0, span, n), np.full(n, kind), patch, like, apart, place, magnitude)


def _places(n: int, rng: np.random.Generator) -> Array:
    """Places (source, 3) [km east, north, down] anywhere on the fault, which is vertical and thin."""
    along, off = rng.uniform(-_HALF_LENGTH_KM, _HALF_LENGTH_KM, (n, 1)), rng.normal(0, _THICKNESS_KM, (n, 1))
    return np.asarray(along * _STRIKE + off * np.cross(_STRIKE, _DOWN) + rng.uniform(*_DEPTHS_KM, (n, 1)) * _DOWN)


def _beside(place: Array, magnitude: Array, turn: Array, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Places on the fault beside those of `n` patches, and how far [km] from them: no two ruptures overlap.

    Those beside one patch, whose numbers `turn` are the patch's, that and `n`, and so on, lie a
    third of a circle apart.
    """
    apart = rng.uniform(*_NEIGHBOURS, len(place)) * source_radius(magnitude) / _M_PER_KM
    angle = 2 * np.pi * (turn % n * _GOLDEN + turn // n / 3) + rng.uniform(-0.4, 0.4, len(place))
    along, down = apart * np.cos(angle), apart * np.sin(angle)
    return np.asarray(place + along[:, None] * _STRIKE + down[:, None] * _DOWN), apart


def _magnitudes(n: int, rng: np.random.Generator) -> Array:
    """Gutenberg-Richter with b = 1 between two bounds."""
    low, high = _MAGNITUDES
    return np.asarray(low - np.log10(1 - rng.random(n) * (1 - 10 ** (low - high))))


def _event(plan: FaultPlan, found: _Sources, i: int, family: int, rng: np.random.Generator) -> FaultEvent:
    """What the catalogue says of source `i`, and its picks."""
    late = float(rng.normal(0, _LATE_S))
    reached = rays(found.place[i], plan.stations, late)
    errors = rng.normal(0, _PICK_S, (len(reached), 2)).tolist()
    picked = {name: (ray.p + p, ray.s + s) for (name, ray), (p, s) in zip(reached.items(), errors, strict=True)}
    east, north, down = (found.place[i] + _BIAS_KM + rng.normal(0, _PLACE_KM)).tolist()
    latitude, longitude = FRAME.degrees(np.array([east]), np.array([north]))
    return FaultEvent(
        event_id=f"sim{i:06d}",
        origin_ns=FIRST_DAY_NS + round(found.seconds[i] * 1000) * 1_000_000,
        latitude=round(float(latitude[0]), 6),
        longitude=round(float(longitude[0]), 6),
        depth_m=round(down * _M_PER_KM),
        magnitude=round(float(found.magnitude[i] + rng.normal(0, _MAGNITUDE_ERROR)), 2),
        family=family,
        sequence=int(found.patch[i]) if found.kind[i] == 0 else -1,
        truth=KINDS[found.kind[i]],
        late=late,
        rays=reached,
        picked=picked,
    )


def _source(plan: FaultPlan, found: _Sources, i: int, family: int, own: np.random.Generator) -> FaultSource:
    """What radiates: spectrum and scattering of the patch that it resembles, a size of its own."""
    shared = np.random.default_rng([plan.seed, 1, int(found.like[i])])
    drawn = plan.families[family].source(shared, own)
    seed = int(np.random.default_rng([plan.seed, 6, int(found.patch[i])]).integers(2**31))
    drawn = replace(drawn, magnitude=float(found.magnitude[i]))
    return FaultSource(**vars(drawn), own=seed, apart_km=float(found.apart_km[i]))


def _true_row(event: FaultEvent, found: _Sources, i: int, n_sequences: int) -> list[object]:
    """The line of a source: time, place, size, and the sequence that it belongs to or resembles, -1 for none."""
    latitude, longitude = FRAME.degrees(found.place[i, :1], found.place[i, 1:2])
    time = np.datetime64(event.origin_ns + round(event.late * _SECOND_NS), "ns").astype("datetime64[us]")
    magnitude, resembles = float(found.magnitude[i]), int(found.patch[i] if found.kind[i] == 0 else found.like[i])
    return [
        event.event_id, str(time), round(float(latitude[0]), 7), round(float(longitude[0]), 7),
        round(float(found.place[i, 2]), 5), round(magnitude, 4),
        round(float(source_radius(np.array(magnitude))), 2), resembles if resembles < n_sequences else -1,
    ]  # fmt: skip
