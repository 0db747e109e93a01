"""Figures of sequences of repeating earthquakes: when they struck, and how often for their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures import GREY, INK, Array, Margins, Panel, cluster_colour, grid, label, note, plain_log, png
from specufex_dask.figures_time import days, utc_axis
from specufex_dask.pairs import places
from specufex_dask.rupture import DAYS_A_YEAR, recurrence_line

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_MOST = 60
_FEW = 15
_DAY = 1 / DAYS_A_YEAR
_LEAST_EVENTS = 3


def sequences_over_time(repeaters: xr.Dataset, catalog: xr.Dataset) -> Panel | None:
    """The events of the largest sequences on their time lines; None where there is no sequence.

    Parameters
    ----------
    repeaters, catalog
        Datasets of these stages.
    """
    n_sequences = repeaters.sizes["sequence_id"]
    if not n_sequences:
        return None
    shown = min(n_sequences, _MOST)
    row = places(repeaters["event_id"].values, catalog["event_id"].values)
    time = catalog["origin_time"].values[row]
    sequence = repeaters["sequence"].values
    drawn = (sequence >= 0) & (sequence < shown) & ~np.isnat(time)
    day, sequence = days(time[drawn]), sequence[drawn]
    height = max(1.2, 0.085 * shown)
    figure, ((ax,),) = grid(6.8, [height], margins=Margins(left=0.6, right=0.75, top=0.28))
    _draw_lines(ax, day, sequence, catalog["magnitude"].values[row][drawn], shown)
    note(ax, 1.01, 1.0 + 0.08 / height, "events", va="bottom")
    for number in range(0, shown, 1 if shown <= _FEW else 5):
        count = f"{repeaters['n_events'].values[number]}"
        note(ax, 1.01, number, count, transform=ax.get_yaxis_transform(), va="center")
    label(ax, x="time (UTC)", y="sequence (number)")
    utc_axis(ax)
    rest = f" The {shown} largest of {n_sequences:,} sequences are shown." if shown < n_sequences else ""
    return Panel(
        "Sequences over time",
        "Each line is a sequence of earthquakes that ruptured the same patch, each dot one of them, the larger the "
        "magnitude the larger. Even gaps mean steady slip of the fault around the patch; gaps that shorten all at "
        f"once, faster slip, as after a large earthquake nearby.{rest}",
        f"{shown} sequences of {int(repeaters['n_events'].values[shown - 1])} to "
        f"{int(repeaters['n_events'].values[0])} events.",
        png(figure),
        wide=True,
    )


def _draw_lines(ax: Axes, day: Array, sequence: Array, magnitude: Array, shown: int) -> None:
    """One line for each sequence from its first event to its last, and a dot for each event."""
    from matplotlib.ticker import MaxNLocator

    first, last = np.full(shown, np.inf), np.full(shown, -np.inf)
    np.minimum.at(first, sequence, day)
    np.maximum.at(last, sequence, day)
    seen = np.flatnonzero(np.isfinite(first))
    ax.hlines(seen, first[seen], last[seen], color=GREY, linewidth=0.6)
    size = 5 * 2 ** np.nan_to_num(magnitude - np.nanmedian(magnitude)).clip(-2, 2)
    ax.scatter(day, sequence, s=size, color=cluster_colour(0), linewidths=0, zorder=2)
    ax.set_ylim(shown - 0.4, -0.6)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def recurrence_against_moment(repeaters: xr.Dataset, *, loading_rate: float | None = None) -> Panel | None:
    """How often sequences of each size repeat, with the line of Chen et al. (2007); None where none does.

    Parameters
    ----------
    repeaters
        Dataset of this stage.
    loading_rate
        Rate [cm/year] at which the fault is loaded, to which the line is scaled; None for Parkfield's own.
    """
    years = repeaters["recurrence"].values * _DAY
    drawn = np.flatnonzero(years > 0)
    if not len(drawn):
        return None
    moment, years = repeaters["moment"].values[drawn], years[drawn]
    several = repeaters["n_events"].values[drawn] >= _LEAST_EVENTS
    figure, ((ax,),) = grid(4.6, [3.0], margins=Margins(left=0.66, right=0.85, top=0.14))
    colour = cluster_colour(0)
    ax.scatter(moment[~several], years[~several], s=12, facecolors="none", edgecolors=colour, linewidths=0.6)
    ax.scatter(moment[several], years[several], s=14, color=colour, linewidths=0, alpha=0.75)
    ax.set_xscale("log")
    plain_log(ax)
    line = np.geomspace(moment.min() / 1.5, moment.max() * 1.5, 50)
    expected = recurrence_line(line, loading_rate=loading_rate) * _DAY
    ax.plot(line, expected, color=INK, linewidth=1.2, linestyle="--")
    ax.set_xlim(line[0], line[-1])
    note(ax, 1.02, expected[-1], "Chen et al.\n(2007)", transform=ax.get_yaxis_transform(), va="center")
    label(ax, x="seismic moment (dyn cm)", y="mean interval (years)")
    ratio = float(np.median(years / (recurrence_line(moment, loading_rate=loading_rate) * _DAY)))
    fault = "Parkfield" if loading_rate is None else f"a fault loaded at {loading_rate:g} cm a year"
    return Panel(
        "Recurrence against moment",
        "Mean interval of each sequence against the moment of its median magnitude; open: two events only, one "
        f"interval. Dashed: the line of Chen et al. (2007) for {fault}, intervals growing as moment to the power "
        "0.17. Sequences below it repeat faster, as where the fault slips faster; those above it slower, or some of "
        f"their events were missed. The intervals are {ratio:.2g} times those of the line, in the median.",
        f"{len(drawn):,} sequences with intervals from {years.min():.3g} to {years.max():.3g} years; "
        f"{int(several.sum()):,} have three events or more.",
        png(figure),
    )
