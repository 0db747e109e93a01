"""Where the files of a simulation lie: the keys of public buckets and of the SeisComP data structure."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from specufex_dask.archive import LAYOUTS

Layout = Literal["events", "scedc", "scedc-events", "ncedc", "ncedc-events", "sds"]
TEMPLATES: dict[Layout, str] = {
    "events": "{event_id}.mseed",
    "scedc": LAYOUTS["scedc"].template,
    "scedc-events": LAYOUTS["scedc-events"].template,
    "ncedc": LAYOUTS["ncedc"].template,
    "ncedc-events": LAYOUTS["ncedc-events"].template,
    "sds": LAYOUTS["sds"].template,
}
"""Path of a file below ``waveforms/``; in the continuous ones, of a channel's day."""
CONTINUOUS: frozenset[Layout] = frozenset({"scedc", "ncedc", "sds"})
"""The layouts with a file for each channel and day."""
PATTERNS = ("sim*.mseed", "sim*.ms", "NC.sim*.ms", "XXS*_*.ms", "S*.XX.*.D.*", "XX.S*.D.*")
"""Names of the files that a simulation may have written."""


def check(layout: str) -> None:
    """Raise unless `layout` is one of those above."""
    if layout not in get_args(Layout):
        msg = f"got layout={layout!r}, expected one of {list(get_args(Layout))}: choose one of these."
        raise ValueError(msg)


def key(layout: Layout, time_ns: int, *, event_id: str = "", station_id: str = "...") -> str:
    """The path below ``waveforms/`` of an event's file, or of the file of a channel and the day of `time_ns`."""
    day = np.datetime64(time_ns, "ns").astype("datetime64[D]")
    year = day.astype("datetime64[Y]")
    network, station, location, channel = station_id.split(".")
    return TEMPLATES[layout].format(
        event_id=event_id,
        network=network,
        station=station,
        location=location,
        channel=channel,
        year=str(year),
        julday=f"{int((day - year).astype(int)) + 1:03d}",
    )
