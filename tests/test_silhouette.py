"""Silhouettes against scikit-learn's, and those of a sample against those of all."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from specufex_dask import silhouettes as stratified
from specufex_dask.kernels.silhouette import silhouettes
from specufex_dask.vectors import Vectors

Array = np.ndarray[Any, np.dtype[Any]]


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


def test_noise_has_no_silhouette_and_is_far_from_nobody() -> None:
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(60, 3)), rng.integers(-1, 3, 60)
    found = silhouettes(vectors, labels[None])[0]
    assert (np.isnan(found) == (labels < 0)).all()
    np.testing.assert_allclose(found[labels >= 0], silhouette_samples(vectors[labels >= 0], labels[labels >= 0]))


def _families(seed: int) -> tuple[Array, Array]:
    """Families of unequal sizes and widths in many dimensions, and the family of each record."""
    rng = np.random.default_rng(seed)
    n_families = int(rng.integers(3, 12))
    family = rng.choice(n_families, 6000, p=rng.dirichlet(np.full(n_families, 0.7)))
    family = np.unique(family, return_inverse=True)[1]
    centres, width = rng.normal(size=(n_families, 20)), rng.uniform(0.3, 3, n_families)
    return (centres[family] + width[family, None] * rng.normal(size=(6000, 20))).astype("float32"), family


def test_a_sample_tells_the_mean_and_how_well_it_knows_it() -> None:
    """Within two standard errors of the mean of all records on 17 of 20 data sets or more; the error is no bluff."""
    misses = []
    for seed in range(20):
        vectors, family = _families(seed)
        exact = stratified.silhouettes(Vectors(vectors), family[None], seed=seed)
        found = stratified.silhouettes(Vectors(vectors), family[None], seed=seed, exact=100)
        assert exact.error[0] == 0
        assert 0 < found.error[0] < 0.01
        taken = ~np.isnan(found.record)
        assert 2000 <= taken.sum() < 2050
        np.testing.assert_allclose(found.record[taken], exact.record[taken], atol=1e-9)
        misses.append(abs(found.mean[0] - exact.mean[0]) / found.error[0])
    print(f"\nerrors of sampled silhouettes in standard errors: {np.round(misses, 2)}")
    assert sum(miss <= 2 for miss in misses) >= 17
    assert max(misses) > 0.5


def test_a_sample_has_records_of_every_cluster() -> None:
    vectors, family = _families(0)
    family[:3], family[3] = family.max() + 1, family.max() + 2
    found = stratified.silhouettes(Vectors(vectors), family[None], seed=0, exact=100)
    known = np.bincount(family[~np.isnan(found.record[0])])
    assert (known[:-1] >= 2).all()
    assert known[-1] == 1
    by_cluster = stratified.by_cluster(found.record[0], family, len(known))
    assert by_cluster[-1] == 0, "a record alone in its cluster"
    assert not np.isnan(by_cluster).any()


def test_lazy_vectors_give_the_silhouettes_of_those_in_memory() -> None:
    vectors, family = _families(1)
    partitions = np.stack([family, family % 3, np.zeros_like(family)])
    lazy = Vectors(da.from_array(vectors, chunks=(700, 20)))
    inside = stratified.silhouettes(Vectors(vectors), partitions, seed=0, exact=100)
    outside = stratified.silhouettes(lazy, partitions, seed=0)
    np.testing.assert_allclose(inside.record, outside.record, atol=1e-9)
    assert np.isnan(outside.mean[2]), "of one cluster there is none"
    assert np.isnan(outside.error[2])


def test_only_candidates_are_drawn() -> None:
    vectors, family = _families(2)
    candidates = np.sort(np.random.default_rng(0).choice(6000, 1000, replace=False))
    found = stratified.silhouettes(Vectors(vectors), family[None], seed=0, exact=100, candidates=candidates)
    assert set(np.flatnonzero(~np.isnan(found.record[0]))) <= set(candidates)
    exact = stratified.silhouettes(Vectors(vectors), family[None], seed=0)
    assert abs(found.mean[0] - exact.mean[0]) < 4 * found.error[0]
