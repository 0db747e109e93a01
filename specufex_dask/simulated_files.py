"""Write synthetic events as miniSEED, QuakeML and StationXML: equal input, equal bytes."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specufex_dask.reading import load_obspy, quiet_obspy
from specufex_dask.simulated_waves import Ray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Array = np.ndarray[Any, Any]
_KM_PER_DEGREE = 111.195
_ID = "smi:local"
_HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<q:quakeml xmlns="http://quakeml.org/xmlns/bed/1.2" xmlns:q="http://quakeml.org/xmlns/quakeml/1.2">\n'
    f'  <eventParameters publicID="{_ID}/catalog">\n'
)
_TAIL = "  </eventParameters>\n</q:quakeml>\n"


@dataclass(frozen=True)
class Station:
    """A channel: ``NET.STA.LOC.CHA``, place [degrees], elevation [m]."""

    station_id: str
    latitude: float
    longitude: float
    elevation: float


@dataclass(frozen=True)
class Event:
    """An event: identity, time [ns since 1970], place [degrees], depth [m], magnitude, and what is true of it."""

    event_id: str
    origin_ns: int
    latitude: float
    longitude: float
    depth_m: int
    magnitude: float
    family: int
    sequence: int

    @property
    def kind(self) -> str:
        """Whether the event repeats."""
        return "single" if self.sequence < 0 else "repeater"

    @property
    def row(self) -> list[object]:
        """The event's line of the catalogue in CSV."""
        place = [self.latitude, self.longitude, self.depth_m / 1000]
        return [self.event_id, _iso(self.origin_ns), *place, self.magnitude]

    def ray_to(self, station: Station) -> Ray:
        """The straight ray to `station`."""
        north = (station.latitude - self.latitude) * _KM_PER_DEGREE
        east = (station.longitude - self.longitude) * _KM_PER_DEGREE * np.cos(np.radians(self.latitude))
        return Ray(float(np.sqrt(north**2 + east**2 + (self.depth_m / 1000) ** 2)))

    def picks_at(self, station: Station) -> tuple[float, float]:
        """The picks of P and S at `station` [s after the origin time]."""
        ray = self.ray_to(station)
        return ray.p_seconds, ray.s_seconds


def event_file(path: str, traces: Mapping[str, Array], start_ns: int, sampling_rate: float) -> None:
    """Write the samples [counts] of each channel as one miniSEED file, Steim-2."""
    obspy = load_obspy()
    with quiet_obspy():
        stream = obspy.Stream()
        for station_id, samples in traces.items():
            codes = dict(zip(("network", "station", "location", "channel"), station_id.split("."), strict=True))
            header = {**codes, "sampling_rate": sampling_rate, "starttime": obspy.UTCDateTime(ns=start_ns)}
            stream.append(obspy.Trace(samples, header))
        stream.write(path, format="MSEED", encoding="STEIM2", reclen=512)


def station_xml(stations: Sequence[Station], sampling_rate: float) -> bytes:
    """The channels as StationXML, with no time of creation."""
    load_obspy()
    with quiet_obspy():
        from obspy import UTCDateTime
        from obspy.core import inventory as parts

        networks: dict[str, list[Any]] = {}
        for each in stations:
            network, code, location, channel = each.station_id.split(".")
            place = {"latitude": each.latitude, "longitude": each.longitude, "elevation": each.elevation}
            made = parts.Channel(channel, location, depth=0.0, sample_rate=sampling_rate, azimuth=0, dip=-90, **place)
            networks.setdefault(network, []).append(parts.Station(code, channels=[made], **place))
        content = [parts.Network(code, stations=members) for code, members in networks.items()]
        whole = parts.Inventory(content, source="simulated", created=UTCDateTime(0), sender="")
        buffer = io.BytesIO()
        whole.write(buffer, format="STATIONXML")
    return buffer.getvalue()


@contextmanager
def quakeml(path: str) -> Iterator[Callable[[Event, Sequence[Station]], None]]:
    """Open a QuakeML file to which events are added one by one: a large catalogue never lies in memory."""
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        file.write(_HEAD)

        def add(event: Event, stations: Sequence[Station]) -> None:
            file.write(_event_xml(event, stations))

        yield add
        file.write(_TAIL)


def _event_xml(event: Event, stations: Sequence[Station]) -> str:
    name = f"{_ID}/event/{event.event_id}"
    picks, arrivals = [], []
    for station in stations:
        for phase, seconds in zip("PS", event.picks_at(station), strict=True):
            pick_id = f"{_ID}/pick/{event.event_id}/{station.station_id}/{phase}"
            picks.append(_pick_xml(pick_id, station.station_id, phase, event.origin_ns + round(seconds * 1000) * 10**6))
            arrivals.append(
                f'        <arrival publicID="{pick_id}/arrival"><pickID>{pick_id}</pickID>'
                f"<phase>{phase}</phase><timeWeight>1.0</timeWeight></arrival>\n"
            )
    return (
        f'    <event publicID="{name}">\n'
        f"      <preferredOriginID>{name}/origin</preferredOriginID>\n"
        f"      <preferredMagnitudeID>{name}/magnitude</preferredMagnitudeID>\n"
        f'{"".join(picks)}      <origin publicID="{name}/origin">\n'
        f"        <time><value>{_iso(event.origin_ns)}Z</value></time>\n"
        f"        <latitude><value>{event.latitude!r}</value></latitude>\n"
        f"        <longitude><value>{event.longitude!r}</value></longitude>\n"
        f"        <depth><value>{event.depth_m}</value></depth>\n"
        f"{''.join(arrivals)}      </origin>\n"
        f'      <magnitude publicID="{name}/magnitude"><mag><value>{event.magnitude!r}</value></mag>'
        f"<type>M</type><originID>{name}/origin</originID></magnitude>\n"
        "    </event>\n"
    )


def _pick_xml(pick_id: str, station_id: str, phase: str, time_ns: int) -> str:
    network, station, location, channel = station_id.split(".")
    return (
        f'      <pick publicID="{pick_id}"><time><value>{_iso(time_ns)}Z</value></time>'
        f'<waveformID networkCode="{network}" stationCode="{station}" locationCode="{location}" '
        f'channelCode="{channel}"/><phaseHint>{phase}</phaseHint></pick>\n'
    )


def _iso(time_ns: int) -> str:
    return str(np.datetime64(time_ns // 10**6, "ms"))
