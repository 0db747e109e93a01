"""New records in the clusters of an existing model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from separated import BY_SIZE, fingerprints, separated

import specufex_dask as sx

Array = np.ndarray[Any, np.dtype[Any]]


def test_members_come_back_to_their_clusters() -> None:
    made = fingerprints(separated(), unusable=(2,))
    clusters = sx.cluster_fingerprints(made, n_clusters=3, seed=0)
    found = sx.assign(made, clusters, percentile=100)
    np.testing.assert_array_equal(found["cluster"], clusters["cluster"])
    np.testing.assert_allclose(found["distance"], clusters["distance"], rtol=1e-5)
    assert found["cluster"].values[2] == -1
    assert found.attrs["stage"] == "clusters"
    assert found["n_clusters"].values.tolist() == [3]


def test_records_in_memory_and_out_of_it_are_assigned_alike() -> None:
    clusters = sx.cluster_fingerprints(fingerprints(separated()), n_clusters=3, seed=0)
    new = fingerprints(separated(noise=0.05))
    inside, outside = sx.assign(new, clusters), sx.assign(new, clusters, memory_limit=10)
    np.testing.assert_array_equal(inside["cluster"], outside["cluster"])
    np.testing.assert_array_equal(inside["distance"], outside["distance"])


def test_what_was_never_seen_is_told() -> None:
    clusters = sx.cluster_fingerprints(fingerprints(separated()), n_clusters=3, seed=0)
    vectors = separated(noise=0.02)
    vectors[[0, 20, 49]] += 0.5
    found = sx.assign(fingerprints(vectors), clusters)["cluster"].values
    assert (found[[0, 20, 49]] == -2).all()
    rest = np.setdiff1d(np.arange(50), [0, 20, 49])
    assert (found[rest] == BY_SIZE[rest]).mean() > 0.95


@pytest.mark.parametrize("sizes", [(4000, 2000, 1500), (600, 500, 400)], ids=["own percentile", "percentile of all"])
def test_records_of_the_same_kind_are_refused_as_often_as_promised(sizes: tuple[int, ...]) -> None:
    """Clusters of different widths, and as many new records of each."""
    family = np.repeat([0, 1, 2], sizes)
    width = np.array([1.0, 2.0, 0.5])[family][:, None, None]

    def drawn(seed: int) -> Array:
        noise = np.random.default_rng(seed).normal(size=(len(family), 3, 3))
        vectors: Array = separated(noise=0, family=family) + 0.02 * width * noise
        return vectors

    clusters = sx.cluster_fingerprints(fingerprints(drawn(1)), n_clusters=3, seed=0)
    refused = (
        np.concatenate([sx.assign(fingerprints(drawn(s)), clusters, percentile=99)["cluster"] for s in (2, 3)]) == -2
    )
    for number in range(3):
        share = refused[np.tile(family, 2) == number].mean()
        assert 0.003 < share < 0.025


def test_lone_and_equal_members_reach_as_far_as_the_others() -> None:
    vectors = separated()
    vectors[:10] = vectors[0]  # a cluster of equal records
    clusters = sx.cluster_fingerprints(fingerprints(vectors), n_clusters=3, seed=0)
    near, far = vectors[[0, 0]].copy()
    near += 0.01
    far += 1.0
    found = sx.assign(fingerprints(np.stack([near, far, vectors[0]])), clusters)
    assert found["cluster"].values.tolist() == [2, -2, 2]


def test_what_cannot_be_assigned_is_named() -> None:
    clusters = sx.cluster_fingerprints(fingerprints(separated()), n_clusters=3, seed=0)
    with pytest.raises(
        ValueError, match="got fingerprints of the hmm 'third' and clusters of the hmm 'another', expected"
    ):
        sx.assign(fingerprints(separated(), hmm="third"), clusters)
    for percentile in (0, 101):
        with pytest.raises(ValueError, match=f"got percentile={percentile}, expected a number above 0, to 100"):
            sx.assign(fingerprints(separated()), clusters, percentile=percentile)
