"""FDSN web services of a simulated archive, on the loopback, for ObsPy's own clients."""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from web_server import web_server

from specufex_dask.reading import load_obspy, quiet_obspy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specufex_dask.simulate import Simulation


class Services:
    """What the services answer: stations, events, and the samples that a request names."""

    def __init__(self, made: Simulation) -> None:
        obspy = load_obspy()
        self.events = Path(made.quakeml).read_bytes()
        with quiet_obspy():
            self.inventory = obspy.read_inventory(made.stations)
            self.stream = obspy.Stream()
            for path in sorted(Path(made.folder, "waveforms").rglob("*.ms")):
                self.stream += obspy.read(str(path))
        for network in self.inventory:
            for station in network:
                for each in (network, station, *station):
                    each.start_date, each.end_date = obspy.UTCDateTime(1990, 1, 1), None

    def answer(self, path: str, asked: str) -> bytes:
        """The body of the answer to a request of `path`; empty for what there is not."""
        if path.endswith("application.wadl"):
            return _wadl(path.split("/")[2])
        if path.endswith("query") and "/event/" in path:
            return self.events
        if "/station/" in path:
            words = set(re.findall(r"\w+", asked))
            named = [station.code for network in self.inventory for station in network if station.code in words]
            chosen = self.inventory.select(station=named[0]) if len(named) == 1 else self.inventory
            return _text(chosen) if "format=text" in asked else _written(chosen, "STATIONXML")
        return self._samples(asked) if "/dataselect/" in path else b""

    def _samples(self, asked: str) -> bytes:
        time, chosen = load_obspy().UTCDateTime, load_obspy().Stream()
        for line in asked.splitlines():
            fields = line.split()
            if len(fields) == 6:
                name = ".".join([*fields[:2], fields[2].strip("-"), fields[3]])
                mine = load_obspy().Stream([trace for trace in self.stream if trace.id == name])
                chosen += mine.slice(time(fields[4]), time(fields[5]))
        return _written(chosen, "MSEED") if chosen else b""


def _written(what: Any, kind: str) -> bytes:
    content = io.BytesIO()
    with quiet_obspy():
        what.write(content, format=kind)
    return content.getvalue()


def _text(inventory: Any) -> bytes:
    content = io.StringIO()
    inventory.write(content, format="STATIONTXT", level="channel")
    return content.getvalue().encode()


def _wadl(service: str) -> bytes:
    """What a service of NCEDC says of itself, as ObsPy ships it."""
    import obspy.clients.fdsn

    return (Path(obspy.clients.fdsn.__file__).parent / f"tests/data/2014-01-07_ncedc_{service}.wadl").read_bytes()


@contextmanager
def fdsn_server(made: Simulation) -> Iterator[str]:
    """The address of a server of the simulated archive, beside the block."""
    services = Services(made)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            self._send(services.answer(path, query))

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._send(services.answer(self.path, asked.replace(" = ", "=")))

        def _send(self, body: bytes) -> None:
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with web_server(Handler) as host:
        yield f"http://{host}"
