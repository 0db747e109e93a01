"""The top of a tree of clusters, by what is drawn; how it looks was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr
from pictures import kept_figures
from scipy.cluster.hierarchy import fcluster, linkage

from specufex_dask import figures_events, figures_tree

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures, kept before they become pictures."""
    return kept_figures(monkeypatch, "tree", "events")


def _clusters(n_leaves: int, n_clusters: int, *, each: int = 1, method: str = "ward") -> xr.Dataset:
    """Clusters cut from a tree of leaves of `each` records, the last of which is not usable."""
    tree = linkage(np.random.default_rng(0).normal(size=(n_leaves, 3)), method)
    leaf = np.append(np.repeat(np.arange(n_leaves), each), -1)
    return xr.Dataset(
        {"linkage": (("merge", "link"), tree), "leaf": ("record", leaf)}, coords={"cluster_id": np.arange(n_clusters)}
    )


def _counts(figure: Figure) -> list[int]:
    return [int(each.get_text().replace(",", "")) for each in figure.axes[0].get_xticklabels()]


def test_a_small_tree_is_drawn_whole_with_its_cut(drawn: list[Figure]) -> None:
    clusters = _clusters(12, 4)
    panel = figures_tree.dendrogram(clusters)
    assert panel is not None
    *branches, dashed = drawn[0].axes[0].lines
    heights = sorted(float(np.max(np.asarray(each.get_ydata()))) for each in branches)
    np.testing.assert_allclose(heights, np.sort(clusters.linkage.values[:, 2]))
    cut = float(np.asarray(dashed.get_ydata())[0])
    assert fcluster(clusters.linkage.values, cut, "distance").max() == 4
    assert _counts(drawn[0]) == [1] * 12
    assert "Dashed: where the tree was cut." in panel.caption
    assert panel.alt.startswith("Tree of 12 records, its top 12 branches, the last two merged at ")


@pytest.mark.parametrize("method", ["ward", "single"])
def test_of_a_large_tree_the_last_merges_are_drawn(drawn: list[Figure], method: str) -> None:
    clusters = _clusters(3000, 800, each=2, method=method)
    panel = figures_tree.dendrogram(clusters, "XX.A..HHZ")
    assert panel is not None
    heights = sorted(float(np.max(np.asarray(each.get_ydata()))) for each in drawn[0].axes[0].lines)
    np.testing.assert_allclose(heights, clusters.linkage.values[-29:, 2])
    assert (len(_counts(drawn[0])), sum(_counts(drawn[0]))) == (30, 6000)
    assert panel.title == "Dendrogram of XX.A..HHZ"
    assert "into the K = 800 clusters shown here. The last 29 of 2,999 merges are drawn." in panel.caption


def test_clusters_without_a_tree_have_no_figure() -> None:
    assert figures_tree.dendrogram(_clusters(5, 2).drop_vars("linkage")) is None


def _events(cluster: list[int], n_stations: list[int], agreement: list[float]) -> xr.Dataset:
    variables = {"cluster": cluster, "n_stations": n_stations, "agreement": agreement}
    return xr.Dataset({name: ("event", np.array(values)) for name, values in variables.items()})


def test_events_are_counted_by_their_stations_and_agreement(drawn: list[Figure]) -> None:
    events = _events([0, 0, 1, 1, -1, -1], [4, 4, 4, 2, 4, 0], [1.0, 0.75, 0.5, 0.5, np.nan, np.nan])
    panel = figures_events.stations_and_agreement(events)
    assert panel is not None
    left, right = drawn[0].axes
    heights = [[bar.get_height() for bar in part] for part in left.containers]
    assert heights == [[1, 0, 1, 0, 4], [0, 0, 1, 0, 3]]
    assert [bar.get_height() for bar in right.containers[0]] == [0, 0, 2, 1, 1]
    assert panel.alt == "4 events merged, 2 not, of up to 4 stations; mean agreement 0.69."
    assert figures_events.stations_and_agreement(_events([-1], [2], [np.nan])) is None
    assert figures_events.stations_and_agreement(_events([0, 0], [1, 1], [1.0, 1.0])) is None, "one station"
