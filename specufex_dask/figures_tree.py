"""Figure of a hierarchy of clusters: the top of its tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specufex_dask.figures import GREY, INK, TEXT, Array, Margins, Panel, grid, label, note, png
from specufex_dask.plurals import counted

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_BRANCHES = 30
"""Branches drawn at most."""


def dendrogram(clusters: xr.Dataset, name: str = "") -> Panel | None:
    """The last merges of a hierarchical clustering, of the station `name`; None of clusters without a tree.

    Parameters
    ----------
    clusters
        Dataset of this stage, of which linkage (merge, 4), leaf (record,) and n_clusters are used.
    """
    if "linkage" not in clusters or not clusters.sizes["merge"]:
        return None
    tree, chosen = clusters["linkage"].values, clusters.sizes["cluster_id"]
    branches = min(_BRANCHES, len(tree) + 1)
    lines, below = _top(tree, branches)
    records = _records(tree, clusters["leaf"].values)[below]
    below_axis = 0.42 + 0.06 * len(f"{records.max():,}")
    figure, ((ax,),) = grid(4.6, [2.2], margins=Margins(left=0.66, right=0.6, bottom=below_axis))
    for x, height in lines:
        ax.plot(x, height, color=INK, linewidth=0.9)
    _name_branches(ax, records)
    cut = _cut(tree, chosen)
    drawn = chosen <= branches
    if drawn:
        ax.axhline(cut, color=GREY, linewidth=1, linestyle="--")
        note(ax, 1.01, cut, f"K = {chosen}", transform=ax.get_yaxis_transform(), va="center")
    ax.set_ylim(0, 1.04 * float(tree[-1, 2]) or 1.0)
    label(ax, x="records below the branch (number)", y="height of the merge (1)")
    ax.xaxis.labelpad = 5
    where = f" of {name}" if name else ""
    taken = "" if drawn else f" The tree was cut at a height of {cut:.3g}, into the K = {chosen:,} clusters shown here."
    return Panel(
        f"Dendrogram{where}",
        "From below: the clusters that are most alike merge first, at the height that says how unlike they are in "
        "their fingerprints. A gap between merges, crossed by few long branches, speaks for that number of clusters."
        + (" Dashed: where the tree was cut." if drawn else taken)
        + (f" The last {branches - 1} of {len(tree):,} merges are drawn." if branches <= len(tree) else ""),
        f"Tree{where} of {counted(int(records.sum()), 'record')}, its top {branches} branches, the last two merged at "
        f"{tree[-1, 2]:.3g}, cut into {counted(chosen, 'cluster')}.",
        png(figure),
    )


def _top(tree: Array, branches: int) -> tuple[list[tuple[list[float], list[float]]], Array]:
    """The lines of the last merges as x and height, and the node of the tree (branch,) below each branch."""
    from scipy.cluster.hierarchy import dendrogram as laid_out

    layout = laid_out(tree, p=branches, truncate_mode="lastp", no_plot=True)
    return list(zip(layout["icoord"], layout["dcoord"], strict=True)), np.asarray(layout["leaves"])


def _records(tree: Array, leaf: Array) -> Array:
    """Records below each node of the tree (node,), the leaves first."""
    n_leaves = len(tree) + 1
    below = np.zeros(n_leaves + len(tree), dtype=np.int64)
    below[:n_leaves] = np.bincount(leaf[leaf >= 0], minlength=n_leaves)
    for number, (one, other) in enumerate(tree[:, :2].astype(np.int64), start=n_leaves):
        below[number] = below[one] + below[other]
    return below


def _name_branches(ax: Axes, records: Array) -> None:
    """Say under each branch how many records are below it."""
    ax.set_xticks(5 + 10 * np.arange(len(records)), [f"{n:,}" for n in records])  # where SciPy's layout has them
    ax.tick_params(axis="x", labelrotation=90, labelsize=TEXT - 1.5, length=0)
    ax.set_xlim(0, 10 * len(records))
    ax.spines["bottom"].set_visible(False)


def _cut(tree: Array, n_clusters: int) -> float:
    """A height at which `n_clusters` are left."""
    heights = np.append(tree[:, 2], tree[-1, 2])
    return float(heights[max(len(tree) - n_clusters, 0) : len(tree) - n_clusters + 2].mean())
