"""Figures of events merged from records: how many stations saw each, and how far they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures import Margins, Panel, cluster_colour, count_axis, grid, label, png
from specufex_dask.plurals import counted

if TYPE_CHECKING:
    import xarray as xr

_MOST_STEPS = 20


def stations_and_agreement(events: xr.Dataset) -> Panel | None:
    """Events by the number of their stations, and by their agreement; None without a cluster, or of one station.

    Parameters
    ----------
    events
        Dataset of this stage.
    """
    from matplotlib.ticker import MaxNLocator

    inside = events["cluster"].values >= 0
    stations, agreement = events["n_stations"].values, events["agreement"].values[inside]
    most = int(stations.max(initial=0))
    if most < 2 or not inside.any():  # noqa: PLR2004 - one station agrees with itself
        return None
    figure, ((left, right),) = grid(6.8, [2.0], columns=2, margins=Margins(left=0.66, across=0.7))
    numbers = np.arange(most + 1)
    everyone, merged = (np.bincount(each, minlength=most + 1) for each in (stations, stations[inside]))
    left.bar(numbers, everyone, width=0.8, color=cluster_colour(-1))
    left.bar(numbers, merged, width=0.8, color=cluster_colour(0))
    left.set_xlim(-0.6, most + 0.6)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    count_axis(left, everyone.max(), "events")
    label(left, x="stations with a usable record (number)")
    steps = min(most, _MOST_STEPS)
    counts = np.bincount(np.rint(agreement * steps).astype(np.int64), minlength=steps + 1)
    right.bar(np.arange(steps + 1) / steps, counts, width=0.8 / steps, color=cluster_colour(0))
    right.set_xlim(-0.6 / steps, 1 + 0.6 / steps)
    right.set_xticks([0, 0.25, 0.5, 0.75, 1])
    count_axis(right, counts.max(), "events")
    label(right, x="agreement (share of the stations)")
    alone = int((~inside).sum())
    return Panel(
        "Stations of the events",
        "Left: events by the number of stations with a usable record; grey: those in no merged cluster. Right: the "
        "share of an event's stations whose cluster is the merged one (or, where each station has clusters of its own, "
        "the most frequent one of the family there). Events of little agreement are the doubtful ones.",
        f"{counted(int(inside.sum()), 'event')} merged, {alone:,} not, of up to {counted(most, 'station')}; mean "
        f"agreement {agreement.mean():.2f}.",
        png(figure),
        wide=True,
    )
