"""Make a seeded archive of synthetic earthquakes with known families, to try the chain on."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.simulated_files import Event, Station, event_file, quakeml, station_xml
from specufex_dask.simulated_waves import Family, Source, add_glitch, families, ground_motion, noise_samples

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

_LEAD_SHARE = 0.15
_LATITUDE, _LONGITUDE, _DEPTH_M = 37.0, -121.5, 6000
_KM_PER_DEGREE = 111.195
_FIRST_ORIGIN_NS = int(np.datetime64("2024-01-01T00:00:00", "ns").astype(np.int64))
_SEQUENCE_LENGTHS = (2, 6)
_COUNTS = 2500.0


@dataclass(frozen=True)
class Simulation:
    """What `simulate` wrote: paths, the template of the archive, and the settings needed to open it.

    ``truth`` is a CSV file of event_id, family (0 …), sequence (-1 = none) and kind
    (``repeater`` or ``single``); ``truth_records`` one of event_id, station_id and kind
    (``plain``, ``missing``, ``glitch`` or ``other_event``).
    """

    folder: str
    catalog: str
    quakeml: str
    stations: str
    archive: str
    truth: str
    truth_records: str
    sampling_rate: float
    n_samples: int


@dataclass(frozen=True)
class _Plan:
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


def simulate(
    path: str | os.PathLike[str],
    *,
    n_events: int = 200,
    n_stations: int = 3,
    n_families: int = 3,
    missing: float = 0.0,
    contaminated: float = 0.0,
    sampling_rate: float = 100.0,
    duration: float = 20.0,
    noise: float = 0.02,
    repeating: float = 0.5,
    seed: int,
    overwrite: bool = False,
) -> Simulation:
    """Write a catalogue, stations and a miniSEED archive of earthquakes whose families are known.

    All events come from one place, 6 km deep, so that distance does not tell the families apart;
    they differ in corner frequency, in a weak resonance and in how long they ring, and the events
    of a family scatter about its mean. A record is P and S waves with a coda of random scattering
    under an exponential envelope, shaped by the source, by distance and by attenuation
    (Brune 1970), in coloured noise. The events of a sequence share their scattering: they are
    repeaters.

    Parameters
    ----------
    path : path
        Folder to write to: ``waveforms/{event_id}.mseed`` (Steim-2, all stations),
        ``catalog.csv``, ``catalog.xml`` (QuakeML, with P and S picks), ``stations.xml``
        (StationXML), ``truth.csv``, ``truth_records.csv``.
    n_events, n_stations, n_families : int
        How many of each.
    missing : float
        Share of the records that are absent from the archive.
    contaminated : float
        Share of the records with a glitch, or with a second event of another family.
    sampling_rate : float
        [Hz]
    duration : float
        Length of a file [s]; it begins 15 % of this before the origin time.
    noise : float
        Root mean square of the noise, relative to the S amplitude of an event of magnitude 1.5
        at the nearest station (2,500 counts).
    repeating : float
        Share of the events that are in sequences (of two to six).
    seed : int
        Equal seeds and parameters give equal bytes.
    overwrite : bool
        Replace an earlier simulation in `path`.

    Returns
    -------
    Simulation
        The paths. One event is held in memory at a time.

    Raises
    ------
    ValueError
        A parameter is out of its range.
    FileExistsError
        There is a simulation in `path` already.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     made = simulate(folder, n_events=4, n_stations=2, seed=0)
    ...     sorted(entry.name for entry in Path(folder).iterdir())
    ['catalog.csv', 'catalog.xml', 'stations.xml', 'truth.csv', 'truth_records.csv', 'waveforms']
    """
    _check(locals())
    rng = np.random.default_rng(seed)
    plan = _Plan(
        n_events, families(n_families, sampling_rate), _stations(n_stations, sampling_rate, rng),
        missing, contaminated, sampling_rate, round(duration * sampling_rate), _LEAD_SHARE * duration,
        noise, repeating, seed,
    )  # fmt: skip
    made = _paths(Path(path), plan)
    _make_room(made, overwrite=overwrite)
    Path(made.stations).write_bytes(station_xml(plan.stations, sampling_rate))
    _write_events(plan, made, rng)
    return made


def _check(given: dict[str, Any]) -> None:
    for name in ("n_events", "n_stations", "n_families"):
        if given[name] < 1:
            msg = f"got {name}={given[name]!r}, expected 1 or more: correct it."
            raise ValueError(msg)
    for name in ("missing", "contaminated", "repeating"):
        if not 0 <= given[name] <= 1:
            msg = f"got {name}={given[name]!r}, expected a share from 0 to 1: correct it."
            raise ValueError(msg)
    for name in ("sampling_rate", "duration", "noise"):
        if not given[name] > 0:
            msg = f"got {name}={given[name]!r}, expected a number above 0: correct it."
            raise ValueError(msg)


def _paths(folder: Path, plan: _Plan) -> Simulation:
    return Simulation(
        folder=str(folder),
        catalog=str(folder / "catalog.csv"),
        quakeml=str(folder / "catalog.xml"),
        stations=str(folder / "stations.xml"),
        archive=str(folder / "waveforms" / "{event_id}.mseed"),
        truth=str(folder / "truth.csv"),
        truth_records=str(folder / "truth_records.csv"),
        sampling_rate=plan.sampling_rate,
        n_samples=plan.n_samples,
    )


def _make_room(made: Simulation, *, overwrite: bool) -> None:
    waveforms = Path(made.archive).parent
    waveforms.mkdir(parents=True, exist_ok=True)
    earlier = sorted(waveforms.glob("sim*.mseed"))
    if (earlier or Path(made.catalog).exists()) and not overwrite:
        msg = (
            f"got path={made.folder!r}, where there is a catalogue or a simulation already, expected a new folder: "
            f"choose another, or pass overwrite=True."
        )
        raise FileExistsError(msg)
    for file in earlier:
        file.unlink()


def _stations(n_stations: int, sampling_rate: float, rng: np.random.Generator) -> tuple[Station, ...]:
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


def _events(plan: _Plan, rng: np.random.Generator) -> Iterator[tuple[Event, Source]]:
    """The events in time order; a sequence's events lie anywhere in the catalogue."""
    sequences = _sequences(plan, rng)
    family_of = rng.integers(len(plan.families), size=plan.n_events)
    origin_ns = _FIRST_ORIGIN_NS
    for i, sequence in enumerate(sequences.tolist()):
        # What the events of a sequence share comes from the sequence's own random numbers.
        shared = np.random.default_rng([plan.seed, 1, sequence if sequence >= 0 else plan.n_events + i])
        own = np.random.default_rng([plan.seed, 2, i])
        family = int(family_of[sequence] if sequence >= 0 else family_of[i])
        origin_ns += round(own.exponential(6 * 3600) * 1000 + 120_000) * 1_000_000
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


def _sequences(plan: _Plan, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """The sequence of each event (event,), -1 for none."""
    sequences = np.full(plan.n_events, -1)
    order = rng.permutation(plan.n_events)[: round(plan.repeating * plan.n_events)]
    number = 0
    while order.size >= _SEQUENCE_LENGTHS[0]:
        length = int(rng.integers(_SEQUENCE_LENGTHS[0], _SEQUENCE_LENGTHS[1], endpoint=True))
        sequences[order[:length]] = number
        order, number = order[length:], number + 1
    return sequences


def _write_events(plan: _Plan, made: Simulation, rng: np.random.Generator) -> None:
    with (
        Path(made.catalog).open("w", newline="", encoding="utf-8") as catalog,
        Path(made.truth).open("w", newline="", encoding="utf-8") as truth,
        Path(made.truth_records).open("w", newline="", encoding="utf-8") as records,
        quakeml(made.quakeml) as add_event,
    ):
        events_out, truth_out, records_out = (
            csv.writer(file, lineterminator="\n") for file in (catalog, truth, records)
        )
        events_out.writerow(["event_id", "origin_time", "latitude", "longitude", "depth_km", "magnitude"])
        truth_out.writerow(["event_id", "family", "sequence", "kind"])
        records_out.writerow(["event_id", "station_id", "kind"])
        for i, (event, source) in enumerate(_events(plan, rng)):
            add_event(event, plan.stations)
            events_out.writerow(event.row)
            truth_out.writerow([event.event_id, event.family, event.sequence, event.kind])
            written = dict(_records(plan, event, source, i))
            records_out.writerows([event.event_id, name, kind] for name, (kind, _) in written.items())
            traces = {name: samples for name, (kind, samples) in written.items() if kind != "missing"}
            if traces:
                start_ns = event.origin_ns - round(plan.lead * 1000) * 1_000_000
                event_file(made.archive.format(event_id=event.event_id), traces, start_ns, plan.sampling_rate)


def _records(
    plan: _Plan, event: Event, source: Source, index: int
) -> Iterator[tuple[str, tuple[str, np.ndarray[Any, Any]]]]:
    """Kind and samples [counts] of the event at each station."""
    nearest = min(event.ray_to(each).distance_km for each in plan.stations)
    shape: dict[str, Any] = {"n_samples": plan.n_samples, "sampling_rate": plan.sampling_rate}
    for number, station in enumerate(plan.stations):
        rng = np.random.default_rng([plan.seed, 3, index, number])
        kind = _kind(plan, rng)
        ray = event.ray_to(station)
        x = ground_motion(source, ray, number, **shape, origin=plan.lead)
        if kind == "other_event":
            other = plan.families[(event.family + 1) % len(plan.families)].source(rng, rng)
            later = plan.lead + rng.uniform(0.1, 0.5) * plan.n_samples / plan.sampling_rate
            x += ground_motion(other, ray, number, **shape, origin=later)
        x += plan.noise / nearest * noise_samples(plan.n_samples, plan.sampling_rate, rng)
        if kind == "glitch":
            add_glitch(x, plan.sampling_rate, rng)
        yield station.station_id, (kind, np.rint(x * (_COUNTS * nearest)).astype(np.int32))


def _kind(plan: _Plan, rng: np.random.Generator) -> str:
    absent, spoilt, glitch = rng.random(3)
    if absent < plan.missing:
        return "missing"
    if spoilt < plan.contaminated:
        return "glitch" if glitch < 0.5 else "other_event"  # noqa: PLR2004 - one half each
    return "plain"
