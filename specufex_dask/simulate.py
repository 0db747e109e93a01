"""Make a seeded archive of synthetic earthquakes with known families, to try the chain on."""

from __future__ import annotations

import csv
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask import simulated_layouts
from specufex_dask.simulated_days import samples_of_day, write_days
from specufex_dask.simulated_events import Plan, draw_events, draw_record, draw_stations
from specufex_dask.simulated_files import Event, event_file, quakeml, station_xml
from specufex_dask.simulated_layouts import CONTINUOUS, PATTERNS, TEMPLATES, Layout, key
from specufex_dask.simulated_records import uneven_event_file
from specufex_dask.simulated_sequences import FaultPlan, draw_fault_events, write_velocities
from specufex_dask.simulated_waves import Source, families

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

_LEAD_SHARE = 0.15
_EVENTS_PER_DAY = 20
_WINDOWS_APART = 4.5  # so that no window holds two events, though the last of a day lies near midnight


@dataclass(frozen=True)
class Simulation:
    """What `simulate` wrote: paths, the template of the archive, and the settings needed to open it.

    ``truth`` is a CSV file of event_id, family (0 …), sequence (-1 = none) and kind
    (``repeater`` or ``single``, and with `n_sequences` also ``near`` or ``impostor``). With
    `n_sequences`, ``truth_sources`` has the true times, places, sizes and radii [m], and the
    sequence that each event belongs to or resembles; ``velocities`` the layers; else both are
    empty. ``truth_records`` one of event_id, station_id and kind: ``plain``,
    ``missing``, ``glitch`` or ``other_event``, and in files of a day ``gap``, ``missing_day`` or
    ``truncated`` for a record that such a defect touches anywhere.
    """

    folder: str
    catalog: str
    quakeml: str
    stations: str
    archive: str
    truth: str
    truth_records: str
    truth_sources: str
    velocities: str
    sampling_rate: float
    n_samples: int


def simulate(
    path: str | os.PathLike[str],
    *,
    n_events: int = 200,
    n_stations: int = 3,
    n_families: int = 3,
    n_sequences: int = 0,
    missing: float = 0.0,
    contaminated: float = 0.0,
    sampling_rate: float = 100.0,
    duration: float = 20.0,
    noise: float = 0.02,
    repeating: float = 0.5,
    layout: Layout = "events",
    events_per_day: int | None = None,
    defects: float = 0.0,
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

    With `n_sequences` the events lie on a fault 12 km long, in a layered Earth. The events of a
    sequence rupture one patch at times that scatter about the mean interval of their moment
    (`specufex_dask.rupture.recurrence_line`), with magnitudes within 0.15. Beside them are
    near ones, 3 to 8 source radii away, whose codas are the less alike the farther they lie and
    the higher the frequency, and impostors, alike but 0.6 to 3 km away. The catalogue's places, times
    and magnitudes and the picks carry errors: (8, 8, 12) m within the catalogue and 0.4 km of
    the whole, 0.03 s, 0.04, and 0.02 (P) and 0.04 s (S).

    Parameters
    ----------
    path : path
        Folder to write to: ``waveforms/`` (see `layout`), ``catalog.csv``, ``catalog.xml``
        (QuakeML, with P and S picks), ``stations.xml`` (StationXML), ``truth.csv``,
        ``truth_records.csv``.
    n_events, n_stations, n_families : int
        How many of each.
    n_sequences : int
        Sequences of true repeaters, in the mean of up to seven events; at most `n_events` / 4.
    missing : float
        Share of the records that are absent from the archive.
    contaminated : float
        Share of the records with a glitch, or with a second event of another family.
    sampling_rate : float
        [Hz]
    duration : float
        Length of a record [s]; it begins 15 % of this before the origin time.
    noise : float
        Root mean square of the noise, relative to the S amplitude of an event of magnitude 1.5
        at the nearest station (2,500 counts).
    repeating : float
        Share of the events that are in sequences (of two to six); of no effect with `n_sequences`.
    layout : {"events", "scedc", "scedc-events", "ncedc", "ncedc-events", "sds"}
        ``events``: ``{event_id}.mseed`` with all stations. ``scedc-events``, ``ncedc-events``: the
        same under the keys of these public buckets. ``scedc``, ``ncedc``, ``sds``: a file for each
        channel and day, with noise between the events, that begins 19.5 ms after midnight. All but
        ``events`` consist of 512-byte records of uneven fill with times to the microsecond.
    events_per_day : int, optional
        Events are spread over the days, and the window of a day's last one crosses midnight;
        20 in files of a day, otherwise they follow one another in six hours or so.
    defects : float
        Share of the files of a day that have, in turn, gaps, are missing, or end early in the
        middle of a record.
    seed : int
        Equal seeds and parameters give equal bytes.
    overwrite : bool
        Replace an earlier simulation in `path`.

    Returns
    -------
    Simulation
        The paths. One event, or one channel's day, is held in memory at a time.

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
    per_day = events_per_day or (_EVENTS_PER_DAY if layout in CONTINUOUS else 0)
    plan = Plan(
        n_events, families(n_families, sampling_rate), draw_stations(n_stations, sampling_rate, rng),
        missing, contaminated, sampling_rate, round(duration * sampling_rate), _LEAD_SHARE * duration,
        noise, repeating, seed, layout, per_day, defects,
    )  # fmt: skip
    made = _paths(Path(path), plan, on_fault=n_sequences > 0)
    _make_room(made, overwrite=overwrite)
    Path(made.stations).write_bytes(station_xml(plan.stations, sampling_rate))
    if n_sequences:
        plan = FaultPlan(**vars(plan), n_sequences=n_sequences, sources=made.truth_sources)
        write_velocities(made.velocities)
        _write(plan, made, draw_fault_events(plan, rng))
    else:
        _write(plan, made, draw_events(plan, rng))
    return made


def _check(given: dict[str, Any]) -> None:
    for name in ("n_events", "n_stations", "n_families"):
        if given[name] < 1:
            msg = f"got {name}={given[name]!r}, expected 1 or more: correct it."
            raise ValueError(msg)
    for name in ("missing", "contaminated", "repeating", "defects"):
        if not 0 <= given[name] <= 1:
            msg = f"got {name}={given[name]!r}, expected a share from 0 to 1: correct it."
            raise ValueError(msg)
    for name in ("sampling_rate", "duration", "noise"):
        if not given[name] > 0:
            msg = f"got {name}={given[name]!r}, expected a number above 0: correct it."
            raise ValueError(msg)
    simulated_layouts.check(given["layout"])
    _check_sequences(given["n_sequences"], given["n_events"], given["layout"])
    if given["layout"] in CONTINUOUS:
        samples_of_day(given["sampling_rate"])
    elif given["defects"]:
        msg = f"got defects={given['defects']!r} with layout={given['layout']!r}, expected 0 for files of events."
        raise ValueError(msg)
    _check_times(given["events_per_day"], given["layout"], given["duration"])


def _check_sequences(n_sequences: int, n_events: int, layout: Layout) -> None:
    if not 0 <= 4 * n_sequences <= n_events:
        msg = f"got n_sequences={n_sequences!r}, expected 0 to {n_events // 4} of {n_events} events: correct it."
        raise ValueError(msg)
    if n_sequences and layout in CONTINUOUS:
        msg = f"got n_sequences={n_sequences!r} with layout={layout!r}, expected 0 for files of days: they take years."
        raise ValueError(msg)


def _check_times(events_per_day: int | None, layout: Layout, duration: float) -> None:
    if events_per_day is None:
        events_per_day = _EVENTS_PER_DAY if layout in CONTINUOUS else 1
    most = int(86_400 / (_WINDOWS_APART * duration))
    if not 1 <= events_per_day <= most:
        msg = f"got events_per_day={events_per_day!r}, expected 1 to {most} of {duration} s each: correct it."
        raise ValueError(msg)


def _paths(folder: Path, plan: Plan, *, on_fault: bool) -> Simulation:
    return Simulation(
        folder=str(folder),
        catalog=str(folder / "catalog.csv"),
        quakeml=str(folder / "catalog.xml"),
        stations=str(folder / "stations.xml"),
        archive=str(folder / "waveforms" / TEMPLATES[plan.layout]),
        truth=str(folder / "truth.csv"),
        truth_records=str(folder / "truth_records.csv"),
        truth_sources=str(folder / "truth_sources.csv") if on_fault else "",
        velocities=str(folder / "velocities.csv") if on_fault else "",
        sampling_rate=plan.sampling_rate,
        n_samples=plan.n_samples,
    )


def _make_room(made: Simulation, *, overwrite: bool) -> None:
    waveforms = Path(made.folder) / "waveforms"
    waveforms.mkdir(parents=True, exist_ok=True)
    earlier = sorted(file for pattern in PATTERNS for file in waveforms.rglob(pattern))
    if (earlier or Path(made.catalog).exists()) and not overwrite:
        msg = (
            f"got path={made.folder!r}, where there is a catalogue or a simulation already, expected a new folder: "
            f"choose another, or pass overwrite=True."
        )
        raise FileExistsError(msg)
    for file in earlier:
        file.unlink()


def _write(plan: Plan, made: Simulation, drawn: Iterator[tuple[Event, Source]]) -> None:
    """Write the waveforms and the tables; of event files, one event is in memory at a time."""
    with _tables(made, plan) as add:
        if plan.layout in CONTINUOUS:
            events = list(drawn)
            for (event, _), kinds in zip(
                events, write_days(plan, events, Path(made.folder) / "waveforms"), strict=True
            ):
                add(event, kinds)
        else:
            for i, (event, source) in enumerate(drawn):
                add(event, _event_file(plan, event, source, i, Path(made.folder) / "waveforms"))


def _event_file(plan: Plan, event: Event, source: Source, index: int, folder: Path) -> list[str]:
    """Write the event's file, where it has any record; return the kind at each station."""
    records = [
        draw_record(plan, event, source, (index, number), lead=plan.lead, noise=True)
        for number in range(len(plan.stations))
    ]
    traces = {
        station.station_id: np.rint(x).astype(np.int32)
        for station, (kind, x) in zip(plan.stations, records, strict=True)
        if kind != "missing"
    }
    if traces:
        path = folder / key(plan.layout, event.origin_ns, event_id=event.event_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        write = event_file if plan.layout == "events" else uneven_event_file
        write(str(path), traces, event.origin_ns - round(plan.lead * 1000) * 1_000_000, plan.sampling_rate)
    return [kind for kind, _ in records]


@contextmanager
def _tables(made: Simulation, plan: Plan) -> Iterator[Callable[[Event, Sequence[str]], None]]:
    """Open the catalogues and the truth, to which events with the kinds of their records are added."""
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

        def add(event: Event, kinds: Sequence[str]) -> None:
            add_event(event, plan.stations)
            events_out.writerow(event.row)
            truth_out.writerow([event.event_id, event.family, event.sequence, event.kind])
            named = zip(plan.stations, kinds, strict=True)
            records_out.writerows([event.event_id, station.station_id, kind] for station, kind in named)

        yield add
