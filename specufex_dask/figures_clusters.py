"""Figures of the clustering: silhouette against K, silhouette profile, mean fingerprints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures import (
    INK,
    SHOWN,
    TEXT,
    UNUSABLE,
    Array,
    Margins,
    Panel,
    at_most,
    cluster_colour,
    cluster_map,
    cluster_name,
    colour_bar,
    count_axis,
    grid,
    image,
    label,
    note,
    png,
    round_ticks,
)
from specufex_dask.plurals import counted

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

_POINTS = 1000
"""Points at most in the outline of one cluster's silhouettes."""


def silhouette_by_number(clusters: xr.Dataset) -> Panel:
    """Mean silhouette of each number of clusters tried, the chosen one ringed."""
    tried, mean = clusters.n_clusters.values, clusters.mean_silhouette.values
    chosen = clusters.sizes["cluster_id"]
    figure, ((ax,),) = grid(4.6, [2.5])
    ax.plot(tried, mean, "o-", color=INK, markersize=4, linewidth=1)
    at = tried == chosen
    ax.plot(tried[at], mean[at], "o", markersize=11, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.4)
    ax.set_xticks(at_most(tried, 12))
    ax.margins(y=0.15)
    label(ax, x="clusters K (number)", y="mean silhouette (1)")
    known = np.isfinite(mean)
    best = f"; largest at K = {tried[known][mean[known].argmax()]}: {mean[known].max():.3f}" if known.any() else ""
    return Panel(
        "Silhouette against K",
        "How well the records fit their own cluster and not the next one, in the mean over all usable records, for "
        f"each number of clusters tried. 1 is perfect, 0 is a tie between clusters. The ring marks K = {chosen}, which "
        "this report shows. A flat curve says that the number of clusters is not fixed by the data.",
        f"Mean silhouette for K from {tried[0]} to {tried[-1]}{best}.",
        png(figure),
    )


def silhouette_profile(cluster: Array, silhouette: Array) -> Panel | None:
    """The silhouettes (record) of each cluster, sorted; each cluster as tall as it has records.

    Records without a silhouette (NaN: unusable, or not in the sample that it was taken of) are left out.
    """
    known = np.isfinite(silhouette) & (cluster >= 0)
    left_out = int((cluster >= 0).sum() - known.sum())
    cluster, silhouette = cluster[known], silhouette[known]
    if not known.any():
        return None
    figure, ((ax,),) = grid(4.6, [2.5], margins=Margins(left=0.66, right=0.85))
    offset, words, middles = 0, [], []
    for number in range(min(int(cluster.max(initial=-1)) + 1, SHOWN)):
        values = np.sort(silhouette[cluster == number])
        outline = at_most(values, _POINTS)
        heights = np.linspace(offset, offset + values.size, outline.size)
        ax.fill_betweenx(heights, 0, outline, color=cluster_colour(number), linewidth=0)
        middles.append(offset + values.size / 2)
        negative = int((values < 0).sum())
        words.append(f"{cluster_name(number)}: {counted(values.size, 'record')}, {negative:,} below zero")
        offset += values.size
    mean = float(silhouette.mean())
    ax.axvline(mean, color=INK, linewidth=1, linestyle="--")
    ax.axvline(0, color=INK, linewidth=0.6)
    ax.set_ylim(offset, 0)
    for number, y in enumerate(_apart(np.array(middles), 0.065 * offset)):
        note(ax, 1.03, y, cluster_name(number), transform=ax.get_yaxis_transform(), va="center")
    count_axis(ax, offset, "records")
    label(ax, x="silhouette of the record (1)")
    return Panel(
        "Silhouette of every record",
        "Each record's silhouette, sorted within its cluster. Records left of zero lie nearer to another cluster than "
        f"to their own and are the doubtful ones. Dashed: the mean, {mean:.3f}."
        + (f" {left_out:,} usable records were not in the sample that silhouettes were taken of." if left_out else ""),
        "; ".join(words) + ".",
        png(figure),
    )


def _apart(places: Array, least: float) -> Array:
    """`places` (ascending), moved down and then up until neighbours are `least` apart."""
    steps = least * np.arange(places.size)
    lowered = np.maximum.accumulate(places - steps) + steps
    ceiling = places[-1] + least / 2 - steps[::-1]
    return np.asarray(np.minimum(lowered, np.minimum.accumulate(ceiling[::-1])[::-1]))


def mean_fingerprints(centroid: Array) -> Panel:
    """The mean fingerprint (state, next_state) of each cluster, on one scale."""
    centroid = centroid[:SHOWN]
    count, states = centroid.shape[:2]
    rows = -(-count // 4)
    columns = -(-count // rows)
    margins = Margins(left=0.5, right=0.95, top=0.28, down=0.42)
    side = min((6.8 - margins.left - margins.right - margins.across * (columns - 1)) / columns, 2.4)
    width = margins.left + margins.right + columns * side + margins.across * (columns - 1)
    figure, axes = grid(width, [side] * rows, columns=columns, margins=margins)
    flat = [ax for row in axes for ax in row]
    top = float(centroid.max())
    for number, ax in enumerate(flat):
        if number >= count:
            ax.set_visible(False)
            continue
        fingerprint(ax, centroid[number], number, top)
        note(ax, 0, 1.03, cluster_name(number))
        label(ax, x="next state (number)" if number >= count - columns else "")
        label(ax, y="state (number)" if number % columns == 0 else "")
        if number % columns:
            ax.tick_params(labelleft=False)
    colour_bar(axes[0][-1], neutral(top), "mean fingerprint (1)")
    return Panel(
        "Mean fingerprint of each cluster",
        "A fingerprint says how long a record stays in each state (the diagonal) and which state follows which (off "
        "the diagonal): the share of time in the state times the root of the probability of the step. Colours follow "
        "the square root and have one scale in all clusters.",
        f"Mean fingerprints of {counted(count, 'cluster')}, {states} by {states} states.",
        png(figure),
        wide=True,
    )


def neutral(top: float) -> ScalarMappable:
    """The scale of fingerprints up to `top` in grey, for figures of several clusters."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm

    return ScalarMappable(PowerNorm(0.5, vmin=0, vmax=top), cluster_map(UNUSABLE))


def fingerprint(ax: Axes, values: Array, cluster: int, top: float) -> ScalarMappable:
    """Draw one fingerprint (state, next_state), state 0 at the top, in its cluster's colour."""
    states = np.arange(len(values))
    drawn = image(ax, values, states, states, norm=neutral(top).norm, cmap=cluster_map(cluster))
    ax.set_ylim(len(values) - 0.5, -0.5)
    ticks = round_ticks(len(values), 5)
    ax.set_xticks(ticks)
    ax.set_yticks(ticks)
    ax.tick_params(labelsize=TEXT - 1)
    for spine in ax.spines.values():
        spine.set_visible(True)
    return drawn
