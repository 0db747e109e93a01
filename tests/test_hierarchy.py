"""Trees of vectors against SciPy's, weighted ones against those of repeated vectors, and the two stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.cluster.hierarchy import dendrogram, fcluster, is_valid_linkage, linkage
from sklearn.metrics import adjusted_rand_score

from specufex_dask import hierarchy
from specufex_dask.kernels import linkage as kernel
from specufex_dask.vectors import Vectors

Array = np.ndarray[Any, np.dtype[Any]]


def _families(n_records: int, n_families: int, *, seed: int = 0, n_entries: int = 40) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_families, n_entries)) * 0.25
    family = rng.integers(n_families, size=n_records)
    return (centres[family] + 0.25 * rng.normal(size=(n_records, n_entries))).astype("float32"), family


@pytest.mark.parametrize("method", ["ward", "single"])
@pytest.mark.parametrize("n_records", [2, 3, 40, 300])
def test_trees_are_those_of_scipy(method: str, n_records: int) -> None:
    points = np.random.default_rng(n_records).normal(size=(n_records, 5))
    expected, found = linkage(points, method), hierarchy.tree(points, np.ones(n_records), method)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    for n_clusters in {1, 2, (n_records + 1) // 2, n_records}:
        labels = kernel.cut(found, n_clusters)
        assert set(labels) == set(range(n_clusters))
        assert adjusted_rand_score(fcluster(expected, n_clusters, "maxclust"), labels) == 1


def test_one_record_is_a_tree_without_merges() -> None:
    found = hierarchy.hierarchy(Vectors(np.ones((1, 3))), "ward", seed=0, most_clusters=1)
    assert found.tree.shape == (0, 4)
    assert found.cut(1)[0].tolist() == [0]


@pytest.mark.parametrize("seed", range(4))
def test_a_point_of_a_weight_stands_for_as_many_records(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, weights = rng.normal(size=(30, 3)), rng.integers(1, 7, 30)
    repeated = np.repeat(points, weights, axis=0)
    expected = linkage(repeated, "ward")
    found = hierarchy.tree(points, weights.astype(float), "ward")
    np.testing.assert_allclose(expected[:-29, 2], 0)
    np.testing.assert_allclose(found[:, 2], expected[-29:, 2], rtol=1e-10)
    for n_clusters in range(1, 31):
        whole = fcluster(expected, n_clusters, "maxclust")
        assert adjusted_rand_score(whole, np.repeat(kernel.cut(found, n_clusters), weights)) == 1


def test_equal_records_are_merged_first_and_at_once() -> None:
    points = np.repeat(np.random.default_rng(0).normal(size=(6, 4)), 5, axis=0)
    for method in ("ward", "single"):
        found = hierarchy.tree(points, np.ones(30), method)
        assert (found[:24, 2] == 0).all()
        assert adjusted_rand_score(np.repeat(np.arange(6), 5), kernel.cut(found, 6)) == 1


def test_half_the_digits_give_the_same_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = _families(500, 12)
    exact = hierarchy.hierarchy(Vectors(vectors), "ward", seed=0, most_clusters=12)
    monkeypatch.setattr(hierarchy, "_IN_DOUBLE", 0)
    half = hierarchy.hierarchy(Vectors(vectors), "ward", seed=0, most_clusters=12)
    np.testing.assert_allclose(half.tree[:, 2], exact.tree[:, 2], rtol=1e-5)
    assert adjusted_rand_score(half.cut(12)[0], exact.cut(12)[0]) == 1


def test_a_tree_is_one_that_scipy_draws() -> None:
    vectors, _ = _families(60, 4)
    found = hierarchy.hierarchy(Vectors(vectors), "ward", seed=0, most_clusters=4).tree
    assert is_valid_linkage(found)
    assert sorted(dendrogram(found, no_plot=True)["leaves"]) == list(range(60))


def test_cuts_of_one_tree_are_nested_and_know_their_centroids() -> None:
    vectors, _ = _families(200, 8)
    found = hierarchy.hierarchy(Vectors(vectors), "ward", seed=0, most_clusters=40)
    fine, centres = found.cut(40)
    for number in range(40):
        np.testing.assert_allclose(centres[number], vectors[fine == number].mean(axis=0), rtol=1e-4, atol=1e-6)
    coarse = found.cut(8)[0]
    assert all(len(set(coarse[fine == number])) == 1 for number in range(40))


def test_two_stages_find_what_one_does() -> None:
    """The micro-clusters hold all records, their centres and sizes are exact, and the cut is that of the exact tree."""
    vectors, family = _families(3000, 15)
    exact = hierarchy.hierarchy(Vectors(vectors), "ward", seed=0, most_clusters=15).cut(15)[0]
    leaf, centres, sizes = hierarchy.micro_clusters(Vectors(vectors), 300, seed=0)
    assert sizes.sum() == 3000
    np.testing.assert_allclose(centres[7], vectors[leaf == 7].mean(axis=0), rtol=1e-4, atol=1e-6)
    two = kernel.cut(hierarchy.tree(centres, sizes, "ward"), 15)[leaf]
    unweighted = kernel.cut(hierarchy.tree(centres, np.ones(len(sizes)), "ward"), 15)[leaf]
    score = adjusted_rand_score(exact, two)
    assert score > 0.9
    assert score >= adjusted_rand_score(exact, unweighted) - 0.02
    assert adjusted_rand_score(family, two) > 0.9


def test_two_stages_of_too_few_different_records_are_an_error() -> None:
    vectors = np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 50, axis=0)
    with pytest.raises(ValueError, match="got 4 micro-clusters of records that differ, expected at least the 6 of"):
        hierarchy.hierarchy(Vectors(vectors), "ward", seed=0, most_clusters=6, exact=100)
