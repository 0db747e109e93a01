"""Figure of when: events against time, by cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures import (
    INK,
    TEXT,
    Array,
    Margins,
    Panel,
    at_most,
    count_axis,
    grid,
    label,
    legend,
    legend_room,
    png,
)
from specufex_dask.figures_map import groups, told
from specufex_dask.plurals import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = 130
_SECOND = np.timedelta64(1, "s")


def time_line(time: Array, cluster: Array | None, *, merged: bool = False) -> Panel | None:
    """Cumulative number and rate of events at `time` (event) [UTC], by `cluster` (event), `merged` or of records."""
    known = ~np.isnat(time)
    if not known.any():
        return None
    time = time[known].astype("datetime64[ms]")
    cluster = None if cluster is None else cluster[known]
    bins, unit = _bins(time)
    kinds = groups(cluster, time.size, merged=merged)
    margins = Margins(left=0.78, top=legend_room([entry for entry, _ in kinds]))
    figure, ((top,), (bottom,)) = grid(4.6, [1.7, 1.3], margins=margins, sharex=True)
    below = np.zeros(bins.size - 1)
    for entry, places in kinds:
        moments = np.sort(time[places])
        counts = at_most(np.arange(1, moments.size + 1), 1000)
        top.step(days(at_most(moments, 1000)), counts, where="post", color=entry.colour, linewidth=1.3)
        rate = np.histogram(moments.astype("i8"), bins.astype("i8"))[0]
        bottom.stairs(below + rate, days(bins), baseline=below, fill=True, color=entry.colour)
        below = below + rate
    count_axis(top, max(places.size for _, places in kinds), "events so far")
    count_axis(bottom, below.max(), f"events per\n{unit}")
    label(bottom, x="time (UTC)")
    utc_axis(bottom)
    legend(top, [entry for entry, _ in kinds])
    return Panel(
        "Time line",
        f"Top: events so far in each cluster. Bottom: events per {unit}, stacked. A cluster whose line steepens, stops "
        f"or starts on its own marks a change at the source. {told(cluster, merged=merged)}".rstrip(),
        f"{counted(time.size, 'event')} from {str(time.min())[:16]} to {str(time.max())[:16]} UTC, at most "
        f"{int(below.max()):,} per {unit}.",
        png(figure),
    )


_STEPS = {
    "second": 1, "minute": 60, "10 minutes": 600, "hour": 3600, "6 hours": 21600, "day": 86400, "week": 604800,
    "30 days": 2592000, "year": 31557600,
}  # fmt: skip


def _bins(time: Array) -> tuple[Array, str]:
    """Edges of equal bins, at most about 130, that begin at a round moment, and what one bin is called."""
    first, last = time.min().astype("datetime64[s]"), time.max().astype("datetime64[s]") + _SECOND
    span = float((last - first) / _SECOND)
    unit, seconds = next(((u, s) for u, s in _STEPS.items() if span / s <= _BINS), list(_STEPS.items())[-1])
    start = first.astype("i8") // seconds * seconds
    count = int((last.astype("i8") - start) // seconds) + 1
    edges = (start + seconds * np.arange(count + 1)).astype("datetime64[s]")
    return edges.astype("datetime64[ms]"), unit


def days(times: Array) -> Array:
    """Times as matplotlib counts them: days since 1970."""
    return times.astype("datetime64[ms]").astype("i8") / 86_400_000


def utc_axis(ax: Axes) -> None:
    """Label the x axis of `ax`, in `days`, with times, as short as their span allows."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]  # matplotlib.dates has no types
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(
        ConciseDateFormatter(  # type: ignore[no-untyped-call]  # matplotlib.dates has no types
            locator,
            formats=["%Y", "%b %Y", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"],
            zero_formats=["", "%b %Y", "%d %b", "%d %b", "%H:%M", "%H:%M"],
            offset_formats=["", "", "%Y", "%d %b %Y", "%d %b %Y", "%d %b %Y"],
        )
    )
    ax.xaxis.get_offset_text().set(fontsize=TEXT, color=INK)
