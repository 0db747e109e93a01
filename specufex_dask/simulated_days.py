"""Write a simulation as a public archive holds it: a file for each channel and day, with the faults of real ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.simulated_events import COUNTS, DAY_NS, FIRST_DAY_NS, Plan, draw_record
from specufex_dask.simulated_layouts import key
from specufex_dask.simulated_records import HEADER, RECORD_BYTES, records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from specufex_dask.simulated_files import Event
    from specufex_dask.simulated_records import Clock
    from specufex_dask.simulated_waves import Source

Array = np.ndarray[Any, Any]
DEFECTS = ("gap", "missing_day", "truncated")
"""What happens to channel-days, in turn."""
DAY_STARTS_NS = 19_500_000
"""The first sample of a day's file comes so long after midnight [ns], as in the files of SCEDC."""

_RANKS = ("missing", "missing_day", "truncated", "gap")  # a record has the first that is true of it
_TAPER_SHARE = 0.05
_LOW_PASS, _LOW_SHARE = 0.97, 0.3  # the noise is white above a two-hundredth of the sampling rate, louder below
_LEVELS, _LEVEL_RANGE = 144, (-3.0, 0.75)  # a day's noise grows and falls, so records hold more or fewer samples
_OTHER_GAPS_S = (1.0, 600.0)
_KEPT_SHARE = (0.3, 0.8)


@dataclass(frozen=True)
class _Record:
    """A record as the days see it: its first sample, counted from the first day's, its kind and samples [counts]."""

    index: int
    first: int
    kind: str
    samples: Array


@dataclass
class _ChannelDay:
    """What is being written: number of the station and of the day, the spans [samples] that it lacks."""

    station: int
    day: int
    defect: str
    lacks: list[tuple[int, int, str]] = field(default_factory=list)


def write_days(plan: Plan, events: Sequence[tuple[Event, Source]], folder: Path) -> Iterator[list[str]]:
    """Write the files of all channels and days below `folder`; give the kinds of each event's records in turn.

    One channel-day is in memory at a time.
    """
    n_day = samples_of_day(plan.sampling_rate)
    firsts = np.array([_first_sample(plan, event) for event, _ in events])
    n_days = int(firsts.max() + plan.n_samples - 1) // n_day + 1
    defects = _defects(plan, n_days)
    found: dict[tuple[int, int], set[str]] = {}
    for day in range(n_days):
        for station in range(len(plan.stations)):
            here = _ChannelDay(station, day, defects.get((station, day), ""))
            inside = np.flatnonzero((firsts + plan.n_samples > day * n_day) & (firsts < (day + 1) * n_day)).tolist()
            drawn = [_record(plan, *events[i], (i, station), int(firsts[i])) for i in inside]
            _write_day(plan, here, drawn, folder)
            for record in drawn:
                found.setdefault((record.index, station), {record.kind}).update(_lost(here, record, plan, n_day))
    for i in range(len(events)):
        yield [_kind(found[i, station]) for station in range(len(plan.stations))]


def samples_of_day(sampling_rate: float) -> int:
    """How many samples a day has; raise unless that is a whole number."""
    n_samples = round(sampling_rate * 86_400)
    if abs(n_samples - sampling_rate * 86_400) > 1e-6:  # noqa: PLR2004 - rounding
        msg = (
            f"got sampling_rate={sampling_rate!r}, expected a whole number of samples a day in files of a day: "
            f"choose such a rate, or layout='events'."
        )
        raise ValueError(msg)
    return n_samples


def day_clock(day_ns: int, sampling_rate: float) -> Clock:
    """Numbers of samples to their times [ns since 1970] in the file of the day that begins at `day_ns`."""
    n_samples = samples_of_day(sampling_rate)
    period, rest = divmod(DAY_NS, n_samples)  # number * DAY_NS does not fit into 64 bits
    return lambda number: np.asarray(day_ns + DAY_STARTS_NS + number * period + number * rest // n_samples)


def day_noise(sampling_rate: float, rng: np.random.Generator) -> Array:
    """Noise (sample,) of a day, float32 of root mean square 1, the louder the lower; its level moves in ten minutes."""
    from scipy.signal import lfilter

    n_samples = samples_of_day(sampling_rate)
    white = rng.standard_normal(n_samples, dtype=np.float32)
    low = lfilter(np.array([_LOW_SHARE], np.float32), np.array([1, -_LOW_PASS], np.float32), white)
    low += white
    low *= np.repeat(np.exp(rng.uniform(*_LEVEL_RANGE, _LEVELS)).astype(np.float32), -(-n_samples // _LEVELS))[
        :n_samples
    ]
    low /= np.sqrt(np.mean(low * low))
    return np.asarray(low, np.float32)


def day_file(
    samples: Array,
    lacks: Sequence[tuple[int, int]],
    *,
    station_id: str,
    clock: Clock,
    sampling_rate: float,
    rng: np.random.Generator,
) -> tuple[Array, Array]:
    """The records (record,) of a day's `samples` (sample,) [counts] without some spans, and the first sample of each.

    The rest is as in `records`.
    """
    keep = np.ones(samples.size + 2, bool)
    keep[[0, -1]] = False
    for first, end in lacks:
        keep[1 + max(first, 0) : 1 + max(end, 0)] = False
    edges = np.flatnonzero(np.diff(keep.astype(np.int8)))
    made, starts = [], []
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        part = records(samples[first:end], station_id, _later(clock, first), sampling_rate, rng)
        made.append(part)
        starts.append(first + np.concatenate(([0], np.cumsum(part["n_samples"], dtype=np.int64)[:-1])))
    whole = np.concatenate(made, dtype=HEADER)  # which would else turn the bytes round
    whole["number"] = [b"%06d" % (i % 1_000_000 + 1) for i in range(whole.size)]
    return whole, np.concatenate(starts)


def _later(clock: Clock, first: int) -> Clock:
    """The clock of samples of which number 0 is number `first` of `clock`."""
    return lambda number: clock(first + number)


def _first_sample(plan: Plan, event: Event) -> int:
    """The first sample of the event's window, counted from the first of all days."""
    since = event.origin_ns - round(plan.lead * 1000) * 1_000_000 - FIRST_DAY_NS - DAY_STARTS_NS
    return max(-(-since * samples_of_day(plan.sampling_rate) // DAY_NS), 0)


def _record(plan: Plan, event: Event, source: Source, place: tuple[int, int], first: int) -> _Record:
    n_day = samples_of_day(plan.sampling_rate)
    lead = (event.origin_ns - FIRST_DAY_NS - DAY_STARTS_NS - first * DAY_NS // n_day) / 1e9
    kind, samples = draw_record(plan, event, source, place, lead=lead, noise=False)
    n_taper = max(round(_TAPER_SHARE * plan.n_samples), 1)
    samples[-n_taper:] *= np.cos(np.linspace(0, np.pi / 2, n_taper))
    return _Record(place[0], first, kind, samples)


def _defects(plan: Plan, n_days: int) -> dict[tuple[int, int], str]:
    """(station, day) → what is wrong with it."""
    n_files = n_days * len(plan.stations)
    order = np.random.default_rng([plan.seed, 4]).permutation(n_files)[: round(plan.defects * n_files)]
    return {
        (int(file) % len(plan.stations), int(file) // len(plan.stations)): DEFECTS[i % len(DEFECTS)]
        for i, file in enumerate(order)
    }


def _write_day(plan: Plan, here: _ChannelDay, drawn: Sequence[_Record], folder: Path) -> None:
    rng, n_day = np.random.default_rng([plan.seed, 5, here.day, here.station]), samples_of_day(plan.sampling_rate)
    offset = here.day * n_day
    day_ns, station_id = FIRST_DAY_NS + here.day * DAY_NS, plan.stations[here.station].station_id
    here.lacks += [
        (r.first - offset, r.first - offset + plan.n_samples, "missing") for r in drawn if r.kind == "missing"
    ]
    if here.defect == "missing_day":
        here.lacks.append((0, n_day, "missing_day"))
        return
    if here.defect == "gap":
        here.lacks += _gaps(plan, [record.first - offset for record in drawn], rng)
    x = day_noise(plan.sampling_rate, rng)
    x *= np.float32(plan.noise * COUNTS)
    for record in drawn:
        first, end = max(record.first - offset, 0), min(record.first - offset + plan.n_samples, n_day)
        x[first:end] += record.samples[first + offset - record.first : end + offset - record.first]
    made, starts = day_file(
        np.rint(x, out=x).astype(np.int32),
        [span[:2] for span in here.lacks],
        station_id=station_id,
        clock=day_clock(day_ns, plan.sampling_rate),
        sampling_rate=plan.sampling_rate,
        rng=rng,
    )
    content = made.tobytes()
    if here.defect == "truncated":
        # In the middle of a record: none of its samples can be read.
        n_whole = int(rng.uniform(*_KEPT_SHARE) * made.size)
        content = content[: n_whole * RECORD_BYTES + int(rng.integers(1, RECORD_BYTES))]
        here.lacks.append((int(starts[n_whole]), n_day, "truncated"))
    path = folder / key(plan.layout, day_ns, station_id=station_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _gaps(plan: Plan, firsts: Sequence[int], rng: np.random.Generator) -> list[tuple[int, int, str]]:
    """Three gaps: one begins in a record, where the day has any, two lie anywhere."""
    n_day, rate = samples_of_day(plan.sampling_rate), plan.sampling_rate
    begins = rng.integers(n_day, size=3).tolist()
    lengths = (rng.uniform(*_OTHER_GAPS_S, 3) * rate).astype(int).tolist()
    if firsts:
        begins[0] = max(int(rng.choice(firsts)), 0) + int(rng.uniform(0.2, 0.6) * plan.n_samples)
        lengths[0] = round(rng.uniform(0.1, 0.5) * plan.n_samples)
    return [(begin, min(begin + length, n_day), "gap") for begin, length in zip(begins, lengths, strict=True)]


def _lost(here: _ChannelDay, record: _Record, plan: Plan, n_day: int) -> set[str]:
    """What the day lacks of the record."""
    first = record.first - here.day * n_day
    begin, end = max(first, 0), min(first + plan.n_samples, n_day)
    return {kind for start, stop, kind in here.lacks if start < end and begin < stop and kind != "missing"}


def _kind(found: set[str]) -> str:
    """The kind of a record of which all of `found` is true."""
    return next((kind for kind in _RANKS if kind in found), None) or min(found)
