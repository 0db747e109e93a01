"""Silhouettes against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from specufex_dask.kernels.silhouette import silhouettes


@pytest.mark.parametrize("n_records", [6, 1500])
def test_silhouettes_are_scikit_learns(n_records: int) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(n_records, 5)).astype("float32")
    vectors[1] = vectors[0]  # two records of one place
    partitions = np.stack([np.arange(n_records) % k for k in (2, 3, 4)])
    partitions[2, partitions[2] == 3] = 0
    partitions[2, -1] = 3  # a record alone in its cluster
    expected = [silhouette_samples(vectors.astype(float), labels) for labels in partitions]
    # The products that give the distances cancel for near neighbours: half the digits remain.
    np.testing.assert_allclose(silhouettes(vectors, partitions), expected, atol=1e-7)


def test_silhouette_of_one_cluster_is_zero() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 2))
    assert (silhouettes(vectors, np.zeros((1, 5), dtype=int)) == 0).all()
