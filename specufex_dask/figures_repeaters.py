"""Figures of sequences of repeating earthquakes: when they struck, and how often for their size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures import GREY, INK, Array, Margins, Panel, cluster_colour, grid, label, note, plain_log, png
from specufex_dask.figures_time import days, utc_axis
from specufex_dask.pairs import places
from specufex_dask.plurals import counted
from specufex_dask.rupture import DAYS_A_YEAR, recurrence_line

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_MOST = 60
_FEW = 15
_DAY = 1 / DAYS_A_YEAR
_LEAST_EVENTS = 3
_MUCH_SHORTER = 50
"""So many times below the line of the smallest events an interval is none between repeats."""


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
    order = np.argsort(repeaters["recurrence"].values[:shown], kind="stable")  # those without an interval last
    row = places(repeaters["event_id"].values, catalog["event_id"].values)
    time = catalog["origin_time"].values[row]
    sequence = repeaters["sequence"].values
    drawn = (sequence >= 0) & (sequence < shown) & ~np.isnat(time)
    line = np.argsort(order)[sequence[drawn]]
    spacing = 0.14 if shown <= _FEW else 0.09
    figure, ((ax,),) = grid(6.8, [max(1.2, spacing * shown)], margins=Margins(left=0.6, right=0.95, top=0.4))
    _draw_lines(ax, days(time[drawn]), line, catalog["magnitude"].values[row][drawn], shown)
    _name_lines(ax, order, repeaters["recurrence"].values[order] * _DAY)
    label(ax, x="time (UTC)", y="sequence (number)")
    utc_axis(ax)
    rest = f" The {shown} largest of {n_sequences:,} sequences are shown." if shown < n_sequences else ""
    size = repeaters["n_events"].values[:shown]
    return Panel(
        "Sequences over time",
        "Each line is a sequence of earthquakes that ruptured the same patch, each dot one of them, the larger the "
        "magnitude the larger; from the shortest mean interval at the top to the longest. Even gaps mean steady slip "
        "of the fault around the patch; gaps that shorten all at once, faster slip, as after a large earthquake "
        f"nearby.{rest}",
        f"{counted(shown, 'sequence')} of {size.min()} to {counted(int(size.max()), 'event')}.",
        png(figure),
        wide=True,
    )


def _draw_lines(ax: Axes, day: Array, line: Array, magnitude: Array, shown: int) -> None:
    """One line for each sequence from its first event to its last, and a dot for each event."""
    first, last = np.full(shown, np.inf), np.full(shown, -np.inf)
    np.minimum.at(first, line, day)
    np.maximum.at(last, line, day)
    seen = np.flatnonzero(np.isfinite(first))
    ax.hlines(seen, first[seen], last[seen], color=GREY, linewidth=0.6)
    known = magnitude[np.isfinite(magnitude)]
    size = 5 * 2 ** np.nan_to_num(magnitude - (np.median(known) if known.size else 0.0)).clip(-2, 2)
    ax.scatter(day, line, s=size, color=cluster_colour(0), linewidths=0, zorder=2)
    ax.set_ylim(shown - 0.4, -0.6)


def _name_lines(ax: Axes, sequence: Array, years: Array) -> None:
    """The number of each line's sequence at its left, and its mean interval at its right; of many every fifth."""
    named = range(0, len(sequence), 1 if len(sequence) <= _FEW else 5)
    ax.set_yticks(list(named), [f"{sequence[i]}" for i in named])
    height = ax.get_window_extent().height / ax.figure.get_figure(root=True).dpi
    note(ax, 1.0, 1 + 0.06 / height, "mean interval\n(years)", va="bottom")
    for i in named:
        told = f"{years[i]:{'.1f' if years[i] >= 1 else '.2g'}}" if np.isfinite(years[i]) else ""
        note(ax, 1.02, i, told, transform=ax.get_yaxis_transform(), va="center")


def recurrence_against_moment(repeaters: xr.Dataset, *, loading_rate: float | None = None) -> Panel | None:
    """How often sequences of each size repeat, with the line of Parkfield; None where none does.

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
    line = np.geomspace(10 ** np.floor(np.log10(moment.min())), 10 ** np.ceil(np.log10(moment.max()) + 1e-6), 50)
    expected = recurrence_line(line, loading_rate=loading_rate) * _DAY
    least = expected[0] / _MUCH_SHORTER
    short = years < least
    figure, ((ax,),) = grid(4.6, [3.0], margins=Margins(left=0.66, right=0.85, top=0.14))
    colour = cluster_colour(0)
    shown = ~short & ~several
    ax.scatter(moment[shown], years[shown], s=12, facecolors="none", edgecolors=colour, linewidths=0.6)
    shown = ~short & several
    ax.scatter(moment[shown], years[shown], s=14, color=colour, linewidths=0, alpha=0.75)
    ax.scatter(moment[short], np.full(short.sum(), least), s=14, marker="v", color=colour, linewidths=0, alpha=0.75)
    ax.set_xscale("log")
    ax.minorticks_off()
    plain_log(ax)
    ax.plot(line, expected, color=INK, linewidth=1.2, linestyle="--", zorder=3)
    ax.set_xlim(line[0], line[-1])
    note(ax, 1.02, expected[-1], "Nadeau &\nJohnson\n(1998)", transform=ax.get_yaxis_transform(), va="center")
    label(ax, x="seismic moment (dyn cm)", y="mean interval (years)")
    ratio = float(np.median(years / (recurrence_line(moment, loading_rate=loading_rate) * _DAY)))
    bursts = counted(int(short.sum()), "sequence") + f" of intervals below {least:.2g} years, which are bursts"
    scaled = "" if loading_rate is None else f", scaled to a fault loaded at {loading_rate:g} cm a year"
    return Panel(
        "Recurrence against moment",
        "Mean interval of each sequence against the moment of its median magnitude; open: two events only, one "
        f"interval. Dashed: the line of Parkfield (Nadeau & Johnson 1998){scaled}, intervals growing as moment to the "
        "power 0.17; Chen et al. (2007) find other faults on it once times are scaled by their loading rates. "
        "Sequences below it repeat faster, as where the fault slips faster; those above it slower, or some of their "
        f"events were missed. The intervals are {ratio:.2f} times those of the line, in the median."
        + (f" Triangles at the edge: {bursts}." if short.any() else ""),
        f"{counted(len(drawn), 'sequence')} with intervals from {years.min():.3g} to {years.max():.3g} years; "
        f"{int(several.sum()):,} with three events or more.",
        png(figure),
    )
